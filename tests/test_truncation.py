"""Files that were cut or altered, at every byte: a picture with one note where it is promised, else a clean error."""

from __future__ import annotations

import re
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec import BitWidths, Decoder, Payload, parse, with_psnrs, write_file, write_levels
from imagegs.codec.fields import varint
from imagegs.codec.format import SIGNATURE
from imagegs.codec.table import KIND_GAUSSIANS
from imagegs.decoding import decode
from imagegs.errors import ChecksumError, ConfigError, FormatError, TruncatedError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo, Plane

INFO = PictureInfo((Plane("", "RGB", 8),), exif=b"II*\0 exif")


def scattered(n: int, channels: int = 3) -> Gaussians2D:
    random = np.random.default_rng(n)
    return Gaussians2D(
        means=random.uniform((0, 0), (150, 90), (n, 2)),
        scales=random.uniform(2, 12, (n, 2)),
        rotations=random.uniform(0, np.pi, n),
        colors=random.uniform(0, 1, (n, channels)),
        height=90,
        width=150,
        background=np.full(channels, 0.5),
    )


def make_many() -> bytes:
    """Three levels, six blocks, qualities, metadata, and two chunks of a kind that is not known."""
    data = write_file(scattered(40), bits=BitWidths(11, 7, 7, 6), levels=[8, 12, 20], block_shift=6, info=INFO)
    file = parse(data)
    data = with_psnrs(data, [20 + 0.5 * number for number in range(len(file.chunks))])
    payloads = []
    for number, chunk in enumerate(parse(data).chunks):
        payload = data[chunk.offset : chunk.end]
        payloads.append(Payload(payload, chunk.count, chunk.level, chunk.block, chunk.reach, chunk.psnr))
        if number in (2, len(file.chunks) - 1):
            payloads.append(Payload(b"of another kind", 9, 3, 3, kind=12345))
    header = file.header
    return write_levels(
        payloads,
        quantizer=file.quantizer,
        height=header.height,
        width=header.width,
        background=header.background,
        block_shift=header.block_shift,
        info=INFO,
    )


MANY = make_many()
ONE = write_file(scattered(5), info=INFO)


def end_of_level_0(data: bytes) -> int:
    return max(c.end for c in parse(data).chunks if c.kind == KIND_GAUSSIANS and c.level == 0)


def assert_one_line(error: Exception, name: str) -> None:
    text = str(error)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    assert "metadata: picture info: " in text or ("expected" in text and "found" in text)


# -- cut


@pytest.mark.parametrize("data", [ONE, MANY], ids=["one chunk", "many chunks"])
def test_cut_at_every_byte_and_strict(data):
    for length in range(len(data)):
        with pytest.raises(TruncatedError) as caught:
            parse(data[:length], name="cut.gsimg")
        assert_one_line(caught.value, "cut.gsimg")
        assert re.search(rf"found the end at {length:,}$", str(caught.value))


@pytest.mark.parametrize("data", [ONE, MANY], ids=["one chunk", "many chunks"])
def test_cut_at_every_byte(data):
    whole, floor = parse(data), end_of_level_0(data)
    kept = 0
    for length in range(len(data)):
        if length < floor:
            with pytest.raises(TruncatedError) as caught:
                parse(data[:length], name="cut.gsimg", strict=False)
            assert_one_line(caught.value, "cut.gsimg")
            continue
        file = parse(data[:length], name="cut.gsimg", strict=False)
        assert len(file.notes) == 1
        assert_one_line(Exception(file.notes[0]), "cut.gsimg")
        assert file.info == INFO
        assert file.size == sum(file.sections.values()) == length
        assert len(file.gaussians) >= max(kept, sum(c.count for c in file.chunks if c.end <= length and c.kind == 1))
        kept = len(file.gaussians)
        for name in ("means", "scales", "rotations", "colors"):
            np.testing.assert_array_equal(getattr(file.gaussians, name), getattr(whole.gaussians, name)[:kept])
    if data is MANY:
        assert kept == len(whole.gaussians) == 40  # all that is missing at the end is of another kind


