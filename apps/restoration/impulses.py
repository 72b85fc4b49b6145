"""Pixels that say nothing of the picture: salt and pepper, dead pixels, bits that flipped."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
SIDE = 5
"""Of the neighbourhood, pixels."""
EXTREME = 0.5 / 255
"""What lies so near to 0 or 1 is black or white."""
MOST_EXTREME = 0.9
"""Of a neighbourhood: with more of it extreme, that is what the picture shows."""
APART, NOISES = 0.12, 5.0
"""An impulse's distance from its neighbours' median: at least this, and times the noise."""
RECOGNIZED = 0.01
"""Of all values, so that there are impulses at all."""
AROUND = 9
"""Side of the neighbourhood whose median tells what fits leave there, pixels: of texture they leave more."""
OUTLYING, LEAST_OUTLYING = 3.5, 0.06
"""What a fit leaves of a pixel that is none: at most times what it leaves of most, and at least."""


def salt_and_pepper(pixels: FloatArray) -> Mask | None:
    """Which pixels [H, W] of a picture [C, H, W] are black or white by accident, in any channel.

    They are far from the median of those around that are neither; noise that was cut to [0, 1] is not.

    Returns:
        None where there are next to none.
    """
    found: Mask = np.stack([_accidents(channel) for channel in pixels])
    if found.mean() < RECOGNIZED:
        return None
    mask: Mask = np.any(found, axis=0)
    return None if mask.all() else mask


def outlying(pixels: FloatArray, fitted: FloatArray, known: Mask | None = None) -> Mask:
    """Which pixels [H, W] a fit leaves much more of than of most others, there and everywhere, in any channel.

    Source: iterated rejection, as in robust regression; the scale is the median absolute deviation.

    Args:
        pixels: [C, H, W].
        fitted: [C, H, W].
        known: [H, W], those that the scale is taken from; by default all.
    """
    left = np.abs(pixels - fitted)
    inside = left if known is None else left[:, known]
    everywhere = np.median(inside.reshape(len(pixels), -1), axis=1)[:, None, None]
    scale = 1.4826 * np.maximum(median_filter(left, (1, AROUND, AROUND)), everywhere)
    found: Mask = (left > np.maximum(OUTLYING * scale, LEAST_OUTLYING)).any(axis=0)
    return found


def extremes(pixels: FloatArray) -> Mask:
    """Which pixels [H, W] are black or white in some channel."""
    found: Mask = np.any((pixels <= EXTREME) | (pixels >= 1 - EXTREME), axis=0)
    return found


def _accidents(channel: FloatArray) -> Mask:
    """Values [H, W] of a channel that are black or white and nothing like what is around."""
    reach = SIDE // 2
    extreme = (channel <= EXTREME) | (channel >= 1 - EXTREME)
    if not extreme.any():
        return extreme
    rows = np.pad(np.where(extreme, np.nan, channel), reach, "symmetric")
    around = np.lib.stride_tricks.sliding_window_view(rows, (SIDE, SIDE)).reshape(*channel.shape, SIDE**2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but extremes around
        median = np.nanmedian(around, axis=2)
    mixed = np.isnan(around).mean(axis=2) < MOST_EXTREME
    distance = np.abs(channel - median)
    inner = distance[~extreme & mixed]
    noise = 1.4826 * float(np.median(inner)) if inner.size else 0.0
    found: Mask = extreme & mixed & (distance > max(APART, NOISES * noise))
    return found
