from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec import BitWidths, choose_grid, load, parse, quantize, read_file, round_to_grid, save, write_file
from imagegs.codec.format import SIGNATURE, Header, Payload, write_container
from imagegs.codec.packing import pack
from imagegs.errors import ChecksumError, ConfigError, FormatError, ImageError, ShapeError, TruncatedError, VersionError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo, Plane

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden"
HEADER, RANGES = 32, 32 + 24


def make(n: int = 5, channels: int = 1, **changes) -> Gaussians2D:
    """Gaussians from plain arithmetic, so that golden files depend on no generator of random numbers."""
    k = np.arange(n, dtype=np.float64)
    return Gaussians2D(
        means=np.stack([0.7 * k + 0.25, 8 - 1.1 * k], axis=1),
        scales=np.stack([1 + 0.5 * k, 3 / (1 + k)], axis=1),
        rotations=0.9 * k - 0.4,
        colors=(0.1 * k[:, None] + 0.07 * np.arange(channels)) % 1,
        height=8,
        width=12,
        background=np.arange(channels) / 64,
        **changes,
    )


def assert_same_bits(one: Gaussians2D, other: Gaussians2D) -> None:
    for name in ("means", "scales", "rotations", "colors", "background"):
        np.testing.assert_array_equal(getattr(one, name).view(np.uint32), getattr(other, name).view(np.uint32), name)
    for name in ("height", "width", "blend", "top_k"):
        assert getattr(one, name) == getattr(other, name)


def sealed(data: bytes, changes: dict[int, bytes] | None = None) -> bytes:
    """The file with bytes replaced at some offsets and the checksum of its head made right again."""
    altered = bytearray(data)
    for at, value in (changes or {}).items():
        altered[at : at + len(value)] = value
    end = struct.unpack_from("<I", altered, 12)[0] - 4
    altered[end : end + 4] = struct.pack("<I", google_crc32c.value(bytes(altered[:end])))
    return bytes(altered)


def table_at(data: bytes) -> int:
    header_length, metadata_length = struct.unpack_from("<2I", data, 16)
    return HEADER + header_length + metadata_length


def in_chunks(gaussians: Gaussians2D, cuts: list[tuple[int, int, slice]], extra: tuple[Payload, ...] = ()) -> bytes:
    """A file with a chunk for each (level, block, Gaussians), after ``extra`` ones."""
    grid = choose_grid(gaussians, BitWidths())
    header = Header(gaussians.height, gaussians.width, gaussians.blend, gaussians.top_k, gaussians.background, grid)
    payloads = [
        Payload(pack(quantize(gaussians.take(which), grid), grid.bits), len(gaussians.take(which)), level, block)
        for level, block, which in cuts
    ]
    return write_container(header, b"", [*extra, *payloads])


def of_newer_minor(data: bytes, *, appended: int = 8) -> bytes:
    """The file as a later version 1.1 might write it: longer header and entries, a used reserve, an unknown kind."""
    header_length, metadata_length, chunk_count = struct.unpack_from("<3I", data, 16)
    head_length = struct.unpack_from("<I", data, 12)[0]
    table = table_at(data)
    rest = data[head_length:]
    new_length = head_length + appended + chunk_count * appended + 40 + appended
    entries = b""
    for number in range(chunk_count):
        entry = bytearray(data[table + 40 * number : table + 40 * number + 40])
        entry[3], entry[6], entry[36] = 1, 2, 3
        entry[16:24] = struct.pack("<Q", struct.unpack_from("<Q", entry, 16)[0] + new_length - head_length)
        entries += bytes(entry) + b"E" * appended
    unknown = b"a chunk of a kind to come"
    place = (new_length + len(rest), len(unknown), google_crc32c.value(unknown), 0)
    entries += struct.pack("<HBBHHIIQQII", 9, 200, 0, 0, 0, 0, 77, *place) + b"E" * appended
    lengths = struct.pack(
        "<4I2H", new_length, header_length + appended, metadata_length, chunk_count + 1, 40 + appended, 5
    )
    header = bytearray(data[HEADER : HEADER + header_length])
    header[20] = 1
    metadata = data[table - metadata_length : table]
    head = data[:8] + struct.pack("<2H", 1, 1) + lengths + header + b"H" * appended + metadata + entries
    return sealed(head + bytes(4) + rest + unknown)


INFO = PictureInfo((Plane("", "L", 16),), exif=b"II*\0 exif")


