"""Where a picture matters: maps that an encoding follows. The core takes them and asks nobody how they were made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .errors import ShapeError
from .gaussians import FloatArray

Size = tuple[int, int]
"""Height and width, pixels."""


@dataclass(frozen=True, eq=False)
class Guidance:
    """Maps [H, W] of a picture's pixels, not negative and somewhere positive; None is the same everywhere.

    ```
     start  ─ density of the first Gaussians        growth ─ where more go, and which of them stay
     loss   ─ weight of the error at each pixel
     rounding ─ what error of a rounded colour is worth a bit        order ─ what comes first in a file with levels
    ```

    None of them is stored: what they do shows in the Gaussians alone. Each is scaled to mean 1.

    Attributes:
        start: factor of the density of the Gaussians that a fit begins with.
        growth: factor of the density of those that are added or moved later, and of what a Gaussian is worth when some
            must go.
        loss: weights of the squared error.
        rounding: weights of the error of rounded colours against their bits.
        order: what comes first in a file with levels: it counts more in the loss of every prefix where levels are
            fitted together (`FitConfig.level_shares`), and else weights a Gaussian's area, by which levels are cut.

    Raises:
        ShapeError: a map is no such array.
    """

    start: FloatArray | None = None
    growth: FloatArray | None = None
    loss: FloatArray | None = None
    rounding: FloatArray | None = None
    order: FloatArray | None = None

    def __post_init__(self) -> None:
        for name, value in self.maps.items():
            if value is not None:
                object.__setattr__(self, name, _checked(name, value))

    @staticmethod
    def of(canvas: Size, importance: Any = None, weights: Any = None, observed: Size | None = None) -> Guidance:
        """The usual two.

        Args:
            canvas: height and width of the picture that the Gaussians make.
            importance: [H, W] of the canvas, for the density of Gaussians.
            weights: [H, W] of what is observed, for the loss.
            observed: its height and width, where an operator changes them.

        Raises:
            ShapeError: one is no map or has another size; its name is in the text.
        """
        density = None if importance is None else _of_size("importance", _checked("importance", importance), canvas)
        loss = None if weights is None else _of_size("weights", _checked("weights", weights), observed or canvas)
        return Guidance(start=density, growth=density, loss=loss)

    @property
    def concentration(self) -> float:
        """How many times denser Gaussians lie where rounding counts, if their density is the root of what counts.

        Steps of the quantiser that fit this density are best: within 0.05 dB, on six pictures and two strengths.
        """
        if self.rounding is None:
            return 1.0
        root = np.sqrt(self.rounding, dtype=np.float64)
        return float((root**3).sum() / root.sum())

    @property
    def maps(self) -> dict[str, FloatArray | None]:
        """Every map by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check_size(self, canvas: Size, observed: Size | None = None) -> None:
        """Refuse maps of another size than (height, width) pixels of the canvas; the loss, of what is observed.

        Raises:
            ShapeError: there is one.
        """
        for name, value in self.maps.items():
            if value is not None:
                _of_size(name, value, observed or canvas if name == "loss" else canvas)


def _checked(name: str, value: Any) -> FloatArray:
    try:
        array = np.ascontiguousarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name}: expected an array of numbers, found {type(value).__name__}") from error
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"{name}: expected [H, W], found {list(array.shape)}")
    if not np.isfinite(array).all() or float(array.min()) < 0 or float(array.max()) <= 0:
        raise ShapeError(f"{name}: expected finite numbers, none negative and some positive")
    scaled: FloatArray = array / np.float32(array.mean(dtype=np.float64))
    return scaled


def _of_size(name: str, value: FloatArray, size: Size) -> FloatArray:
    if value.shape != tuple(size):
        raise ShapeError(f"{name}: expected the picture's size {list(size)}, found {list(value.shape)}")
    return value


def sample(values: FloatArray, means: FloatArray) -> FloatArray:
    """Values of a map [H, W] at means [N, 2], canvas px."""
    height, width = values.shape
    columns, rows = np.clip(np.floor(means), 0, [width - 1, height - 1]).astype(np.intp).T
    found: FloatArray = values[rows, columns]
    return found
