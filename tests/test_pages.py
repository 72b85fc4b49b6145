"""Files whose chunk table is cut into pages: the same pictures, fewer bytes for a region, nothing taken on trust."""

from __future__ import annotations

import io
import json
import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_format import THREE, Raw, assert_one_line, entry_bytes, header_bytes, leb
from test_stream import DATA, FILE, INFO, Counting, scattered
from typer.testing import CliRunner

from imagegs.arranging import prefixes
from imagegs.cli import app
from imagegs.codec import BitWidths, Blocks, Decoder, Payload, parse, with_psnrs, write_file, write_levels
from imagegs.codec.blocks import Runs
from imagegs.codec.format import head_size, read_head, write_head
from imagegs.codec.lattice import Lattice
from imagegs.codec.packing import packed_length
from imagegs.codec.stream import feed_chunks, feed_head, needed_chunks, needed_pages
from imagegs.codec.table import KIND_GAUSSIANS, KIND_PAGE, KIND_SPAN, Chunk, cut_pages
from imagegs.decoding import decode
from imagegs.errors import ChecksumError, ConfigError, FormatError, TruncatedError
from imagegs.giant import assembling

MANY = 1 << 41
"""Pixels: no limit."""


def in_pages(data: bytes, page_entries: int) -> bytes:
    """The file with its table in pages."""
    file = parse(data)
    payloads = [
        Payload(data[c.offset : c.end], c.count, c.level, c.block, c.reach, c.psnr, c.kind, c.coding)
        for c in file.chunks
    ]
    return write_levels(
        payloads,
        quantizer=file.quantizer,
        height=file.header.height,
        width=file.header.width,
        background=file.header.background,
        block_shift=file.header.block_shift,
        info=file.info,
        page_entries=page_entries,
    )


PAGED = in_pages(DATA, 3)
HEAD = head_size(PAGED, "x") or 0
TABLE = read_head(PAGED[:HEAD], max_pixels=MANY, name="x")


def seen(data: bytes) -> list[tuple[int, int, bytes]]:
    return [(c.level, c.block, data[c.offset : c.end]) for c in parse(data).chunks if c.kind == KIND_GAUSSIANS]


# -- the same pictures


@pytest.mark.parametrize("page_entries", [1, 2, 5, 4096])
def test_a_file_in_pages_holds_the_same(page_entries):
    data = in_pages(DATA, page_entries)
    file = parse(data)
    assert (file.version, FILE.version, file.info) == ((2, 1), (2, 0), INFO)
    for name in ("means", "scales", "rotations", "colors"):
        np.testing.assert_array_equal(getattr(file.gaussians, name), getattr(FILE.gaussians, name))
    assert seen(data) == seen(DATA)
    assert sum(file.sections.values()) == file.size == len(data)
    kinds = [chunk.kind for chunk in file.chunks]
    assert kinds == sorted(kinds)  # those of another kind stand last
    assert file.chunks[0].offset == file.size - file.sections["payload"]
    for one, other in zip(file.chunks, file.chunks[1:], strict=False):
        assert one.end == other.offset
    pages = read_head(data[: head_size(data, "x")], max_pixels=MANY, name="x").pages
    assert sum(page.entry.count for page in pages) == kinds.count(KIND_GAUSSIANS)
    assert all(page.entry.count <= page_entries for page in pages)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    shift=st.sampled_from([0, 6, 7, 16]),
    page_entries=st.integers(1, 20),
)
def test_round_trip(counts, shift, page_entries):
    options = {"levels": counts, "block_shift": shift}
    gaussians = scattered(sum(counts))
    data = write_file(gaussians, page_entries=page_entries, **options)
    assert seen(data) == seen(write_file(gaussians, **options))
    assert decode(data).pixels.tobytes() == decode(write_file(gaussians, **options)).pixels.tobytes()


def test_qualities_of_prefixes_change_no_page():
    count = len(seen(PAGED))
    wanted = [20 + number / 4 for number in range(count)]
    data = with_psnrs(PAGED, wanted)
    assert [c.psnr for c in parse(data).chunks if c.kind == KIND_GAUSSIANS] == wanted
    assert len(data) == len(PAGED)
    assert with_psnrs(data, [None] * count) == PAGED


