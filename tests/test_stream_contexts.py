"""Whole files with quantizer 1 and its range coder: in pieces, cut, altered, and with claims that are not true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from imagegs.codec import Blocks, Decoder, GsimgFile, Payload, parse, reach, split_blocks, write_file, write_levels
from imagegs.codec.fields import varint
from imagegs.codec.format import SIGNATURE
from imagegs.decoding import decode
from imagegs.errors import FormatError, TruncatedError
from imagegs.gaussians import Gaussians2D
from imagegs.kernels import native
from imagegs.rendering import render

if not native.available():
    pytest.skip("the compiled kernels are not built", allow_module_level=True)

from imagegs.codec.entropy import BlockEncoder, place
from imagegs.codec.lattice import Lattice, LatticeSymbols, dequantize_lattice, quantize_colors, quantize_shape

COUNTS = [50, 100, 150]


def scattered(n: int = 300) -> Gaussians2D:
    random = np.random.default_rng(3)
    return Gaussians2D(
        means=random.uniform((0, 0), (200, 150), (n, 2)),
        scales=random.uniform(1.5, 7, (n, 2)),
        rotations=random.uniform(0, np.pi, n),
        colors=random.uniform(0, 1, (n, 3)),
        height=150,
        width=200,
        background=np.full(3, 0.5),
    )


def encoded(gaussians: Gaussians2D, counts: list[int], shift: int) -> bytes:
    """A file of quantizer 1, level by level and block by block."""
    lattice = Lattice.of(0.5, gaussians.channels, (0,))
    blocks = Blocks(gaussians.width, gaussians.height, shift)
    canvas = {"height": gaussians.height, "width": gaussians.width, "background": gaussians.background}
    encoders: dict[int, BlockEncoder] = {}
    payloads, start = [], 0
    for level, count in enumerate(counts):
        of_level = gaussians.take(slice(start, start := start + count))
        for block, rows in split_blocks(of_level.means, blocks):
            part, box = of_level.take(rows), blocks.box(block)
            shape = place(quantize_shape(part.scales, part.rotations, lattice), part.means, lattice, box)
            symbols = LatticeSymbols(shape, quantize_colors(part.colors, shape[:, 0], lattice))
            data, found = encoders.setdefault(block, BlockEncoder(lattice, box)).encode(symbols)
            far = reach(dequantize_lattice(found, lattice, **canvas), box)
            payloads.append(Payload(data, len(rows), level, block, far))
    return write_levels(payloads, quantizer=lattice, **canvas, block_shift=shift)


DATA = {shift: encoded(scattered(), COUNTS, shift) for shift in (0, 6)}
both = pytest.mark.parametrize("data", DATA.values(), ids=["one block", "blocks"])


def rows_of(gaussians: Gaussians2D) -> list[tuple[float, ...]]:
    columns = [gaussians.means, gaussians.scales, gaussians.rotations[:, None], gaussians.colors]
    return [tuple(row) for row in np.concatenate(columns, axis=1).tolist()]


def count_before(file: GsimgFile, end: int) -> int:
    return sum(chunk.count for chunk in file.chunks if chunk.end <= end)


@both
def test_a_file_decodes_to_what_was_coded(data):
    file = parse(data)
    assert (file.header.quantizer, file.bits, file.grid) == (1, None, None)
    assert {chunk.coding for chunk in file.chunks} == {1}
    assert [sum(c.count for c in file.chunks if c.level == level) for level in range(3)] == COUNTS
    assert np.abs(decode(data).pixels - decode(write_file(scattered())).pixels).mean() < 0.02
    assert len(data) < 0.75 * len(write_file(scattered(), levels=COUNTS, block_shift=file.header.block_shift))
    bits = sum(file.attribute_bits.values())
    payload = 8 * sum(chunk.length for chunk in file.chunks)
    assert payload - 32 * len(file.chunks) < bits < payload + 1
    assert sum(file.bits_per_gaussian.values()) == pytest.approx(bits / 300)


@both
def test_byte_by_byte_is_the_same_as_at_once(data):
    file, decoder = parse(data), Decoder()
    for at in range(len(data)):
        decoder.feed(data[at : at + 1])
        if at % 50 == 0 and decoder.header is not None:
            decoder.gaussians(partial=True)
            whole = decoder.gaussians()
            assert rows_of(whole) == rows_of(file.gaussians)[: len(whole)]
    assert decoder.finish(strict=True) == ()
    assert rows_of(decoder.gaussians()) == rows_of(file.gaussians)


@both
def test_cut_at_every_byte(data):
    file = parse(data)
    rows, floor = rows_of(file.gaussians), max(chunk.end for chunk in file.chunks if chunk.level == 0)
    known, more = set(rows), 0
    for length in range(len(data)):
        if length < floor:
            with pytest.raises(TruncatedError):
                parse(data[:length], strict=False)
            continue
        cut = parse(data[:length], strict=False)
        assert len(cut.notes) == 1
        found, whole = rows_of(cut.gaussians), count_before(file, length)
        assert found[:whole] == rows[:whole]
        assert len(found) <= count_before(file, min(chunk.end for chunk in file.chunks if chunk.end > length))
        # of the rest, all but the one at which the bytes ran out are Gaussians of the file
        assert len(set(found[whole:]) - known) <= 1
        more += len(found) > whole
    assert more > len(data) / 5


@both
def test_flipped_bits_are_noticed(data):
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(FormatError):
            parse(altered, strict=False)


@both
def test_altered_and_cut(data):
    """Without a checksum that could tell, a picture comes out or a FormatError."""
    random, file = np.random.default_rng(1), parse(data)
    floor, kept = max(chunk.end for chunk in file.chunks if chunk.level == 0), 0
    for _ in range(300):
        length = int(random.integers(floor + 1, len(data)))
        altered = bytearray(data[:length])
        altered[-int(random.integers(1, min(60, length - floor) + 1))] ^= 1 << int(random.integers(8))
        try:
            gaussians = parse(bytes(altered), strict=False).gaussians
        except FormatError:
            continue
        kept += 1
        assert np.isfinite(gaussians.means).all()
    assert kept > 20


def test_payloads_of_noise_with_a_right_checksum():
    random, kept, messages = np.random.default_rng(2), 0, []
    file = parse(DATA[6])
    canvas = {"height": 150, "width": 200, "background": np.zeros(3), "block_shift": 6}
    for _ in range(300):
        noise = random.integers(0, 256, int(random.integers(1, 200)), dtype=np.uint8).tobytes()
        count = int(random.choice([1, 2, 10, 8 * len(noise), 512 * len(noise)]))
        first = DATA[6][file.chunks[0].offset : file.chunks[0].end]
        payloads = [Payload(first, file.chunks[0].count), Payload(noise, count, level=1)]
        data = write_levels(payloads, quantizer=file.quantizer, **canvas)
        try:
            found = parse(data, name="noise.gsimg")
        except FormatError as error:
            messages.append(str(error))
        else:
            kept += 1
            assert len(found.gaussians) == file.chunks[0].count + count
            assert np.isfinite(found.gaussians.means).all()
    assert 0 < kept < 300
    assert all(message.startswith("noise.gsimg: chunk 1: ") for message in messages)


def test_regions():
    whole = parse(DATA[6]).gaussians
    for scale in (0.25, 1.0):
        for region in ((0, 0, 64, 64), (64, 64, 128, 64), (20, 100, 8, 8)):
            part = decode(DATA[6], scale=scale, region=region).pixels
            np.testing.assert_array_equal(part, np.clip(render(whole, *part.shape[1:], region=region), 0, 1))


def huge_claim() -> bytes:
    """A file whose second level says that it has 4 thousand million Gaussians, and has a few bytes."""
    file = parse(DATA[0])
    first = file.chunks[0]
    payload = DATA[0][first.offset : first.end]
    background = file.header.background.astype("<f2").tobytes()
    parameters = file.header.parameters
    header = varint(200) + varint(150) + bytes([3, 0, 0]) + background + b"\1" + varint(len(parameters)) + parameters
    entries = b""
    for level, count, length, found in (
        (0, first.count, first.length, payload),
        (1, 2**32 - 1 - first.count, 2**47, b""),
    ):
        entry = b"\1\1" + varint(level) + b"\0" + varint(count) + varint(length) + b"\0" + bytes(2)
        entry += google_crc32c.value(found).to_bytes(4, "little")
        entries += varint(len(entry)) + entry
    body = varint(len(header)) + header + b"\0\2" + entries
    head = SIGNATURE + b"\2\0" + varint(len(body) + 4) + body
    return head + google_crc32c.value(head).to_bytes(4, "little") + payload + bytes(range(1, 200))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is that of Linux")
def test_a_claim_takes_no_memory(tmp_path: Path):
    path = tmp_path / "claim.gsimg"
    path.write_bytes(huge_claim())
    code = (
        "import re, resource, sys, imagegs.codec.entropy\n"
        "from imagegs.codec import read_file\n"
        "used = 1024 * int(re.search(r'VmSize:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "try:\n"
        "    print(len(read_file(sys.argv[1], strict=False).gaussians) < 2000)\n"
        "except imagegs.FormatError:\n"
        "    print(True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
