"""The steps of a fit on a GPU: a few at a time, from one event that the host decides to the next."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from .. import devices
from ..gaussians import FloatArray, Gaussians2D
from ..kernels import cuda
from .config import FitConfig
from .device_solve import solve_colors_on
from .growth import relocation_count
from .initialization import Gaussians
from .loop import FitResult, Loop, Progress, Scene, State
from .losses import to_psnr
from .operators import Operator
from .resident import MOMENTS, Resident
from .schedule import Plateau, rate_factor
from .targets import Target

_UNSEEN = np.zeros(0, np.float32)
"""Growth looks at the picture on the device."""


def serves(config: FitConfig, operator: Operator | None) -> bool:
    """Whether a fit's steps can stay on the GPU; others render there, and do the rest on the host."""
    plain = config.shape == "local" and config.schedule == "hold" and config.grow_color == "target"
    return plain and config.bits is None and not config.level_shares and operator is None


def enough_memory(device: cuda.Device, scenes: Sequence[Scene], rows: Sequence[int]) -> AbstractContextManager[None]:
    """Says how much memory a fit takes where there is too little."""
    sizes = [scene.target.size for scene in scenes]
    shape = " x ".join(f"{side:,}" for side in sizes[0]) + (f" and {len(sizes) - 1:,} more" if len(sizes) > 1 else "")
    return cuda.enough_memory(
        device, lambda: Resident.needed(scenes, rows), f"a fit of {sum(rows):,} Gaussians to {shape} pixels"
    )


def steps_ahead(config: FitConfig, at: int, step: int, prune_at: int = -1) -> int:
    """Steps from ``at`` of the schedule, after ``step`` of them, until something else than a step is to be done."""
    shares = [config.hold, config.noise_from, config.coarse]
    places = [config.steps, prune_at, *(math.ceil(share * config.steps) for share in shares)]
    ahead = [place - at for place in places] + [after - step for after in config.add_at]
    if config.relocate > 0 and at < config.relocate_until * config.steps:
        ahead.append(config.relocate_every - step % config.relocate_every)
    return min(count for count in ahead if count > 0)


def clocks_of(config: FitConfig, at: int, time: int, count: int) -> FloatArray:
    """What differs between the next steps: factor of the rates, and Adam's corrections after ``time`` steps."""
    rows = [
        (rate_factor(config, at + k, Plateau()), 1 - config.betas[0] ** (time + k), 1 - config.betas[1] ** (time + k))
        for k in range(1, count + 1)
    ]
    return np.array(rows, np.float32)


class DeviceLoop(Loop):
    """A ``Loop`` that takes several steps at a time, on a GPU; for the settings that `serves` allows.

    Growth looks at the picture after a step, not before it, and the device draws what is random: a fit ends as well as
    on the CPU, not at the same numbers.
    """

    def __init__(
        self,
        canvas: Target,
        observed: Target,
        config: FitConfig,
        operator: Operator | None,
        keep: Callable[[Gaussians2D], int] | None = None,
        device: str = "cuda:0",
    ) -> None:
        super().__init__(canvas, observed, config, operator, keep, device)
        self._gpu = devices.open_gpu(int(device.partition(":")[2]))
        self._resident: Resident | None = None
        self._halved: bool | None = None  # of the picture that the resident steps are made for
        self._loaded = False  # whether the device has the state
        self._newer = False  # the device's state

    def advance(self, state: State) -> Progress:
        """A few steps, up to the next event.

        Raises:
            DeviceError: the device has too little memory.
        """
        with enough_memory(self._gpu, [self.scene_of(state)], [self.goal]):
            return self._advance(state)

    def _advance(self, state: State) -> Progress:
        began = clock.perf_counter()
        config = self.config
        if state.halved and state.at >= config.coarse * config.steps:
            self.settle(state)
            self._refine(state)
            self._loaded = False
        resident = self._at_work(state)
        count = min(resident.most_steps, steps_ahead(config, state.at, state.step, self.prune_at))
        clocks = clocks_of(config, state.at, int(state.optimizer.moments["time"][0]), count)
        noisy = config.lattice is not None and state.at >= config.noise_from * config.steps
        taken = resident.advance(clocks, self._seed(state) + 1, noisy=noisy, settled=self._settled(state))
        self._newer = True
        state.step += len(clocks)
        state.at += len(clocks)
        state.optimizer.moments["time"] += np.float32(len(clocks))
        self._change(state, _UNSEEN)
        psnr = to_psnr(float(taken.errors[-1, 0]))
        self._watch(state, psnr)
        state.seconds += clock.perf_counter() - began
        state.history.append((state.step, state.seconds, psnr, len(state.model)))
        return self._progress(state, psnr, float(taken.losses[-1, 0]))

    def settle(self, state: State) -> None:
        """Brings the device's state to the host, if it is newer."""
        if not self._newer or self._resident is None:
            return
        (state.model,), (moments,) = self._resident.fetch()
        state.optimizer.moments |= moments
        (best,), (loss,) = self._resident.fetch_best()
        if loss < state.best_loss:
            state.best, state.best_loss = best, loss
        self._newer = False

    def finish(self, state: State) -> FitResult:
        """See ``Loop``."""
        self.settle(state)
        return super().finish(state)

    def _at_work(self, state: State) -> Resident:
        """The resident steps, with the state brought to the device where the host's is newer."""
        if self._resident is None or self._halved != state.halved:
            self.settle(state)
            self._resident = None  # gives its memory back before the next one takes some
            rows = max(self.goal, len(state.model))
            self._resident, self._halved = (
                Resident(self._gpu, [self.scene_of(state)], self.config, [rows]),
                state.halved,
            )
            self._loaded = False
        if not self._loaded:
            moments = {name: state.optimizer.moments[name] for name in MOMENTS}
            self._resident.load([state.model], [moments], [state.best], [state.best_loss])
            self._loaded = True
        return self._resident

    def _grown(self, state: State, count: int, seen: FloatArray) -> Gaussians:
        assert self._resident is not None
        (new,) = self._resident.grown([count], [state.started_with], self._seed(state))
        self.settle(state)
        self._loaded = False
        return new

    def _relocate(self, state: State) -> None:
        count = relocation_count(state.model, self.config)
        if count > 0 and self._resident is not None:
            self._resident.relocate([count], [state.started_with], self._seed(state))

    def _prune(self, state: State) -> None:
        self.settle(state)
        super()._prune(state)
        self._loaded = False

    def _solve(self, model: Gaussians) -> FloatArray:
        return solve_colors_on(self._gpu, model, self.scene, self.config)

    def _seed(self, state: State) -> int:
        """Of what is drawn at a step; a fit that is resumed draws the same."""
        return self.config.seed * 1_000_003 + 2 * state.step