def test_pictures_of_cut_files():
    whole, floor = decode(MANY), end_of_level_0(MANY)
    assert whole.notes == ()
    for length in [*range(floor - 2, floor + 30), *range(floor + 30, len(MANY), 7), len(MANY) - 1]:
        if length < floor:
            with pytest.raises(TruncatedError):
                decode(MANY[:length])
            continue
        picture = decode(MANY[:length])
        assert picture.pixels.shape == (3, 90, 150)
        assert np.isfinite(picture.pixels).all()
        assert len(picture.notes) == 1
        with pytest.raises(TruncatedError):
            decode(MANY[:length], strict=True)
    np.testing.assert_array_equal(picture.pixels, whole.pixels)


def test_a_limit_of_bytes_draws_what_a_cut_file_draws(tmp_path):
    path = tmp_path / "many.gsimg"
    path.write_bytes(MANY)
    floor = end_of_level_0(MANY)
    for length in (floor, floor + 11, len(MANY) - 40, len(MANY), len(MANY) + 1):
        cut = decode(MANY[:length]).pixels
        for source in (MANY, path):
            picture = decode(source, max_bytes=length, strict=True)  # the file is whole, and the limit was asked for
            np.testing.assert_array_equal(picture.pixels, cut)
            assert picture.notes == ()
    (tmp_path / "cut.gsimg").write_bytes(MANY[:-30])
    assert len(decode(tmp_path / "cut.gsimg", max_bytes=len(MANY)).notes) == 1
    with pytest.raises(TruncatedError, match=f"found the end at {floor - 1}$"):
        decode(path, max_bytes=floor - 1)


def test_a_level_needs_no_more_than_its_bytes(tmp_path):
    chunks = parse(MANY).chunks
    for level in (0, 1):
        end = max(c.end for c in chunks if c.kind == KIND_GAUSSIANS and c.level == level)
        count = sum(c.count for c in chunks if c.kind == KIND_GAUSSIANS and c.level <= level)
        expected = write_file(parse(MANY).gaussians.take(slice(0, count)), grid=parse(MANY).grid)
        path = tmp_path / "cut.gsimg"
        path.write_bytes(MANY[:end])
        for source in (MANY, path):
            np.testing.assert_array_equal(decode(source, level=level).pixels, decode(expected).pixels)
        with pytest.raises(TruncatedError):
            decode(path, level=level, strict=True)
    np.testing.assert_array_equal(decode(MANY, level=9).pixels, decode(MANY).pixels)


def test_no_note_where_all_that_was_asked_for_is_there():
    """Only a chunk of an unknown kind, or of Gaussians that were asked for, is missed."""
    last = max(c.end for c in parse(MANY).chunks if c.kind == KIND_GAUSSIANS and c.level < 2)
    data = write_file(scattered(40), levels=[8, 12, 20], block_shift=6)
    chunks = parse(data).chunks
    end = max(c.end for c in chunks if c.level == 1)
    assert decode(data[:end], level=1).notes == ()
    assert decode(data[: end + 3], level=1).notes == ()
    assert len(decode(data[: end - 1], level=1).notes) == 1
    assert len(decode(data[:end], level=2).notes) == 1
    assert len(decode(MANY[:last], level=1).notes) == 1


# -- altered


@pytest.mark.parametrize("data", [ONE, MANY], ids=["one chunk", "many chunks"])
def test_every_flipped_bit_is_noticed(data):
    chunks = parse(data).chunks
    for at in range(len(data)):
        for bit in range(8):
            altered = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(FormatError) as caught:
                parse(altered, name="bad.gsimg", strict=False)
            assert_one_line(caught.value, "bad.gsimg")
            if at >= chunks[0].offset:
                assert isinstance(caught.value, ChecksumError)