def test_what_cannot_be_written():
    for page_entries in (0, 4097):
        with pytest.raises(ConfigError, match=f"page_entries: expected 1 to 4,096, found {page_entries:,}"):
            in_pages(DATA, page_entries)
    chunks = [chunk for chunk in FILE.chunks if chunk.kind == KIND_GAUSSIANS]
    for counts, message in (
        ([len(chunks) + 1], "pages: expected counts from 1 that add up to"),
        ([len(chunks), 0], "pages: expected counts from 1 that add up to"),
        ([len(chunks)], r"page 0: .*level: expected 0 as the head says, found 1|page 0: count"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_head(FILE.header, b"", chunks, counts)
    other = next(chunk for chunk in FILE.chunks if chunk.kind != KIND_GAUSSIANS)
    with pytest.raises(ConfigError, match="chunk 1: kind: expected all chunks of Gaussians on pages, found one beside"):
        write_head(FILE.header, b"", [chunks[0], replace(other, block=1), chunks[1]], [2])


def test_pages_are_whole_rows_of_blocks_or_even_parts_of_one():
    blocks = Blocks(640, 640, 6)

    def counts(page_entries: int, *, without: int = -1) -> list[int]:
        chunks = [Chunk(1, 0, level, block, 1, 0, 1, 0, None, 0) for level in (0, 1) for block in range(100)]
        return cut_pages([chunk for chunk in chunks if chunk.block != without], blocks, page_entries)

    assert counts(10) == [10] * 20
    assert counts(39) == ([30] * 3 + [10]) * 2
    assert counts(4096) == [100, 100]
    assert counts(9) == [5, 5] * 20
    assert counts(8, without=13) == ([5, 5, 5, 4] + [5, 5] * 8) * 2


# -- what a region needs


def sound(chunks: list[Chunk], counts: list[int], blocks: Blocks, level: int | None, region, margin: float) -> None:
    """After the pages that are needed, the same chunks are needed as of the whole table, and may be decoded."""
    header = replace(FILE.header, width=blocks.width, height=blocks.height, block_shift=blocks.shift)
    head = write_head(header, b"", chunks, counts)
    limits = {"level": level, "region": region, "margin": margin}
    whole = Decoder(max_pixels=MANY)
    whole.feed(head)
    part = Decoder(max_pixels=MANY, pages=lambda head: needed_pages(head, **limits))
    feed_head(io.BytesIO(head), part)
    assert whole.chunks is not None
    assert part.chunks is not None

    def of(decoder: Decoder) -> set[tuple[int, int, int]]:
        found = [decoder.chunks[number] for number in needed_chunks(decoder.head, **limits)]
        return {(chunk.level, chunk.block, chunk.offset) for chunk in found}

    assert of(part) == of(whole)
    part.select(needed_chunks(part.head, **limits))
    assert part.head.end == whole.head.end
    assert part.received == whole.received == len(head)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_page_is_missed(data):
    width, height = data.draw(st.tuples(st.integers(1, 700), st.integers(1, 700)))
    blocks = Blocks(width, height, data.draw(st.sampled_from([0, 6])))
    chunks, counts, levels = [], [], data.draw(st.integers(1, 4))
    for level in range(levels):
        most = min(len(blocks), 12)
        found = sorted(data.draw(st.sets(st.integers(0, len(blocks) - 1), min_size=1, max_size=most)))
        far = [data.draw(st.sampled_from([0, 3, 70, 400])) for _ in found]
        chunks += [Chunk(1, 0, level, block, 0, 0, 0, reach, None, 0) for block, reach in zip(found, far, strict=True)]
        left = len(found)
        while left:
            counts.append(data.draw(st.integers(1, left)))
            left -= counts[-1]
    x, y = data.draw(st.tuples(st.floats(0, width - 0.5), st.floats(0, height - 0.5)))
    region = (x, y, data.draw(st.floats(0.01, width - x)), data.draw(st.floats(0.01, height - y)))
    level = data.draw(st.one_of(st.none(), st.integers(0, levels)))
    sound(chunks, counts, blocks, level, region, data.draw(st.sampled_from([0, 0.5, 30])))


@settings(max_examples=300, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)), max_size=12), asked=st.integers(0, 40))
def test_sets_of_blocks(runs, asked):
    found, known = Runs(), set()
    for first, more in runs:
        found.add(first, first + more)
        known |= set(range(first, first + more + 1))
        for last in range(asked, asked + 6):
            assert found.meets(asked, last) == bool(known & set(range(asked, last + 1)))


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(0, 319), y=st.floats(0, 191), width=st.floats(1, 320), height=st.floats(1, 192),
    level=st.one_of(st.none(), st.integers(0, 3)), scale=st.sampled_from([0.25, 1.0]), page_entries=st.integers(1, 8),
)  # fmt: skip
def test_regions_are_those_of_the_file_without_pages(x, y, width, height, level, scale, page_entries):
    options = {"region": (x, y, min(width, 320 - x), min(height, 192 - y)), "level": level, "scale": scale}
    picture = decode(in_pages(DATA, page_entries), **options)
    np.testing.assert_array_equal(picture.pixels, decode(DATA, **options).pixels)
    assert picture.notes == ()


