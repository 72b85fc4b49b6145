"""Importance maps: made, changed, combined, drawn, and turned into what an encoding follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagegs.apps.saliency.guide import EFFECTS, guidance_of, weights_of
from imagegs.apps.saliency.maps import as_rgb, combine, resize, smooth, stretch, write
from imagegs.apps.saliency.regions import Box, check_mask, draw_boxes, parse_box, read_mask
from PIL import Image

from imagegs import ConfigError, ImageError, ShapeError, as_picture

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_a_model_sees_three_channels(mode: str) -> None:
    values = RANDOM.integers(0, 256, (6, 5, {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]), dtype=np.uint8)
    picture = as_picture(Image.fromarray(values.squeeze(), mode))
    found = as_rgb(picture)
    assert found.shape == (3, 6, 5)
    expected = values[..., : 3 if "RGB" in mode else 1].astype(np.float32) / 255
    np.testing.assert_allclose(found.transpose(1, 2, 0), np.broadcast_to(expected, (6, 5, 3)), atol=1e-6)
    found[:] = 0  # its own memory


def test_a_stack_is_seen_as_its_first_picture(tmp_path: Path) -> None:
    for name, value in (("a", 40), ("b", 200)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"{name}.png")
    np.testing.assert_allclose(as_rgb(as_picture(tmp_path)), 40 / 255, atol=1e-6)


def test_stretching_and_resizing() -> None:
    found = stretch([[2.0, 4.0], [3.0, 2.0]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 1], [0.5, 0]])
    np.testing.assert_array_equal(stretch(np.full((2, 3), 7.0)), np.zeros((2, 3)))
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None].repeat(30, 0)
    small = resize(ramp, (15, 20))
    np.testing.assert_allclose(small[:, 1:-1], ramp.reshape(15, 2, 20, 2).mean(axis=(1, 3))[:, 1:-1], atol=1e-3)
    assert resize(ramp, (30, 40)) is ramp
    assert resize(ramp, (7, 3)).shape == (7, 3)


def test_smoothing_is_relative_to_the_picture() -> None:
    for side in (50, 100):
        dot = np.zeros((side, side), np.float32)
        dot[side // 2, side // 2] = 1
        found = smooth(dot, 0.05)
        rows = np.arange(side) - side // 2
        spread = np.sqrt((found.sum(axis=1) * rows**2).sum() / found.sum())
        assert spread == pytest.approx(0.05 * np.hypot(side, side), rel=0.03)


@pytest.mark.parametrize(
    ("how", "shares", "expected"),
    [
        ("max", None, [0.8, 0.5]),
        ("max", [0.5, 1.0], [0.4, 0.5]),
        ("mean", None, [0.5, 0.25]),
        ("mean", [3.0, 1.0], [0.65, 0.125]),
        ("product", None, [0.16, 0.0]),
        ("product", [2.0, 0.0], [0.64, 0.0]),
        ("max", [2.0, 1.0], [1.0, 0.3125]),  # brought back to at most 1
    ],
)
def test_combining(how: Any, shares: list[float] | None, expected: list[float]) -> None:
    maps = [np.array([[0.8, 0.0]], np.float32), np.array([[0.2, 0.5]], np.float32)]
    np.testing.assert_allclose(combine(maps, how, shares), [expected], rtol=1e-6)


def test_what_cannot_be_combined() -> None:
    one = np.ones((2, 2), np.float32)
    with pytest.raises(ConfigError, match=r"^maps: expected at least one, found none$"):
        combine([])
    for shares in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("inf")]):
        with pytest.raises(
            ConfigError, match=r"^shares: expected 2 numbers, none negative and some positive, found \["
        ):
            combine([one, one], "mean", shares)
    with pytest.raises(ConfigError, match=r"^combine: expected one of max, mean, product, found 'sum'$"):
        combine([one], "sum")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"^maps: expected one size, found \[2, 2\], \[2, 3\]$"):
        combine([one, np.ones((2, 3), np.float32)])


def test_a_map_is_written(tmp_path: Path) -> None:
    values = RANDOM.random((5, 7), dtype=np.float32)
    write(tmp_path / "map.png", values)
    write(tmp_path / "map.npy", values)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "map.png")) / 255, values, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), values)
    with pytest.raises(ImageError):
        write(tmp_path / "nowhere" / "map.png", values)


# -- strength, floor, effects


def test_weights_are_geometric_in_the_strength() -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(weights_of(values, 0.0, 0.1), 1)
    full = weights_of(values, 1.0, 0.1)
    np.testing.assert_allclose(full, [[0.1, 0.55, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(weights_of(values, 0.5, 0.1), np.sqrt(full), rtol=1e-6)
    assert weights_of(values, 1.0, 1.0).min() == 1


def test_what_no_strength_and_no_map_is() -> None:
    values = np.ones((2, 2), np.float32)
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"^strength: expected 0 to 1, found "):
            weights_of(values, strength)
    for floor in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"^floor: expected a number above 0, at most 1, found "):
            weights_of(values, 1.0, floor)
    for bad in (values - 2, values * 2, values * np.nan, values[0]):
        with pytest.raises(ShapeError, match=r"^importance: expected \[H, W\] of numbers from 0 to 1$"):
            weights_of(bad, 1.0)
    with pytest.raises(ConfigError, match=r"^without: expected some of start, .*, found bits, names$"):
        guidance_of(values, 1.0, without=("loss", "names", "bits"))


def test_every_effect_follows_the_map_unless_left_out() -> None:
    values = RANDOM.random((4, 6), dtype=np.float32)
    maps = guidance_of(values, 1.0, 0.02).maps
    weights = weights_of(values, 1.0, 0.02)
    for name in EFFECTS:
        expected = np.sqrt(weights) if name in ("start", "growth") else weights
        found = maps[name]
        assert found is not None
        np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)
        left = guidance_of(values, 1.0, without=(name,)).maps
        assert {key for key, value in left.items() if value is None} == {name}
    for plain in (guidance_of(values, 0.0), guidance_of(np.full((4, 6), 0.3, np.float32), 1.0)):
        assert set(plain.maps.values()) == {None}


# -- masks and boxes


def test_a_box_in_words() -> None:
    assert parse_box("1,2,30,40") == Box(1, 2, 30, 40, 1)
    assert parse_box(" -1.5, 2,3e1,40,0.25") == Box(-1.5, 2, 30, 40, 0.25)
    for text in ("", "1,2,3", "1,2,3,4,5,6", "a,b,c,d", "1;2;3;4"):
        with pytest.raises(ConfigError, match=r"^roi: expected x,y,w,h or x,y,w,h,weight, found "):
            parse_box(text)
    for text in ("1,2,0,4", "1,2,3,-4", "1,2,nan,4", "inf,2,3,4"):
        with pytest.raises(ConfigError, match=r"^roi: expected a width and height above 0, found "):
            parse_box(text)
    for text in ("1,2,3,4,0", "1,2,3,4,1.5", "1,2,3,4,-1"):
        with pytest.raises(ConfigError, match=r"^roi: expected a weight above 0, at most 1, found "):
            parse_box(text)


def test_boxes_hold_the_pixels_whose_centres_they_hold() -> None:
    found = draw_boxes([Box(1, 1, 2, 1), Box(2.4, 0, 10, 2, 0.5)], (3, 5))
    np.testing.assert_array_equal(found, [[0, 0, 0.5, 0.5, 0.5], [0, 1, 1, 0.5, 0.5], [0, 0, 0, 0, 0]])
    assert draw_boxes([Box(-5, -5, 6, 6)], (3, 5)).sum() == 1
    for box in (Box(5, 0, 2, 2), Box(0, -3, 2, 2), Box(1.6, 1, 0.3, 1)):
        with pytest.raises(ConfigError, match=r"^roi: expected pixels of the picture \(5 x 3\) in the box, found "):
            draw_boxes([box], (3, 5))


def test_a_mask_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    values = np.zeros((4, 6, 4), np.uint8)
    values[1, 2] = (255, 0, 0, 0)  # alpha does not count
    values[2, 3] = (255, 255, 255, 255)
    Image.fromarray(values).save(path)
    found = read_mask(path, (4, 6))
    assert found[1, 2] == pytest.approx(1 / 3)
    assert found[2, 3] == 1
    assert np.count_nonzero(found) == 2
    with pytest.raises(ImageError, match=r"mask\.png: expected a mask of the picture's size, 4 x 6, found 6 x 4$"):
        read_mask(path, (6, 4))
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    with pytest.raises(
        ImageError, match=r"mask\.png: expected a mask with some pixel brighter than black, found none$"
    ):
        read_mask(path, (4, 6))
    with pytest.raises(ImageError, match=r"absent\.png"):
        read_mask(tmp_path / "absent.png", (4, 6))


def test_a_mask_from_an_array() -> None:
    np.testing.assert_allclose(check_mask([[0, 0.5]], (1, 2)), [[0, 0.5]])
    np.testing.assert_allclose(check_mask([[0, 4]], (1, 2)), [[0, 1]])
    np.testing.assert_array_equal(check_mask(np.array([[True, False]]), (1, 2)), [[1, 0]])
    with pytest.raises(ShapeError, match=r"^mask: expected the picture's size \[2, 1\], found \[1, 2\]$"):
        check_mask([[0, 1]], (2, 1))
    for bad in ([[0, 0]], [[-1, 1]], [[np.nan, 1]], [[np.inf, 1]]):
        with pytest.raises(ShapeError, match=r"^mask: expected finite numbers, none negative and some positive$"):
            check_mask(bad, (1, 2))
    with pytest.raises(ShapeError, match=r"^mask: expected an array of numbers, found str$"):
        check_mask("face", (1, 2))
