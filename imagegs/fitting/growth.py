"""Where new Gaussians go, and which ones move: from where they are worth least to where the error is high."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..gaussians import FloatArray
from ..guidance import sample
from ..kernels import native
from .config import FitConfig
from .initialization import Density, Gaussians, draw_pixels, normalize, spawn
from .targets import Structure, Target

BLUR_SIDE = 400
"""Official Image-GS blurs the target over one pixel for so many of the picture's side before it takes residuals."""


def error_density(image: FloatArray, target: Target, config: FitConfig) -> Density:
    """Probability of a new Gaussian at every pixel [H, W]: squared error to some power, by weight and guidance."""
    difference = image - target.pixels
    error = np.einsum("chw,chw->hw", difference, difference, dtype=np.float64) / len(image)
    if target.weights is not None:
        error *= target.weights
    return normalize(error**config.error_power, target.growth)


def grow(
    model: Gaussians,
    count: int,
    image: FloatArray,
    target: Target,
    structure: Structure,
    start: Density,
    config: FitConfig,
    rng: np.random.Generator,
) -> Gaussians:
    """``count`` new Gaussians where the render ``image`` [C, H, W] is wrong; their size follows the local density.

    ``start`` is the expected number of first Gaussians at every pixel [H, W].
    """
    colors = None
    if config.grow_color == "residual":
        target = replace(target, pixels=blurred(target.pixels))
        image = np.clip(image, 0, 1)
        colors = target.pixels - image
    density = error_density(image, target, config)
    pixels = draw_pixels(density, count, rng)
    return spawn(pixels, start + density * len(pixels), target, structure, config, colors)


def blurred(pixels: FloatArray) -> FloatArray:
    """[C, H, W] as official Image-GS sees it when it adds Gaussians: small pictures as they are, others smoothed."""
    side = int(math.sqrt(pixels.shape[1] * pixels.shape[2])) // BLUR_SIDE
    if side == 0:
        return pixels
    radius = max(1, side // 2)
    sigma = 0.15 * (2 * radius + 1) + 0.35  # what torchvision takes for a window of this side
    return np.asarray(gaussian_filter(pixels, sigma, radius=radius, axes=(1, 2)), dtype=np.float32)


def least_worth(
    rasterizer: native.Rasterizer, model: Gaussians, background: FloatArray, target: Target, count: int
) -> npt.NDArray[np.intp]:
    """Rows of the ``count`` Gaussians that are worth least, see `worth_of`; after a kept forward pass."""
    return np.sort(np.argpartition(worth_of(rasterizer, model, background, target), count)[:count])


def worth_of(rasterizer: native.Rasterizer, model: Gaussians, background: FloatArray, target: Target) -> FloatArray:
    """By how much the squared error would grow without each Gaussian [N]; after a kept forward pass.

    The guidance of growth, at a Gaussian's mean, multiplies what it is worth.
    """
    worth = np.nan_to_num(rasterizer.removal(background, target.pixels, target.weights))
    return worth if target.growth is None else worth * sample(target.growth, model.means)


def relocation_count(model: Gaussians, config: FitConfig) -> int:
    """How many Gaussians move at a time."""
    return min(int(config.relocate * len(model)), len(model) - 1)
