"""Levels that are fitted together, so that every beginning of a file is a good picture.

```
 step  0 ............ 40 % of the steps ......................................... end
 level 0 ── + level 1 ── + level 2 ── all levels: each step sums the gradients of every prefix
```

The first levels begin alone; each further one is added where the picture so far is wrong. From then on a step renders
every prefix (the Gaussians of levels 0 to k) and moves all Gaussians down the sum of its weighted gradients, so that a
Gaussian serves every prefix that it is in. What is summed are the logarithms of the prefixes' squared errors, that is
their PSNR: the error of a coarse prefix is large, and would drown the others.

Source: joint training of prefixes as in P-GSVC (arXiv 2603.10551), which draws one prefix at random for each step; to
sum all of them was 0.5 to 1 dB better after as many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..gaussians import FloatArray, Gaussians2D
from ..kernels import native
from .config import FitConfig
from .growth import error_density, grow, worth_of
from .initialization import Gaussians, draw_pixels, spawn
from .loop import Loop, State
from .losses import Evaluation, evaluate, prepare
from .operators import Operator
from .targets import Target

LEAST_ERROR = 1e-9


def level_ends(shares: Sequence[float], count: int) -> list[int]:
    """How many of ``count`` Gaussians the prefixes have, of cumulative shares below 1; the last has all.

    Levels that would be empty are left out.
    """
    ends = sorted({min(max(1, round(share * count)), count) for share in shares} | {count})
    return [end for end in ends if end > 0]


def prefix_weights(errors: Sequence[float], decay: float) -> list[float]:
    """Weights of the prefixes' gradients: equal gains in PSNR, ``decay`` for each level before the last."""
    last = len(errors) - 1
    return [decay ** (last - k) / max(error, LEAST_ERROR) for k, error in enumerate(errors)]


def evaluate_prefixes(
    rasterizer: native.Rasterizer,
    model: Gaussians,
    ends: Sequence[int],
    background: FloatArray,
    target: Target,
    config: FitConfig,
    *,
    show: bool = False,
) -> Evaluation:
    """Loss and gradients of every prefix, weighted and summed; loss and error reported are those of the whole.

    The sum is scaled so that the whole has weight 1.

    Args:
        rasterizer: its ``image`` is the render of the whole afterwards, if it is to ``show``.
        model: N Gaussians, in the order of the levels.
        ends: how many each prefix has, the last N.
        background: [C].
        target: what the render is to equal.
        config: blend, loss and the weights of levels.
        show: see ``losses.evaluate``.
    """
    local = np.zeros((len(model), 5), np.float32)
    colors = np.zeros_like(model.colors)
    v_background = np.zeros_like(background)
    whole = Evaluation(0.0, 1.0, native.Gradients(0.0, 0.0, local, colors, v_background))
    found = []
    for end in ends:
        part = model if end == len(model) else model.take(np.arange(end))
        prepare(rasterizer, part, target.size, config.blend, config.top_k)
        last = end == len(model)
        seen = target if last else target.of_prefix()
        whole = evaluate(rasterizer, background, seen, config.loss, show=show and last)
        found.append(whole)
    weights = prefix_weights([one.squared_error for one in found], config.level_decay)
    for end, one, weight in zip(ends, found, weights, strict=True):
        scale = np.float32(weight / weights[-1])
        local[:end] += scale * one.gradients.local
        colors[:end] += scale * one.gradients.colors
        v_background += scale * one.gradients.background
    gradients = native.Gradients(whole.gradients.loss, whole.gradients.squared_error, local, colors, v_background)
    return Evaluation(whole.loss, whole.squared_error, gradients)


