"""FastGaze: a small convolutional network that predicts where people look (122,000 weights, Apache-2.0).

```
picture, long side 640 px ─ 3 x 3 convolutions, four halvings ─ 1 x 1 ─ blur ─ q ─ exp(2 (q - max q) + centre) ─ map
```

Source: Theis, Korshunova, Tejani and Huszár, "Faster gaze prediction with dense networks and Fisher pruning", arXiv
1801.05787; the weights are `fastgaze.vxm` of twitter-research/image-crop-analysis. That file gives layers and weights.
How a picture enters is documented nowhere; of the conventions tried, only this one agrees with fixations: BGR from 0
to 255 less the usual means of ImageNet.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from imagegs import WeightsError
from imagegs.pretrained import file_of, load_state_dict

from .maps import FloatArray, Predictor, resize, stretch
from .networks import resized_bytes

NAME = "fastgaze"
"""Entry of the weights' manifest."""
LONG_SIDE = 640
STEP = 16
"""Sides are multiples of it, pixels: the network halves four times."""
BGR_MEANS = np.array([103.939, 116.779, 123.68], np.float32)
LARGEST_WINDOW = 255
BLUR_WINDOW, BLUR_SIGMA = 19, 3.0
"""Of the last layer, where the file holds arrays alone; pixels of the output."""
SHARPNESS = 2.0
"""Exponent of the density: what is likely stands out more."""

_MAGIC = b"\x01tPM"


@dataclass(frozen=True)
class Layer:
    """One step of the network.

    Attributes:
        kind: ``conv``, ``maxpool`` or ``gaussian``.
        weight: of ``conv`` [outputs, inputs, k, k], else empty.
        bias: of ``conv`` [outputs], else empty.
        slope: of ``conv``: what negative values are multiplied by.
        size: side of the window, pixels.
        sigma: of ``gaussian``: standard deviation, pixels.
    """

    kind: str
    weight: Tensor = field(default_factory=lambda: torch.empty(0))
    bias: Tensor = field(default_factory=lambda: torch.empty(0))
    slope: float = 0.0
    size: int = 0
    sigma: float = 0.0


def read_layers(path: Path) -> tuple[Layer, ...]:
    """The network of `fastgaze.vxm` as published, or of `fastgaze.npz`, which holds the same numbers.

    Raises:
        WeightsError: the file is damaged or of another network; it says where.
    """
    layers = _npz_layers(path) if path.suffix == ".npz" else _vxm_layers(path)
    channels, shrink = 3, 1
    for place, layer in enumerate(layers):
        where = f"{path}: layer {place}"
        if layer.kind == "conv":
            _check_convolution(layer, channels, where)
            channels = len(layer.bias)
        elif not 1 <= layer.size <= LARGEST_WINDOW or (layer.kind == "gaussian" and not 0 < layer.sigma < math.inf):
            raise WeightsError(f"{where}: expected a window, found {layer.size} pixels with sigma {layer.sigma:g}")
        shrink *= layer.size if layer.kind == "maxpool" else 1
    if channels != 1 or shrink != STEP:
        raise WeightsError(f"{path}: expected 1 channel at 1/{STEP} at the end, found {channels} at 1/{shrink}")
    return layers


def log_density(rgb: FloatArray, layers: Sequence[Layer]) -> FloatArray:
    """The network's output [h, w]: the logarithm of a density of gazes, 40 values along the long side."""
    size = _working_size(rgb.shape[1], rgb.shape[2])
    seen = resized_bytes(rgb, size, Image.Resampling.BICUBIC)[:, :, ::-1].astype(np.float32) - BGR_MEANS
    with torch.inference_mode():
        values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(seen, -1, 0)))[None]
        for layer in layers:
            values = _apply(layer, values)
        return np.asarray(values[0, 0].numpy(), dtype=np.float32)


