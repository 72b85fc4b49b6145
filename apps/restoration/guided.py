"""Two filters of a noisy picture that go by a pilot, which is less noisy: what Gaussians are too few for, comes back.

Both trust the pilot with what is there and the noisy picture with how much of it: fine texture, of which fits show a
part only, and what repeats.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, dctn, idct, idctn
from scipy.ndimage import uniform_filter

from .noise import Noise

FloatArray = npt.NDArray[np.float32]
SIDE, STEP = 8, 2
"""Of the blocks of `wiener`, and from one to the next, pixels."""
BAND = 64
"""Rows of blocks that are worked on at once."""
WINDOW = 2.0
"""Kaiser's, that blocks are put together with."""
REACH, PATCH = 8, 3
"""Of `similar_mean`: how far alike pixels are looked for, and the side of what is compared."""
LIKENESS = 0.4
"""Differences of pilots that halve a weight or so, times the noise."""


def wiener(noisy: FloatArray, pilot: FloatArray, noise: Noise) -> FloatArray:
    """Each coefficient of overlapping 8 x 8 blocks, by how much of it the pilot says is not noise.

    Source: Ghael, Sayeed and Baraniuk, "Improved wavelet denoising via empirical Wiener filtering", SPIE 1997, with
    cosines instead of wavelets and along the channels as well.

    Args:
        noisy: [C, H, W].
        pilot: [C, H, W].
        noise: of ``noisy``.
    """
    size = noisy.shape[1:]
    edges = ((0, 0), *((SIDE, SIDE + (-side) % STEP) for side in size))
    # along the channels, cosines take brightness from colours
    seen, guess = (dct(np.pad(x, edges, "symmetric"), axis=0, norm="ortho") for x in (noisy, pilot))
    level = np.pad(noise.variance(pilot), edges[1:], "symmetric")
    power = _block_power(noise)
    total, weight = np.zeros_like(seen), np.full_like(seen, 1e-12)
    edge = np.kaiser(SIDE, WINDOW).astype(np.float32)
    window = np.outer(edge, edge)
    rows = (seen.shape[1] - SIDE) // STEP + 1
    for first in range(0, rows, BAND):
        count = min(BAND, rows - first)
        band = slice(first * STEP, (first + count - 1) * STEP + SIDE)
        coefficients, known = (_blocks(x[:, band]) for x in (seen, guess))
        noises = _windows(level[None, band]).mean(axis=(3, 4), keepdims=True) * power
        gain = known**2 / (known**2 + noises)
        gain[..., 0, 0] = 1
        sure = 1 / (noises * gain**2).sum(axis=(3, 4))
        found = idctn(coefficients * gain, axes=(3, 4), norm="ortho")
        for row in range(SIDE):
            for column in range(SIDE):
                at = (
                    slice(None),
                    slice(band.start + row, band.start + row + count * STEP, STEP),
                    slice(column, column + found.shape[2] * STEP, STEP),
                )
                total[at] += window[row, column] * sure * found[..., row, column]
                weight[at] += window[row, column] * sure
    whole = idct(total / weight, axis=0, norm="ortho")
    result: FloatArray = whole[:, SIDE : SIDE + size[0], SIDE : SIDE + size[1]].astype(np.float32)
    return result


def similar_mean(noisy: FloatArray, pilot: FloatArray, noise: Noise) -> FloatArray:
    """The mean of pixels around which the pilot looks alike, within a window.

    Source: Buades, Coll and Morel, "A non-local algorithm for image denoising", CVPR 2005, with likeness of the pilot.

    Args:
        noisy: [C, H, W].
        pilot: [C, H, W].
        noise: of ``noisy``.
    """
    height, width = noisy.shape[1:]
    reach = min(REACH, height - 1, width - 1)
    edges = ((0, 0), (reach, reach), (reach, reach))
    wide, wide_pilot = (np.pad(x, edges, "reflect") for x in (noisy, pilot))
    scale = -1 / (LIKENESS**2 * np.maximum(noise.variance(pilot), 1e-12))
    total, weight = np.zeros_like(noisy), np.zeros((height, width), np.float32)
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            at = slice(None), slice(down, down + height), slice(across, across + width)
            apart = uniform_filter(((pilot - wide_pilot[at]) ** 2).mean(axis=0), PATCH)
            alike = np.exp(scale * apart)
            total += alike * wide[at]
            weight += alike
    found: FloatArray = total / weight
    return found


def guided_parts(
    noisy: FloatArray, pilot: FloatArray, noise: Noise, known: npt.NDArray[np.bool_] | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A pilot [C, H, W], and what `similar_mean` and `wiener` make of the noisy picture by it.

    Where pixels are not known [H, W], the pilot stands for them.
    """
    seen = noisy if known is None else np.where(known, noisy, pilot)
    return pilot, similar_mean(seen, pilot, noise), wiener(seen, pilot, noise)


def shares_of(trials: FloatArray, wanted: FloatArray, count: int) -> FloatArray:
    """Shares, none negative, with which means of parts come nearest to what is wanted in squared error.

    Args:
        trials: [n, parts, values] the parts of at least two trials.
        wanted: [values]; noise on it must be independent of the parts'.
        count: how many trials there will be to take the means of: what these do not share shrinks with it.
    """
    from scipy.optimize import nnls

    found = trials.astype(np.float64)
    mean = found.mean(axis=0)
    apart = found - mean
    unshared = np.einsum("kpv,kqv->pq", apart, apart) / (len(found) - 1)
    squares = (mean @ mean.T + unshared * (1 / count - 1 / len(found))) / wanted.size
    values, vectors = np.linalg.eigh(squares)
    root = vectors * np.sqrt(np.maximum(values, 1e-12 * values.max()))
    shares: FloatArray = nnls(root.T, np.linalg.solve(root, mean @ wanted / wanted.size))[0]
    return shares


def _windows(planes: FloatArray) -> FloatArray:
    """The overlapping blocks [C, rows, columns, 8, 8] of planes."""
    found: FloatArray = np.lib.stride_tricks.sliding_window_view(planes, (SIDE, SIDE), axis=(1, 2))[:, ::STEP, ::STEP]
    return found


def _blocks(planes: FloatArray) -> FloatArray:
    """Cosine coefficients of the overlapping blocks."""
    found: FloatArray = dctn(_windows(planes), axes=(3, 4), norm="ortho")
    return found


def _block_power(noise: Noise) -> FloatArray:
    """Mean square of each coefficient [8, 8] of such noise of strength one."""
    if not noise.spread:
        return np.ones((SIDE, SIDE), np.float32)
    sample = Noise(1.0, noise.spread).sample(np.zeros((1, 512, 512), np.float32), np.random.default_rng(0))
    power: FloatArray = (_blocks(sample) ** 2).mean(axis=(0, 1, 2))
    return power
