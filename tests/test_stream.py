"""A file read as its bytes come: in pieces of any size, in part, up to a level or for a region."""

from __future__ import annotations

import io
import itertools
import os
import threading
import tracemalloc
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec import Decoder, Payload, codings, packing, parse, stream, write_file, write_levels
from imagegs.codec.blocks import Blocks, footprint, touches
from imagegs.codec.stream import feed_chunks, feed_head, needed_chunks
from imagegs.codec.table import KIND_GAUSSIANS
from imagegs.decoding import decode
from imagegs.errors import ChecksumError, ConfigError, FormatError, TruncatedError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo
from imagegs.kernels import native
from imagegs.rendering import render

needs_kernels = pytest.mark.skipif(not native.available(), reason="the PyTorch reference adds up in another order")

LEVELS = [40, 60, 100]
INFO = PictureInfo.of_channels(3)


def scattered(n: int = 200) -> Gaussians2D:
    random = np.random.default_rng(7)
    return Gaussians2D(
        means=random.uniform((-5, -5), (325, 197), (n, 2)),
        scales=random.uniform(0.6, 5, (n, 2)),
        rotations=random.uniform(0, np.pi, n),
        colors=random.uniform(0, 1, (n, 3)),
        height=192,
        width=320,
    )


def with_unknown(data: bytes) -> bytes:
    """The file with chunks of an unknown kind between the others."""
    file = parse(data)
    payloads: list[Payload] = []
    for number, chunk in enumerate(file.chunks):
        payload = data[chunk.offset : chunk.end]
        payloads.append(Payload(payload, chunk.count, chunk.level, chunk.block, chunk.reach, chunk.psnr))
        if number % 5 == 4:
            payloads.append(Payload(b"?" * number, 0, kind=77))
    return write_levels(
        payloads,
        quantizer=file.quantizer,
        height=file.header.height,
        width=file.header.width,
        background=file.header.background,
        block_shift=file.header.block_shift,
        info=file.info,
    )


DATA = with_unknown(write_file(scattered(), levels=LEVELS, block_shift=6, info=INFO))
FILE = parse(DATA)
HEAD = FILE.size - FILE.sections["payload"]


def assert_same(one: Gaussians2D, other: Gaussians2D) -> None:
    for name in ("means", "scales", "rotations", "colors", "background"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def counts_before(number: int) -> int:
    return sum(chunk.count for chunk in FILE.chunks[:number] if chunk.kind == KIND_GAUSSIANS)


def prefix(number: int) -> Gaussians2D:
    """The Gaussians of the first chunks."""
    return FILE.gaussians.take(slice(0, counts_before(number)))


def test_byte_by_byte_is_the_same_as_at_once():
    decoder = Decoder()
    news = [at for at in range(len(DATA)) if decoder.feed(DATA[at : at + 1])]
    assert news == [chunk.end - 1 for chunk in FILE.chunks if chunk.kind == KIND_GAUSSIANS]
    assert decoder.complete
    assert decoder.finish(strict=True) == ()
    assert (decoder.chunks, decoder.info, decoder.received) == (FILE.chunks, INFO, len(DATA))
    assert_same(decoder.gaussians(), FILE.gaussians)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=12), kind=st.sampled_from([bytes, bytearray, memoryview]))
def test_pieces_of_any_size(cuts, kind):
    decoder, places = Decoder(), [0, *sorted(cuts), len(DATA)]
    for start, end in itertools.pairwise(places):
        decoder.feed(kind(DATA[start:end]))
        assert decoder.received == end
        assert (decoder.header is None) == (end < HEAD)
        number = sum(chunk.end <= end for chunk in FILE.chunks)
        if end >= HEAD:
            assert len(decoder.whole) == number
            assert_same(decoder.gaussians(), prefix(number))
    assert decoder.finish(strict=True) == ()


