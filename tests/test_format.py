from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec import (
    BitWidths,
    Payload,
    choose_grid,
    load,
    parse,
    quantize,
    read_file,
    round_background,
    round_to_grid,
    save,
    with_psnrs,
    write_file,
    write_levels,
)
from imagegs.codec.fields import Fields, read_varint, varint
from imagegs.codec.format import SIGNATURE
from imagegs.codec.packing import grid_to_bytes, pack
from imagegs.errors import ChecksumError, ConfigError, FormatError, ImageError, ShapeError, TruncatedError, VersionError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo, Plane

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden"
INFO = PictureInfo((Plane("", "L", 16),), exif=b"II*\0 exif")


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


def spread(n: int, channels: int = 2, **changes) -> Gaussians2D:
    """Gaussians all over a canvas of 200 x 130 pixels, and some beyond it."""
    k = np.arange(n, dtype=np.float64)
    return make(n, channels, **changes).replace(
        means=np.stack([(47.3 * k) % 230 - 15, (31.9 * k) % 150 - 10], axis=1),
        scales=np.stack([1 + (0.7 * k) % 6, 1 + (1.3 * k) % 9], axis=1),
        height=130,
        width=200,
    )


def assert_same_bits(one: Gaussians2D, other: Gaussians2D) -> None:
    for name in ("means", "scales", "rotations", "colors", "background"):
        np.testing.assert_array_equal(getattr(one, name).view(np.uint32), getattr(other, name).view(np.uint32), name)
    for name in ("height", "width", "blend"):
        assert getattr(one, name) == getattr(other, name)
    assert one.top_k == other.top_k or one.blend != "topk"


# -- files from their fields, written apart from the package, so that every field can be made wrong


