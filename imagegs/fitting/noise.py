"""What rounding to the lattice will do, as noise: a fit that sees it finds Gaussians that survive it."""

from __future__ import annotations

import numpy as np

from ..codec.lattice import COLOR_UNIT, UNIT, Lattice
from ..gaussians import FloatArray
from .initialization import Gaussians


def perturb(
    model: Gaussians, lattice: Lattice, rng: np.random.Generator, *, shapes: bool = True, means: bool = True
) -> Gaussians:
    """Every parameter moved by up to half its step, evenly distributed (additive uniform noise: Ballé et al. 2017).

    Args:
        model: N Gaussians.
        lattice: whose steps, in each Gaussian's own frame.
        rng: draws 5 + C numbers for each.
        shapes: whether scales and rotations move.
        means: whether means move.
    """
    n, channels = model.colors.shape
    noise = rng.random((n, 5 + channels), dtype=np.float32) - np.float32(0.5)
    area = model.scales[:, 0] * model.scales[:, 1]
    root = np.sqrt(np.sqrt(area))
    moved = model
    if means:
        moved = _moved(moved, noise[:, :2] * (lattice.place_step / UNIT / root)[:, None])
    if shapes:
        moved = _reshaped(moved, noise[:, 2:5], root, lattice)
    steps = np.array(lattice.color_steps, np.float32) / COLOR_UNIT / np.sqrt(area)[:, None]
    shifts = lattice.from_components(noise[:, 5:] * steps)
    colors = np.ascontiguousarray(model.colors + shifts, dtype=np.float32)
    return Gaussians(moved.means, moved.scales, moved.rotations, colors)


def _moved(model: Gaussians, by: FloatArray) -> Gaussians:
    """Means moved in units of the scales, along the axes."""
    c, s = np.cos(model.rotations), np.sin(model.rotations)
    along, across = (by * model.scales).T
    shifts = np.stack([c * along - s * across, s * along + c * across], axis=1)
    means = np.ascontiguousarray(model.means + shifts, dtype=np.float32)
    return Gaussians(means, model.scales, model.rotations, model.colors)


def _reshaped(model: Gaussians, noise: FloatArray, root: FloatArray, lattice: Lattice) -> Gaussians:
    size = noise[:, 0] * (2 * lattice.root_step / UNIT) / root
    octaves = noise[:, 1] * (lattice.ratio_step / UNIT) / root
    spread = np.float32(np.log(2) / 2) * octaves
    scales = model.scales * np.exp(np.stack([size + spread, size - spread], axis=1))
    ratio = model.scales.max(axis=1) / model.scales.min(axis=1)
    turn = np.minimum(lattice.angle_step / UNIT / root / np.maximum(ratio - 1 / ratio, 1e-6), np.pi)
    rotations = model.rotations + noise[:, 2] * turn
    return Gaussians(
        model.means,
        np.ascontiguousarray(scales, dtype=np.float32),
        np.ascontiguousarray(rotations, dtype=np.float32),
        model.colors,
    )


def keep_inside(model: Gaussians, height: int, width: int) -> None:
    """Moves means that have left the canvas back to its edge."""
    np.clip(model.means, [0, 0], [width - 1e-3, height - 1e-3], out=model.means)
