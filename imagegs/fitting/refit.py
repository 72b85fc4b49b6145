"""The last steps before rounding: shapes are rounded already, means and colours adapt; or parts are joined."""

from __future__ import annotations

from collections.abc import Sequence

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
from .shapes import scale_bounds
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
    *,
    joining: bool = False,
) -> Gaussians:
    """Moves means and colours for fixed scales and rotations, under the noise of their rounding still to come.

    For every prefix that ends with ``ends``, or with the levels of ``config``, where there are such.

    Args:
        model: N Gaussians.
        lattice: whose rounding comes.
        target: what they are to show.
        background: [C].
        config: of the fit.
        steps: how many.
        seed: of the noise.
        bounds: of the means; by default the canvas.
        ends: how many Gaussians the prefixes have.
        device: what renders.
        joining: the Gaussians were fitted in parts: they move faster, and their shapes do too, so that they fit each
            other.
    """
    rates, peak = config.rates, JOIN_RATE if joining else RATE
    if config.level_shares and not ends:
        ends = level_ends(config.level_shares, len(model))
    rasterizer, rng = devices.rasterizer(device), np.random.default_rng(seed)
    model = model.copy()
    n, channels = model.colors.shape
    local = np.zeros((2, n, 5), np.float32)
    color = np.zeros((2, n, channels), np.float32)
    low, high = bounds or (np.zeros(2, np.float32), np.array(target.size[::-1], np.float32) - 1e-3)
    limits = scale_bounds(target.size)
    for step in range(steps):
        noisy = perturb(model, lattice, rng, shapes=joining)
        if len(ends) > 1:
            gradients = evaluate_prefixes(rasterizer, noisy, ends, background, target, config).gradients
        else:
            prepare(rasterizer, noisy, target.size, config.blend, config.top_k)
            gradients = evaluate(rasterizer, background, target, config.loss, show=False).gradients
        progress = step / steps
        rate = peak * (1.0 if progress < HOLD else DECAY ** (-(progress - HOLD) / (1 - HOLD)))
        settings = {"betas": config.betas, "epsilon": config.epsilon, "step": step + 1}
        update = native.adam(gradients.local, *local, **settings)  # type: ignore[arg-type]
        shape_rates = (rates.scale * rate, rates.rotation * rate) if joining else (0.0, 0.0)
        native.apply_local(
            update, (rates.position * rate, *shape_rates), limits, model.means, model.scales, model.rotations
        )
        np.clip(model.means, low, high, out=model.means)
        change = native.adam(gradients.colors, *color, **settings)  # type: ignore[arg-type]
        model.colors -= np.float32(rates.color * rate) * change
    return model
