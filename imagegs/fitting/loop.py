"""The steps of a fit: what changes, what does not, and one step after the other; `fit.run` turns the crank."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .. import devices
from ..codec.quantization import Grid, choose_grid, round_to_grid
from ..gaussians import FloatArray, Gaussians2D
from ..kernels import native
from . import checkpoints
from .config import FitConfig
from .growth import error_density, grow, least_worth, relocation_count
from .initialization import Density, Gaussians, draw_pixels, spawn, start_density
from .losses import Evaluation, evaluate, prepare, solve_colors
from .noise import keep_inside, perturb
from .operators import Operator, evaluate_through
from .optimizer import Optimizer, make_optimizer
from .schedule import CHECK_EVERY, Plateau, rate_factor
from .targets import Structure, Target, analyze

FINISHED_PSNR = 100.0
"""A fit that is this good stops, dB."""
COARSE_SIDE = 64
"""Pictures with a shorter side are never fitted at half size, pixels."""
GRID_EVERY = 20
"""Steps between looks at the range of the values, while rounding."""


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every step.

    Attributes:
        step: steps done.
        steps: steps in all, unless the fit ends early.
        psnr: of the picture before the step, dB.
        loss: value of the loss before the step.
        gaussians: how many there are now.
        seconds: since the fit began, earlier parts of a resumed fit counted in.
        snapshot: makes the Gaussians as they are now, on the whole canvas; to be called before the callback returns.
    """

    step: int
    steps: int
    psnr: float
    loss: float
    gaussians: int
    seconds: float
    snapshot: Callable[[], Gaussians2D]


@dataclass(frozen=True, eq=False)
class FitResult:
    """A finished fit.

    Attributes:
        gaussians: the best state, on the picture's canvas.
        psnr: of its render clamped to [0, 1], dB; of the operator's result if there was one.
        history: (step, seconds, PSNR in dB, number of Gaussians), every few steps.
        steps: steps done.
        seconds: time the fit took.
        config: its settings.
        added_at: steps after which Gaussians were added.
    """

    gaussians: Gaussians2D
    psnr: float
    history: list[tuple[int, float, float, int]]
    steps: int
    seconds: float
    config: FitConfig
    added_at: list[int]


