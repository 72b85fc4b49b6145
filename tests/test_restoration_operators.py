"""What happened to a picture: blurs, smaller pictures and JPEG files as operators, against what others make of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imagegs.apps.restoration import Blur, Chain, Downsample, Identity, read_jpeg
from imagegs.apps.restoration.operators import check_fits
from imagegs.apps.restoration.resampling import resampling_matrix
from PIL import Image
from scipy.ndimage import convolve

from imagegs.errors import ConfigError, ImageError, ShapeError


def picture(height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] + 0.5
    waves = [0.5 + 0.3 * np.sin(x / (4 + k)) * np.cos(y / (6 - k)) for k in range(channels)]
    return (np.stack(waves) + 0.15 * (np.hypot(x - 30, y - 20) < 11)).astype(np.float32)


def seen(operator, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(operator(torch.from_numpy(pixels)))


@pytest.mark.parametrize(
    "blur",
    [Blur.gaussian(1.3), Blur.disk(2.5), Blur.motion(7, 30), Blur(np.arange(15, dtype=np.float32).reshape(3, 5))],
)
def test_a_blur_is_a_convolution(blur):
    pixels = picture()
    expected = np.stack([convolve(channel, blur.kernel, mode="mirror") for channel in pixels])
    np.testing.assert_allclose(seen(blur, pixels), expected, atol=2e-6)
    assert blur.kernel.sum() == pytest.approx(1)


def test_kernels_have_the_shapes_of_their_names():
    bell = Blur.gaussian(2).kernel
    at = np.arange(len(bell)) - len(bell) // 2
    assert (bell.sum(axis=0) * at**2).sum() == pytest.approx(4, rel=0.05)
    disk = Blur.disk(4).kernel
    assert disk[4, 4] == pytest.approx(1 / (np.pi * 16), rel=0.02)
    assert np.array_equal(disk, disk.T)
    line = Blur.motion(9, 0).kernel
    assert line[len(line) // 2].sum() == pytest.approx(1)
    steep = Blur.motion(9, 90).kernel
    np.testing.assert_allclose(steep, line.T, atol=1e-6)
    down = Blur.motion(9, 45).kernel  # y points down
    assert down[2, 2] > 0 == down[2, -3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blur(np.zeros((3, 3))), "positive sum"),
        (lambda: Blur(-np.ones((3, 3))), "positive sum"),
        (lambda: Blur(np.ones((2, 3))), "odd sides"),
        (lambda: Blur(np.full((3, 3), np.nan)), "positive sum"),
        (lambda: Blur.gaussian(0), "sigma of the blur"),
        (lambda: Blur.gaussian(1000), "sigma of the blur"),
        (lambda: Blur.motion(-1, 0), "length of the motion"),
        (lambda: Downsample(0.5), "factor: expected 1 to 16"),
    ],
)
def test_what_is_no_operator_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_kernel_larger_than_the_picture_is_refused():
    with pytest.raises(ShapeError, match="kernel"):
        seen(Blur.gaussian(8), picture(16, 16))


@pytest.mark.parametrize(
    ("method", "filter"),
    [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS), ("area", Image.Resampling.BOX)],
)
@pytest.mark.parametrize("factor", [1, 2, 4, 1.6, 3.3])
def test_smaller_pictures_are_pillows(method, filter, factor):
    pixels = picture()
    size = max(1, round(64 / factor)), max(1, round(48 / factor))
    if method == "area" and factor != int(factor):
        expected = None  # Pillow's box counts whole pixels only; area counts what is covered
    else:
        expected = np.stack([np.asarray(Image.fromarray(channel).resize(size, filter)) for channel in pixels])
    found = seen(Downsample(factor, method), pixels)
    assert found.shape == (3, *size[::-1])
    if expected is not None:
        np.testing.assert_allclose(found, expected, atol=3e-6)
    np.testing.assert_allclose(found.mean(), pixels.mean(), atol=0.01)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["bicubic", "area", "lanczos"]))
def test_resampling_keeps_what_is_constant(source, target, method):
    matrix = resampling_matrix(source, target, method)
    assert matrix.shape == (target, source)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


def test_operators_chain():
    pixels, chain = picture(), Chain((Blur.gaussian(1), Downsample(2)))
    np.testing.assert_allclose(seen(chain, pixels), seen(Downsample(2), seen(Blur.gaussian(1), pixels)), atol=1e-6)
    assert chain.canvas_size((24, 32)) == (48, 64)
    assert chain.guess(seen(chain, pixels)).shape == (3, 48, 64)


@pytest.mark.parametrize("operator", [Identity(), Blur.gaussian(1.5), Downsample(2), Downsample(1.7, "area")])
def test_operators_are_differentiable(operator):
    image = torch.from_numpy(picture(24, 32)).double()[:1].float().requires_grad_()
    operator(image).square().sum().backward()
    assert image.grad is not None
    step = torch.zeros_like(image)
    step[0, 10, 12] = 1e-2
    with torch.no_grad():
        change = operator(image + step).square().sum() - operator(image - step).square().sum()
    assert float(image.grad[0, 10, 12]) == pytest.approx(float(change) / 2e-2, rel=0.02)


def test_an_operator_that_makes_another_size_is_refused():
    with pytest.raises(ConfigError, match="expected to make 31 x 25 pixels of 53 x 43, found 31 x 26"):
        check_fits(
            type("Odd", (), {"canvas_size": lambda self, s: (43, 53), "__call__": lambda self, x: x[:, :26, :31]})(),
            3,
            (25, 31),
        )


def as_jpeg(pixels: np.ndarray, **options) -> bytes:
    levels = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [10, 40])
@pytest.mark.parametrize("size", [(48, 64), (50, 61)])
def test_the_original_lies_within_the_intervals(quality, subsampling, size):
    pixels = np.round(255 * picture(*size)) / 255
    operator = read_jpeg(as_jpeg(pixels, quality=quality, subsampling=subsampling))
    unit = 8 * (2 if subsampling == 2 else 1), 8 * (2 if subsampling else 1)
    whole = (slice(None), *(slice(side // one * one) for side, one in zip(size, unit, strict=True)))

    def outside(image: np.ndarray) -> float:
        found = seen(operator, image.astype(np.float32)) - operator.decoded
        return float(np.sqrt(np.mean(found[whole] ** 2)))

    assert outside(pixels) < 0.15 / 255  # chroma is known from rounded pixels only
    wrong = np.roll(pixels, 2, axis=2)
    assert outside(wrong) > 10 * outside(pixels)
    assert outside(operator.nearest(wrong.astype(np.float32))) < 1e-5
    # where no whole block is seen, a canvas is compared with the decoded picture itself
    beyond = np.ones(size, bool)
    beyond[whole[1:]] = False
    assert np.array_equal(seen(operator, pixels.astype(np.float32))[:, beyond], pixels.astype(np.float32)[:, beyond])


def test_grey_files_have_one_plane():
    pixels = np.round(255 * picture(channels=1)) / 255
    operator = read_jpeg(as_jpeg(pixels, quality=20))
    assert np.abs(seen(operator, pixels.astype(np.float32)) - operator.decoded).max() < 1e-5
    with pytest.raises(ConfigError, match="expected 1 channels"):
        operator(torch.zeros((3, 48, 64)))


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_what_is_no_jpeg_is_refused(data):
    with pytest.raises(ImageError, match=r"a\.jpg: expected a JPEG file"):
        read_jpeg(data, "a.jpg")


def test_a_png_is_no_jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    with pytest.raises(ImageError, match="found PNG RGB"):
        read_jpeg(buffer.getvalue(), "a.png")