@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
@pytest.mark.parametrize("channels", [1, 3, 32])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_round_trip(n, channels, blend):
    gaussians = make(n, channels, blend=blend, top_k=31)
    bits = BitWidths(11, 7, 8, 6)
    info = PictureInfo.of_channels(channels)
    data = write_file(gaussians, bits=bits, info=info)
    file = parse(data)
    assert_same_bits(file.gaussians, round_to_grid(gaussians, choose_grid(gaussians, bits)))
    assert (file.info, file.bits, file.version, file.size) == (info, bits, (1, 0), len(data))
    assert write_file(file.gaussians, bits=bits, info=file.info) == data
    (chunk,) = file.chunks
    assert (chunk.kind, chunk.coding, chunk.level, chunk.block, chunk.count) == (1, 0, 0, 0, n)


def test_metadata_comes_back_and_may_be_absent():
    assert parse(write_file(make(), info=INFO)).info == INFO
    assert parse(write_file(make())).info is None


def test_where_the_bytes_go():
    gaussians = make(5, 3)
    info = PictureInfo.of_channels(3)
    data = write_file(gaussians, bits=BitWidths(14, 9, 10, 9), info=info)
    file = parse(data)
    payload = (5 * 83 + 7) // 8
    metadata = len(info.to_bytes())
    assert file.sections == {"header": 32 + 48 + 36 + 4, "metadata": metadata, "table": 40, "payload": payload}
    assert sum(file.sections.values()) == file.size == len(data)
    assert file.bpp == 8 * len(data) / (8 * 12)
    assert file.bits_per_gaussian == {"position": 28, "scale": 18, "rotation": 10, "color": 27}


def test_a_grid_may_be_given():
    gaussians = make()
    grid = choose_grid(make(8), BitWidths(20, 20, 20, 20))
    file = parse(write_file(gaussians, grid=grid))
    assert file.bits == grid.bits
    np.testing.assert_array_equal(file.grid.color, grid.color)
    assert_same_bits(file.gaussians, round_to_grid(gaussians, grid))
    with pytest.raises(ConfigError, match="bits: expected those of the grid"):
        write_file(gaussians, grid=grid, bits=BitWidths())
    with pytest.raises(ShapeError, match="expected the grid's 1 channels, found 3"):
        write_file(make(5, 3), grid=grid)


def test_metadata_of_other_channels_is_refused():
    with pytest.raises(ConfigError, match="info: expected 3 channels as in the Gaussians, found 1"):
        write_file(make(5, 3), info=INFO)


def test_chunks_are_joined_in_the_order_of_the_table():
    gaussians = make(9, 2)
    cuts = [(0, 0, slice(0, 2)), (0, 3, slice(2, 2)), (1, 0, slice(2, 7)), (1, 2, slice(7, 9))]
    file = parse(in_chunks(gaussians, cuts))
    assert_same_bits(file.gaussians, parse(write_file(gaussians)).gaussians)
    assert [(c.level, c.block, c.count) for c in file.chunks] == [(0, 0, 2), (0, 3, 0), (1, 0, 5), (1, 2, 2)]
    assert len(parse(in_chunks(gaussians, [])).gaussians) == 0


def test_unknown_kinds_are_skipped_and_yet_checked():
    gaussians = make()
    extra = Payload(b"something", 1000, level=7, kind=65535, coding=9)
    data = in_chunks(gaussians, [(0, 0, slice(None))], (extra,))
    file = parse(data)
    assert_same_bits(file.gaussians, parse(write_file(gaussians)).gaussians)
    assert [chunk.kind for chunk in file.chunks] == [65535, 1]
    with pytest.raises(ChecksumError, match="chunk 0: CRC-32C"):
        parse(data.replace(b"something", b"somewhere"))


def test_a_newer_minor_version_is_read():
    data = write_file(make(), info=INFO)
    file = parse(of_newer_minor(data))
    assert file.version == (1, 1)
    assert file.info == INFO
    assert [chunk.kind for chunk in file.chunks] == [1, 9]
    assert_same_bits(file.gaussians, parse(data).gaussians)
    assert sum(file.sections.values()) == file.size


