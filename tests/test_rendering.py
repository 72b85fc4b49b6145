"""Rendering at other sizes and of regions: nothing moves, nothing aliases, mistakes are named."""

from __future__ import annotations

import numpy as np
import pytest

import imagegs
from imagegs.errors import ShapeError
from imagegs.gaussians import Gaussians2D
from imagegs.rendering import render

BLENDS = ("normalized", "topk", "sum")


def boxes(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of factor x factor pixels."""
    channels, height, width = image.shape
    return image.reshape(channels, height // factor, factor, width // factor, factor).astype(float).mean(axis=(2, 4))


def spot(x: float, y: float, scale: float = 3.0) -> Gaussians2D:
    return Gaussians2D(
        means=[[x, y]], scales=[[scale, scale]], rotations=[0.0], colors=[[1.0]], height=48, width=64, blend="sum"
    )  # fmt: skip


@pytest.mark.parametrize("factor", [0.25, 0.5, 1, 2, 4])
def test_a_spot_stays_where_it_is_at_any_size(factor):
    height, width = int(48 * factor), int(64 * factor)
    image = render(spot(30.3, 21.6), height, width)[0].astype(float)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    center = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum() / factor
    np.testing.assert_allclose(center, (30.3, 21.6), atol=4e-3)
    # the integral over the canvas is kept as well, also where the pixel's footprint widens it
    assert image.sum() / factor**2 == pytest.approx(render(spot(30.3, 21.6)).sum(), rel=0.01)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("blend", BLENDS)
def test_enlarging_does_not_shift(small_gaussians, blend, factor):
    gaussians = small_gaussians.replace(blend=blend)
    image = render(gaussians)
    down = boxes(render(gaussians, 48 * factor, 64 * factor), factor)
    error = {
        (dx, dy): np.square(np.roll(down, (dy, dx), axis=(1, 2)) - image)[:, 2:-2, 2:-2].mean()
        for dx in (-1, 0, 1)
        for dy in (-1, 0, 1)
    }
    assert min(error, key=error.get) == (0, 0)
    # half a pixel either way is as bad as the other: no bias below a pixel
    for ahead, behind in (((1, 0), (-1, 0)), ((0, 1), (0, -1))):
        assert error[ahead] / error[behind] == pytest.approx(1, abs=0.15)
    assert error[0, 0] < 0.05 * min(error[key] for key in error if key != (0, 0))


def test_odd_enlargement_keeps_the_pixels(small_gaussians):
    """Every third pixel of a threefold render looks at the same canvas point as a pixel of the plain one."""
    image = render(small_gaussians)
    np.testing.assert_allclose(render(small_gaussians, 144, 192)[:, 1::3, 1::3], image, atol=2e-3)


def test_reducing_does_not_alias():
    """Stripes of a period of 4 pixels, rendered at an eighth, are grey, as the mean over their area is."""
    x = np.arange(2, 512, 4.0)
    stripes = Gaussians2D(
        means=np.stack([x, np.full_like(x, 64)], axis=1),
        scales=np.tile([0.6, 200.0], (len(x), 1)),
        rotations=np.zeros(len(x)),
        colors=np.ones((len(x), 1)),
        height=128,
        width=512,
        blend="sum",
    )
    whole = render(stripes)
    small, wanted = render(stripes, 16, 64), boxes(whole, 8)
    inside = (slice(None), slice(2, -2), slice(2, -2))
    assert whole[:, 48:80, 32:-32].std() > 0.3
    assert small[inside].std() < 0.02
    np.testing.assert_allclose(small[inside], wanted[inside], atol=0.02)
    # pixels that the stripes' period does not divide would show a beat
    points = ((np.arange(73) + 0.5) * 512 / 73).astype(int)
    assert whole[:, 48:80, points].std() > 0.3
    assert render(stripes, 16, 73)[:, 2:-2, 3:-3].std() < 0.02


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("blend", BLENDS)
def test_reducing_is_close_to_the_mean_over_areas(small_gaussians, blend, factor):
    gaussians = small_gaussians.replace(blend=blend, scales=np.maximum(small_gaussians.scales, 3.0))
    wanted = boxes(render(gaussians), factor)
    error = np.abs(render(gaussians, 48 // factor, 64 // factor) - wanted)
    assert error.mean() < 0.03 * np.ptp(wanted)


@pytest.mark.parametrize("blend", BLENDS)
def test_a_region_is_a_part_of_the_whole(small_gaussians, blend):
    gaussians = small_gaussians.replace(blend=blend)
    whole = render(gaussians)
    part = render(gaussians, region=(10, 7, 33, 21))
    assert part.shape == (3, 21, 33)
    np.testing.assert_allclose(part, whole[:, 7:28, 10:43], atol=1e-3)
    large = render(gaussians, 96, 128)
    part = render(gaussians, 42, 66, region=(10, 7, 33, 21))
    np.testing.assert_allclose(part, large[:, 14:56, 20:86], atol=1e-3)
    halves = [render(gaussians, region=(x, 0, 32, 48)) for x in (0, 32)]
    np.testing.assert_allclose(np.concatenate(halves, axis=2), whole, atol=1e-3)


def test_a_region_may_reach_beyond_the_canvas(small_gaussians):
    gaussians = small_gaussians.replace(background=[0.2, 0.4, 0.6])
    image = render(gaussians, region=(-100, -5, 264, 58))
    assert image.shape == (3, 58, 264)
    np.testing.assert_allclose(image[:, 5:53, 100:164], render(gaussians), atol=1e-3)
    np.testing.assert_allclose(image[:, 0, 0], [0.2, 0.4, 0.6], rtol=1e-5)


def test_sizes_that_are_left_out_follow_the_proportions(small_gaussians):
    assert render(small_gaussians).shape == (3, 48, 64)
    assert render(small_gaussians, 24).shape == (3, 24, 32)
    assert render(small_gaussians, width=128).shape == (3, 96, 128)
    assert render(small_gaussians, 10, 10).shape == (3, 10, 10)
    assert render(small_gaussians, region=(0, 0, 20, 10)).shape == (3, 10, 20)
    assert render(small_gaussians, 5, region=(0, 0, 20, 10)).shape == (3, 5, 10)
    assert render(small_gaussians, 1).shape == (3, 1, 1)
    assert render(small_gaussians, np.int64(12), np.int32(16)).shape == (3, 12, 16)


@pytest.mark.parametrize("side", [0, -4, 2.5, True, 1 << 21, "8"])
def test_sizes_that_are_none_are_named(small_gaussians, side):
    with pytest.raises(ShapeError, match=r"^height: expected an integer from 1 to"):
        render(small_gaussians, side, 8)
    with pytest.raises(ShapeError, match=r"^width: expected an integer from 1 to"):
        render(small_gaussians, 8, side)


@pytest.mark.parametrize(
    "region", [(0, 0, 0, 5), (0, 0, 5, -1), (float("nan"), 0, 5, 5), (0, float("inf"), 5, 5), (0, 0, float("inf"), 5)]
)
def test_regions_that_are_none_are_named(small_gaussians, region):
    with pytest.raises(ShapeError, match=r"^region: expected finite x, y and positive width, height, found"):
        render(small_gaussians, 8, 8, region=region)


def test_no_gaussians_are_the_background():
    empty = Gaussians2D(
        np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), 5, 7, background=[0.25, 0.75]
    )
    image = render(empty)
    assert image.shape == (2, 5, 7)
    np.testing.assert_allclose(image, np.broadcast_to(np.float32([[[0.25]], [[0.75]]]), (2, 5, 7)), rtol=1e-6)


def test_the_number_of_threads_does_not_matter(small_gaussians):
    image = render(small_gaussians, 100, 150, threads=1)
    for count in (2, 5, 64):
        np.testing.assert_array_equal(render(small_gaussians, 100, 150, threads=count), image)


def test_the_public_name_is_this_function():
    assert imagegs.render is render


def test_more_pixels_than_a_render_may_have_are_named():
    with pytest.raises(ShapeError, match=r"size: expected at most .* pixels, found 1,048,576 x 1,048,576"):
        render(spot(1, 1), 1 << 20, 1 << 20)


def test_a_region_of_no_extent_is_named():
    with pytest.raises(ShapeError, match="region: expected more than a point"):
        render(spot(1, 1), 8, 8, region=(0, 0, 1e-323, 1))
