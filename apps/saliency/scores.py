"""How good a decoded picture is where it matters: errors weighted by a map, and inside and outside of a region."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from imagegs import ShapeError

from .maps import FloatArray

DoubleArray = npt.NDArray[np.float64]

REGION_FROM = 0.5
"""The region of a map is where it reaches so much of its maximum."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales of MS-SSIM (Wang, Simoncelli and Bovik 2003)."""
WINDOW, WINDOW_SIGMA = 11, 1.5
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(SCALES) - 1) + 1
"""Smallest side of a picture that has five scales, pixels."""


@dataclass(frozen=True)
class Scores:
    """Qualities of a decoded picture; PSNR in dB. MS-SSIM is None for pictures that are too small for it.

    Attributes:
        psnr: of the whole picture.
        weighted_psnr: of the squared error's mean weighted by the map.
        region_psnr: inside of the region.
        outside_psnr: outside of it; None if the region is everything.
        region_ms_ssim: inside of the region.
        outside_ms_ssim: outside of it; None if the region is everything.
        region_share: of the pixels that are inside.
    """

    psnr: float
    weighted_psnr: float
    region_psnr: float
    outside_psnr: float | None
    region_ms_ssim: float | None
    outside_ms_ssim: float | None
    region_share: float

    def to_dict(self) -> dict[str, float | None]:
        """Every score by its name."""
        return asdict(self)


def score(reference: FloatArray, test: FloatArray, importance: FloatArray) -> Scores:
    """Qualities of a decoded picture by a map of what matters.

    Args:
        reference: [C, H, W], cut to [0, 1].
        test: the same shape.
        importance: [H, W], not negative and somewhere positive; the weights of the weighted PSNR.

    Raises:
        ShapeError: the shapes disagree, or the map is zero everywhere.
    """
    if reference.shape != test.shape or reference.shape[1:] != importance.shape:
        shapes = f"{list(reference.shape)}, {list(test.shape)} and {list(importance.shape)}"
        raise ShapeError(f"scores: expected two pictures [C, H, W] and a map [H, W] of one size, found {shapes}")
    if not np.isfinite(importance).all() or importance.min() < 0 or not importance.max() > 0:
        raise ShapeError("scores: expected a map of finite numbers, none negative and some positive")
    reference, test = (np.clip(pixels, 0, 1) for pixels in (reference, test))
    error = np.mean(np.square(reference.astype(np.float64) - test), axis=0)
    region = region_of(importance)
    rest = ~region
    large = min(error.shape) >= MS_SSIM_SIDE
    inside, outside = weighted_ms_ssim(reference, test, (region, rest)) if large else (None, None)
    return Scores(
        psnr=_decibels(error.mean()),
        weighted_psnr=_decibels(np.average(error, weights=importance)),
        region_psnr=_decibels(error[region].mean()),
        outside_psnr=_decibels(error[rest].mean()) if rest.any() else None,
        region_ms_ssim=inside,
        outside_ms_ssim=outside,
        region_share=float(region.mean()),
    )


def region_of(importance: FloatArray) -> npt.NDArray[np.bool_]:
    """Where a map [H, W] reaches half of its maximum."""
    found: npt.NDArray[np.bool_] = importance >= REGION_FROM * float(importance.max())
    return found


def weighted_ms_ssim(
    reference: FloatArray, test: FloatArray, weights: tuple[npt.NDArray[np.bool_] | FloatArray, ...]
) -> tuple[float | None, ...]:
    """MS-SSIM with its means over pixels weighted, the mean over the channels.

    Source: Wang, Simoncelli and Bovik 2003; weights within each scale as Wang and Li 2011 (IW-SSIM) pool. With equal
    weights it is ``imagegs.metrics.ms_ssim``.

    Args:
        reference: [C, H, W] in [0, 1].
        test: the same shape.
        weights: maps [H, W].

    Returns:
        One for each map; None where none of its weight is left at some scale.
    """
    maps = np.stack([np.asarray(values, np.float64) for values in weights])
    x, y = reference.astype(np.float64), test.astype(np.float64)
    product = np.ones((len(maps), len(x)))
    margin = WINDOW // 2
    for scale, exponent in enumerate(SCALES):
        contrast, luminance = _similarities(x, y)
        values = contrast if scale < len(SCALES) - 1 else contrast * luminance
        inner = maps[:, margin : maps.shape[1] - margin, margin : maps.shape[2] - margin]
        totals = inner.sum(axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.einsum("mhw,chw->mc", inner, values) / totals[:, None]
        product *= np.maximum(means, 0) ** exponent
        x, y, maps = _halved(x), _halved(y), _halved(maps)
    found = product.mean(axis=1)
    return tuple(float(value) if np.isfinite(value) else None for value in found)


def _similarities(x: DoubleArray, y: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Contrast-structure and luminance terms [C, H - 10, W - 10] of SSIM."""
    c1, c2 = 0.01**2, 0.03**2
    mx, my = _blurred(x), _blurred(y)
    xx, yy, xy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my, _blurred(x * y) - mx * my
    return (2 * xy + c2) / (xx + yy + c2), (2 * mx * my + c1) / (mx * mx + my * my + c1)


def _blurred(values: DoubleArray) -> DoubleArray:
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    kernel /= kernel.sum()
    margin = WINDOW // 2
    for axis in (1, 2):
        values = correlate1d(values, kernel, axis=axis)
    found: DoubleArray = values[:, margin:-margin, margin:-margin]
    return found


def _halved(values: DoubleArray) -> DoubleArray:
    """Mean over 2 x 2 pixels; an odd last row or column shares its square with zeros, as in pytorch-msssim."""
    height, width = values.shape[1:]
    # a window of two, moved by two, over one row and column of zeros on each side where the side is odd
    padded = np.pad(values, ((0, 0), (height % 2, height % 2), (width % 2, width % 2)))
    rows, columns = padded.shape[1] // 2 * 2, padded.shape[2] // 2 * 2
    squares = padded[:, :rows, :columns].reshape(len(values), rows // 2, 2, columns // 2, 2)
    found: DoubleArray = squares.mean(axis=(2, 4))
    return found


def _decibels(error: float) -> float:
    return float("inf") if error <= 0 else float(-10 * np.log10(error))
