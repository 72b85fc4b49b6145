"""How much noise a picture has, from the picture alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
SIDE = 7
"""Of the patches, pixels."""
MOST_PATCHES = 40_000


def estimate_noise(pixels: FloatArray, known: npt.NDArray[np.bool_] | None = None) -> float:
    """Standard deviation of white Gaussian noise, the root mean square of the channels'.

    Patches of a picture span few dimensions; in the others there is nothing but noise. The smallest eigenvalues of the
    patches' covariance, as many as have their mean where their median is, have the noise's variance as their mean
    (Chen, Zhu and Heng, ICCV 2015).

    Args:
        pixels: [C, H, W].
        known: [H, W], the pixels that are; patches with others are left out.

    Returns:
        In the unit of the pixels; 0 where there are too few patches to tell.
    """
    if min(pixels.shape[1:]) < 2 * SIDE:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view
    stride = max(1, int(np.sqrt(pixels[0].size / MOST_PATCHES)))
    whole = None
    if known is not None:
        whole = windows(known, (SIDE, SIDE))[::stride, ::stride].all(axis=(2, 3))
    variances = []
    for channel in pixels:
        patches = windows(channel, (SIDE, SIDE))[::stride, ::stride]
        rows = patches.reshape(-1, SIDE * SIDE) if whole is None else patches[whole].reshape(-1, SIDE * SIDE)
        if len(rows) < 4 * SIDE * SIDE:
            return 0.0
        variances.append(_noise_variance(np.linalg.eigvalsh(np.cov(rows, rowvar=False))))
    return math.sqrt(max(float(np.mean(variances)), 0.0))


def _noise_variance(eigenvalues: npt.NDArray[np.float64]) -> float:
    """The mean of the smallest eigenvalues, as many as are not skewed to above."""
    for count in range(len(eigenvalues), 0, -1):
        least = eigenvalues[:count]
        if least.mean() <= np.median(least):
            return float(least.mean())
    return float(eigenvalues[0])
