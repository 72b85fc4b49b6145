"""What a simple port to the CPU does: every Gaussian at every pixel, with an opacity, in plain PyTorch, by Adam.

A pixel is the sum over all Gaussians of opacity times falloff times colour. Nothing is sorted, culled or cut off, so
that a step costs pixels times Gaussians; the pixels are taken in groups of rows, which bounds the memory and changes no
gradient. It is here to be compared with, and is not tuned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from ..gaussians import FloatArray

LEAST = -40.0
"""Of the exponent: 4e-18 of a Gaussian is nothing, while numbers that are almost 0 cost processors many times more."""
PAIRS = 1 << 22
"""Gaussians times pixels that are held at once."""
RATE = 0.01
"""Of Adam: colours and opacities as logits, sizes as logarithms, places in units of the picture's longer side."""

SHARE = 1 / (2 * torch.pi)
"""Opacity of the start: Gaussians as wide as their spacing then add up to about one at each pixel."""


@dataclass(frozen=True, eq=False)
class DenseFit:
    """What came of it.

    Attributes:
        pixels: [3, H, W] that the Gaussians make.
        steps: taken.
        seconds: of the steps.
        render_s: of one picture.
    """

    pixels: FloatArray
    steps: int
    seconds: float
    render_s: float


def fit_dense(
    pixels: FloatArray, count: int, *, steps: int, seconds: float, seed: int = 0, threads: int | None = None
) -> DenseFit:
    """Fit Gaussians until a number of steps, or some time, is over; one step at least.

    Args:
        pixels: [3, H, W] in [0, 1].
        count: Gaussians.
        steps: at most.
        seconds: no step begins after these.
        seed: of where they start.
        threads: that PyTorch uses; None leaves their number as it is.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _fit(pixels, count, steps, seconds, seed)
    finally:
        torch.set_num_threads(before)


def _fit(pixels: FloatArray, count: int, steps: int, seconds: float, seed: int) -> DenseFit:
    target = torch.from_numpy(np.ascontiguousarray(pixels)).permute(1, 2, 0)
    height, width, channels = target.shape
    side = max(height, width)
    random = torch.Generator().manual_seed(seed)
    places = torch.rand((count, 2), generator=random) * torch.tensor([width / side, height / side])
    spacing = (height * width / count) ** 0.5 / side
    parameters = [
        places,
        torch.full((count, 2), spacing).log(),
        torch.rand(count, generator=random) * torch.pi,
        torch.zeros((count, channels)),
        torch.full((count,), SHARE).logit(),
    ]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    rows = max(1, PAIRS // (count * width))
    began, done = time.perf_counter(), 0
    while done < steps and (not done or time.perf_counter() - began < seconds):
        optimizer.zero_grad()
        for top in range(0, height, rows):
            part = target[top : top + rows]
            loss = torch.square(_draw(parameters, top, part.shape[0], width, side) - part).sum() / target.numel()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done += 1
    took = time.perf_counter() - began
    began = time.perf_counter()
    with torch.no_grad():
        parts = [_draw(parameters, top, min(rows, height - top), width, side) for top in range(0, height, rows)]
        found = torch.cat(parts).permute(2, 0, 1).contiguous().numpy()
    return DenseFit(found, done, took, time.perf_counter() - began)


def _draw(parameters: list[torch.Tensor], top: int, rows: int, width: int, side: int) -> torch.Tensor:
    """Some rows of the picture [rows, W, C]."""
    places, log_scales, rotations, colors, opacities = parameters
    y = (torch.arange(top, top + rows) + 0.5) / side
    x = (torch.arange(width) + 0.5) / side
    dx = x[None, :, None] - places[:, 0]
    dy = y[:, None, None] - places[:, 1]
    cos, sin = torch.cos(rotations), torch.sin(rotations)
    along = (dx * cos + dy * sin) * torch.exp(-log_scales[:, 0])
    across = (dy * cos - dx * sin) * torch.exp(-log_scales[:, 1])
    falloff = torch.exp((-0.5 * (along * along + across * across)).clamp(min=LEAST))
    return falloff @ (torch.sigmoid(opacities)[:, None] * torch.sigmoid(colors))
