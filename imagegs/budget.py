"""Targets of an encoding: bytes, quality or a number of Gaussians, and the search that meets them.

The number of Gaussians sets bytes and quality coarsely; the factor of the quantiser's steps moves both smoothly
afterwards, at little loss within a third of its usual value. Short pilot fits tell which number to begin with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from .compression import Coded, Fitted, Job, code, empty_size, fit, quality_of
from .errors import ConfigError
from .gaussians import Gaussians2D

Kind = Literal["gaussians", "bytes", "psnr", "ssim", "quality"]

DEFAULT_QUALITY = 75.0
PIXELS_PER_PILOT = 64
"""A pilot fit has one Gaussian for so many pixels, unless the target says otherwise."""
PER_DOUBLING = 2.7
"""Decibels that twice the Gaussians are worth, before there are two fits to tell."""
PER_OCTAVE = -1.3
"""Decibels that twice the quantiser's steps cost, likewise."""
LEAST_SHARE, AIM_SHARE = 0.97, 0.993
"""A target in bytes is met from this share on; what the search aims at."""
WIDEST, AIM = 0.1, 0.03
"""A target in decibels is met up to so much above it; what the search aims at."""
FACTORS = (0.5, 2.5)
"""Factors that a search may end at, relative to the usual one."""
NEAR = (-0.35, 0.45)
"""How far from a target, dB, a fit may be for the factor to do the rest."""
QUALITY_75, PER_QUALITY = 100.0, 6.0
"""Squared error, in 255ths, that a bit must save at quality 75; it doubles every so many steps down."""