def leb(value: int, *, longer: int = 0) -> bytes:
    """A varint; ``longer`` appends zeros in a form that the format forbids."""
    groups = [value >> 7 * k & 0x7F for k in range(max(1, -(-value.bit_length() // 7)))] + [0] * longer
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def header_bytes(
    *,
    width=12,
    height=8,
    channels=1,
    blend=0,
    top_k=b"",
    shift=0,
    background=None,
    quantizer=0,
    parameters=None,
    extra=b"",
) -> bytes:
    if parameters is None:
        parameters = grid_to_bytes(choose_grid(make(5, min(max(channels, 1), 32)), BitWidths()))
    if background is None:
        background = bytes(2 * channels)
    body = leb(width) + leb(height) + bytes([channels, blend]) + top_k + bytes([shift]) + background
    body += bytes([quantizer]) + leb(len(parameters)) + parameters + extra
    return leb(len(body)) + body


def entry_bytes(
    payload: bytes = b"",
    *,
    kind=1,
    coding=0,
    level=0,
    block=0,
    count=0,
    length=None,
    reach=0,
    psnr=0,
    crc=None,
    extra=b"",
) -> bytes:
    length = leb(len(payload)) if length is None else length
    crc = google_crc32c.value(payload) if crc is None else crc
    body = leb(kind) + bytes([coding]) + leb(level) + leb(block) + leb(count) + length + leb(reach)
    body += struct.pack("<HI", psnr, crc) + extra
    return leb(len(body)) + body


@dataclass
class Raw:
    """A file in pieces; ``bytes()`` puts them together with a right checksum."""

    header: bytes = field(default_factory=header_bytes)
    metadata: bytes = b""
    entries: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    major: int = 2
    minor: int = 0
    after_table: bytes = b""
    entry_count: bytes | None = None
    head_length: bytes | None = None

    def __bytes__(self) -> bytes:
        count = leb(len(self.entries)) if self.entry_count is None else self.entry_count
        body = self.header + leb(len(self.metadata)) + self.metadata + count + b"".join(self.entries) + self.after_table
        length = leb(len(body) + 4) if self.head_length is None else self.head_length
        head = SIGNATURE + bytes([self.major, self.minor]) + length + body
        return head + struct.pack("<I", google_crc32c.value(head)) + b"".join(self.payloads)


def packed(n: int, channels: int = 1) -> bytes:
    gaussians = make(n, channels)
    grid = choose_grid(make(5, channels), BitWidths())
    return pack(quantize(gaussians, grid), grid.bits)


THREE, PACKED = packed(3), 25
assert len(THREE) == PACKED


def two(first: dict | None = None, second: dict | None = None, **raw) -> bytes:
    """A file of two chunks with three Gaussians each; their entries with changes."""
    entries = [
        entry_bytes(THREE, **{"count": 3, **(first or {})}),
        entry_bytes(THREE, **{"count": 3, "level": 1, **(second or {})}),
    ]
    return bytes(Raw(entries=entries, payloads=[THREE, THREE], **raw))


UNKNOWN = b"a chunk of a kind to come"


def of_newer_minor() -> bytes:
    """A file as a later version 2.200 might write it: more fields everywhere, and an unknown kind."""
    payload = packed(5)
    entries = [
        entry_bytes(payload, count=5, extra=b"new"),
        entry_bytes(UNKNOWN, kind=9, coding=200, level=77, block=3, extra=b"new"),
    ]
    return bytes(
        Raw(
            header=header_bytes(extra=b"more"),
            entries=entries,
            payloads=[payload, UNKNOWN],
            minor=200,
            after_table=b"a section to come",
        )
    )


def assert_one_line(error: FormatError, name: str) -> None:
    text = str(error)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    assert "expected" in text or "metadata: picture info: " in text
    assert "found" in text or "metadata: picture info: " in text


# -- varints


@settings(max_examples=300, deadline=None)
@given(value=st.integers(0, 2**48 - 1), rest=st.binary(max_size=3))
def test_varints_are_those_of_the_specification_and_come_back(value, rest):
    data = varint(value)
    assert data == leb(value)
    assert read_varint(data + rest, 0, len(data + rest), bits=48, where="x") == (value, len(data))
    for end in range(len(data)):
        assert read_varint(data, 0, end, bits=48, where="x") is None
    if value < 2**32:
        assert read_varint(data, 0, len(data), where="x") == (value, len(data))
    else:
        with pytest.raises(FormatError, match=r"^x: expected a varint below 2\^32, found a larger one$"):
            read_varint(data, 0, len(data), where="x")


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=9), bits=st.sampled_from([32, 48]))
def test_any_bytes_are_one_varint_or_none(data, bits):
    try:
        found = read_varint(data, 0, len(data), bits=bits, where="x")
    except FormatError:
        return
    if found is None:
        assert len(data) < 7
        assert all(byte >= 0x80 for byte in data)
    else:
        value, end = found
        assert value < 2**bits
        assert varint(value) == data[:end]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**32 - 1])
@pytest.mark.parametrize("longer", [1, 2])
def test_longer_forms_are_refused(value, longer):
    data = leb(value, longer=longer)
    message = "found a larger one" if len(data) > 6 else "shortest form|found a larger one"
    with pytest.raises(FormatError, match=message):
        read_varint(data, 0, len(data), where="x")


def test_fields_stay_within_their_part():
    fields = Fields(b"\1\2\3\4\5\6", "place")
    part = fields.part("part", 3, "inner")
    assert (part.u8("a"), part.left, fields.left) == (1, 2, 3)
    with pytest.raises(FormatError, match=r"^inner: b: expected 4 bytes, found 2 up to its end$"):
        part.u32("b")
    with pytest.raises(FormatError, match=r"^inner: length: expected the end of its fields, found 2 more bytes$"):
        part.finish(newer=False)
    part.finish(newer=True)
    assert (part.left, fields.u16("c")) == (0, 0x0504)


