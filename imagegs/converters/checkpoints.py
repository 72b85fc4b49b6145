"""Checkpoints as ``torch.save`` writes them, read without running anything that is in them.

The only module outside of the fitting wing, but for metrics, that imports torch, and only while a checkpoint is read.
``torch.load(weights_only=True)`` makes tensors and plain values and refuses every other object of a pickle. What a
file claims is held against its size, so that a small one cannot ask for much memory.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError
from .contents import Array

_SIZE_KEYS = (("img_w", "img_h"), ("width", "height"), ("W", "H"))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The named tensors of a checkpoint.

    Attributes:
        path: the file, for messages.
        tensors: by name, as torch made them.
        size: width and height of the canvas, pixels, where the file says it.
        file_size: bytes; no tensor is larger.
    """

    path: str
    tensors: Mapping[str, Any]
    size: tuple[int, int] | None
    file_size: int

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def array(self, name: str, *shape: int | None) -> Array:
        """A tensor of numbers as an array.

        Args:
            name: its name.
            shape: its sides; None is any.

        Raises:
            ImageError: it is missing, of another shape or kind, or larger than the file.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ImageError(f"{self.path}: expected a tensor {name!r}, found none")
        found = tuple(tensor.shape)
        if len(found) != len(shape) or any(side not in (None, n) for side, n in zip(shape, found, strict=True)):
            wanted = " x ".join("N" if side is None else str(side) for side in shape)
            raise ImageError(
                f"{self.path}: {name}: expected {wanted}, found {' x '.join(map(str, found)) or 'a number'}"
            )
        plain = str(tensor.layout) == "torch.strided" and tensor.device.type == "cpu"
        if not plain or not tensor.is_floating_point():
            raise ImageError(f"{self.path}: {name}: expected floating-point numbers, found {tensor.dtype}")
        if tensor.numel() * tensor.element_size() > self.file_size:
            raise ImageError(
                f"{self.path}: {name}: expected no more numbers than the file holds, found {found[0]:,} rows"
            )
        values: Array = tensor.detach().double().numpy()
        return values


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: a file that ``torch.save`` wrote: a dictionary of tensors, or one with such a dictionary as its
            ``state_dict``.

    Raises:
        ImageError: the file cannot be read, is no such checkpoint, or holds objects other than tensors and values.
    """
    name, path = str(path), Path(path)
    _check_archive(name, path)
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ImageError(
            f"{name}: expected tensors and plain values alone, found other objects, which could run code; not loaded"
        ) from error
    except Exception as error:  # what damaged archives make torch raise has no common base
        raise ImageError(f"{name}: expected a checkpoint, found a damaged one") from error
    if not isinstance(loaded, Mapping):
        raise ImageError(f"{name}: expected a dictionary of tensors, found {type(loaded).__name__}")
    state = loaded.get("state_dict", loaded)
    if not isinstance(state, Mapping):
        raise ImageError(f"{name}: state_dict: expected a dictionary of tensors, found {type(state).__name__}")
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    return Checkpoint(name, tensors, _stated_size(loaded), path.stat().st_size)


def _check_archive(name: str, path: Path) -> None:
    """Refuse what is no uncompressed archive before torch sees it: old formats, and archives that inflate."""
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{name}: expected a file, found a folder, a device or a pipe")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {(error.strerror or type(error).__name__).lower()}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ImageError(f"{name}: expected a checkpoint of torch 1.6 or newer, found another file") from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ImageError(f"{name}: expected a checkpoint as torch writes it, found a compressed archive")


def _stated_size(loaded: Mapping[Any, Any]) -> tuple[int, int] | None:
    for keys in _SIZE_KEYS:
        width, height = (loaded.get(key) for key in keys)
        if type(width) is int and type(height) is int:
            return width, height
    return None
