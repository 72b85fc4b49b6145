from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imagegs import decoding
from imagegs.codec import BitWidths, choose_grid, round_to_grid, save, write_file
from imagegs.decoding import decode, read_gsimg
from imagegs.errors import ConfigError, FormatError, ImageError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo, Plane
from imagegs.kernels import native
from imagegs.rendering import render

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def calls(monkeypatch):
    """What `decode` asks the renderer for; it gets values from -1 to 2."""
    asked = []

    def fake(gaussians, height=None, width=None, *, region=None, threads=None, device="cpu"):
        asked.append((height, width, region, threads))
        shape = (gaussians.channels, height, width)
        return np.linspace(-1, 2, math.prod(shape), dtype=np.float32).reshape(shape)

    monkeypatch.setattr(decoding, "render", fake)
    return asked


def with_channels(gaussians: Gaussians2D, channels: int) -> Gaussians2D:
    colors = np.resize(gaussians.colors, (len(gaussians), channels))
    return gaussians.replace(colors=colors, background=np.zeros(channels))


@pytest.mark.parametrize(
    ("options", "rows", "columns", "region"),
    [
        ({}, 48, 64, (0, 0, 64, 48)),
        ({"height": 24}, 24, 32, (0, 0, 64, 48)),
        ({"height": 100}, 100, 133, (0, 0, 64, 48)),
        ({"height": 1}, 1, 1, (0, 0, 64, 48)),
        ({"scale": 2}, 96, 128, (0, 0, 64, 48)),
        ({"scale": 0.3}, 14, 19, (0, 0, 64, 48)),
        ({"scale": 1e-9}, 1, 1, (0, 0, 64, 48)),
        ({"region": (8, 4, 20, 10)}, 10, 20, (8, 4, 20, 10)),
        ({"region": (0.5, 0, 10.4, 0.2)}, 1, 10, (0.5, 0, 10.4, 0.2)),
        ({"region": (8, 4, 20, 10), "height": 30}, 30, 60, (8, 4, 20, 10)),
        ({"region": (44, 38, 20, 10), "scale": 1.5}, 15, 30, (44, 38, 20, 10)),
    ],
)
def test_sizes_and_regions(small_gaussians, calls, options, rows, columns, region):
    picture = decode(write_file(small_gaussians), **options, threads=2)
    assert calls == [(rows, columns, region, 2)]
    assert picture.pixels.shape == (3, rows, columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 10, "scale": 1.0}, "size: expected a height or a scale, found both: 10 and 1.0"),
        ({"height": 0}, "height: expected an integer from 1 to 1,048,576, found 0"),
        ({"height": 2.5}, "height: expected an integer from 1 to 1,048,576, found 2.5"),
        ({"height": 10**400}, "height: expected an integer from 1 to 1,048,576, found 1000"),
        ({"height": True}, "height: expected an integer from 1 to 1,048,576, found True"),
        ({"scale": 0.0}, "scale: expected a finite number above 0, found 0.0"),
        ({"scale": -1.0}, "scale: expected a finite number above 0, found -1.0"),
        ({"scale": math.nan}, "scale: expected a finite number above 0, found nan"),
        ({"scale": math.inf}, "scale: expected a finite number above 0, found inf"),
        ({"scale": 1e308}, "output: expected at most 268,435,456 pixels .max_pixels. and sides of at most 1,048,576"),
        ({"height": 1 << 20}, "output: expected at most 268,435,456 pixels"),
        ({"scale": 3.0, "max_pixels": 27_000}, "output: expected at most 27,000 pixels .*, found 192 x 144"),
        ({"level": -1}, "level: expected an integer from 0, found -1"),
        ({"level": 1.0}, "level: expected an integer from 0, found 1.0"),
        ({"level": True}, "level: expected an integer from 0, found True"),
        ({"max_bytes": 0}, "max_bytes: expected an integer from 1, found 0"),
        ({"max_bytes": "many"}, "max_bytes: expected an integer from 1, found 'many'"),
        ({"region": (0, 0, 65, 48)}, "within the canvas of 64 x 48 pixels, found 0, 0, 65, 48"),
        ({"region": (-1, 0, 10, 10)}, "within the canvas of 64 x 48 pixels, found -1, 0, 10, 10"),
        ({"region": (60, 40, 4, 8.5)}, "within the canvas of 64 x 48 pixels, found 60, 40, 4, 8.5"),
        ({"region": (0, 0, 0, 10)}, "within the canvas of 64 x 48 pixels, found 0, 0, 0, 10"),
        ({"region": (0, 0, math.nan, 10)}, "within the canvas of 64 x 48 pixels, found 0, 0, nan, 10"),
        ({"region": (0, 0, 10)}, "region: expected x, y, width, height"),
    ],
)
def test_options_that_are_refused(small_gaussians, calls, options, message):
    data = write_file(small_gaussians)
    with pytest.raises(ConfigError, match=message):
        decode(data, **options)
    assert calls == []


