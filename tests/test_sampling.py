"""Points are read as a render of them would show them."""

from __future__ import annotations

import numpy as np
import pytest

from imagegs import Gaussians2D, Sampler, render, sample
from imagegs.errors import ConfigError, DeviceError, ShapeError
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
HEIGHT, WIDTH = 45, 70


def some(blend: str, channels: int = 3, count: int = 300) -> Gaussians2D:
    random = np.random.default_rng(3)
    return Gaussians2D(
        random.uniform(-5, [WIDTH + 5, HEIGHT + 5], (count, 2)),
        random.uniform(0.5, 6, (count, 2)),
        random.uniform(0, np.pi, count),
        random.uniform(0, 1, (count, channels)),
        HEIGHT,
        WIDTH,
        np.full(channels, 0.3),
        blend,
        4,
    )


def centers() -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    return np.stack([x / WIDTH, y / HEIGHT], axis=-1)


@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
@pytest.mark.parametrize("channels", [1, 3, 9])
@pytest.mark.parametrize("cell", [1, 8, 1000])
def test_pixel_centres_are_pixels(blend, channels, cell):
    gaussians = some(blend, channels)
    found = Sampler(gaussians, cell=cell).sample(centers())
    assert found.shape == (HEIGHT, WIDTH, channels)
    assert found == pytest.approx(np.moveaxis(render(gaussians), 0, -1), abs=2e-5)


def test_points_between_are_those_of_a_finer_render():
    gaussians = some("normalized")
    fine = render(gaussians, 2 * HEIGHT, 2 * WIDTH)
    y, x = np.mgrid[0 : 2 * HEIGHT, 0 : 2 * WIDTH] / 2 + 0.25
    found = sample(gaussians, np.stack([x / WIDTH, y / HEIGHT], axis=-1))
    assert found == pytest.approx(np.moveaxis(fine, 0, -1), abs=2e-3)  # where weights are next to nothing


def test_what_lies_beyond():
    sampler = Sampler(some("normalized"))
    inside = sampler.sample([[0.25, 0.125]])
    assert np.array_equal(sampler.sample([[1.25, -0.875]], wrap="repeat"), inside)
    assert np.array_equal(sampler.sample([[-0.25, 0.125], [1.75, 2.125]], wrap="mirror"), np.repeat(inside, 2, axis=0))
    assert np.array_equal(sampler.sample([[-3, 0.5], [7, 2]]), sampler.sample([[0, 0.5], [1, 1]]))


def test_what_points_cost():
    gaussians = some("topk", 3)
    fine, coarse = (Sampler(gaussians, cell=cell).cost(centers()) for cell in (4, 64))
    assert 0 < fine.taken <= 4
    assert fine.taken == pytest.approx(coarse.taken)
    assert fine.looked < coarse.looked <= 300
    assert fine.multiply_adds == pytest.approx(8 * fine.looked + 4 * fine.taken + 3)
    assert fine.bytes > coarse.bytes > 300 * 44
    assert Sampler(gaussians).cost(np.zeros((0, 2))).looked == 0


def test_none_and_empty():
    empty = some("normalized", count=0)
    assert sample(empty, [[0.5, 0.5]]) == pytest.approx(0.3)
    assert sample(some("sum"), np.zeros((2, 0, 2))).shape == (2, 0, 3)
    assert sample(some("sum"), [0.5, 0.5]).shape == (3,)


@pytest.mark.parametrize(
    ("uv", "options", "error", "message"),
    [
        ([0.5], {}, ShapeError, r"uv: expected shape \[..., 2\], found \[1\]"),
        (0.5, {}, ShapeError, r"found \[\]"),
        ([[np.nan, 0]], {}, ShapeError, "finite"),
        ("ab", {}, ShapeError, "found str"),
        ([[0, 0]], {"wrap": "border"}, ConfigError, "wrap: expected one of clamp, repeat, mirror, found 'border'"),
    ],
)
def test_what_is_refused(uv, options, error, message):
    with pytest.raises(error, match=message):
        Sampler(some("sum")).sample(uv, **options)


def test_without_kernels_it_is_said(monkeypatch):
    monkeypatch.setattr(native, "_native", None)
    with pytest.raises(DeviceError, match="kernels"):
        Sampler(some("sum"))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="cell: expected at least 1 pixel"):
        Sampler(some("sum"), cell=0)


def test_cells_follow_the_distance_of_gaussians():
    """Lists stay short however many there are; what is drawn does not depend on them."""
    rng = np.random.default_rng(3)
    uv = rng.random((500, 2))
    for count in (40, 4000):
        gaussians = scattered(rng, count)
        found = Sampler(gaussians)
        assert np.array_equal(found.sample(uv), Sampler(gaussians, cell=8).sample(uv))
        assert found.cost(uv).looked <= Sampler(gaussians, cell=8).cost(uv).looked
    assert found.cost(uv).looked < 0.6 * Sampler(gaussians, cell=8).cost(uv).looked


def scattered(rng, count):
    spacing = (64 * 96 / count) ** 0.5
    return Gaussians2D(
        means=rng.random((count, 2)) * [96, 64],
        scales=np.full((count, 2), 0.4 * spacing),
        rotations=rng.random(count),
        colors=rng.random((count, 3)),
        height=64,
        width=96,
    )
