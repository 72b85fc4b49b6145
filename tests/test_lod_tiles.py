"""Pyramids of tiles: read back by what info.json says alone, put together, and compared with the Gaussians."""

from __future__ import annotations

import json
import math
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagegs.apps.lod import tiles
from imagegs.apps.lod.tiles import INFO, Pyramid, write_tiles
from PIL import Image

import imagegs
from imagegs import Gaussians2D, PictureInfo, Plane, render
from imagegs.codec import write_file

BASE = "https://example.org/pictures/photo"


def scattered(width: int, height: int, channels: int = 3, count: int = 150) -> Gaussians2D:
    random = np.random.default_rng(5)
    return Gaussians2D(
        means=random.uniform((0, 0), (width, height), (count, 2)),
        scales=random.uniform(0.7, 9, (count, 2)),
        rotations=random.uniform(0, np.pi, count),
        colors=random.uniform(-0.1, 1.1, (count, channels)),
        background=np.full(channels, 0.4, np.float32),
        height=height,
        width=width,
    )


def stored(path: Path, gaussians: Gaussians2D, info: PictureInfo | None = None) -> Gaussians2D:
    """Writes a file; the Gaussians that it decodes to."""
    path.write_bytes(write_file(gaussians, info=info))
    return imagegs.load(path)


def requests_of(info: dict[str, Any], factor: int) -> Iterator[tuple[int, int, tuple[int, int, int, int], str]]:
    """Every tile of a scale factor: column, row, region, and the canonical path of the request.

    Written after the implementation notes of the specification and its section 4.8, not after the code under test.
    """
    full_width, full_height = info["width"], info["height"]
    tile_width, tile_height = info["tiles"][0]["width"], info["tiles"][0]["height"]
    for row in range(math.ceil(full_height / (tile_height * factor))):
        for column in range(math.ceil(full_width / (tile_width * factor))):
            x, y = column * tile_width * factor, row * tile_height * factor
            width, height = min(tile_width * factor, full_width - x), min(tile_height * factor, full_height - y)
            size = math.ceil(width / factor), math.ceil(height / factor)
            everything = (x, y, width, height) == (0, 0, full_width, full_height)
            region = "full" if everything else f"{x},{y},{width},{height}"
            wanted = "max" if everything and size == (full_width, full_height) else f"{size[0]},{size[1]}"
            yield column, row, (x, y, width, height), f"{region}/{wanted}/0/default"


def stitched(folder: Path, factor: int, kind: str = "png") -> np.ndarray[Any, Any]:
    """[C, H, W] in [0, 1] of a scale factor, as a viewer puts it together."""
    info = json.loads((folder / INFO).read_text(encoding="utf-8"))
    rows: dict[int, list[np.ndarray[Any, Any]]] = {}
    for _, row, _, path in requests_of(info, factor):
        with Image.open(folder / f"{path}.{kind}") as image:
            rows.setdefault(row, []).append(np.atleast_3d(np.asarray(image, np.float32) / 255))
    found = np.concatenate([np.concatenate(row, axis=1) for row in rows.values()], axis=0)
    return np.moveaxis(found, -1, 0)


def difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - np.clip(expected, 0, 1)).max())


ROUNDED = 0.51 / 255


