"""CUDA sources to loaded kernels: NVRTC compiles at first use, what it makes is kept on disk. Never imports torch.

```
 name.cu + headers ─ source_of ─ key ─► file in the cache? ─ yes, its checksum holds ─► cubin ─ load ─► kernel
                                             └ no, or damaged ─ NVRTC ─ atomic write ─────┘
```

Neither nvcc nor a toolkit is needed: NVRTC is a library that PyTorch's CUDA builds bring along, and ``cuda-core`` is
the extra ``imagegs[cuda]``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import CompileError, DeviceError, ImageError, first_line
from ..files import atomic_write

ENVIRONMENT = "IMAGEGS_CUDA_CACHE"
"""Environment variable with the folder of compiled kernels."""
BLOCK = 256
"""Threads of a block, of every kernel."""
_INCLUDE = re.compile(r'#include "(\w+\.h)"')
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Unit:
    """A source as it is compiled.

    Attributes:
        name: of the file without its ending, ``render`` for ``render.cu``.
        architecture: ``sm_90`` for machine code; ``compute_90`` for PTX, which drivers translate for newer devices.
        macros: name and value of each.
    """

    name: str
    architecture: str
    macros: tuple[tuple[str, int], ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """What NVRTC is told; multiplications and additions are fused only where it is written."""
        return {
            "name": f"{self.name}.cu",
            "arch": self.architecture,
            "std": "c++17",
            "fma": False,
            "ptxas_options": ["-v"],
            "define_macro": [(name, str(value)) for name, value in self.macros] or None,
        }

    @property
    def kind(self) -> str:
        """``cubin`` or ``ptx``."""
        return "ptx" if self.architecture.startswith("compute_") else "cubin"


class Resources(NamedTuple):
    """What a kernel takes: registers of a thread; shared memory of a block and spilled registers of a thread, bytes."""

    registers: int
    shared: int
    spilled: int


@cache
def source_of(name: str) -> str:
    """A source with the package's headers in place; messages of the compiler name the files."""
    folder, seen = files("imagegs").joinpath("kernels"), set()

    def expand(file: str) -> list[str]:
        seen.add(file)
        lines = [f'#line 1 "{file}"']
        for number, line in enumerate(folder.joinpath(file).read_text(encoding="utf-8").splitlines(), 1):
            header = _INCLUDE.fullmatch(line)
            if header is None:
                lines.append("" if line == "#pragma once" else line)
            elif header[1] not in seen:
                lines += [*expand(header[1]), f'#line {number + 1} "{file}"']
            else:
                lines.append("")
        return lines

    return "\n".join(expand(f"{name}.cu")) + "\n"


def compile_unit(unit: Unit) -> tuple[bytes, str]:
    """Machine code, or PTX, and the compiler's log.

    Raises:
        DeviceError: ``cuda-core`` or NVRTC is missing.
        CompileError: NVRTC refuses the source.
    """
    core, _ = _cuda()
    log = io.StringIO()
    try:
        program = core.Program(source_of(unit.name), "c++", core.ProgramOptions(**unit.options))
        code = program.compile(unit.kind, logs=log).code
    except Exception as error:  # what cuda-core raises has no public base
        text = log.getvalue() or str(error)
        raise CompileError(text, f"{unit.name}.cu", (unit.architecture, *map("=".join, _shown(unit)))) from error
    return bytes(code), log.getvalue()


def _shown(unit: Unit) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in unit.macros]


def resources(log: str) -> dict[str, Resources]:
    """What each kernel takes, from the log of its compilation."""
    found = {}
    for part in log.split("Compiling entry function ")[1:]:
        name = part.partition("'")[2].partition("'")[0]
        numbers = (r"Used (\d+) registers", r"(\d+) bytes smem", r"(\d+) bytes spill stores")
        matches = [re.search(pattern, part) for pattern in numbers]
        found[name] = Resources(*(int(match[1]) if match else 0 for match in matches))
    return found


@cache
def compiler_version() -> tuple[int, int]:
    """Version of NVRTC.

    Raises:
        DeviceError: it is missing.
    """
    _, nvrtc = _cuda()
    _, major, minor = nvrtc.nvrtcVersion()
    return int(major), int(minor)


@cache
def known_architectures() -> tuple[int, ...]:
    """Compute capabilities that NVRTC makes code for, 90 for 9.0, rising.

    Raises:
        DeviceError: NVRTC is missing.
    """
    _, nvrtc = _cuda()
    return tuple(sorted(int(number) for number in nvrtc.nvrtcGetSupportedArchs()[1]))


