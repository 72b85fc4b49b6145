r"""The bytes of a ``.gsimg`` file, version 2.0; docs/format.md is the specification, this is its summary.

```
start      u8[8] signature 89 "GSI" 0D 0A 1A 0A   u8 major   u8 minor   varint head_length
header     varint header_length   varint width   varint height   u8 channels C   u8 blend   (u8 top_k if topk)
           u8 block_shift   f16[C] background   u8 quantizer   varint n   u8[n] its parameters
metadata   varint n   u8[n] opaque here: PictureInfo.to_bytes(), or nothing
table      varint chunk_count, and for each chunk
           varint entry_length   varint kind   u8 coding   varint level   varint block   varint count
           varint48 length   varint reach   u16 psnr   u32 CRC-32C of the payload
u32        CRC-32C of everything above; up to here it is the head, which ends head_length bytes after that field
payloads   without holes, in the order of the table, up to the end of the file
```

Little-endian. A newer minor version may append fields to the header, to the entries and after the table, and add kinds
of chunks; a reader skips what it does not know. Another major version is refused.

No payload and no parameter of a quantizer is looked into here: ``codings`` knows who does that.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, FormatError, VersionError
from ..gaussians import MAX_CHANNELS, MAX_SIDE, MAX_TOP_K, Blend, FloatArray
from .blocks import MAX_REACH, MAX_SHIFT, MIN_SHIFT, Blocks
from .fields import CHECKSUM_BYTES, Fields, check_sum, checksum, read_varint, varint

SIGNATURE = b"\x89GSI\r\n\x1a\n"
VERSION = (2, 0)

KIND_GAUSSIANS = 1
BLEND_IDS: dict[Blend, int] = {"normalized": 0, "topk": 1, "sum": 2}

MAX_COUNT = 2**32 - 1
"""Most Gaussians in a file, and the largest length of its head."""

MAX_LENGTH = 2**48 - 1
"""Longest payload, bytes."""

MAX_SIZE = 2**53 - 1
"""Largest file, bytes: offsets are exact as binary64 too."""

GAUSSIANS_PER_BYTE = 512
"""Most Gaussians that one byte of a payload may stand for."""

START_BYTES = 10
"""Signature and version: what `check_start` looks at."""

MAX_PSNR = 655.35
"""Largest value of the field ``psnr``, dB."""


@dataclass(frozen=True, eq=False)
class Header:
    """What holds for the whole picture.

    Attributes:
        height: canvas height, pixels.
        width: canvas width, pixels.
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``; other blends do not store it.
        background: [C] colour where no Gaussian reaches, as `round_background` leaves it.
        quantizer: how symbols become numbers.
        parameters: the quantizer's own bytes.
        block_shift: blocks are squares of 2 to this pixels; 0 is one block.
    """

    height: int
    width: int
    blend: Blend
    top_k: int
    background: FloatArray
    quantizer: int
    parameters: bytes
    block_shift: int = 0

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return len(self.background)

    @property
    def blocks(self) -> Blocks:
        """The blocks of the canvas."""
        return Blocks(self.width, self.height, self.block_shift)


@dataclass(frozen=True)
class Chunk:
    """One entry of the chunk table.

    Attributes:
        kind: 1 is Gaussians; others are skipped.
        coding: how the payload is coded, 0 is fixed width.
        level: level of detail, 0 is the coarsest.
        block: block of the canvas.
        count: Gaussians in the chunk.
        offset: start of the payload in the file, bytes.
        length: length of the payload, bytes.
        reach: how far its Gaussians reach beyond the block, pixels.
        psnr: quality of the prefix that ends with this chunk, dB; None where the file does not say.
        checksum: CRC-32C of the payload.
    """

    kind: int
    coding: int
    level: int
    block: int
    count: int
    offset: int
    length: int
    reach: int
    psnr: float | None
    checksum: int

    @property
    def end(self) -> int:
        """Where the payload ends in the file."""
        return self.offset + self.length


@dataclass(frozen=True)
class Payload:
    """Bytes on their way into a file, with what the chunk table says of them beside their place and checksum."""

    data: bytes
    count: int
    level: int = 0
    block: int = 0
    reach: int = 0
    psnr: float | None = None
    kind: int = KIND_GAUSSIANS
    coding: int = 0


@dataclass(frozen=True, eq=False)
class Head:
    """Everything before the payloads: its checksum is right and its parts agree with each other.

    Attributes:
        version: (major, minor) of the file.
        header: what holds for the whole picture.
        metadata: the opaque block.
        chunks: the table, unknown kinds included.
        length: bytes of the head, where the first payload starts.
        table_length: bytes of the table.
    """

    version: tuple[int, int]
    header: Header
    metadata: bytes
    chunks: tuple[Chunk, ...]
    length: int
    table_length: int

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        return self.chunks[-1].end


def round_background(background: FloatArray) -> FloatArray:
    """The colour that a file stores for this one: each channel to the nearest binary16, the largest one at most."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(background, -largest, largest).astype(np.float16).astype(np.float32)


