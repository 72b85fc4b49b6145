"""A picture to the bytes of a file: fit under quantisation noise, round in stages, code.

```
 picture ─ fit under noise, prune ─ round shapes ─ refit ─ place ─ solve colours ─ round ─ range coder ─ bytes
                                        └────────────── again with other steps until the target is met
```

`Fitted` is what a fit leaves; `code` turns it into a file for any factor of the quantiser's steps, which moves bytes
and quality smoothly. What number of Gaussians to fit, and which factor to take, is up to `targets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import devices
from .codec.blocks import Blocks
from .codec.format import round_background
from .codec.lattice import (
    DoubleArray,
    IntArray,
    Lattice,
    LatticeSymbols,
    Steps,
    dequantize_lattice,
    in_steps,
    quantize_shape,
    shape_values,
)
from .codec.lattice_file import Group, arrange, place_groups, usual_ends, write_lattice
from .decoding import decode
from .fitting.config import FitConfig, additions
from .fitting.fit import run
from .fitting.initialization import Gaussians
from .fitting.levels import level_ends, prefix_weights
from .fitting.loop import FitResult, Progress
from .fitting.losses import evaluate, prepare, solve_colors, to_psnr
from .fitting.refit import refit
from .fitting.targets import Target, make_target
from .gaussians import FloatArray, Gaussians2D
from .guidance import Guidance, sample
from .image import Picture, PictureInfo
from .metrics import ssim

FACTOR = 0.75
"""Of the quantiser's steps, unless a target asks for another: best of 0.33 to 1.2, on pictures that no table shows."""
SMALL_PIXELS = 4096
UNDER_NOISE = {
    "betas": (0.7, 0.9),
    "noise_from": 0.2,
    "relocate": 0.12,
    "rates": {"position": 0.12, "scale": 0.11},
    "overshoot": 0.15,
    "color_solve": 0,
}
"""Settings of a fit under noise: a shorter memory of gradients, more that moves; 0.13 dB over those of a plain fit."""
SOLVE_ITERATIONS = 5
BIT_WORTH = 0.1
"""Squared steps of a colour that a bit is worth: what slope a uniform quantiser has, 2 ln 2 / 12 = 0.1155, and less."""

BIT_WORTHS = 0.02, 1.0
"""Of bits where guidance says that they are worth more or less."""


@dataclass(frozen=True)
class Effort:
    """How much time to take.

    Attributes:
        steps: of the fit.
        refit: steps after the shapes are rounded.
    """

    steps: int
    refit: int


EFFORTS = {
    1: Effort(100, 0),
    2: Effort(180, 0),
    3: Effort(300, 30),
    4: Effort(500, 50),
    5: Effort(800, 80),
    6: Effort(1300, 120),
    7: Effort(2000, 200),
    8: Effort(3500, 300),
    9: Effort(6000, 500),
}
DEFAULT_EFFORT = 5


