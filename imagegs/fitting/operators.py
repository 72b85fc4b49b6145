"""Fitting through a forward operator y = D(render), written in torch (restoration); the loss is measured on y."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ConfigError, ShapeError
from ..gaussians import FloatArray
from ..kernels import native
from .config import Loss
from .losses import Evaluation
from .targets import Target

Operator = Callable[[Any], Any]
"""Takes a torch tensor [C, H, W] with the render, returns one of the observation's shape, differentiably."""


def evaluate_through(
    rasterizer: native.Rasterizer, background: FloatArray, operator: Operator, observed: Target, loss: Loss
) -> tuple[Evaluation, FloatArray]:
    """Renders prepared Gaussians and differentiates the loss of D(render) against the observation.

    Returns:
        The evaluation, its squared error that of D(render); and the loss's gradient in the render [C, H, W].

    Raises:
        ConfigError: the operator's result is no tensor, or has no gradient.
        ShapeError: it has another shape than the observation.
    """
    import torch

    from .rasterization import ssim

    # the definition of the pointwise loss; loaded by name since only fitting may know it
    reference = importlib.import_module("imagegs.kernels.reference")
    image = torch.from_numpy(rasterizer.forward(background, keep=True).copy()).requires_grad_()
    seen = operator(image)
    if not isinstance(seen, torch.Tensor) or not seen.requires_grad:
        raise ConfigError(f"operator: expected a tensor computed from the render by torch, found {type(seen).__name__}")
    if tuple(seen.shape) != observed.pixels.shape:
        raise ShapeError(
            f"operator: expected a result of shape {list(observed.pixels.shape)}, found {list(seen.shape)}"
        )
    wanted = torch.from_numpy(observed.pixels)
    weights = None if observed.weights is None else torch.from_numpy(observed.weights)
    value = reference.pointwise_loss(seen, wanted, weights, loss.l1, loss.l2)
    if loss.ssim > 0:
        value = value + loss.ssim * (1 - ssim(seen, wanted, weights))
    v_image = np.ascontiguousarray(torch.autograd.grad(value, image)[0].numpy(), dtype=np.float32)
    error = float((seen.detach().clamp(0, 1) - wanted).double().square().mean())
    found = rasterizer.backward(background, v_image=v_image)
    return Evaluation(float(value.detach()), error, found), v_image
