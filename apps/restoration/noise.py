"""How much noise a picture has, where, and how alike it is in neighbouring pixels, from the picture alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from imagegs import ConfigError

FloatArray = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
SIDE = 7
"""Of the patches, pixels."""
MOST_KNOWN = 0.4
"""Share of a patch's pixels that must be known."""
FLAT_SIDE, FLAT_SHARE = 16, 0.03
"""Of larger patches, of which the flattest show noise alone: their side, and how many of all."""
CORRELATED, LEAST_CORRELATED = (0.5, 0.8), 2.2 / 255
"""With neighbours so much alike, and this much of it, what flat patches have is noise; more alike is structure."""
MOST_STRUCTURE = 160 * 160
"""Pixels of a picture whose flattest patches may all be structure: noise in it is taken to be white."""
LEVEL_SIDE, LEVEL_SHARE, LEVELS = 8, 0.05, 5
"""Of patches whose flattest tell the noise at a brightness: their side, how many, and the number of brightnesses."""
LEAST_FLAT, NARROWER = 40, 4
"""Of patches at a brightness, so that the flattest of them count; how many brightnesses these are taken from."""
LEAST_LEVEL = 0.5 / 255
"""Noise that is as good as none."""
UNEQUAL = 1.5
"""Variances over the picture's brightnesses that differ by less are taken to be equal."""
SMOOTH = 1.5
"""Standard deviation of the bell that a noisy picture's brightness is read through, pixels."""
MOST_PATCHES = 40_000


@dataclass(frozen=True)
class Noise:
    """Gaussian noise.

    Attributes:
        sigma: its standard deviation, of values in [0, 1]; with a curve, the root mean square over the picture.
        spread: standard deviation of the bell, pixels, that white noise went through; 0 for white noise.
        curve: (brightness, standard deviation) of noise that depends on brightness, by ascending brightness; variances
            between are interpolated. Empty where it is the same everywhere.

    Raises:
        ConfigError: a negative number, or no ascending brightnesses.
    """

    sigma: float
    spread: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("sigma", self.sigma), ("spread", self.spread), *(("curve", s) for _, s in self.curve)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"noise: expected {name} from 0, found {value:g}")
        at = [brightness for brightness, _ in self.curve]
        if any(a >= b for a, b in pairwise(at)):
            raise ConfigError(f"noise: expected ascending brightnesses in the curve, found {at}")

    @staticmethod
    def poisson_gaussian(gain: float, sigma: float) -> Noise:
        """Of a sensor's linear values: variance sigma² + gain · brightness."""
        if not gain >= 0:
            raise ConfigError(f"noise: expected a gain from 0, found {gain:g}")
        curve = ((0.0, sigma), (1.0, math.sqrt(sigma**2 + gain)))
        return Noise(math.sqrt(sigma**2 + gain / 2), curve=curve)

    def scaled(self, factor: float) -> Noise:
        """So many times as strong."""
        curve = tuple((brightness, factor * sigma) for brightness, sigma in self.curve)
        return Noise(factor * self.sigma, self.spread, curve)

    def variances(self, pixels: FloatArray) -> FloatArray:
        """Of each value of a picture [C, H, W], which may be noisy."""
        if not self.curve:
            return np.full(pixels.shape, self.sigma**2, np.float32)
        from scipy.ndimage import gaussian_filter

        brightness = gaussian_filter(pixels, (0, SMOOTH, SMOOTH))
        at, sigmas = np.array(self.curve).T
        found: FloatArray = np.interp(brightness, at, sigmas**2).astype(np.float32)
        return found

    def variance(self, pixels: FloatArray) -> FloatArray:
        """Of each pixel [H, W], the mean of the channels'."""
        found: FloatArray = self.variances(pixels).mean(axis=0)
        return found

    def sample(self, pixels: FloatArray, random: np.random.Generator) -> FloatArray:
        """Noise as a picture [C, H, W] would have it."""
        from scipy.ndimage import gaussian_filter

        noise = random.standard_normal(pixels.shape)
        if self.spread:
            noise = gaussian_filter(noise, (0, self.spread, self.spread), mode="wrap")
            noise /= noise.std()
        found: FloatArray = (np.sqrt(self.variances(pixels)) * noise).astype(np.float32)
        return found