@pytest.mark.parametrize("region", [(0, 0, 320, 192), (200, 100, 30, 30), (10, 10, 5, 5)])
@pytest.mark.parametrize("level", [None, 0])
def test_no_more_is_read_than_needed(region, level):
    limits = {"region": region, "level": level}
    file = Counting(PAGED)
    decoder = Decoder(pages=lambda head: needed_pages(head, **limits))
    feed_head(file, decoder)
    pages = needed_pages(TABLE, **limits)
    expected = HEAD + sum(TABLE.pages[number].entry.length for number in pages)
    assert file.read_bytes == expected
    needed = needed_chunks(decoder.head, **limits)
    decoder.select(needed)
    feed_chunks(file, decoder)
    assert decoder.finish(strict=True) == ()
    assert file.read_bytes == expected + sum(decoder.chunks[number].length for number in needed)
    if region[2] < 320:
        assert len(pages) < len(TABLE.pages)
        assert [chunk.kind for chunk in decoder.chunks].count(KIND_SPAN) == len(TABLE.pages) - len(pages)


def test_what_is_passed_over_is_not_looked_at(tmp_path):
    region = (230, 130, 40, 30)
    damaged, pages = bytearray(PAGED), needed_pages(TABLE, region=region)
    for number, page in enumerate(TABLE.pages):
        if number not in pages:
            for part in (page.entry, TABLE.chunks[number]):
                damaged[part.offset : part.end] = bytes(part.length)
    path = tmp_path / "damaged.gsimg"
    path.write_bytes(damaged)
    np.testing.assert_array_equal(decode(path, region=region).pixels, decode(DATA, region=region).pixels)
    for read in (lambda: decode(path), lambda: parse(bytes(damaged))):
        with pytest.raises(ChecksumError, match=r"page \d+: CRC-32C"):
            read()


def test_a_large_table_is_read_in_small_part():
    blocks = Blocks(8192, 8192, 8)
    chunks = [Chunk(1, 0, level, block, 0, 0, 0, 60, None, 0) for level in (0, 1) for block in range(len(blocks))]
    header = replace(FILE.header, width=8192, height=8192, block_shift=8)
    whole = write_head(header, b"", chunks)
    file = Counting(write_head(header, b"", chunks, cut_pages(chunks, blocks, 32)))
    region = (3000, 3000, 500, 500)
    decoder = Decoder(pages=lambda head: needed_pages(head, region=region))
    feed_head(file, decoder)
    decoder.select(needed_chunks(decoder.head, region=region))
    feed_chunks(file, decoder)
    assert decoder.complete
    assert file.read_bytes < len(whole) / 4


# -- pieces


def test_byte_by_byte_is_the_same_as_at_once():
    decoder = Decoder()
    for at in range(len(PAGED)):
        assert (decoder.head is None) == (at < TABLE.length)
        decoder.feed(PAGED[at : at + 1])
    assert decoder.complete
    assert decoder.finish(strict=True) == ()
    assert decoder.chunks == parse(PAGED).chunks
    assert decoder.gaussians().means.tobytes() == FILE.gaussians.means.tobytes()
    assert decoder.level == 2