def test_what_a_newer_minor_version_may_do_version_0_may_not():
    newer = of_newer_minor(write_file(make()), appended=0)
    assert parse(newer).version == (1, 1)
    with pytest.raises(FormatError, match="preamble: reserve: expected zeros, found 5"):
        parse(sealed(newer, {10: b"\0"}))
    newer = of_newer_minor(write_file(make()), appended=8)
    with pytest.raises(FormatError, match="table entry: length: expected 40 bytes, found 48"):
        parse(sealed(newer, {10: b"\0"}))


@pytest.mark.parametrize(("major", "minor"), [(2, 0), (0, 9), (65535, 3)])
def test_another_major_version_is_refused_naming_both(major, minor):
    data = write_file(make())
    for altered in (
        data[:8] + struct.pack("<2H", major, minor) + b"anything",
        data[:8] + struct.pack("<2H", major, minor),
    ):
        message = re.escape(f"x.gsimg: version: expected 1.x, this program being made for 1.0, found {major}.{minor}")
        with pytest.raises(VersionError, match=message):
            parse(altered, name="x.gsimg")


def assert_one_line(error: FormatError, name: str) -> None:
    text = str(error)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    assert "expected" in text or "metadata: picture info: " in text
    assert "found" in text or "metadata: picture info: " in text


@pytest.mark.parametrize(
    "make_data", [lambda: write_file(make(), info=INFO), lambda: of_newer_minor(write_file(make()))]
)
def test_truncated_at_every_byte(make_data):
    data = make_data()
    for length in range(len(data)):
        with pytest.raises(TruncatedError) as caught:
            parse(data[:length], name="cut.gsimg")
        assert_one_line(caught.value, "cut.gsimg")


@pytest.mark.parametrize(
    "make_data", [lambda: write_file(make(), info=INFO), lambda: of_newer_minor(write_file(make()))]
)
def test_altered_at_every_byte(make_data):
    data = make_data()
    rng = np.random.default_rng(0)
    for at in range(len(data)):
        for flip in (0xFF, 1 << int(rng.integers(8)), int(rng.integers(1, 256))):
            altered = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            with pytest.raises(FormatError) as caught:
                parse(altered, name="bad.gsimg")
            assert_one_line(caught.value, "bad.gsimg")
            if at >= struct.unpack_from("<I", data, 12)[0]:
                assert isinstance(caught.value, ChecksumError)


def test_altered_where_the_checksum_was_made_right_again():
    """Whatever a field says, nothing but a FormatError comes out, or a file that is as it says."""
    data = write_file(make(), info=INFO)
    head_length = struct.unpack_from("<I", data, 12)[0]
    refused = 0
    for at in [*range(8), *range(16, head_length - 4)]:
        for flip in (0xFF, 0x80, 0x01):
            altered = sealed(data, {at: bytes([data[at] ^ flip])})
            try:
                file = parse(altered, name="bad.gsimg")
            except FormatError as error:
                assert_one_line(error, "bad.gsimg")
                refused += 1
            else:
                assert np.isfinite(file.gaussians.means).all()
                assert file.size == len(altered)
    assert refused > 300