def estimate_noise(pixels: FloatArray, known: Mask | None = None) -> float:
    """Standard deviation of white Gaussian noise, the root mean square of the channels'.

    Patches of a picture span few dimensions; in the others there is nothing but noise. The smallest eigenvalues of the
    patches' covariance, as many as have their mean where their median is, have the noise's variance as their mean
    (Chen, Zhu and Heng, ICCV 2015).

    Args:
        pixels: [C, H, W].
        known: [H, W], the pixels that are.

    Returns:
        In the unit of the pixels; 0 where there are too few patches to tell.
    """
    if min(pixels.shape[1:]) < 2 * SIDE:
        return 0.0
    rows: list[FloatArray] = [_patches(channel) for channel in pixels]
    there: Doubles | None = None
    if known is not None:
        there = _patches(known.astype(np.float32)).astype(np.float64)
        most = there.mean(axis=1) > MOST_KNOWN
        rows, there = [channel[most] for channel in rows], there[most]
    if len(rows[0]) < 4 * SIDE**2:
        return 0.0
    return math.sqrt(max(float(np.mean([_noise_variance(channel, there) for channel in rows])), 0.0))


def recognize_noise(pixels: FloatArray, known: Mask | None = None) -> Noise:
    """The noise of a picture [C, H, W].

    White noise, at each of some brightnesses, is what the smallest eigenvalues say, see `estimate_noise`, but no more
    than what the flattest patches there have: of fine texture the former see too much. Noise that went through
    demosaicing, resampling or a codec is alike in neighbouring pixels, which shows in the flattest patches as well,
    where there are enough of them.

    Args:
        pixels: of the picture.
        known: [H, W], the pixels that are; with some that are not, noise is taken to be white.
    """
    white = _white(pixels, known)
    height, width = pixels.shape[1:]
    if known is not None or min(height, width) < 4 * FLAT_SIDE or height * width < MOST_STRUCTURE:
        return white
    variances, products = zip(*map(_flat_moments, pixels), strict=True)
    sigma, correlation = math.sqrt(float(np.mean(variances))), float(np.sum(products) / max(np.sum(variances), 1e-12))
    if not CORRELATED[0] < correlation < CORRELATED[1]:
        return white
    found = _with_curve(pixels, math.sqrt(-1 / (4 * math.log(correlation))))
    return found if sigma > LEAST_CORRELATED and found.sigma > white.sigma else white


def _patches(channel: FloatArray) -> FloatArray:
    """Patches [n, 49] of a channel."""
    windows = np.lib.stride_tricks.sliding_window_view(channel, (SIDE, SIDE))
    stride = max(1, int(np.sqrt(channel.size / MOST_PATCHES)))
    return windows[::stride, ::stride].reshape(-1, SIDE**2)


