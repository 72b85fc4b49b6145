"""What the learned models share: pictures at a working size, weights into modules, packages that may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from imagegs import DeviceError, WeightsError

from .maps import FloatArray

SHOWN = 3
"""How many wrong names an error lists."""


def required(package: str) -> Any:
    """An optional package of the saliency models.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise DeviceError(
            f"saliency models: expected {package}, which is not installed; pip install 'imagegs[saliency]'"
        ) from error


def resized_bytes(
    rgb: FloatArray, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.BILINEAR
) -> npt.NDArray[np.uint8]:
    """A picture as networks saw it in training: 8 bits, resized by Pillow, whose filters average where it shrinks.

    Args:
        rgb: [3, H, W] in [0, 1].
        size: height and width wanted, pixels.
        resample: how pixels are weighed.

    Returns:
        [height, width, 3].
    """
    values = np.rint(np.clip(np.moveaxis(rgb, 0, -1), 0, 1) * np.float32(255)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(values))
    return np.asarray(image.resize((size[1], size[0]), resample))


def unwrapped(loaded: Mapping[str, Any], where: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name: out of ``{"state_dict": ...}`` and without the prefix ``module.``.

    Raises:
        WeightsError: it holds no tensors.
    """
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    named = inner.items() if isinstance(inner, Mapping) else ()
    found = {str(name).removeprefix("module."): value for name, value in named if isinstance(value, torch.Tensor)}
    if not found:
        raise WeightsError(f"{where}: expected tensors by name, found none")
    return found


def fill(module: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Give a network its weights; names that it does not know are left aside, and so are counts of batches.

    Args:
        module: the network; changed only where all of its weights fit.
        state: its tensors by name.
        where: the file, for errors.

    Raises:
        WeightsError: names are missing, shapes differ or values are not finite; it says which and how many.
    """
    own = {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in state]
    if missing:
        raise WeightsError(f"{where}: expected {len(own)} tensors by name, {len(missing)} missing: {_first(missing)}")
    wrong = [
        f"{name} {list(state[name].shape)} in place of {list(value.shape)}"
        for name, value in own.items()
        if state[name].shape != value.shape
    ]
    if wrong:
        raise WeightsError(f"{where}: expected the shapes of the network, {len(wrong)} differ: {_first(wrong)}")
    broken = [name for name in own if not bool(torch.isfinite(state[name]).all())]
    if broken:
        raise WeightsError(f"{where}: expected finite numbers, {len(broken)} tensors hold others: {_first(broken)}")
    module.load_state_dict({name: state[name] for name in own}, strict=False)


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