@dataclass(frozen=True, eq=False)
class Job:
    """What stays the same for all tries at one picture.

    Attributes:
        picture: to be coded.
        effort: steps.
        config: settings of the fit; the number of Gaussians and of steps are set by the search.
        levels: of detail.
        block_shift: see `Blocks`.
        steps: of the quantiser, relative to each other.
        bit_worth: squared steps of a colour that a bit is worth; with 0 colours take the nearest step.
        guidance: where the picture matters.
        on_step: see ``fit.run``.
        device: as ``devices.resolve`` names it.
        checkpoint: see ``fit.run``.
        resume: see ``fit.run``.
    """

    picture: Picture
    effort: Effort
    config: FitConfig
    levels: int = 1
    block_shift: int = 0
    steps: Steps = field(default_factory=Steps)
    bit_worth: float = BIT_WORTH
    guidance: Guidance = field(default_factory=Guidance)
    on_step: Callable[[Progress], None] | None = None
    device: str = "cpu"
    checkpoint: Path | None = None
    resume: Path | None = None

    @property
    def target(self) -> Target:
        """What the fit works towards."""
        return make_target(self.picture.pixels, self.guidance)

    def level_ends(self, count: int) -> list[int] | None:
        """Where the levels of ``count`` Gaussians end that were fitted in levels; None if they were not."""
        return level_ends(self.config.level_shares, count) if self.config.level_shares else None

    @property
    def factor(self) -> float:
        """Usual factor of the steps; finer for tiny pictures, whose files are mostly heads."""
        pixels = self.picture.height * self.picture.width
        return FACTOR * min(1.0, math.sqrt(pixels / SMALL_PIXELS))

    def lattice(self, factor: float | None = None) -> Lattice:
        """The lattice with ``factor`` times the steps; by default the usual ones."""
        factor = self.factor if factor is None else factor
        return Lattice.of(factor, len(self.picture.pixels), luma_triples(self.picture.info), self.steps)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit leaves, not yet rounded."""

    gaussians: Gaussians2D
    result: FitResult


@dataclass(frozen=True, eq=False)
class Coded:
    """A file.

    Attributes:
        data: its bytes.
        gaussians: what they decode to.
        bits: of the payloads, by attribute.
        factor: of the quantiser's steps.
    """

    data: bytes
    gaussians: Gaussians2D
    bits: dict[str, float]
    factor: float


def luma_triples(info: PictureInfo) -> tuple[int, ...]:
    """First channels of the colours of an info's planes."""
    starts = (
        where.start for plane, where in zip(info.planes, info.slices, strict=True) if plane.mode in ("RGB", "RGBA")
    )
    return tuple(starts)


def fit(job: Job, count: int, steps: int, keep: Callable[[Gaussians2D], int] | None = None) -> Fitted:
    """Fit ``count`` Gaussians under the noise of the usual lattice.

    Args:
        job: the picture and the settings.
        count: how many are left in the end.
        steps: of the fit.
        keep: see ``fit.run``.
    """
    usual = job.config.add_at == additions(job.config)
    config = replace(job.config, gaussians=count, steps=steps, add_at=())
    config = replace(config, add_at=additions(config) if usual else job.config.add_at)
    if config.lattice is None:
        config = replace(config, lattice=job.lattice())
    result = run(
        job.picture.pixels,
        config,
        guidance=job.guidance,
        on_step=job.on_step,
        checkpoint=job.checkpoint,
        resume=job.resume,
        device=job.device,
        keep=keep,
    )
    return Fitted(result.gaussians, result)


def code(job: Job, gaussians: Gaussians2D, factor: float, *, refit_steps: int = 0, solve: bool = True) -> Coded:
    """Round Gaussians in stages and code them.

    Args:
        job: the picture and the settings.
        gaussians: a fit.
        factor: of the quantiser's steps.
        refit_steps: steps in which means and colours adapt to the rounded shapes.
        solve: whether colours are solved for the rounded geometry.
    """
    lattice, target = job.lattice(factor), job.target
    height, width = target.size
    background = round_background(gaussians.background)
    shape = quantize_shape(gaussians.scales, gaussians.rotations, lattice)
    model = _with_shape(gaussians, shape, lattice)
    if refit_steps:
        model = refit(model, lattice, target, background, job.config, refit_steps, device=job.device)
    blocks = Blocks(width, height, job.block_shift)
    ends = job.level_ends(len(model))
    worth = _areas(job, lattice, shape, model) if ends is None else -np.arange(len(model))
    groups = arrange(worth, model.means, ends or usual_ends(len(model), job.levels), blocks)
    symbols = place_groups(shape, model.means, lattice, groups, blocks)
    if solve and len(symbols):
        model.means = np.ascontiguousarray(symbols[:, 3:5] / 1024, dtype=np.float32)
        colors = _solved(job, model, background, target, ends)
        if np.isfinite(colors).all():
            model.colors = colors
    wanted = in_steps(model.colors, shape[:, 0], lattice)
    both = LatticeSymbols(symbols, np.rint(wanted).astype(np.int32))
    canvas = {"height": height, "width": width, "background": background}
    written = write_lattice(
        both,
        lattice,
        groups,
        **canvas,  # type: ignore[arg-type]
        blend=job.config.blend,
        top_k=job.config.top_k,
        block_shift=job.block_shift,
        info=job.picture.info,
        wanted=wanted,
        bit_worth=_bit_worth(job, model),
    )
    decoded = dequantize_lattice(
        written.symbols,
        lattice,
        **canvas,  # type: ignore[arg-type]
        blend=job.config.blend,
        top_k=job.config.top_k,
    )
    return Coded(written.data, decoded, written.bits, factor)


