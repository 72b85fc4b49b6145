"""Importance maps: [H, W], 0 to 1, brighter matters more. How they are made from pictures, changed and combined."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from imagegs import ConfigError, Picture, ShapeError
from imagegs.files import atomic_write

FloatArray = npt.NDArray[np.float32]
Predictor = Callable[[FloatArray], FloatArray]
"""A saliency model, loaded: [3, H, W], sRGB in [0, 1] -> [H, W] in [0, 1]."""
Combination = Literal["max", "mean", "product"]


def as_rgb(picture: Picture) -> FloatArray:
    """What a saliency model looks at [3, H, W] in [0, 1]: the first plane of a picture, grey repeated, no alpha."""
    plane, where = picture.info.planes[0], picture.info.slices[0]
    colors = picture.pixels[where][: 3 if plane.mode in ("RGB", "RGBA") else 1]
    return np.ascontiguousarray(np.clip(np.broadcast_to(colors, (3, *colors.shape[1:])), 0, 1))


def stretch(values: npt.ArrayLike) -> FloatArray:
    """[H, W] moved and scaled so that it runs from 0 to 1; one value everywhere becomes 0."""
    array = np.asarray(values, dtype=np.float64)
    low, high = float(array.min()), float(array.max())
    if not high > low:
        return np.zeros(array.shape, np.float32)
    return ((array - low) / (high - low)).astype(np.float32)


def resize(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    """[H, W] at (height, width) pixels: bilinear, over the footprint of a pixel where it shrinks."""
    if values.shape == tuple(size):
        return values
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float32)


def smooth(values: FloatArray, share: float) -> FloatArray:
    """[H, W] blurred by a Gaussian whose standard deviation is a share of the picture's diagonal."""
    sigma = share * float(np.hypot(*values.shape))
    return np.asarray(gaussian_filter(values, sigma, mode="nearest"), dtype=np.float32)


def combine(maps: Sequence[FloatArray], how: Combination = "max", shares: Sequence[float] | None = None) -> FloatArray:
    """One map of several of the same size.

    Args:
        maps: each [H, W] in [0, 1].
        how: ``max`` keeps what any of them finds important, ``mean`` weighs them, ``product`` keeps what all do.
        shares: what each counts; by default 1. With ``max`` a map is scaled by it, with ``product`` it is the exponent.

    Raises:
        ConfigError: no maps, another number of shares, negative shares, or an unknown way.
        ShapeError: maps of different sizes.
    """
    if not maps:
        raise ConfigError("maps: expected at least one, found none")
    counts = [1.0] * len(maps) if shares is None else [float(share) for share in shares]
    if len(counts) != len(maps) or not all(0 <= count < np.inf for count in counts) or not any(counts):
        raise ConfigError(f"shares: expected {len(maps)} numbers, none negative and some positive, found {counts}")
    if len({array.shape for array in maps}) > 1:
        raise ShapeError(f"maps: expected one size, found {', '.join(str(list(array.shape)) for array in maps)}")
    if how not in get_args(Combination):
        raise ConfigError(f"combine: expected one of {', '.join(get_args(Combination))}, found {how!r}")
    stack, column = np.stack(maps), np.array(counts, np.float32)[:, None, None]
    if how == "max":
        found = (column * stack).max(axis=0)
    elif how == "mean":
        found = (column * stack).sum(axis=0) / column.sum()
    else:
        found = (stack**column).prod(axis=0)
    most = float(found.max())
    return np.asarray(found / most if most > 1 else found, dtype=np.float32)


def write(path: Path, importance: FloatArray) -> None:
    """A map [H, W] in [0, 1] as a grey picture of 8 bits, or as floats in an ``.npy`` file.

    Raises:
        ImageError: it cannot be written.
    """
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, np.asarray(importance, np.float32))
    else:
        Image.fromarray(np.rint(255 * np.clip(importance, 0, 1)).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    atomic_write(path, buffer.getvalue())