# -- round trips


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
    assert (file.info, file.bits, file.version, file.size) == (info, bits, (2, 0), len(data))
    assert file.notes == ()
    assert write_file(file.gaussians, bits=bits, info=file.info) == data
    (chunk,) = file.chunks
    assert (chunk.kind, chunk.coding, chunk.level, chunk.block, chunk.count, chunk.psnr) == (1, 0, 0, 0, n, None)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    shift=st.sampled_from([0, 6, 7, 16]),
    channels=st.integers(1, 4),
    blend=st.sampled_from(["normalized", "topk", "sum"]),
)
def test_round_trip_of_levels_and_blocks(counts, shift, channels, blend):
    gaussians = spread(sum(counts), channels, blend=blend)
    file = parse(write_file(gaussians, levels=counts, block_shift=shift))
    whole = parse(write_file(gaussians))
    by_level = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    blocks = file.header.blocks
    of = blocks.of(whole.gaussians.means)
    order = np.concatenate([rows[np.argsort(of[rows], kind="stable")] for rows in by_level]).astype(int)
    assert_same_bits(file.gaussians, whole.gaussians.take(order))
    assert [sum(c.count for c in file.chunks if c.level == level) for level in range(len(counts))] == counts
    assert sum(file.sections.values()) == file.size
    start = 0
    for chunk in file.chunks:
        part = slice(start, start := start + chunk.count)
        assert (of[order[part]] == chunk.block).all()
        assert chunk.count > 0 or sum(c.level == chunk.level for c in file.chunks) == 1
    assert write_file(file.gaussians, grid=file.grid, levels=counts, block_shift=shift) == write_file(
        gaussians, levels=counts, block_shift=shift
    )


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
    table = 1 + 1 + 7 + 2 + 4
    assert file.sections["table"] == table
    # start 11, header 1 + 6 + 6, quantizer 1 + 1 + 52, length of the metadata 1, checksum 4
    assert file.sections == {
        "header": 11 + 1 + 11 + 54 + 1 + 4,
        "metadata": metadata,
        "table": table,
        "payload": payload,
    }
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"info": INFO}, "info: expected 3 channels as in the Gaussians, found 1"),
        ({"levels": [2, 2]}, r"levels: expected counts that add up to 5 Gaussians, found \[2, 2\]"),
        ({"levels": [6, -1]}, "levels: expected counts"),
        ({"levels": []}, "levels: expected counts"),
        ({"block_shift": 5}, "block_shift: expected 0 or 6 to 16, found 5"),
        ({"block_shift": 17}, "block_shift: expected 0 or 6 to 16, found 17"),
        ({"block_shift": -1}, "block_shift: expected 0 or 6 to 16, found -1"),
    ],
)
def test_what_cannot_be_written_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        write_file(make(5, 3), **options)


def test_the_background_is_stored_as_binary16():
    background = np.float32([0.1, -3e9, 1e-9, 70000])
    stored = round_background(background)
    np.testing.assert_array_equal(stored, np.float32([0.0999755859375, -65504, 0, 65504]))
    np.testing.assert_array_equal(round_background(stored), stored)
    file = parse(write_file(make(2, 4).replace(background=background)))
    np.testing.assert_array_equal(file.gaussians.background, stored)


def test_reach_covers_what_sticks_out():
    gaussians = spread(60)
    file = parse(write_file(gaussians, block_shift=6))
    start, beyond = 0, 0
    for chunk in file.chunks:
        x, y, width, height = file.header.blocks.box(chunk.block)
        part = file.gaussians.take(slice(start, start := start + chunk.count))
        for mean, scale, angle in zip(part.means, part.scales, part.rotations, strict=True):
            axes = 3.5 * scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            turns = np.linspace(0, 2 * np.pi, 200)
            edge = mean + np.stack([np.cos(turns), np.sin(turns)], axis=1) @ axes.T
            far = max(
                x - edge[:, 0].min(), edge[:, 0].max() - x - width, y - edge[:, 1].min(), edge[:, 1].max() - y - height
            )
            assert far <= chunk.reach
            beyond = max(beyond, far - chunk.reach + 2)
    assert beyond > 0  # and no further than that


# -- several chunks


