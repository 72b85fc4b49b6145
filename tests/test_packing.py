from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec.packing import (
    FixedWidthDecoder,
    concatenate,
    grid_from_bytes,
    grid_to_bytes,
    pack,
    packed_length,
    unpack,
)
from imagegs.codec.quantization import BitWidths, Grid, Symbols
from imagegs.errors import FormatError, ShapeError

NAMES = ("positions", "scales", "rotations", "colors")


def make(n: int, channels: int, bits: BitWidths, seed: int = 0) -> Symbols:
    rng = np.random.default_rng(seed)

    def draw(width: int, *shape: int) -> np.ndarray:
        return rng.integers(0, 1 << width, shape, dtype=np.uint64).astype(np.uint32)

    return Symbols(
        draw(bits.position, n, 2), draw(bits.scale, n, 2), draw(bits.rotation, n), draw(bits.color, n, channels)
    )


def assert_same(one: Symbols, other: Symbols) -> None:
    for name in NAMES:
        assert getattr(one, name).dtype == np.uint32
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def by_hand(symbols: Symbols, bits: BitWidths) -> bytes:
    """Section 7 of docs/format.md with a string of zeros and ones."""
    text = ""
    for row in range(len(symbols)):
        values = [*symbols.positions[row], *symbols.scales[row], symbols.rotations[row], *symbols.colors[row]]
        for value, width in zip(values, bits.record(symbols.channels), strict=True):
            text += format(int(value), f"0{width}b")
    text += "0" * (-len(text) % 8)
    return bytes(int(text[k : k + 8], 2) for k in range(0, len(text), 8))


widths = st.integers(4, 32)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 40),
    channels=st.integers(1, 32),
    bits=st.builds(BitWidths, widths, widths, widths, widths),
    seed=st.integers(0, 2**32),
)
def test_bytes_are_those_of_the_specification_and_come_back(n, channels, bits, seed):
    symbols = make(n, channels, bits, seed)
    data = pack(symbols, bits)
    assert data == by_hand(symbols, bits)
    assert len(data) == packed_length(n, channels, bits)
    assert_same(unpack(data, n, channels, bits), symbols)


@pytest.mark.parametrize("width", range(4, 33))
def test_largest_symbols_of_every_width(width):
    bits = BitWidths(width, width, width, width)
    top = (1 << width) - 1
    symbols = Symbols(
        np.full((5, 2), top, np.uint32),
        np.zeros((5, 2), np.uint32),
        np.full(5, top, np.uint32),
        np.zeros((5, 3), np.uint32),
    )
    assert_same(unpack(pack(symbols, bits), 5, 3, bits), symbols)


