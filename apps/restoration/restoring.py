"""Degraded picture -> restored picture: Gaussians fitted through the operator, and how many it takes.

```
observation ─ impulses out ─ noise ─┬─ capacity (coupled bootstrap or held-out pixels) ── N ──┐
                                    └──────────── fits of several seeds through D ── mean ────┴─ guided ─ restored
```

The mean of fits with different seeds is better than each: what they share is the picture, what they do not share is
noise. How many Gaussians a fit gets is chosen by what it does not see: other noise, or pixels that are held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imagegs import ConfigError, Picture, PictureInfo, ShapeError, as_picture, fit, render

from .guided import guided_parts, shares_of
from .impulses import extremes, outlying, salt_and_pepper
from .jpeg import JpegIntervals
from .noise import Noise, recognize_noise
from .operators import FloatArray, Identity, Operator, check_fits

FITS = 6
STEPS = {"plain": 200, "through": 300}
"""Of each fit; with an operator there is no relocation, which makes up for steps."""
JPEG_SHARES, JPEG_DETAIL = (0.05, 0.2), 3.0 / 255
"""Gaussians for each pixel of a JPEG file, least and most; between, this over the mean step of its luma."""
FIRST_SHARE = 0.012
"""Gaussians of the first trial for each pixel that is known; from there they are doubled or halved."""
MOST_TRIALS = 5
HELD_OUT = 0.1
"""Share of the known pixels that trials do not see, where there is no noise to tell by."""
NOISE_ADDED = 0.4
"""Noise added to what trials see, times that which is there."""
TRIAL_FITS = 2
REJECTIONS = 2
"""Times that pixels are compared with fits of the others, where there are impulses."""
MEDIAN_SIDE = 5
"""Of the neighbourhood whose median a pixel is compared with first, pixels."""
_OWN = 0x5EED
"""So that noise which somebody made with the same seed, for a test, is not ours."""
LEAST_SIGMA = 1.5 / 255
"""Less noise does not choose the number of Gaussians."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One number of Gaussians, tried.

    Attributes:
        gaussians: how many.
        risk: mean squared error expected of the mean of the fits against what they do not see, but for a constant.
    """

    gaussians: int
    risk: float


@dataclass(frozen=True, eq=False)
class Restored:
    """What came of a degraded picture.

    Attributes:
        picture: the restored picture, in [0, 1].
        gaussians: in each fit.
        fits: how many were averaged.
        noise: given or estimated.
        trials: what the number of Gaussians was chosen from; empty where it was given.
        shares: of the mean of the fits, of `guided.similar_mean` and of `guided.wiener` in the picture.
        impulses: share of the pixels that were taken for impulses.
    """

    picture: Picture
    gaussians: int
    fits: int
    noise: Noise
    trials: tuple[Trial, ...]
    shares: tuple[float, float, float] = (1.0, 0.0, 0.0)
    impulses: float = 0.0


def restore(
    image: Any,
    operator: Operator | None = None,
    *,
    known: npt.ArrayLike | None = None,
    noise: Noise | float | None = None,
    impulses: bool | None = None,
    guided: bool = True,
    importance: Any = None,
    gaussians: int | None = None,
    fits: int = FITS,
    steps: int | None = None,
    seed: int = 0,
    on_fit: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restore a picture. Its transparency stays as it is, unless there is an operator.

    Args:
        image: what is observed; see ``imagegs.as_picture``.
        operator: what happened to it before noise came; by default nothing.
        known: [H, W], which pixels of the observation are; by default all.
        noise: of the observation, or its standard deviation, of values in [0, 1]; by default estimated.
        impulses: whether some pixels have values that are not theirs, of any kind; by default, without an operator,
            and where all pixels are known, black and white ones are looked for.
        guided: where there is noise and nothing else, whether filters that go by the fits bring fine texture back.
        importance: [H, W] of the result, not negative: more of it, more Gaussians.
        gaussians: of each fit; by default chosen: with noise by a second look at the picture with other noise, without
            by pixels that are held out.
        fits: how many are averaged.
        steps: of each fit.
        seed: of everything random.
        on_fit: called with how many fits are done, and of how many.

    Raises:
        ConfigError: a setting is out of range, the operator does not fit the picture, or nothing is known.
        ShapeError: ``known`` has another size than the picture.
    """
    picture = as_picture(image)
    operator = operator or Identity()
    if fits < 1:
        raise ConfigError(f"fits: expected 1 or more, found {fits}")
    colors = colors_of(picture)
    if _plain(operator) and len(colors) < picture.channels and not picture.info.stack:
        # transparency has no noise, and stays
        opaque = Picture(picture.pixels[colors], PictureInfo.of_channels(len(colors)), picture.source)
        found = restore(
            opaque,
            known=known,
            noise=noise,
            impulses=impulses,
            guided=guided,
            importance=importance,
            gaussians=gaussians,
            fits=fits,
            steps=steps,
            seed=seed,
            on_fit=on_fit,
        )
        pixels = picture.pixels.copy()
        pixels[colors] = found.picture.pixels
        return replace(found, picture=Picture(pixels, picture.info, picture.source))
    size = picture.height, picture.width
    canvas, mask = check_fits(operator, picture.channels, size), _checked_mask(known, size)
    plain = _plain(operator)
    if impulses and not plain:
        raise ConfigError("impulses: expected none beside an operator, found both")
    steps = steps or STEPS["plain" if plain else "through"]
    accidents = salt_and_pepper(picture.pixels) if impulses is None and plain and mask is None else None
    rejected = bool(impulses) or accidents is not None
    trials = 0 if gaussians or isinstance(operator, JpegIntervals) else MOST_TRIALS
    more = trials + (REJECTIONS if rejected else 0) + (1 if plain and guided else 0)
    count = Counter(fits + TRIAL_FITS * more, on_fit)
    problem = _Problem(picture, operator, canvas, mask, Noise(0.0), steps, importance, seed, count)
    if rejected:
        problem = problem.without_impulses(accidents)
    if not isinstance(noise, Noise):
        noise = recognize_noise(picture.pixels, problem.mask) if noise is None else Noise(noise)
    problem = replace(problem, noise=noise)
    found = _chosen(problem, gaussians, fits)
    pixels, shares = problem.restored(found.gaussians, fits, guided)
    restored = Picture(np.clip(pixels, 0, 1).astype(np.float32), picture.info, picture.source)
    lost = 1 - _share(problem.mask) / _share(mask) if rejected else 0.0
    return replace(found, picture=restored, shares=shares, impulses=lost)


