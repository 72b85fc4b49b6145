"""The two fits of GaussianImage's codec: one without rounding, then one that sees what rounding does to its values.

Source: Zhang et al., arXiv 2403.08551, as described there: the second fit starts from the first and takes as many
steps; `quantizers` names the papers of its quantisers. Differing from it: the start, the kernels and the bounds of the
scales are those of the profile ``gaussian-image``. As there, the state of the second fit that shows the picture best is
kept, which an encoder may do: it has the picture.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from .. import devices
from ..fitting.config import FitConfig, make_config
from ..fitting.fit import run
from ..fitting.initialization import Gaussians
from ..fitting.losses import evaluate, prepare
from ..fitting.optimizer import Adan, canvas_gradient
from ..fitting.schedule import Plateau, rate_factor
from ..fitting.shapes import factor_gradient, to_factors
from ..fitting.targets import make_target
from ..gaussians import FloatArray, Gaussians2D
from .gaussian_image import SHAPE_LEVELS, STAGES, WORDS, Coded
from .quantizers import Codebooks, LearnedGrid

PUBLISHED_STEPS = 50_000
"""Of each of the two fits, in the paper."""
COUNTS, QUICK_COUNTS, COUNTED_ON = (800, 1000, 3000, 5000, 7000, 9000), (1000, 3000), 768 * 512
"""Gaussians of the paper's files, from 0.12 to 1.3 bits per pixel, and the pixels of its pictures."""
COMMITMENT = 0.25
"""What the mean squared distance of colours to their words counts."""
OUTERMOST = 0.9999
"""Centres stay within so much of the canvas, so that their inverse tanh is finite."""
WARM_UP = 3
"""Steps of fits that are not counted."""


@dataclass(frozen=True, eq=False)
class CodecFit:
    """What came of both fits.

    Attributes:
        coded: for a file.
        seconds: of both.
    """

    coded: Coded
    seconds: float


def fit_coded(pixels: FloatArray, count: int, steps: int, seed: int = 0, device: str = "auto") -> CodecFit:
    """Fit a number of Gaussians to a picture [3, H, W], and go on while they are rounded.

    Args:
        pixels: in [0, 1].
        count: Gaussians.
        steps: of each of the two fits.
        seed: of everything random.
        device: ``auto`` (a GPU where one can be used), ``cpu``, ``cuda`` or ``cuda:N``.
    """
    config = make_config(
        pixels.shape[1:], gaussians=count, profile="gaussian-image", shape="cholesky", steps=steps, seed=seed
    )
    refine(pixels, run(pixels, replace(config, steps=WARM_UP), device=device).gaussians, config, WARM_UP, device)
    began = time.perf_counter()
    coded = refine(pixels, run(pixels, config, device=device).gaussians, config, steps, device)
    return CodecFit(coded, time.perf_counter() - began)


def counts_for(pixels: int, *, quick: bool = False) -> tuple[int, ...]:
    """The numbers of Gaussians of the paper, as many for each pixel."""
    counts = QUICK_COUNTS if quick else COUNTS
    return tuple(sorted({max(1, round(count * pixels / COUNTED_ON)) for count in counts}))


def refine(pixels: FloatArray, start: Gaussians2D, config: FitConfig, steps: int, device: str = "auto") -> Coded:
    """Gaussians rounded as a file holds them, after steps that see the rounding; with none, rounded as they are.

    Args:
        pixels: [3, H, W] that they are to show.
        start: the Gaussians.
        config: of the fit that they come from.
        steps: how many.
        device: what renders.
    """
    target, rasterizer = make_target(pixels), devices.rasterizer(devices.resolve(device))
    background, extent = np.zeros(3, np.float32), np.array(target.size[::-1], np.float32)
    values = _Values.of(start, extent)
    grid = LearnedGrid.of(values.factors, SHAPE_LEVELS)
    books = Codebooks.of(values.colors, STAGES, WORDS, config.seed)
    values.factors[:] = np.clip(values.factors, grid.offsets, grid.offsets + grid.steps * (SHAPE_LEVELS - 1))
    optimizer, learner = Adan(len(start), 8, config), Adan(3, 2, config)
    kept, least = None, math.inf
    for step in range(steps + 1):
        coded = values.coded(target.size, grid, books)
        model = Gaussians(*coded.arrays())
        prepare(rasterizer, model, target.size, "sum", config.top_k)
        found = evaluate(rasterizer, background, target, config.loss, show=False)
        if kept is None or found.squared_error < least:
            kept, least = coded, found.squared_error
        local, colors = found.gradients.local, found.gradients.colors
        v_rounded = factor_gradient(model.scales, model.rotations, local, coded.factors().astype(np.float64))
        v_factors, v_grid = grid.gradients(values.factors, v_rounded.astype(np.float32))
        v_colors = colors + np.float32(2 * COMMITMENT / colors.size) * (values.colors - model.colors)
        v_centers = (canvas_gradient(model, local)[0] * extent / 2).astype(np.float32)
        rate = np.float32(config.rates.position * rate_factor(config, step + 1, Plateau()))
        books = books.followed(values.colors, coded.colors)
        grid = grid.moved(rate * learner.direction(v_grid))
        values.move(rate, optimizer, v_centers, v_factors, v_colors)
    assert kept is not None
    return kept


@dataclass(frozen=True, eq=False)
class _Values:
    """What the optimiser moves, beneath what is rounded.

    Attributes:
        latent: [N, 2], whose tanh is the centre, -1 to 1 across the canvas.
        factors: [N, 3] of the covariances.
        colors: [N, 3].
    """

    latent: FloatArray
    factors: FloatArray
    colors: FloatArray

    @classmethod
    def of(cls, gaussians: Gaussians2D, extent: FloatArray) -> _Values:
        """Those of Gaussians on a canvas of a width and height."""
        inside = np.clip(2 * gaussians.means / extent - 1, -OUTERMOST, OUTERMOST)
        factors = to_factors(gaussians.scales, gaussians.rotations).astype(np.float32)
        return cls(np.arctanh(inside), factors, gaussians.colors.copy())

    def coded(self, size: tuple[int, int], grid: LearnedGrid, books: Codebooks) -> Coded:
        """They, rounded."""
        centers, shapes = np.tanh(self.latent).astype(np.float16), grid.symbols(self.factors)
        return Coded(size, centers, grid.steps, grid.offsets, shapes, books.words, books.symbols(self.colors))

    def move(
        self, rate: np.float32, optimizer: Adan, v_centers: FloatArray, v_factors: FloatArray, v_colors: FloatArray
    ) -> None:
        """One step down the gradients in the centres, factors and colours."""
        v_latent = v_centers * (1 - np.tanh(self.latent) ** 2)
        gradient = np.concatenate([v_latent, v_factors, v_colors], axis=1, dtype=np.float32)
        update = rate * optimizer.direction(gradient)
        for values, columns in ((self.latent, slice(2)), (self.factors, slice(2, 5)), (self.colors, slice(5, 8))):
            values -= update[:, columns]
