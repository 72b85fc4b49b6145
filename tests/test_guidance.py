"""Maps that say where a picture matters: what they may be, and that each one does what it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imagegs import ConfigError, ShapeError, as_picture, encode, render
from imagegs.budget import best_factor
from imagegs.codec import parse
from imagegs.compression import EFFORTS, Job, code, fit
from imagegs.encoding import fit_config
from imagegs.goals import make_goal
from imagegs.guidance import Guidance, sample
from imagegs.kernels import native

Pixels = npt.NDArray[np.float32]
NAMES = ("start", "growth", "loss", "rounding", "order")
needs_kernels = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def left(size: tuple[int, int] = (64, 80), factor: float = 20.0) -> Pixels:
    values = np.ones(size, np.float32)
    values[:, : size[1] // 2] = factor
    return values


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_checked_and_scaled(name: str) -> None:
    given = left()
    guidance = Guidance(**{name: given})
    assert guidance.maps[name].mean() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(guidance.maps[name], given / given.mean(), rtol=1e-6)
    assert [key for key, value in guidance.maps.items() if value is not None] == [name]
    bad: list[tuple[Any, str]] = [
        (np.zeros((64, 80)), "finite numbers, none negative and some positive"),
        (np.full((64, 80), -1.0), "finite numbers, none negative and some positive"),
        (np.full((64, 80), np.nan), "finite numbers, none negative and some positive"),
        (np.full((64, 80), np.inf), "finite numbers, none negative and some positive"),
        ("everywhere", "an array of numbers, found str"),
        (np.ones((1, 64, 80)), r"\[H, W\], found \[1, 64, 80\]"),
        (np.ones((0, 80)), r"\[H, W\], found \[0, 80\]"),
    ]
    for value, expected in bad:
        with pytest.raises(ShapeError, match=f"^{name}: expected {expected}$"):
            Guidance(**{name: value})


def test_the_usual_two() -> None:
    guidance = Guidance.of((64, 80), importance=left(), weights=np.ones((32, 40)), observed=(32, 40))
    assert guidance.start is not None
    np.testing.assert_array_equal(guidance.start, guidance.growth)
    assert guidance.loss is not None
    assert guidance.loss.shape == (32, 40)
    assert guidance.rounding is None
    guidance.check_size((64, 80), (32, 40))
    with pytest.raises(ShapeError, match=r"^loss: expected the picture's size \[64, 80\], found \[32, 40\]$"):
        guidance.check_size((64, 80))
    for name in ("weights", "importance"):
        with pytest.raises(ShapeError, match=rf"^{name}: expected the picture's size \[64, 80\], found \[80, 64\]$"):
            Guidance.of((64, 80), **{name: np.ones((80, 64))})
        with pytest.raises(ShapeError, match=f"^{name}: expected finite numbers"):
            Guidance.of((64, 80), **{name: np.zeros((64, 80))})


def test_a_map_is_read_at_the_pixel_of_a_mean() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    means = np.array([[0.5, 0.5], [3.9, 2.9], [4.0, 3.0], [-1, 1]], np.float32)
    assert sample(values, means).tolist() == [0, 11, 11, 4]


def encoded(scene: Pixels, settings: dict[str, Any] | None = None, **maps: Pixels) -> Any:
    return encode(scene, gaussians=150, effort=2, levels=2, guidance=Guidance(**maps), **(settings or {}))


def share_on_the_left(result: Any) -> float:
    return float(np.mean(result.gaussians.means[:, 0] < 40))


def error(result: Any, scene: Pixels) -> npt.NDArray[np.float64]:
    return np.mean((result.decoded - scene) ** 2, axis=0, dtype=np.float64)


@needs_kernels
def test_without_maps_or_with_even_ones_nothing_changes(scene: Pixels) -> None:
    plain = encode(scene, gaussians=150, effort=2, levels=2).data
    assert encoded(scene).data == plain
    assert encoded(scene, **{name: np.full((64, 80), 7.0) for name in NAMES}).data == plain
    with pytest.raises(ConfigError, match=r"^guidance: expected none beside importance or weights, found both$"):
        encode(scene, importance=left(), guidance=Guidance())
    with pytest.raises(ShapeError, match=r"^order: expected the picture's size \[64, 80\], found \[80, 64\]$"):
        encode(scene, guidance=Guidance(order=left((80, 64))))


@needs_kernels
@pytest.mark.parametrize("name", ["growth", "loss"])
def test_gaussians_and_quality_go_where_the_map_is_high(name: str, scene: Pixels) -> None:
    plain, guided = encoded(scene), encoded(scene, **{name: left()})
    assert share_on_the_left(guided) > share_on_the_left(plain) + 0.1
    assert error(guided, scene)[:, :40].mean() < error(plain, scene)[:, :40].mean()


@needs_kernels
def test_the_first_gaussians_lie_where_the_map_is_high(scene: Pixels) -> None:
    still = {"relocate": 0.0, "start_fraction": 1.0, "add_at": (), "steps": 2}
    plain, guided = encoded(scene, still), encoded(scene, still, start=left())
    assert share_on_the_left(guided) > share_on_the_left(plain) + 0.2


@needs_kernels
def test_colours_are_rounded_more_boldly_where_the_map_is_low(scene: Pixels) -> None:
    picture, goal = as_picture(scene), make_goal((64, 80), gaussians=150)
    job = Job(picture, EFFORTS[2], fit_config((64, 80), goal, 0, {}))
    gaussians = fit(job, 150, 60).gaussians
    plain = code(job, gaussians, 0.4)
    guided = code(replace(job, guidance=Guidance(rounding=left(factor=100.0))), gaussians, 0.4)
    assert guided.bits["color"] < 0.97 * plain.bits["color"]
    change = [np.mean((render(coded.gaussians) - scene) ** 2, axis=0, dtype=np.float64) for coded in (plain, guided)]
    assert change[1][:, 40:].mean() > change[0][:, 40:].mean()
    assert change[1][:, :36].mean() < 1.02 * change[0][:, :36].mean()


@needs_kernels
def test_steps_are_finer_where_the_map_is_concentrated(scene: Pixels) -> None:
    assert Guidance().concentration == 1
    assert Guidance(rounding=np.ones((4, 4), np.float32)).concentration == pytest.approx(1)
    # half the pixels count a hundred times as much: ten times as many Gaussians there
    weights = 200 / 101 * np.array([1, 0.01])
    expected = (weights**1.5).sum() / np.sqrt(weights).sum()
    found = Guidance(rounding=left(factor=100.0))
    assert found.concentration == pytest.approx(expected, rel=1e-4)
    job = Job(as_picture(scene), EFFORTS[2], fit_config((64, 80), make_goal((64, 80), gaussians=150), 0, {}))
    assert best_factor(replace(job, guidance=found), 900) == pytest.approx(best_factor(job, 900) / expected**0.5)


@needs_kernels
def test_levels_begin_where_the_map_is_high(scene: Pixels) -> None:
    plain, guided = encoded(scene), encoded(scene, order=left(factor=1000.0))
    first = [parse(result.data).whole[0].count for result in (plain, guided)]
    assert first[0] == first[1]
    shares = [np.mean(result.gaussians.means[: first[0], 0] < 40) for result in (plain, guided)]
    assert shares[1] > shares[0] + 0.2
    ordered = [np.sort(result.gaussians.means, axis=0) for result in (plain, guided)]
    np.testing.assert_allclose(*ordered, atol=1)  # the same, but for the places that the coder's trees leave
