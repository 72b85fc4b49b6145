"""Figures: where things are drawn, in which colours, and that files appear whole or not at all."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imagegs import plots
from imagegs.errors import ConfigError, ImageError, ShapeError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo, Plane

HISTORY = [(0, 0.0, 14.0, 100), (10, 0.5, 22.0, 150), (20, 1.0, 25.5, 200)]


def drawn(figure) -> np.ndarray:
    """The figure's pixels [H, W, 3] in [0, 1]."""
    image = Image.open(io.BytesIO(plots.figure_bytes(figure, ".png"))).convert("RGB")
    return np.asarray(image, np.float64) / 255


def one_gaussian(**changes) -> Gaussians2D:
    values = {
        "means": [[50.0, 20.0]],
        "scales": [[12.0, 3.0]],
        "rotations": [0.0],
        "colors": [[1.0, 0.5, 0.0]],
        "height": 80,
        "width": 100,
    }
    return Gaussians2D(**(values | changes))


def covered(gaussians: Gaussians2D, **options) -> np.ndarray:
    """[H, W] where the ellipses differ from the black background, at one pixel per dot of the figure."""
    return drawn(plots.draw_ellipses(gaussians, **options)).sum(axis=2) > 0.3


def test_an_ellipse_lies_where_its_gaussian_does():
    mask = covered(one_gaussian())
    rows, columns = np.nonzero(mask)
    dots = mask.shape[1] / 100
    assert columns.mean() / dots == pytest.approx(50, abs=0.3)
    assert rows.mean() / dots == pytest.approx(20, abs=0.3)
    assert np.ptp(columns) / dots == pytest.approx(24, abs=0.6)
    assert np.ptp(rows) / dots == pytest.approx(6, abs=0.6)


def test_reach_scales_the_ellipse():
    one, two = covered(one_gaussian()), covered(one_gaussian(), reach=2.0)
    assert two.sum() / one.sum() == pytest.approx(4, rel=0.1)


def test_a_rotation_turns_from_x_towards_y():
    mask = covered(one_gaussian(means=[[50.0, 40.0]], rotations=[np.pi / 4]))
    rows, columns = np.nonzero(mask)
    assert np.corrcoef(columns, rows)[0, 1] > 0.7  # down and to the right, since y points down


def test_an_ellipse_has_its_own_colour():
    image = drawn(plots.draw_ellipses(one_gaussian()))
    dots = image.shape[1] / 100
    np.testing.assert_allclose(image[int(20 * dots), int(50 * dots)], [1, 0.5, 0], atol=0.01)


