"""Pictures that are read in windows, whatever their size: through libvips, or zarr.

A tiled TIFF and a zarr array are read where they lie. Of other files every row comes only after those above it: they
are written once to a file of plain samples beside the parts, from which windows are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..codec.blocks import Box
from ..errors import DeviceError, ImageError, first_line
from ..gaussians import FloatArray
from ..image import PictureInfo, from_raster
from ..rasters import Raster, from_samples

EXTRA = "pip install 'imagegs[giant]'"
PLAIN = "pixels.v"
"""The file of plain samples, as libvips writes it."""
_PLAIN_KINDS = ("b-w", "srgb", "rgb", "grey16", "rgb16", "multiband", "scrgb")
_DEPTHS = ("uchar", "ushort", "float")


@dataclass(frozen=True)
class Windows:
    """A picture of which windows are read; it may be sent to other processes.

    Attributes:
        path: of what is read: the picture, or the plain samples made of it.
        kind: how.
        name: of the picture, as messages call it.
        height: pixels.
        width: pixels.
        info: what is needed to give the picture back.
        icc: profile of the samples.
        notes: what the user should know.
    """

    path: str
    kind: Literal["vips", "zarr"]
    name: str
    height: int
    width: int
    info: PictureInfo
    icc: bytes = b""
    notes: tuple[str, ...] = ()

    def read(self, box: Box) -> FloatArray:
        """The pixels [C, H, W] of a box, as `imagegs.read_image` has them.

        Raises:
            ImageError: they cannot be read.
        """
        x, y, width, height = box
        if self.kind == "zarr":
            samples = _of_zarr(_zarr(self.path), slice(y, y + height), slice(x, x + width), self.path)
        else:
            samples = _vips_samples(_vips(self.path), box, self.name)
        return from_raster(from_samples(samples, self.name, self.icc), self.name).pixels


def open_windows(path: str, scratch: Path) -> Windows:
    """A picture to read windows of.

    Args:
        path: TIFF, BigTIFF, PNG, JPEG or what else libvips reads; or a zarr array or group, also by its URL.
        scratch: folder for the plain samples of a picture that is not stored in tiles.

    Raises:
        ImageError: it cannot be read, or is no picture of 1 to 4 channels.
        DeviceError: the package that reads it is absent.
    """
    if _is_zarr(path):
        array = _zarr(path)
        corner, axes = _of_zarr(array, slice(0, 1), slice(0, 1), path), _axes(array, path)
        height, width = int(array.shape[axes.rows]), int(array.shape[axes.columns])
        return _described(path, "zarr", path, height, width, from_samples(corner, path))
    image = _vips(path, lazily=True)
    tiled = image.get_typeof("tile-width") != 0
    upright = not image.get_typeof("orientation") or image.get("orientation") <= 1
    plain = image.interpretation in _PLAIN_KINDS and image.format in _DEPTHS
    icc, exif, xmp = (
        bytes(image.get(field)) if image.get_typeof(field) else b""
        for field in ("icc-profile-data", "exif-data", "xmp-data")
    )
    kept = path
    if not (tiled and plain and upright):
        kept = _plain_copy(path, scratch / PLAIN, plain=plain, upright=upright)
    if image.interpretation not in _PLAIN_KINDS:
        icc = b""  # the copy is in sRGB
    image = _vips(kept)
    corner = from_samples(_vips_samples(image, (0, 0, 1, 1), path), path, icc, exif, xmp)
    return _described(kept, "vips", path, image.height, image.width, corner)


def _described(path: str, kind: Literal["vips", "zarr"], name: str, height: int, width: int, corner: Raster) -> Windows:
    """By one sample, which has what holds for all of them."""
    picture = from_raster(corner, name)
    return Windows(path, kind, name, height, width, picture.info, picture.info.icc, picture.notes)


def _is_zarr(path: str) -> bool:
    folder = Path(path)
    marks = ("zarr.json", ".zarray", ".zgroup")
    return path.rstrip("/").endswith(".zarr") or (folder.is_dir() and any((folder / mark).exists() for mark in marks))


@lru_cache(maxsize=2)
def _zarr(path: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise DeviceError(f"{path}: zarr arrays need the package zarr: {EXTRA}") from error
    try:
        found = zarr.open(path, mode="r")
        array = found if isinstance(found, zarr.Array) else found["0"]  # the finest of a multiscale image
        _axes(array, path)
        return array
    except ImageError:
        raise
    except Exception as error:  # of zarr, of the store, of what it holds
        raise ImageError(f"{path}: cannot be read: {first_line(error)}") from error


@dataclass(frozen=True)
class _Axes:
    """Which axes of an array are what; the others have the length 1."""

    rows: int
    columns: int
    channels: int | None


def _axes(array: Any, path: str) -> _Axes:
    """Axes of length 1 are passed over, the first ones first, until three are left."""
    kept = list(range(array.ndim))
    while len(kept) > 3:
        kept.remove(next((axis for axis in kept if array.shape[axis] == 1), kept[-1]))
    lengths = [int(array.shape[axis]) for axis in kept]
    if array.dtype in (np.uint8, np.uint16, np.float32) and array.size == np.prod(lengths) > 0:
        if len(kept) == 2:
            return _Axes(kept[0], kept[1], None)
        if len(kept) == 3 and lengths[2] <= 4:
            return _Axes(*kept)
        if len(kept) == 3 and lengths[0] <= 4:
            return _Axes(kept[1], kept[2], kept[0])
    raise ImageError(
        f"{path}: expected an array of height, width and 1 to 4 channels of uint8, uint16 or float32, "
        f"found {array.dtype} {list(array.shape)}"
    )


def _of_zarr(array: Any, rows: slice, columns: slice, path: str) -> Any:
    """Samples [H, W, C] of a part."""
    axes = _axes(array, path)
    index: list[int | slice] = [0] * array.ndim
    index[axes.rows], index[axes.columns] = rows, columns
    if axes.channels is None:
        return np.asarray(array[tuple(index)])[..., None]
    index[axes.channels] = slice(None)
    samples = np.asarray(array[tuple(index)])
    return np.ascontiguousarray(np.moveaxis(samples, 0, -1)) if axes.channels < axes.rows else samples


@lru_cache(maxsize=2)
def _vips(path: str, *, lazily: bool = False) -> Any:
    pyvips = _pyvips(path)
    if "\0" in path or not Path(path).is_file():
        raise ImageError(f"{path!r}: cannot be read: no such file")
    try:
        return pyvips.Image.new_from_file(path, access="sequential" if lazily else "random", fail_on="error")
    except pyvips.Error as error:
        raise ImageError(f"{path}: expected a picture that libvips reads, found: {_reason(error)}") from error


def _plain_copy(path: str, target: Path, *, plain: bool, upright: bool) -> str:
    """The file of plain samples; one that is there already is whole, and stays."""
    if target.exists():
        return str(target)
    pyvips = _pyvips(path)
    unfinished = target.with_name(f"unfinished-{target.name}")
    try:
        image = pyvips.Image.new_from_file(path, access="sequential" if upright else "random", fail_on="error")
        if not upright:
            image = image.autorot()
        if not plain:
            image = image.colourspace("rgb16" if image.format == "ushort" else "srgb")
        image.write_to_file(str(unfinished))
    except pyvips.Error as error:
        unfinished.unlink(missing_ok=True)
        raise ImageError(f"{path}: cannot be decoded: {_reason(error)}") from error
    unfinished.replace(target)
    return str(target)


def _vips_samples(image: Any, box: Box, name: str) -> Any:
    try:
        samples = image.crop(*box).numpy().reshape(box[3], box[2], image.bands)
    except _pyvips(name).Error as error:
        raise ImageError(f"{name}: cannot be decoded: {_reason(error)}") from error
    if samples.shape[-1] > 4:
        raise ImageError(f"{name}: expected 1 to 4 channels, found {samples.shape[-1]}")
    return samples


def _reason(error: Exception) -> str:
    """The last line of what libvips says, which is the cause, without the name of the operation."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^\w+: ", "", lines[-1]) if lines else type(error).__name__


def _pyvips(path: str) -> Any:
    try:
        import pyvips
    except (ImportError, OSError) as error:  # the second: libvips is absent
        raise DeviceError(f"{path}: giant pictures need the package pyvips: {EXTRA}") from error
    pyvips.cache_set_max(0)  # windows are not asked for twice
    return pyvips
