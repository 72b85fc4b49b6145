"""Fits, steps and renders on a GPU: times, the share of the device's roof, and a start with and without kept kernels.

python benchmarks/gpu.py [--quick]

Without a GPU it says so and leaves with status 1.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import THREADS, generated, kodak, pixels, write

from imagegs import devices
from imagegs.errors import DeviceError
from imagegs.fitting.config import FitConfig, make_config
from imagegs.fitting.fit import run
from imagegs.fitting.initialization import Gaussians
from imagegs.fitting.loop import Loop
from imagegs.fitting.many import fit_many
from imagegs.fitting.resident import Resident
from imagegs.fitting.targets import make_target
from imagegs.kernels import cuda, cuda_program, native

GOALS = {
    "kodak_49152_seconds_to_46_db": 1.0,
    "kodak_5000_seconds_to_the_cpus_quality": 0.3,
    "step_2048_10000_ms": 0.6,
    "step_2048_50000_ms": 1.2,
    "render_2048_ms": 0.12,
    "render_kodak_per_second": 20_000,
}
PIXEL_FLOPS = 12
"""Of a weight: two differences, four fused multiply-adds (8), a product, the exponential counted as one."""
MOMENT_FLOPS = 12
"""Of a backward pass for each pixel of a Gaussian, besides the weight and the colours."""


def wait(device: cuda.Device) -> None:
    if device.torch.type == "cuda":
        torch.cuda.synchronize(device.torch)


def timed(device: cuda.Device, work: Callable[[], Any], repeats: int, calls: int = 1) -> dict[str, float]:
    """Median and spread of a call, milliseconds; waits for the device before and after each group of calls."""
    work()
    wait(device)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        wait(device)
        times.append(1e3 * (time.perf_counter() - began) / calls)
    low, middle, high = statistics.quantiles(times, n=4)
    return {"median_ms": round(middle, 4), "iqr_ms": round(high - low, 4), "repeats": repeats, "calls": calls}


def start_of(picture: np.ndarray, config: FitConfig) -> tuple[Gaussians, Loop, Any]:
    """The first Gaussians of a fit, all of them."""
    target = make_target(picture)
    loop = Loop(target, target, config, None)
    state = loop.begin()
    return state.model, loop, state


def steps(device: cuda.Device, picture: np.ndarray, count: int, repeats: int) -> dict[str, Any]:
    """Forward, loss, backward and Adam of ``count`` Gaussians, a graph for each step, 50 of them between two waits."""
    config = make_config(picture.shape[1:], gaussians=count, steps=1000, start_fraction=1.0)
    model, loop, state = start_of(picture, config)
    scene = loop.scene
    work = Resident(device, [scene], config, [count])
    work.load([model], [state.optimizer.moments], [None], [float("inf")])
    clocks = np.tile(np.array([[0.01, 0.5, 0.5]], np.float32), (work.most_steps, 1))
    times = timed(device, lambda: work.advance(clocks, 0, noisy=False, settled=False), repeats)
    per_step = {**times, "median_ms": times["median_ms"] / len(clocks), "iqr_ms": times["iqr_ms"] / len(clocks)}
    return {"step": per_step, **kernels(device, model, picture, scene.background, repeats)}


def kernels(
    device: cuda.Device, model: Gaussians, picture: np.ndarray, background: np.ndarray, repeats: int
) -> dict[str, Any]:
    """The parts of a step on their own, and what they do with the device's arithmetic and memory."""
    size, channels = picture.shape[1:], len(picture)
    moved = [torch.tensor(array, device=device.torch) for array in model.arrays()]
    ground, target = (torch.tensor(array, device=device.torch) for array in (background, picture))
    rasterizer = cuda.CudaRasterizer(device)
    rasterizer.prepare(*moved, size)
    pairs = int(rasterizer.pairs)
    room = int(1.5 * pairs)
    loss = {"target": target, "l2": 1.0}
    found: dict[str, Any] = {
        "pairs": pairs,
        "binning": timed(device, lambda: rasterizer.prepare(*moved, size, capacity=room), repeats, 20),
        "forward": timed(device, lambda: rasterizer.forward(ground, keep=True), repeats, 20),
        "backward": timed(device, lambda: rasterizer.backward(ground, **loss), repeats, 20),
    }
    drawn = graphed(device, lambda: (rasterizer.prepare(*moved, size, capacity=room), rasterizer.forward(ground)))
    found["render"] = timed(device, drawn, repeats, 50)
    work = pairs * cuda.TILE**2  # at most: a backward pass leaves out rows that a Gaussian does not reach
    counted = {
        "forward": work * (PIXEL_FLOPS + 2 * channels + 1),
        "backward": work * (PIXEL_FLOPS + MOMENT_FLOPS + 4 * channels),
    }
    planes = 4 * picture.size
    moved_bytes = {
        "forward": planes + planes // channels + pairs * (12 + 40 + 4 * channels),
        "backward": 2 * planes + planes // channels + 2 * pairs * 4 * (cuda.MOMENTS + channels) + 52 * pairs,
    }
    roof = roofs(device)
    for part in ("forward", "backward"):
        seconds = found[part]["median_ms"] / 1e3
        arithmetic, memory = counted[part] / seconds, moved_bytes[part] / seconds
        found[part] |= {"gflops": round(arithmetic / 1e9, 1), "gbytes_per_second": round(memory / 1e9, 1)}
        if roof:
            shares = {"arithmetic": arithmetic / roof["flops"], "memory": memory / roof["bytes_per_second"]}
            found[part] |= {
                "share_of_roof": {name: round(share, 4) for name, share in shares.items()},
                "limiter": max(shares, key=shares.__getitem__),
            }
    return found