@dataclass(eq=False)
class State:
    """Everything of a fit that changes; what a checkpoint holds."""

    model: Gaussians
    optimizer: Optimizer
    rng: np.random.Generator
    step: int = 0
    at: int = 0  # place in the schedule: runs ahead of ``step`` when the holding phase ends early
    halved: bool = False
    seconds: float = 0.0
    started_with: int = 0
    best: Gaussians | None = None
    best_loss: float = math.inf
    plateau: Plateau = field(default_factory=Plateau)
    grid: Grid | None = None  # what the forward pass rounds to
    held: tuple[int, float] = (0, -math.inf)  # step and PSNR of the last gain while the rates are held
    history: list[tuple[int, float, float, int]] = field(default_factory=list)
    added_at: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture at one size, and what follows from it."""

    target: Target
    structure: Structure
    start: Density  # probability of a first Gaussian at every pixel
    background: FloatArray

    @staticmethod
    def of(target: Target, config: FitConfig) -> Scene:
        """What follows from a picture for a fit with these settings."""
        structure = analyze(target.pixels)
        background = target.pixels.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
        return Scene(target, structure, start_density(target, structure, config), background)


class Loop:
    """The steps of one fit; holds what does not change, works on a ``State``."""

    def __init__(
        self,
        canvas: Target,
        observed: Target,
        config: FitConfig,
        operator: Operator | None,
        keep: Callable[[Gaussians2D], int] | None = None,
        device: str = "cpu",
    ) -> None:
        self.config, self.operator, self.observed, self.keep = config, operator, observed, keep
        over = math.ceil(config.gaussians * (1 + config.overshoot))
        self.goal = max(config.gaussians, min(over, canvas.size[0] * canvas.size[1]))
        self.prune_at = math.ceil(config.hold * config.steps) if self.goal > config.gaussians else -1
        self.scene = Scene.of(canvas, config)
        coarse = config.coarse > 0 and operator is None and min(canvas.size) >= COARSE_SIDE
        half = canvas.halved() if coarse else None
        enough = half is not None and self.goal <= half.size[0] * half.size[1]
        self.coarse_scene = Scene.of(half, config) if half is not None and enough else None
        self.rasterizer = devices.rasterizer(device)

    @property
    def fingerprint(self) -> str:
        """Of the settings and pictures; the operator, a function, is left out."""
        guide = None if self.operator is None else self.scene.target.pixels
        target = self.scene.target
        maps = self.observed.weights, target.start, target.growth, target.order
        return checkpoints.fingerprint(self.config, self.observed.pixels, guide, *maps)

    def empty(self) -> State:
        """A state with no Gaussians, for a checkpoint to fill."""
        channels = len(self.scene.target.pixels)
        none = Gaussians(*(np.zeros(shape, np.float32) for shape in ((0, 2), (0, 2), (0,), (0, channels))))
        optimizer = make_optimizer(none, self.config, self.scene.target.size)
        return State(none, optimizer, np.random.default_rng(self.config.seed))

    def begin(self) -> State:
        """The first Gaussians."""
        config = self.config
        growing = bool(config.add_at) and config.start_fraction < 1
        return self._begin_with(max(1, math.ceil(self.goal * config.start_fraction)) if growing else self.goal)

    def _begin_with(self, count: int) -> State:
        """A state with so many Gaussians."""
        state, config = self.empty(), self.config
        state.halved = self.coarse_scene is not None
        scene = self.scene_of(state)
        pixels = draw_pixels(scene.start, count, state.rng)
        state.model = spawn(pixels, scene.start * count, scene.target, scene.structure, config)
        state.started_with = len(state.model)
        state.optimizer.extend(len(state.model))
        return state

    def scene_of(self, state: State) -> Scene:
        """The picture at the size that is being fitted."""
        return self.coarse_scene if state.halved and self.coarse_scene is not None else self.scene

    def finished(self, state: State) -> bool:
        """Whether the schedule is through, or there is nothing left to gain."""
        if state.at >= self.config.steps or state.plateau.decays > 1:
            return True
        complete = len(state.model) >= self.config.gaussians or not self.config.add_at
        return bool(complete and not state.halved and state.history and state.history[-1][2] >= FINISHED_PSNR)

    def advance(self, state: State) -> Progress:
        """One step."""
        began = time.perf_counter()
        config = self.config
        if state.halved and state.at >= config.coarse * config.steps:
            self._refine(state)
        evaluation, seen = self._evaluate(state)
        if self._settled(state) and evaluation.loss < state.best_loss:
            state.best_loss, state.best = evaluation.loss, state.model.copy()
        factor = rate_factor(config, state.at + 1, state.plateau)
        if evaluation.psnr < FINISHED_PSNR:  # from there on gradients are rounding errors, which Adam would blow up
            state.optimizer.step(state.model, evaluation.gradients, factor)
        if config.lattice is not None:
            keep_inside(state.model, *self.scene_of(state).target.size)
        state.step += 1
        state.at += 1
        self._change(state, seen)
        self._watch(state, evaluation.psnr)
        state.seconds += time.perf_counter() - began
        every = max(1, config.steps // 200)
        if state.step % every == 0 or state.step == 1 or evaluation.psnr >= FINISHED_PSNR:
            state.history.append((state.step, state.seconds, evaluation.psnr, len(state.model)))
        return self._progress(state, evaluation.psnr, evaluation.loss)

    def settle(self, state: State) -> None:
        """Makes the state complete, as a checkpoint needs it; here it always is."""

    def _progress(self, state: State, psnr: float, loss: float) -> Progress:
        def snapshot() -> Gaussians2D:
            self.settle(state)
            return self._gaussians(self._whole(state))

        total = state.step + self.config.steps - state.at
        return Progress(state.step, total, psnr, loss, len(state.model), state.seconds, snapshot)

    def _change(self, state: State, seen: FloatArray) -> None:
        """Adds, moves or removes Gaussians where it is time; ``seen`` is what growth looks at."""
        if state.step in self.config.add_at:
            self._add(state, seen)
        elif self._moves(state):
            self._relocate(state)
        if state.at == self.prune_at:
            self._prune(state)

    def finish(self, state: State) -> FitResult:
        """The best state, its colours solved if that helps; the state stays as it is."""
        began = time.perf_counter()
        config = self.config
        candidates = [self._whole(state)]
        candidates += [] if state.best is None else [state.best]
        losses = [self._loss_of(model) for model in candidates]
        best = candidates[int(np.argmin(losses))]
        if config.color_solve and self.operator is None and config.loss.l1 == 0 and config.loss.ssim == 0:
            best = self._solved(best, min(losses))
        psnr = self._evaluate_model(self._rounded(best))[0].psnr
        seconds = state.seconds + time.perf_counter() - began
        history = [*state.history, (state.step, seconds, psnr, len(best))]
        return FitResult(self._gaussians(best), psnr, history, state.step, seconds, config, state.added_at)

    @staticmethod
    def _whole(state: State) -> Gaussians:
        """The model on the whole canvas."""
        return state.model.resized(2.0) if state.halved else state.model

    def _gaussians(self, model: Gaussians) -> Gaussians2D:
        height, width = self.scene.target.size
        return Gaussians2D(*model.arrays(), height, width, self.scene.background, self.config.blend, self.config.top_k)

    def _rounded(self, model: Gaussians) -> Gaussians:
        """The model as it will come back from a file."""
        if self.config.bits is None:
            return model
        whole = self._gaussians(model)
        back = round_to_grid(whole, choose_grid(whole, self.config.bits))
        return Gaussians(back.means, back.scales, back.rotations, back.colors)

    def _evaluate(self, state: State) -> tuple[Evaluation, FloatArray]:
        """Loss and gradients of the state; and the picture or gradient that growth looks at, if it will."""
        config = self.config
        model = state.model
        if config.bits is not None and state.at >= config.quantize_from * config.steps and not state.halved:
            whole = self._gaussians(model)
            if state.grid is None or state.step % GRID_EVERY == 0:
                state.grid = choose_grid(whole, config.bits)
            back = round_to_grid(whole, state.grid)
            model = Gaussians(back.means, back.scales, back.rotations, back.colors)
        if config.lattice is not None and state.at >= config.noise_from * config.steps:
            model = perturb(model, config.lattice, state.rng)
        looked_at = state.step + 1 in config.add_at or config.schedule == "plateau"
        return self._evaluate_state(model, state, show=looked_at)

    def _evaluate_state(self, model: Gaussians, state: State, *, show: bool) -> tuple[Evaluation, FloatArray]:
        """The same for the state's model, rounded or noisy."""
        return self._evaluate_model(model, self.scene_of(state), show=show)

    def _evaluate_model(
        self, model: Gaussians, scene: Scene | None = None, *, show: bool = False
    ) -> tuple[Evaluation, FloatArray]:
        scene = scene or self.scene
        prepare(self.rasterizer, model, scene.target.size, self.config.blend, self.config.top_k)
        if self.operator is not None:
            return evaluate_through(self.rasterizer, scene.background, self.operator, self.observed, self.config.loss)
        found = evaluate(self.rasterizer, scene.background, scene.target, self.config.loss, show=show)
        return found, self.rasterizer.image

    def _loss_of(self, model: Gaussians) -> float:
        return self._evaluate_model(self._rounded(model))[0].loss

    def _solved(self, model: Gaussians, loss: float) -> Gaussians:
        """The model with its colours solved for the geometry as rounded, if the loss falls."""
        colors = self._solve(self._rounded(model))
        solved = Gaussians(model.means, model.scales, model.rotations, colors)
        return solved if np.isfinite(colors).all() and self._loss_of(solved) < loss else model

    def _solve(self, model: Gaussians) -> FloatArray:
        scene, config = self.scene, self.config
        settings = config.blend, config.top_k, config.color_solve
        return solve_colors(self.rasterizer, model, scene.background, scene.target, *settings)

    def _settled(self, state: State) -> bool:
        """Whether the loss is that of the final problem: full size, all Gaussians, rounded if they will be."""
        config = self.config
        rounding = config.bits is None or state.at >= config.quantize_from * config.steps
        return (
            not state.halved
            and config.lattice is None  # the loss under noise is not that of the model
            and len(state.model) >= config.gaussians
            and rounding
            and state.at >= config.hold * config.steps
        )

    def _moves(self, state: State) -> bool:
        config = self.config
        due = config.relocate > 0 and state.step % config.relocate_every == 0
        return due and self.operator is None and state.at < config.relocate_until * config.steps

    def _add(self, state: State, seen: FloatArray) -> None:
        count = self.missing(state)
        if count <= 0:
            return
        new = self._grown(state, count, seen)
        state.model = state.model.joined(new)
        state.optimizer.extend(len(new))
        if self.config.reset_moments:
            state.optimizer.forget(slice(None))
        state.added_at.append(state.step)

    def missing(self, state: State) -> int:
        """How many Gaussians are to be added now."""
        missing = self.goal - len(state.model)
        share = math.ceil((self.goal - state.started_with) / len(self.config.add_at))
        return missing if state.step == max(self.config.add_at) else min(missing, share)

    def _grown(self, state: State, count: int, seen: FloatArray) -> Gaussians:
        scene = self.scene_of(state)
        # through an operator there is no error at the canvas's pixels: the loss's gradient stands in for it
        image = seen if self.operator is None else scene.target.pixels + seen
        start = scene.start * state.started_with
        return grow(state.model, count, image, scene.target, scene.structure, start, self.config, state.rng)

    def _relocate(self, state: State) -> None:
        config, scene = self.config, self.scene_of(state)
        count = relocation_count(state.model, config)
        if count <= 0:
            return
        prepare(self.rasterizer, state.model, scene.target.size, config.blend, config.top_k)
        image = self.rasterizer.forward(scene.background, keep=True)
        rows = least_worth(self.rasterizer, state.model, scene.background, scene.target, count)
        density = error_density(image, scene.target, config)
        pixels = draw_pixels(density, count, state.rng)
        start = scene.start * state.started_with
        state.model.put(rows, spawn(pixels, start + density * count, scene.target, scene.structure, config))
        state.optimizer.forget(rows)

    def _prune(self, state: State) -> None:
        scene = self.scene_of(state)
        count = self.config.gaussians if self.keep is None else self.keep(self._gaussians(self._whole(state)))
        gone = len(state.model) - max(1, count)
        if gone <= 0:
            return
        prepare(self.rasterizer, state.model, scene.target.size, self.config.blend, self.config.top_k)
        self.rasterizer.forward(scene.background, keep=True)
        rows = least_worth(self.rasterizer, state.model, scene.background, scene.target, gone)
        kept = np.setdiff1d(np.arange(len(state.model)), rows)
        state.model = state.model.take(kept)
        state.optimizer.take(kept)

    def _watch(self, state: State, psnr: float) -> None:
        """The schedules that listen to the quality."""
        config = self.config
        if config.schedule == "plateau" and len(state.model) >= config.gaussians and state.step % CHECK_EVERY == 0:
            pixels = self.scene_of(state).target.pixels
            similarity = native.ssim(self.rasterizer.image, pixels) / pixels.size
            state.plateau.see(psnr, similarity)
        holding = config.schedule == "hold" and state.at < config.hold * config.steps
        if not (config.patience and holding and len(state.model) >= config.gaussians):
            return
        if psnr > state.held[1] + config.patience_gain:
            state.held = state.step, psnr
        elif state.step - state.held[0] >= config.patience:
            state.at = math.ceil(config.hold * config.steps)

    def _refine(self, state: State) -> None:
        """From half size to the whole."""
        state.halved = False
        state.model = state.model.resized(2.0)
        state.held = state.step, -math.inf