@pytest.mark.parametrize(
    ("width", "height", "tile", "scale_up"),
    [(256, 192, 64, 1), (300, 201, 64, 1), (97, 1, 16, 1), (64, 48, 64, 3), (64, 48, 16, 2), (200, 120, 256, 1)],
)
def test_tiles_put_together_are_the_picture_at_every_size(
    tmp_path: Path, width: int, height: int, tile: int, scale_up: int
) -> None:
    gaussians = stored(tmp_path / "photo.gsimg", scattered(width, height))
    folder = tmp_path / "photo"
    path = write_tiles(tmp_path / "photo.gsimg", folder, tile=tile, format="png", scale_up=scale_up, base_uri=BASE)
    info = json.loads(path.read_text(encoding="utf-8"))
    assert (info["width"], info["height"]) == (scale_up * width, scale_up * height)
    for factor in info["tiles"][0]["scaleFactors"]:
        found = stitched(folder, factor)
        columns, rows = math.ceil(scale_up * width / factor), math.ceil(scale_up * height / factor)
        assert found.shape == (3, rows, columns)
        for column, row, (x, y, w, h), _ in requests_of(info, factor):
            region = x / scale_up, y / scale_up, w / scale_up, h / scale_up
            part = found[:, row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            assert difference(part, render(gaussians, part.shape[1], part.shape[2], region=region)) < ROUNDED
        if scale_up * width % factor == 0 == scale_up * height % factor:
            assert difference(found, render(gaussians, rows, columns)) < ROUNDED
        else:  # the pixels of the last column and row are a little narrower there
            whole = 0.0, 0.0, columns * factor / scale_up, rows * factor / scale_up
            inner = np.s_[:, : (rows - 1) // tile * tile, : (columns - 1) // tile * tile]
            if found[inner].size:
                assert difference(found[inner], render(gaussians, rows, columns, region=whole)[inner]) < ROUNDED


@pytest.mark.parametrize(("width", "height", "tile"), [(300, 201, 64), (64, 48, 64), (64, 48, 512), (65, 64, 64)])
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_there_is_what_info_names_and_nothing_else(
    tmp_path: Path, width: int, height: int, tile: int, kind: tiles.Format
) -> None:
    stored(tmp_path / "photo.gsimg", scattered(width, height))
    folder, steps = tmp_path / "photo", []
    path = write_tiles(
        tmp_path / "photo.gsimg", folder, tile=tile, format=kind, on_file=lambda *step: steps.append(step)
    )
    info = json.loads(path.read_text(encoding="utf-8"))
    asked = {f"{path}.{kind}" for factor in info["tiles"][0]["scaleFactors"] for *_, path in requests_of(info, factor)}
    sizes = ["max", *(f"{size['width']},{size['height']}" for size in info["sizes"])]
    asked |= {f"full/{size}/0/default.{ending}" for size in sizes for ending in {kind, "jpg"}}
    there = {found.relative_to(folder).as_posix() for found in folder.rglob("*") if found.is_file()}
    assert there == asked | {INFO}
    counted = sum(name.endswith(kind) for name in there)
    assert steps == [(done + 1, counted) for done in range(counted)]
    for name in asked:
        size = name.split("/")[1]
        with Image.open(folder / name) as image:
            assert image.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]
            assert size in {"max", f"{image.width},{image.height}"}


def test_the_description(tmp_path: Path) -> None:
    stored(tmp_path / "photo.gsimg", scattered(1200, 700))
    path = write_tiles(tmp_path / "photo.gsimg", tmp_path / "photo", tile=256, format="webp", base_uri=BASE + "/")
    assert path == tmp_path / "photo" / "info.json"
    text = path.read_text(encoding="utf-8")
    assert text.startswith('{\n  "@context"')  # it should come first
    assert json.loads(text) == {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": BASE,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level0",
        "width": 1200,
        "height": 700,
        "sizes": [{"width": 150, "height": 88}, {"width": 300, "height": 175}, {"width": 600, "height": 350}],
        "tiles": [{"width": 256, "height": 256, "scaleFactors": [1, 2, 4, 8]}],
        "preferredFormats": ["webp"],
        "extraFormats": ["webp"],
    }


def test_without_an_address_it_is_that_of_the_server(tmp_path: Path) -> None:
    stored(tmp_path / "photo.gsimg", scattered(40, 30))
    path = write_tiles(tmp_path / "photo.gsimg", tmp_path / "ä b")
    assert json.loads(path.read_bytes())["id"] == "http://127.0.0.1:8000/%C3%A4%20b"


def test_the_largest_file_of_the_whole_picture_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_AREA", 100 * 80)
    gaussians = stored(tmp_path / "photo.gsimg", scattered(200, 160))
    folder = tmp_path / "photo"
    path = write_tiles(tmp_path / "photo.gsimg", folder, tile=64, format="png")
    assert json.loads(path.read_bytes())["maxArea"] == 100 * 80
    with Image.open(folder / "full" / "max" / "0" / "default.png") as image:
        found = np.moveaxis(np.asarray(image, np.float32) / 255, -1, 0)
    assert difference(found, render(gaussians, 80, 100)) < ROUNDED


@pytest.mark.parametrize(("width", "height"), [(1, 1), (512, 512), (513, 512), (1 << 20, 3), (100_000, 70_000)])
@pytest.mark.parametrize("tile", [256, 512])
def test_a_pyramid_ends_with_one_tile(width: int, height: int, tile: int) -> None:
    pyramid = Pyramid(width, height, tile)
    assert pyramid.factors == tuple(1 << k for k in range(len(pyramid.factors)))
    assert pyramid.grid(pyramid.factors[-1]) == (1, 1)
    assert all(pyramid.grid(factor) != (1, 1) for factor in pyramid.tiled)
    assert math.prod(pyramid.size(pyramid.largest)) <= tiles.MAX_AREA
    assert max(pyramid.size(pyramid.largest)) <= tiles.MAX_SIDE
    assert pyramid.files >= 1 + len(pyramid.listed)


def test_lossy_tiles_are_close(tmp_path: Path) -> None:
    gaussians = stored(tmp_path / "photo.gsimg", scattered(256, 192))
    errors = {}
    for kind, quality in (("jpg", 90), ("jpg", 20), ("webp", 90)):
        folder = tmp_path / f"{kind}{quality}"
        write_tiles(tmp_path / "photo.gsimg", folder, tile=64, format=kind, quality=quality)
        found = stitched(folder, 1, kind)
        errors[kind, quality] = float(np.square(found - np.clip(render(gaussians), 0, 1)).mean())
    assert errors["jpg", 90] < errors["jpg", 20]
    assert max(errors["jpg", 90], errors["webp", 90]) < 1e-3


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_channels(tmp_path: Path, channels: int, mode: str) -> None:
    gaussians = stored(tmp_path / "photo.gsimg", scattered(80, 60, channels))
    folder = tmp_path / "photo"
    write_tiles(tmp_path / "photo.gsimg", folder, tile=64, format="png")
    with Image.open(folder / "0,0,64,60" / "64,60" / "0" / "default.png") as image:
        assert image.mode == mode
    assert difference(stitched(folder, 1), render(gaussians)) < ROUNDED
    with Image.open(folder / "full" / "max" / "0" / "default.jpg") as image:  # for clients that know nothing else
        assert image.mode == ("L" if channels < 3 else "RGB")
        flat = np.moveaxis(np.atleast_3d(np.asarray(image, np.float32)) / 255, -1, 0)
    expected = np.clip(render(gaussians), 0, 1)
    if channels in (2, 4):
        expected = expected[-1] * expected[:-1] + 1 - expected[-1]
    assert float(np.abs(flat - expected).mean()) < 0.02


def test_transparency_needs_a_format_that_has_it(tmp_path: Path) -> None:
    stored(tmp_path / "photo.gsimg", scattered(80, 60, 4))
    with pytest.raises(
        imagegs.ConfigError, match="format: expected png or webp for a picture with transparency, found"
    ):
        write_tiles(tmp_path / "photo.gsimg", tmp_path / "photo")
    write_tiles(tmp_path / "photo.gsimg", tmp_path / "photo", format="webp")
    with Image.open(tmp_path / "photo" / "full" / "max" / "0" / "default.webp") as image:
        assert image.mode == "RGBA"


def test_one_picture_of_a_stack(tmp_path: Path) -> None:
    info = PictureInfo((Plane("color.png", "RGB", 8), Plane("height.png", "L", 16)), stack=True)
    gaussians = stored(tmp_path / "stack.gsimg", scattered(80, 60, 4), info)
    for plane, where in ((None, slice(0, 3)), ("color.png", slice(0, 3)), ("height.png", slice(3, 4))):
        write_tiles(tmp_path / "stack.gsimg", tmp_path / "tiles", plane=plane, format="png", overwrite=True)
        assert difference(stitched(tmp_path / "tiles", 1), render(gaussians)[where]) < ROUNDED
    with pytest.raises(
        imagegs.ConfigError, match=r"plane: expected one of color\.png, height\.png, found 'normal\.png'"
    ):
        write_tiles(tmp_path / "stack.gsimg", tmp_path / "other", plane="normal.png")


def test_memory_does_not_follow_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "DRAWN_PIXELS", 1 << 14)
    monkeypatch.setattr(tiles, "MAX_AREA", 1 << 14)
    monkeypatch.setattr(tiles, "LISTED_SIDE", 1 << 7)
    stored(tmp_path / "photo.gsimg", scattered(64, 64, count=30))
    peaks = {}
    for scale_up in (1, 8, 24):  # the first time for what is loaded only once
        tracemalloc.start()
        try:
            write_tiles(tmp_path / "photo.gsimg", tmp_path / str(scale_up), tile=64, scale_up=scale_up)
            peaks[scale_up] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peaks[24] < 1.5 * peaks[8]
    assert peaks[24] < (24 * 64) ** 2 / 2  # of the largest size, pixels