def _solved(job: Job, model: Gaussians, background: FloatArray, target: Target, ends: list[int] | None) -> FloatArray:
    """Colours [N, C] for the rounded geometry; good for every prefix where there are levels."""
    rasterizer, config = devices.rasterizer(job.device), job.config
    prefixes: list[tuple[int, float]] = []
    if ends is not None:
        found = []
        for end in ends:
            prepare(rasterizer, model.take(np.arange(end)), target.size, config.blend, config.top_k)
            found.append(evaluate(rasterizer, background, target, config.loss, show=False).squared_error)
        weights = prefix_weights(found, config.level_decay)
        prefixes = [(end, weight / weights[-1]) for end, weight in zip(ends, weights, strict=True)]
    return solve_colors(rasterizer, model, background, target, config.blend, config.top_k, SOLVE_ITERATIONS, prefixes)


def _areas(job: Job, lattice: Lattice, shape: IntArray, model: Gaussians) -> DoubleArray:
    """By what Gaussians [N] are sorted into levels: their area, by the guidance of the order."""
    areas: DoubleArray = lattice.roots(shape[:, 0]) ** 4
    order = job.guidance.order
    return areas if order is None else areas * sample(order, model.means)


def _bit_worth(job: Job, model: Gaussians) -> float | DoubleArray:
    """Squared steps that a bit is worth in the colours of a Gaussian; fewer where the guidance is high."""
    if job.guidance.rounding is None:
        return job.bit_worth
    least, most = BIT_WORTHS
    return np.clip(job.bit_worth / np.maximum(sample(job.guidance.rounding, model.means), 1e-6), least, most)


def empty_size(job: Job) -> int:
    """Bytes of a file of the picture without any Gaussian."""
    channels, height, width = job.picture.pixels.shape
    lattice = job.lattice()
    none = LatticeSymbols.concatenate([], channels)
    levels = len(job.config.level_shares) + 1 if job.config.level_shares else job.levels
    groups = [Group(level, 0, np.zeros(0, np.int64)) for level in range(levels)]
    background = np.zeros(channels, np.float32)
    canvas = {"height": height, "width": width, "background": background}
    return len(write_lattice(none, lattice, groups, **canvas, info=job.picture.info).data)


def quality_of(job: Job, coded: Coded, measure: Literal["psnr", "ssim", "squared_error"]) -> float:
    """How near the file comes to the picture, as a decoder writes it: rounded to the picture's bits.

    Args:
        job: has the picture.
        coded: the file.
        measure: PSNR in dB, SSIM, or the sum of squared errors.
    """
    found = shown(decode(coded.data))
    if measure == "ssim":
        return ssim(found, job.picture.pixels)
    error = np.square(found - job.picture.pixels, dtype=np.float64)
    return float(error.sum()) if measure == "squared_error" else to_psnr(float(error.mean()))


def shown(picture: Picture) -> FloatArray:
    """The channels [C, H, W] as a file of the picture's kind holds them."""
    pixels = picture.pixels.copy()
    for plane, where in zip(picture.info.planes, picture.info.slices, strict=True):
        if plane.bits < 32:
            most = np.float32((1 << plane.bits) - 1)
            pixels[where] = np.rint(np.clip(pixels[where], 0, 1) * most) / most
    return pixels


def _with_shape(gaussians: Gaussians2D, shape: Any, lattice: Lattice) -> Gaussians:
    scales, rotations = shape_values(shape, lattice)
    return Gaussians(
        gaussians.means.copy(),
        np.ascontiguousarray(scales, dtype=np.float32),
        np.ascontiguousarray(rotations, dtype=np.float32),
        gaussians.colors.copy(),
    )