def test_bytes_after_the_end_are_refused():
    data = write_file(make())
    with pytest.raises(FormatError, match=f"x: end: expected a file of {len(data)} bytes, found {len(data) + 1}"):
        parse(data + b"\0", name="x")


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def f32(value: float) -> bytes:
    return struct.pack("<f", value)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (HEADER, u32(0), "header: width: expected 1 to 1,048,576, found 0"),
        (HEADER + 4, u32(0), "header: height: expected 1 to 1,048,576, found 0"),
        (HEADER, u32(2**32 - 1), "header: width: expected 1 to 1,048,576, found 4,294,967,295"),
        (HEADER, u32(2**20) + u32(257), "header: canvas: expected at most 268,435,456 pixels"),
        (HEADER + 8, u32(4), "header: count: expected 5 Gaussians as in the chunks, found 4"),
        (HEADER + 8, u32(2**32 - 1), "header: count: expected 5 Gaussians as in the chunks, found 4,294,967,295"),
        (HEADER + 12, b"\0", "header: channels: expected 1 to 32, found 0"),
        (HEADER + 12, b"\x21", "header: channels: expected 1 to 32, found 33"),
        (HEADER + 12, b"\x02", "header: length: expected 72 bytes, found 60"),
        (HEADER + 13, b"\x03", "header: blend: expected 0 to 2, found 3"),
        (HEADER + 14, b"\0", "header: top_k: expected 1 to 32, found 0"),
        (HEADER + 15, b"\x01", "header: quantizer: expected 0, found 1"),
        (HEADER + 16, b"\x03", "header: bits of position: expected an integer from 4 to 32, found 3"),
        (HEADER + 19, b"\x21", "header: bits of color: expected an integer from 4 to 32, found 33"),
        (HEADER + 22, b"\x01", "header: reserve: expected zeros"),
        (RANGES, f32(np.nan), "header: position range 0: expected finite low <= high, found nan to 12.0"),
        (RANGES + 12, f32(-1), "header: position range 1: expected finite low <= high, found 0.0 to -1.0"),
        (RANGES + 16, f32(0), "header: scale range: expected positive numbers, found 0.0 to 3.0"),
        (RANGES + 20, f32(np.inf), "header: scale range 0: expected finite low <= high"),
        (RANGES + 24, f32(np.nan), r"header: background: expected finite numbers, found \[nan\]"),
        (RANGES + 28, f32(-np.inf), "header: color range 0: expected finite low <= high, found -inf to"),
        (30, u16(1), "preamble: reserve: expected zeros, found 1"),
        (28, u16(39), "head length: expected 135 bytes by its parts, found 136"),
        (24, u32(2**32 - 1), "head length: expected 171,798,691,896 bytes by its parts, found 136"),
        (16, u32(2**32 - 1), "head length: expected 4,294,967,371 bytes by its parts, found 136"),
    ],
)  # fmt: skip
def test_fields_out_of_range(at, value, message):
    data = write_file(make())
    with pytest.raises(FormatError, match=f"^x.gsimg: {message}"):
        parse(sealed(data, {at: value}), name="x.gsimg")


TWO = in_chunks(make(6), [(0, 0, slice(0, 3)), (0, 1, slice(3, 6))])
PACKED = 25  # bytes of three Gaussians of one channel with the default widths
END = len(TWO)
HEAD = END - 2 * PACKED


@pytest.mark.parametrize(
    ("chunk", "at", "value", "error", "message"),
    [
        (0, 0, u16(0), FormatError, "kind: expected a number from 1, found 0"),
        (0, 0, u16(2), FormatError, "header: count: expected 3 Gaussians as in the chunks, found 6"),
        (0, 2, b"\x01", FormatError, r"coding: expected 0 \(fixed width\), found 1"),
        (0, 3, b"\x01", FormatError, "reserve: expected zeros, found 1"),
        (0, 4, u16(1), FormatError, "chunk 1: expected a level and block after 1, 0, found 0, 1"),
        (1, 8, u32(0), FormatError, "expected a level and block after 0, 0, found 0, 0"),
        (0, 12, u32(4), FormatError, f"length: expected 33 bytes for 4 Gaussians, found {PACKED}"),
        (1, 12, u32(2**32 - 1), FormatError, "length: expected 34,896,609,272 bytes for 4,294,967,295 Gaussians"),
        (0, 16, u32(HEAD - 1), FormatError, f"offset: expected {HEAD}, the end of what precedes"),
        (1, 16, u32(HEAD), FormatError, f"offset: expected {END - PACKED}, the end of what precedes"),
        (1, 16, u32(END - PACKED + 1), FormatError, f"offset: expected {END - PACKED}, the end of what precedes"),
        (1, 16, b"\xff" * 8, FormatError, f"offset: expected {END - PACKED}, .* found 18,446,744,073,709,551,615"),
        (0, 24, u32(PACKED - 1), FormatError, f"length: expected {PACKED} bytes for 3 Gaussians, found {PACKED - 1}"),
        (1, 24, u32(PACKED + 1), TruncatedError, f"expected {PACKED + 1} bytes .* found a file of {END}"),
        (1, 24, b"\xff" * 8, TruncatedError, "expected 18,446,744,073,709,551,615 bytes from"),
        (1, 32, u32(0), ChecksumError, "CRC-32C: expected 00000000, found"),
        (1, 36, u32(1), FormatError, "reserve: expected zeros, found 1"),
    ],
)  # fmt: skip
def test_chunk_tables_that_are_wrong(chunk, at, value, error, message):
    assert len(parse(TWO).gaussians) == 6
    altered = sealed(TWO, {table_at(TWO) + 40 * chunk + at: value})
    with pytest.raises(error, match=f"^x.gsimg: .*{message}"):
        parse(altered, name="x.gsimg")