def _chosen(problem: _Problem, gaussians: int | None, fits: int) -> Restored:
    """How many Gaussians, and from what; the picture is still to come."""
    trials: tuple[Trial, ...] = ()
    if gaussians is None and isinstance(problem.operator, JpegIntervals):
        share = np.clip(JPEG_DETAIL / problem.operator.coarseness, *JPEG_SHARES)
        gaussians = max(1, round(share * problem.picture.height * problem.picture.width))
    if gaussians is None:
        trials = search(lambda number: problem.trial(number, fits), *problem.range)
        gaussians = best_of(trials)
    return Restored(problem.picture, gaussians, fits, problem.noise, trials)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """For operators, which are small: torch's threads, waiting busily, would stand in the way of the kernels'."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Counter:
    """Counts fits."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._report = 0, total, report

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._total)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is to be restored."""

    picture: Picture
    operator: Operator
    canvas: tuple[int, int]
    mask: npt.NDArray[np.bool_] | None
    noise: Noise
    steps: int
    importance: Any
    seed: int
    count: Counter

    @property
    def range(self) -> tuple[int, int]:
        """The first number of Gaussians to try, and the largest."""
        height, width = self.canvas
        seen = self.picture.height * self.picture.width if self.mask is None else int(self.mask.sum())
        most = max(1, height * width // 4)
        return min(max(round(FIRST_SHARE * seen), 8), most), most

    def without_impulses(self, accidents: npt.NDArray[np.bool_] | None) -> _Problem:
        """With a mask that leaves out impulses: any that fits tell, or accidents [H, W] and black and white ones."""
        from scipy.ndimage import median_filter

        pixels, mask = self.picture.pixels, self.mask
        if accidents is None:
            lost = outlying(pixels, median_filter(pixels, (1, MEDIAN_SIDE, MEDIAN_SIDE)), mask)
        else:
            lost = accidents
        found = replace(self, mask=_both(mask, ~lost))
        for _ in range(REJECTIONS):
            fitted = found.mean(found.range[0], TRIAL_FITS)
            lost = outlying(pixels, fitted, found.mask)
            if accidents is not None:
                lost = accidents | lost & extremes(pixels)
            found = replace(found, mask=_both(mask, ~lost))
        return replace(found, mask=None) if found.mask is not None and found.mask.all() else found

    def trial(self, gaussians: int, fits: int) -> Trial:
        """The risk of the mean of so many fits, from `TRIAL_FITS` of them.

        With noise, fits see the picture with some more of it, and are compared with one whose noise is independent of
        theirs (Oliveira et al., arXiv 2111.09447); without, they do not see some pixels.
        """
        judged = np.ones(self.picture.pixels.shape[1:], bool) if self.mask is None else self.mask
        seen, given, wanted = self.mask, self.picture.pixels, self.picture.pixels
        if self.noise.sigma >= LEAST_SIGMA:
            given, wanted = self._coupled()
        else:
            judged, seen = hold_out(judged, self._random())
        shown = [self._seen(self._fit(given, gaussians, k, seen)) for k in range(TRIAL_FITS)]
        single = float(np.mean([np.mean((one - wanted)[:, judged] ** 2) for one in shown]))
        mean = float(np.mean((np.mean(shown, axis=0) - wanted)[:, judged] ** 2))
        # what does not shrink with the number of fits, and what does
        lasting = (TRIAL_FITS * mean - single) / (TRIAL_FITS - 1)
        return Trial(gaussians, lasting + (single - lasting) / fits)

    def shares(self, gaussians: int, fits: int) -> tuple[float, float, float]:
        """Of the mean of fits and of what goes by it, so that they come nearest to the picture: see `trial`."""
        given, wanted = self._coupled()
        noise = self.noise.scaled(math.hypot(1, NOISE_ADDED))
        judged = slice(None) if self.mask is None else self.mask
        trials = []
        for number in range(TRIAL_FITS):
            parts = guided_parts(given, self._fit(given, gaussians, number, self.mask), noise, self.mask)
            trials.append([part[:, judged].ravel() for part in parts])
        first, second, third = shares_of(np.array(trials), wanted[:, judged].ravel(), max(fits, TRIAL_FITS))
        return float(first), float(second), float(third)

    def restored(self, gaussians: int, fits: int, guided: bool) -> tuple[FloatArray, tuple[float, float, float]]:
        """The mean of fits with what goes by it; and the shares of these."""
        mean, shares = self.mean(gaussians, fits), (1.0, 0.0, 0.0)
        if isinstance(self.operator, JpegIntervals):
            return self.operator.nearest(mean), shares
        if not _plain(self.operator):
            return mean, shares
        if self.noise.sigma < LEAST_SIGMA:  # what is known without noise stays
            return mean if self.mask is None else np.where(self.mask, self.picture.pixels, mean), shares
        if guided:
            shares = self.shares(gaussians, fits)
            parts = guided_parts(self.picture.pixels, mean, self.noise, self.mask)
            mean = np.tensordot(np.array(shares, np.float32), np.stack(parts), 1)
        return mean, shares

    def mean(self, gaussians: int, fits: int) -> FloatArray:
        """The mean of fits."""
        total = np.zeros((self.picture.channels, *self.canvas), np.float64)
        for number in range(fits):
            total += self._fit(self.picture.pixels, gaussians, number, self.mask)
        return (total / fits).astype(np.float32)

    def _random(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, _OWN])

    def _coupled(self) -> tuple[FloatArray, FloatArray]:
        """The observation with more noise, and with other noise that is independent of that."""
        pixels = self.picture.pixels
        noise = self.noise.sample(pixels, self._random())
        return pixels + NOISE_ADDED * noise, pixels - noise / NOISE_ADDED

    def _fit(self, pixels: FloatArray, gaussians: int, number: int, known: npt.NDArray[np.bool_] | None) -> FloatArray:
        if known is not None:
            pixels = filled(pixels, known)
        operator = None if _plain(self.operator) else self.operator
        guide = None if operator is None else operator.guess(pixels)
        observed = Picture(pixels, self.picture.info, self.picture.source)
        weights = None if known is None else known.astype(np.float32)
        if self.noise.curve:
            sure = (1 / np.maximum(self.noise.variance(pixels), LEAST_SIGMA**2)).astype(np.float32)
            weights = sure if weights is None else weights * sure
        with one_torch_thread():
            found = fit(
                observed,
                gaussians,
                weights=weights,
                importance=self.importance,
                operator=operator,
                guide=guide,
                seed=self.seed + number,
                steps=self.steps,
            )
        self.count.step()
        return render(found)

    def _seen(self, canvas: FloatArray) -> FloatArray:
        import torch

        return np.asarray(self.operator(torch.from_numpy(canvas)))


def hold_out(
    known: npt.NDArray[np.bool_], random: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Known pixels [H, W] that trials are judged by, and those that they see: at least one each, or the same."""
    draw = np.where(known, random.random(known.shape), np.inf)
    judged = draw < max(HELD_OUT, np.nextafter(draw.min(), np.inf))
    seen = known & ~judged
    return judged, seen if seen.any() else known


