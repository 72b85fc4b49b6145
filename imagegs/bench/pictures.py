"""The pictures of a folder, as every method gets them: 8 bits of red, green and blue; or its sets of maps."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ..batching.jobs import is_picture
from ..errors import ConfigError, ImageError
from ..files import read_bytes
from ..gaussians import FloatArray
from ..image import Picture, PictureInfo, Plane, read_image
from ..rasters import FORMATS


@dataclass(frozen=True)
class Source:
    """A picture to measure with.

    Attributes:
        path: its file.
        side: only so many pixels of its middle, down and across; None is all of it.
        label: its name where it is not that of the file, without the folder and the ending.
    """

    path: Path
    side: int | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.label or self.path.stem

    @property
    def pixels(self) -> FloatArray:
        """[3, H, W] in [0, 1], rounded to 8 bits."""
        return _pixels(self.path, self.side)

    @property
    def picture(self) -> Picture:
        """The same with what a file says of it."""
        return Picture(self.pixels, PictureInfo.of_channels(3), self.path.name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file, the first 16 digits, and the part of it."""
        found = hashlib.sha256(read_bytes(self.path)).hexdigest()[:16]
        return found if self.side is None else f"{found}-{self.side}"

    @property
    def count(self) -> int:
        """Pixels."""
        return int(np.prod(self.pixels.shape[1:]))


@dataclass(frozen=True)
class Stack(Source):
    """A folder of maps of one size, whose channels are measured together."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.label or self.path.resolve().name

    @property
    def pixels(self) -> FloatArray:
        """[C, H, W] in [0, 1], all channels of all maps, rounded to 8 bits."""
        return self.picture.pixels

    @property
    def picture(self) -> Picture:
        """The same with what the files say of it.

        Raises:
            ImageError: they are no stack, or a map has floating-point numbers.
        """
        return _stack(self.path, self.side)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its files and their names, the first 16 digits, and the part of it."""
        found = hashlib.sha256()
        for path in _maps(self.path):
            found.update(f"{path.name}\0{hashlib.sha256(read_bytes(path)).hexdigest()}\0".encode())
        return found.hexdigest()[:16] + ("" if self.side is None else f"-{self.side}")


def find_sources(
    folder: str | Path, *, limit: int | None = None, side: int | None = None, without: Path | None = None
) -> list[Source]:
    """The pictures of a folder at any depth, or one picture, by name.

    Args:
        folder: it.
        limit: so many, the first.
        side: see `Source`.
        without: a folder below, whose pictures are left out: plots are pictures, too.

    Raises:
        ImageError: there is no such folder.
        ConfigError: it has no pictures.
    """
    top = _existing(folder)
    paths = [path for path in sorted(top.rglob("*")) if _is_shown(path, top)] if top.is_dir() else [top]
    found = _labelled(top, paths, lambda path: path.stem, "pictures", without)
    return [Source(path, side, label) for path, label in found[:limit]]


def find_stacks(
    folder: str | Path, *, limit: int | None = None, side: int | None = None, without: Path | None = None
) -> list[Source]:
    """A folder of maps, or the folders of maps in it at any depth, by name.

    Args:
        folder: it.
        limit: so many, the first.
        side: see `Source`.
        without: a folder below, which is left out: plots are no maps.

    Raises:
        ImageError: there is no such folder.
        ConfigError: it has no maps.
    """
    top = _existing(folder)
    if not top.is_dir():
        raise ConfigError(f"{top}: expected a folder of maps, or of such folders, found a file")
    below = [path for path in sorted(top.rglob("*")) if path.is_dir() and not _is_hidden(path, top)]
    paths = [top] if _maps(top) else [path for path in below if _maps(path)]
    found = _labelled(top, paths, lambda path: path.name, "maps, or folders of maps", without)
    return [Stack(path, side, label) for path, label in found[:limit]]


def _existing(folder: str | Path) -> Path:
    top = Path(folder)
    if not top.exists():
        raise ImageError(f"{top}: cannot be read: no such file or folder")
    return top


def _labelled(
    top: Path, paths: list[Path], name: Callable[[Path], str], kind: str, without: Path | None
) -> list[tuple[Path, str]]:
    """Those that are not below ``without``, each with a label where its name is not its own."""
    if without is not None:
        paths = [path for path in paths if not path.resolve().is_relative_to(without.resolve())]
    if not paths:
        raise ConfigError(f"{top}: expected {kind}, found none")
    names = Counter(map(name, paths))
    return [(path, "" if names[name(path)] == 1 else path.relative_to(top).as_posix()) for path in paths]


def _maps(folder: Path) -> list[Path]:
    """Files that `read_image` makes a stack of."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return [path for path in paths if path.suffix.lower() in FORMATS and path.name[0] != "." and path.is_file()]


def _is_hidden(path: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(top).parts)


def _is_shown(path: Path, top: Path) -> bool:
    return not _is_hidden(path, top) and is_picture(path.name) and path.is_file()


def eight_bits(pixels: FloatArray) -> FloatArray:
    """Rounded to what a file of 8 bits holds, as every other codec's pixels are."""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.float32) / np.float32(255)


@lru_cache(maxsize=2)
def _pixels(path: Path, side: int | None) -> FloatArray:
    picture = read_image(path)
    plane = picture.info.planes[0]
    found = picture.pixels[picture.info.slices[0]]
    if len(picture.info.planes) > 1 or plane.mode == "F":
        raise ImageError(f"{path}: expected a picture of grey or of colours, found other channels")
    if plane.alpha:
        found = found[:-1] * found[-1:] + (1 - found[-1:])  # as on white paper
    if len(found) == 1:
        found = np.repeat(found, 3, axis=0)
    return eight_bits(_middle(found, side))


@lru_cache(maxsize=2)
def _stack(path: Path, side: int | None) -> Picture:
    picture = read_image(path)
    for plane in picture.info.planes:
        if plane.bits == 32:
            raise ImageError(f"{path / plane.name}: expected a map of 8 or 16 bits, found floating-point numbers")
    planes = tuple(Plane(plane.name, plane.mode, 8) for plane in picture.info.planes)
    return Picture(eight_bits(_middle(picture.pixels, side)), PictureInfo(planes, stack=True), path.name)


def _middle(pixels: FloatArray, side: int | None) -> FloatArray:
    if side is None:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[1:])
    return np.ascontiguousarray(pixels[:, top : top + side, left : left + side])