def write_container(header: Header, metadata: bytes, payloads: Sequence[Payload]) -> bytes:
    """Lay out a file.

    Args:
        header: what holds for the whole picture.
        metadata: the opaque block, may be empty.
        payloads: the chunks, those of kind 1 in ascending order of (level, block).

    Returns:
        The bytes of the file.

    Raises:
        ConfigError: the chunks are not such as the format allows, or a part is longer than its field can say.
    """
    head = write_head(header, metadata, [_chunk(payload) for payload in payloads])
    return b"".join([head, *(payload.data for payload in payloads)])


def write_head(header: Header, metadata: bytes, chunks: Sequence[Chunk]) -> bytes:
    """Everything before the payloads, for who writes these one after the other.

    Args:
        header: what holds for the whole picture.
        metadata: the opaque block, may be empty.
        chunks: the table; their offsets are not looked at, since they follow from the lengths.

    Returns:
        The bytes of the head.

    Raises:
        ConfigError: the chunks are not such as the format allows, or a part is longer than its field can say.
    """
    fields = _header_bytes(header)
    table = b"".join([varint(len(chunks)), *map(_with_length, map(_entry_bytes, chunks))])
    rest = b"".join([_with_length(fields), _with_length(metadata), table])
    if len(rest) + CHECKSUM_BYTES > MAX_COUNT:
        raise ConfigError(f"head: expected at most {MAX_COUNT:,} bytes, found {len(rest) + CHECKSUM_BYTES:,}")
    head = SIGNATURE + bytes(VERSION) + varint(len(rest) + CHECKSUM_BYTES) + rest
    head += struct.pack("<I", checksum(head))
    try:
        read_head(head, max_pixels=MAX_SIDE * MAX_SIDE, name="file")
    except FormatError as error:
        raise ConfigError(str(error)) from error
    return head


def _chunk(payload: Payload) -> Chunk:
    return Chunk(
        payload.kind,
        payload.coding,
        payload.level,
        payload.block,
        payload.count,
        0,
        len(payload.data),
        payload.reach,
        payload.psnr,
        checksum(payload.data),
    )


def _with_length(data: bytes) -> bytes:
    return varint(len(data)) + data


def _header_bytes(header: Header) -> bytes:
    blend = BLEND_IDS[header.blend]
    return b"".join(
        [
            varint(header.width),
            varint(header.height),
            bytes([header.channels, blend, *[header.top_k] * (header.blend == "topk"), header.block_shift]),
            header.background.astype("<f2").tobytes(),
            bytes([header.quantizer]),
            _with_length(header.parameters),
        ]
    )


