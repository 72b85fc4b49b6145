"""A pyramid of tiles for viewers that know IIIF: Image API 3, level 0, as plain files.

```
FOLDER/info.json
FOLDER/X,Y,W,H/w,h/0/default.jpg     a tile: a region of the picture, pixels, at a size
FOLDER/full/w,h/0/default.jpg        the whole picture at each size that info.json lists
FOLDER/full/max/0/default.jpg        and at the largest one
```

Source: IIIF Image API 3.0, https://iiif.io/api/image/3.0/, sections 4.8 (the canonical form of a request, which is the
one that a folder of files can answer) and 5; which tiles there are: its implementation notes. At scale factor s a tile
shows tile · s pixels of the picture, at the edges what is left, and has that many pixels divided by s, rounded up.

Every size is drawn from the Gaussians, whose widths follow the pixel's, and never scaled from a larger one.
"""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagegs import ConfigError, Gaussians2D, ImageError, PictureInfo, Plane, read_gsimg, render

Format = Literal["jpg", "png", "webp"]
Bytes = npt.NDArray[np.uint8]

INFO = "info.json"
CONTEXT = "http://iiif.io/api/image/3/context.json"
PROTOCOL = "http://iiif.io/api/image"
SIDES = (16, 4096)
"""Pixels of a tile's side, least and most."""
LISTED_SIDE = 1024
"""The whole picture is there at each size of the pyramid whose longer side is no more pixels than this."""
MAX_AREA, MAX_SIDE = 1 << 24, 16383
"""Pixels of the largest file of the whole picture, which is reduced if need be; WebP has no longer sides."""
MAX_FILES = 1 << 20
DRAWN_PIXELS = 1 << 22
"""That are drawn at once, or those of one tile if they are more: so memory does not grow with the picture."""


