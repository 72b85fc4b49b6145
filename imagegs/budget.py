"""The search that meets the target of an encoding: bytes, quality or a number of Gaussians.

```
 target ─ pilots ─ number of Gaussians ─ fit ─┬─ 70 % of the steps: how many of them stay ─┬─ factor of the steps ─ file
 (short fits; none for bytes)                 └──────── far off: again with another number ─┘  (cheap codes, then one
                                                                                              or two with a refit)
```

The number of Gaussians sets bytes and quality coarsely; the factor of the quantiser's steps moves both smoothly
afterwards. Where a target is in bytes, Gaussians that overshot are dropped in the course of the fit, when a first code
tells their size; where it is a quality, when a first code tells how far the fit has come and a pilot how far it still
goes from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .compression import Coded, Fitted, Job, code, empty_size, fit, shown
from .errors import ConfigError
from .fitting.checkpoints import OtherFit
from .fitting.losses import to_psnr
from .gaussians import FloatArray, Gaussians2D
from .goals import Goal
from .image import Picture
from .metrics import SSIM_WINDOW, ssim
from .rendering import render

PIXELS_PER_PILOT = 64
"""The first pilot has one Gaussian for so many pixels."""
PER_SPACING, FACTOR_RANGE = 0.047, (0.04, 1.0)
"""Best factor of the steps for each pixel between neighbouring Gaussians (the root of pixels for each Gaussian):
0.75 at 0.12, 0.55 at 0.25, 0.4 at 0.5, 0.28 at 1 and 0.2 at 2 bits per pixel; on pictures that no table shows."""
BITS_PER_NUMBER = 4.4
"""Of a Gaussian's 5 + C numbers, with those factors: nearly the same at every rate."""
PER_DOUBLING = 2.4
"""Decibels that twice the Gaussians are worth, before there are two fits to tell."""
SLOPES = (1.0, 12.0)
"""Within these it is believed what two fits tell."""
PER_OCTAVE = -0.6
"""Decibels that twice the quantiser's steps cost, before there are two codes to tell."""
PILOT_LAG, REFIT_GAIN = 0.6, 0.15
"""Decibels by which a pilot is behind the fit; by which a fit gains more in its last third than a pilot."""
LEAST_SHARE, NEAR_SHARE, AIM_SHARE = 0.97, 0.99, 0.995
"""A target in bytes is met from this share on; the search tries for the second, and aims at the third."""
WIDEST, AIM = 0.1, 0.03
"""A target in decibels is met up to so much above it; what the search aims at."""
FACTORS = (0.12, 4.0)
"""Factors that a search may end at, relative to the best."""
SPARE = 0.15
"""Decibels that a fit aims at beyond its target: coarser steps give bytes back, finer ones pay too many for quality."""
NEAR = (-0.08, 1.0)
"""How far from a target, dB, a fit may be for the factor to do the rest."""
MORE = 1.4
"""How many times the Gaussians of a fit must be wanted for another fit to begin."""
FEW_NEAR = (-0.8, 2.0)
"""Likewise, where there are few Gaussians."""
FEW, SCAN = 100, 40
"""So many are few: all of so many factors are tried before another fit is."""
TRIES = 4
SMALL_PIXELS, SMALL_TRIES = 16384, 10
"""Small pictures, whose fits take no time and whose Gaussians are few enough to count, are tried more often."""
QUALITY_75, PER_QUALITY = 100.0, 6.0
"""Squared error, in 255ths, that a bit must save at quality 75; it doubles every so many steps down."""


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
        return _fit_count(_Fits(job, strict=True), int(goal.value))
    if goal.kind == "ssim" and min(job.picture.height, job.picture.width) < SSIM_WINDOW:
        size = f"{job.picture.width} x {job.picture.height}"
        raise ConfigError(f"ssim: expected a picture with sides of at least {SSIM_WINDOW} pixels, found {size}")
    fits = _Fits(job)
    if goal.kind == "bytes":
        reached = _reach_bytes(fits, goal)
    else:
        reached = _reach_quality(fits, goal) if goal.kind == "quality" else _reach_decibels(fits, goal)
    return replace(reached, notes=(*fits.notes, *reached.notes))


def _pixels(job: Job) -> int:
    return job.picture.height * job.picture.width


def _numbers(job: Job) -> int:
    """How many make a Gaussian."""
    return 5 + len(job.picture.pixels)


