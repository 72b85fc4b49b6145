"""The colours that fit best for fixed geometry, found on a GPU; see ``losses.solve_colors``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..gaussians import FloatArray
from ..kernels import cuda
from ..kernels.native import IDENTITY
from .config import FitConfig
from .initialization import Gaussians
from .loop import Scene

_LEAST = 1e-3
"""Of a Gaussian's coverage, which the preconditioner divides by."""
_FLAT = 1e-30
"""A curvature or slope that nothing is divided by."""


def solve_colors_on(device: cuda.Device, model: Gaussians, scene: Scene, config: FitConfig) -> FloatArray:
    """Colours [N, C] that minimise the weighted squared error; preconditioned conjugate gradients.

    Args:
        device: the GPU.
        model: N Gaussians, whose colours are the first guess.
        scene: the picture.
        config: its blend, K and number of iterations.
    """

    def moved(array: FloatArray) -> Tensor:
        return torch.tensor(array, device=device.torch)

    means, scales, rotations, colors = (moved(array) for array in model.arrays())
    target, background = moved(scene.target.pixels), moved(scene.background)
    weights = None if scene.target.weights is None else moved(scene.target.weights)
    black = torch.zeros_like(background)
    rasterizer = cuda.CudaRasterizer(device)
    rasterizer.prepare(means, scales, rotations, colors, scene.target.size, IDENTITY, config.blend, config.top_k)

    def render(of: Tensor, ground: Tensor) -> Tensor:
        rasterizer.recolor(of.contiguous())
        return rasterizer.forward(ground, keep=True)

    def gather(image: Tensor) -> Tensor:
        """The transposed blend, applied to an image."""
        scaled = image if weights is None else image * weights
        return rasterizer.backward(background, v_image=scaled.contiguous()).colors

    def ratio(above: Tensor, below: Tensor) -> Tensor:
        return torch.where(below > _FLAT, above / below.clamp(min=_FLAT), 0.0)

    residual = gather(target - render(colors, background))
    coverage = gather(torch.ones_like(render(colors, background)))[:, :1]
    inverse = 1 / coverage.clamp(min=_LEAST)  # the row sums bound the diagonal: weights of a pixel add up to one
    scaled = inverse * residual
    direction = scaled.clone()
    slope = (residual * scaled).sum(0, dtype=torch.float64)
    for _ in range(config.color_solve):
        product = gather(render(direction, black))
        length = ratio(slope, (direction * product).sum(0, dtype=torch.float64)).float()
        colors = colors + length * direction
        residual = residual - length * product
        scaled = inverse * residual
        before, slope = slope, (residual * scaled).sum(0, dtype=torch.float64)
        direction = scaled + ratio(slope, before).float() * direction
    return np.array(colors.cpu().numpy())