def roofs(device: cuda.Device) -> dict[str, float]:
    """Float32 operations and bytes a second that the device is built for, from its properties."""
    if device.torch.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device.torch)
    lanes = 64 if properties.major in (7,) or (properties.major, properties.minor) == (8, 0) else 128
    clock, memory = getattr(properties, "clock_rate", 0), getattr(properties, "memory_clock_rate", 0)
    if not clock or not memory:
        return {}
    return {
        "flops": 2.0 * lanes * properties.multi_processor_count * clock * 1e3,
        "bytes_per_second": 2.0 * memory * 1e3 * properties.memory_bus_width / 8,
    }


def graphed(device: cuda.Device, work: Callable[[], Any]) -> Callable[[], Any]:
    """The same as a CUDA graph."""
    if device.torch.type != "cuda":
        return work
    work()
    wait(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def fits(device: str, paths: list[Any], quick: bool) -> dict[str, Any]:
    """How long fits take to a quality: 46 dB with 49,152 Gaussians, the CPU's with 5,000."""
    pictures = {path.name: pixels(path) for path in paths} or {"generated 512x768": generated(512, 768)}
    rows = []
    for name, picture in pictures.items():
        size = picture.shape[1:]
        many = run(picture, make_config(size, gaussians=49_152, steps=1000, patience=0), device=device)
        with native.threads(THREADS):
            cpu = run(picture, make_config(size, gaussians=5000), device="cpu")
        few = run(picture, make_config(size, gaussians=5000), device=device)
        row = {
            "picture": name,
            "49152": {"psnr": many.psnr, "seconds": many.seconds, "seconds_to_46_db": reached(many.history, 46.0)},
            "5000": {
                "psnr": few.psnr,
                "seconds": few.seconds,
                "seconds_to_the_cpus_quality": reached(few.history, cpu.psnr),
            },
            "cpu_5000": {"psnr": cpu.psnr, "seconds": cpu.seconds},
        }
        rows.append(row)
        print(row)
        if quick:
            break
    return {"pictures": rows}


def reached(history: list[tuple[int, float, float, int]], psnr: float) -> float | None:
    """Seconds until a fit was this good; None if it never was."""
    return next((round(seconds, 4) for _, seconds, found, _ in history if found >= psnr), None)


def many(device: str, paths: list[Any], count: int, gaussians: int, steps: int) -> dict[str, Any]:
    """Pictures a second, fitted together and one by one."""
    pictures = [pixels(path) for path in paths] or [generated(512, 768)]
    repeated = [pictures[k % len(pictures)] for k in range(count)]
    began = time.perf_counter()
    fit_many(repeated, gaussians, steps=steps, device=device)
    together = count / (time.perf_counter() - began)
    alone = repeated[: max(1, count // 16)]
    began = time.perf_counter()
    for picture in alone:
        run(picture, make_config(picture.shape[1:], gaussians=gaussians, steps=steps, color_solve=0), device=device)
    single = len(alone) / (time.perf_counter() - began)
    return {
        "pictures": count,
        "gaussians": gaussians,
        "steps": steps,
        "together_per_second": round(together, 3),
        "alone_per_second": round(single, 3),
        "ratio": round(together / single, 2),
    }


def starts() -> dict[str, float]:
    """From the start of a process to the end of its first step, without kept kernels and with them; seconds."""
    script = (
        "import imagegs, numpy\n"
        "from imagegs.fitting.fit import run\n"
        "from imagegs.fitting.config import make_config\n"
        "run(numpy.random.rand(3, 512, 768).astype('float32'),"
        " make_config((512, 768), gaussians=1000, steps=1), device='cuda')\n"
    )
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        import os

        for name in ("cold", "warm"):
            began = time.perf_counter()
            environment = {**os.environ, cuda_program.ENVIRONMENT: folder}
            subprocess.run([sys.executable, "-c", script], check=True, env=environment)
            times[name] = round(time.perf_counter() - began, 2)
    return times


def measure(device: cuda.Device, name: str, quick: bool, side: int = 2048) -> dict[str, Any]:
    repeats = 5 if quick else 15
    square = generated(side, side)
    found: dict[str, Any] = {"goals": GOALS, "device": description(device)}
    counts = (10_000, 50_000) if side >= 2048 else (100,)
    found["steps"] = {f"{side}x{side}, {count}": steps(device, square, count, repeats) for count in counts}
    paths = kodak(2 if quick else None)
    picture = pixels(paths[0]) if paths else generated(512, 768)
    found["kodak_step"] = {str(count): steps(device, picture, count, repeats) for count in (5000, 49_152)}
    found["fits"] = fits(name, paths, quick)
    found["many"] = many(name, paths, 16 if quick else 256, 5000, 200)
    if device.torch.type == "cuda":
        found["start_seconds"] = starts()
    return found


def description(device: cuda.Device) -> dict[str, Any]:
    if device.torch.type != "cuda":
        return {"name": "none"}
    properties = torch.cuda.get_device_properties(device.torch)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "nvrtc": ".".join(map(str, cuda_program.compiler_version())),
        "roof": roofs(device),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one picture, few repeats")
    arguments = parser.parse_args()
    try:
        gpu = devices.open_gpu(0)
    except DeviceError as error:
        print(f"benchmarks/gpu.py measures a GPU, and there is none to measure: {error}", file=sys.stderr)
        sys.exit(1)
    write("gpu", "python benchmarks/gpu.py" + " --quick" * arguments.quick, measure(gpu, "cuda:0", arguments.quick))
