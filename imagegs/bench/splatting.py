"""3D Gaussian splatting of one picture by the package gsplat, on a GPU.

As gsplat's own example of image fitting (`examples/image_fitting.py` of nerfstudio-project/gsplat) sets it: one camera
with a field of view of 90 degrees, everything optimised by Adam at 0.01 under the squared error. Differences: Gaussians
start over the whole picture, in one plane, at the size of their spacing, and sizes are logarithms.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..gaussians import FloatArray

RATE, DISTANCE = 0.01, 8.0


@dataclass(frozen=True, eq=False)
class SplatFit:
    """What came of it.

    Attributes:
        pixels: [3, H, W].
        steps: taken.
        seconds: of the steps, until the GPU was through.
        render_s: of one picture, likewise, after a first one.
    """

    pixels: FloatArray
    steps: int
    seconds: float
    render_s: float


def missing() -> str | None:
    """Why it cannot run here, or None."""
    if importlib.util.find_spec("gsplat") is None:
        return "3D Gaussian splatting is left out: it needs gsplat (pip install 'imagegs[gsplat]') and a GPU"
    if not torch.cuda.is_available():
        return "3D Gaussian splatting is left out: gsplat needs a GPU that PyTorch can use, found none"
    return None


def fit_splats(pixels: FloatArray, count: int, *, steps: int, seed: int = 0, device: str = "cuda") -> SplatFit:
    """Fit 3D Gaussians to a picture [3, H, W].

    Args:
        pixels: in [0, 1].
        count: Gaussians.
        steps: of Adam.
        seed: of where they start.
        device: where it runs.
    """
    gsplat: Any = importlib.import_module("gsplat")
    target = torch.from_numpy(np.ascontiguousarray(pixels.transpose(1, 2, 0))).to(device)
    height, width = pixels.shape[1:]
    focal = 0.5 * width / math.tan(math.pi / 4)
    view, camera = torch.eye(4, device=device), torch.eye(3, device=device)
    view[2, 3] = DISTANCE
    camera[0, 0] = camera[1, 1] = focal
    camera[0, 2], camera[1, 2] = width / 2, height / 2
    random = torch.Generator().manual_seed(seed)
    extent = torch.tensor([width, height, 0.0]) * DISTANCE / focal
    spacing = math.sqrt(height * width / count) * DISTANCE / focal
    start = [
        (torch.rand((count, 3), generator=random) - 0.5) * extent,
        torch.full((count, 3), math.log(0.5 * spacing)),
        torch.randn((count, 4), generator=random),
        torch.zeros(count),
        torch.randn((count, 3), generator=random) * 0.1,
    ]
    parameters = [values.to(device).requires_grad_() for values in start]
    optimizer = torch.optim.Adam(parameters, lr=RATE)

    def draw() -> torch.Tensor:
        means, log_scales, rotations, opacities, colors = parameters
        found: torch.Tensor = gsplat.rasterization(
            means,
            rotations / rotations.norm(dim=-1, keepdim=True),
            log_scales.exp(),
            torch.sigmoid(opacities),
            torch.sigmoid(colors),
            view[None],
            camera[None],
            width,
            height,
        )[0]
        return found[0]

    with torch.no_grad():
        draw()  # compiles its kernels where they are not
    _wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        torch.square(draw() - target).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _wait(device)
    took = time.perf_counter() - began
    with torch.no_grad():
        draw()
        _wait(device)
        began = time.perf_counter()
        image = draw()
        _wait(device)
        render_s = time.perf_counter() - began
    return SplatFit(np.ascontiguousarray(image.permute(2, 0, 1).cpu().numpy()), steps, took, render_s)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
