r"""The bytes of a ``.gsimg`` file, version 2.1; docs/format.md is the specification, this is its summary.

```
start      u8[8] signature 89 "GSI" 0D 0A 1A 0A   u8 major   u8 minor   varint head_length
header     varint header_length   varint width   varint height   u8 channels C   u8 blend   (u8 top_k if topk)
           u8 block_shift   f16[C] background   u8 quantizer   varint n   u8[n] its parameters
metadata   varint n   u8[n] opaque here: PictureInfo.to_bytes(), or nothing
table      varint chunk_count, and for each chunk
           varint entry_length   varint kind   u8 coding   varint level   varint block   varint count
           varint48 length   varint reach   u16 psnr   u32 CRC-32C of the payload
           (varint last   varint48 span if kind is 2, a page)
u32        CRC-32C of everything above; up to here it is the head, which ends head_length bytes after that field
pages      without holes, in the order of the table: entries of chunks of Gaussians, if the table has none itself
payloads   without holes, in the order of the pages and then of the table, up to the end of the file
```

Little-endian. A newer minor version may append fields to the header, to the entries and after the table, and add kinds
of chunks; a reader skips what it does not know. Another major version is refused.

No payload and no parameter of a quantizer is looked into here: ``codings`` knows who does that.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ConfigError, FormatError, VersionError
from ..gaussians import MAX_CHANNELS, MAX_SIDE, MAX_TOP_K, Blend, FloatArray
from .blocks import MAX_SHIFT, MIN_SHIFT, Blocks
from .fields import CHECKSUM_BYTES, Fields, check_sum, checksum, read_varint, varint
from .table import (
    KIND_GAUSSIANS,
    MAX_COUNT,
    Chunk,
    Page,
    check_total,
    cut_pages,
    read_page,
    read_table,
    table_bytes,
)

SIGNATURE = b"\x89GSI\r\n\x1a\n"
VERSION = (2, 1)
_PAGED_MINOR = 1
"""The first minor version with pages; a file without them is of version 2.0."""

BLEND_IDS: dict[Blend, int] = {"normalized": 0, "topk": 1, "sum": 2}

START_BYTES = 10
"""Signature and version: what `check_start` looks at."""


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
        chunks: the table, unknown kinds included. Those of a page that was not read are one, of kind 0.
        length: bytes of the head and of its pages, where the first payload starts.
        table_length: bytes of the table and of its pages.
        pages: of the table.
    """

    version: tuple[int, int]
    header: Header
    metadata: bytes
    chunks: tuple[Chunk, ...]
    length: int
    table_length: int
    pages: tuple[Page, ...] = ()

    @property
    def newer(self) -> bool:
        """Whether the file may hold more fields than are known here."""
        return self.version > VERSION

    def with_pages(self, found: Mapping[int, Sequence[Chunk]]) -> Head:
        """The head with the chunks of some of its pages, by their numbers."""
        chunks = [chunk for number, span in enumerate(self.chunks) for chunk in found.get(number, (span,))]
        return replace(self, chunks=tuple(chunks))

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        return self.chunks[-1].end


def round_background(background: FloatArray) -> FloatArray:
    """The colour that a file stores for this one: each channel to the nearest binary16, the largest one at most."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(background, -largest, largest).astype(np.float16).astype(np.float32)


def write_container(
    header: Header, metadata: bytes, payloads: Sequence[Payload], *, page_entries: int | None = None
) -> bytes:
    """Lay out a file.

    Args:
        header: what holds for the whole picture.
        metadata: the opaque block, may be empty.
        payloads: the chunks, those of kind 1 in ascending order of (level, block).
        page_entries: cut the table into pages of so many chunks at most; those of other kinds are moved to the end.
            None keeps all of it in the head.

    Returns:
        The bytes of the file.

    Raises:
        ConfigError: the chunks are not such as the format allows, or a part is longer than its field can say.
    """
    counts: list[int] = []
    if page_entries is not None:
        payloads = sorted(payloads, key=lambda payload: payload.kind != KIND_GAUSSIANS)
        known = [_chunk(payload) for payload in payloads if payload.kind == KIND_GAUSSIANS]
        counts = cut_pages(known, header.blocks, page_entries)
    head = write_head(header, metadata, [_chunk(payload) for payload in payloads], counts)
    return b"".join([head, *(payload.data for payload in payloads)])


def write_head(header: Header, metadata: bytes, chunks: Sequence[Chunk], counts: Sequence[int] = ()) -> bytes:
    """Everything before the payloads, for who writes these one after the other.

    Args:
        header: what holds for the whole picture.
        metadata: the opaque block, may be empty.
        chunks: the table; their offsets are not looked at, since they follow from the lengths.
        counts: how many chunks each page of the table has; those of other kinds stand after all that are on pages.
            Nothing keeps the whole table in the head.

    Returns:
        The bytes of the head and of the pages.

    Raises:
        ConfigError: the chunks are not such as the format allows, or a part is longer than its field can say.
    """
    fields = _header_bytes(header)
    table, pages = table_bytes(chunks, counts)
    rest = b"".join([_with_length(fields), _with_length(metadata), table])
    if len(rest) + CHECKSUM_BYTES > MAX_COUNT:
        raise ConfigError(f"head: expected at most {MAX_COUNT:,} bytes, found {len(rest) + CHECKSUM_BYTES:,}")
    minor = _PAGED_MINOR if pages else 0
    data = SIGNATURE + bytes([VERSION[0], minor]) + varint(len(rest) + CHECKSUM_BYTES) + rest
    data += struct.pack("<I", checksum(data))
    try:
        head = read_head(data, max_pixels=MAX_SIDE * MAX_SIDE, name="file")
        for number, (page, span) in enumerate(zip(head.pages, head.chunks, strict=False)):
            read_page(pages[number], page, span.offset, newer=False, where=f"file: page {number}")
        check_total("file: table", sum(chunk.count for chunk in chunks if chunk.kind == KIND_GAUSSIANS))
    except FormatError as error:
        raise ConfigError(str(error)) from error
    return b"".join([data, *pages])


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

    Its pages come after it, so that its chunks are not known yet where it has some.

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
    paged = data[9] >= _PAGED_MINOR
    pages, chunks = read_table(fields, header.blocks, len(data), paged=paged, newer=newer, name=name)
    table_length = fields.at - table_start
    fields.finish(newer=newer)
    more = sum(page.entry.length for page in pages)
    return Head((data[8], data[9]), header, metadata, chunks, len(data) + more, table_length + more, pages)


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
