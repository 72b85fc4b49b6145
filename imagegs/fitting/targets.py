"""What a fit looks at: the picture, the weights of its pixels, and what they say about where Gaussians should go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ..errors import ShapeError
from ..gaussians import MAX_CHANNELS, FloatArray
from ..guidance import Guidance

STRUCTURE_SIGMA = 1.5
"""Radius over which the structure tensor is averaged, pixels."""


@dataclass(frozen=True, eq=False)
class Target:
    """A picture to fit.

    Attributes:
        pixels: [C, H, W].
        weights: [H, W] of the loss, mean 1; None for ones.
        start: [H, W] factor of the density of the first Gaussians; None for ones.
        growth: [H, W] factor of the density of further ones; None for ones.
        order: [H, W] what counts in prefixes, besides the weights; None for ones.
    """

    pixels: FloatArray
    weights: FloatArray | None = None
    start: FloatArray | None = None
    growth: FloatArray | None = None
    order: FloatArray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])

    def of_prefix(self) -> Target:
        """What a prefix of levels looks at: what is to come first counts more."""
        if self.order is None:
            return self
        weights, growth = (self.order if plane is None else plane * self.order for plane in (self.weights, self.growth))
        return replace(self, weights=weights, growth=growth)

    def halved(self) -> Target:
        """The same at half the size: means of 2 x 2 pixels, the last row and column repeated where there is none."""
        maps = (self.weights, self.start, self.growth, self.order)
        return Target(halve(self.pixels), *(None if plane is None else halve(plane[None])[0] for plane in maps))


def halve(image: FloatArray) -> FloatArray:
    """Mean over 2 x 2 pixels of [C, H, W]."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return np.ascontiguousarray(padded.reshape(len(image), (height + 1) // 2, 2, (width + 1) // 2, 2).mean(axis=(2, 4)))


def make_target(pixels: Any, guidance: Guidance | None = None) -> Target:
    """Checks the picture.

    Args:
        pixels: [C, H, W], finite; pictures lie in [0, 1], wide-gamut and floating-point ones may leave it.
        guidance: where it matters; its maps' sizes are not looked at.

    Raises:
        ShapeError: anything else.
    """
    image = _floats("picture", pixels)
    if image.ndim != 3 or 0 in image.shape or len(image) > MAX_CHANNELS:
        raise ShapeError(f"picture: expected [C, H, W] with 1 to {MAX_CHANNELS} channels, found {list(image.shape)}")
    if not np.isfinite(image).all():
        raise ShapeError("picture: expected finite numbers, found NaN or infinity")
    guidance = guidance or Guidance()
    return Target(image, guidance.loss, guidance.start, guidance.growth, guidance.order)


def _floats(name: str, value: Any) -> FloatArray:
    try:
        return np.ascontiguousarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name}: expected an array of numbers, found {type(value).__name__}") from error


@dataclass(frozen=True, eq=False)
class Structure:
    """What a picture says about each pixel, all [H, W].

    Attributes:
        gradient: magnitude of the gradient, its channels' mean.
        direction: angle across the edge, radians; the short axis of a Gaussian that lies along it.
        elongation: square root of the axis ratio that fits, 1 to 3.
    """

    gradient: FloatArray
    direction: FloatArray
    elongation: FloatArray


def analyze(pixels: FloatArray) -> Structure:
    """Gradient and structure tensor (Bigün and Granlund 1987) of [C, H, W]."""
    gray = pixels.mean(axis=0)
    gy, gx = (np.gradient(gray, axis=axis) if gray.shape[axis] > 1 else np.zeros_like(gray) for axis in (0, 1))
    xx, yy, xy = (gaussian_filter(product, STRUCTURE_SIGMA) for product in (gx * gx, gy * gy, gx * gy))
    spread, trace = np.hypot(xx - yy, 2 * xy), xx + yy
    floor = np.float32(2e-5)  # of noise: flat places get round Gaussians
    ratio = np.clip((trace + spread + floor) / np.maximum(trace - spread + floor, floor), 1, None) ** 0.25
    return Structure(
        gradient=np.hypot(gx, gy).astype(np.float32),
        direction=(0.5 * np.arctan2(2 * xy, xx - yy)).astype(np.float32),
        elongation=np.sqrt(np.clip(ratio, 1, 3)).astype(np.float32),
    )