def test_chunks_are_joined_in_the_order_of_the_table():
    gaussians = make(9, 2)
    grid = choose_grid(gaussians, BitWidths())
    cuts = [(0, slice(0, 2)), (1, slice(2, 2)), (2, slice(2, 7)), (3, slice(7, 9))]
    payloads = [
        Payload(pack(quantize(gaussians.take(part), grid), grid.bits), len(gaussians.take(part)), level)
        for level, part in cuts
    ]
    canvas = {"quantizer": grid, "height": 8, "width": 12, "background": gaussians.background}
    file = parse(write_levels(payloads, **canvas))
    assert_same_bits(file.gaussians, parse(write_file(gaussians)).gaussians)
    assert [(c.level, c.block, c.count) for c in file.chunks] == [(0, 0, 2), (1, 0, 0), (2, 0, 5), (3, 0, 2)]
    with pytest.raises(ConfigError, match=r"chunk 3: expected a level and block after 2, 0 .* found 1, 0"):
        write_levels([*payloads[:3], payloads[1]], **canvas)
    with pytest.raises(ConfigError, match=r"chunk 1: expected .* found 2, 0"):
        write_levels([payloads[0], payloads[2]], **canvas)
    with pytest.raises(ConfigError, match="table: expected a chunk of Gaussians of level 0, found none"):
        write_levels([], **canvas)


def test_unknown_kinds_are_skipped_and_yet_checked():
    extra = entry_bytes(UNKNOWN, kind=2**32 - 1, coding=9, level=7, block=12345, count=1000, reach=2**32 - 1)
    known = [entry_bytes(THREE, count=3), entry_bytes(THREE, count=3, level=1)]
    data = bytes(Raw(entries=[extra, known[0], extra, known[1]], payloads=[UNKNOWN, THREE, UNKNOWN, THREE]))
    file = parse(data)
    assert_same_bits(file.gaussians, parse(two()).gaussians)
    assert [chunk.kind for chunk in file.chunks] == [2**32 - 1, 1, 2**32 - 1, 1]
    for number, at in ((0, data.index(UNKNOWN)), (2, data.rindex(UNKNOWN))):
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises(ChecksumError, match=f"chunk {number}: CRC-32C"):
            parse(bytes(altered))


def test_qualities_of_prefixes_are_stored():
    gaussians = spread(40)
    data = write_file(gaussians, levels=[5] * 8, info=PictureInfo.of_channels(2))
    chunks = parse(data).chunks
    wanted = [None, 0.001, -3.0, 30.004, 30.006, float("inf"), float("nan"), 655.35]
    assert len(chunks) == len(wanted)
    found = parse(with_psnrs(data, wanted))
    assert [chunk.psnr for chunk in found.chunks] == [None, 0.01, 0.01, 30.0, 30.01, 655.35, None, 655.35]
    assert found.size == len(data)
    assert_same_bits(found.gaussians, parse(data).gaussians)
    assert with_psnrs(with_psnrs(data, wanted), [None] * len(chunks)) == data
    with pytest.raises(ConfigError, match="psnrs: expected 8, one for each chunk, found 1"):
        with_psnrs(data, [30.0])
    with pytest.raises(TruncatedError):
        with_psnrs(data[:50], [30.0])


# -- versions


def test_a_newer_minor_version_is_read():
    file = parse(of_newer_minor())
    assert file.version == (2, 200)
    assert [chunk.kind for chunk in file.chunks] == [1, 9]
    grid = choose_grid(make(), BitWidths())
    assert_same_bits(file.gaussians, round_to_grid(make(), grid).replace(background=np.zeros(1)))
    assert sum(file.sections.values()) == file.size


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"header": header_bytes(extra=b"more")}, "header: length: expected the end of its fields, found 4 more bytes"),
        ({"after_table": b"x"}, "head: length: expected the end of its fields, found 1 more bytes"),
        ({"first": {"extra": b"new"}}, "chunk 0: length: expected the end of its fields, found 3 more bytes"),
    ],
)
def test_what_a_newer_minor_version_may_do_a_known_one_may_not(raw, message):
    assert parse(two(minor=2, **raw)).version == (2, 2)
    assert parse(two(minor=255, **raw)).version == (2, 255)
    for minor in (0, 1):
        with pytest.raises(FormatError, match=message):
            parse(two(minor=minor, **raw))


