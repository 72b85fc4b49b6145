r"""The bytes of a ``.gsimg`` file, version 1.0; docs/format.md is the specification, this is its summary.

```
  0  preamble, 32 bytes      u8[8] signature 89 "GSI" 0D 0A 1A 0A   u16 major   u16 minor   u32 head_length
                             u32 header_length   u32 metadata_length   u32 chunk_count   u16 entry_length   u16 reserve
 32  header, 48 + 12 C       u32 width   u32 height   u32 count   u8 channels   u8 blend   u8 top_k   u8 quantizer
                             u8[4] bits of position, scale, rotation, color   u8[4] reserve
                             f32[4] low x, low y, high x, high y   f32[2] lowest, highest scale
                             f32[C] background   f32[C] color low   f32[C] color high
     metadata                opaque here: PictureInfo.to_bytes(), or nothing
     table, 40 per chunk     u16 kind   u8 coding   u8 reserve   u16 level   u16 reserve   u32 block   u32 count
                             u64 offset   u64 length   u32 checksum   u32 reserve
     u32 checksum            CRC-32C of everything above: together with it, the head (head_length bytes)
     chunks                  without holes, in the order of the table, up to the end of the file
```

Little-endian. A newer minor version may append fields to the header and to the entries, give the reserve a meaning and
add kinds of chunks; a reader skips what it does not know. Another major version is refused.

Nothing is computed here but lengths: ``quantization`` gives the symbols their meaning and ``packing`` their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np

from ..errors import ChecksumError, ConfigError, FormatError, ShapeError, TruncatedError, VersionError
from ..gaussians import MAX_CHANNELS, MAX_SIDE, MAX_TOP_K, Blend, FloatArray
from .packing import packed_length
from .quantization import BitWidths, Grid

SIGNATURE = b"\x89GSI\r\n\x1a\n"
VERSION = (1, 0)

KIND_GAUSSIANS = 1
CODING_FIXED_WIDTH = 0
QUANTIZER_UNIFORM = 0
BLEND_IDS: dict[Blend, int] = {"normalized": 0, "topk": 1, "sum": 2}

MAX_COUNT = 2**32 - 1
"""Most Gaussians in a file, and the largest length of its head."""

START_BYTES = 12
"""Signature and version: what `check_start` looks at."""

_PREAMBLE = struct.Struct("<8s2H4I2H")
_HEADER = struct.Struct("<3I4B4B4s")
_ENTRY = struct.Struct("<HBBHHIIQQII")
_CHECKSUM = struct.Struct("<I")
_RANGES = 4 + 2  # floats: position low x, low y, high x, high y; scale low, high
_PER_CHANNEL = 3  # floats: background, color low, color high


@dataclass(frozen=True, eq=False)
class Header:
    """What holds for the whole picture.

    Attributes:
        height: canvas height, pixels.
        width: canvas width, pixels.
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.
        background: [C] colour where no Gaussian reaches.
        grid: where the symbols lie, with their widths.
    """

    height: int
    width: int
    blend: Blend
    top_k: int
    background: FloatArray
    grid: Grid


@dataclass(frozen=True)
class Chunk:
    """One entry of the chunk table.

    Attributes:
        kind: 1 is Gaussians; others are skipped.
        coding: how the payload is coded, 0 is fixed width.
        level: level of detail, 0 is the coarsest.
        block: block of the picture within the level.
        count: Gaussians in the chunk.
        offset: start of the payload in the file, bytes.
        length: length of the payload, bytes.
        checksum: CRC-32C of the payload.
    """

    kind: int
    coding: int
    level: int
    block: int
    count: int
    offset: int
    length: int
    checksum: int


@dataclass(frozen=True)
class Payload:
    """Bytes on their way into a file, with what the chunk table says of them beside their place and checksum."""

    data: bytes
    count: int
    level: int = 0
    block: int = 0
    kind: int = KIND_GAUSSIANS
    coding: int = CODING_FIXED_WIDTH


@dataclass(frozen=True, eq=False)
class Container:
    """A file taken apart: every length, count, order and checksum was checked.

    Attributes:
        version: (major, minor) of the file.
        header: what holds for the whole picture.
        metadata: the opaque block.
        chunks: the table, unknown kinds included.
        payloads: one per chunk.
        sections: bytes of the file by section: ``header`` (with preamble and checksum), ``metadata``, ``table``,
            ``payload``.
    """

    version: tuple[int, int]
    header: Header
    metadata: bytes
    chunks: tuple[Chunk, ...]
    payloads: tuple[bytes, ...]
    sections: dict[str, int]


def write_container(header: Header, metadata: bytes, payloads: Sequence[Payload]) -> bytes:
    """Lay out a file.

    Args:
        header: what holds for the whole picture.
        metadata: the opaque block, may be empty.
        payloads: the chunks, those of kind 1 in ascending order of (level, block).

    Returns:
        The bytes of the file.

    Raises:
        ConfigError: a part is longer than its field of the format can say.
    """
    grid = header.grid
    count = sum(payload.count for payload in payloads if payload.kind == KIND_GAUSSIANS)
    if count > MAX_COUNT:
        raise ConfigError(f"gaussians: expected at most {MAX_COUNT:,}, found {count:,}")
    floats = (grid.position.ravel(), grid.scale, header.background, grid.color.ravel())
    header_bytes = _HEADER.pack(
        header.width,
        header.height,
        count,
        grid.channels,
        BLEND_IDS[header.blend],
        header.top_k,
        QUANTIZER_UNIFORM,
        *(grid.bits.position, grid.bits.scale, grid.bits.rotation, grid.bits.color),
        bytes(4),
    ) + b"".join(part.astype("<f4").tobytes() for part in floats)
    head_length = _PREAMBLE.size + len(header_bytes) + len(metadata) + _ENTRY.size * len(payloads) + _CHECKSUM.size
    if head_length > MAX_COUNT:
        raise ConfigError(f"head: expected at most {MAX_COUNT:,} bytes, found {head_length:,}")
    preamble = _PREAMBLE.pack(
        SIGNATURE, *VERSION, head_length, len(header_bytes), len(metadata), len(payloads), _ENTRY.size, 0
    )
    parts = [preamble, header_bytes, metadata]
    offset = head_length
    for payload in payloads:
        size = len(payload.data)
        place = (payload.kind, payload.coding, 0, payload.level, 0, payload.block, payload.count)
        parts.append(_ENTRY.pack(*place, offset, size, google_crc32c.value(payload.data), 0))
        offset += size
    head = b"".join(parts)
    return b"".join([head, _CHECKSUM.pack(google_crc32c.value(head)), *(payload.data for payload in payloads)])


def read_container(data: bytes, *, max_pixels: int, name: str) -> Container:
    """Take a file apart, trusting nothing; the order of the checks is that of docs/format.md, section 10.

    Args:
        data: the whole file.
        max_pixels: refuse a canvas of more pixels.
        name: what an error calls the file.

    Returns:
        The parts; payloads have the right length and checksum, and are not yet decoded.

    Raises:
        FormatError: the file is not what the format says, or its canvas is larger than ``max_pixels``.
        TruncatedError: it ends before its contents do.
        VersionError: its major version is another.
        ChecksumError: its bytes were altered.
    """
    check_start(data[:START_BYTES], name)
    preamble = _read_preamble(data, name)
    header, count = _read_header(data, preamble, max_pixels, name)
    chunks = _read_table(data, preamble, header, count, name)
    payloads = []
    for number, chunk in enumerate(chunks):
        payload = data[chunk.offset : chunk.offset + chunk.length]
        _check_sum(f"{name}: chunk {number}", chunk.checksum, payload)
        payloads.append(payload)
    table_length = preamble.entry_length * preamble.chunk_count
    return Container(
        version=(preamble.major, preamble.minor),
        header=header,
        metadata=data[preamble.metadata_start : preamble.table_start],
        chunks=chunks,
        payloads=tuple(payloads),
        sections={
            "header": preamble.head_length - preamble.metadata_length - table_length,
            "metadata": preamble.metadata_length,
            "table": table_length,
            "payload": len(data) - preamble.head_length,
        },
    )


def check_start(start: bytes, name: str) -> None:
    """Refuse a file by its first bytes, so that the rest of it need not be read.

    Args:
        start: the first twelve bytes of a file, or fewer where it ends.
        name: what an error calls the file.

    Raises:
        FormatError: this is no ``.gsimg`` file.
        TruncatedError: it ends within these bytes.
        VersionError: its major version is another.
    """
    if not start.startswith(SIGNATURE[: len(start)]):
        hint = ", as after a transfer in text mode" if start[1:4] == SIGNATURE[1:4] else ""
        raise FormatError(
            f"{name}: signature: expected {SIGNATURE.hex(' ')} (a .gsimg file), found {start[:8].hex(' ')}{hint}"
        )
    if len(start) < START_BYTES:
        raise TruncatedError(
            f"{name}: signature and version: expected {START_BYTES} bytes, found a file of {len(start)} bytes"
        )
    major, minor = struct.unpack_from("<2H", start, len(SIGNATURE))
    if major != VERSION[0]:
        raise VersionError(
            f"{name}: version: expected {VERSION[0]}.x, this program being made for {VERSION[0]}.{VERSION[1]}, "
            f"found {major}.{minor}"
        )


@dataclass(frozen=True)
class _Preamble:
    major: int
    minor: int
    head_length: int
    header_length: int
    metadata_length: int
    chunk_count: int
    entry_length: int

    @property
    def newer(self) -> bool:
        """Whether appended fields and a used reserve are to be expected."""
        return self.minor > VERSION[1]

    @property
    def metadata_start(self) -> int:
        return _PREAMBLE.size + self.header_length

    @property
    def table_start(self) -> int:
        return self.metadata_start + self.metadata_length


def _read_preamble(data: bytes, name: str) -> _Preamble:
    if len(data) < _PREAMBLE.size:
        raise TruncatedError(f"{name}: preamble: expected {_PREAMBLE.size} bytes, found a file of {len(data)} bytes")
    _, *fields, reserve = _PREAMBLE.unpack_from(data)
    preamble = _Preamble(*fields)
    table_length = preamble.entry_length * preamble.chunk_count
    expected = preamble.table_start + table_length + _CHECKSUM.size
    if preamble.head_length != expected:
        raise FormatError(
            f"{name}: head length: expected {expected:,} bytes by its parts, found {preamble.head_length:,}"
        )
    if preamble.head_length > len(data):
        raise TruncatedError(
            f"{name}: head: expected {preamble.head_length:,} bytes, found a file of {len(data):,} bytes"
        )
    end = preamble.head_length - _CHECKSUM.size
    _check_sum(f"{name}: head", _CHECKSUM.unpack_from(data, end)[0], data[:end])
    _check_length(f"{name}: table entry", _ENTRY.size, preamble.entry_length, preamble)
    _check_reserve(f"{name}: preamble", reserve, preamble)
    return preamble


def _read_header(data: bytes, preamble: _Preamble, max_pixels: int, name: str) -> tuple[Header, int]:
    where = f"{name}: header"
    fixed = _HEADER.size + 4 * _RANGES
    if preamble.header_length < fixed:
        raise FormatError(f"{where}: expected at least {fixed} bytes, found {preamble.header_length}")
    fields = _HEADER.unpack_from(data, _PREAMBLE.size)
    width, height, count, channels, blend_id, top_k, quantizer, *widths, reserve = fields
    for what, value, high in (
        ("width", width, MAX_SIDE),
        ("height", height, MAX_SIDE),
        ("channels", channels, MAX_CHANNELS),
        ("top_k", top_k, MAX_TOP_K),
    ):
        if not 1 <= value <= high:
            raise FormatError(f"{where}: {what}: expected 1 to {high:,}, found {value:,}")
    if width * height > max_pixels:
        raise FormatError(
            f"{where}: canvas: expected at most {max_pixels:,} pixels (max_pixels), found {width:,} x {height:,}"
        )
    blends = {number: blend for blend, number in BLEND_IDS.items()}
    if blend_id not in blends:
        raise FormatError(f"{where}: blend: expected 0 to {max(blends)}, found {blend_id}")
    if quantizer != QUANTIZER_UNIFORM:
        raise FormatError(f"{where}: quantizer: expected {QUANTIZER_UNIFORM}, found {quantizer}")
    _check_reserve(where, reserve, preamble)
    _check_length(where, fixed + 4 * _PER_CHANNEL * channels, preamble.header_length, preamble)
    floats = np.frombuffer(data, "<f4", _RANGES + _PER_CHANNEL * channels, _PREAMBLE.size + _HEADER.size)
    position, scale, background, color = np.split(floats.astype(np.float32), [4, _RANGES, _RANGES + channels])
    if not np.isfinite(background).all():
        raise FormatError(f"{where}: background: expected finite numbers, found {background.tolist()}")
    try:
        bits = BitWidths(*widths)
        grid = Grid(bits=bits, position=position.reshape(2, 2), scale=scale, color=color.reshape(2, channels))
    except (ConfigError, ShapeError) as error:
        raise FormatError(f"{where}: {error}") from error
    return Header(height, width, blends[blend_id], top_k, background, grid), count


def _read_table(data: bytes, preamble: _Preamble, header: Header, count: int, name: str) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    offset, found, last = preamble.head_length, 0, (-1, -1)
    for number in range(preamble.chunk_count):
        where = f"{name}: chunk {number}"
        start = preamble.table_start + number * preamble.entry_length
        kind, coding, reserve_a, level, reserve_b, *fields, reserve_c = _ENTRY.unpack_from(data, start)
        chunk = Chunk(kind, coding, level, *fields)
        _check_reserve(where, reserve_a | reserve_b | reserve_c, preamble)
        if chunk.offset != offset:
            raise FormatError(f"{where}: offset: expected {offset:,}, the end of what precedes, found {chunk.offset:,}")
        offset += chunk.length
        if offset > len(data):
            raise TruncatedError(
                f"{where}: expected {chunk.length:,} bytes from {chunk.offset:,}, found a file of {len(data):,} bytes"
            )
        if kind == KIND_GAUSSIANS:
            _check_gaussians(where, chunk, header)
            if (level, chunk.block) <= last:
                raise FormatError(
                    f"{where}: expected a level and block after {last[0]}, {last[1]}, found {level}, {chunk.block}"
                )
            last = (level, chunk.block)
            found += chunk.count
        elif kind == 0:
            raise FormatError(f"{where}: kind: expected a number from 1, found 0")
        chunks.append(chunk)
    if offset != len(data):
        raise FormatError(f"{name}: end: expected a file of {offset:,} bytes, found {len(data):,}")
    if found != count:
        raise FormatError(f"{name}: header: count: expected {found:,} Gaussians as in the chunks, found {count:,}")
    return tuple(chunks)


def _check_gaussians(where: str, chunk: Chunk, header: Header) -> None:
    if chunk.coding != CODING_FIXED_WIDTH:
        raise FormatError(f"{where}: coding: expected {CODING_FIXED_WIDTH} (fixed width), found {chunk.coding}")
    expected = packed_length(chunk.count, header.grid.channels, header.grid.bits)
    if chunk.length != expected:
        raise FormatError(
            f"{where}: length: expected {expected:,} bytes for {chunk.count:,} Gaussians, found {chunk.length:,}"
        )


def _check_sum(where: str, expected: int, data: bytes) -> None:
    found = google_crc32c.value(data)
    if found != expected:
        raise ChecksumError(f"{where}: CRC-32C: expected {expected:08X}, found {found:08X}: the bytes were altered")


def _check_length(where: str, expected: int, found: int, preamble: _Preamble) -> None:
    if found < expected or (found > expected and not preamble.newer):
        raise FormatError(f"{where}: length: expected {expected:,} bytes, found {found:,}")


def _check_reserve(where: str, reserve: int | bytes, preamble: _Preamble) -> None:
    if not preamble.newer and any(reserve if isinstance(reserve, bytes) else (reserve,)):
        raise FormatError(f"{where}: reserve: expected zeros, found {reserve!r}")
