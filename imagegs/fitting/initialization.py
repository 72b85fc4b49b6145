"""Where Gaussians begin, at the start and when more are added: drawn by a density over the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..gaussians import FloatArray
from .config import FitConfig
from .targets import Structure, Target

Density = npt.NDArray[np.float64]

SMALLEST_START = 0.7
"""First standard deviations are at least this, pixels."""
SPARSEST = 0.1
"""First standard deviations grow no further than for so many Gaussians on the whole picture."""


@dataclass(eq=False)
class Gaussians:
    """Gaussians while they are fitted: writable arrays, pixels of the picture that is being fitted.

    Attributes:
        means: [N, 2].
        scales: [N, 2].
        rotations: [N].
        colors: [N, C].
    """

    means: FloatArray
    scales: FloatArray
    rotations: FloatArray
    colors: FloatArray

    def __len__(self) -> int:
        return len(self.means)

    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Means, scales, rotations and colours."""
        return self.means, self.scales, self.rotations, self.colors

    def copy(self) -> Gaussians:
        """One that can change on its own."""
        return Gaussians(*(array.copy() for array in self.arrays()))

    def joined(self, more: Gaussians) -> Gaussians:
        """These, then those."""
        pairs = zip(self.arrays(), more.arrays(), strict=True)
        return Gaussians(*(np.concatenate(pair) for pair in pairs))

    def take(self, rows: npt.NDArray[np.intp]) -> Gaussians:
        """Those rows."""
        return Gaussians(*(np.ascontiguousarray(array[rows]) for array in self.arrays()))

    def put(self, rows: npt.NDArray[np.intp], more: Gaussians) -> None:
        """Writes ``more`` over the rows."""
        for mine, theirs in zip(self.arrays(), more.arrays(), strict=True):
            mine[rows] = theirs

    def resized(self, factor: float) -> Gaussians:
        """The same on a picture of ``factor`` times the size."""
        return Gaussians(self.means * np.float32(factor), self.scales * np.float32(factor), self.rotations, self.colors)


def normalize(density: npt.NDArray[np.floating], importance: FloatArray | None = None) -> Density:
    """Probabilities [H, W] proportional to density x importance; uniform where that is nowhere positive."""
    values = density.astype(np.float64) if importance is None else density.astype(np.float64) * importance
    total = values.sum()
    if not total > 0:
        return np.full(values.shape, 1 / values.size)
    return np.asarray(values / total)


def start_density(target: Target, structure: Structure, config: FitConfig) -> Density:
    """Probability of a first Gaussian at every pixel [H, W]: by edges or the importance map, mixed with uniform."""
    size = target.size
    if config.init == "importance" and target.start is not None:
        shaped = normalize(target.start)
    elif config.init == "random":
        shaped = normalize(np.ones(size), target.start)
    elif config.init == "gradient":
        shaped = normalize(structure.gradient.astype(np.float64) ** 2, target.start)  # as official Image-GS does
    else:
        shaped = normalize(structure.gradient, target.start)
    return normalize((1 - config.uniform_share) * shaped + config.uniform_share / shaped.size)


def draw_pixels(density: Density, count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """``count`` different pixels (flat indices) by their probabilities (Efraimidis and Spirakis 2006)."""
    likely = density.ravel() + 1e-12 / density.size  # so that there are always enough of them
    keys = rng.standard_exponential(density.size) / likely
    if count >= density.size:
        return np.arange(density.size)
    return np.sort(np.argpartition(keys, count)[:count])


def spawn(
    pixels: npt.NDArray[np.intp],
    per_pixel: Density,
    target: Target,
    structure: Structure,
    config: FitConfig,
    colors: FloatArray | None = None,
) -> Gaussians:
    """New Gaussians at the centres of some pixels.

    Args:
        pixels: [N] flat indices.
        per_pixel: [H, W] expected number of Gaussians at every pixel; sets the scale.
        target: gives the colours.
        structure: gives orientation and elongation, with the start ``structure``.
        config: see ``FitConfig``.
        colors: [C, H, W] to take the colours from instead.
    """
    width = target.size[1]
    means = np.stack([pixels % width + 0.5, pixels // width + 0.5], axis=1).astype(np.float32)
    if config.start_scale is not None:
        scale = np.full(len(pixels), config.start_scale)
    else:
        expected = np.maximum(per_pixel.ravel()[pixels], SPARSEST / per_pixel.size)
        scale = np.maximum(config.scale_per_spacing / np.sqrt(expected), SMALLEST_START)
    elongation, direction = np.ones(len(pixels), np.float32), np.zeros(len(pixels), np.float32)
    if config.init == "structure":
        elongation, direction = structure.elongation.ravel()[pixels], structure.direction.ravel()[pixels]
    scales = np.stack([scale / elongation, scale * elongation], axis=1).astype(np.float32)
    source = target.pixels if colors is None else colors
    chosen = source.reshape(len(source), -1)[:, pixels].T
    return Gaussians(means, scales, direction, np.ascontiguousarray(chosen, dtype=np.float32))