def test_needed_leads_from_chunk_to_chunk():
    decoder, at, stops = Decoder(), 0, []
    while decoder.needed:
        assert decoder.needed > 0
        piece = DATA[at : at + decoder.needed]
        assert len(piece) == decoder.needed
        decoder.feed(piece)
        at += len(piece)
        stops.append(at)
    assert stops[-len(FILE.chunks) - 1 :] == [HEAD, *(chunk.end for chunk in FILE.chunks)]
    assert len(stops) <= len(FILE.chunks) + 3


def test_what_is_known_before_the_head_is_complete():
    decoder = Decoder(name="x")
    for at in range(HEAD):
        assert decoder.feed(DATA[at : at + 1]) is False
        assert (decoder.level, decoder.complete, decoder.whole) == (-1, False, ())
        if at < HEAD - 1:
            assert decoder.header is decoder.chunks is decoder.info is decoder.quantizer is None
            with pytest.raises(TruncatedError, match=r"^x: (head|start): expected"):
                decoder.gaussians(partial=True)
    assert decoder.header.width == 320
    assert decoder.info == INFO
    assert len(decoder.gaussians(partial=True)) == 0


def test_levels_become_complete_one_after_another():
    decoder, found = Decoder(), {}
    for at in range(len(DATA)):
        decoder.feed(DATA[at : at + 1])
        found.setdefault(decoder.level, at + 1)
    ends = [max(c.end for c in FILE.chunks if c.kind == KIND_GAUSSIANS and c.level == level) for level in range(3)]
    assert found == {-1: 1, 0: ends[0], 1: ends[1], 2: ends[2]}


def test_a_chunk_that_is_not_whole_yields_what_arrived():
    decoder, found = Decoder(), []
    for at in range(len(DATA)):
        decoder.feed(DATA[at : at + 1])
        if at + 1 >= HEAD:
            partial = decoder.gaussians(partial=True)
            found.append(len(partial))
            assert_same(partial, FILE.gaussians.take(slice(0, len(partial))))
            number = len(decoder.whole)
            assert counts_before(number) <= len(partial) <= counts_before(number + 1)
    assert found == sorted(found)
    assert set(found) == set(range(201))  # every record shows as soon as it is there


# -- a coding with memory, as that of quantizer 1


class Remembering:
    """A decoder of fixed widths that expects the levels of its block one after another, each once."""

    made: ClassVar[list[Remembering]] = []

    def __init__(self, grid, box):
        self.inner, self.box, self.seen = packing.FixedWidthDecoder(grid), box, []
        self.bits = self.inner.bits
        self.made.append(self)

    def decode(self, payload, count, *, cut=False):
        assert not self.seen or not self.seen[-1][1], "the decoder of a cut payload goes on"
        self.seen.append((payload, cut))
        return self.inner.decode(payload, count, cut=cut)


@pytest.fixture
def remembering(monkeypatch):
    Remembering.made = []
    monkeypatch.setattr(stream, "find", lambda number: replace(codings.fixed_width(), decoder=Remembering))
    return Remembering.made


def test_each_block_has_a_decoder_of_its_own(remembering):
    Decoder().feed(DATA)
    blocks = Blocks(320, 192, 6)
    boxes = [blocks.box(block) for block in range(len(blocks))]
    assert sorted(made.box for made in remembering) == sorted(boxes)
    for made in remembering:
        block = boxes.index(made.box)
        expected = [DATA[c.offset : c.end] for c in FILE.chunks if c.kind == KIND_GAUSSIANS and c.block == block]
        assert [payload for payload, cut in made.seen] == expected
        assert not any(cut for _, cut in made.seen)


def test_looking_at_part_of_a_chunk_does_not_disturb_its_decoding(remembering):
    decoder = Decoder()
    for at in range(0, len(DATA), 3):
        decoder.feed(DATA[at : at + 3])
        if decoder.header is not None:
            decoder.gaussians(partial=True)
    assert_same(decoder.gaussians(), FILE.gaussians)
    looks = [made for made in remembering if any(cut for _, cut in made.seen)]
    assert looks
    for made in looks:  # the levels below first, then the part of this one
        assert [cut for _, cut in made.seen] == [False] * (len(made.seen) - 1) + [True]
    assert max(len(made.seen) for made in looks) == 3


# -- errors