def test_altered_and_cut():
    """What the checksum of a cut chunk would have told cannot be known, and yet nothing else comes out."""
    random, kept = np.random.default_rng(0), 0
    for _ in range(3000):
        altered = bytearray(MANY[: random.integers(1, len(MANY))])
        for at in random.integers(0, len(altered), random.integers(1, 4)):
            altered[at] ^= 1 << int(random.integers(8))
        try:
            file = parse(bytes(altered), name="bad.gsimg", strict=False)
        except FormatError as error:
            assert_one_line(error, "bad.gsimg")
        else:
            kept += 1
            assert np.isfinite(file.gaussians.means).all()
            assert len(file.gaussians) <= 40
    assert kept > 10


def head_of(data: bytes) -> bytes:
    return data[: parse(data).chunks[0].offset]


def resealed(data: bytes, at: int, value: int) -> bytes:
    """A file with a byte of its head replaced and the checksum of the head made right again."""
    head = bytearray(head_of(data))
    head[at] = value
    head[-4:] = google_crc32c.value(bytes(head[:-4])).to_bytes(4, "little")
    return bytes(head) + data[len(head) :]


@pytest.mark.parametrize("data", [ONE, MANY], ids=["one chunk", "many chunks"])
def test_altered_where_the_checksum_was_made_right_again(data):
    """Whatever a field says, nothing but a FormatError comes out, or a file that is as it says."""
    refused = 0
    for at in range(len(head_of(data)) - 4):
        for flip in (0xFF, 0x80, 0x40, 0x03, 0x01):
            altered = resealed(data, at, data[at] ^ flip)
            try:
                file = parse(altered, name="bad.gsimg")
            except FormatError as error:
                assert_one_line(error, "bad.gsimg")
                refused += 1
            else:
                assert np.isfinite(file.gaussians.means).all()
                assert file.size == len(altered)
    assert refused > len(head_of(data))


@settings(max_examples=400, deadline=None)
@given(
    start=st.sampled_from([b"", SIGNATURE[:5], SIGNATURE, SIGNATURE + b"\2\0", SIGNATURE + b"\2\1\x10"]),
    rest=st.binary(max_size=300),
)
def test_random_bytes(start, rest):
    with pytest.raises(FormatError) as caught:
        parse(start + rest, name="noise.gsimg", strict=False)
    assert_one_line(caught.value, "noise.gsimg")


NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([127, 128, 2**16, 2**31, 2**32 - 1, 2**48 - 1]))


@settings(max_examples=500, deadline=None)
@given(data=st.data(), minor=st.integers(0, 1), rest=st.binary(max_size=80))
def test_random_heads_with_right_lengths_and_checksum(data, minor, rest):
    """Past the checksums, where an attacker gets without effort."""
    file = parse(ONE)
    entries = []
    for _ in range(data.draw(st.integers(0, 3))):
        kind, level, block, count, length, reach = (data.draw(NUMBERS) for _ in range(6))
        body = varint(kind) + data.draw(st.sampled_from([b"\0", b"\1"])) + varint(level) + varint(block) + varint(count)
        payload = rest[: min(length, len(rest))]
        body += varint(length) + varint(reach) + bytes(2) + google_crc32c.value(payload).to_bytes(4, "little")
        body += data.draw(st.binary(max_size=2))
        entries.append(varint(len(body)) + body)
    header = ONE[12 : len(head_of(ONE)) - 4 - len(INFO.to_bytes()) - file.sections["table"] - 1]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(header) - 1))
        header = header[:at] + data.draw(st.binary(max_size=4)) + header[at + 1 :]
    body = varint(len(header)) + header + varint(0) + varint(len(entries)) + b"".join(entries)
    head = SIGNATURE + bytes([2, minor]) + varint(len(body) + 4) + body
    noise = head + google_crc32c.value(head).to_bytes(4, "little") + rest
    tracemalloc.start()
    try:
        found = parse(noise, name="noise.gsimg", strict=False, max_pixels=1 << 24)
    except FormatError as error:
        assert_one_line(error, "noise.gsimg")
    else:
        assert found.size <= len(noise)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000