def search(trial: Callable[[int], Trial], first: int, most: int) -> tuple[Trial, ...]:
    """Trials of ever more or ever fewer Gaussians, doubled or halved, until the risk rises; at most `MOST_TRIALS`."""
    found = {first: trial(first)}
    for factor in (2.0, 0.5):
        number = first
        while len(found) < MOST_TRIALS:
            number = min(max(round(number * factor), 1), most)
            if number in found:
                break
            found[number] = trial(number)
            if found[number].risk > min(one.risk for key, one in found.items() if key != number):
                break
        if factor > 1 and min(found, key=lambda key: found[key].risk) > first:
            break
    return tuple(sorted(found.values(), key=lambda one: one.gaussians))


def best_of(trials: Sequence[Trial]) -> int:
    """The number of Gaussians of least risk: of the best trial, or of the parabola through it and its neighbours."""
    at = min(range(len(trials)), key=lambda k: trials[k].risk)
    if not 0 < at < len(trials) - 1:
        return trials[at].gaussians
    x = np.log([trial.gaussians for trial in trials[at - 1 : at + 2]])
    bend, slope, _ = np.polyfit(x - x[1], [trial.risk for trial in trials[at - 1 : at + 2]], 2)
    return round(trials[at].gaussians * float(np.exp(-slope / (2 * bend)))) if bend > 0 else trials[at].gaussians


