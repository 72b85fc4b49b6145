"""The plain baseline of GaussianImage: a picture as 3D Gaussians that one camera sees, by gsplat; beside this package.

python benchmarks/plain_3dgs.py [--quick]

It needs a GPU and gsplat (`pip install 'imagegs[gsplat]'`), which compiles its own kernels; without either it says so
and leaves with status 1.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import generated, kodak, pixels, write

from imagegs import devices, render
from imagegs.errors import DeviceError
from imagegs.fitting.config import make_config
from imagegs.fitting.fit import run

RATE = 0.01
"""Of Adam, for everything, as in gsplat's example of fitting a picture."""
DISTANCE = 1.0
"""From the camera to the plane in which the Gaussians begin; the picture is one wide there."""


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    error = float(np.mean((np.clip(found, 0, 1) - wanted) ** 2, dtype=np.float64))
    return -10 * math.log10(max(error, 1e-12))


def fit_plain(
    picture: np.ndarray, count: int, steps: int, rasterization: Callable[..., Any], device: torch.device, seed: int = 0
) -> tuple[np.ndarray, float]:
    """The picture that 3D Gaussians come to, and the seconds that their fit took.

    Args:
        picture: [3, H, W].
        count: of the Gaussians.
        steps: of Adam.
        rasterization: gsplat's.
        device: the GPU.
        seed: of the start.
    """
    random = torch.Generator(device).manual_seed(seed)
    _, height, width = picture.shape
    wanted = torch.tensor(picture, device=device).permute(1, 2, 0)
    focal = width * DISTANCE
    camera = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]], device=device)
    view = torch.eye(4, device=device)
    view[2, 3] = DISTANCE

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=random, device=device)

    means = (uniform(count, 3) - 0.5) * torch.tensor([1.0, height / width, 0.02], device=device)
    spacing = math.sqrt(height / width / count)
    parts = [means, torch.full((count, 3), math.log(spacing / 2), device=device), uniform(count, 4) - 0.5]
    parts += [torch.zeros(count, device=device), torch.logit(uniform(count, 3).clamp(0.01, 0.99))]
    for part in parts:
        part.requires_grad_()
    optimizer = torch.optim.Adam(parts, RATE)

    def draw() -> torch.Tensor:
        means, log_scales, turns, opacities, colors = parts
        turns = turns / turns.norm(dim=-1, keepdim=True)
        drawn = rasterization(
            means,
            turns,
            log_scales.exp(),
            opacities.sigmoid(),
            colors.sigmoid(),
            view[None],
            camera[None],
            width,
            height,
            packed=False,
        )
        picture: torch.Tensor = drawn[0][0]
        return picture

    began = time.perf_counter()
    for _ in range(steps):
        loss = (draw() - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = draw().permute(2, 0, 1).cpu().numpy()
    return found, time.perf_counter() - began


def measure(rasterization: Callable[..., Any], quick: bool) -> dict[str, Any]:
    device = torch.device("cuda:0")
    paths = kodak(1 if quick else None)
    pictures = {path.name: pixels(path) for path in paths} or {"generated 512x768": generated(512, 768)}
    rows = []
    for name, picture in pictures.items():
        row: dict[str, Any] = {"picture": name}
        for count in (5000,) if quick else (5000, 10_000):
            found, seconds = fit_plain(picture, count, 500 if quick else 5000, rasterization, device)
            ours = run(picture, make_config(picture.shape[1:], gaussians=count), device="cuda:0")
            row[str(count)] = {
                "plain_3dgs": {"psnr": psnr(found, picture), "seconds": seconds, "numbers": 14 * count},
                "ours": {"psnr": psnr(render(ours.gaussians), picture), "seconds": ours.seconds, "numbers": 8 * count},
            }
        print(row)
        rows.append(row)
    return {"pictures": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one picture, few steps")
    arguments = parser.parse_args()
    try:
        gsplat = importlib.import_module("gsplat")
        devices.open_gpu(0)
    except ImportError:
        print(
            "plain_3dgs.py: expected the package gsplat, found none; run: pip install 'imagegs[gsplat]'",
            file=sys.stderr,
        )
        sys.exit(1)
    except DeviceError as error:
        print(f"plain_3dgs.py: {error}", file=sys.stderr)
        sys.exit(1)
    command = "python benchmarks/plain_3dgs.py" + " --quick" * arguments.quick
    write("plain_3dgs", command, measure(gsplat.rasterization, arguments.quick))
