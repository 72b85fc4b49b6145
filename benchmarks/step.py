"""Time of one forward and backward pass: ours beside the spike's, and beside the PyTorch definition.

python benchmarks/step.py [--quick]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from common import THREADS, alternated, generated, kodak, pixels, spike, timed, write

from imagegs.fitting.config import make_config
from imagegs.fitting.fit import run
from imagegs.kernels import native, reference

GAUSSIANS = 5000


def measure(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(THREADS)
    paths = kodak(1 if quick else 3)
    names = [path.name for path in paths] or ["generated 512x768"]
    rows = []
    for name, picture in zip(names, map(pixels, paths) if paths else [generated(512, 768)], strict=True):
        size = picture.shape[1:]
        fitted = run(picture, make_config(size, gaussians=GAUSSIANS, steps=300)).gaussians
        row: dict[str, Any] = {"picture": name, "gaussians": GAUSSIANS}
        for blend, top_k in (("normalized", 1), ("topk", 10)):
            works = {
                "ours": our_step(fitted, picture, blend, top_k),
                "ours_unfused": our_step(fitted, picture, blend, top_k, fused=False),
            }
            other = spike_step(fitted, picture, top_k)
            if other is not None:
                works["spike"] = other
            times: dict[str, Any] = alternated(works, 9 if quick else 25)
            if other is not None:
                for name in ("ours", "ours_unfused"):
                    times[f"spike_over_{name}"] = round(times["spike"]["median_ms"] / times[name]["median_ms"], 2)
            row[blend] = times
        rows.append(row)
        print(row)
    slow = reference.Rasterizer()
    slow.prepare(fitted.means.copy(), fitted.scales.copy(), fitted.rotations.copy(), fitted.colors.copy(), size)
    background = fitted.background.copy()
    definition = timed(lambda: slow.backward(background, target=picture, l2=1.0, fused=True), 2 if quick else 5, 0)
    ours = rows[-1]["normalized"]["ours"]["median_ms"]
    ratio = round(definition["median_ms"] / ours, 1)
    print(f"reference.py {definition['median_ms']:.0f} ms, {ratio} times ours")
    return {"steps": rows, "reference": {**definition, "picture": names[-1], "reference_over_ours": ratio}}


def our_step(fitted: Any, picture: np.ndarray, blend: str, top_k: int, fused: bool = True) -> Any:
    rasterizer = native.Rasterizer()
    arrays = (fitted.means, fitted.scales, fitted.rotations, fitted.colors)

    def work() -> None:
        rasterizer.prepare(*arrays, picture.shape[1:], native.IDENTITY, blend, top_k)
        if not fused:
            rasterizer.forward(fitted.background, keep=True)
        rasterizer.backward(fitted.background, target=picture, l2=1.0, fused=fused)

    return work


def spike_step(fitted: Any, picture: np.ndarray, top_k: int) -> Any:
    """The spike's forward and backward pass alone, the gradient of its loss computed beforehand."""
    module = spike()
    if module is None:
        return None
    image = np.ascontiguousarray(picture.transpose(1, 2, 0))
    renderer = module.Renderer(*image.shape[:2], top_k)
    arrays = (fitted.means - 0.5, 1 / fitted.scales, fitted.rotations[:, None].copy(), fitted.colors.copy())
    arrays = tuple(np.ascontiguousarray(array, dtype=np.float32) for array in arrays)
    v_image = ((renderer.forward(*arrays) - image) / image.size).astype(np.float32)

    def work() -> None:
        renderer.forward(*arrays)
        renderer.backward(*arrays, v_image)

    return work


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one picture, few repeats")
    arguments = parser.parse_args()
    with native.threads(THREADS):
        write("step", "python benchmarks/step.py" + " --quick" * arguments.quick, measure(arguments.quick))
