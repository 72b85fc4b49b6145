"""Quantizer 1: parameters, the nearest symbols, and what symbols mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec.lattice import (
    MAX_COLOR,
    MAX_COLOR_STEP,
    MAX_ROOT,
    MAX_STEP,
    MIN_ROOT,
    Lattice,
    LatticeSymbols,
    Steps,
    canonical,
    color_values,
    dequantize_lattice,
    quantize_colors,
    quantize_shape,
    shape_values,
)
from imagegs.errors import ConfigError, FormatError, ShapeError
from imagegs.kernels import native

if not native.available():
    pytest.skip("the compiled kernels are not built", allow_module_level=True)

import coding1_reference as plain
from lattice_samples import lattices, ranges, sample

LATTICE = Lattice.of(0.8, 3, (0,))
BOX = (0, 0, 640, 480)
seeds = st.integers(0, 2**32 - 1)


def gaussians(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales [N, 2] px, rotations [N] and colours [N, 3] as fits have them."""
    random = np.random.default_rng(seed)
    scales = np.exp(random.normal(1.2, 0.8, (n, 2))).astype(np.float32)
    return scales, random.uniform(-7, 7, n).astype(np.float32), random.normal(0.5, 0.5, (n, 3)).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(lattices(32))
def test_parameters_come_back(lattice):
    data = lattice.to_bytes()
    assert Lattice.from_bytes(data, lattice.channels) == lattice
    for cut in range(len(data)):
        with pytest.raises(FormatError, match="quantizer 1"):
            Lattice.from_bytes(data[:cut], lattice.channels)
    with pytest.raises(FormatError, match="quantizer 1"):
        Lattice.from_bytes(data + b"\x00", lattice.channels)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(1, 32))
def test_any_bytes_are_parameters_or_an_error(data, channels):
    try:
        lattice = Lattice.from_bytes(data, channels)
    except FormatError:
        return
    assert lattice.to_bytes() == data


@pytest.mark.parametrize(
    "changes",
    [
        {"root": MIN_ROOT - 1},
        {"root": MAX_ROOT + 1},
        {"root_step": 0},
        {"ratio_step": MAX_STEP + 1},
        {"place_step": 0},
        {"angle_step": MAX_STEP + 1},
        {"color_steps": (1, 0, 1)},
        {"color_steps": (1, 1, MAX_COLOR_STEP + 1)},
        {"color_steps": ()},
        {"color_steps": (1,) * 33},
        {"luma_at": (1,)},
        {"luma_at": (0, 2), "color_steps": (1,) * 5},
        {"luma_at": (-1,)},
    ],
)
def test_parameters_out_of_range_are_refused(changes):
    known = {"root": 2048, "root_step": 1, "ratio_step": 1, "place_step": 1, "angle_step": 1, "color_steps": (1, 1, 1)}
    with pytest.raises(ConfigError, match="lattice"):
        Lattice(**known | changes)


def test_kernels_have_the_same_limits():
    most = [MAX_ROOT, *[MAX_STEP] * 4, MAX_COLOR_STEP]
    for steps in ([MIN_ROOT, 1, 1, 1, 1, 1], most):
        native.block_codec(steps, BOX)
    for at in range(6):
        for steps in ([MIN_ROOT, 1, 1, 1, 1, 1], most):
            beyond = list(steps)
            beyond[at] += -1 if steps[at] in (1, MIN_ROOT) else 1
            with pytest.raises(ValueError, match="out of range"):
                native.block_codec(beyond, BOX)


def test_steps_have_one_factor():
    fine, coarse = Lattice.of(0.5, 3), Lattice.of(1.0, 3)
    assert fine.root == coarse.root
    ratios = np.array(coarse.steps[1:]) / fine.steps[1:]
    assert np.allclose(ratios, 2, rtol=2e-3)
    assert Lattice.of(1.0, 1, steps=Steps(color=0.5)).color_steps[0] == 32768


@settings(max_examples=100, deadline=None)
@given(seeds, st.floats(0.1, 4))
def test_symbols_are_the_nearest(seed, factor):
    lattice = Lattice.of(factor, 3, (0,))
    scales, rotations, colors = gaussians(seed)
    shape = quantize_shape(scales, rotations, lattice)
    back, turned = shape_values(shape, lattice)
    both, direction = canonical(scales, rotations)
    roots = lattice.roots(shape[:, 0])
    inside = (shape[:, 0] > 0) & (shape[:, 0] < lattice.most_size)
    slack = 1 + 1e-6
    off = np.abs(np.sqrt(np.sqrt(both[:, 0] * both[:, 1])) - roots)[inside]
    assert (off <= lattice.root_step / 4096 / 2 * slack).all()
    octaves, found = np.log2(both[:, 0] / both[:, 1]), np.log2(back[:, 0] / back[:, 1])
    free = octaves < 11.5
    assert (np.abs(octaves - found)[free] <= (lattice.ratio_step / 4096 / roots / 2 * slack)[free]).all()
    away = np.abs(np.mod(turned - direction + np.pi / 2, np.pi) - np.pi / 2)
    assert (away <= np.pi / lattice.angles(shape[:, 0], shape[:, 1]) / 2 * slack).all()
    symbols = quantize_colors(colors, shape[:, 0], lattice)
    components = lattice.to_components(colors) - lattice.to_components(color_values(symbols, shape[:, 0], lattice))
    assert (np.abs(components) <= lattice.color_values(shape[:, 0]) / 2 * slack).all()