def test_after_an_error_nothing_can_be_fed_but_what_was_whole_stays():
    target = FILE.chunks[7]
    altered = bytearray(DATA)
    altered[target.offset] ^= 1
    decoder = Decoder(name="x")
    decoder.feed(altered[: target.end - 1])
    assert_same(decoder.gaussians(), prefix(7))
    for _ in range(2):
        with pytest.raises(ChecksumError, match=r"^x: chunk 7: CRC-32C: expected"):
            decoder.feed(altered[target.end - 1 : target.end])
    assert_same(decoder.gaussians(), prefix(7))
    with pytest.raises(ChecksumError):
        decoder.finish()
    assert decoder.received == target.end


def test_an_error_comes_with_its_byte():
    decoder = Decoder(name="x")
    decoder.feed(b"\x89GS")
    with pytest.raises(FormatError, match="signature"):
        decoder.feed(b"J")
    with pytest.raises(FormatError, match="signature"):
        decoder.gaussians()
    decoder = Decoder(name="x")
    decoder.feed(DATA)
    decoder.feed(b"")
    with pytest.raises(FormatError, match=f"end: expected a file of {len(DATA):,} bytes, found {len(DATA) + 1:,} or"):
        decoder.feed(b"\0")


@pytest.mark.parametrize("strict", [False, True])
def test_finish(strict):
    level_0 = max(c.end for c in FILE.chunks if c.kind == KIND_GAUSSIANS and c.level == 0)
    for end, refused in ((5, True), (HEAD - 1, True), (HEAD, True), (level_0 - 1, True), (level_0, strict)):
        decoder = Decoder(name="x")
        decoder.feed(DATA[:end])
        if refused:
            with pytest.raises(TruncatedError, match=f"^x: .*: expected .*, found the end at {end:,}$"):
                decoder.finish(strict=strict)
        else:
            (note,) = decoder.finish()
            assert note == (
                f"x: expected {len(DATA):,} bytes, found {end:,}: what there is was drawn; "
                "of its levels 0 to 2, those up to 0 are whole"
            )


# -- parts of a file


def test_a_selection_is_decoded_and_nothing_else(remembering):
    decoder = Decoder()
    decoder.feed(DATA[:HEAD])
    wanted = needed_chunks(decoder.head, region=(10, 10, 20, 20))
    decoder.select(wanted)
    decoder.feed(DATA[HEAD:])
    assert 0 < sum(len(made.seen) for made in remembering) == len(wanted) < len(FILE.chunks) / 2
    rows = np.concatenate(
        [np.arange(counts_before(k), counts_before(k + 1)) for k in range(len(FILE.chunks)) if k in wanted]
    )
    assert_same(decoder.gaussians(), FILE.gaussians.take(rows))
    with pytest.raises(
        ConfigError, match="select: expected to be asked between the head of a file and its first chunk"
    ):
        decoder.select([0])
    with pytest.raises(ConfigError, match="select"):
        Decoder().select([0])


def test_a_chunk_that_was_not_selected_is_yet_checked_when_it_is_fed():
    altered = bytearray(DATA)
    altered[FILE.chunks[3].offset] ^= 1
    decoder = Decoder()
    decoder.feed(altered[:HEAD])
    decoder.select([0])
    with pytest.raises(ChecksumError, match="chunk 3: CRC-32C"):
        decoder.feed(altered[HEAD:])


