"""CUDA kernels compiled by the C++ compiler and run on the CPU, see ``cuda_shim.h``; and a GPU that is made of them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from imagegs import devices
from imagegs.kernels import cuda, cuda_program

HERE = Path(__file__).parent
ENTRY = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(')
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="needs Linux and g++ or clang++, to run kernels on the CPU"
)
_folder = tempfile.TemporaryDirectory(prefix="imagegs-cuda-")


def kernels_of(name: str) -> list[str]:
    """Names of the kernels of a source."""
    return ENTRY.findall(cuda_program.source_of(name))


def build(name: str, macros: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
    """The library of a source, compiled once."""
    launchers = "".join(f"IMAGEGS_LAUNCHER({kernel})\n" for kernel in kernels_of(name))
    text = f'#include "{HERE / "cuda_shim.h"}"\n{cuda_program.source_of(name)}\n{launchers}'
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-march=native", "-fPIC", "-shared"]
    options += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function"]
    options += [f"-D{macro}={value}" for macro, value in macros]
    key = hashlib.sha256(repr((text, options)).encode()).hexdigest()[:16]
    library = Path(_folder.name) / f"{name}-{key}.so"
    if not library.exists():
        source = library.with_suffix(".cpp")
        source.write_text(text, encoding="utf-8")
        assert COMPILER is not None
        done = subprocess.run([COMPILER, *options, source, "-o", library], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


class HostLauncher:
    """Takes the place of ``cuda_program.Launcher``; ``seed`` orders threads and blocks, 0 as they are numbered."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.launched: list[str] = []

    def launch(
        self,
        name: str,
        kernel: str,
        blocks: int,
        arguments: Sequence[np.generic],
        *,
        macros: tuple[tuple[str, int], ...] = (),
        stream: int = 0,
    ) -> None:
        self.launched.append(kernel)
        if blocks <= 0:
            return
        library = build(name, macros)
        sizes = (ctypes.c_int * 64)()
        count = getattr(library, f"sizes_{kernel}")(sizes)
        assert [argument.nbytes for argument in arguments] == list(sizes[:count]), kernel
        cells = [np.array([argument]) for argument in arguments]
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        status = getattr(library, f"launch_{kernel}")(blocks, cuda_program.BLOCK, self.seed, len(cells), pointers)
        assert status == 0, f"{kernel}: a barrier that not every thread reaches"


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[cuda.Device]:
    """A machine with one GPU, whose kernels the CPU runs."""
    monkeypatch.delenv(devices.ENVIRONMENT, raising=False)
    monkeypatch.setattr(devices, "driver_is_there", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    device = cuda.Device(torch.device("cpu"), HostLauncher())
    monkeypatch.setattr(cuda, "open_device", lambda ordinal: device)
    yield device
    devices._opened.cache_clear()
    devices._why_not.cache_clear()