@settings(max_examples=100, deadline=None)
@given(seeds, st.floats(0.2, 4))
def test_quantizing_what_symbols_mean_gives_them_back(seed, factor):
    lattice = Lattice.of(factor, 3, (0,))
    scales, rotations, colors = gaussians(seed)
    shape = quantize_shape(scales, rotations, lattice)
    symbols = quantize_colors(colors, shape[:, 0], lattice)
    back, turned = shape_values(shape, lattice)
    again = quantize_shape(back.astype(np.float32), turned.astype(np.float32), lattice)
    assert np.array_equal(again, shape)
    values = color_values(symbols, shape[:, 0], lattice).astype(np.float32)
    assert np.array_equal(quantize_colors(values, shape[:, 0], lattice), symbols)


@settings(max_examples=100, deadline=None)
@given(seeds, lattices(), ranges())
def test_symbols_mean_what_the_specification_says(seed, lattice, limits):
    symbols = sample(seed, lattice, BOX, 20, limits)
    background = np.zeros(lattice.channels, np.float32)
    found = dequantize_lattice(symbols, lattice, height=480, width=640, background=background)
    parameters = plain.Parameters(*lattice.steps[:5], lattice.color_steps)
    for k, (size, ratio, angle, x, y) in enumerate(symbols.shape.tolist()):
        form = parameters.form(size, ratio)
        w = (lattice.root + size * lattice.root_step) / 4096
        spread = 2 ** (min(ratio * (lattice.ratio_step / 4096) / w, 12) / 2)
        close = {"rel": 1e-6, "abs": 1e-30}
        assert found.scales[k].tolist() == pytest.approx([w * w * spread, w * w / spread], **close)
        assert found.rotations[k] == np.float32(angle * math.pi / form.angles)
        assert found.means[k].tolist() == [np.float32(x / 1024), np.float32(y / 1024)]
        parts = [c * (parameters.color_step(i, form.area) / 65536) for i, c in enumerate(symbols.colors[k].tolist())]
        expected = list(parts)
        for first in lattice.luma_at:
            luma, m, n = parts[first : first + 3]
            expected[first : first + 3] = luma + m - 2 * n / 3, luma + 4 * n / 3, luma - m - 2 * n / 3
        largest = max(map(abs, parts))
        assert found.colors[k].tolist() == pytest.approx(expected, rel=1e-6, abs=4e-7 * largest)


def test_integers_follow_the_specification():
    random = np.random.default_rng(0)
    for lattice in (LATTICE, Lattice(MIN_ROOT, 7, 1, 9, 3, (5,)), Lattice(900, MAX_STEP, MAX_STEP, 1, MAX_STEP, (5,))):
        parameters = plain.Parameters(*lattice.steps[:5], lattice.color_steps)
        sizes = random.integers(0, lattice.most_size + 1, 300).astype(np.int32)
        ratios = np.exp(random.uniform(0, np.log(2.0**20), 300)).astype(np.int32)
        found = lattice.angles(sizes, ratios)
        pairs = zip(sizes.tolist(), ratios.tolist(), strict=True)
        assert found.tolist() == [parameters.form(size, ratio).angles for size, ratio in pairs]


def test_extreme_gaussians_are_cut_to_what_a_file_can_hold():
    scales = np.array([[1e-5, 1e-5], [1e6, 1e6], [1e6, 1e-5], [3e4, 0.1]], np.float32)
    shape = quantize_shape(scales, np.zeros(4, np.float32), LATTICE)
    assert shape[0].tolist() == [0, 0, 0]
    assert shape[1, 0] == LATTICE.most_size
    back, _ = shape_values(shape, LATTICE)
    assert (back[:, 0] / back[:, 1] <= 4096.001).all()
    colors = np.array([[1e30, -1e30, 0]] * 4, np.float32)
    symbols = quantize_colors(colors, shape[:, 0], LATTICE)
    assert np.abs(symbols.astype(np.int64)).max() <= MAX_COLOR


def test_luma_and_differences_of_grey_are_one_number():
    grey = np.full((5, 3), 0.25, np.float32)
    components = LATTICE.to_components(grey)
    assert np.allclose(components, [0.25, 0, 0])
    colors = np.random.default_rng(0).normal(size=(50, 3))
    assert np.allclose(LATTICE.from_components(LATTICE.to_components(colors)), colors)


def test_lists_of_symbols_are_joined_and_picked():
    a, b = sample(1, LATTICE, BOX, 3), sample(2, LATTICE, BOX, 4)
    both = LatticeSymbols.concatenate([a, b], 3)
    assert len(both) == 7
    assert np.array_equal(both.take(slice(3, 7)).shape, b.shape)
    assert np.array_equal(both.take(np.array([6, 0])).colors, both.colors[[6, 0]])
    none = LatticeSymbols.concatenate([], 3)
    assert (len(none), none.colors.shape) == (0, (0, 3))
    with pytest.raises(ShapeError, match="channels"):
        dequantize_lattice(both, Lattice.of(1, 4), height=480, width=640, background=np.zeros(4, np.float32))