def test_what_was_not_selected_is_not_kept():
    big = bytes(4 << 20)
    grid = FILE.quantizer
    canvas = {"quantizer": grid, "height": 192, "width": 320, "background": np.zeros(3)}
    data = write_levels([Payload(b"", 0), Payload(big, 0, kind=9)], **canvas)
    decoder = Decoder()
    tracemalloc.start()
    try:
        for start in range(0, len(data), 1 << 14):
            decoder.feed(data[start : start + (1 << 14)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoder.complete
    assert peak < 400_000


def test_skipping():
    decoder = Decoder()
    with pytest.raises(ConfigError, match="skip: expected a chunk to come that was not selected"):
        decoder.skip()
    decoder.feed(DATA[:HEAD])
    assert not decoder.passable  # everything is wanted, what is unknown is checked
    decoder.select([1])
    assert decoder.passable
    decoder.skip()
    assert decoder.received == FILE.chunks[0].end
    with pytest.raises(ConfigError, match="skip"):
        decoder.skip()
    decoder.feed(DATA[FILE.chunks[1].offset : FILE.chunks[2].offset + 1])
    with pytest.raises(ConfigError, match="skip"):  # some of it came already
        decoder.skip()
    decoder.feed(DATA[decoder.received : FILE.chunks[2].end])
    while not decoder.complete:
        decoder.skip()
    assert decoder.finish(strict=True) == ()
    assert_same(decoder.gaussians(), FILE.gaussians.take(slice(counts_before(1), counts_before(2))))


@settings(max_examples=150, deadline=None)
@given(
    x=st.floats(-50, 350), y=st.floats(-50, 250), width=st.floats(0.1, 300), height=st.floats(0.1, 300),
    level=st.one_of(st.none(), st.integers(0, 3)), margin=st.floats(0, 20),
)  # fmt: skip
def test_chunks_that_are_needed(x, y, width, height, level, margin):
    decoder = Decoder()
    decoder.feed(DATA[:HEAD])
    needed = needed_chunks(decoder.head, level=level, region=(x, y, width, height), margin=margin)
    blocks = decoder.header.blocks
    for number, chunk in enumerate(FILE.chunks):
        if chunk.kind != KIND_GAUSSIANS or (level is not None and chunk.level > level):
            assert number not in needed
            continue
        left, top, w, h = blocks.box(chunk.block)
        grow = chunk.reach + margin
        apart = left - grow > x + width or left + w + grow < x or top - grow > y + height or top + h + grow < y
        if not apart:
            below = [k for k, c in enumerate(FILE.chunks) if c.block == chunk.block and c.level <= chunk.level]
            assert {k for k in below if FILE.chunks[k].kind == KIND_GAUSSIANS} <= needed
    assert len(needed_chunks(decoder.head)) == sum(chunk.kind == KIND_GAUSSIANS for chunk in FILE.chunks)


def test_a_chunk_below_one_that_reaches_further_is_needed_too():
    grid = FILE.quantizer
    part = FILE.gaussians.take(slice(0, 1))
    packed = packing.pack(stream_symbols(part), grid.bits)
    payloads = [Payload(packed, 1, 0, 0, reach=1), Payload(packed, 1, 0, 1), Payload(packed, 1, 1, 0, reach=100)]
    canvas = {"quantizer": grid, "height": 192, "width": 320, "background": np.zeros(3), "block_shift": 6}
    decoder = Decoder()
    decoder.feed(write_levels(payloads, **canvas))
    assert needed_chunks(decoder.head, region=(150, 10, 5, 5)) == {0, 2}
    assert needed_chunks(decoder.head, region=(150, 10, 5, 5), level=0) == set()
    assert needed_chunks(decoder.head, region=(129, 10, 5, 5), level=0, margin=1.5) == {1}


def stream_symbols(gaussians: Gaussians2D):
    from imagegs.codec import quantize

    return quantize(gaussians, FILE.quantizer)


def test_geometry_of_blocks():
    blocks = Blocks(320, 130, 6)
    assert (blocks.columns, blocks.rows, len(blocks)) == (5, 3, 15)
    assert blocks.box(14) == (256, 128, 64, 2)
    means = np.array([[0, 0], [63.9, 64], [64, 63.9], [-9, 500], [1e30, -1e30], [319.9, 129.9]])
    assert blocks.of(means).tolist() == [0, 5, 1, 10, 4, 14]
    assert Blocks(320, 130).box(0) == (0, 0, 320, 130)
    assert Blocks(320, 130).of(means).tolist() == [0] * 6
    covered = np.zeros((130, 320), int)
    for x, y, w, h in map(blocks.box, range(15)):
        covered[y : y + h, x : x + w] += 1
    assert (covered == 1).all()
    assert touches((10, 10, 5, 5), 0, (15, 15, 1, 1))
    assert not touches((10, 10, 5, 5), 0, (15.1, 15, 1, 1))
    assert touches((10, 10, 5, 5), 0.2, (15.1, 15, 1, 1))
    assert footprint(1) == footprint(0.5) == 0
    assert footprint(4) == pytest.approx(4 * 3.5 / 12**0.5)


# -- from a file


class Counting(io.BytesIO):
    """A file that counts the bytes read from it."""

    read_bytes = 0

    def read(self, size=-1):
        data = super().read(size)
        self.read_bytes += len(data)
        return data


@pytest.mark.parametrize("region", [(0, 0, 320, 192), (200, 100, 30, 30)])
def test_no_more_is_read_than_needed(region):
    file, decoder = Counting(DATA), Decoder()
    feed_head(file, decoder)
    assert file.read_bytes == HEAD
    needed = needed_chunks(decoder.head, region=region)
    decoder.select(needed)
    feed_chunks(file, decoder)
    assert decoder.finish(strict=True) == ()
    assert file.read_bytes == HEAD + sum(FILE.chunks[number].length for number in needed)
    assert len(decoder.gaussians()) == sum(FILE.chunks[number].count for number in needed)


def test_a_limit_ends_the_file_where_it_says():
    for limit in (5, HEAD - 1, HEAD, HEAD + 1, 2000, len(DATA) - 1, len(DATA), len(DATA) + 5):
        for level in (None, 0):
            file, decoder = Counting(DATA), Decoder()
            feed_head(file, decoder, limit)
            if decoder.head is not None:
                decoder.select(needed_chunks(decoder.head, level=level))
                feed_chunks(file, decoder, limit)
            assert decoder.received == min(limit, len(DATA))
            assert file.read_bytes <= decoder.received


def test_from_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(DATA,))
    writer.start()
    picture = decode(path, region=(200, 100, 30, 30))
    writer.join()
    np.testing.assert_array_equal(picture.pixels, decode(DATA, region=(200, 100, 30, 30)).pixels)


@needs_kernels
def test_a_region_of_a_file_on_the_disk_does_not_look_at_the_rest(tmp_path, monkeypatch):
    decoded = []
    inner = packing.FixedWidthDecoder.decode
    monkeypatch.setattr(
        packing.FixedWidthDecoder,
        "decode",
        lambda self, payload, count, **more: decoded.append(count) or inner(self, payload, count, **more),
    )
    decode(DATA)
    assert len(decoded) == sum(chunk.kind == KIND_GAUSSIANS for chunk in FILE.chunks)
    region = (230, 130, 40, 30)
    decoder = Decoder()
    decoder.feed(DATA[:HEAD])
    needed = needed_chunks(decoder.head, region=region)
    damaged = bytearray(DATA)
    for number, chunk in enumerate(FILE.chunks):
        if number not in needed:
            damaged[chunk.offset : chunk.end] = bytes(chunk.length)
    path = tmp_path / "damaged.gsimg"
    path.write_bytes(damaged)
    decoded.clear()
    picture = decode(path, region=region)
    assert len(decoded) == len(needed) < len(FILE.chunks) / 2
    np.testing.assert_array_equal(picture.pixels, np.clip(render(FILE.gaussians, 30, 40, region=region), 0, 1))
    with pytest.raises(ChecksumError):
        decode(path)


@needs_kernels
@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
@pytest.mark.parametrize("scale", [0.04, 0.25, 0.5, 1.0, 2.0])
def test_what_is_left_out_would_not_have_touched_the_region(scale, blend):
    gaussians = scattered().replace(blend=blend, top_k=3)
    data = write_file(gaussians, levels=LEVELS, block_shift=6, info=INFO)
    whole = parse(data).gaussians
    for region in ((0, 0, 64, 64), (64, 64, 128, 64), (128, 128, 192, 64), (56, 120, 16, 16), (300.5, 3.25, 10, 5)):
        part = decode(data, scale=scale, region=region).pixels
        np.testing.assert_array_equal(part, np.clip(render(whole, *part.shape[1:], region=region), 0, 1))