def colors_of(picture: Picture) -> list[int]:
    """The numbers of its channels that are not transparency."""
    return [number for number, name in enumerate(picture.info.channel_names) if name.rpartition(".")[2] != "A"]


def filled(pixels: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """Pixels [C, H, W] with those that are not known taken from around: means of known ones at ever larger scales."""
    from scipy.ndimage import gaussian_filter

    found, todo, sigma = np.where(known, pixels, 0).astype(np.float32), ~known, 1.0
    while todo.any():
        weight = gaussian_filter(known.astype(np.float32), sigma)
        enough = todo & (weight > 0.02)
        for channel in found:
            channel[enough] = (gaussian_filter(np.where(known, channel, 0), sigma)[enough]) / weight[enough]
        todo, sigma = todo & ~enough, 2 * sigma
    return found


def _share(mask: npt.NDArray[np.bool_] | None) -> float:
    return 1.0 if mask is None else float(mask.mean())


def _both(one: npt.NDArray[np.bool_] | None, other: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What is in two masks; in the first alone, if that leaves nothing."""
    both = other if one is None else one & other
    return both if both.any() or one is None else one


def _plain(operator: Operator) -> bool:
    return isinstance(operator, Identity)


def _checked_mask(known: npt.ArrayLike | None, size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    if known is None:
        return None
    mask = np.asarray(known) > 0
    if mask.shape != size:
        raise ShapeError(f"mask: expected [{size[0]}, {size[1]}] as the picture has, found {list(mask.shape)}")
    if not mask.any():
        raise ConfigError("mask: expected some pixels that are known, found none")
    return None if mask.all() else mask