@pytest.mark.parametrize("channels", [1, 32])
def test_more_gaussians_than_one_block_in_bounded_memory(channels):
    bits = BitWidths(14, 9, 11, 5)  # a record is no whole number of bytes
    n = 100_003 if channels == 1 else 20_003
    symbols = make(n, channels, bits)
    tracemalloc.start()
    try:
        data = pack(symbols, bits)
        back = unpack(data, n, channels, bits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_same(back, symbols)
    assert (
        data[: 8 * packed_length(1, channels, bits)]
        == by_hand(Symbols(*(getattr(symbols, name)[:100] for name in NAMES)), bits)[
            : 8 * packed_length(1, channels, bits)
        ]
    )
    # the symbols twice (as columns and apart), the payload twice (in parts and joined), and blocks of fixed size
    assert peak < 2 * 4 * n * (5 + channels) + 2 * len(data) + (40 << 20)


@pytest.mark.parametrize("name", NAMES)
def test_symbols_that_do_not_fit_are_refused(name):
    bits = BitWidths(8, 8, 8, 8)
    symbols = make(4, 3, bits)
    getattr(symbols, name)[-1] = 256
    with pytest.raises(ShapeError, match=f"{name}: expected symbols of 8 bits, found 256"):
        pack(symbols, bits)


@pytest.mark.parametrize("length", [0, 31, 33, 1000])
def test_a_wrong_length_is_refused(length):
    bits = BitWidths()
    assert packed_length(3, 3, bits) == 32
    with pytest.raises(FormatError, match=f"here: expected 32 bytes for 3 Gaussians, found {length:,}"):
        unpack(bytes(length), 3, 3, bits, where="here")


def test_a_huge_count_takes_no_memory():
    with pytest.raises(FormatError, match="expected 44,560,285,686 bytes for 4,294,967,295 Gaussians, found 3"):
        unpack(b"abc", 2**32 - 1, 3, BitWidths())


def test_padding_bits_must_be_zero():
    bits = BitWidths()
    data = pack(make(3, 3, bits), bits)
    assert unpack(data, 3, 3, bits).channels == 3
    for bit in range(8 * 32 - 3 * 83):
        altered = data[:-1] + bytes([data[-1] | 1 << bit])
        with pytest.raises(FormatError, match="payload: expected 7 zero bits at the end, found byte 0x"):
            unpack(altered, 3, 3, bits)


def make_grid(channels: int, bits: BitWidths) -> Grid:
    position, scale = np.array([[-3, 0], [64.5, 48]]), np.array([0.25, 19])
    return Grid(bits, position, scale, np.stack([np.arange(channels) - 1.5, np.arange(channels) + 0.1]))


@pytest.mark.parametrize("channels", [1, 3, 32])
def test_parameters_come_back(channels):
    grid = make_grid(channels, BitWidths(4, 32, 17, 5))
    data = grid_to_bytes(grid)
    assert len(data) == 28 + 8 * channels
    assert data[:8] == bytes([4, 32, 17, 5]) + np.float32(-3).tobytes()
    back = grid_from_bytes(data, channels)
    assert back.bits == grid.bits
    for name in ("position", "scale", "color"):
        np.testing.assert_array_equal(getattr(back, name), getattr(grid, name))
    for wrong in (data[:-1], data + b"\0", b""):
        message = f"quantizer's parameters: expected {28 + 8 * channels} bytes, found {len(wrong)}"
        with pytest.raises(FormatError, match=message):
            grid_from_bytes(wrong, channels)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    channels=st.integers(1, 4),
    bits=st.builds(BitWidths, widths, widths, widths, widths),
    seed=st.integers(0, 2**32),
)
def test_a_cut_payload_yields_its_whole_records(n, channels, bits, seed):
    symbols = make(n, channels, bits, seed)
    data, record = pack(symbols, bits), sum(bits.record(channels))
    decoder = FixedWidthDecoder(make_grid(channels, bits))
    for length in range(len(data) + 1):
        found = decoder.decode(data[:length], n, cut=True)
        count = 8 * length // record
        assert len(found) == min(count, n)
        assert_same(found, Symbols(*(getattr(symbols, name)[:count] for name in NAMES)))
    with pytest.raises(FormatError, match=f"found {len(data) - 1}"):
        decoder.decode(data[:-1], n)


def test_bits_are_counted_by_attribute():
    bits = BitWidths(14, 9, 10, 8)
    decoder = FixedWidthDecoder(make_grid(3, bits))
    for n in (5, 2):
        decoder.decode(pack(make(n, 3, bits), bits), n)
    assert decoder.bits == [
        {"position": 140, "scale": 90, "rotation": 50, "color": 120},
        {"position": 56, "scale": 36, "rotation": 20, "color": 48},
    ]


def test_parts_are_joined():
    bits = BitWidths()
    parts = [make(n, 2, bits, seed=n) for n in (3, 0, 4)]
    joined = concatenate(parts, 2)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(joined, name), np.concatenate([getattr(part, name) for part in parts]))
    assert (len(concatenate([], 5)), concatenate([], 5).channels) == (0, 5)