def _entry_bytes(chunk: Chunk) -> bytes:
    for what, value, largest in (
        ("count", chunk.count, MAX_COUNT),
        ("length", chunk.length, MAX_LENGTH),
        ("reach", chunk.reach, MAX_REACH),
    ):
        if value > largest:
            raise ConfigError(f"{what}: expected at most {largest:,}, found {value:,}")
    return b"".join(
        [
            varint(chunk.kind),
            bytes([chunk.coding]),
            varint(chunk.level),
            varint(chunk.block),
            varint(chunk.count),
            varint(chunk.length),
            varint(chunk.reach),
            struct.pack("<HI", _psnr_code(chunk.psnr), chunk.checksum),
        ]
    )


def _psnr_code(psnr: float | None) -> int:
    if psnr is None or math.isnan(psnr):
        return 0
    return round(100 * min(max(psnr, 0.01), MAX_PSNR))


def check_start(start: bytes | bytearray, name: str) -> None:
    """Refuse a file by its first bytes, so that the rest of it need not be read.

    Args:
        start: the first ten bytes of a file, or fewer: what is there is looked at.
        name: what an error calls the file.

    Raises:
        FormatError: this is no ``.gsimg`` file.
        VersionError: its major version is another.
    """
    start = bytes(start[:START_BYTES])
    if not start.startswith(SIGNATURE[: len(start)]):
        hint = ", as after a transfer in text mode" if start[1:4] == SIGNATURE[1:4] else ""
        raise FormatError(
            f"{name}: signature: expected {SIGNATURE.hex(' ')} (a .gsimg file), found {start[:8].hex(' ')}{hint}"
        )
    if len(start) == START_BYTES and start[8] != VERSION[0]:
        raise VersionError(
            f"{name}: version: expected {VERSION[0]}.x, this program being made for {VERSION[0]}.{VERSION[1]}, "
            f"found {start[8]}.{start[9]}"
        )


def head_size(start: bytes | bytearray, name: str) -> int | None:
    """Bytes of the whole head.

    Args:
        start: the first bytes of a file; 15 are always enough.
        name: what an error calls the file.

    Returns:
        Where the first payload starts; None if more bytes are needed to tell.

    Raises:
        FormatError: as `check_start`, or the length is no varint.
    """
    check_start(start, name)
    found = read_varint(start, START_BYTES, len(start), where=f"{name}: head length")
    return None if found is None else sum(found)


def read_head(data: bytes, *, max_pixels: int, name: str) -> Head:
    """Take a head apart, trusting nothing; the order of the checks is that of docs/format.md, section 12.

    Args:
        data: the head, exactly as long as `head_size` says.
        max_pixels: refuse a canvas of more pixels.
        name: what an error calls the file.

    Returns:
        Its parts.

    Raises:
        FormatError: the head is not what the format says, or its canvas is larger than ``max_pixels``.
        VersionError: its major version is another.
        ChecksumError: its bytes were altered.
    """
    check_start(data, name)
    size, end = head_size(data, name), len(data) - CHECKSUM_BYTES
    fields = Fields(data, f"{name}: head", START_BYTES)
    fields.varint("length")
    if size != len(data) or fields.left < CHECKSUM_BYTES:
        raise FormatError(f"{name}: head: length: expected at least {CHECKSUM_BYTES} bytes, found {fields.left}")
    check_sum(f"{name}: head", struct.unpack_from("<I", data, end)[0], checksum(data[:end]))
    newer = data[9] > VERSION[1]
    fields = Fields(data, f"{name}: head", fields.at, end)
    header = _read_header(fields.part("header", fields.varint("header length"), f"{name}: header"), max_pixels, newer)
    metadata = fields.take("metadata", fields.varint("metadata length"))
    table_start = fields.at
    chunks = _read_table(fields, header, len(data), newer, name)
    table_length = fields.at - table_start
    fields.finish(newer=newer)
    return Head((data[8], data[9]), header, metadata, chunks, len(data), table_length)


