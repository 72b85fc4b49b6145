"""The compiled operations inside torch's autograd, for losses and forward operators written in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError
from ..gaussians import Blend
from ..kernels import native
from .initialization import Gaussians
from .optimizer import canvas_gradient


def _array(tensor: Tensor) -> native.FloatArray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        scales: Tensor,
        rotations: Tensor,
        colors: Tensor,
        background: Tensor,
        size: tuple[int, int],
        viewport: tuple[float, float, float, float],
        blend: str,
        top_k: int,
    ) -> Tensor:
        rasterizer = native.Rasterizer()
        arrays = [_array(tensor) for tensor in (means, scales, rotations, colors, background)]
        rasterizer.prepare(arrays[0], arrays[1], arrays[2], arrays[3], size, viewport, blend, top_k)
        image = rasterizer.forward(arrays[4], keep=True)
        ctx.rasterizer, ctx.arrays = rasterizer, arrays
        return torch.from_numpy(image.copy())

    @staticmethod
    def backward(ctx: Any, v_image: Tensor) -> Any:
        means, scales, rotations, colors, background = ctx.arrays
        found = ctx.rasterizer.backward(background, v_image=_array(v_image))
        v_means, v_scales, v_rotations = canvas_gradient(Gaussians(means, scales, rotations, colors), found.local)
        gradients = (v_means, v_scales, v_rotations, found.colors, found.background)
        return (*(torch.from_numpy(np.ascontiguousarray(gradient)) for gradient in gradients), None, None, None, None)


def rasterize(
    means: Tensor,
    scales: Tensor,
    rotations: Tensor,
    colors: Tensor,
    background: Tensor,
    size: tuple[int, int],
    viewport: tuple[float, float, float, float] = native.IDENTITY,
    blend: Blend = "normalized",
    top_k: int = 10,
) -> Tensor:
    """Blend the Gaussians at every pixel centre, differentiably.

    Source: Image-GS, arXiv 2407.01866; see ``imagegs.gaussians`` for the weights and blends. Gradients of means, scales
    and rotations are those at fixed choice of the K largest weights.

    Args:
        means: [N, 2] canvas pixels.
        scales: [N, 2] canvas pixels, positive.
        rotations: [N] radians.
        colors: [N, C].
        background: [C].
        size: height and width of the output, pixels.
        viewport: (x0, y0, step_x, step_y); output pixel (column j, row i) looks at (x0 + (j + 0.5) step_x, ...).
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.

    Returns:
        Image [C, H, W] in float32 on the CPU, not clamped.

    Raises:
        ShapeError: tensors disagree on N or C.
    """
    n, channels = len(means), colors.shape[-1]
    wanted = {"means": (n, 2), "scales": (n, 2), "rotations": (n,), "colors": (n, channels), "background": (channels,)}
    for (name, shape), tensor in zip(wanted.items(), (means, scales, rotations, colors, background), strict=True):
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"{name}: expected shape {list(shape)}, found {list(tensor.shape)}")
    image: Tensor = _Rasterize.apply(means, scales, rotations, colors, background, size, viewport, blend, top_k)
    return image


class _Similarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        arrays = _array(image), _array(target), None if weights is None else _array(weights)
        v_image = np.zeros_like(arrays[0])
        total = native.ssim(*arrays, scale=1 / v_image.size, v_image=v_image)
        ctx.save_for_backward(torch.from_numpy(v_image))
        return torch.tensor(total / v_image.size)

    @staticmethod
    def backward(ctx: Any, v_similarity: Tensor) -> Any:
        return v_similarity * ctx.saved_tensors[0], None, None


def ssim(image: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean structural similarity of [C, H, W] images (Wang et al. 2004), zeros outside; differentiable in ``image``.

    Args:
        image: [C, H, W].
        target: the same shape.
        weights: [H, W] of the pixels; None for ones.

    Raises:
        ShapeError: the shapes disagree.
    """
    if image.dim() != 3 or image.shape != target.shape:
        raise ShapeError(f"target: expected the image's shape {list(image.shape)}, found {list(target.shape)}")
    if weights is not None and weights.shape != image.shape[1:]:
        raise ShapeError(f"weights: expected the image's size {list(image.shape[1:])}, found {list(weights.shape)}")
    similarity: Tensor = _Similarity.apply(image, target, weights)
    return similarity