def architecture_for(capability: tuple[int, int]) -> str:
    """What to compile for: machine code where NVRTC makes some that the device runs, else PTX.

    Raises:
        DeviceError: the device is older than any that NVRTC knows, or NVRTC is missing.
    """
    known, (major, minor) = known_architectures(), capability
    fitting = [number for number in known if number // 10 == major and number % 10 <= minor]
    if fitting:
        return f"sm_{fitting[-1]}"
    if 10 * major + minor > known[-1]:
        return f"compute_{known[-1]}"
    least = ".".join(map(str, divmod(known[0], 10)))
    raise DeviceError(f"device: expected a GPU of compute capability {least} or newer, found {major}.{minor}")


def cache_folder() -> Path:
    """Where compiled kernels lie: ``IMAGEGS_CUDA_CACHE``, else the user's cache. It need not exist yet."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("imagegs") / "cuda"


def key_of(unit: Unit) -> str:
    """What a compiled unit depends on, as a name: source, options, architecture and the compiler's version."""
    parts = [source_of(unit.name), unit.options, unit.kind, compiler_version()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_of(unit: Unit) -> bytes:
    """Compiled code, from the cache where it is there and undamaged; a cache that cannot be written is no error.

    Raises:
        DeviceError: ``cuda-core`` or NVRTC is missing.
        CompileError: NVRTC refuses the source.
    """
    path = cache_folder() / f"{unit.name}-{key_of(unit)}.{unit.kind}"
    with contextlib.suppress(OSError):
        kept = path.read_bytes()
        if len(kept) > _DIGEST and hashlib.sha256(kept[_DIGEST:]).digest() == kept[:_DIGEST]:
            return kept[_DIGEST:]
    code, _ = compile_unit(unit)
    with contextlib.suppress(OSError, ImageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, hashlib.sha256(code).digest() + code)
    return code


class _Stream:
    """A stream of another library, as ``cuda-core`` wants to be shown it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


class Launcher:
    """Kernels of one device, loaded when they are first launched."""

    def __init__(self, ordinal: int, capability: tuple[int, int]) -> None:
        self._ordinal, self._architecture = ordinal, architecture_for(capability)
        self._loaded: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}
        self._kernels: dict[tuple[str, str, tuple[tuple[str, int], ...]], Any] = {}
        self._alone = threading.Lock()

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
        """Starts a kernel in a stream, and does not wait for it.

        Args:
            name: of its source, see `Unit`.
            kernel: its name.
            blocks: how many, of ``BLOCK`` threads; none is no launch.
            arguments: NumPy scalars of exactly the parameters' types, ``uintp`` for pointers.
            macros: see `Unit`.
            stream: handle of the stream, 0 for the default one.

        Raises:
            DeviceError: the kernel cannot be compiled, loaded or started.
        """
        if blocks <= 0:
            return
        core, _ = _cuda()
        found = self._kernels.get((name, kernel, macros))
        try:
            if found is None:
                found = self._load(core, name, macros).get_kernel(kernel)
                self._kernels[name, kernel, macros] = found
            core.launch(_Stream(stream), core.LaunchConfig(grid=blocks, block=BLOCK), found, *arguments)
        except DeviceError:
            raise
        except Exception as error:  # what cuda-core raises has no public base
            raise DeviceError(f"device: cuda:{self._ordinal} cannot run {kernel}: {first_line(error)}") from error

    def _load(self, core: Any, name: str, macros: tuple[tuple[str, int], ...]) -> Any:
        with self._alone:
            if (name, macros) not in self._loaded:
                unit = Unit(name, self._architecture, macros)
                core.Device(self._ordinal).set_current()
                make = core.ObjectCode.from_ptx if unit.kind == "ptx" else core.ObjectCode.from_cubin
                self._loaded[name, macros] = make(code_of(unit), name=name)
            return self._loaded[name, macros]


@cache
def _cuda() -> tuple[Any, Any]:
    """``cuda.core`` and the bindings of NVRTC, which is loaded to see that it is there."""
    try:
        core, nvrtc = importlib.import_module("cuda.core"), importlib.import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()
    except ImportError as error:
        raise DeviceError("device: expected the package cuda-core, found none; run: pip install 'imagegs[cuda]'") from (
            error
        )
    except Exception as error:  # the loader's errors are not public
        raise DeviceError(
            f"device: expected NVRTC, which PyTorch's CUDA builds bring along, found none: {first_line(error)}"
        ) from error
    return core, nvrtc
