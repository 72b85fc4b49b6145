"""What every benchmark shares: pictures, the spike, timing, and JSON with machine, versions and commit."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from imagegs import read_image
from imagegs.bench.clocks import alternated, timed
from imagegs.bench.machine import commit, processor
from imagegs.kernels import native

__all__ = ["alternated", "commit", "generated", "kodak", "pixels", "processor", "spike", "timed", "write"]

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


def write(name: str, command: str, results: Any, folder: Path = RESULTS) -> Path:
    """Writes NAME.json with what is needed to judge them, into benchmarks/results unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {
        "command": command,
        "commit": commit(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "kernels": native.instruction_set(),
        "threads": THREADS,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("imagegs", "numpy", "torch")},
        "results": results,
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} written", file=sys.stderr)
    return path
