"""Checkpoints of GaussianImage (github.com/Xinjie-Q/GaussianImage, arXiv 2403.08551) as Gaussians.

Both of its models store ``_xyz`` [N, 2], whose tanh is the centre in [-1, 1] across the picture, ``_features_dc``
[N, C], the colours, and ``_opacity`` [N, 1], all ones. The shape is

- Cholesky: ``_cholesky`` [N, 3]; (l₁, l₂, l₃) = stored + (0.5, 0, 0.5), the covariance is L Lᵀ with L = (l₁ 0; l₂ l₃)
- RS: ``_scaling`` [N, 2], scales |stored + 0.5|, and ``_rotation`` [N, 1], 2π · sigmoid, from +x towards -y

in pixels. Its renderer takes the pixel in column j at x = j, so that centres move by half a pixel here. A pixel is
Σ w c with w = exp(-d²/2), where that is at least 1/255.

A checkpoint of the second, quantising run holds its quantisers too; its Gaussians are then what their codes mean:
positions in half precision, 6-bit shapes with a learned scale and offset, colours as a sum of code words.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ImageError
from ..kernels.constants import CUTOFF, RADIUS
from .checkpoints import Checkpoint
from .contents import Array, Contents, drawn

TENSORS = ("_xyz", "_features_dc")

_THRESHOLD = 1 / 255
_LEVELS = 63
_MAX_WORDS = 256
_CODEBOOK = "features_dc_quantizer.quantizer.layers.{}._codebook.embed"

# Its Gaussians end abruptly where they fall to 1/255, ours fade to zero at RADIUS: these scales keep the integral,
# which is what a sum of many shows (58 dB from its picture in a fit of kodim07, 46 dB without).
_WIDER = math.sqrt((1 - _THRESHOLD) / (1 - CUTOFF * (1 + RADIUS**2 / 2)))


def gaussians_of(checkpoint: Checkpoint, size: tuple[int, int]) -> Contents:
    """The Gaussians of a checkpoint that GaussianImage wrote, of either model, quantised or not.

    Args:
        checkpoint: what the file holds.
        size: width and height of the picture, pixels.

    Returns:
        Its contents; the scales are a little wider, so that the picture comes out closest.

    Raises:
        ImageError: tensors are missing or disagree, or opacities are not in [0, 1].
    """
    raw = checkpoint.array("_xyz", None, 2)
    n = len(raw)
    if n == 0:
        raise ImageError(f"{checkpoint.path}: expected Gaussians, found none")
    colors = checkpoint.array("_features_dc", n, None)
    codebooks = _codebooks(checkpoint, colors.shape[1])
    if codebooks:
        with np.errstate(over="ignore"):
            raw = raw.astype(np.float16).astype(np.float64)
        colors = _code_words(colors, codebooks)
    scales, rotations = _cholesky(checkpoint, n) if "_cholesky" in checkpoint else _scales_rotations(checkpoint, n)
    means = (0.5 + 0.5 * np.tanh(raw)) * size + 0.5
    return drawn(
        checkpoint.path, means, scales * _WIDER, rotations, colors * _opacities(checkpoint, n), size, blend="sum"
    )


def _cholesky(checkpoint: Checkpoint, n: int) -> tuple[Array, Array]:
    """Scales [N, 2] and rotations [N] of the covariances L Lᵀ, the larger scale first."""
    factors = _quantized(checkpoint, "cholesky_quantizer", checkpoint.array("_cholesky", n, 3))
    l1, l2, l3 = (factors + np.array([0.5, 0, 0.5])).T
    xx, xy, yy = l1 * l1, l1 * l2, l2 * l2 + l3 * l3
    larger = 0.5 * (xx + yy) + np.hypot(0.5 * (xx - yy), xy)
    area = np.abs(l1 * l3)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.sqrt(larger)
        scales = np.stack([first, area / first], axis=1)  # not as a difference, which would cancel
    return scales, 0.5 * np.arctan2(2 * xy, xx - yy)


def _scales_rotations(checkpoint: Checkpoint, n: int) -> tuple[Array, Array]:
    scaling = _quantized(checkpoint, "scaling_quantizer", checkpoint.array("_scaling", n, 2))
    turns = checkpoint.array("_rotation", n, 1)
    angles = _quantized(checkpoint, "rotation_quantizer", math.pi * (1 + np.tanh(turns / 2)))  # 2π sigmoid
    return np.abs(scaling + 0.5), -angles[:, 0]


def _opacities(checkpoint: Checkpoint, n: int) -> Array:
    if "_opacity" not in checkpoint:
        return np.ones((n, 1))
    values = checkpoint.array("_opacity", n, 1)
    if not ((values >= 0) & (values <= 1)).all():
        raise ImageError(f"{checkpoint.path}: _opacity: expected numbers in [0, 1], found others")
    return values


def _quantized(checkpoint: Checkpoint, quantizer: str, values: Array) -> Array:
    """What the codes of the learned 6-bit quantiser mean, where the checkpoint has one."""
    if f"{quantizer}.scale" not in checkpoint:
        return values
    k = values.shape[1]
    scale, offset = checkpoint.array(f"{quantizer}.scale", k), checkpoint.array(f"{quantizer}.beta", k)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes: Array = np.rint(np.clip((values - offset) / scale, 0, _LEVELS))
    return codes * scale + offset


def _codebooks(checkpoint: Checkpoint, channels: int) -> list[Array]:
    """Code words [K, C] of each stage of the colours' residual quantiser; none where the run did not quantise."""
    found: list[Array] = []
    while (name := _CODEBOOK.format(len(found))) in checkpoint:
        words = checkpoint.array(name, 1, None, channels)[0]
        if not 1 <= len(words) <= _MAX_WORDS:
            raise ImageError(f"{checkpoint.path}: {name}: expected 1 to {_MAX_WORDS} code words, found {len(words):,}")
        found.append(words)
    return found


def _code_words(colors: Array, codebooks: list[Array]) -> Array:
    """Each colour as the sum of the nearest code word of each stage, every stage coding what the ones before left."""
    total = np.zeros_like(colors)
    for words in codebooks:
        distances = np.square((colors - total)[:, None] - words).sum(axis=2)
        total = total + words[distances.argmin(axis=1)]
    return total
