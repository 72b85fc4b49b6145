"""Two models of what stands out, without training: what contours surround, and what is rare within the picture.

Both look at the Lab colours of a small picture and give [h, w], none negative, not blurred and of no particular scale;
a picture of one colour gives 0 everywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import fft2, fftfreq, ifft2, next_fast_len
from scipy.ndimage import label, maximum_filter, median_filter

from .maps import FloatArray

LEVELS = 32
"""Thresholds per channel: the published step, 8 of 256 grey levels."""
DILATION = 7 / 600
"""Share of the longer side by which what is surrounded grows: 7 pixels of 600, as published."""

WAVELENGTH = 3.0
"""Of the finest filters, pixels: the published 6 for pictures twice as large."""
SCALES = 5
ORIENTATIONS = 4
BANDWIDTH = 0.55
"""Width of a filter over its frequency, on a logarithmic scale: two octaves."""
SPREAD = np.radians(37.5)
"""Standard deviation of a filter over its orientation."""
VISIBLE = 1.0
"""Difference in Lab that is just seen; what varies by less is taken as one colour."""

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)


def to_lab(rgb: FloatArray) -> FloatArray:
    """CIE Lab (D65) [3, H, W] of sRGB in [0, 1] [3, H, W]: lightness 0 to 100, green to red, blue to yellow."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # rows of sum 1 make the white of the screen the white of Lab, so that grey has no colour at all
    relative = np.tensordot(_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True), linear, axes=1)
    edge = 6 / 29
    x, y, z = np.where(relative > edge**3, np.cbrt(relative), relative / (3 * edge**2) + 4 / 29)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]).astype(np.float32)


def surroundedness(lab: FloatArray) -> FloatArray:
    """Boolean map saliency: how often a pixel lies in a region that does not reach the edge of the picture.

    Each channel is cut at evenly spaced thresholds into what is above and what is below. The regions of both that touch
    no side of the picture count, dilated and each map scaled to length 1, so that small regions count more per pixel.

    Source: Zhang and Sclaroff, "Exploiting Surroundedness for Saliency Detection: A Boolean Map Approach", TPAMI 2016.
    Here a median takes the place of their opening and the channels are not whitened.

    Args:
        lab: [3, H, W].
    """
    height, width = lab.shape[1:]
    reach = round(DILATION * max(height, width))
    found = np.zeros((height, width), np.float32)
    for channel in lab:
        values = median_filter(channel, 3, mode="nearest")
        low, high = float(values.min()), float(values.max())
        if high - low < VISIBLE:
            continue
        for threshold in low + (high - low) * np.arange(LEVELS) / LEVELS:
            above = values > threshold
            for regions in (above, ~above):
                inner = _inner(regions)
                if reach:
                    inner = maximum_filter(inner, 2 * reach + 1)
                area = np.count_nonzero(inner)
                if area:
                    found += inner * np.float32(area**-0.5)
    return found


def rarity(lab: FloatArray) -> FloatArray:
    """Adaptive whitening saliency: how far a pixel's structure lies from what is usual in this picture.

    The colours are decorrelated and brought to unit variance. Each of the three goes through log-Gabor filters of
    several orientations and scales, and of each orientation the amplitudes at all scales are decorrelated likewise.
    Their squared length, a measure of improbability (Hotelling's T²), is summed over colours and orientations.

    Source: García-Díaz, Fdez-Vidal, Pardo and Dosil, "Saliency from hierarchical adaptation through decorrelation and
    variance normalization", Image and Vision Computing 2012. Fewer scales, for smaller pictures; and a colour
    whose range is below ``VISIBLE`` is left out, lest the noise of a grey picture count as much as its lightness.

    Args:
        lab: [3, H, W].
    """
    height, width = lab.shape[1:]
    found = np.zeros((height, width), np.float32)
    planes = _decorrelated(lab)
    colors = _whitened(planes[np.ptp(planes, axis=(1, 2)) >= VISIBLE])
    margin = int(WAVELENGTH * 2 ** (SCALES - 2))
    rows, columns = (next_fast_len(side + 2 * margin) for side in (height, width))
    around = ((0, 0), (margin, rows - height - margin), (margin, columns - width - margin))
    spectra = fft2(np.pad(colors, around, mode="symmetric"))
    for bank in _log_gabor(rows, columns):
        for spectrum in spectra:
            amplitudes = np.abs(ifft2(spectrum * bank))[:, margin : margin + height, margin : margin + width]
            found += np.square(_whitened(_decorrelated(amplitudes))).sum(axis=0)
    return found


def _inner(regions: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which pixels lie in a region that touches no side."""
    labels, count = label(regions)
    inner = np.ones(count + 1, np.bool_)
    inner[0] = False
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        inner[side] = False
    found: npt.NDArray[np.bool_] = inner[labels]
    return found


def _decorrelated(values: npt.NDArray[np.floating]) -> FloatArray:
    """Planes [C, H, W] turned to their principal axes, of mean 0; those that say nothing new are left out."""
    flat = (values - values.mean(axis=(1, 2), keepdims=True, dtype=np.float64)).reshape(len(values), -1)
    variances, directions = np.linalg.eigh(flat @ flat.T / flat.shape[1])
    # what is left of planes that depend on each other is rounding, which must not be blown up
    kept = directions[:, variances > max(1e-8 * variances[-1], 1e-12)]
    return np.asarray((kept.T @ flat).reshape(-1, *values.shape[1:]), dtype=np.float32)


def _whitened(planes: FloatArray) -> FloatArray:
    """Planes [C, H, W], decorrelated before, each of variance 1."""
    return np.asarray(planes / planes.std(axis=(1, 2), keepdims=True))


def _log_gabor(rows: int, columns: int) -> FloatArray:
    """Filters [orientations, scales, rows, columns] in the frequency plane, of one side only: they give amplitudes."""
    y, x = fftfreq(rows)[:, None], fftfreq(columns)[None, :]
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    radius[0, 0] = 1
    centers = 1 / (WAVELENGTH * 2.0 ** np.arange(SCALES))
    radial = np.exp(-0.5 * (np.log(radius / centers[:, None, None]) / np.log(BANDWIDTH)) ** 2)
    radial[:, 0, 0] = 0
    turned = angle - np.pi * np.arange(ORIENTATIONS)[:, None, None] / ORIENTATIONS
    angular = np.exp(-0.5 * (np.arctan2(np.sin(turned), np.cos(turned)) / SPREAD) ** 2)
    return np.asarray(angular[:, None] * radial, dtype=np.float32)