def load(folder: Path | None = None, center: bool = True) -> Predictor:
    """FastGaze with its published weights.

    Args:
        folder: of the weights; by default the environment's or the user's cache.
        center: multiply by a Gaussian around the middle, a quarter of each side wide: people look there first.

    Returns:
        The predictor: [3, H, W] in [0, 1] -> [H, W] in [0, 1].

    Raises:
        WeightsError: the file is absent or damaged.
    """
    layers = read_layers(file_of(NAME, "fastgaze.vxm", folder))

    def predict(rgb: FloatArray) -> FloatArray:
        found = log_density(rgb, layers).astype(np.float64)
        exponent = SHARPNESS * (found - found.max())
        density = np.exp(exponent + _center_prior(*found.shape) if center else exponent)
        return stretch(resize(stretch(density), (rgb.shape[1], rgb.shape[2])))

    return predict


def _check_convolution(layer: Layer, channels: int, where: str) -> None:
    shape = list(layer.weight.shape)
    if shape[1:] != [channels, layer.size, layer.size] or layer.size % 2 == 0 or list(layer.bias.shape) != shape[:1]:
        found = f"{shape} and {list(layer.bias.shape)}"
        raise WeightsError(f"{where}: expected weights [n, {channels}, k, k], k odd, and biases [n], found {found}")
    if not bool(torch.isfinite(layer.weight).all() and torch.isfinite(layer.bias).all()):
        raise WeightsError(f"{where}: expected finite weights, found others")


def _working_size(height: int, width: int) -> tuple[int, int]:
    scale = LONG_SIDE / max(height, width) / STEP
    return max(1, round(height * scale)) * STEP, max(1, round(width * scale)) * STEP


