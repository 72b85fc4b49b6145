"""The shapes that Gaussians may have, and the same shapes as Cholesky factors, which GaussianImage moves and stores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..gaussians import FloatArray

Factors = npt.NDArray[np.float64]
"""Lower-triangular factors (l11, l21, l22) [N, 3] of covariances."""

SMALLEST_SCALE, LARGEST_SCALE = 0.3, 0.5
"""Bounds of the scales: pixels, and the share of the picture's longer side."""


def scale_bounds(size: tuple[int, int]) -> tuple[float, float]:
    """Smallest and largest standard deviation of a Gaussian on a picture of (height, width), pixels."""
    return SMALLEST_SCALE, max(1.0, LARGEST_SCALE * max(size))


def to_factors(scales: FloatArray, rotations: FloatArray) -> Factors:
    """Factors [N, 3] of the covariances of scales [N, 2] and rotations [N]; those on the diagonal are positive."""
    c, s = np.cos(rotations.astype(np.float64)), np.sin(rotations.astype(np.float64))
    v1, v2 = (scales.astype(np.float64) ** 2).T
    xx, xy = c * c * v1 + s * s * v2, c * s * (v1 - v2)
    first = np.sqrt(xx)
    return np.stack([first, xy / first, np.sqrt(v1 * v2 / xx)], axis=1)


def from_factors(factors: npt.NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Scales [N, 2] and rotations [N] of factors [N, 3], whatever their signs."""
    a, b, d = factors.astype(np.float64).T
    xx, xy, yy = a * a, a * b, b * b + d * d
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    large = np.sqrt(middle + spread)
    small = np.abs(a * d) / np.maximum(large, 1e-12)
    return np.stack([large, small], axis=1).astype(np.float32), (0.5 * np.arctan2(2 * xy, xx - yy)).astype(np.float32)


def factor_gradient(scales: FloatArray, rotations: FloatArray, local: FloatArray, factors: Factors) -> Factors:
    """Gradient [N, 3] in the factors: 2 G L with G the gradient in the covariance.

    In the Gaussian's own frame G is diag(v_log_s / (2 s²)) plus an off-diagonal part that turns it; that part is
    undetermined where both scales are equal, and taken as zero there.

    Args:
        scales: [N, 2].
        rotations: [N].
        local: [N, 5] gradient in each Gaussian's own frame, see ``native.Gradients``.
        factors: [N, 3], of the same covariances.
    """
    c, s = np.cos(rotations.astype(np.float64)), np.sin(rotations.astype(np.float64))
    v1, v2 = (scales.astype(np.float64) ** 2).T
    g11, g22 = local[:, 2] / (2 * v1), local[:, 3] / (2 * v2)
    gap = v1 - v2
    turnable = np.abs(gap) > 1e-6 * (v1 + v2)
    g12 = np.where(turnable, local[:, 4] / (2 * np.where(turnable, gap, 1.0)), 0.0)
    gxx = c * c * g11 - 2 * c * s * g12 + s * s * g22
    gyy = s * s * g11 + 2 * c * s * g12 + c * c * g22
    gxy = c * s * (g11 - g22) + (c * c - s * s) * g12
    a, b, d = factors.T
    return 2 * np.stack([gxx * a + gxy * b, gxy * a + gyy * b, gyy * d], axis=1)
