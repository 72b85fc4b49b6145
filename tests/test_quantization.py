from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec import BitWidths, Grid, Symbols, choose_grid, dequantize, quantize, round_to_grid
from imagegs.errors import ConfigError, ShapeError
from imagegs.gaussians import Gaussians2D

ARRAYS = ("means", "scales", "rotations", "colors")
SYMBOLS = ("positions", "scales", "rotations", "colors")


def make(
    n: int, channels: int = 3, seed: int = 0, height: int = 48, width: int = 64, spread: float = 1.0
) -> Gaussians2D:
    rng = np.random.default_rng(seed)
    return Gaussians2D(
        means=rng.normal(0.5, spread / 3, (n, 2)) * (width, height),
        scales=np.exp(rng.normal(0.5, spread, (n, 2))),
        rotations=rng.normal(0, 4, n),
        colors=rng.normal(0.5, spread, (n, channels)),
        height=height,
        width=width,
        background=rng.random(channels),
        blend="topk",
        top_k=7,
    )


def assert_same_bits(one: Gaussians2D, other: Gaussians2D) -> None:
    for name in (*ARRAYS, "background"):
        np.testing.assert_array_equal(getattr(one, name).view(np.uint32), getattr(other, name).view(np.uint32), name)
    for name in ("height", "width", "blend", "top_k"):
        assert getattr(one, name) == getattr(other, name)


def assert_same_symbols(one: Symbols, other: Symbols) -> None:
    for name in SYMBOLS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def all_widths(bits: int) -> BitWidths:
    return BitWidths(position=bits, scale=bits, rotation=bits, color=bits)


