"""Resampling of one axis as a matrix: what Pillow's filters do, differentiably and exactly known."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Method = Literal["bicubic", "area", "lanczos"]
FloatArray = npt.NDArray[np.float32]
_SUPPORT = {"bicubic": 2.0, "area": 0.5, "lanczos": 3.0}


@cache
def resampling_matrix(source: int, target: int, method: Method) -> FloatArray:
    """The matrix [target, source] that resamples an axis; its rows sum to one.

    The filter is as wide as the coarser of both grids, so that a smaller picture does not alias.

    Args:
        source: samples of the axis.
        target: samples wanted.
        method: bicubic (a = -0.5), area (what a pixel covers) or lanczos (three lobes).
    """
    ratio = source / target
    width = max(ratio, 1.0)
    centres = (np.arange(target) + 0.5) * ratio
    at = np.arange(source)
    if method == "area":
        left, right = centres[:, None] - width / 2, centres[:, None] + width / 2
        weights = np.clip(np.minimum(right, at + 1) - np.maximum(left, at), 0, None)
    else:
        distance = np.abs(at + 0.5 - centres[:, None]) / width
        weights = (_bicubic if method == "bicubic" else _lanczos)(distance)
        weights[distance > _SUPPORT[method]] = 0
    found: FloatArray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    found.setflags(write=False)
    return found


def _bicubic(d: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys 1981, a = -0.5."""
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def _lanczos(d: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sinc(d) * np.sinc(d / 3)
