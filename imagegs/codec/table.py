"""The chunk table of a ``.gsimg`` file <-> bytes, whole in the head or cut into pages (docs/format.md, section 6)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ..errors import ConfigError, FormatError
from .blocks import MAX_REACH, Blocks
from .fields import Fields, checksum, varint

KIND_SPAN = 0
"""No kind of a file: the chunks of a page that was passed over, as one."""

KIND_GAUSSIANS = 1
KIND_PAGE = 2

MAX_COUNT = 2**32 - 1
"""Most Gaussians in a file, and the largest length of its head."""

MAX_LENGTH = 2**48 - 1
"""Longest payload, and longest span of a page, bytes."""

MAX_SIZE = 2**53 - 1
"""Largest file, bytes: offsets are exact as binary64 too."""

GAUSSIANS_PER_BYTE = 512
"""Most Gaussians that one byte of a payload may stand for."""

MAX_PSNR = 655.35
"""Largest value of the field ``psnr``, dB."""

MAX_ENTRIES = 4096
"""Most chunks of a page."""

ENTRY_BYTES = 14
"""Of the shortest entry with its length."""


@dataclass(frozen=True)
class Chunk:
    """One entry of the chunk table.

    Attributes:
        kind: 1 is Gaussians; 0 stands for those of a page that was passed over; others are skipped.
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
class Page:
    """An entry of the table that stands for some of its entries, which are a payload of their own.

    Attributes:
        entry: its level is that of its chunks, its block that of the first one, its count their number, its reach the
            largest of theirs, its psnr that of the last one; its bytes are their entries.
        last: block of the last chunk.
        span: bytes of the payloads of its chunks together.
    """

    entry: Chunk
    last: int
    span: int


def table_bytes(chunks: Sequence[Chunk], counts: Sequence[int] = ()) -> tuple[bytes, list[bytes]]:
    """The table of the head, and the pages.

    Args:
        chunks: their offsets are not looked at; with pages those of Gaussians come first.
        counts: how many chunks of Gaussians each page has; nothing writes no pages.

    Raises:
        ConfigError: a number is more than its field can say, or the counts are not those of the chunks.
    """
    if not counts:
        return _joined([_entry_bytes(chunk) for chunk in chunks]), []
    total = sum(chunk.kind == KIND_GAUSSIANS for chunk in chunks)
    if sum(counts) != total or min(counts) < 1:
        raise ConfigError(f"pages: expected counts from 1 that add up to {total:,} chunks, found {list(counts)}")
    entries, pages, start = [], [], 0
    for count in counts:
        part = chunks[start : start + count]
        data = b"".join(_with_length(_entry_bytes(chunk)) for chunk in part)
        span, far = sum(chunk.length for chunk in part), max(chunk.reach for chunk in part)
        entry = replace(part[0], kind=KIND_PAGE, count=count, length=len(data), reach=far, psnr=part[-1].psnr)
        _check_room("span", span, MAX_LENGTH)
        entries.append(_entry_bytes(replace(entry, checksum=checksum(data))) + varint(part[-1].block) + varint(span))
        pages.append(data)
        start += count
    return _joined([*entries, *map(_entry_bytes, chunks[start:])]), pages