@pytest.mark.parametrize(("major", "minor"), [(1, 0), (3, 0), (0, 9), (255, 3)])
def test_another_major_version_is_refused_naming_both(major, minor):
    message = re.escape(f"x.gsimg: version: expected 2.x, this program being made for 2.1, found {major}.{minor}")
    start = SIGNATURE + bytes([major, minor])
    for data in (start + b"anything", start):
        with pytest.raises(VersionError, match=message):
            parse(data, name="x.gsimg")


def test_a_file_of_version_1_is_refused():
    with pytest.raises(VersionError, match=r"expected 2\.x, this program being made for 2\.1, found 1\.0$"):
        parse(SIGNATURE + struct.pack("<2H4I2H", 1, 0, 136, 60, 0, 1, 40, 0) + bytes(120))


# -- fields out of range


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "width: expected 1 to 1,048,576, found 0"),
        ({"height": 0}, "height: expected 1 to 1,048,576, found 0"),
        ({"width": 2**32 - 1}, "width: expected 1 to 1,048,576, found 4,294,967,295"),
        ({"width": 2**32}, r"width: expected a varint below 2\^32, found a larger one"),
        ({"width": 2**20, "height": 257}, "canvas: expected at most 268,435,456 pixels"),
        ({"channels": 0}, "channels: expected 1 to 32, found 0"),
        ({"channels": 33}, "channels: expected 1 to 32, found 33"),
        ({"blend": 3}, "blend: expected 0 to 2, found 3"),
        ({"blend": 1, "top_k": b"\0"}, "top_k: expected 1 to 32, found 0"),
        ({"blend": 1, "top_k": b"\x21"}, "top_k: expected 1 to 32, found 33"),
        ({"shift": 5}, "block shift, where not 0: expected 6 to 16, found 5"),
        ({"shift": 17}, "block shift, where not 0: expected 6 to 16, found 17"),
        ({"background": b"\x00\x7c"}, r"background: expected finite numbers, found \[inf\]"),
        ({"background": b"\x01\xfe"}, r"background: expected finite numbers, found \[nan\]"),
        ({"background": b""}, "length: expected the end of its fields, found 25 more bytes"),
        ({"quantizer": 250}, "quantizer: expected .*, found 250"),
        ({"parameters": b""}, "quantizer's parameters: expected 36 bytes, found 0"),
        ({"parameters": bytes(37)}, "quantizer's parameters: expected 36 bytes, found 37"),
        ({"parameters": bytes(36)}, "bits of position: expected an integer from 4 to 32, found 0"),
    ],
)
def test_headers_that_are_wrong(fields, message):
    with pytest.raises(FormatError, match=f"^x.gsimg: header: {message}"):
        parse(two(header=header_bytes(**fields)), name="x.gsimg")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (3, b"\x21", "bits of color: expected an integer from 4 to 32, found 33"),
        (4, struct.pack("<f", np.nan), "position range 0: expected finite low <= high, found nan to 12.0"),
        (16, struct.pack("<f", -1), "position range 1: expected finite low <= high, found 0.0 to -1.0"),
        (20, struct.pack("<f", 0), "scale range: expected positive numbers, found 0.0 to 3.0"),
        (24, struct.pack("<f", np.inf), "scale range 0: expected finite low <= high"),
        (28, struct.pack("<f", -np.inf), "color range 0: expected finite low <= high, found -inf to|expected finite"),
        (32, struct.pack("<f", np.nan), "color range 0: expected finite low <= high"),
    ],
)
def test_parameters_that_are_wrong(at, value, message):
    parameters = bytearray(grid_to_bytes(choose_grid(make(), BitWidths())))
    parameters[at : at + len(value)] = value
    with pytest.raises(FormatError, match=f"^x.gsimg: header: {message}"):
        parse(two(header=header_bytes(parameters=bytes(parameters))), name="x.gsimg")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"kind": 0}, {}, "chunk 0: kind: expected a number from 1, found 0"),
        ({"kind": 2}, {}, "chunk 1: expected level 0, found 1, 0"),
        ({"kind": 2}, {"kind": 3}, "table: expected a chunk of Gaussians of level 0, found none"),
        ({"coding": 1}, {}, r"chunk 0: coding: expected 0 .fixed width., found 1"),
        ({"level": 1}, {}, "chunk 0: expected level 0, found 1, 0"),
        ({}, {"level": 0}, "chunk 1: expected a level and block after 0, 0 that leave out no level, found 0, 0"),
        ({}, {"level": 2}, "chunk 1: expected a level and block after 0, 0 that leave out no level, found 2, 0"),
        ({}, {"block": 1}, "chunk 1: block: expected one of 1, found 1"),
        ({"count": 4}, {}, f"chunk 0: length: expected 33 bytes for 4 Gaussians, found {PACKED}"),
        ({"count": 0}, {}, f"chunk 0: length: expected 0 bytes for 0 Gaussians, found {PACKED}"),
        ({}, {"count": 2**32 - 1}, f"chunk 1: count: expected at most 12,800 Gaussians in {PACKED} bytes, found 4,2"),
        ({"length": leb(PACKED - 1)}, {}, f"length: expected {PACKED} bytes for 3 Gaussians, found {PACKED - 1}"),
        ({"length": leb(PACKED, longer=1)}, {}, "chunk 0: length: expected a varint in its shortest form"),
        ({"length": leb(2**48)}, {}, r"chunk 0: length: expected a varint below 2\^48, found a larger one"),
        ({"count": 2**32}, {}, r"chunk 0: count: expected a varint below 2\^32, found a larger one"),
        ({}, {"crc": 0}, "chunk 1: CRC-32C: expected 00000000, found"),
        ({"kind": 5, "length": leb(0), "crc": 7}, {}, "chunk 1: expected level 0"),
    ],
)
def test_chunk_tables_that_are_wrong(first, second, message):
    assert len(parse(two()).gaussians) == 6
    with pytest.raises(FormatError, match=f"^x.gsimg: .*{message}"):
        parse(two(first, second), name="x.gsimg")


