"""A picture of waves and areas, and the same with noise."""

from __future__ import annotations

import numpy as np

from imagegs import Picture, PictureInfo


def clean(height: int = 72, width: int = 96) -> np.ndarray:
    """[3, height, width]."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    waves = [0.5 + 0.2 * np.sin(x / (9 + 2 * k)) * np.cos(y / (11 - k)) for k in range(3)]
    shape = 0.2 * (np.hypot(x - 40, y - 30) < 17) - 0.2 * (y > 0.4 * x + 36)
    return np.clip(np.stack(waves) + shape, 0, 1).astype(np.float32)


def noisy(sigma: float, seed: int = 1) -> Picture:
    """With white noise."""
    pixels = clean()
    noise = np.random.default_rng(seed).standard_normal(pixels.shape)
    return picture_of(pixels + sigma * noise)


def psnr(found: np.ndarray) -> float:
    """Against the clean picture."""
    return float(-10 * np.log10(np.mean((found - clean()) ** 2)))


def picture_of(pixels: np.ndarray) -> Picture:
    """A colour picture, which may leave [0, 1]."""
    return Picture(pixels.astype(np.float32), PictureInfo.of_channels(3))