@dataclass(frozen=True)
class Pyramid:
    """Which files there are.

    Attributes:
        width: of the picture at scale factor 1, pixels.
        height: likewise.
        tile: pixels of a tile's side.
    """

    width: int
    height: int
    tile: int

    @property
    def factors(self) -> tuple[int, ...]:
        """Scale factors: 1, 2, 4 … until one tile shows everything."""
        found = [1]
        while max(self.size(found[-1])) > self.tile:
            found.append(2 * found[-1])
        return tuple(found)

    def size(self, factor: int) -> tuple[int, int]:
        """Columns and rows of pixels at a scale factor."""
        return -(-self.width // factor), -(-self.height // factor)

    def grid(self, factor: int) -> tuple[int, int]:
        """Columns and rows of tiles at a scale factor."""
        columns, rows = self.size(factor)
        return -(-columns // self.tile), -(-rows // self.tile)

    @property
    def tiled(self) -> tuple[int, ...]:
        """Scale factors of more than one tile; the tile of the last one is a file of the whole picture."""
        return self.factors[:-1]

    @property
    def largest(self) -> int:
        """Scale factor of the largest file of the whole picture."""
        sizes = {factor: self.size(factor) for factor in self.factors}
        return next(factor for factor, size in sizes.items() if math.prod(size) <= MAX_AREA and max(size) <= MAX_SIDE)

    @property
    def listed(self) -> tuple[int, ...]:
        """Scale factors of the sizes that ``info.json`` lists, the smallest picture first."""
        return tuple(
            factor
            for factor in reversed(self.factors)
            if max(self.size(factor)) <= LISTED_SIDE or factor == self.factors[-1]
        )

    @property
    def wholes(self) -> dict[str, int]:
        """Scale factors of the files of the whole picture, by the size in their path."""
        return {"max": self.largest} | {_joined(*self.size(factor)): factor for factor in self.listed}

    @property
    def files(self) -> int:
        """Number of tiles and whole pictures."""
        return sum(math.prod(self.grid(factor)) for factor in self.tiled) + len(self.wholes)

    def info(self, uri: str, kind: Format) -> dict[str, Any]:
        """What ``info.json`` says."""
        found: dict[str, Any] = {
            "@context": CONTEXT,
            "id": uri,
            "type": "ImageService3",
            "protocol": PROTOCOL,
            "profile": "level0",
            "width": self.width,
            "height": self.height,
        }
        if self.largest > 1:
            found["maxArea"] = math.prod(self.size(self.largest))
        sizes = [self.size(factor) for factor in self.listed]
        found["sizes"] = [{"width": columns, "height": rows} for columns, rows in sizes]
        found["tiles"] = [{"width": self.tile, "height": self.tile, "scaleFactors": list(self.factors)}]
        if kind != "jpg":
            found |= {"preferredFormats": [kind], "extraFormats": [kind]}
        return found


def write_tiles(
    source: str | Path,
    folder: str | Path,
    *,
    tile: int = 512,
    format: Format = "jpg",
    quality: int = 90,
    base_uri: str | None = None,
    scale_up: int = 1,
    plane: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    on_file: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a ``.gsimg`` file as a pyramid of tiles, in a folder that appears once it is complete.

    Memory follows the tile, not the picture, but for the largest file of the whole picture, of at most `MAX_AREA`
    pixels. Channels are cut to [0, 1] and stored with 8 bits, as sRGB without a profile.

    Args:
        source: the ``.gsimg`` file, whole.
        folder: for the pyramid; its parent must exist.
        tile: pixels of a tile's side; 512 makes fewer files, 256 suits viewers that expect it.
        format: of the tiles. Clients that know nothing of ``preferredFormats`` find whole pictures as ``jpg`` as well.
        quality: of ``jpg`` and ``webp``, 1 to 100.
        base_uri: where the folder will be found; by default where ``imagegs lod serve`` shows it from the folder above.
        scale_up: pixels of the largest size per pixel of the canvas.
        plane: of a texture stack, the file's name; by default the first.
        overwrite: replace a pyramid that is there.
        threads: that draw; by default one per core.
        on_file: called with how many files are done, and of how many.

    Returns:
        The path of ``info.json``.

    Raises:
        ConfigError: a setting is out of range, or does not fit the picture.
        ImageError: the source is missing, or the folder cannot be written or has something else in it.
        FormatError: the source is damaged or cut.
    """
    folder = Path(folder)
    uri = _check(folder, tile, format, quality, base_uri, scale_up)
    target = Path(os.path.realpath(folder))
    _check_target(target, folder, overwrite)
    file = read_gsimg(source)
    shown = PictureInfo.of_channels(file.header.channels) if file.info is None else file.info
    picture = _Drawing(*_plane_of(file.gaussians, shown, plane), threads)
    if picture.plane.alpha and format == "jpg":
        raise ConfigError("format: expected png or webp for a picture with transparency, found jpg")
    pyramid = Pyramid(scale_up * file.gaussians.width, scale_up * file.gaussians.height, tile)
    files = pyramid.files
    if files > MAX_FILES:
        raise ConfigError(f"tile: expected no more than {MAX_FILES:,} files, found {files:,}; larger tiles are fewer")
    with _appearing(target, folder) as temporary:
        for done, (path, pixels) in enumerate(_files(pyramid, picture), start=1):
            kinds: set[Format] = {format, "jpg"} if path.startswith("full/") else {format}
            place = temporary / path / "0"
            place.mkdir(parents=True, exist_ok=True)  # a pixel in a corner can be a tile of two scale factors
            for kind in kinds:
                (place / f"default.{kind}").write_bytes(_encoded(pixels, kind, quality))
            if on_file is not None:
                on_file(done, files)
        (temporary / INFO).write_text(json.dumps(pyramid.info(uri, format), indent=2) + "\n", encoding="utf-8")
    return folder / INFO


@dataclass(frozen=True)
class _Drawing:
    """Something that can be drawn: the Gaussians of one plane."""

    gaussians: Gaussians2D
    plane: Plane
    threads: int | None

    def draw(self, region: tuple[float, float, float, float], columns: int, rows: int) -> Bytes:
        """A region, canvas pixels, as [rows, columns, C]."""
        pixels = render(self.gaussians, rows, columns, region=region, threads=self.threads)
        return np.rint(255 * np.clip(np.moveaxis(pixels, 0, -1), 0, 1)).astype(np.uint8)


def _files(pyramid: Pyramid, picture: _Drawing) -> Iterator[tuple[str, Bytes]]:
    """Region and size of each file's path, and its pixels."""
    for factor in pyramid.tiled:
        yield from _tiles(pyramid, factor, picture)
    drawn: dict[int, Bytes] = {}
    for size, factor in sorted(pyramid.wholes.items(), key=lambda item: item[1]):
        if factor not in drawn:
            drawn = {factor: _whole(pyramid, factor, picture)}
        yield f"full/{size}", drawn[factor]


def _tiles(pyramid: Pyramid, factor: int, picture: _Drawing) -> Iterator[tuple[str, Bytes]]:
    """Those of one scale factor, row by row, several of a row drawn at once."""
    side, step = pyramid.tile, pyramid.tile * factor
    scale = picture.gaussians.width / pyramid.width
    columns, rows = pyramid.grid(factor)
    full = pyramid.width // step  # columns of tiles that no edge cuts: their pixels are squares of the scale factor
    together = max(1, DRAWN_PIXELS // side**2)
    groups = [(first, min(first + together, full)) for first in range(0, full, together)]
    if full < columns:
        groups.append((full, columns))
    for row in range(rows):
        y, height = row * step, min(step, pyramid.height - row * step)
        for first, last in groups:
            x, width = first * step, min(last * step, pyramid.width) - first * step
            size = -(-width // factor), -(-height // factor)
            drawn = picture.draw((scale * x, scale * y, scale * width, scale * height), *size)
            for column in range(first, last):
                start = (column - first) * side
                pixels = drawn[:, start : start + side]
                region = column * step, y, min(step, pyramid.width - column * step), height
                yield f"{_joined(*region)}/{_joined(pixels.shape[1], pixels.shape[0])}", pixels


def _whole(pyramid: Pyramid, factor: int, picture: _Drawing) -> Bytes:
    """All of the picture at a scale factor, drawn strip by strip."""
    columns, rows = pyramid.size(factor)
    found = np.empty((rows, columns, picture.gaussians.channels), np.uint8)
    height = picture.gaussians.height / rows
    strip = max(1, DRAWN_PIXELS // columns)
    for top in range(0, rows, strip):
        count = min(strip, rows - top)
        region = 0.0, top * height, float(picture.gaussians.width), count * height
        found[top : top + count] = picture.draw(region, columns, count)
    return found


def _joined(*numbers: int) -> str:
    return ",".join(map(str, numbers))


def _encoded(pixels: Bytes, kind: Format, quality: int) -> bytes:
    """A file's bytes; transparency becomes white where the format has none."""
    if kind == "jpg" and pixels.shape[-1] in (2, 4):
        alpha = pixels[..., -1:].astype(np.float32) / 255
        pixels = np.rint(alpha * pixels[..., :-1] + 255 * (1 - alpha)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    buffer = io.BytesIO()
    if kind == "jpg":
        image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4", optimize=True)
    elif kind == "webp":
        image.save(buffer, "WEBP", quality=quality)
    else:
        image.save(buffer, "PNG")
    return buffer.getvalue()


def _plane_of(gaussians: Gaussians2D, info: PictureInfo, name: str | None) -> tuple[Gaussians2D, Plane]:
    """The Gaussians with the channels of one plane."""
    names = [plane.name for plane in info.planes]
    if name is not None and name not in names:
        expected = f"one of {', '.join(names)}" if info.stack else "none, since this is a single picture"
        raise ConfigError(f"plane: expected {expected}, found {name!r}")
    index = 0 if name is None else names.index(name)
    where = info.slices[index]
    part = replace(gaussians, colors=gaussians.colors[:, where], background=gaussians.background[where])
    return part, info.planes[index]


def _check(folder: Path, tile: int, kind: str, quality: int, base_uri: str | None, scale_up: int) -> str:
    """The address of the pyramid, if the settings are in range."""
    if not SIDES[0] <= tile <= SIDES[1]:
        raise ConfigError(f"tile: expected {SIDES[0]} to {SIDES[1]:,} pixels, found {tile:,}")
    if kind not in get_args(Format):
        raise ConfigError(f"format: expected one of {', '.join(get_args(Format))}, found {kind!r}")
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality: expected 1 to 100, found {quality}")
    if scale_up < 1:
        raise ConfigError(f"scale_up: expected 1 or more, found {scale_up}")
    if base_uri is None:
        return f"http://127.0.0.1:8000/{quote(os.fsencode(Path(os.path.realpath(folder)).name))}"
    parts = urlsplit(base_uri)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"base_uri: expected an address like https://example.org/photo, found {base_uri!r}")
    return base_uri.rstrip("/")


def _check_target(target: Path, shown: Path, overwrite: bool) -> None:
    """Refuse what cannot become a pyramid, before anything is drawn."""
    if not target.parent.is_dir():
        raise ImageError(f"{shown}: cannot be written: the folder {shown.parent} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ImageError(f"{shown}: cannot be written: no permission in the folder {shown.parent}")
    if not target.exists():
        return
    if not target.is_dir():
        raise ImageError(f"{shown}: expected a folder, found a file of this name")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise ImageError(f"{shown}: expected an empty folder or none, found files in it")
    if not _is_pyramid(target):
        raise ImageError(f"{shown}: expected a pyramid of tiles to overwrite, found a folder of something else")


def _is_pyramid(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / INFO).read_bytes())["protocol"] == PROTOCOL)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _appearing(target: Path, shown: Path) -> Iterator[Path]:
    """A folder to fill, which takes the target's name if the body ends well, and goes otherwise."""
    temporary = target.parent / f".{secrets.token_hex(4)}.tmp"
    old = temporary.with_suffix(".old")
    try:
        temporary.mkdir()
        yield temporary
        if hasattr(os, "sync"):
            os.sync()  # the files' contents are on the disk before their name is
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
    except OSError as error:
        raise ImageError(f"{shown}: cannot be written: {(error.strerror or type(error).__name__).lower()}") from error
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)