def angle_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance of two angles modulo half a turn."""
    gap = np.mod(one.astype(np.float64) - other.astype(np.float64), math.pi)
    return np.minimum(gap, math.pi - gap)


def test_widths_default_to_the_documented_ones():
    assert BitWidths() == BitWidths(position=14, scale=9, rotation=10, color=9)
    assert BitWidths(5, 6, 7, 8).record(2) == (5, 5, 6, 6, 7, 8, 8)


@pytest.mark.parametrize("name", ["position", "scale", "rotation", "color"])
@pytest.mark.parametrize("value", [3, 33, 0, -1, 8.0, True, "8", None])
def test_widths_outside_of_4_to_32_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"bits of {name}: expected an integer from 4 to 32, found"):
        BitWidths(**{name: value})


def test_grid_covers_the_canvas_and_the_data():
    gaussians = make(50).replace(means=np.linspace((-5, 3), (60, 70), 50))
    grid = choose_grid(gaussians, BitWidths())
    assert grid.position.tolist() == [[-5, 0], [64, 70]]
    assert grid.scale.tolist() == [gaussians.scales.min(), gaussians.scales.max()]
    np.testing.assert_array_equal(grid.color, [gaussians.colors.min(axis=0), gaussians.colors.max(axis=0)])
    assert grid.channels == 3


@pytest.mark.parametrize("bits", [4, 9, 14, 20])
def test_error_is_at_most_half_a_step(bits):
    gaussians = make(2000)
    grid = choose_grid(gaussians, all_widths(bits))
    rounded = round_to_grid(gaussians, grid)
    levels = 2**bits - 1
    slack = 1 + 1e-3  # rounding to float32
    steps = (grid.position[1] - grid.position[0]) / levels
    assert (np.abs(rounded.means - gaussians.means) <= steps / 2 * slack + 1e-5).all()
    step = math.log(grid.scale[1] / grid.scale[0]) / levels
    assert (np.abs(np.log(rounded.scales / gaussians.scales)) <= step / 2 * slack + 1e-6).all()
    assert (angle_between(rounded.rotations, gaussians.rotations) <= math.pi / 2**bits / 2 * slack + 1e-6).all()
    steps = (grid.color[1] - grid.color[0]) / levels
    assert (np.abs(rounded.colors - gaussians.colors) <= steps / 2 * slack + 1e-6).all()
    # and a step is really used: the error of a fine grid would not reach a quarter of it
    assert np.abs(rounded.colors - gaussians.colors).max() > steps.min() / 4


def test_32_bits_are_nearly_lossless():
    gaussians = make(3000)
    rounded = round_to_grid(gaussians, choose_grid(gaussians, all_widths(32)))
    for name in ("means", "scales", "colors"):
        np.testing.assert_allclose(
            getattr(rounded, name), getattr(gaussians, name), rtol=1.2e-7, atol=1e-7, err_msg=name
        )
    assert angle_between(rounded.rotations, gaussians.rotations).max() < 3e-7


def test_ends_of_the_ranges_are_exact():
    gaussians = make(500)
    for bits in (4, 11, 27, 32):
        rounded = round_to_grid(gaussians, choose_grid(gaussians, all_widths(bits)))
        assert rounded.scales.min() == gaussians.scales.min()
        assert rounded.scales.max() == gaussians.scales.max()
        np.testing.assert_array_equal(rounded.colors.min(axis=0), gaussians.colors.min(axis=0))
        np.testing.assert_array_equal(rounded.colors.max(axis=0), gaussians.colors.max(axis=0))


@pytest.mark.parametrize("bits", [4, 10, 23, 24, 25, 32])
def test_rotations_have_the_period_pi_and_no_end_point(bits):
    pi32 = float(np.float32(math.pi))  # a little above π
    step = math.pi / 2**bits
    angles = np.array([0, -1e-30, pi32, -pi32, 3 * step / 2.001, math.pi - step / 2.001, 1, 1 + pi32, 1 - pi32])
    gaussians = make(len(angles)).replace(rotations=angles)
    grid = choose_grid(gaussians, all_widths(bits))
    symbols = quantize(gaussians, grid).rotations
    assert symbols.max() < 2**bits
    assert symbols[:2].tolist() == [0, 0]
    rounded = round_to_grid(gaussians, grid).rotations
    assert rounded.min() >= 0
    assert rounded.max() < math.pi
    assert (angle_between(rounded, gaussians.rotations) <= step / 2 + 3e-7).all()
    if bits <= 10:
        assert symbols[[2, 3, 5]].tolist() == [0, 0, 0]
        assert symbols[6] == symbols[7] == symbols[8] == round(2**bits / math.pi)


@pytest.mark.parametrize("channels", [1, 2, 5, 32])
@pytest.mark.parametrize("bits", [4, 14, 32])
def test_no_gaussians_and_one(channels, bits):
    empty = make(0, channels)
    grid = choose_grid(empty, all_widths(bits))
    assert (grid.scale.tolist(), grid.color.tolist()) == ([1, 1], [[0] * channels] * 2)
    assert_same_bits(round_to_grid(empty, grid), empty)

    one = make(1, channels).replace(scales=[[2.5, 2.5]], rotations=[0.0], means=[[64, 0]])
    symbols = quantize(one, choose_grid(one, all_widths(bits)))
    assert symbols.positions.tolist() == [[2**bits - 1, 0]]
    assert not symbols.scales.any()
    assert not symbols.colors.any()
    assert_same_bits(round_to_grid(one, choose_grid(one, all_widths(bits))), one)


def test_equal_values_stay_as_they_are():
    gaussians = make(40, 2).replace(scales=np.full((40, 2), 0.1), colors=np.full((40, 2), (1 / 3, -7e30)))
    rounded = round_to_grid(gaussians, choose_grid(gaussians, all_widths(4)))
    np.testing.assert_array_equal(rounded.scales, gaussians.scales)
    np.testing.assert_array_equal(rounded.colors, gaussians.colors)


@pytest.mark.parametrize("bits", [4, 17, 32])
def test_the_whole_range_of_float32(bits):
    largest, smallest = np.finfo(np.float32).max, np.float32(1e-45)
    gaussians = make(3, 2).replace(
        means=[[-largest, largest], [largest, -largest], [0, 0]],
        scales=[[smallest, largest], [largest, smallest], [1, 1]],
        colors=[[-largest, 0], [largest, smallest], [0, 0]],
        rotations=[largest, -largest, smallest],
    )
    rounded = round_to_grid(gaussians, choose_grid(gaussians, all_widths(bits)))
    np.testing.assert_array_equal(rounded.means[:2], gaussians.means[:2])
    np.testing.assert_array_equal(rounded.scales[:2], gaussians.scales[:2])
    np.testing.assert_array_equal(rounded.colors[:2], gaussians.colors[:2])


def test_values_outside_of_a_grid_go_to_its_ends():
    gaussians = make(30)
    grid = choose_grid(gaussians, BitWidths())
    far = gaussians.replace(
        means=np.full((30, 2), 3e38), scales=np.full((30, 2), 1e-38), colors=np.full((30, 3), -3e38)
    )
    rounded = round_to_grid(far, grid)
    np.testing.assert_array_equal(rounded.means, np.broadcast_to(grid.position[1], (30, 2)))
    np.testing.assert_array_equal(rounded.scales, np.full((30, 2), grid.scale[0]))
    np.testing.assert_array_equal(rounded.colors, np.broadcast_to(grid.color[0], (30, 3)))


def test_values_are_those_of_the_specification():
    """Section 8 of docs/format.md once more, in Python's own floats."""

    def to_float32(value: float) -> float:
        return struct.unpack("<f", struct.pack("<f", value))[0]

    grid = Grid(
        BitWidths(position=14, scale=9, rotation=10, color=32),
        np.array([[-3.7, 0], [64, 51.3]]),
        np.array([0.3, 21.7]),
        np.array([[-0.1, 0], [1.3, 0.7]]),
    )
    symbols = Symbols(
        positions=np.array([[0, 16383], [9001, 77]], np.uint32),
        scales=np.array([[0, 511], [300, 1]], np.uint32),
        rotations=np.array([1023, 512], np.uint32),
        colors=np.array([[4_000_000_000, 2**32 - 1], [1, 123_456_789]], np.uint32),
    )
    decoded = dequantize(symbols, grid, height=48, width=64)
    ends = {name: getattr(grid, name).astype(float).tolist() for name in ("position", "scale", "color")}
    for row in range(2):
        for axis in range(2):
            low, high = (end[axis] for end in ends["position"])
            step = (high - low) / 16383
            assert decoded.means[row, axis] == to_float32(low + int(symbols.positions[row, axis]) * step)
            low, high = (end[axis] for end in ends["color"])
            step = (high - low) / 4294967295
            assert decoded.colors[row, axis] == to_float32(low + int(symbols.colors[row, axis]) * step)
            low, high = (math.log(end) for end in ends["scale"])
            scale = math.exp(low + int(symbols.scales[row, axis]) * ((high - low) / 511))
            assert decoded.scales[row, axis] == pytest.approx(scale, rel=1.2e-7)
        angle = int(symbols.rotations[row]) * (3.141592653589793 / 1024)
        assert decoded.rotations[row] == to_float32(angle)
    assert (decoded.blend, decoded.top_k, decoded.background.tolist()) == ("normalized", 10, [0, 0])


