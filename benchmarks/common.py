"""What every benchmark shares: pictures, the spike, timing, and JSON with machine, versions and commit."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from imagegs import read_image
from imagegs.kernels import native

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
RESULTS = Path(__file__).parent / "results"
THREADS = 2


def kodak(limit: int | None = None) -> list[Path]:
    """The Kodak pictures at hand; none where there are none."""
    return sorted((SHARED / "data" / "kodak").glob("kodim*.png"))[:limit]


def pixels(path: Path) -> np.ndarray:
    return read_image(path).pixels


def generated(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with smooth parts, edges and texture at every size, float32 [3, H, W]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / 256
    image = np.zeros((3, height, width), np.float32)
    for _ in range(12):
        fx, fy, phase = *rng.normal(0, 6, 2), rng.uniform(0, 6.28)
        wave = np.sin(fx * x + fy * y + phase) > rng.uniform(-0.8, 0.8)
        image += rng.uniform(0, 0.12, 3)[:, None, None].astype(np.float32) * wave
    image += 0.05 * np.sin(40 * x) * np.cos(37 * y)
    return np.clip(image, 0, 1).astype(np.float32)


def timed(work: Callable[[], Any], repeats: int = 15, warm_up: int = 2) -> dict[str, float]:
    """Median and spread of a call, milliseconds."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    low, _, high = statistics.quantiles(times, n=4)
    return {"median_ms": round(statistics.median(times), 3), "iqr_ms": round(high - low, 3), "repeats": repeats}


def alternated(works: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, dict[str, float]]:
    """The same for several calls that take turns, so that a busy moment of the machine meets them all.

    A turn waits until the threads of the one before have gone to sleep (OpenMP's spin on for milliseconds and would
    hold a core against the next), calls once to warm up, and takes the mean of the next few calls.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    calls = 4
    for _ in range(rounds):
        for name, work in works.items():
            time.sleep(0.03)
            work()
            began = time.perf_counter()
            for _ in range(calls):
                work()
            times[name].append(1e3 * (time.perf_counter() - began) / calls)
    result = {}
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        result[name] = {"median_ms": round(middle, 3), "iqr_ms": round(high - low, 3), "repeats": rounds}
    return result


@cache
def spike() -> ModuleType | None:
    """The CPU experiment in ../shared/spike, compiled into a temporary folder; None where it is not at hand."""
    source = SHARED / "spike"
    if not (source / "kernels.cpp").is_file():
        return None
    folder = Path(tempfile.mkdtemp(prefix="spike-"))
    command = ["g++", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run([*command, source / "kernels.cpp", "-o", folder / "kernels.so"], check=True)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    spec = importlib.util.spec_from_file_location("spike_fit", source / "fit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = Path.cwd()
    os.chdir(folder)  # it loads ./kernels.so
    try:
        spec.loader.exec_module(module)
    finally:
        os.chdir(before)
    return module


def commit() -> str:
    """The commit that is measured, and whether the package's sources differ from it."""
    return _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "imagegs") else "")


def write(name: str, command: str, results: Any, folder: Path = RESULTS) -> Path:
    """Writes NAME.json with what is needed to judge them, into benchmarks/results unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {
        "command": command,
        "commit": commit(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()},
        "kernels": native.instruction_set(),
        "threads": THREADS,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("imagegs", "numpy", "torch")},
        "results": results,
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} written", file=sys.stderr)
    return path


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
