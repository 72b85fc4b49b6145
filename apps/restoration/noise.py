"""How much noise a picture has, and how alike it is in neighbouring pixels, from the picture alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
SIDE = 7
"""Of the patches, pixels."""
FLAT_SIDE, FLAT_SHARE = 16, 0.03
"""Of larger patches, of which the flattest show noise alone: their side, and how many of all."""
CORRELATED, LEAST_CORRELATED = (0.5, 0.8), 2.2 / 255
"""With neighbours so much alike, and this much of it, what flat patches have is noise; more alike is structure."""

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


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of one strength everywhere.

    Attributes:
        sigma: its standard deviation.
        spread: standard deviation of the bell, pixels, that white noise went through; 0 for white noise.
    """

    sigma: float
    spread: float = 0.0

    def sample(self, shape: tuple[int, ...], random: np.random.Generator) -> FloatArray:
        """Noise of this kind, [C, H, W]."""
        from scipy.ndimage import gaussian_filter

        noise = random.standard_normal(shape)
        if self.spread:
            noise = gaussian_filter(noise, (0, self.spread, self.spread), mode="wrap")
            noise /= noise.std()
        found: FloatArray = (self.sigma * noise).astype(np.float32)
        return found


def recognize_noise(pixels: FloatArray, known: npt.NDArray[np.bool_] | None = None) -> Noise:
    """The noise of a picture [C, H, W].

    Noise that went through demosaicing, resampling or a codec is alike in neighbouring pixels. It shows in the flattest
    patches of a picture, by the correlation of neighbours there; else noise is taken to be white, see `estimate_noise`.

    Args:
        pixels: of the picture.
        known: [H, W], the pixels that are; with some that are not, noise is taken to be white.
    """
    white = Noise(estimate_noise(pixels, known))
    if known is not None or min(pixels.shape[1:]) < 4 * FLAT_SIDE:
        return white
    variances, products = zip(*map(_flat_moments, pixels), strict=True)
    sigma, correlation = math.sqrt(float(np.mean(variances))), float(np.sum(products) / max(np.sum(variances), 1e-12))
    if not CORRELATED[0] < correlation < CORRELATED[1] or sigma < max(LEAST_CORRELATED, white.sigma):
        return white
    return Noise(sigma, math.sqrt(-1 / (4 * math.log(correlation))))


def _flat_moments(channel: FloatArray) -> tuple[float, float]:
    """Variance, and mean product of neighbours, in the flattest patches of a channel, less a plane for each."""
    windows = np.lib.stride_tricks.sliding_window_view(channel, (FLAT_SIDE, FLAT_SIDE))
    patches = windows[:: FLAT_SIDE // 2, :: FLAT_SIDE // 2].reshape(-1, FLAT_SIDE, FLAT_SIDE).astype(np.float64)
    patches = patches - patches.mean(axis=(1, 2), keepdims=True)
    ramp = np.linspace(-1, 1, FLAT_SIDE)
    for axis in (ramp[:, None], ramp[None, :]):
        plane = np.broadcast_to(axis, (FLAT_SIDE, FLAT_SIDE))
        patches = patches - (patches * plane).sum(axis=(1, 2), keepdims=True) / (plane**2).sum() * plane
    variances = (patches**2).mean(axis=(1, 2))
    flat = patches[np.argsort(variances)[: max(4, int(FLAT_SHARE * len(variances)))]]
    down, across = (flat[:, 1:] * flat[:, :-1]).mean(), (flat[:, :, 1:] * flat[:, :, :-1]).mean()
    return float((flat**2).mean()), float((down + across) / 2)


def _noise_variance(eigenvalues: npt.NDArray[np.float64]) -> float:
    """The mean of the smallest eigenvalues, as many as are not skewed to above."""
    for count in range(len(eigenvalues), 0, -1):
        least = eigenvalues[:count]
        if least.mean() <= np.median(least):
            return float(least.mean())
    return float(eigenvalues[0])