def test_a_chunk_without_bytes_has_the_checksum_of_none():
    assert parse(bytes(Raw(entries=[entry_bytes()]))).size > 0
    with pytest.raises(ChecksumError, match="chunk 0: CRC-32C: expected 00000007, found 00000000"):
        parse(bytes(Raw(entries=[entry_bytes(crc=7)])))


def test_files_beyond_the_largest_size_are_refused():
    huge = [entry_bytes(kind=2, length=leb(2**48 - 1)) for _ in range(33)]
    with pytest.raises(FormatError, match="chunk 32: expected an end of at most 9,007,199,254,740,991, found"):
        parse(bytes(Raw(entries=[entry_bytes(), *huge])))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"head_length": leb(3)}, "head: length: expected at least 4 bytes, found 3"),
        ({"head_length": leb(60, longer=1)}, "head length: expected a varint in its shortest form"),
        ({"head_length": leb(2**32)}, r"head length: expected a varint below 2\^32"),
        ({"entry_count": leb(3)}, "head: length of a table entry: expected a varint, found the end after 0 bytes"),
        ({"entry_count": leb(2**32 - 1)}, "head: length of a table entry: expected a varint, found the end"),
        ({"entry_count": leb(1)}, "head: length: expected the end of its fields, found 14 more bytes"),
        ({"header": leb(2**31)}, "head: header: expected 2,147,483,648 bytes, found"),
        ({"header": b"\x02\x0c\x08"}, "header: channels: expected 1 bytes, found 0 up to its end"),
        ({"metadata": b"\xff" + INFO.to_bytes()[1:]}, "metadata: picture info: flags"),
        (
            {"metadata": PictureInfo.of_channels(3).to_bytes()},
            "metadata: expected 1 channels as in the header, found 3",
        ),
    ],
)
def test_heads_that_are_wrong(raw, message):
    with pytest.raises(FormatError, match=f"^x.gsimg: {message}"):
        parse(two(**raw), name="x.gsimg")


