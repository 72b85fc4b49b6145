"""Where Gaussians begin, where they are added and which ones move."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from imagegs.fitting.config import FitConfig
from imagegs.fitting.growth import blurred, error_density, grow, least_worth, relocation_count
from imagegs.fitting.initialization import SMALLEST_START, Gaussians, draw_pixels, normalize, spawn, start_density
from imagegs.fitting.losses import prepare
from imagegs.fitting.targets import Target, analyze, halve, make_target
from imagegs.kernels import native, reference

Image = npt.NDArray[np.float32]
SIZE = (40, 60)


def stripes(angle: float) -> Image:
    """[3, 40, 60], brightness a wave along the direction ``angle``."""
    y, x = np.mgrid[0:40, 0:60] + 0.5
    wave = 0.5 + 0.4 * np.sin(0.6 * (x * np.cos(angle) + y * np.sin(angle)))
    return np.repeat(wave[None], 3, axis=0).astype(np.float32)


def half_flat() -> Target:
    """Flat on the left, a wave on the right."""
    pixels = stripes(0.3)
    pixels[:, :, :30] = 0.5
    return make_target(pixels)


def test_densities_are_probabilities_and_uniform_where_there_is_nothing() -> None:
    np.testing.assert_allclose(normalize(np.array([[1.0, 3.0]])), [[0.25, 0.75]])
    np.testing.assert_allclose(normalize(np.ones((1, 2)), np.array([[1, 3]], np.float32)), [[0.25, 0.75]])
    for nothing in (0.0, np.nan):
        np.testing.assert_allclose(normalize(np.full((2, 2), nothing)), 0.25)


@pytest.mark.parametrize("init", ["structure", "gradient", "random", "importance"])
def test_the_start_is_where_its_name_says(init: str) -> None:
    target = half_flat()
    importance = np.ones(SIZE, np.float32)
    importance[:20] = 9
    for given in (None, importance):
        shaped = Target(target.pixels, start=given)
        config = FitConfig(10, init=init, uniform_share=0.2)  # type: ignore[arg-type]
        density = start_density(shaped, analyze(target.pixels), config)
        assert density.sum() == pytest.approx(1)
        assert density.min() >= 0.2 / density.size * 0.999
        by_edges = init in ("structure", "gradient") or (init == "importance" and given is None)
        assert density[:, 28:].sum() == pytest.approx(0.8 + 0.2 * 32 / 60 if by_edges else 32 / 60, abs=0.06)
        assert density[:20].sum() == pytest.approx(0.5 if given is None else 0.8 * 0.9 + 0.2 * 0.5, abs=0.06)


def test_drawn_pixels_are_different_and_follow_their_probabilities() -> None:
    density = normalize(np.repeat([[1.0, 4.0]], 500, axis=0))
    counts = [np.sum(draw_pixels(density, 100, np.random.default_rng(seed)) % 2) for seed in range(20)]
    assert 70 < np.mean(counts) < 90
    pixels = draw_pixels(density, 100, np.random.default_rng(0))
    assert len(np.unique(pixels)) == 100
    np.testing.assert_array_equal(pixels, draw_pixels(density, 100, np.random.default_rng(0)))
    assert not np.array_equal(pixels, draw_pixels(density, 100, np.random.default_rng(1)))
    np.testing.assert_array_equal(draw_pixels(density, 5000, np.random.default_rng(0)), np.arange(1000))


def test_there_are_enough_pixels_where_most_have_no_probability() -> None:
    density = np.zeros((10, 10))
    density[0, :3] = 1 / 3
    drawn = draw_pixels(density, 50, np.random.default_rng(0))
    assert len(np.unique(drawn)) == 50
    assert {0, 1, 2} <= set(drawn.tolist())


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 2.5])
def test_first_gaussians_lie_along_the_edges(angle: float) -> None:
    target = make_target(stripes(angle))
    pixels = np.array([20 * 60 + 30, 15 * 60 + 25, 25 * 60 + 35])
    per_pixel = np.full(SIZE, 0.01)
    new = spawn(pixels, per_pixel, target, analyze(target.pixels), FitConfig(3, init="structure"))
    np.testing.assert_allclose(np.cos(2 * (new.rotations - angle)), 1, atol=0.02)
    assert np.all(new.scales[:, 1] > 1.3 * new.scales[:, 0])
    np.testing.assert_allclose(np.sqrt(new.scales.prod(axis=1)), 0.35 / 0.1, rtol=1e-5)
    np.testing.assert_array_equal(new.means, [[30.5, 20.5], [25.5, 15.5], [35.5, 25.5]])
    np.testing.assert_array_equal(new.colors, target.pixels[:, [20, 15, 25], [30, 25, 35]].T)


def test_flat_places_get_round_gaussians_of_at_least_the_smallest_scale() -> None:
    target = half_flat()
    structure = analyze(target.pixels)
    new = spawn(np.array([20 * 60 + 10]), np.full(SIZE, 0.99), target, structure, FitConfig(1))
    np.testing.assert_allclose(new.scales, SMALLEST_START, rtol=1e-3)
    fixed = spawn(np.array([3]), np.full(SIZE, 0.99), target, structure, FitConfig(1, init="random", start_scale=5.0))
    np.testing.assert_array_equal(fixed.scales, [[5, 5]])
    assert fixed.rotations == 0


def test_a_start_without_density_stays_finite() -> None:
    target = half_flat()
    new = spawn(np.arange(5), np.zeros(SIZE), target, analyze(target.pixels), FitConfig(5))
    assert np.isfinite(new.scales).all()
    assert 10 < new.scales.min() <= new.scales.max() < 60


def test_error_density_is_the_squared_error_to_a_power_by_weight_and_importance() -> None:
    weights, importance = np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    weights[0, 1], importance[0, 2] = 3, 5
    target = Target(np.zeros((2, *SIZE), np.float32), weights, growth=importance)
    image = np.zeros((2, *SIZE), np.float32)
    image[:, 0, :3] = 0.1
    image[:, 5, 5] = [0.2, 0.0]  # mean squared error 0.02 against 0.01
    for power in (1.0, 2.0):
        density = error_density(image, target, FitConfig(1, error_power=power))
        np.testing.assert_allclose(density[0, :3] / density[0, 0], [1, 3**power, 5], rtol=1e-5)
        assert density[5, 5] / density[0, 0] == pytest.approx(2**power, rel=1e-5)
        assert density.sum() == pytest.approx(1)


@pytest.mark.parametrize("color", ["target", "residual"])
def test_new_gaussians_come_where_the_picture_is_wrong(color: str) -> None:
    target = make_target(stripes(0.4))
    image = target.pixels.copy()
    image[:, 10:20, 30:50] -= 0.25
    config = FitConfig(100, grow_color=color)  # type: ignore[arg-type]
    model = Gaussians(*(np.zeros(shape, np.float32) for shape in ((0, 2), (0, 2), 0, (0, 3))))
    random = np.random.default_rng(0)
    new = grow(model, 50, image, target, analyze(target.pixels), np.full(SIZE, 1e-3), config, random)
    assert len(new) == 50
    columns, rows = (new.means - 0.5).astype(int).T
    assert np.all((rows >= 10) & (rows < 20) & (columns >= 30) & (columns < 50))
    wanted = target.pixels if color == "target" else target.pixels - np.clip(image, 0, 1)
    np.testing.assert_allclose(new.colors, wanted[:, rows, columns].T, atol=1e-6)
    # 50 of them on 200 pixels
    spacing = np.sqrt(1 / (50 / 200 + 1e-3))
    assert np.median(np.sqrt(new.scales.prod(axis=1))) == pytest.approx(max(0.35 * spacing, SMALLEST_START), rel=0.05)


def test_official_growth_smooths_large_pictures_only() -> None:
    random = np.random.default_rng(0)
    small = random.uniform(0, 1, (3, 399, 399)).astype(np.float32)
    assert blurred(small) is small
    large = random.uniform(0, 1, (2, 400, 900)).astype(np.float32)
    smooth = blurred(large)
    assert smooth.shape == large.shape
    assert smooth.dtype == np.float32
    assert smooth.var() < 0.3 * large.var()
    assert abs(float(smooth.mean() - large.mean())) < 1e-3
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] < 0.05  # channels stay apart


@pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
def test_those_that_are_worth_least_are_found() -> None:
    random = np.random.default_rng(1)
    target = make_target(stripes(0.3))
    n = 20
    means, colors = random.uniform((3, 3), (57, 37), (n, 2)), random.uniform(0, 1, (n, 3))
    arrays = (means, np.full((n, 2), 4.0), np.zeros(n), colors)
    model = Gaussians(*(np.ascontiguousarray(array, dtype=np.float32) for array in arrays))
    rasterizer = native.Rasterizer()
    background = np.full(3, 0.5, np.float32)
    prepare(rasterizer, model, SIZE, "normalized", 10)
    rasterizer.forward(background, keep=True)
    exact = [torch.from_numpy(array).double() for array in (*model.arrays(), background, target.pixels)]
    growth = reference.removal(*exact, torch.ones(SIZE).double(), "normalized").numpy()
    assert growth.min() < 0 < growth.max()
    for count in (1, 4, 19):
        rows = least_worth(rasterizer, model, background, target, count)
        assert rows.tolist() == sorted(np.argsort(growth)[:count].tolist())


@pytest.mark.parametrize(("n", "share", "count"), [(1, 1.0, 0), (10, 0.05, 0), (100, 0.05, 5), (8, 1.0, 7)])
def test_never_all_of_them_move(n: int, share: float, count: int) -> None:
    model = Gaussians(*(np.zeros(shape, np.float32) for shape in ((n, 2), (n, 2), n, (n, 3))))
    assert relocation_count(model, FitConfig(n, relocate=share)) == count


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 1), (1, 5)])
def test_half_size_is_the_mean_of_four_pixels(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).uniform(0, 1, (2, *size)).astype(np.float32)
    small = halve(image)
    assert small.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2)
    np.testing.assert_allclose(small[:, 0, 0], image[:, :2, :2].mean(axis=(1, 2)), rtol=1e-6)
    last = image[:, (size[0] - 1) // 2 * 2 :, (size[1] - 1) // 2 * 2 :]
    np.testing.assert_allclose(small[:, -1, -1], last.mean(axis=(1, 2)), rtol=1e-6)
