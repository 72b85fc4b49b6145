"""The one data model: a picture as N coloured, anisotropic 2D Gaussians.

Coordinates: x points right, y points down, in pixels of the canvas; the pixel in column j and row i has its centre at
(j + 0.5, i + 0.5). A rotation of θ radians turns the first axis from +x towards +y.

A Gaussian's weight at a point p is ``w = max(exp(-d²/2) - exp(-r²/2), 0)`` with ``d² = (p-μ)ᵀ R S⁻² Rᵀ (p-μ)``, so
that its support is an ellipse of r standard deviations, whatever tiles a device uses. Blends (Image-GS, arXiv
2407.01866, and GaussianImage, arXiv 2403.08551):

- ``normalized``: I = (Σ w c + ε b) / (Σ w + ε) over every Gaussian in reach, b the background colour
- ``topk``: the same over the K largest weights; equal weights are taken in the order of their indices
- ``sum``: I = Σ w c
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .errors import ShapeError

FloatArray = npt.NDArray[np.float32]
Blend = Literal["normalized", "topk", "sum"]
BLENDS: tuple[str, ...] = get_args(Blend)

MAX_CHANNELS = 32
MAX_TOP_K = 32
MAX_SIDE = 1 << 20
"""Largest canvas side, pixels."""


@dataclass(frozen=True, eq=False)
class Gaussians2D:
    """N Gaussians on a canvas; arrays are float32, contiguous and read-only.

    Attributes:
        means: [N, 2] centres (x, y), canvas pixels.
        scales: [N, 2] standard deviations along the Gaussian's own two axes, canvas pixels, positive.
        rotations: [N] angle of the first axis, radians.
        colors: [N, C] features; for pictures roughly in [0, 1], not clamped.
        height: canvas height, pixels.
        width: canvas width, pixels.
        background: [C] colour where no Gaussian reaches (``normalized`` and ``topk``).
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.

    Raises:
        ShapeError: shapes disagree, a value is not finite, a scale is not positive, or a number is out of range.
    """

    means: FloatArray
    scales: FloatArray
    rotations: FloatArray
    colors: FloatArray
    height: int
    width: int
    background: FloatArray = field(default=None)  # type: ignore[arg-type]
    blend: Blend = "normalized"
    top_k: int = 10

    def __post_init__(self) -> None:
        means = _floats("means", self.means, (None, 2))
        n = means.shape[0]
        colors = _floats("colors", self.colors, (n, None))
        channels = colors.shape[1]
        if not 1 <= channels <= MAX_CHANNELS:
            raise ShapeError(f"colors: expected 1 to {MAX_CHANNELS} channels, found {channels}")
        background = np.zeros(channels, np.float32) if self.background is None else self.background
        arrays = {
            "means": means,
            "scales": _floats("scales", self.scales, (n, 2)),
            "rotations": _floats("rotations", self.rotations, (n,)),
            "colors": colors,
            "background": _floats("background", background, (channels,)),
        }
        if n and float(arrays["scales"].min()) <= 0:
            row = int(np.argmin(arrays["scales"].min(axis=1)))
            raise ShapeError(f"scales: expected positive numbers, found {arrays['scales'][row].min():g} in row {row}")
        for name in ("height", "width"):
            object.__setattr__(self, name, _integer(name, getattr(self, name), 1, MAX_SIDE))
        object.__setattr__(self, "top_k", _integer("top_k", self.top_k, 1, MAX_TOP_K))
        if self.blend not in BLENDS:
            raise ShapeError(f"blend: expected one of {', '.join(BLENDS)}, found {self.blend!r}")
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return int(self.means.shape[0])

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.colors.shape[1])

    def replace(self, **changes: Any) -> Gaussians2D:
        """A copy with some attributes changed."""
        return replace(self, **changes)

    def take(self, index: Any) -> Gaussians2D:
        """The Gaussians that ``index`` selects (a slice, a mask or integers), in that order."""
        names = ("means", "scales", "rotations", "colors")
        return replace(self, **{name: getattr(self, name)[index] for name in names})


def _floats(name: str, value: Any, shape: tuple[int | None, ...]) -> FloatArray:
    try:
        source = np.asarray(value)
        if source.dtype.kind not in "fiu":
            raise TypeError
        array = np.array(source, dtype=np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name}: expected an array of numbers, found {type(value).__name__}") from error
    if array.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ShapeError(f"{name}: expected shape [{wanted}], found {list(array.shape)}")
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        raise ShapeError(f"{name}: expected finite numbers, found {array[row]} in row {row}")
    return array


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ShapeError(f"{name}: expected an integer from {low} to {high}, found {value!r}")
    return int(value)
