"""Where work is done: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. PyTorch is loaded only beside an NVIDIA driver.

A GPU is used once it has drawn and differentiated a small picture as the CPU does.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DeviceError, ImageGSWarning, one_line
from .kernels import native

if TYPE_CHECKING:
    from .kernels.cuda import Device

ENVIRONMENT = "IMAGEGS_DEVICE"
"""Environment variable that says what ``auto`` means; by default the first GPU if it can be used, else the CPU."""
_CUDA = re.compile(r"cuda(?::(\d{1,4}))?")
_TOLERANCE = 2e-3
"""By how much a GPU that works may differ from the CPU, beside the largest value."""


def check_name(device: str) -> None:
    """Refuses what is no name of a device.

    Raises:
        DeviceError: it is none.
    """
    if device not in ("auto", "cpu") and _CUDA.fullmatch(str(device)) is None:
        raise DeviceError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}")


def resolve(device: str) -> str:
    """The device that a name means, ``cpu`` or ``cuda:N``; see `ENVIRONMENT` for ``auto``.

    Raises:
        DeviceError: it is no name of a device, or the GPU cannot be used.
    """
    check_name(device)
    if device == "auto" and os.environ.get(ENVIRONMENT):
        device = os.environ[ENVIRONMENT]
        check_name(device)
    if device == "cpu" or (device == "auto" and not driver_is_there()):
        return "cpu"
    if device == "auto":
        reason = _why_not()
        return "cpu" if reason else "cuda:0"
    number = _CUDA.fullmatch(device)
    assert number is not None
    ordinal = int(number[1] or 0)
    open_gpu(ordinal)
    return f"cuda:{ordinal}"


@cache
def _why_not() -> str:
    """Why the first GPU is not used, said once; empty where it is."""
    try:
        open_gpu(0)
    except DeviceError as error:
        warnings.warn(f"the CPU does the work: {error}", ImageGSWarning, stacklevel=3)
        return str(error)
    return ""


def driver_is_there() -> bool:
    """Whether there is an NVIDIA driver, without loading PyTorch."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def open_gpu(ordinal: int) -> Device:
    """A GPU that works.

    Raises:
        DeviceError: there is no driver or one that is too old, PyTorch was built without CUDA, there is no such GPU,
            its architecture is not served, the kernels cannot be compiled, or it draws something else than the CPU.
    """
    if not driver_is_there():
        raise DeviceError(f"device: expected an NVIDIA driver for cuda:{ordinal}, found none; use the device cpu")
    return _opened(ordinal)


def rasterizer(device: str) -> native.Rasterizer:
    """A rasteriser on a device as `resolve` names it, for NumPy arrays.

    Raises:
        DeviceError: the GPU cannot be used.
    """
    if device == "cpu":
        return native.Rasterizer()
    cuda = importlib.import_module("imagegs.kernels.cuda")
    made: native.Rasterizer = cuda.ArrayRasterizer(open_gpu(int(device.partition(":")[2])))
    return made


@cache
def _opened(ordinal: int) -> Device:
    # by name, since only fitting may know torch
    torch = importlib.import_module("torch")
    if torch.version.cuda is None:
        raise DeviceError(f"device: expected a build of PyTorch with CUDA, found {torch.__version__}; see pytorch.org")
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:  # a driver that is too old, or GPUs that are hidden
        raise DeviceError(f"device: cuda:{ordinal} cannot be used: {one_line(error)[:300]}") from error
    if ordinal >= count:
        there = "no GPU" if count == 0 else f"{count}, cuda:0 to cuda:{count - 1}" if count > 1 else "one, cuda:0"
        raise DeviceError(f"device: expected a GPU that is there, found cuda:{ordinal} of {there}")
    cuda = importlib.import_module("imagegs.kernels.cuda")
    device: Device = cuda.open_device(ordinal)
    if native.available():
        try:
            _check(cuda, torch, device)
        except (RuntimeError, AssertionError) as error:  # torch's, where its build does not serve this GPU
            raise DeviceError(f"device: cuda:{ordinal} cannot be used: {one_line(error)[:300]}") from error
    return device


def _check(cuda: Any, torch: Any, device: Device) -> None:
    """Draws and differentiates a small picture, and compares with the CPU."""
    random = np.random.default_rng(0)
    size, n = (40, 56), 60
    arrays = [
        random.uniform((0, 0), size[::-1], (n, 2)),
        random.uniform(0.5, 8, (n, 2)),
        random.uniform(0, 3, n),
        random.uniform(0, 1, (n, 3)),
    ]
    model = [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]
    background, target = np.full(3, 0.5, np.float32), random.uniform(0, 1, (3, *size)).astype(np.float32)
    theirs = native.Rasterizer()
    theirs.prepare(model[0], model[1], model[2], model[3], size)
    wanted = theirs.backward(background, target=target, l2=1.0, fused=True)
    ours = cuda.CudaRasterizer(device)
    ours.prepare(*(torch.from_numpy(array).to(device.torch) for array in model), size)
    on_device = (torch.from_numpy(array).to(device.torch) for array in (background, target))
    found = ours.backward(next(on_device), target=next(on_device), l2=1.0, fused=True)
    pairs = [(ours.image, theirs.image), (found.local, wanted.local), (found.colors, wanted.colors)]
    worst = max(float(np.abs(got.cpu().numpy() - want).max() / np.abs(want).max()) for got, want in pairs)
    if not worst < _TOLERANCE:
        raise DeviceError(
            f"device: {device.torch} draws another picture than the CPU, which differs by {worst:.1e}, "
            f"expected less than {_TOLERANCE:g}; use the device cpu, and report this"
        )
