"""Windows of pictures of every kind are what reading them whole gives; and what is no picture is said in one line."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from imagegs import read_image
from imagegs.errors import ImageError
from imagegs.giant.windows import PLAIN, open_windows

pyvips = pytest.importorskip("pyvips")
HEIGHT, WIDTH = 150, 170
BOX = 20, 30, 64, 50


def samples(channels: int, kind: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [0.5 + 0.4 * np.sin(x / (9 + channel) + y / 13) for channel in range(channels)]
    values = np.stack(waves, axis=-1)
    return values.astype(np.float32) if kind is np.float32 else (values * np.iinfo(kind).max).astype(kind)


def check(path: Path, scratch: Path, *, copied: bool) -> None:
    windows, whole = open_windows(str(path), scratch), read_image(path)
    assert (windows.height, windows.width) == (whole.height, whole.width)
    assert windows.info == whole.info
    x, y, width, height = BOX
    assert np.array_equal(windows.read(BOX), whole.pixels[:, y : y + height, x : x + width])
    corner = (whole.width - 7, whole.height - 5, 7, 5)
    assert np.array_equal(windows.read(corner), whole.pixels[:, -5:, -7:])
    assert (scratch / PLAIN).exists() == copied


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiled_tiff_is_read_where_it_lies(tmp_path, channels, kind):
    image = pyvips.Image.new_from_array(samples(channels, kind))
    image = image.copy(interpretation={1: "b-w", 3: "srgb", 4: "srgb"}[channels] if kind is np.uint8 else "rgb16")
    image.tiffsave(str(tmp_path / "a.tif"), tile=True, tile_width=64, tile_height=64, bigtiff=True)
    check(tmp_path / "a.tif", tmp_path, copied=False)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "strips.tif", "grey.png", "alpha.png"])
def test_other_files_are_copied_once(tmp_path, name):
    pixels = samples({"grey.png": 1, "alpha.png": 4}.get(name, 3))
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(tmp_path / name)
    check(tmp_path / name, tmp_path, copied=True)
    before = (tmp_path / PLAIN).stat().st_mtime_ns
    open_windows(str(tmp_path / name), tmp_path)
    assert (tmp_path / PLAIN).stat().st_mtime_ns == before


def test_what_stands_beside_the_pixels_is_kept(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6  # a quarter turn
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(samples(3)).save(tmp_path / "a.png", exif=exif, icc_profile=profile)
    check(tmp_path / "a.png", tmp_path, copied=True)
    windows = open_windows(str(tmp_path / "a.png"), tmp_path)
    assert (windows.height, windows.width) == (WIDTH, HEIGHT)
    assert b"maker" in windows.info.exif


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("axes", ["yx", "yxc", "cyx", "tczyx"])
def test_zarr_arrays(tmp_path, kind, axes):
    zarr = pytest.importorskip("zarr")
    pixels = samples(1 if axes == "yx" else 3, kind)
    stored = {"yx": pixels[..., 0], "yxc": pixels}.get(axes, np.moveaxis(pixels, -1, 0))
    if axes == "tczyx":
        stored = stored[None, :, None]
    if axes == "tczyx":
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        array = group.create_array("0", shape=stored.shape, dtype=stored.dtype, chunks=(1, 3, 1, 64, 64))
    else:
        array = zarr.create_array(tmp_path / "a.zarr", shape=stored.shape, dtype=stored.dtype)
    array[...] = stored
    windows = open_windows(str(tmp_path / "a.zarr"), tmp_path)
    assert (windows.height, windows.width) == (HEIGHT, WIDTH)
    x, y, width, height = BOX
    top = 1 if kind is np.float32 else np.iinfo(kind).max
    found = windows.read(BOX)
    assert found == pytest.approx(np.moveaxis(pixels[y : y + height, x : x + width], -1, 0) / top, abs=1e-6)


def test_what_is_no_picture_is_said_in_one_line(tmp_path):
    zarr = pytest.importorskip("zarr")
    (tmp_path / "text.tif").write_text("no picture")
    Image.fromarray(samples(3)).save(tmp_path / "a.png")
    (tmp_path / "empty.tif").touch()
    Image.new("L", (8, 8)).save(tmp_path / "huge.tif")
    huge = bytearray((tmp_path / "huge.tif").read_bytes())
    width = huge.index(struct.pack("<HHII", 256, 4, 1, 8))
    huge[width : width + 12] = struct.pack("<HHII", 256, 4, 1, 2**31 - 1)
    (tmp_path / "huge.tif").write_bytes(huge)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    zarr.create_array(tmp_path / "five.zarr", shape=(9, 9, 5), dtype="uint8")[...] = 0
    zarr.create_array(tmp_path / "deep.zarr", shape=(9, 9), dtype="float64")[...] = 0
    (tmp_path / "none.zarr").mkdir()
    for name, message in (
        ("absent.tif", "no such file"),
        ("text.tif", "expected a picture that libvips reads"),
        ("empty.tif", 'libvips reads, found: ".*empty.tif" is not a known file format$'),
        ("huge.tif", "libvips reads, found: width/height out of range$"),
        ("cut.png", "cannot be decoded"),
        ("five.zarr", "expected an array of height, width and 1 to 4 channels"),
        ("deep.zarr", "float64"),
        ("none.zarr", "cannot be read"),
    ):
        with pytest.raises(ImageError, match=message) as caught:
            open_windows(str(tmp_path / name), tmp_path)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    assert not list(tmp_path.glob("*pixels.v"))