def test_needed_leads_from_page_to_page():
    decoder, stops = Decoder(), []
    while decoder.needed:
        decoder.feed(PAGED[decoder.received : decoder.received + decoder.needed])
        stops.append(decoder.received)
    ends = [HEAD, *(page.entry.end for page in TABLE.pages), *(chunk.end for chunk in parse(PAGED).chunks)]
    assert stops[-len(ends) :] == ends


@pytest.mark.parametrize("size", [1, 7, 1000, len(PAGED)])
def test_what_is_not_wanted_may_be_fed_as_well(size):
    region = (200, 100, 30, 30)
    decoder = Decoder(pages=lambda head: needed_pages(head, region=region))
    for start in range(0, len(PAGED), size):
        decoder.feed(PAGED[start : start + size])
    decoder.finish(strict=True)
    assert 0 < len(decoder.gaussians()) < len(FILE.gaussians)
    damaged = bytearray(PAGED)
    passed = min(set(range(len(TABLE.pages))) - needed_pages(TABLE, region=region))
    damaged[TABLE.pages[passed].entry.offset] ^= 1
    decoder = Decoder(pages=lambda head: needed_pages(head, region=region), name="x")
    with pytest.raises(ChecksumError, match=f"^x: page {passed}: CRC-32C"):
        decoder.feed(damaged)


def test_from_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(PAGED,))
    writer.start()
    picture = decode(path, region=(200, 100, 30, 30))
    writer.join()
    np.testing.assert_array_equal(picture.pixels, decode(DATA, region=(200, 100, 30, 30)).pixels)


def test_a_chunk_is_not_decoded_without_those_below_it():
    """Whatever pages a caller asks for."""
    top = max(range(len(TABLE.pages)), key=lambda number: TABLE.pages[number].entry.level)
    low = [number for number, page in enumerate(TABLE.pages) if page.entry.level == 0]
    for wanted, decoded in (([top], False), (low, True), ([], False)):
        decoder = Decoder(pages=lambda head, wanted=wanted: wanted)
        decoder.feed(PAGED)
        assert decoder.finish() == ()
        assert (len(decoder.gaussians()) > 0) == decoded
    decoder = Decoder(pages=lambda head: [top])
    feed_head(io.BytesIO(PAGED), decoder)
    (first, *_) = [number for number, chunk in enumerate(decoder.chunks) if chunk.kind == KIND_GAUSSIANS]
    message = (
        f"select: expected the pages of all lower levels of a block to be read, found that of chunk {first} passed"
    )
    with pytest.raises(ConfigError, match=message):
        decoder.select([first])


def test_levels_of_what_was_passed_over_count():
    data = write_file(scattered(), levels=[40, 160], block_shift=6, page_entries=3)
    decoder = Decoder(pages=lambda head: needed_pages(head, level=0))
    feed_head(io.BytesIO(data), decoder)
    assert decoder.level == -1
    end = max(chunk.end for chunk in decoder.chunks if chunk.level == 0 and chunk.kind == KIND_GAUSSIANS)
    decoder.feed(data[decoder.received : end])
    assert decoder.level == 0
    assert decoder.finish() == ()  # nothing that was asked for is missing
    with pytest.raises(TruncatedError):
        decoder.finish(strict=True)


# -- cut


def test_cut_at_every_byte():
    floor = max(c.end for c in parse(PAGED).chunks if c.kind == KIND_GAUSSIANS and c.level == 0)
    for length in [*range(TABLE.length + 80), *range(TABLE.length + 80, len(PAGED), 7)]:
        for strict in (True, False):
            if strict or length < floor:
                with pytest.raises(TruncatedError) as caught:
                    parse(PAGED[:length], name="cut.gsimg", strict=strict)
                assert_one_line(caught.value, "cut.gsimg")
                assert str(caught.value).endswith(f"found the end at {length:,}")
                assert ("page" in str(caught.value)) == (HEAD <= length < TABLE.length)
            else:
                file = parse(PAGED[:length], strict=False)
                assert len(file.notes) == 1
                count = len(file.gaussians)
                assert file.gaussians.means.tobytes() == FILE.gaussians.means[:count].tobytes()