def _noise_variance(patches: FloatArray, known: Doubles | None = None) -> float:
    """The mean of the smallest eigenvalues of the covariance, as many as are not skewed to above.

    With some values unknown, each covariance is taken over the patches that have both.
    """
    if known is None:
        covariance = np.cov(patches, rowvar=False)
    else:
        means = (patches * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        centred = (patches - means) * known
        covariance = centred.T @ centred / np.maximum(known.T @ known, 1)
    eigenvalues = np.linalg.eigvalsh(covariance)
    for count in range(len(eigenvalues), 0, -1):
        least = eigenvalues[:count]
        if least.mean() <= np.median(least):
            return float(least.mean())
    return float(eigenvalues[0])


def _white(pixels: FloatArray, known: Mask | None) -> Noise:
    """White noise, with a variance that grows with brightness along a line if it does so much."""
    from scipy.optimize import nnls

    if min(pixels.shape[1:]) < 2 * LEVEL_SIDE:
        return Noise(0.0)
    there = None if known is None else _patches(known.astype(np.float32))
    cut = pixels.min() >= 0 and pixels.max() <= 1
    points = [point for channel in pixels for point in _levels(channel, known, there, cut)]
    if not points:
        return Noise(0.0)
    at, variances = np.array(points).T
    scale = 1 / np.maximum(variances, LEAST_LEVEL**2)  # relative errors are alike
    sigma = math.sqrt(float((scale**2 * variances).sum() / (scale**2).sum()))
    constant, gain = nnls(np.stack([scale, scale * np.clip(at, 0, 1)], axis=1), scale * variances)[0]
    low, high = (constant + gain * np.clip(edge, 0, 1) for edge in (at.min(), at.max()))
    if high < UNEQUAL * low or sigma == 0:
        return Noise(sigma)
    return _over(pixels, Noise(sigma, curve=((0.0, math.sqrt(constant)), (1.0, math.sqrt(constant + gain)))))


def _levels(
    channel: FloatArray, known: Mask | None, there: FloatArray | None, cut: bool
) -> Iterator[tuple[float, float]]:
    """Brightness and variance of white noise, at some brightnesses of a channel."""
    patches = _patches(channel)
    brightness = patches.mean(axis=1)
    if there is not None:
        most = there.mean(axis=1) > MOST_KNOWN
        patches, there = patches[most], there[most]
        brightness = (patches * there).sum(axis=1) / there.sum(axis=1)
    parts = LEVELS if len(patches) >= LEVELS * 4 * SIDE**2 else 1
    if len(patches) < 4 * SIDE**2:
        return
    means, flat = _flatness(channel, known, cut)
    order = np.argsort(means)
    means, flat = means[order], flat[order]
    for one in np.array_split(np.argsort(brightness), parts):
        variance = _noise_variance(patches[one], None if there is None else there[one].astype(np.float64))
        near = flat[slice(*np.searchsorted(means, [brightness[one].min(), brightness[one].max()]))]
        if len(near) >= NARROWER * LEAST_FLAT:
            # at brightnesses closer together, or the darkest patches would be taken for the flattest
            least = [float(np.quantile(some, LEVEL_SHARE)) for some in np.array_split(near, NARROWER)]
            variance = min(variance, float(np.mean(least)) / _flattest(0.0))
        yield float(brightness[one].mean()), max(variance, 0.0)


def _flatness(channel: FloatArray, known: Mask | None, cut: bool) -> tuple[Doubles, Doubles]:
    """Means and variances of patches, less a plane where all is known; without those that touch a cut."""
    if known is None:
        _, means, variances = _planeless(channel, LEVEL_SIDE)
        inner = _inner(_strided(channel, LEVEL_SIDE)).all(axis=(2, 3)).ravel() if cut else np.ones(len(means), bool)
        return means[inner], variances[inner]
    values, there = (_strided(plane, LEVEL_SIDE).reshape(-1, LEVEL_SIDE**2) for plane in (channel, known))
    count = there.sum(axis=1)
    most = count > MOST_KNOWN * LEVEL_SIDE**2
    if cut:
        most &= (_inner(values) | ~there).all(axis=1)
    values, there, count = values[most].astype(np.float64), there[most], count[most]
    means = (values * there).sum(axis=1) / count
    return means, ((values - means[:, None]) ** 2 * there).sum(axis=1) / (count - 1)


def _inner(values: FloatArray) -> Mask:
    """What is neither black nor white."""
    found: Mask = (values > 0.5 / 255) & (values < 1 - 0.5 / 255)
    return found


@cache
def _flattest(spread: float) -> float:
    """Variance of the flattest patches of such noise of strength one: they are flatter than it is."""
    unit = Noise(1.0, spread).sample(np.zeros((1, 512, 512), np.float32), np.random.default_rng(0))[0]
    return float(np.quantile(_planeless(unit, LEVEL_SIDE)[2], LEVEL_SHARE))


def _with_curve(pixels: FloatArray, spread: float) -> Noise:
    """Noise of this spread, by what the flattest patches at each of some brightnesses have."""
    brightness, variances = (
        np.concatenate(part) for part in zip(*(_planeless(channel, LEVEL_SIDE)[1:] for channel in pixels), strict=True)
    )
    curve: list[tuple[float, float]] = []
    for one in np.array_split(np.argsort(brightness), LEVELS):
        at = float(brightness[one].mean())
        if not curve or at > curve[-1][0]:
            curve.append((at, math.sqrt(float(np.quantile(variances[one], LEVEL_SHARE)) / _flattest(round(spread, 3)))))
    return _over(pixels, Noise(0.0, spread, tuple(curve)))


def _over(pixels: FloatArray, noise: Noise) -> Noise:
    """With the root mean square over a picture."""
    return Noise(math.sqrt(float(noise.variances(pixels).mean())), noise.spread, noise.curve)


def _flat_moments(channel: FloatArray) -> tuple[float, float]:
    """Variance, and mean product of neighbours, in the flattest patches of a channel, less a plane for each."""
    patches, _, variances = _planeless(channel, FLAT_SIDE)
    flat = patches[np.argsort(variances)[: max(4, int(FLAT_SHARE * len(variances)))]]
    down, across = (flat[:, 1:] * flat[:, :-1]).mean(), (flat[:, :, 1:] * flat[:, :, :-1]).mean()
    return float((flat**2).mean()), float((down + across) / 2)


def _strided(plane: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Patches [rows, columns, side, side], by half of their side apart."""
    return np.lib.stride_tricks.sliding_window_view(plane, (side, side))[:: side // 2, :: side // 2]


def _planeless(channel: FloatArray, side: int) -> tuple[Doubles, Doubles, Doubles]:
    """Patches [n, side, side], each less a plane; their means; their variances."""
    patches = _strided(channel, side).reshape(-1, side, side).astype(np.float64)
    means = patches.mean(axis=(1, 2))
    patches = patches - means[:, None, None]
    ramp = np.linspace(-1, 1, side)
    for axis in (ramp[:, None], ramp[None, :]):
        plane = np.broadcast_to(axis, (side, side))
        patches = patches - (patches * plane).sum(axis=(1, 2), keepdims=True) / (plane**2).sum() * plane
    return patches, means, (patches**2).mean(axis=(1, 2))