def cut_pages(chunks: Sequence[Chunk], blocks: Blocks, page_entries: int) -> list[int]:
    """How many chunks each page has: those of some whole rows of blocks, or of an even part of one row, of one level.

    Args:
        chunks: of Gaussians, in the order of the file.
        blocks: of the canvas.
        page_entries: the most chunks of a page, 1 to 4096.

    Raises:
        ConfigError: that is out of range.
    """
    if not 1 <= page_entries <= MAX_ENTRIES:
        raise ConfigError(f"page_entries: expected 1 to {MAX_ENTRIES:,}, found {page_entries:,}")
    band, counts = blocks.columns * max(1, page_entries // blocks.columns), []
    for _, group in groupby(chunks, key=lambda chunk: (chunk.level, chunk.block // band)):
        count = len(list(group))
        parts = -(-count // page_entries)
        counts += [count // parts + (part < count % parts) for part in range(parts)]
    return counts


def _joined(entries: list[bytes]) -> bytes:
    return b"".join([varint(len(entries)), *map(_with_length, entries)])


def _with_length(data: bytes) -> bytes:
    return varint(len(data)) + data


def _entry_bytes(chunk: Chunk) -> bytes:
    _check_room("count", chunk.count, MAX_COUNT)
    _check_room("length", chunk.length, MAX_LENGTH)
    _check_room("reach", chunk.reach, MAX_REACH)
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


def _check_room(what: str, value: int, largest: int) -> None:
    if value > largest:
        raise ConfigError(f"{what}: expected at most {largest:,}, found {value:,}")


def _psnr_code(psnr: float | None) -> int:
    if psnr is None or math.isnan(psnr):
        return 0
    return round(100 * min(max(psnr, 0.01), MAX_PSNR))


def read_table(
    fields: Fields, blocks: Blocks, offset: int, *, paged: bool, newer: bool, name: str
) -> tuple[tuple[Page, ...], tuple[Chunk, ...]]:
    """Take the table of a head apart, trusting nothing.

    Args:
        fields: at the table.
        blocks: of the canvas.
        offset: where the head ends.
        paged: whether entries of kind 2 are pages, as from version 2.1 on.
        newer: whether entries may have more fields than are known here.
        name: what an error calls the file.

    Returns:
        The pages, and the chunks as if all pages had been passed over.

    Raises:
        FormatError: the table is not what the format says.
    """
    pages: list[Page] = []
    chunks: list[Chunk] = []
    end, total, last = offset, 0, (0, -1)
    for number in range(fields.varint("number of chunks")):
        where = f"{name}: chunk {number}"
        entry = fields.part(f"entry {number} of the table", fields.varint("length of a table entry"), where)
        chunk = _read_entry(entry, end)
        page = None
        if paged and chunk.kind == KIND_PAGE:
            where = f"{name}: page {number}"
            page = Page(chunk, entry.varint("last"), entry.varint("span", bits=48))
        entry.finish(newer=newer)
        end = chunk.end + (page.span if page is not None else 0)
        if end > MAX_SIZE:
            raise FormatError(f"{where}: expected an end of at most {MAX_SIZE:,}, found {end:,}")
        if chunk.kind == 0:
            raise FormatError(f"{where}: kind: expected a number from 1, found 0")
        if page is not None:
            if chunks:
                raise FormatError(f"{where}: expected all pages before the first chunk, found one after it")
            _check_page(where, page, blocks, last)
            last = chunk.level, page.last
            pages.append(page)
            continue
        if chunk.kind == KIND_GAUSSIANS:
            if pages:
                raise FormatError(f"{where}: kind: expected all chunks of Gaussians on pages, found one beside them")
            _check_place(where, chunk, blocks, last)
            _check_count(where, chunk)
            last, total = (chunk.level, chunk.block), total + chunk.count
            check_total(where, total)
        chunks.append(chunk)
    if last[1] < 0:
        raise FormatError(f"{name}: table: expected a chunk of Gaussians of level 0, found none")
    pages, spans = _placed(pages, offset)
    return tuple(pages), (*spans, *chunks)


def _placed(pages: list[Page], offset: int) -> tuple[list[Page], list[Chunk]]:
    """The pages with their offsets, and the chunks of each as one."""
    found, spans = [], []
    start = offset + sum(page.entry.length for page in pages)
    for page in pages:
        found.append(replace(page, entry=replace(page.entry, offset=offset)))
        spans.append(replace(page.entry, kind=KIND_SPAN, count=0, offset=start, length=page.span, checksum=0))
        offset, start = offset + page.entry.length, start + page.span
    return found, spans


def read_page(data: bytes, page: Page, offset: int, *, newer: bool, where: str) -> tuple[Chunk, ...]:
    """Take a page apart and compare it to what the head says of it.

    Args:
        data: its bytes, whose checksum is right.
        page: its entry.
        offset: where the payload of its first chunk starts.
        newer: whether entries may have more fields than are known here.
        where: what an error calls the page.

    Returns:
        Its chunks.

    Raises:
        FormatError: they are not such as the format and the head say.
    """
    fields, chunks, before = Fields(data, where), [], page.entry.block - 1
    for number in range(page.entry.count):
        inner = f"{where}: entry {number}"
        entry = fields.part(f"entry {number}", fields.varint("length of an entry"), inner)
        chunk = _read_entry(entry, offset)
        entry.finish(newer=newer)
        for what, expected, found in (
            ("kind", KIND_GAUSSIANS, chunk.kind),
            ("coding", page.entry.coding, chunk.coding),
            ("level", page.entry.level, chunk.level),
        ):
            _check_agrees(inner, what, expected, found)
        if not before < chunk.block <= page.last:
            raise FormatError(f"{inner}: block: expected {before + 1:,} to {page.last:,}, found {chunk.block:,}")
        _check_count(inner, chunk)
        chunks.append(chunk)
        offset, before = chunk.end, chunk.block
    fields.finish(newer=newer)
    facts: tuple[tuple[str, float | None, float | None], ...] = (
        ("first block", page.entry.block, chunks[0].block),
        ("last block", page.last, chunks[-1].block),
        ("span", page.span, sum(chunk.length for chunk in chunks)),
        ("reach", page.entry.reach, max(chunk.reach for chunk in chunks)),
        ("psnr", page.entry.psnr, chunks[-1].psnr),
    )
    for what, said, there in facts:
        _check_agrees(where, what, said, there)
    return tuple(chunks)


def _read_entry(fields: Fields, offset: int) -> Chunk:
    kind, coding = fields.varint("kind"), fields.u8("coding")
    level, block, count = (fields.varint(what) for what in ("level", "block", "count"))
    length, reach = fields.varint("length", bits=48), fields.varint("reach")
    code, found = fields.u16("psnr"), fields.u32("checksum")
    return Chunk(kind, coding, level, block, count, offset, length, reach, code / 100 if code else None, found)


def _check_agrees(where: str, what: str, expected: float | None, found: float | None) -> None:
    if found != expected:
        raise FormatError(f"{where}: {what}: expected {expected} as the head says, found {found}")


def _check_place(where: str, chunk: Chunk, blocks: Blocks, last: tuple[int, int]) -> None:
    if (chunk.level, chunk.block) <= last or chunk.level > last[0] + (last[1] >= 0):
        expected = "level 0" if last[1] < 0 else f"a level and block after {last[0]}, {last[1]} that leave out no level"
        raise FormatError(f"{where}: expected {expected}, found {chunk.level}, {chunk.block}")
    if chunk.block >= len(blocks):
        raise FormatError(f"{where}: block: expected one of {len(blocks):,}, found {chunk.block:,}")


def _check_count(where: str, chunk: Chunk) -> None:
    most = GAUSSIANS_PER_BYTE * chunk.length
    if chunk.count > most:
        raise FormatError(
            f"{where}: count: expected at most {most:,} Gaussians in {chunk.length:,} bytes, found {chunk.count:,}"
        )
    if chunk.length and not chunk.count:
        raise FormatError(f"{where}: length: expected 0 bytes for 0 Gaussians, found {chunk.length:,}")


def check_total(where: str, total: int) -> None:
    """Refuse more Gaussians than a file may have.

    Raises:
        FormatError: there are more.
    """
    if total > MAX_COUNT:
        raise FormatError(f"{where}: expected at most {MAX_COUNT:,} Gaussians in all, found {total:,}")


def _check_page(where: str, page: Page, blocks: Blocks, last: tuple[int, int]) -> None:
    entry = page.entry
    _check_place(where, entry, blocks, last)
    if not entry.block <= page.last < len(blocks):
        raise FormatError(f"{where}: last: expected {entry.block:,} to {len(blocks) - 1:,}, found {page.last:,}")
    most = min(MAX_ENTRIES, page.last - entry.block + 1)
    least = min(2, most)
    if not least <= entry.count <= most:
        raise FormatError(f"{where}: count: expected {least} to {most:,} chunks, found {entry.count:,}")
    if entry.length < ENTRY_BYTES * entry.count:
        expected = f"at least {ENTRY_BYTES * entry.count:,} bytes for {entry.count:,} chunks"
        raise FormatError(f"{where}: length: expected {expected}, found {entry.length:,}")
