"""The last steps before rounding: shapes are rounded already, means and colours adapt to them."""

from __future__ import annotations

import numpy as np

from .. import devices
from ..codec.lattice import Lattice
from ..gaussians import FloatArray
from ..kernels import native
from .config import FitConfig
from .initialization import Gaussians
from .levels import evaluate_prefixes, level_ends
from .losses import evaluate, prepare
from .noise import keep_inside, perturb
from .optimizer import scale_bounds
from .targets import Target

RATE = 0.1
"""Of the fit's rates: a refit only settles."""
HOLD, DECAY = 0.4, 30.0


def refit(
    model: Gaussians,
    lattice: Lattice,
    target: Target,
    background: FloatArray,
    config: FitConfig,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
) -> Gaussians:
    """Moves means and colours for fixed scales and rotations, under the noise of their rounding still to come.

    Where ``config`` has levels, for every prefix of them.
    """
    ends = level_ends(config.level_shares, len(model)) if config.level_shares else []
    rasterizer, rng = devices.rasterizer(device), np.random.default_rng(seed)
    model = model.copy()
    n, channels = model.colors.shape
    local = np.zeros((2, n, 5), np.float32)
    color = np.zeros((2, n, channels), np.float32)
    height, width = target.size
    for step in range(steps):
        noisy = perturb(model, lattice, rng, shapes=False)
        if ends:
            gradients = evaluate_prefixes(rasterizer, noisy, ends, background, target, config).gradients
        else:
            prepare(rasterizer, noisy, target.size, config.blend, config.top_k)
            gradients = evaluate(rasterizer, background, target, config.loss, show=False).gradients
        progress = step / steps
        rate = RATE * (1.0 if progress < HOLD else DECAY ** (-(progress - HOLD) / (1 - HOLD)))
        settings = {"betas": config.betas, "epsilon": config.epsilon, "step": step + 1}
        update = native.adam(gradients.local, *local, **settings)  # type: ignore[arg-type]
        rates = (config.rates.position * rate, 0.0, 0.0)
        native.apply_local(update, rates, scale_bounds(target.size), model.means, model.scales, model.rotations)
        keep_inside(model, height, width)
        change = native.adam(gradients.colors, *color, **settings)  # type: ignore[arg-type]
        model.colors -= np.float32(config.rates.color * rate) * change
    return model