class LevelLoop(Loop):
    """The steps of a fit with levels; ``config.level_shares`` says where they end."""

    def __init__(
        self,
        canvas: Target,
        observed: Target,
        config: FitConfig,
        operator: Operator | None,
        keep: Callable[[Gaussians2D], int] | None = None,
        device: str = "cpu",
    ) -> None:
        if operator is not None:
            raise ConfigError("level_shares: expected none with an operator, found some")
        super().__init__(canvas, observed, config, operator, keep, device)
        self.coarse_scene = None

    def ends(self, state: State) -> list[int]:
        """Of the prefixes that are there."""
        pruned = 0 <= self.prune_at <= state.at
        total = max(len(state.model), 1) if pruned else self.goal
        return [end for end in level_ends(self.config.level_shares, total) if end <= len(state.model)]

    def begin(self) -> State:
        """The Gaussians of level 0."""
        return self._begin_with(level_ends(self.config.level_shares, self.goal)[0])

    def _evaluate_state(self, model: Gaussians, state: State, *, show: bool) -> tuple[Evaluation, FloatArray]:
        scene = self.scene_of(state)
        ends = self.ends(state)
        found = evaluate_prefixes(self.rasterizer, model, ends, scene.background, scene.target, self.config, show=show)
        return found, self.rasterizer.image

    def _add(self, state: State, seen: FloatArray) -> None:
        """The next level, where the picture so far is wrong."""
        following = [end for end in level_ends(self.config.level_shares, self.goal) if end > len(state.model)]
        if not following:
            return
        scene = self.scene_of(state)
        count = following[0] - len(state.model)
        start = scene.start * state.started_with
        new = grow(state.model, count, seen, scene.target, scene.structure, start, self.config, state.rng)
        state.model = state.model.joined(new)
        state.optimizer.extend(len(new))
        state.added_at.append(state.step)

    def _looks(self, state: State) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.float64]]]:
        """What each Gaussian is worth to all prefixes; and for each prefix where it is wrong, weighted."""
        config, scene, ends = self.config, self.scene_of(state), self.ends(state)
        worth, wrong, errors = np.zeros(len(state.model)), [], []
        removals = []
        for end in ends:
            part = state.model.take(np.arange(end))
            prepare(self.rasterizer, part, scene.target.size, config.blend, config.top_k)
            image = self.rasterizer.forward(scene.background, keep=True)
            errors.append(float(np.mean(np.square(image - scene.target.pixels), dtype=np.float64)))
            seen = scene.target if end == len(state.model) else scene.target.of_prefix()
            wrong.append(error_density(image, seen, config))
            removals.append(worth_of(self.rasterizer, part, scene.background, seen))
        last = len(ends) - 1
        for k, weight in enumerate(prefix_weights(errors, config.level_decay)):
            worth[: ends[k]] += weight * removals[k]
            wrong[k] = wrong[k] * config.level_decay ** (last - k)
        return worth, wrong

    def _relocate(self, state: State) -> None:
        """In each level, those that are worth least to all prefixes move to where prefixes that have them are wrong."""
        config, scene, ends = self.config, self.scene_of(state), self.ends(state)
        worth, wrong = self._looks(state)
        for k, (low, high) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            count = min(int(config.relocate * (high - low)), high - low - 1)
            if count <= 0:
                continue
            rows = low + np.sort(np.argpartition(worth[low:high], count)[:count])
            density = np.sum(wrong[k:], axis=0)
            density /= density.sum()
            pixels = draw_pixels(density, count, state.rng)
            per_pixel = scene.start * (high / 2) + density * count
            state.model.put(rows, spawn(pixels, per_pixel, scene.target, scene.structure, config))
            state.optimizer.forget(rows)

    def _prune(self, state: State) -> None:
        """Every level loses its share of those that overshot, those that are worth least to all prefixes."""
        config = self.config
        count = config.gaussians if self.keep is None else self.keep(self._gaussians(state.model))
        count = min(max(1, count), len(state.model))
        if count == len(state.model):
            return
        worth, _ = self._looks(state)
        before, after = (level_ends(config.level_shares, total) for total in (self.goal, count))
        if len(before) != len(after):  # too few of them for all levels
            before, after = before[-1:], after[-1:]
        kept = []
        for (low, high), wanted in zip(pairwise([0, *before]), np.diff([0, *after]), strict=True):
            kept.append(low + np.sort(np.argsort(-worth[low:high], kind="stable")[:wanted]))
        rows = np.concatenate(kept)
        state.model = state.model.take(rows)
        state.optimizer.take(rows)

    def _solved(self, model: Gaussians, loss: float) -> Gaussians:
        return model