def test_padding_in_a_file_is_checked():
    data = write_file(make(), info=INFO)
    altered = data[:-1] + bytes([data[-1] | 1])
    at = table_at(data) + 32
    checksum = google_crc32c.value(altered[struct.unpack_from("<I", data, 12)[0] :])
    with pytest.raises(FormatError, match=r"^x: chunk 0: expected 3 zero bits at the end, found byte 0x"):
        parse(sealed(altered, {at: u32(checksum)}), name="x")


def test_metadata_that_is_wrong():
    data = write_file(make(), info=INFO)
    at = HEADER + 60
    with pytest.raises(FormatError, match=r"^x: metadata: picture info: flags"):
        parse(sealed(data, {at: b"\xff"}), name="x")
    with pytest.raises(FormatError, match=r"^x: metadata: expected 1 channels as in the header, found 3"):
        parse(sealed(data, {at + 2: b"\x02"}), name="x")


def test_the_limit_of_pixels_is_the_callers():
    data = write_file(make())
    assert parse(data, max_pixels=96).gaussians.width == 12
    with pytest.raises(FormatError, match=r"canvas: expected at most 95 pixels \(max_pixels\), found 12 x 8"):
        parse(data, max_pixels=95)


def test_claims_take_no_memory():
    data = write_file(make())
    table = table_at(data)
    claims = (
        {12: u32(2**32 - 1)},
        {24: u32(2**32 - 1)},
        {20: u32(2**32 - 1)},
        {HEADER + 8: u32(2**32 - 1), table + 12: u32(2**32 - 1)},
        {table + 24: b"\xff" * 8},
    )
    for changes in claims:
        altered = bytearray(data)
        for at, value in changes.items():
            altered[at : at + len(value)] = value
        altered = altered if 12 in changes else bytearray(sealed(bytes(altered)))
        tracemalloc.start()
        try:
            with pytest.raises(FormatError):
                parse(bytes(altered))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 200_000


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from([b"", SIGNATURE[:5], SIGNATURE, SIGNATURE + u16(1) + u16(0)]), rest=st.binary(max_size=300)
)
def test_random_bytes(start, rest):
    with pytest.raises(FormatError) as caught:
        parse(start + rest, name="noise.gsimg")
    assert_one_line(caught.value, "noise.gsimg")


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    header=st.binary(min_size=0, max_size=120),
    metadata=st.binary(max_size=30),
    table=st.binary(max_size=100),
    rest=st.binary(max_size=60),
)
def test_random_parts_with_right_lengths_and_checksum(data, header, metadata, table, rest):
    """Past the checksums, where an attacker gets without effort."""
    count = len(table) // 40
    table = table[: 40 * count]
    if len(header) >= 24 and data.draw(st.booleans()):
        good = write_file(make())
        header = good[HEADER : HEADER + 60][: data.draw(st.integers(0, 60))] + header
    head_length = 32 + len(header) + len(metadata) + len(table) + 4
    minor = data.draw(st.integers(0, 1))
    preamble = SIGNATURE + struct.pack("<2H4I2H", 1, minor, head_length, len(header), len(metadata), count, 40, 0)
    file = sealed(preamble + header + metadata + table + bytes(4) + rest)
    try:
        parsed = parse(file, name="noise.gsimg")
    except FormatError as error:
        assert_one_line(error, "noise.gsimg")
    else:
        assert parsed.size == len(file)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", TruncatedError, "signature and version: expected 12 bytes, found a file of 0 bytes"),
        (SIGNATURE, TruncatedError, "signature and version: expected 12 bytes, found a file of 8 bytes"),
        (b"\x89PNG\r\n\x1a\n and so on", FormatError, r"\(a .gsimg file\), found 89 50 4e 47 0d 0a 1a 0a$"),
        (SIGNATURE.replace(b"\r\n", b"\n") + bytes(40), FormatError, "as after a transfer in text mode$"),
        (bytes([9]) + SIGNATURE[1:] + bytes(40), FormatError, "as after a transfer in text mode$"),
    ],
)
def test_signatures(data, error, message):
    with pytest.raises(error, match=message):
        parse(data)


def test_save_and_load(tmp_path):
    path = tmp_path / "x.gsimg"
    gaussians = make(6, 3)
    bits = BitWidths(16, 12, 12, 10)
    written = save(path, gaussians, bits=bits, info=PictureInfo.of_channels(3))
    assert path.stat().st_size == written
    assert_same_bits(load(path), round_to_grid(gaussians, choose_grid(gaussians, bits)))
    assert read_file(str(path)).bits == bits
    before = path.read_bytes()
    save(path, load(path), bits=bits, info=PictureInfo.of_channels(3))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.gsimg"]
    with pytest.raises(FormatError, match="max_pixels"):
        load(path, max_pixels=10)