def _read_header(fields: Fields, max_pixels: int, newer: bool) -> Header:
    width = _within(fields, "width", fields.varint("width"), 1, MAX_SIDE)
    height = _within(fields, "height", fields.varint("height"), 1, MAX_SIDE)
    if width * height > max_pixels:
        raise FormatError(
            f"{fields.where}: canvas: expected at most {max_pixels:,} pixels (max_pixels), found {width:,} x {height:,}"
        )
    channels = _within(fields, "channels", fields.u8("channels"), 1, MAX_CHANNELS)
    blends = {number: blend for blend, number in BLEND_IDS.items()}
    blend = blends[_within(fields, "blend", fields.u8("blend"), 0, max(blends))]
    top_k = _within(fields, "top_k", fields.u8("top_k"), 1, MAX_TOP_K) if blend == "topk" else 10
    shift = fields.u8("block shift")
    if shift:
        _within(fields, "block shift, where not 0", shift, MIN_SHIFT, MAX_SHIFT)
    background = np.frombuffer(fields.take("background", 2 * channels), "<f2").astype(np.float32)
    if not np.isfinite(background).all():
        raise FormatError(f"{fields.where}: background: expected finite numbers, found {background.tolist()}")
    quantizer = fields.u8("quantizer")
    parameters = fields.take("quantizer's parameters", fields.varint("length of the quantizer's parameters"))
    fields.finish(newer=newer)
    return Header(height, width, blend, top_k, background, quantizer, parameters, shift)


def _within(fields: Fields, what: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise FormatError(f"{fields.where}: {what}: expected {low} to {high:,}, found {value:,}")
    return value


def _read_table(fields: Fields, header: Header, offset: int, newer: bool, name: str) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    total, last = 0, (0, -1)
    for number in range(fields.varint("number of chunks")):
        where = f"{name}: chunk {number}"
        entry = fields.part(f"entry {number} of the table", fields.varint("length of a table entry"), where)
        chunk = _read_entry(entry, offset, newer)
        offset = chunk.end
        if offset > MAX_SIZE:
            raise FormatError(f"{where}: expected an end of at most {MAX_SIZE:,}, found {offset:,}")
        if chunk.kind == 0:
            raise FormatError(f"{where}: kind: expected a number from 1, found 0")
        if chunk.kind == KIND_GAUSSIANS:
            _check_gaussians(where, chunk, header, last)
            last, total = (chunk.level, chunk.block), total + chunk.count
            if total > MAX_COUNT:
                raise FormatError(f"{where}: expected at most {MAX_COUNT:,} Gaussians in all, found {total:,}")
        chunks.append(chunk)
    if last[1] < 0:
        raise FormatError(f"{name}: table: expected a chunk of Gaussians of level 0, found none")
    return tuple(chunks)


def _read_entry(fields: Fields, offset: int, newer: bool) -> Chunk:
    kind, coding = fields.varint("kind"), fields.u8("coding")
    level, block, count = (fields.varint(what) for what in ("level", "block", "count"))
    length, reach = fields.varint("length", bits=48), fields.varint("reach")
    code, found = fields.u16("psnr"), fields.u32("checksum")
    fields.finish(newer=newer)
    return Chunk(kind, coding, level, block, count, offset, length, reach, code / 100 if code else None, found)


def _check_gaussians(where: str, chunk: Chunk, header: Header, last: tuple[int, int]) -> None:
    if (chunk.level, chunk.block) <= last or chunk.level > last[0] + (last[1] >= 0):
        expected = "level 0" if last[1] < 0 else f"a level and block after {last[0]}, {last[1]} that leave out no level"
        raise FormatError(f"{where}: expected {expected}, found {chunk.level}, {chunk.block}")
    if chunk.block >= len(header.blocks):
        raise FormatError(f"{where}: block: expected one of {len(header.blocks):,}, found {chunk.block:,}")
    most = GAUSSIANS_PER_BYTE * chunk.length
    if chunk.count > most:
        raise FormatError(
            f"{where}: count: expected at most {most:,} Gaussians in {chunk.length:,} bytes, found {chunk.count:,}"
        )
    if chunk.length and not chunk.count:
        raise FormatError(f"{where}: length: expected 0 bytes for 0 Gaussians, found {chunk.length:,}")
