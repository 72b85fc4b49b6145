"""The last steps before rounding: shapes are rounded already, means and colours adapt; or parts are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import devices
from ..codec.lattice import Lattice
from ..gaussians import FloatArray
from ..kernels import native
from .config import FitConfig
from .initialization import Gaussians
from .levels import evaluate_prefixes, level_ends
from .losses import evaluate, prepare
from .noise import perturb
from .optimizer import scale_bounds
from .targets import Target

RATE = 0.1
"""Of the fit's rates: a refit only settles."""
JOIN_RATE = 0.5
"""Of those of Gaussians that were fitted in parts and go on together."""
HOLD, DECAY = 0.4, 30.0

Bounds = tuple[FloatArray, FloatArray]
"""Where means [N, 2] stay, at least and at most."""


def refit(
    model: Gaussians,
    lattice: Lattice,
    target: Target,
    background: FloatArray,
    config: FitConfig,
    steps: int,
    seed: int = 0,
    bounds: Bounds | None = None,
    ends: Sequence[int] = (),
    device: str = "cpu",
) -> Gaussians:
    """Moves means and colours for fixed scales and rotations, under the noise of their rounding still to come.

    For every prefix that ends with ``ends``, or with the levels of ``config``, where there are such.
    """
    moving = _Moving(lattice, target, background, config, RATE, device, shapes=False)
    return moving.moved(model, steps, seed, bounds, ends)


def join(
    model: Gaussians,
    lattice: Lattice,
    target: Target,
    background: FloatArray,
    config: FitConfig,
    steps: int,
    seed: int = 0,
    bounds: Bounds | None = None,
    ends: Sequence[int] = (),
    device: str = "cpu",
) -> Gaussians:
    """Moves Gaussians that were fitted in parts, all of each, so that they fit each other; see `refit`."""
    moving = _Moving(lattice, target, background, config, JOIN_RATE, device, shapes=True)
    return moving.moved(model, steps, seed, bounds, ends)


@dataclass(frozen=True, eq=False)
class _Moving:
    """Some more steps, at ``rate`` times the fit's rates."""

    lattice: Lattice
    target: Target
    background: FloatArray
    config: FitConfig
    rate: float
    device: str
    shapes: bool

    def moved(self, model: Gaussians, steps: int, seed: int, bounds: Bounds | None, ends: Sequence[int]) -> Gaussians:
        """The Gaussians after so many steps."""
        config, rates = self.config, self.config.rates
        if config.level_shares and not ends:
            ends = level_ends(config.level_shares, len(model))
        rasterizer, rng = devices.rasterizer(self.device), np.random.default_rng(seed)
        model = model.copy()
        n, channels = model.colors.shape
        local = np.zeros((2, n, 5), np.float32)
        color = np.zeros((2, n, channels), np.float32)
        low, high = bounds or (np.zeros(2, np.float32), np.array(self.target.size[::-1], np.float32) - 1e-3)
        for step in range(steps):
            gradients = self._gradients(rasterizer, perturb(model, self.lattice, rng, shapes=self.shapes), ends)
            progress = step / steps
            rate = self.rate * (1.0 if progress < HOLD else DECAY ** (-(progress - HOLD) / (1 - HOLD)))
            settings = {"betas": config.betas, "epsilon": config.epsilon, "step": step + 1}
            update = native.adam(gradients.local, *local, **settings)  # type: ignore[arg-type]
            shape_rates = (rates.scale * rate, rates.rotation * rate) if self.shapes else (0.0, 0.0)
            limits = scale_bounds(self.target.size)
            native.apply_local(
                update, (rates.position * rate, *shape_rates), limits, model.means, model.scales, model.rotations
            )
            np.clip(model.means, low, high, out=model.means)
            change = native.adam(gradients.colors, *color, **settings)  # type: ignore[arg-type]
            model.colors -= np.float32(rates.color * rate) * change
        return model

    def _gradients(self, rasterizer: native.Rasterizer, noisy: Gaussians, ends: Sequence[int]) -> native.Gradients:
        config = self.config
        if len(ends) > 1:
            return evaluate_prefixes(rasterizer, noisy, ends, self.background, self.target, config).gradients
        prepare(rasterizer, noisy, self.target.size, config.blend, config.top_k)
        return evaluate(rasterizer, self.background, self.target, config.loss, show=False).gradients
