"""Cost of a step against pixels, 256² to 4096², and against the number of Gaussians times their mean covered area.

python benchmarks/scaling.py [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, THREADS, generated, timed, write
from matplotlib.figure import Figure

from imagegs.kernels import native
from imagegs.kernels.constants import RADIUS

PIXELS_PER_GAUSSIAN = 80
FIXED_SIDE = 1024


def gaussians(count: int, side: int, spacing: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Gaussians spread over a square, of the size and anisotropy that fits end with, in units of ``spacing``."""
    rng = np.random.default_rng(seed)
    means = (rng.random((count, 2)) * side).astype(np.float32)
    scales = (0.42 * spacing * np.exp(rng.normal(0, 0.5, (count, 2)))).astype(np.float32)
    return means, scales, rng.uniform(0, 3.14, count).astype(np.float32), rng.random((count, 3)).astype(np.float32)


def covered(scales: np.ndarray) -> float:
    """Mean area of a Gaussian's support, pixels."""
    return float(np.pi * RADIUS**2 * np.mean(scales.prod(axis=1, dtype=np.float64)))


def step(side: int, arrays: tuple[np.ndarray, ...], repeats: int) -> dict[str, float]:
    picture, background = generated(side, side), np.zeros(3, np.float32)
    rasterizer = native.Rasterizer()

    def work() -> None:
        rasterizer.prepare(*arrays, (side, side))
        rasterizer.backward(background, target=picture, l2=1.0, fused=True)

    return timed(work, repeats)


def measure(quick: bool) -> dict[str, Any]:
    by_pixels, by_area = [], []
    for side in (256, 512, 1024) if quick else (256, 512, 1024, 2048, 4096):
        count = side * side // PIXELS_PER_GAUSSIAN
        arrays = gaussians(count, side, PIXELS_PER_GAUSSIAN**0.5)
        time = step(side, arrays, 5 if side > 1000 else 15)
        row = {"side": side, "pixels": side * side, "gaussians": count, **time}
        row["ns_per_pixel"] = round(1e6 * time["median_ms"] / side**2, 2)
        by_pixels.append(row)
        print(row, flush=True)
    for count in (1000, 4000, 16000) if quick else (1000, 2000, 4000, 8000, 16000, 32000, 64000):
        arrays = gaussians(count, FIXED_SIDE, 9.0)
        time = step(FIXED_SIDE, arrays, 7)
        area = count * covered(arrays[1])
        row = {"side": FIXED_SIDE, "gaussians": count, "covered_pixels": round(area), **time}
        row["ns_per_covered_pixel"] = round(1e6 * time["median_ms"] / area, 3)
        by_area.append(row)
        print(row, flush=True)
    return {"by_pixels": by_pixels, "by_area": by_area}


def draw(results: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, rows, key, label in (
        (left, results["by_pixels"], "pixels", f"pixels, one Gaussian per {PIXELS_PER_GAUSSIAN}"),
        (right, results["by_area"], "covered_pixels", f"N x mean covered area, {FIXED_SIDE}² pixels"),
    ):
        x, y = np.array([row[key] for row in rows]), np.array([row["median_ms"] for row in rows])
        axes.loglog(x, y, "o-", label="measured")
        axes.loglog(x, y[-1] * x / x[-1], "--", color="gray", label="linear")
        axes.set(xlabel=label, ylabel="forward + backward, ms")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 1024² only")
    arguments = parser.parse_args()
    with native.threads(THREADS):
        found = measure(arguments.quick)
    write("scaling", "python benchmarks/scaling.py" + " --quick" * arguments.quick, found)
    draw(found, RESULTS / "scaling.svg")
