"""Files of weights as tensors by name, without running anything that is in them."""

from __future__ import annotations

import importlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DeviceError, WeightsError

_LOADABLE = (".pth", ".pt", ".bin", ".npz", ".safetensors")
_REFUSAL = "expected tensors and plain values alone, found {}, which could run code; nothing of it was run"
_DAMAGED = "expected a file of weights, found a damaged one or another kind"
# Arrays of an archive may be deflated; what they claim to inflate to is bounded by this many times the file's size.
_INFLATION = 100
_ALWAYS_ALLOWED = 1 << 24


def load_state_dict(path: Path) -> dict[str, Any]:
    """Read weights without running anything that is in the file.

    ``.safetensors`` is read by its library, ``.npz`` as numbers alone (arrays of text are left out), everything else
    by ``torch.load(weights_only=True)``, which makes tensors and plain values and refuses all other objects.

    Args:
        path: the file.

    Returns:
        Tensors by name, on the CPU; a dictionary within the dictionary (``state_dict``) stays as it is.

    Raises:
        DeviceError: the file needs safetensors, which is not installed.
        WeightsError: the file cannot be read, is damaged, is no dictionary of weights, or wants to run code.
    """
    path = Path(path)
    _check_start(path)
    read = {".safetensors": _read_safetensors, ".npz": _read_npz}.get(path.suffix, _read_torch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = read(path)
    except (WeightsError, DeviceError):
        raise
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\w[\w.]*\w)", str(error))
        raise WeightsError(f"{path}: {_REFUSAL.format(name[1] if name else 'other objects')}") from error
    except Exception as error:  # what damaged files make these libraries raise has no common base
        raise WeightsError(f"{path}: {_DAMAGED}") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        raise WeightsError(f"{path}: expected a dictionary of tensors by name, found {type(loaded).__name__}")
    return dict(loaded)


def check_readable(path: Path) -> None:
    """Refuse what is certainly no file of weights; kinds that only their own model reads are looked at briefly.

    Raises:
        DeviceError: the file needs safetensors, which is not installed.
        WeightsError: it is none.
    """
    if path.suffix in _LOADABLE:
        load_state_dict(path)
    else:
        _check_start(path)


def required(package: str) -> Any:
    """An optional package.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise DeviceError(
            f"weights: expected {name}, which is not installed; pip install 'imagegs[saliency]'"
        ) from error


def reason(error: OSError) -> str:
    """What the system says, in lower case as the rest of a line."""
    return (error.strerror or type(error).__name__).lower()


def _check_start(path: Path) -> None:
    """Refuse what is often found in the place of weights, in words that say what it is."""
    try:
        if path.exists() and not path.is_file():
            raise WeightsError(f"{path}: expected a file of weights, found a folder, a device or a pipe")
        with open(path, "rb") as file:
            start = file.read(256)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {reason(error)}") from error
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise WeightsError(f"{path}: expected a file of weights, found an empty one")
    if text.startswith(b"<"):
        raise WeightsError(f"{path}: expected a file of weights, found a web page")
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: expected a file of weights, found a pointer of Git LFS to one")


def _read_safetensors(path: Path) -> Any:
    return required("safetensors.torch").load_file(path, device="cpu")


def _read_npz(path: Path) -> Any:
    import numpy as np
    import torch

    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > max(_ALWAYS_ALLOWED, _INFLATION * path.stat().st_size):
        raise WeightsError(f"{path}: expected arrays of up to {_INFLATION} times the file, found {claimed:,} bytes")
    found = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                array = arrays[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise WeightsError(f"{path}: {name}: {_REFUSAL.format('other objects')}") from error
            if array.dtype.kind in "biufc":
                found[name] = torch.from_numpy(np.asarray(array, array.dtype.newbyteorder("=")))
    return found


def _read_torch(path: Path) -> Any:
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise WeightsError(f"{path}: expected a checkpoint as torch writes it, found a compressed archive")
    else:
        with open(path, "rb") as file:
            if file.read(1) != pickle.PROTO:  # torch would take any bytes for the commands of an old pickle
                raise WeightsError(f"{path}: {_DAMAGED}")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