def test_the_limit_of_pixels_is_that_of_the_output(small_gaussians):
    assert decode(write_file(small_gaussians), height=4, max_pixels=3000).height == 4
    huge = small_gaussians.replace(width=1 << 20, height=1 << 20)
    assert decode(write_file(huge), region=(0, 0, 64, 48)).width == 64


def test_files_of_integers_are_cut_to_their_range(small_gaussians, calls):
    for channels in (1, 3, 4, 6):
        picture = decode(write_file(with_channels(small_gaussians, channels)))
        assert (picture.pixels.min(), picture.pixels.max()) == (0, 1)
        assert picture.info == PictureInfo.of_channels(channels)
        assert picture.pixels.flags.c_contiguous


def test_floating_point_and_wide_colours_are_not_cut(small_gaussians, calls):
    stack = PictureInfo((Plane("depth.exr", "F", 32), Plane("mask.png", "L", 8)), stack=True)
    pixels = decode(write_file(with_channels(small_gaussians, 2), info=stack)).pixels
    assert pixels[0].min() == -1
    assert pixels[1].max() == 1

    profile = PictureInfo((Plane("", "RGBA", 8),), icc=b"some profile")
    picture = decode(write_file(with_channels(small_gaussians, 4), info=profile))
    assert picture.info == profile
    assert picture.pixels[:3].min() == -1
    assert picture.pixels[:3].max() > 1
    assert (picture.pixels[3].min(), picture.pixels[3].max()) == (1, 1)


def test_paths_and_bytes(small_gaussians, calls, tmp_path):
    path = tmp_path / "x.gsimg"
    info = PictureInfo((Plane("", "RGB", 16),), exif=b"II*\0 exif")
    save(path, small_gaussians, bits=BitWidths(12, 8, 8, 8), info=info)
    for source in (path, str(path), path.read_bytes()):
        file = read_gsimg(source)
        assert file.size == path.stat().st_size
        assert file.bits == BitWidths(12, 8, 8, 8)
        picture = decode(source)
        assert picture.info == info
        assert picture.notes == ()
        assert picture.source == ("bytes" if isinstance(source, bytes) else str(path))
    with pytest.raises(ImageError, match=r"none\.gsimg: cannot be read"):
        decode(tmp_path / "none.gsimg")
    with pytest.raises(FormatError, match=r"^bytes: signature"):
        decode(b"nothing of the kind")


def test_a_newer_file_is_drawn_with_a_note(calls):
    path = GOLDEN / "newer_minor.gsimg"
    picture = decode(path)
    assert picture.notes == (f"{path}: written by version 2.200 of the format; what version 2.1 lacks was left out",)


def test_the_picture_is_the_render_of_the_rounded_gaussians(small_gaussians, tmp_path):
    path = tmp_path / "x.gsimg"
    save(path, small_gaussians)
    rounded = round_to_grid(small_gaussians, choose_grid(small_gaussians, BitWidths()))
    whole = decode(path).pixels
    np.testing.assert_array_equal(whole, np.clip(render(rounded, 48, 64), 0, 1))
    assert np.abs(whole - np.clip(render(small_gaussians), 0, 1)).max() < 0.1
    np.testing.assert_allclose(decode(path, region=(8, 4, 20, 10)).pixels, whole[:, 4:14, 8:28], atol=1e-5)
    half = decode(path, height=24).pixels
    assert half.shape == (3, 24, 32)
    assert np.abs(half - whole.reshape(3, 24, 2, 32, 2).mean(axis=(2, 4))).mean() < 0.02


@pytest.mark.skipif(not native.available(), reason="without compiled kernels, the PyTorch reference draws")
def test_decoding_starts_without_torch():
    code = (
        "import sys, imagegs\n"
        "pixels = imagegs.decode(sys.argv[1], scale=2).pixels\n"
        "print(pixels.shape, sorted({'torch', 'imagegs.fitting'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(GOLDEN / "grey.gsimg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 16, 24) []"


def test_an_address_is_told_without_its_user():
    pytest.importorskip("aiohttp")
    with pytest.raises(
        ImageError, match=r"^http://127\.0\.0\.1:9/a\.gsimg: cannot be read: no such file, or no answer$"
    ):
        decode("http://me:secret@127.0.0.1:9/a.gsimg")
