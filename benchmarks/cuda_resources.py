"""Registers, shared memory and spills of every CUDA kernel, by architecture; needs NVRTC, but neither driver nor GPU.

python benchmarks/cuda_resources.py
"""

from __future__ import annotations

from typing import Any

from common import write

from imagegs.kernels import cuda_program
from imagegs.kernels.cuda_program import Unit
from imagegs.kernels.native import BLEND_IDS

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")
DRAWN = {
    "normalized, 3 channels": (3, "normalized", 1),
    "topk of 10, 3 channels": (3, "topk", 10),
    "sum, 3 channels": (3, "sum", 1),
    "normalized, 32 channels": (32, "normalized", 1),
    "topk of 32, 32 channels": (32, "topk", 32),
}


def units(architecture: str) -> dict[str, Unit]:
    """What is compiled, by a name for people."""
    found = {name: Unit(name, architecture) for name in ("tiles", "gradients", "ssim", "adam")}
    for name, (channels, blend, top_k) in DRAWN.items():
        macros = (("IMAGEGS_CHANNELS", channels), ("IMAGEGS_BLEND", BLEND_IDS[blend]), ("IMAGEGS_TOP_K", top_k))
        found[f"render: {name}"] = Unit("render", architecture, macros)
    return found


def measure() -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for architecture in ARCHITECTURES:
        for name, unit in units(architecture).items():
            code, log = cuda_program.compile_unit(unit)
            kernels = {kernel: taken._asdict() for kernel, taken in sorted(cuda_program.resources(log).items())}
            rows.setdefault(name, {})[architecture] = {"bytes": len(code), "kernels": kernels}
            print(architecture, name, {kernel: taken["registers"] for kernel, taken in kernels.items()})
    return {"nvrtc": ".".join(map(str, cuda_program.compiler_version())), "threads": cuda_program.BLOCK, "units": rows}


if __name__ == "__main__":
    write("cuda_resources", "python benchmarks/cuda_resources.py", measure())