def test_regions_of_cut_files(tmp_path):
    region, path = (200, 100, 30, 30), tmp_path / "cut.gsimg"
    for length in range(HEAD - 2, len(PAGED), 11):
        path.write_bytes(PAGED[:length])
        outcomes = []
        for source, more in ((path, {}), (PAGED[:length], {}), (PAGED, {"max_bytes": length})):
            try:
                outcomes.append(decode(source, region=region, **more).pixels.tobytes())
            except TruncatedError as error:
                outcomes.append(f"{error}".partition(": ")[2])
        assert len(set(outcomes)) == 1, length
        assert isinstance(outcomes[0], str) or length >= TABLE.length


# -- altered


def test_every_flipped_bit_of_the_head_and_the_pages_is_noticed():
    for at in range(TABLE.length):
        for bit in range(8):
            altered = bytearray(PAGED)
            altered[at] ^= 1 << bit
            with pytest.raises(FormatError) as caught:
                parse(bytes(altered), name="bad.gsimg", strict=False)
            assert_one_line(caught.value, "bad.gsimg")
            if at >= HEAD:
                assert isinstance(caught.value, ChecksumError)


def resealed(data: bytes) -> bytes:
    """The file with the checksums that its pages and its head should have."""
    head, size = bytearray(data), head_size(data, "x") or 0
    for page in TABLE.pages:
        known = page.entry.checksum.to_bytes(4, "little")
        assert head.count(known, 0, size) == 1
        right = google_crc32c.value(data[page.entry.offset : page.entry.end]).to_bytes(4, "little")
        at = head.index(known)
        head[at : at + 4] = right
    head[size - 4 : size] = google_crc32c.value(bytes(head[: size - 4])).to_bytes(4, "little")
    return bytes(head)


def test_every_altered_byte_of_a_page_disagrees_with_something():
    """Even where all checksums of head and pages were made right again; but for those of the chunks, and qualities."""
    assert resealed(PAGED) == PAGED
    free = 0
    for page in TABLE.pages:
        for at in range(page.entry.offset, page.entry.end):
            for flip in (0xFF, 0x80, 0x01):
                altered = bytearray(PAGED)
                altered[at] ^= flip
                try:
                    found = parse(resealed(bytes(altered)), name="bad.gsimg")
                except FormatError as error:
                    assert_one_line(error, "bad.gsimg")
                else:
                    free += 1
                    assert found.gaussians.means.tobytes() == FILE.gaussians.means.tobytes()
    assert 0 < free < 3 * (TABLE.length - HEAD) / 3


def page_bytes(entries: list[bytes], payloads: bytes, *, last: int = 0, span: int | None = None, **fields) -> bytes:
    """The entry of a page in the head."""
    data = b"".join(entries)
    extra = leb(last) + leb(len(payloads) if span is None else span) + fields.pop("extra", b"")
    return entry_bytes(data, **{"kind": 2, "count": len(entries), **fields, "extra": extra})


def paged(first: dict | None = None, inner: dict | None = None, later: dict | None = None, **raw) -> bytes:
    """A file of 24 blocks: two pages of two chunks and one; the first one's entry and its second chunk with changes."""
    inner, first = dict(inner or {}), dict(first or {})
    after, entries = inner.pop("after", b""), []
    entries.append(entry_bytes(THREE, count=3, reach=5))
    entries.append(entry_bytes(THREE, **{"count": 3, "block": 3, "reach": 7, "psnr": 2000, **inner}))
    entries[-1] += after
    above = [entry_bytes(THREE, count=3, level=1, block=2, reach=9)]
    head = [
        page_bytes(entries, 2 * THREE, **{"last": 3, "reach": 7, "psnr": 2000, **first}),
        page_bytes(above, THREE, **{"last": 2, "block": 2, "level": 1, "reach": 9, **(later or {})}),
    ]
    head += raw.pop("more", [])
    raw = {"header": header_bytes(width=320, height=200, shift=6), "minor": 1, **raw}
    return bytes(Raw(entries=head, payloads=[*entries, *above, THREE, THREE, THREE], **raw))


def test_a_file_of_pages_from_its_fields():
    file = parse(paged())
    assert file.version == (2, 1)
    assert [(c.level, c.block, c.reach, c.psnr) for c in file.chunks] == [
        (0, 0, 5, None),
        (0, 3, 7, 20.0),
        (1, 2, 9, None),
    ]
    assert len(file.gaussians) == 9