def test_files_that_cannot_be_read_or_written(tmp_path):
    missing = tmp_path / "none.gsimg"
    with pytest.raises(ImageError, match=f"^{re.escape(str(missing))}: cannot be read: no such file or directory$"):
        load(missing)
    with pytest.raises(ImageError, match="cannot be read: is a directory"):
        load(tmp_path)
    with pytest.raises(ImageError, match="null character"):
        load("a\0b")
    with pytest.raises(ImageError, match="does not exist"):
        save(tmp_path / "folder" / "x.gsimg", make())
    (tmp_path / "text.gsimg").write_text("some text")
    with pytest.raises(FormatError, match=r"text.gsimg: signature: expected 89 47 53 49 0d 0a 1a 0a"):
        load(tmp_path / "text.gsimg")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.gsimg"
    save(path, make(3, 3))
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        save(path, make(5, 3), info=INFO)
    assert path.read_bytes() == before


def test_more_than_a_field_holds_is_refused():
    gaussians = make()
    grid = choose_grid(gaussians, BitWidths())
    header = Header(8, 12, "sum", 1, gaussians.background, grid)
    with pytest.raises(ConfigError, match="gaussians: expected at most 4,294,967,295, found 4,294,967,296"):
        write_container(header, b"", [Payload(b"", 2**31), Payload(b"", 2**31, block=1)])


GOLDEN_FILES = {
    "grey": lambda: write_file(make(3), bits=BitWidths(10, 6, 6, 5)),
    "empty": lambda: write_file(make(0, 3), info=PictureInfo.of_channels(3)),
    "topk_rgba": lambda: write_file(make(7, 4, blend="topk", top_k=4), info=PictureInfo.of_channels(4)),
    "stack_wide": lambda: write_file(
        make(6, 6, blend="sum"), bits=BitWidths(32, 31, 32, 29), info=PictureInfo.of_channels(6)
    ),
    "chunks": lambda: in_chunks(make(6, 2), [(0, 0, slice(0, 2)), (1, 0, slice(2, 5)), (1, 1, slice(5, 6))]),
    "newer_minor": lambda: of_newer_minor(write_file(make())),
}


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_files(name):
    """Files written once stay readable, with the same values, and are still written the same."""
    path, values_path = GOLDEN / f"{name}.gsimg", GOLDEN / f"{name}.json"
    data = GOLDEN_FILES[name]()
    if os.environ.get("GENERATE_EXPECTED") == "1":
        GOLDEN.mkdir(exist_ok=True)
        path.write_bytes(data)
        decoded = parse(data).gaussians
        values = {
            key: getattr(decoded, key).tolist() for key in ("means", "scales", "rotations", "colors", "background")
        }
        values |= {key: getattr(decoded, key) for key in ("height", "width", "blend", "top_k")}
        values_path.write_text(json.dumps(values, indent=1) + "\n")
    assert path.read_bytes() == data
    decoded = parse(path.read_bytes()).gaussians
    expected = json.loads(values_path.read_text())
    for key, value in expected.items():
        found = getattr(decoded, key)
        if key == "scales":
            np.testing.assert_allclose(found, np.reshape(value, (-1, 2)), rtol=2.4e-7)
        elif isinstance(found, np.ndarray):
            np.testing.assert_array_equal(found, np.reshape(np.array(value, np.float32), found.shape), key)
        else:
            assert found == value


def test_the_example_of_the_specification_is_a_golden_file():
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?){1,16})", text, re.MULTILINE)
    data = b"".join(bytes.fromhex(row) for _, row in rows)
    assert [int(at, 16) for at, _ in rows] == list(range(0, len(data), 16))
    assert data == (GOLDEN / "grey.gsimg").read_bytes()


def test_the_codec_starts_without_torch(tmp_path):
    code = (
        "import sys, imagegs.codec as codec\n"
        "codec.save(sys.argv[2], codec.load(sys.argv[1]))\n"
        "print(sorted({'torch', 'scipy', 'matplotlib'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(GOLDEN / "grey.gsimg"), str(tmp_path / "again.gsimg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