def test_small_ellipses_lie_on_large_ones():
    both = one_gaussian(
        means=[[50, 40], [50, 40]], scales=[[3, 3], [20, 20]], rotations=[0, 0], colors=[[0, 1, 0], [1, 0, 0]]
    )
    image = drawn(plots.draw_ellipses(both))
    middle = image[image.shape[0] // 2, image.shape[1] // 2]
    np.testing.assert_allclose(middle, [0, 1, 0], atol=0.01)


def test_grey_and_chosen_channels():
    grey = drawn(plots.draw_ellipses(one_gaussian(colors=[[0.5]], scales=[[30.0, 30.0]])))
    np.testing.assert_allclose(grey[grey.shape[0] // 4, grey.shape[1] // 2], [0.5] * 3, atol=0.01)
    many = one_gaussian(colors=[[0, 0, 0, 0.2, 0.4, 0.6]], scales=[[60.0, 60.0]])
    chosen = drawn(plots.draw_ellipses(many, channels=(3, 4, 5)))
    np.testing.assert_allclose(chosen[chosen.shape[0] // 4, chosen.shape[1] // 2], [0.2, 0.4, 0.6], atol=0.01)


@pytest.mark.parametrize("channels", [(0, 1), (0, 1, 3), (-1, 0, 1), ()])
def test_channels_that_are_not_there(channels):
    with pytest.raises(ShapeError, match="channels: expected one or three from 0 to 2"):
        plots.draw_ellipses(one_gaussian(), channels=channels)


def test_color_channels_of_a_stack():
    stack = PictureInfo((Plane("ao.png", "L", 8), Plane("base.png", "RGBA", 8)), stack=True)
    assert plots.color_channels(stack) == (1, 2, 3)
    assert plots.color_channels(PictureInfo((Plane("", "LA", 8),))) == (0,)


def test_no_gaussians_and_many():
    none = one_gaussian(means=np.zeros((0, 2)), scales=np.zeros((0, 2)), rotations=[], colors=np.zeros((0, 3)))
    assert not covered(none).any()
    assert drawn(plots.draw_density(none)).size > 0
    count = plots.VECTOR_LIMIT + 1
    random = np.random.default_rng(0)
    many = one_gaussian(
        means=random.uniform(0, 80, (count, 2)),
        scales=np.ones((count, 2)),
        rotations=np.zeros(count),
        colors=np.ones((count, 3)),
    )
    assert b"<image" in plots.figure_bytes(plots.draw_ellipses(many), ".svg")  # pixels, not thousands of paths
    assert b"<image" not in plots.figure_bytes(plots.draw_ellipses(many.take(slice(9))), ".svg")


def test_density_counts_per_thousand_pixels():
    y, x = np.mgrid[2:80:4, 2:100:4]
    means = np.stack([x.ravel(), y.ravel()], axis=1)
    count = len(means)
    even = one_gaussian(means=means, scales=np.ones((count, 2)), rotations=np.zeros(count), colors=np.ones((count, 3)))
    (shown,) = plots.draw_density(even, blur=20.0).axes[0].images
    np.testing.assert_allclose(shown.get_array(), 1000 / 16, rtol=0.05)
    assert shown.get_array().mean() == pytest.approx(1000 / 16, rel=1e-6)


def test_gradient_of_a_ramp_is_its_slope():
    ramp = np.broadcast_to(np.linspace(0, 1, 51, dtype=np.float32), (1, 20, 51))
    (shown,) = plots.draw_gradient(ramp).axes[0].images
    np.testing.assert_allclose(shown.get_array(), 0.02, rtol=1e-4)
    (single,) = plots.draw_gradient(np.ones((3, 1, 1), np.float32)).axes[0].images
    assert single.get_array().max() == 0


def test_error_is_the_root_mean_square_over_channels():
    first, second = np.zeros((2, 4, 5), np.float32), np.zeros((2, 4, 5), np.float32)
    second[:, 1, 2] = 0.3, 0.4
    error = plots.error_map(first, second)
    assert error[1, 2] == pytest.approx(np.sqrt(0.125))
    assert np.count_nonzero(error) == 1
    assert plots.error_limit(np.zeros((4, 5))) == 1 / 255
    assert len(plots.draw_error(first, second).axes) == 2


def test_false_color_ends():
    colors = plots.false_color(np.array([[0.0, 0.5, 9.0]]), 0.5)
    assert colors[0, 0].max() < 8
    assert colors[0, 1].tolist() == colors[0, 2].tolist()
    assert colors[0, 1].min() > 150


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 5)), r"expected shape \[C, H, W\]"),
        (np.zeros((3, 0, 5)), "at least one pixel"),
        (np.full((1, 2, 2), np.nan), "expected finite numbers"),
    ],
)
def test_pictures_that_cannot_be_drawn(pixels, message):
    with pytest.raises(ShapeError, match=message):
        plots.draw_gradient(pixels)


def test_error_of_unlike_pictures():
    with pytest.raises(ShapeError, match=r"expected the reference's shape \[1, 2, 2\], found \[1, 2, 3\]"):
        plots.error_map(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)))


def test_curve_shows_the_history():
    upper, lower = plots.draw_curve(HISTORY).axes
    assert upper.lines[0].get_ydata().tolist() == [14.0, 22.0, 25.5]
    assert lower.lines[0].get_ydata().tolist() == [100, 150, 200]
    assert upper.get_title() == "25.50 dB after 20 steps, 1.0 s"
    with pytest.raises(ConfigError, match="at least one row"):
        plots.draw_curve([])


@pytest.mark.parametrize("kind", plots.KINDS)
def test_the_same_figure_gives_the_same_bytes(kind):
    assert plots.figure_bytes(plots.draw_curve(HISTORY), kind) == plots.figure_bytes(plots.draw_curve(HISTORY), kind)


def test_files(tmp_path):
    plots.write_figure(tmp_path / "curve.svg", plots.draw_curve(HISTORY))
    assert b"<svg" in (tmp_path / "curve.svg").read_bytes()
    with pytest.raises(ConfigError, match=r"expected a name ending in .png or .svg, found '.gif'"):
        plots.write_figure(tmp_path / "curve.gif", plots.draw_curve(HISTORY))
    with pytest.raises(ImageError, match="does not exist"):
        plots.write_figure(tmp_path / "missing" / "curve.png", plots.draw_curve(HISTORY))
    assert [path.name for path in tmp_path.iterdir()] == ["curve.svg"]