WRONG = [
    ({"first": {"coding": 1}}, r"page 0: coding: expected 0 .fixed width., found 1"),
    ({"first": {"level": 1}}, "page 0: expected level 0, found 1, 0"),
    ({"first": {"block": 1}}, "page 0: entry 0: block: expected 1 to 3, found 0"),
    ({"first": {"block": 24}}, "page 0: block: expected one of 20, found 24"),
    ({"first": {"count": 0}}, "page 0: count: expected 2 to 4 chunks, found 0"),
    ({"first": {"count": 1}}, "page 0: count: expected 2 to 4 chunks, found 1"),
    ({"first": {"count": 3}}, "page 0: length: expected at least 42 bytes for 3 chunks, found"),
    ({"first": {"count": 5}}, "page 0: count: expected 2 to 4 chunks, found 5"),
    ({"first": {"last": 2}}, "page 0: entry 1: block: expected 1 to 2, found 3"),
    ({"first": {"last": 4}}, "page 0: last block: expected 4 as the head says, found 3"),
    ({"first": {"last": 20}}, "page 0: last: expected 0 to 19, found 20"),
    ({"first": {"block": 3, "last": 2}}, "page 0: last: expected 3 to 19, found 2"),
    ({"first": {"span": 49}}, "page 0: span: expected 49 as the head says, found 50"),
    ({"first": {"span": 2**48}}, r"page 0: span: expected a varint below 2\^48|chunk 0: span: expected a varint"),
    ({"first": {"reach": 6}}, "page 0: reach: expected 6 as the head says, found 7"),
    ({"first": {"reach": 8}}, "page 0: reach: expected 8 as the head says, found 7"),
    ({"first": {"psnr": 0}}, "page 0: psnr: expected None as the head says, found 20.0"),
    ({"first": {"crc": 5}}, "page 0: CRC-32C: expected 00000005, found"),
    ({"first": {"length": leb(27)}}, "page 0: length: expected at least 28 bytes for 2 chunks, found 27"),
    ({"first": {"length": leb(29)}}, "page 0: CRC-32C: expected"),
    ({"first": {"extra": b"x"}}, "chunk 0: length: expected the end of its fields, found 1 more bytes"),
    ({"inner": {"kind": 9}}, "page 0: entry 1: kind: expected 1 as the head says, found 9"),
    ({"inner": {"kind": 2}}, "page 0: entry 1: kind: expected 1 as the head says, found 2"),
    ({"inner": {"coding": 1}}, "page 0: entry 1: coding: expected 0 as the head says, found 1"),
    ({"inner": {"level": 1}}, "page 0: entry 1: level: expected 0 as the head says, found 1"),
    ({"inner": {"block": 0}}, "page 0: entry 1: block: expected 1 to 3, found 0"),
    ({"inner": {"block": 4}}, "page 0: entry 1: block: expected 1 to 3, found 4"),
    ({"inner": {"block": 2}}, "page 0: last block: expected 3 as the head says, found 2"),
    ({"inner": {"count": 4}}, "page 0: entry 1: length: expected 33 bytes for 4 Gaussians, found 25"),
    ({"inner": {"count": 2**32 - 1}}, "page 0: entry 1: count: expected at most 12,800 Gaussians in 25 bytes"),
    ({"inner": {"count": 0}}, "page 0: entry 1: length: expected 0 bytes for 0 Gaussians, found 25"),
    ({"inner": {"length": leb(24)}}, "page 0: span: expected 50 as the head says, found 49"),
    ({"inner": {"length": leb(0), "count": 0, "crc": 0}}, "page 0: span: expected 50 as the head says, found 25"),
    ({"inner": {"crc": 5}}, "chunk 1: CRC-32C: expected 00000005, found"),
    ({"inner": {"extra": b"x"}}, "page 0: entry 1: length: expected the end of its fields, found 1 more bytes"),
    ({"inner": {"after": b"x"}}, "page 0: length: expected the end of its fields, found 1 more bytes"),
    ({"later": {"level": 0, "block": 3, "last": 3}}, "page 1: expected a level and block after 0, 3 that"),
    ({"later": {"level": 2}}, "page 1: expected a level and block after 0, 3 that leave out no level, found 2, 2"),
    ({"later": {"block": 1}}, "page 1: count: expected 2 to 2 chunks, found 1"),
    (
        {"more": [entry_bytes(THREE, count=3, level=1, block=5)]},
        "chunk 2: kind: expected all chunks of Gaussians on",
    ),
    (
        {"more": [entry_bytes(kind=9), page_bytes([entry_bytes(level=1, block=5)], b"", level=1, block=5, last=5)]},
        "page 3: expected all pages before the first chunk, found one after it",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_pages_that_are_wrong(changes, message):
    with pytest.raises(FormatError, match=f"^x.gsimg: (.*)({message})") as caught:
        parse(paged(**changes), name="x.gsimg")
    assert_one_line(caught.value, "x.gsimg")


def test_a_chunk_of_gaussians_before_a_page_is_refused():
    entries = [entry_bytes(THREE, count=3), page_bytes([entry_bytes(level=1)], b"", level=1)]
    with pytest.raises(FormatError, match="page 1: expected all pages before the first chunk"):
        parse(bytes(Raw(entries=entries, payloads=[THREE], minor=1)))


@pytest.mark.parametrize("wanted", [None, [0, 1], [1]])
def test_what_is_wrong_beside_the_pages_is_found_whichever_are_read(wanted):
    choice = None if wanted is None else lambda head: wanted
    decoder = Decoder(pages=choice, name="x")
    with pytest.raises(ChecksumError, match=r"^x: chunk 2: CRC-32C: expected 00000005, found 00000000"):
        feed_head(io.BytesIO(paged(more=[entry_bytes(kind=9, crc=5)])), decoder)
    with pytest.raises(ChecksumError):
        decoder.feed(b"more")


def test_too_many_gaussians_on_all_pages():
    count = 2**31
    length = packed_length(count, 1, BitWidths())
    entries = [[entry_bytes(length=leb(length), count=count, block=block, crc=1)] for block in (0, 1)]
    head = [page_bytes(part, b"", last=k, block=k, span=length) for k, part in enumerate(entries)]
    payloads = [part[0] for part in entries]
    header = header_bytes(width=320, height=200, shift=6)
    with pytest.raises(
        FormatError, match=r"page 1: expected at most 4,294,967,295 Gaussians in all, found 4,294,967,296"
    ):
        parse(bytes(Raw(header=header, entries=head, payloads=payloads, minor=1)))


def test_a_newer_minor_version_may_append_to_pages():
    inner = {"extra": b"new", "after": b"what is to come"}
    data = paged(first={"extra": b"more"}, inner=inner, minor=2)
    assert parse(data).version == (2, 2)
    assert len(parse(data).gaussians) == 9


def test_before_version_1_kind_2_was_unknown():
    entries = [entry_bytes(THREE, count=3), entry_bytes(b"something", kind=KIND_PAGE)]
    data = bytes(Raw(entries=entries, payloads=[THREE, b"something"]))
    assert [chunk.kind for chunk in parse(data).chunks] == [1, 2]
    with pytest.raises(FormatError, match="table: expected a chunk of Gaussians of level 0, found none"):
        parse(bytes(Raw(entries=entries[1:], payloads=[b"something"])))


# -- claims that take no memory


def claims() -> dict[str, bytes]:
    most = 2**32 - 1
    two = [entry_bytes(), entry_bytes(block=1)]
    header = header_bytes(width=2**20, height=2**20, shift=6)

    def file(**fields) -> bytes:
        return bytes(Raw(header=header, entries=[page_bytes(two, b"", **fields)], minor=1)) + bytes(100)

    return {
        "entries": file(last=5000, count=most),
        "count": file(last=5000, count=4096),
        "length": file(last=1, length=leb(2**48 - 1)),
        "length and count": file(last=5000, count=4096, length=leb(2**48 - 1)),
        "span": file(last=1, span=2**48 - 1),
        "last": file(last=most),
        "level": file(last=1, level=most),
    }


@pytest.mark.parametrize("name", claims())
def test_claims_take_no_memory(name, tmp_path):
    data, path = claims()[name], tmp_path / "claim.gsimg"
    path.write_bytes(data)
    for read in (lambda: parse(data, max_pixels=MANY), lambda: decode(path, region=(0, 0, 9, 9), strict=True)):
        for _ in range(2):  # what is loaded on first use does not count
            tracemalloc.start()
            with pytest.raises(FormatError):
                read()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < (1 << 20) + 200_000


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_tables_with_right_checksums(data):
    """Past the checksums, where an attacker gets without effort."""
    numbers = st.one_of(st.integers(0, 3), st.sampled_from([19, 25, 50, 127, 2**16, 2**32 - 1]))

    def some(*names: str) -> dict[str, int]:
        return {name: data.draw(numbers) for name in names if data.draw(st.integers(0, 5)) == 0}

    first = some("coding", "level", "block", "count", "last", "span", "reach")
    inner = some("kind", "level", "block", "count", "reach", "crc")
    later = some("level", "block", "count", "last", "span")
    first, later = ({k: v % 256 if k == "coding" else v for k, v in part.items()} for part in (first, later))
    noise = paged(first, inner, later)
    try:
        found = parse(noise, name="noise.gsimg", strict=False)
    except FormatError as error:
        assert_one_line(error, "noise.gsimg")
    else:
        assert found.size <= len(noise)
    try:
        decode(noise, region=(3, 3, 9, 9))
    except FormatError as error:
        assert_one_line(error, "bytes")


# -- who writes and reads them


@pytest.mark.parametrize(("count", "entries"), [(1, 32), (8192, 32), (8712, 64), (1 << 17, 128), (1 << 40, 4096)])
def test_pages_grow_with_the_picture(count, entries):
    assert assembling.page_entries(count) == entries


@pytest.mark.parametrize(("side", "paged"), [(1024, False), (2048, True)])
def test_giant_pictures_have_pages_above_a_number_of_chunks(side, paged):
    blocks = Blocks(side, side, 6)
    chunks = [Chunk(1, 0, 0, block, 0, 0, 0, 0, None, 0) for block in range(len(blocks))]
    plan = SimpleNamespace(
        lattice=lambda factor: Lattice.of(factor, 3, (0,)),
        tiles=SimpleNamespace(height=side, width=side, shift=6),
        config=SimpleNamespace(blend="normalized", top_k=10),
        background=[0.0, 0.0, 0.0],
        windows=SimpleNamespace(info=INFO),
    )
    data = assembling.head_of(plan, 1.0, [assembling.Piece(chunk, 0, 0) for chunk in chunks])
    file = parse(data, max_pixels=MANY)
    assert file.version == (2, int(paged))
    assert (len(chunks) > assembling.PAGED) == paged
    head = read_head(data[: head_size(data, "x")], max_pixels=MANY, name="x")
    assert [page.entry.count for page in head.pages] == [32] * (len(chunks) // 32 * paged)
    assert [chunk.block for chunk in file.chunks] == list(range(len(blocks)))


def test_commands_show_files_in_pages_as_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_file(scattered(), levels=[40, 160], block_shift=6, info=INFO)
    for name, contents in (("one.gsimg", data), ("pages.gsimg", in_pages(data, 3))):
        (tmp_path / name).write_bytes(contents)

    def facts(*arguments: str) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    one, pages = (facts("info", f"{name}.gsimg") for name in ("one", "pages"))
    assert (one["version"], pages["version"]) == ("2.0", "2.1")
    assert one["levels"] == pages["levels"]
    assert one["gaussians"] == pages["gaussians"]
    assert pages["sections"]["table"] - one["sections"]["table"] == pages["bytes"] - one["bytes"]
    for name in ("one", "pages"):
        options = ["-o", f"{name}.png", "--region", "30,40,90,60"]
        assert CliRunner().invoke(app, ["decode", f"{name}.gsimg", *options]).exit_code == 0
        assert CliRunner().invoke(app, ["lod", "tiles", f"{name}.gsimg", "-o", name, "--tile", "64"]).exit_code == 0
    assert Path("one.png").read_bytes() == Path("pages.png").read_bytes()
    tiles = [sorted(path.relative_to(name) for path in Path(name).rglob("*.jpg")) for name in ("one", "pages")]
    assert tiles[0] == tiles[1] != []
    assert all(Path("one", tile).read_bytes() == Path("pages", tile).read_bytes() for tile in tiles[0])
    rows = [prefixes(Path(f"{name}.gsimg").read_bytes()) for name in ("one", "pages")]
    assert [row["gaussians"] for row in rows[0]] == [row["gaussians"] for row in rows[1]]
    assert rows[1][-1]["share"] == 1
