"""Colours at single points, as a texture unit reads them: no picture is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, ShapeError
from .gaussians import FloatArray, Gaussians2D
from .kernels import native

CELLS = 2, 8
"""Least and most side of the squares whose Gaussians are listed, pixels."""
CELL_PER_SPACING = 0.75
"""Of that side, in units of the mean distance of Gaussians: smaller ones cost memory, larger ones time."""
WEIGHT_COST = 8
"""Multiply-adds of a weight: 2 for the place in the Gaussian's row, 4 for the distance, its scale, the cutoff."""

Wrap = Literal["clamp", "repeat", "mirror"]


@dataclass(frozen=True)
class Cost:
    """What points cost on average.

    Attributes:
        looked: Gaussians in the list of a point's cell.
        taken: of these, those that count at the point.
        multiply_adds: `WEIGHT_COST` for each one looked at, C + 1 for each one taken, C for the division.
        bytes: of the Gaussians, of the lists and of where each list begins, in numbers of 32 bits.
    """

    looked: float
    taken: float
    multiply_adds: float
    bytes: int


class Sampler:
    """Gaussians that are read at points, in any order.

    Args:
        gaussians: as fitted, loaded or decoded.
        cell: side of the squares whose Gaussians are listed, pixels: smaller ones cost memory and save time. By
            default 2 to 8, by the distance of the Gaussians.

    Raises:
        ConfigError: the cell is no positive number.
        DeviceError: there are no compiled kernels.
    """

    def __init__(self, gaussians: Gaussians2D, *, cell: int | None = None) -> None:
        if cell is None:
            cell = _cell(gaussians)
        if cell < 1:
            raise ConfigError(f"cell: expected at least 1 pixel, found {cell}")
        self.gaussians = gaussians
        self._kernel = native.sampler(gaussians, cell)
        self._cells = -(-gaussians.height // cell) * -(-gaussians.width // cell)

    def sample(self, uv: npt.ArrayLike, *, wrap: Wrap = "clamp") -> FloatArray:
        """Colours [..., C] at points, not clamped.

        Args:
            uv: [..., 2] with u to the right and v down, 0 to 1 over the canvas; the centre of the pixel in column j of
                W columns is at u = (j + 0.5) / W.
            wrap: what lies beyond: the edge, the canvas again, or mirrored.

        Raises:
            ShapeError: no such array, or a number that is not finite.
            ConfigError: no such way to wrap.
        """
        points, shape = self._points(uv, wrap)
        colors, _ = self._kernel(points, False)
        found: FloatArray = colors.reshape(*shape, self.gaussians.channels)
        return found

    def cost(self, uv: npt.ArrayLike, *, wrap: Wrap = "clamp") -> Cost:
        """What these points cost; see `sample`."""
        points, _ = self._points(uv, wrap)
        _, counts = self._kernel(points, True)
        looked, taken = (float(value) for value in counts.mean(axis=0)) if len(counts) else (0.0, 0.0)
        channels = self.gaussians.channels
        adds = WEIGHT_COST * looked + (channels + 1) * taken + channels
        numbers = (8 + channels) * len(self.gaussians) + self._kernel.pairs + self._cells + 1
        return Cost(looked, taken, adds, 4 * numbers)

    def _points(self, uv: npt.ArrayLike, wrap: Wrap) -> tuple[FloatArray, tuple[int, ...]]:
        if wrap not in get_args(Wrap):
            raise ConfigError(f"wrap: expected one of {', '.join(get_args(Wrap))}, found {wrap!r}")
        try:
            places = np.asarray(uv, np.float64)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"uv: expected an array of numbers, found {type(uv).__name__}") from error
        if places.ndim < 1 or places.shape[-1] != 2:
            raise ShapeError(f"uv: expected shape [..., 2], found {list(places.shape)}")
        if not np.isfinite(places).all():
            raise ShapeError("uv: expected finite numbers, found NaN or infinity")
        if wrap == "repeat":
            places = places - np.floor(places)
        elif wrap == "mirror":
            places = 1 - np.abs(1 - np.mod(places, 2))
        scaled = places.reshape(-1, 2) * [self.gaussians.width, self.gaussians.height]
        return np.ascontiguousarray(scaled, np.float32), places.shape[:-1]


def _cell(gaussians: Gaussians2D) -> int:
    spacing = math.sqrt(gaussians.height * gaussians.width / max(1, len(gaussians)))
    return min(max(round(CELL_PER_SPACING * spacing), CELLS[0]), CELLS[1])


def sample(gaussians: Gaussians2D, uv: Any, *, wrap: Wrap = "clamp") -> FloatArray:
    """Colours at points; for many calls make a `Sampler` once."""
    return Sampler(gaussians).sample(uv, wrap=wrap)