class Stopped(Exception):
    pass


def stop(done: int, files: int) -> None:
    if done == 3:
        raise Stopped


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("before", [None, "empty", "pyramid"])
def test_nothing_is_left_half_done(tmp_path: Path, before: str | None) -> None:
    stored(tmp_path / "photo.gsimg", scattered(100, 80))
    folder = tmp_path / "photo"
    if before == "empty":
        folder.mkdir()
    elif before == "pyramid":
        write_tiles(tmp_path / "photo.gsimg", folder, tile=32)
    old = contents(folder)
    with pytest.raises(Stopped):
        write_tiles(tmp_path / "photo.gsimg", folder, tile=16, overwrite=True, on_file=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo"] * (before is not None) + ["photo.gsimg"]
    assert contents(folder) == old
    write_tiles(tmp_path / "photo.gsimg", folder, tile=16, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo", "photo.gsimg"]
    assert json.loads((folder / INFO).read_bytes())["tiles"][0]["width"] == 16
    assert not [name for name in contents(folder) if "/32,32/" in name]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "photo.gsimg", scattered(100, 80))

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(imagegs.ImageError, match="photo: cannot be written: no space left on device"):
        write_tiles(tmp_path / "photo.gsimg", tmp_path / "photo")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.gsimg"]


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    stored(tmp_path / "photo.gsimg", scattered(100, 80))
    for name, threads in (("one", 1), ("two", 2)):
        write_tiles(tmp_path / "photo.gsimg", tmp_path / name, tile=32, base_uri=BASE, threads=threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    source = tmp_path / "photo.gsimg"
    stored(source, scattered(40, 30))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    for overwrite, text in (
        (False, "an empty folder or none, found files in it"),
        (True, "a pyramid of tiles to over"),
    ):
        with pytest.raises(imagegs.ImageError, match=f"full: expected {text}"):
            write_tiles(source, tmp_path / "full", overwrite=overwrite)
    with pytest.raises(imagegs.ImageError, match=r"photo\.gsimg: expected a folder, found a file of this name"):
        write_tiles(source, source, overwrite=True)
    with pytest.raises(imagegs.ImageError, match=r"tiles: cannot be written: the folder .*none does not exist"):
        write_tiles(source, tmp_path / "none" / "tiles")
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    stored(tmp_path / "photo.gsimg", scattered(40, 30))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_tiles(tmp_path / "photo.gsimg", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / INFO).is_file()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tile": 8}, "tile: expected 16 to 4,096 pixels, found 8"),
        ({"tile": 5000}, "tile: expected 16 to 4,096 pixels, found 5,000"),
        ({"format": "gif"}, "format: expected one of jpg, png, webp, found 'gif'"),
        ({"quality": 0}, "quality: expected 1 to 100, found 0"),
        ({"scale_up": 0}, "scale_up: expected 1 or more, found 0"),
        ({"scale_up": 10**6}, "tile: expected no more than 1,048,576 files, found "),
        ({"plane": "a.png"}, "plane: expected none, since this is a single picture, found 'a.png'"),
        ({"base_uri": "photo"}, "base_uri: expected an address like https://example.org/photo, found 'photo'"),
        ({"base_uri": "ftp://example.org/a"}, "base_uri: expected an address"),
        ({"base_uri": "https://example.org/a?b"}, "base_uri: expected an address"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    stored(tmp_path / "photo.gsimg", scattered(40, 30))
    with pytest.raises(imagegs.ConfigError, match=re.escape(text)):
        write_tiles(tmp_path / "photo.gsimg", tmp_path / "photo", **options)
    assert not (tmp_path / "photo").exists()


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(imagegs.ImageError, match=r"none\.gsimg"):
        write_tiles(tmp_path / "none.gsimg", tmp_path / "photo")
    data = write_file(scattered(40, 30))
    (tmp_path / "cut.gsimg").write_bytes(data[:-10])
    with pytest.raises(imagegs.TruncatedError, match=r"cut\.gsimg"):
        write_tiles(tmp_path / "cut.gsimg", tmp_path / "photo")
    (tmp_path / "empty.gsimg").write_bytes(b"")
    with pytest.raises(imagegs.FormatError, match=r"empty\.gsimg"):
        write_tiles(tmp_path / "empty.gsimg", tmp_path / "photo")
    assert not (tmp_path / "photo").exists()


def test_a_pyramid_is_served(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from imagegs.apps.lod.server import make_app
    from lod_reading import ask, running

    stored(tmp_path / "photo.gsimg", scattered(100, 80))
    path = write_tiles(tmp_path / "photo.gsimg", tmp_path / "photo", tile=32)
    with running(make_app(tmp_path)) as port:
        info = ask(port, "/photo/info.json")
        assert (info.headers["content-type"], info.body) == ("application/json", path.read_bytes())
        assert info.headers["access-control-allow-origin"] == "*"
        for factor in json.loads(info.body)["tiles"][0]["scaleFactors"]:
            for *_, name in requests_of(json.loads(info.body), factor):
                found = ask(port, f"/photo/{name}.jpg")
                assert (found.status, found.headers["content-type"]) == (200, "image/jpeg")