def _apply(layer: Layer, values: Tensor) -> Tensor:
    if layer.kind == "conv":
        return F.leaky_relu(F.conv2d(values, layer.weight, layer.bias, padding=layer.size // 2), layer.slope)
    if layer.kind == "maxpool":
        return F.max_pool2d(values, layer.size)
    reach = (layer.size // 2) / layer.sigma
    blurred = gaussian_filter(values.numpy(), (0, 0, layer.sigma, layer.sigma), mode="reflect", truncate=reach)
    return torch.from_numpy(np.asarray(blurred, np.float32))


def _center_prior(height: int, width: int) -> Any:
    """Exponents [height, width] of a Gaussian around the middle."""
    y, x = (4 * (np.arange(side) + 0.5) / side - 2 for side in (height, width))
    return -(y[:, None] ** 2 + x[None, :] ** 2) / 2


def _npz_layers(path: Path) -> tuple[Layer, ...]:
    """Layers from arrays named by their place: ``0.w``, ``0.b``, ``14.alpha``; a place without arrays is a halving."""
    arrays = load_state_dict(path)
    places = {int(name[:-2]) for name in arrays if re.fullmatch(r"[0-9]{1,3}\.w", name)}
    count = max(places, default=-1) + 1
    if count >= 2 * len(places):
        raise WeightsError(f"{path}: expected arrays 0.w, 0.b and so on, found {len(places)} of {count} places")
    layers = [
        _npz_layer(arrays, place, path) if place in places else Layer("maxpool", size=2) for place in range(count)
    ]
    return (*layers, Layer("gaussian", size=BLUR_WINDOW, sigma=BLUR_SIGMA))


def _npz_layer(arrays: dict[str, Any], place: int, path: Path) -> Layer:
    weight, bias, slope = (arrays.get(f"{place}.{part}") for part in ("w", "b", "alpha"))
    if weight is None or bias is None or weight.ndim != 4 or (slope is not None and slope.numel() != 1):
        raise WeightsError(
            f"{path}: expected {place}.w with 4 dimensions, {place}.b and one slope at most, found others"
        )
    return Layer("conv", weight.float(), bias.float(), 0.0 if slope is None else float(slope), size=weight.shape[-1])


def _vxm_layers(path: Path) -> tuple[Layer, ...]:
    """Layers of the published file.

    Layout, little-endian: ``01 74 50 4d``, the number of entries (4 bytes), then per entry the length of its name (4),
    the name with a zero byte at its end, the length of its value (4) and the value. The names of layer n begin with n:
    `Type` 0 is a convolution with `Act` 1 (ReLU) or 4 (parametric ReLU, `alpha`), `w` and `b`; 2 the maximum over
    windows of `Pool`; 3 a Gaussian with `KernelSize` and `Std`. An array has `.dtype`, `.ndims` and `.shape` beside it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {(error.strerror or type(error).__name__).lower()}") from error
    file = _Vxm(str(path), data)
    return tuple(_vxm_layer(file, place) for place in range(file.number("layerCount")))


def _vxm_layer(file: _Vxm, place: int) -> Layer:
    kind = file.number(f"{place}Type")
    if kind == 0:
        activation = file.number(f"{place}Act")
        if activation not in (1, 4):
            raise WeightsError(f"{file.where}: {place}Act: expected 1 or 4, found {activation}")
        slope = file.array(f"{place}alpha", 1) if activation == 4 else torch.zeros(1)
        if slope.numel() != 1:
            raise WeightsError(f"{file.where}: {place}alpha: expected 1 number, found {slope.numel()}")
        weight = file.array(f"{place}w", 4)
        return Layer("conv", weight, file.array(f"{place}b", 1), float(slope), size=int(weight.shape[-1]))
    if kind == 2:
        return Layer("maxpool", size=file.number(f"{place}Pool"))
    if kind == 3:
        return Layer("gaussian", size=file.number(f"{place}KernelSize"), sigma=file.number(f"{place}Std"))
    raise WeightsError(f"{file.where}: {place}Type: expected 0, 2 or 3, found {kind}")


class _Vxm:
    """The entries of a file by name; every length is checked against the bytes present."""

    def __init__(self, where: str, data: bytes) -> None:
        self.where = where
        if data[: len(_MAGIC)] != _MAGIC:
            raise WeightsError(f"{where}: expected a file that begins with {_MAGIC!r}, found {data[: len(_MAGIC)]!r}")
        self._data, self._at = data, len(_MAGIC)
        count, self.entries = self._length("the number of entries"), {}
        for place in range(count):
            name = self._field(f"the name of entry {place}").rstrip(b"\0").decode("latin-1")
            self.entries[name] = self._field(f"entry {name!r}")
        if self._at != len(data) or len(self.entries) != count:
            found = f"{len(self.entries)} names and {len(data) - self._at} bytes more"
            raise WeightsError(f"{where}: expected {count} entries, found {found}")

    def number(self, name: str) -> int:
        value = self._entry(name)
        if len(value) != 4:
            raise WeightsError(f"{self.where}: {name}: expected 4 bytes, found {len(value)}")
        return int.from_bytes(value, "little", signed=True)

    def array(self, name: str, dimensions: int) -> Tensor:
        value, sides = self._entry(name), self._entry(f"{name}.shape")
        found = (self._entry(f"{name}.dtype").rstrip(b"\0"), self.number(f"{name}.ndims"), len(sides))
        if found != (b"float32", dimensions, 4 * dimensions):
            raise WeightsError(f"{self.where}: {name}: expected float32 with {dimensions} dimensions, found {found}")
        shape = struct.unpack(f"<{dimensions}I", sides)
        if len(value) != 4 * math.prod(shape):
            raise WeightsError(f"{self.where}: {name}: expected 4 bytes for each of {list(shape)}, found {len(value)}")
        return torch.from_numpy(np.frombuffer(value, "<f4").astype(np.float32).reshape(shape))

    def _entry(self, name: str) -> bytes:
        if name not in self.entries:
            raise WeightsError(f"{self.where}: expected an entry {name!r}, found none")
        return self.entries[name]

    def _length(self, what: str) -> int:
        return int.from_bytes(self._take(4, what), "little")

    def _field(self, what: str) -> bytes:
        return self._take(self._length(f"the length of {what}"), what)

    def _take(self, count: int, what: str) -> bytes:
        if count > len(self._data) - self._at:
            rest = len(self._data) - self._at
            raise WeightsError(f"{self.where}: {what} claims {count:,} bytes, {rest:,} remain")
        self._at += count
        return self._data[self._at - count : self._at]