@dataclass(frozen=True)
class Goal:
    """What an encoding is to come to.

    Attributes:
        kind: of the value.
        value: Gaussians, bytes of the whole file, dB, SSIM, or a quality from 0 to 100.

    Raises:
        ConfigError: the value is out of range.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        low, high = {
            "gaussians": (1, 2**31),
            "bytes": (1, 2**48),
            "psnr": (1, 100),
            "ssim": (0.001, 0.99999),
            "quality": (0, 100),
        }[self.kind]
        if not low <= self.value <= high:
            raise ConfigError(f"{self.kind}: expected {low:,} to {high:,}, found {self.value:,}")


def make_goal(size: tuple[int, int], *, bpp: float | None = None, **targets: float | None) -> Goal:
    """The one target that is given; by default a quality.

    Args:
        size: height and width of the picture, pixels.
        bpp: bits of the whole file per pixel.
        **targets: ``Kind`` to value; None is not given.

    Raises:
        ConfigError: more than one is given, or a value is out of range.
    """
    given = {kind: value for kind, value in targets.items() if value is not None}
    names = [*given, *(["bpp"] if bpp is not None else [])]
    if len(names) > 1:
        raise ConfigError(f"target: expected one of bpp, {', '.join(targets)}, found {' and '.join(names)}")
    if bpp is not None:
        if not 0 < bpp < math.inf:
            raise ConfigError(f"bpp: expected a finite number above 0, found {bpp}")
        return Goal("bytes", max(1, math.floor(bpp * size[0] * size[1] / 8)))
    for kind, value in given.items():
        return Goal(kind, value)  # type: ignore[arg-type]
    return Goal("quality", DEFAULT_QUALITY)


@dataclass(frozen=True, eq=False)
class Reached:
    """The result of a search.

    Attributes:
        fitted: the fit.
        coded: the file.
        notes: one line if the target was not met, saying why.
    """

    fitted: Fitted
    coded: Coded
    notes: tuple[str, ...] = ()


def reach_goal(job: Job, goal: Goal) -> Reached:
    """Fit and code a picture so that a target is met.

    Raises:
        ConfigError: it cannot be met, for a reason that the text gives.
    """
    if goal.kind == "gaussians":
        fitted = fit(job, int(goal.value), job.effort.steps)
        return Reached(fitted, code(job, fitted.gaussians, job.factor, refit_steps=job.effort.refit))
    if goal.kind == "bytes":
        return _reach_bytes(job, int(goal.value))
    if goal.kind == "quality":
        return _reach_quality(job, goal.value)
    return _reach_decibels(job, goal)


def _pixels(job: Job) -> int:
    return job.picture.height * job.picture.width


def _scalars(job: Job) -> int:
    """Numbers that make a Gaussian."""
    return 5 + len(job.picture.pixels)


def _pilot(job: Job, count: int) -> Coded:
    """A short fit, coded."""
    steps = max(60, min(250, job.effort.steps // 3))
    short = replace(job, checkpoint=None, resume=None)
    return code(job, fit(short, count, steps).gaussians, job.factor, solve=True)


def _keeper(job: Job, payload: float, empty: int) -> Callable[[Gaussians2D], int]:
    """How many Gaussians such as these fill a payload of so many bytes."""

    def keep(gaussians: Gaussians2D) -> int:
        each = (len(code(job, gaussians, job.factor, solve=False).data) - empty) / max(1, len(gaussians))
        return max(1, int(payload / each))

    return keep


def _reach_bytes(job: Job, wanted: int) -> Reached:
    empty = empty_size(job)
    payload = wanted - empty
    if payload < 8:
        raise ConfigError(f"bytes: expected at least {empty + 8:,} for this picture and its metadata, found {wanted:,}")
    each = (13 + 5 * _scalars(job) / 2) / 8  # bytes of a Gaussian, more or less; the fit itself tells better
    count = max(1, min(int(payload / each), _pixels(job)))
    fitted = fit(job, count, job.effort.steps, _keeper(job, payload, empty))
    coded, best = None, None
    factor = job.factor
    for attempt in range(12):
        final = attempt >= 3
        coded = code(job, fitted.gaussians, factor, refit_steps=job.effort.refit if final else 0, solve=final)
        size = len(coded.data)
        if final and size <= wanted and (best is None or size > len(best.data)):
            best = coded
        if best is not None and len(best.data) >= LEAST_SHARE * wanted and final:
            break
        aim = AIM_SHARE if attempt < 6 else (AIM_SHARE + LEAST_SHARE) / 2
        moved = _factor_for(job, len(fitted.gaussians), size, wanted * aim, factor)
        if final and moved == factor:
            break
        factor = moved
    if best is None:
        raise ConfigError(f"bytes: expected more than {wanted:,}: the smallest file of this fit has {size:,}")
    return Reached(fitted, best, _short(best, wanted))


def _short(coded: Coded, wanted: int) -> tuple[str, ...]:
    size = len(coded.data)
    if size >= LEAST_SHARE * wanted:
        return ()
    return (f"bytes: {wanted:,} allowed, {size:,} used: finer steps and more Gaussians would gain nothing",)


def _factor_for(job: Job, count: int, size: int, wanted: float, factor: float) -> float:
    """Where a factor leads to a wanted size, going by one bit for each number of each Gaussian and octave."""
    octaves = 8 * (size - wanted) / (0.9 * _scalars(job) * max(1, count))
    return _within(job, factor * 2 ** min(max(octaves, -1.0), 1.0))


def _within(job: Job, factor: float) -> float:
    return min(max(factor, job.factor * FACTORS[0]), job.factor * FACTORS[1])


def _reach_quality(job: Job, quality: float) -> Reached:
    """As many Gaussians as save more squared error than their bits are worth at this quality."""
    worth = QUALITY_75 * 2 ** ((75 - quality) / PER_QUALITY)
    count = max(1, min(_pixels(job), _pixels(job) // PIXELS_PER_PILOT))
    exponent = PER_DOUBLING / (10 * math.log10(2))
    before: tuple[float, float] | None = None
    for _ in range(3):
        coded = _pilot(job, count)
        bits = 8.0 * len(coded.data)
        error = max(1e-6, quality_of(job, coded, "squared_error") * 255**2)
        if before is not None and abs(math.log(bits / before[0])) > 0.2:
            exponent = min(max(-math.log(error / before[1]) / math.log(bits / before[0]), 0.4), 2.0)
        # with error = c bits^-a, the slope a c bits^(-a-1) is what a bit is worth
        best = bits * (exponent * error / (worth * bits)) ** (1 / (exponent + 1))
        wanted = int(min(max(1.0, count * best / bits), _pixels(job)))
        near = abs(math.log2(wanted / count)) < 1
        before, count = (bits, error), wanted
        if near:
            break
    return reach_goal(job, Goal("gaussians", count))


def _reach_decibels(job: Job, goal: Goal) -> Reached:
    wanted = goal.value if goal.kind == "psnr" else _ssim_decibels(goal.value)

    def score(coded: Coded) -> float:
        if goal.kind == "psnr":
            return quality_of(job, coded, "psnr")
        return _ssim_decibels(quality_of(job, coded, "ssim"))

    most = _pixels(job)
    count = max(1, most // PIXELS_PER_PILOT)
    points: list[tuple[float, float]] = []
    for _ in range(4):
        points.append((math.log2(count), score(_pilot(job, count))))
        count, near = _next_count(points, wanted - 0.2, most)
        if near:
            break
    points = []
    for attempt in range(4):
        once = job if attempt == 0 else replace(job, checkpoint=None, resume=None)
        fitted = fit(once, count, job.effort.steps)
        coded = code(job, fitted.gaussians, job.factor, refit_steps=job.effort.refit)
        found = score(coded)
        if NEAR[0] <= found - wanted <= NEAR[1]:
            best = _trim(job, fitted, coded, score, wanted)
            if best is not None:
                return Reached(fitted, best)
        points.append((math.log2(count), found))
        following, _ = _next_count(points, wanted + AIM, most)
        if following == count:
            break
        count = following
    if found >= wanted:
        return Reached(fitted, coded, (f"{goal.kind}: {_said(goal, found)} is as near to {goal.value:g} as it comes",))
    raise ConfigError(
        f"{goal.kind}: expected at most {_said(goal, found)} for this picture at this effort, found {goal.value:g}"
    )


def _said(goal: Goal, decibels: float) -> str:
    return f"{decibels:.2f}" if goal.kind == "psnr" else f"{1 - 10 ** (-decibels / 10):.4f}"


def _ssim_decibels(ssim: float) -> float:
    return -10 * math.log10(max(1e-6, 1 - ssim))


def _next_count(points: list[tuple[float, float]], wanted: float, most: int) -> tuple[int, bool]:
    """Number of Gaussians for a quality, from those at some log2 numbers, and whether it is near the last."""
    slope = PER_DOUBLING
    if len(points) > 1 and abs(points[-1][0] - points[-2][0]) > 0.1:
        slope = min(max((points[-1][1] - points[-2][1]) / (points[-1][0] - points[-2][0]), 1.0), 6.0)
    octaves = (wanted - points[-1][1]) / slope
    count = round(2 ** (points[-1][0] + min(max(octaves, -3.0), 2.5)))
    return min(max(1, count), most), abs(octaves) < 0.6


def _trim(job: Job, fitted: Fitted, coded: Coded, score: Callable[[Coded], float], wanted: float) -> Coded | None:
    """The fit coded with the steps that meet a quality exactly, or None."""
    points = [(math.log2(coded.factor), score(coded))]
    best = coded if wanted <= points[0][1] <= wanted + WIDEST else None
    for _ in range(7):
        if best is not None:
            return best
        slope = PER_OCTAVE
        if len(points) > 1 and abs(points[-1][0] - points[-2][0]) > 1e-3:
            slope = min(max((points[-1][1] - points[-2][1]) / (points[-1][0] - points[-2][0]), -4.0), -0.5)
        octaves = points[-1][0] + (wanted + AIM - points[-1][1]) / slope
        factor = _within(job, 2**octaves)
        if abs(math.log2(factor) - points[-1][0]) < 1e-4:
            return None
        coded = code(job, fitted.gaussians, factor, refit_steps=job.effort.refit)
        points.append((math.log2(factor), score(coded)))
        if wanted <= points[-1][1] <= wanted + WIDEST:
            best = coded
    return best