def best_factor(job: Job, count: int) -> float:
    """Factor of the quantiser's steps for a number of Gaussians."""
    low, high = FACTOR_RANGE
    spacing = math.sqrt(_pixels(job) / count / job.guidance.concentration)
    return min(max(PER_SPACING * spacing, low), high)


class _Again(Exception):
    """A fit that is given up for one with another number of Gaussians."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


class _Fits:
    """The fits of one search; each is interrupted and resumed on its own.

    A checkpoint is of one of them. When the search is resumed, those before run again, which gives the same numbers,
    and the one that was interrupted goes on.
    """

    def __init__(self, job: Job, *, strict: bool = False) -> None:
        self.job = job
        self._strict = strict
        self._resumed = job.resume is None

    @property
    def notes(self) -> tuple[str, ...]:
        """One line if the checkpoint was of none of the fits."""
        if self._resumed:
            return ()
        return (f"resume: {self.job.resume} is of other settings; everything was fitted anew",)

    def run(self, count: int, factor: float, steps: int, keep: Callable[[Gaussians2D], int] | None = None) -> Fitted:
        """Fit under the noise of the lattice with ``factor`` times the steps."""
        job = self.job
        if job.config.lattice is None:
            job = replace(job, config=replace(job.config, lattice=job.lattice(factor)))
        try:
            if self._resumed:
                return fit(replace(job, resume=None), count, steps, keep)
            try:
                fitted = fit(job, count, steps, keep)
            except OtherFit:
                if self._strict:
                    raise
                return fit(replace(job, resume=None), count, steps, keep)
            self._resumed = True
            return fitted
        except _Again:
            if job.checkpoint is not None:
                job.checkpoint.unlink(missing_ok=True)  # of a fit that nobody wants any more
            raise


def _fit_count(fits: _Fits, count: int) -> Reached:
    job, factor = fits.job, best_factor(fits.job, count)
    fitted = fits.run(count, factor, job.effort.steps)
    return Reached(fitted, code(job, fitted.gaussians, factor, refit_steps=job.effort.refit))


# -- the factor of the steps


@dataclass(frozen=True)
class Window:
    """Values that meet a target, and the one to aim at."""

    low: float
    high: float
    aim: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def moved(self, by: float) -> Window:
        """The same values, higher by so much."""
        return Window(self.low + by, self.high + by, self.aim + by)


def find_factor(
    value_of: Callable[[float], float], factor: float, window: Window, slope: float, bounds: tuple[float, float]
) -> float:
    """A factor whose value, which falls as the factor grows, lies in a window; or the nearest that was tried.

    Secants, held within what is known to lie on either side, and halving where they do not lead inwards.
    """
    low, high = (math.log2(bound) for bound in bounds)
    over, under = -math.inf, math.inf  # largest with too much, smallest with too little
    points: list[tuple[float, float]] = []
    at = min(max(math.log2(factor), low), high)
    for _ in range(12):
        value = value_of(2**at)
        points.append((at, value))
        if value in window:
            return 2**at
        if value > window.high:
            over = max(over, at)
        else:
            under = min(under, at)
        if len(points) > 1 and points[-1][0] != points[-2][0]:
            found = (points[-1][1] - points[-2][1]) / (points[-1][0] - points[-2][0])
            slope = found if found < 0 else slope
        step = min(max((window.aim - value) / slope, -1.5), 1.5)
        following = min(max(at + step, low), high)
        if over < under and not over < following < under:
            following = (over + under) / 2 if math.isfinite(over) and math.isfinite(under) else following
        if any(abs(following - tried) < 1e-3 for tried, _ in points):
            break
        at = following
    return float(2 ** min(points, key=lambda point: abs(point[1] - window.aim))[0])


def _settle(
    job: Job, fitted: Fitted, value_of: Callable[[Coded], float], window: Window, first: Coded, slope: float
) -> list[Coded]:
    """Codes of a fit, from the first one on, the last one within the window if there is such a one.

    Cheap codes find the factor; what a refit changes is measured, and allowed for the next time.
    """
    best = factor = first.factor
    bounds = FACTORS[0] * factor, max(FACTORS[1] * factor, FACTOR_RANGE[1])
    cheap: dict[float, tuple[float, Coded]] = {}

    def cheap_value(at: float) -> float:
        if at not in cheap:
            coded = code(job, fitted.gaussians, at)
            cheap[at] = value_of(coded), coded
        return cheap[at][0]

    found = [first]
    for _ in range(TRIES):
        value = value_of(found[-1])
        if value in window:
            return found
        if job.effort.refit == 0:
            cheap[factor] = value, found[-1]
        gain = value - cheap_value(factor)
        following = find_factor(cheap_value, factor, window.moved(-gain), slope, bounds)
        if following in [tried.factor for tried in found]:
            break
        factor = following
        found.append(code(job, fitted.gaussians, factor, refit_steps=job.effort.refit))
    if value_of(found[-1]) in window:
        return found
    if len(fitted.gaussians) <= FEW:  # whose every rounding shows: the curve jumps, and any place of it may do
        for at in np.geomspace(best / 2, 3 * best, SCAN):
            cheap_value(float(at))
    meeting = [coded for value, coded in cheap.values() if value in window]
    return found + sorted(meeting, key=lambda coded: -len(coded.data))[-1:]


# -- bytes


def _reach_bytes(fits: _Fits, goal: Goal) -> Reached:
    job, wanted = fits.job, int(goal.value)
    empty, most = empty_size(job), _pixels(job)
    payload = wanted - empty
    if payload < 8:
        least = f"at least {empty + 8:,} bytes for this picture and its metadata"
        raise ConfigError(f"{goal.name}: expected {least}, found {goal.text}")
    window = Window(NEAR_SHARE * wanted, wanted, AIM_SHARE * wanted)
    count = min(max(1, int(payload / (BITS_PER_NUMBER * _numbers(job) / 8))), most)
    again = True
    best: Coded | None = None
    for _ in range(TRIES):
        factor = best_factor(job, count)
        try:
            fitted = fits.run(count, factor, job.effort.steps, _keeper(job, payload, empty, factor, again))
        except _Again as other:
            count, again = other.count, False
            continue
        factor = best_factor(job, len(fitted.gaussians))
        slope = -_numbers(job) * len(fitted.gaussians) / 8
        first = code(job, fitted.gaussians, factor, refit_steps=job.effort.refit)
        codes = _settle(job, fitted, lambda coded: len(coded.data), window, first, slope)
        under = [coded for coded in codes if len(coded.data) <= wanted]
        if under:
            best = max(under, key=lambda coded: len(coded.data))
            break
        if count == 1:
            break
        count, again = max(1, count // 2), False
    if best is None:
        smallest = min(len(coded.data) for coded in codes)
        raise ConfigError(f"{goal.name}: expected at least {smallest:,} bytes for this picture, found {goal.text}")
    used = len(best.data)
    if used >= LEAST_SHARE * wanted:
        return Reached(fitted, best)
    why = "more would change nothing" if len(fitted.gaussians) >= most else "no steps of the quantiser come nearer"
    return Reached(fitted, best, (f"{goal.name}: {wanted:,} bytes allowed, {used:,} used; {why}",))


def _keeper(job: Job, payload: int, empty: int, factor: float, again: bool) -> Callable[[Gaussians2D], int]:
    """How many Gaussians such as these fill a payload."""

    def keep(gaussians: Gaussians2D) -> int:
        each = (len(code(job, gaussians, factor, solve=False).data) - empty) / max(1, len(gaussians))
        count = min(max(1, int(payload / each)), _pixels(job))
        if again and count > MORE * len(gaussians):
            raise _Again(count)
        return count

    return keep


# -- quality


def _measure(job: Job, gaussians: Gaussians2D, kind: Literal["psnr", "ssim", "squared_error"]) -> float:
    """How near Gaussians come to the picture, as a decoder writes it: PSNR in dB; 1 - SSIM in dB; a sum.

    The sum is weighted as the fit's loss is.
    """
    found: FloatArray = shown(Picture(render(gaussians), job.picture.info))
    if kind == "ssim":
        return _ssim_decibels(ssim(found, job.picture.pixels))
    error = np.square(found - job.picture.pixels, dtype=np.float64)
    if kind == "squared_error":
        weights = job.guidance.loss
        return float(error.sum() if weights is None else (error * weights).sum())
    return min(to_psnr(float(error.mean())), 200.0)


def _ssim_decibels(value: float) -> float:
    return -10 * math.log10(max(1e-8, 1 - value))


def _pilot_steps(job: Job) -> int:
    return max(min(60, job.effort.steps), min(200, job.effort.steps // 4))


def _reach_quality(fits: _Fits, goal: Goal) -> Reached:
    """As many Gaussians as save more squared error than their bits are worth at this quality."""
    job = fits.job
    worth = QUALITY_75 * 2 ** ((75 - goal.value) / PER_QUALITY)
    count = max(1, _pixels(job) // PIXELS_PER_PILOT)
    exponent = PER_DOUBLING / (10 * math.log10(2))
    before: tuple[float, float] | None = None
    for _ in range(3):
        factor = best_factor(job, count)
        coded = code(job, fits.run(count, factor, _pilot_steps(job)).gaussians, factor)
        bits = 8.0 * len(coded.data)
        error = max(1e-6, _measure(job, coded.gaussians, "squared_error") * 255**2)
        if before is not None and abs(math.log(bits / before[0])) > 0.2:
            exponent = min(max(-math.log(error / before[1]) / math.log(bits / before[0]), 0.4), 2.0)
        # with error = c bits^-a, the slope a c bits^(-a-1) is what a bit is worth
        best = bits * (exponent * error / (worth * bits)) ** (1 / (exponent + 1))
        wanted = int(min(max(1.0, count * best / bits), _pixels(job)))
        near = abs(math.log2(wanted / count)) < 1
        before, count = (bits, error), wanted
        if near:
            break
    return _fit_count(fits, count)


class _Counts:
    """What numbers of Gaussians came to, and which to try next."""

    def __init__(self, wanted: float, most: int) -> None:
        self.wanted, self.most = wanted, most
        self.points: list[tuple[int, float]] = []
        self.slope = PER_DOUBLING

    def add(self, count: int, found: float) -> None:
        """One more point; two that lie apart tell the slope."""
        for other, value in reversed(self.points):
            if abs(math.log2(count / other)) > 0.1:
                slope = (found - value) / math.log2(count / other)
                self.slope = min(max(slope, SLOPES[0]), SLOPES[1])
                break
        self.points.append((count, found))

    def following(self, aim: float) -> int | None:
        """The next number to try; None where all that may help was tried."""
        over = min((point for point in self.points if point[1] >= self.wanted), default=None)
        under = max((point for point in self.points if point[1] < self.wanted), default=None)
        count, found = self.points[-1]
        octaves = (aim - found) / self.slope
        if over is not None and under is not None:
            if over[0] - under[0] < 2:  # also where more was worse, as it may be after few steps
                return None
            (most, above), (least, below) = over, under
            # between what they tell and the middle, so that neither side stays for good
            share = (0.5 + min(max((aim - below) / (above - below), 0), 1)) / 2
            if len(self.points) > 2:
                octaves = math.log2(least / count) + share * math.log2(most / least)
            return min(max(round(count * 2**octaves), least + 1), most - 1)
        wanted = min(max(round(count * 2 ** min(max(octaves, -3.0), 2.5)), 1), self.most)
        if over is not None:
            return min(wanted, over[0] - 1) or None
        assert under is not None
        return max(wanted, under[0] + 1) if under[0] < self.most else None


def _reach_decibels(fits: _Fits, goal: Goal) -> Reached:
    search = _Decibels(fits, goal)
    count, rest, slope = search.start()
    counts = _Counts(search.wanted, _pixels(fits.job))
    counts.slope = slope
    tries = TRIES if _pixels(fits.job) > SMALL_PIXELS else SMALL_TRIES
    for attempt in range(tries):
        keep = search.chooser(count, rest, slope) if attempt == 0 else None
        try:
            fitted, first = search.fit(count, keep)
        except _Again as other:
            count = other.count
            continue
        kept, value = len(fitted.gaussians), search.value_of(first)
        counts.add(kept, value)
        low, high = NEAR if kept > FEW else FEW_NEAR
        if low <= value - search.wanted <= high and (reached := search.settle(fitted, first)):
            return reached
        following = counts.following(search.wanted + SPARE)
        if following is None:
            break
        count = following
    return search.nearest()


class _Decibels:
    """A search for a quality: what its parts share."""

    def __init__(self, fits: _Fits, goal: Goal) -> None:
        self.fits, self.job, self.goal = fits, fits.job, goal
        self.kind: Literal["psnr", "ssim"] = "psnr" if goal.kind == "psnr" else "ssim"
        self.wanted = goal.value if self.kind == "psnr" else _ssim_decibels(goal.value)
        self.window = Window(self.wanted, self.wanted + WIDEST, self.wanted + AIM)
        self._left: list[tuple[float, Fitted, Coded]] = []  # first codes of fits that were not settled
        self._settled: list[tuple[float, Fitted, Coded]] = []

    def value_of(self, coded: Coded) -> float:
        """The quality, in decibels."""
        return _measure(self.job, coded.gaussians, self.kind)

    def start(self) -> tuple[int, float, float]:
        """By pilots: a number of Gaussians, what a fit gains in its last third, and what twice as many are worth."""
        most = _pixels(self.job)
        count, counts = max(1, most // PIXELS_PER_PILOT), _Counts(self.wanted, most)
        for _ in range(TRIES):
            began, found = self._pilot(count)
            counts.add(count, found)
            octaves = (self.wanted - PILOT_LAG - found) / counts.slope
            count = min(max(round(count * 2 ** min(max(octaves, -3.0), 2.5)), 1), most)
            if abs(octaves) < 0.8:
                break
        return count, found - began + REFIT_GAIN, counts.slope

    def _pilot(self, count: int) -> tuple[float, float]:
        """The quality of a short fit when those that overshot go, and at its end."""
        factor = best_factor(self.job, count)
        early: list[float] = []

        def look(gaussians: Gaussians2D) -> int:
            early.append(self.value_of(code(self.job, gaussians, factor)))
            return count

        fitted = self.fits.run(count, factor, _pilot_steps(self.job), look)
        found = self.value_of(code(self.job, fitted.gaussians, factor))
        return (early[0] if early else found), found

    def chooser(self, count: int, rest: float, slope: float) -> Callable[[Gaussians2D], int]:
        """How many Gaussians to keep, from the quality before those that overshot go and what is still to come."""
        factor = best_factor(self.job, count)

        def keep(gaussians: Gaussians2D) -> int:
            found = self.value_of(code(self.job, gaussians, factor))
            octaves = (self.wanted + SPARE - rest - found) / slope
            wanted = max(1, round(count * 2 ** min(max(octaves, -3.0), 2.5)))
            if wanted > MORE * len(gaussians) and len(gaussians) < _pixels(self.job):
                raise _Again(min(wanted, _pixels(self.job)))
            return wanted

        return keep

    def fit(self, count: int, keep: Callable[[Gaussians2D], int] | None) -> tuple[Fitted, Coded]:
        """A whole fit, and its code with the best steps."""
        fitted = self.fits.run(count, best_factor(self.job, count), self.job.effort.steps, keep)
        factor = best_factor(self.job, len(fitted.gaussians))
        first = code(self.job, fitted.gaussians, factor, refit_steps=self.job.effort.refit)
        self._left.append((self.value_of(first), fitted, first))
        return fitted, first

    def settle(self, fitted: Fitted, first: Coded) -> Reached | None:
        """The fit with steps that meet the target, if there are such."""
        self._left = [left for left in self._left if left[2] is not first]
        codes = _settle(self.job, fitted, self.value_of, self.window, first, PER_OCTAVE)
        self._settled += [(self.value_of(coded), fitted, coded) for coded in codes]
        return Reached(fitted, codes[-1]) if self._settled[-1][0] in self.window else None

    def nearest(self) -> Reached:
        """The smallest file above the target, after fits that were farther off are settled, the nearest first.

        Raises:
            ConfigError: nothing reached it.
        """
        for _, fitted, first in sorted(self._left, key=lambda left: abs(left[0] - self.wanted)):
            reached = self.settle(fitted, first)
            if reached is not None:
                return reached
        above = [found for found in self._settled if found[0] >= self.wanted]
        asked = f"{self.goal.value:g}"
        if not above:
            most = _said(self.kind, max(value for value, _, _ in self._settled))
            raise ConfigError(f"{self.kind}: expected at most {most} for this picture at this effort, found {asked}")
        value, fitted, coded = min(above, key=lambda found: len(found[2].data))
        return Reached(fitted, coded, (f"{self.kind}: {_said(self.kind, value)} is as near above {asked} as it comes",))


def _said(kind: str, decibels: float) -> str:
    return f"{decibels:.2f}" if kind == "psnr" else f"{1 - 10 ** (-decibels / 10):.4f}"