# -- claims that take no memory


def claims() -> dict[str, bytes]:
    """Files of a few hundred bytes that say they are huge."""
    file = parse(ONE)
    grid = file.quantizer

    def head(*, width=150, height=90, table: bytes) -> bytes:
        parameters = ONE[ONE.index(bytes([14, 9, 10, 9])) :][:52]
        header = varint(width) + varint(height) + bytes([3, 0, 6]) + bytes(6) + b"\0" + varint(52) + parameters
        body = varint(len(header)) + header + varint(0) + table
        start = SIGNATURE + b"\2\0" + varint(len(body) + 4) + body
        return start + google_crc32c.value(start).to_bytes(4, "little")

    def entry(count: int, length: int, level: int = 0, block: int = 0, kind: int = 1) -> bytes:
        body = varint(kind) + b"\0" + varint(level) + varint(block) + varint(count) + varint(length) + varint(0)
        body += bytes(6)
        return varint(len(body)) + body

    assert grid is not None
    record = 2 * 14 + 2 * 9 + 10 + 27
    most = 2**32 - 1
    return {
        "head": SIGNATURE + b"\2\0" + varint(most) + bytes(100),
        "header": SIGNATURE + b"\2\0" + varint(200) + varint(most) + bytes(300),
        "entries": head(table=varint(most)),
        "entry": head(table=b"\1" + varint(most)),
        "count": head(table=b"\1" + entry(most, 100)),
        "payload": head(table=b"\1" + entry(most, (most * record + 7) // 8)) + bytes(100),
        "another kind": head(table=b"\2" + entry(0, 0) + entry(0, 2**48 - 1, kind=2)) + bytes(100),
        "blocks": head(table=b"\2" + entry(0, 0) + entry(0, 0, block=most)),
        "levels": head(table=b"\2" + entry(0, 0) + entry(0, 0, level=most)),
        "canvas": head(width=2**20, height=2**20, table=b"\1" + entry(0, 0)),
    }


@pytest.mark.parametrize("name", claims())
def test_claims_take_no_memory(name, tmp_path):
    data = claims()[name]
    path = tmp_path / "claim.gsimg"
    path.write_bytes(data)
    for read in (lambda: parse(data), lambda: decode(path, strict=True), lambda: decode(data, level=0, strict=True)):
        with pytest.raises((FormatError, ConfigError)):
            read()  # once, so that what is loaded on first use does not count
        tracemalloc.start()
        try:
            with pytest.raises((FormatError, ConfigError)):
                read()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < (1 << 20) + 200_000  # one piece of a file, and little else


def test_a_stream_takes_no_more_memory_than_came():
    data = claims()["payload"]
    decoder = Decoder()
    tracemalloc.start()
    try:
        for _ in range(20):
            decoder.feed(data if decoder.received == 0 else bytes(10_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not decoder.complete
    assert peak < 1_000_000


def test_metadata_that_inflates_without_end_is_refused():
    import zlib

    bomb = zlib.compress(bytes(200 << 20), 9)
    info = INFO.to_bytes()
    flags, planes = bytes([2]), info[1:5]
    metadata = flags + planes + len(bomb).to_bytes(4, "little") + bomb
    payload = Payload(b"", 0)
    plain = write_levels(
        [payload], quantizer=parse(ONE).quantizer, height=90, width=150, background=np.zeros(3, np.float32)
    )
    sections = parse(plain).sections
    start = sections["header"] - 5  # the length of the metadata, zero, stands before the table
    body = plain[11:start] + varint(len(metadata)) + metadata + plain[start + 1 : start + 1 + sections["table"]]
    head = SIGNATURE + b"\2\0" + varint(len(body) + 4) + body
    data = head + google_crc32c.value(head).to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="metadata: picture info: ICC"):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