def test_rounding_is_the_round_trip_through_symbols():
    gaussians = make(200)
    grid = choose_grid(gaussians, BitWidths())
    decoded = dequantize(
        quantize(gaussians, grid),
        grid,
        height=gaussians.height,
        width=gaussians.width,
        background=gaussians.background,
        blend=gaussians.blend,
        top_k=gaussians.top_k,
    )
    assert_same_bits(round_to_grid(gaussians, grid), decoded)


widths = st.integers(4, 32)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 60),
    channels=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 8.0]),
    bits=st.builds(BitWidths, widths, widths, widths, widths),
)
def test_quantising_decoded_values_changes_nothing(n, channels, seed, spread, bits):
    gaussians = make(n, channels, seed, spread=spread)
    grid = choose_grid(gaussians, bits)
    symbols = quantize(gaussians, grid)
    rounded = round_to_grid(gaussians, grid)
    assert_same_symbols(quantize(rounded, grid), symbols)
    assert_same_bits(round_to_grid(rounded, grid), rounded)
    # and the grid that the decoded values would choose is the same one
    again = choose_grid(rounded, bits)
    for name in ("position", "scale", "color"):
        np.testing.assert_array_equal(getattr(again, name), getattr(grid, name))


def test_channels_must_agree():
    grid = choose_grid(make(3, 3), BitWidths())
    gaussians = make(3, 4)
    with pytest.raises(ShapeError, match="expected the grid's 3 channels, found 4"):
        quantize(gaussians, grid)
    symbols = quantize(gaussians, choose_grid(gaussians, BitWidths()))
    with pytest.raises(ShapeError, match="expected the grid's 3 channels, found 4"):
        dequantize(symbols, grid, height=1, width=1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("position", [0, 1], r"position range: expected shape \[2, 2\], found \[2\]"),
        ("scale", [1, 2, 3], r"scale range: expected shape \[2\], found \[3\]"),
        ("color", [[0], [1], [2]], r"color range: expected shape \[2, 1 to 32\], found \[3, 1\]"),
        ("color", np.zeros((2, 33)), r"color range: expected shape \[2, 1 to 32\], found \[2, 33\]"),
        ("color", np.zeros((2, 0)), r"color range: expected shape \[2, 1 to 32\], found \[2, 0\]"),
        ("position", [[0, 5], [1, 4]], "position range 1: expected finite low <= high, found 5.0 to 4.0"),
        ("color", [[0, math.nan], [1, 1]], "color range 1: expected finite low <= high, found nan to 1.0"),
        ("scale", [1, math.inf], "scale range 0: expected finite low <= high, found 1.0 to inf"),
        ("scale", [0, 1], "scale range: expected positive numbers, found 0.0 to 1.0"),
    ],
)
def test_a_grid_is_checked(name, value, message):
    parts = {"position": [[0, 0], [1, 1]], "scale": [1, 1], "color": [[0], [1]], name: value}
    with pytest.raises(ShapeError, match=message):
        Grid(BitWidths(), **{key: np.array(part) for key, part in parts.items()})