def test_padding_in_a_file_is_checked():
    payload = THREE[:-1] + bytes([THREE[-1] | 1])
    with pytest.raises(FormatError, match=r"^x: chunk 0: payload: expected 5 zero bits at the end, found byte 0x"):
        parse(bytes(Raw(entries=[entry_bytes(payload, count=3)], payloads=[payload])), name="x")


def test_the_limit_of_pixels_is_the_callers():
    data = write_file(make())
    assert parse(data, max_pixels=96).gaussians.width == 12
    with pytest.raises(FormatError, match=r"canvas: expected at most 95 pixels \(max_pixels\), found 12 x 8"):
        parse(data, max_pixels=95)


def test_bytes_after_the_end_are_refused(tmp_path):
    data = write_file(make())
    message = f"end: expected a file of {len(data)} bytes, found {len(data) + 1} or more"
    with pytest.raises(FormatError, match=f"^x: {message}"):
        parse(data + b"\0", name="x")
    (tmp_path / "x.gsimg").write_bytes(data + b"\0")
    with pytest.raises(FormatError, match=message):
        read_file(tmp_path / "x.gsimg")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", TruncatedError, "start: expected at least 11 bytes, found the end at 0"),
        (SIGNATURE, TruncatedError, "start: expected at least 11 bytes, found the end at 8"),
        (SIGNATURE + b"\2\0\x80", TruncatedError, "start: expected at least 12 bytes, found the end at 11"),
        (SIGNATURE + b"\2\0\x14", TruncatedError, "head: expected 31 bytes, found the end at 11"),
        (b"\x89PNG\r\n\x1a\n and so on", FormatError, r"\(a .gsimg file\), found 89 50 4e 47 0d 0a 1a 0a$"),
        (SIGNATURE.replace(b"\r\n", b"\n") + bytes(40), FormatError, "as after a transfer in text mode$"),
        (bytes([9]) + SIGNATURE[1:] + bytes(40), FormatError, "as after a transfer in text mode$"),
    ],
)
def test_starts(data, error, message):
    with pytest.raises(error, match=message):
        parse(data)


# -- the disk


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
    canvas = {"quantizer": choose_grid(gaussians, BitWidths()), "height": 8, "width": 12, "background": np.zeros(1)}
    for payload, message in (
        (Payload(b"x", 2**32), "count: expected at most 4,294,967,295, found 4,294,967,296"),
        (Payload(b"x", 1, reach=2**32), "reach: expected at most 4,294,967,295, found 4,294,967,296"),
        (Payload(b"x", 513), "count: expected at most 512 Gaussians in 1 bytes, found 513"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_levels([payload], **canvas)


# -- golden files

GOLDEN_FILES = {
    "grey": lambda: write_file(make(3), bits=BitWidths(10, 6, 6, 5)),
    "empty": lambda: write_file(make(0, 3), info=PictureInfo.of_channels(3)),
    "topk_rgba": lambda: write_file(make(7, 4, blend="topk", top_k=4), info=PictureInfo.of_channels(4)),
    "stack_wide": lambda: write_file(
        make(6, 6, blend="sum"), bits=BitWidths(32, 31, 32, 29), info=PictureInfo.of_channels(6)
    ),
    "levels": lambda: with_psnrs(write_file(make(6, 2), levels=[2, 3, 1]), [17.25, 20.5, None]),
    "blocks": lambda: write_file(spread(24), bits=BitWidths(10, 6, 6, 5), levels=[8, 16], block_shift=6),
    "pages": lambda: write_file(spread(24), bits=BitWidths(10, 6, 6, 5), levels=[8, 16], block_shift=6, page_entries=4),
    "newer_minor": of_newer_minor,
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
