"""A picture as a stack of translucent layers, which is all that splat viewers and SVG can draw.

They put one ellipse over another, ``C ← (1 - a) C + a c`` with a = OPACITY · exp(-d²/2), from back to front; the blends
of this package are sums, in which nothing covers anything. So the picture is approximated:

1. Larger Gaussians lie behind smaller ones, which then keep their details.
2. Behind them all lies a regular grid of wide Gaussians, one for every eight, so that nothing shines through.
3. Once the opacities are known, the picture is linear in the colours c. They are solved for anew, in [0, 1], by least
   squares against the picture itself (accelerated projected gradient steps, Beck and Teboulle 2009).

Pictures larger than half a million pixels are solved for at that size. Measured in docs/converting.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..errors import ConfigError
from ..gaussians import FloatArray, Gaussians2D
from ..rendering import render
from .contents import Array, Contents, half_extents, touching

OPACITY = 0.99
"""Opacity at a centre: the most that the rasteriser of 3D Gaussian splatting draws."""
FAINTEST = 1 / 255
"""An opacity below this is drawn by no viewer."""
REACH = math.sqrt(2 * math.log(OPACITY / FAINTEST))
"""Where the opacity falls below FAINTEST, standard deviations."""

_SOLVED_PIXELS = 1 << 19
_GRID_SHARE = 8
_GRID_WIDTH = 0.7
_STEPS = 25
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True, eq=False)
class Layers:
    """Ellipses from back to front.

    Attributes:
        means: [L, 2] centres, canvas pixels.
        scales: [L, 2] standard deviations, canvas pixels.
        rotations: [L] radians, from +x towards +y.
        colors: [L, 3] RGB.
        width: of the canvas, pixels.
        height: of the canvas, pixels.
    """

    means: FloatArray
    scales: FloatArray
    rotations: FloatArray
    colors: FloatArray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.means)


def stack_layers(contents: Contents, path: str, *, refit: bool = True, limit: int | None = None) -> Layers:
    """The layers that come closest to a picture.

    Args:
        contents: the picture; grey or RGB.
        path: the file that the layers are for, in messages.
        refit: solve for colours, upon a grid; False leaves colours as they are stored and adds nothing.
        limit: the most Gaussians to take, the largest first; None takes all.

    Returns:
        The layers, more of them than Gaussians with ``refit``.

    Raises:
        ConfigError: the picture has transparency, or is a texture stack.
    """
    gaussians = _in_colors(contents, path)
    order = np.argsort(-gaussians.scales.prod(axis=1), kind="stable")[:limit]
    if not refit:
        return _layers(gaussians.take(order), gaussians.colors[order])
    own = gaussians.take(order)
    side = float(max(gaussians.width, gaussians.height))
    own = own.replace(scales=np.minimum(own.scales, side))  # wider ones are flat across the canvas as well
    stack = _with_grid(own.take(touching(own, REACH)))
    factor = min(1.0, math.sqrt(_SOLVED_PIXELS / (gaussians.width * gaussians.height)))
    rows, columns = (max(1, round(n * factor)) for n in (gaussians.height, gaussians.width))
    picture = np.clip(render(gaussians, rows, columns), 0, 1)
    return _layers(stack, _solve_colors(stack, picture))


def _layers(gaussians: Gaussians2D, colors: FloatArray) -> Layers:
    means, scales, rotations = gaussians.means, gaussians.scales, gaussians.rotations
    return Layers(means, scales, rotations, colors, gaussians.width, gaussians.height)


def _in_colors(contents: Contents, path: str) -> Gaussians2D:
    """The Gaussians with three colours; grey becomes three times the same."""
    gaussians, info = contents.gaussians, contents.info
    stack = info.stack if info is not None else gaussians.channels > 4
    if stack:
        raise ConfigError(
            f"{path}: expected one picture to draw, found a texture stack of {gaussians.channels} channels"
        )
    if gaussians.channels in {2, 4}:
        raise ConfigError(f"{path}: expected grey or RGB, found transparency, which layers cannot keep")
    if gaussians.channels == 3:
        return gaussians
    return gaussians.replace(
        colors=np.repeat(gaussians.colors, 3, axis=1), background=np.repeat(gaussians.background, 3)
    )


def _with_grid(gaussians: Gaussians2D) -> Gaussians2D:
    """The Gaussians in front of a grid of wide ones, whose colours are black."""
    width, height = gaussians.width, gaussians.height
    spacing = math.sqrt(width * height / max(1, len(gaussians) / _GRID_SHARE))
    columns, rows = max(1, round(width / spacing)), max(1, round(height / spacing))
    y, x = np.mgrid[0:rows, 0:columns] + 0.5
    cell = np.array([width / columns, height / rows], np.float32)
    means = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32) * cell
    n = len(means)
    return gaussians.replace(
        means=np.concatenate([means, gaussians.means]),
        scales=np.concatenate([np.tile(_GRID_WIDTH * cell, (n, 1)), gaussians.scales]),
        rotations=np.concatenate([np.zeros(n, np.float32), gaussians.rotations]),
        colors=np.concatenate([np.zeros((n, 3), np.float32), gaussians.colors]),
    )


def _solve_colors(stack: Gaussians2D, picture: FloatArray) -> FloatArray:
    """Colours [L, 3] in [0, 1] with which the stack comes closest to the picture [3, H, W]."""
    height, width = picture.shape[1:]
    step = np.array([stack.width / width, stack.height / height])
    shares = _shares(stack, height, width, step)
    target = picture.reshape(3, -1).T.astype(np.float64)
    column, row = np.clip(stack.means / step, 0, [width - 1, height - 1]).astype(int).T
    colors = ahead = picture[:, row, column].T.astype(np.float64)
    # shares are positive, so that this diagonal bounds the matrix of the normal equations: steps of it converge
    rate = 1 / (shares.T @ (shares @ np.ones(len(stack))) + _NEGLIGIBLE)
    momentum = 1.0
    for _ in range(_STEPS):
        gradient = shares.T @ (shares @ ahead - target)
        moved = np.clip(ahead - rate[:, None] * gradient, 0, 1)
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * (moved - colors)
        colors, momentum = moved, following
    return colors.astype(np.float32)


def _shares(stack: Gaussians2D, height: int, width: int, step: Array) -> sparse.csr_matrix:
    """How much of each pixel [H W, L] each layer is: its opacity times what the layers in front of it let through."""
    extents = REACH * half_extents(stack)
    low = np.clip(np.floor((stack.means - extents) / step), 0, [width, height]).astype(int)
    high = np.clip(np.ceil((stack.means + extents) / step), 0, [width, height]).astype(int)
    through = np.ones((height, width))
    pixels, layers, values = [], [], []
    for layer in range(len(stack) - 1, -1, -1):
        (x0, y0), (x1, y1) = low[layer], high[layer]
        if x0 >= x1 or y0 >= y1:
            continue
        dx = (np.arange(x0, x1) + 0.5) * step[0] - stack.means[layer, 0]
        dy = ((np.arange(y0, y1) + 0.5) * step[1] - stack.means[layer, 1])[:, None]
        c, s = math.cos(stack.rotations[layer]), math.sin(stack.rotations[layer])
        u, v = (c * dx + s * dy) / stack.scales[layer, 0], (c * dy - s * dx) / stack.scales[layer, 1]
        opacity = OPACITY * np.exp(-0.5 * (u * u + v * v))
        opacity[opacity < FAINTEST] = 0
        window = through[y0:y1, x0:x1]
        share = opacity * window
        window *= 1 - opacity
        row, column = np.nonzero(share > _NEGLIGIBLE)
        pixels.append((row + y0) * width + column + x0)
        layers.append(np.full(len(row), layer))
        values.append(share[row, column])
    at = (np.concatenate(pixels), np.concatenate(layers)) if values else (np.zeros(0, int), np.zeros(0, int))
    return sparse.csr_matrix((np.concatenate(values or [np.zeros(0)]), at), (height * width, len(stack)))
