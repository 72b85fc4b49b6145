"""How a giant picture is divided, and how its Gaussians are shared out.

A *tile* is what is fitted in one piece: a square of whole blocks of the file. It is fitted in a *window*, the tile and
a halo around it, so that what lies at its border is fitted as what lies within it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..codec.blocks import Blocks, Box
from ..errors import ConfigError
from ..gaussians import FloatArray

CELL = 128
"""Side of the squares of which content is measured, pixels."""
SPACINGS = (2, 4, 8, 16, 32)
"""Between samples, pixels, at which it is measured what gets lost."""
EXPONENT = 1 / 1.8
"""Of a mean squared error, what Gaussians it is worth: the squared error of n of them falls as n to the power of -0.8
(2.4 dB for twice as many), and a Gaussian more is then worth the same everywhere."""
FLOOR = 1e-6
"""Mean squared error of a place with nothing in it: it gets some Gaussians too."""
HALO_SPACINGS, HALOS = 5.0, (32, 256)
"""The usual halo is so many mean distances of Gaussians, pixels between these."""

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tiles:
    """The tiles of a canvas, numbered row by row.

    Attributes:
        height: of the canvas, pixels.
        width: of the canvas, pixels.
        side: of a tile, pixels; those in the last column and row end with the canvas.
        shift: blocks of the file are squares of 2 to this pixels.
        halo: by which a window is larger than its tile on every side, pixels.

    Raises:
        ConfigError: the side is no multiple of a block's, or the halo is larger than a tile.
    """

    height: int
    width: int
    side: int
    shift: int
    halo: int

    def __post_init__(self) -> None:
        block = 1 << self.shift
        if self.side < CELL or self.side % max(block, CELL):
            raise ConfigError(f"tile: expected a multiple of the blocks' {block} and of {CELL}, found {self.side}")
        if not 0 <= self.halo <= self.side:
            raise ConfigError(f"halo: expected 0 to {self.side}, as much as a tile, found {self.halo}")

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.side)

    @property
    def rows(self) -> int:
        """Tiles in a column."""
        return -(-self.height // self.side)

    def __len__(self) -> int:
        return self.columns * self.rows

    def box(self, tile: int) -> Box:
        """The rectangle of a tile."""
        row, column = divmod(tile, self.columns)
        x, y = column * self.side, row * self.side
        return x, y, min(self.side, self.width - x), min(self.side, self.height - y)

    def window(self, tile: int) -> Box:
        """The rectangle that a tile is fitted in."""
        x, y, width, height = self.box(tile)
        left, top = max(0, x - self.halo), max(0, y - self.halo)
        right, bottom = min(self.width, x + width + self.halo), min(self.height, y + height + self.halo)
        return left, top, right - left, bottom - top

    def around(self, tile: int) -> list[int]:
        """The tiles beside and diagonally beside a tile."""
        row, column = divmod(tile, self.columns)
        return [
            other_row * self.columns + other_column
            for other_row in range(max(0, row - 1), min(self.rows, row + 2))
            for other_column in range(max(0, column - 1), min(self.columns, column + 2))
            if (other_row, other_column) != (row, column)
        ]

    def blocks(self, tile: int) -> tuple[Blocks, list[int]]:
        """The blocks of a tile, on a canvas of its own; and their numbers on the whole canvas."""
        x, y, width, height = self.box(tile)
        mine, whole = Blocks(width, height, self.shift), Blocks(self.width, self.height, self.shift)
        first_row, first_column = y >> self.shift, x >> self.shift
        return mine, [
            (first_row + row) * whole.columns + first_column + column
            for row in range(mine.rows)
            for column in range(mine.columns)
        ]


def usual_halo(pixels: int, gaussians: int) -> int:
    """Halo for so many Gaussians on so many pixels."""
    low, high = HALOS
    return min(max(math.ceil(HALO_SPACINGS * math.sqrt(pixels / max(1, gaussians))), low), high)


def measure(pixels: FloatArray) -> FloatArray:
    """Mean squared error of each cell when only samples at each spacing are left, with straight lines between.

    Args:
        pixels: [C, H, W].

    Returns:
        [spacings, rows, columns]; cells at the right and at the bottom may be smaller.
    """
    from scipy.ndimage import zoom

    height, width = pixels.shape[1:]
    coarsest = SPACINGS[-1]
    padded = np.pad(pixels, ((0, 0), (0, -height % coarsest), (0, -width % coarsest)), mode="edge")
    found = np.zeros((len(SPACINGS), -(-height // CELL), -(-width // CELL)), np.float32)
    for number, spacing in enumerate(SPACINGS):
        channels, rows, columns = padded.shape
        means = padded.reshape(channels, rows // spacing, spacing, columns // spacing, spacing).mean(axis=(2, 4))
        error = np.zeros((rows, columns), np.float32)
        for channel, mean in zip(padded, means, strict=True):
            shown = zoom(mean, spacing, order=1, mode="nearest", grid_mode=True)
            error += np.square(channel - shown)
        found[number] = _cell_means(error[:height, :width] / channels)
    return found


def _cell_means(plane: FloatArray) -> FloatArray:
    rows = np.add.reduceat(plane, np.arange(0, plane.shape[0], CELL), axis=0, dtype=np.float64)
    sums = np.add.reduceat(rows, np.arange(0, plane.shape[1], CELL), axis=1)
    counts = np.outer(*(np.diff([*range(0, side, CELL), side]) for side in plane.shape))
    return (sums / counts).astype(np.float32)


def shares(errors: FloatArray, pixels: int, gaussians: int) -> Weights:
    """What each pixel of a cell is worth [rows, columns], relative to others.

    Args:
        errors: of the whole canvas, see `measure`.
        pixels: of the canvas.
        gaussians: to be shared out; their mean distance is where the errors are looked up.
    """
    logs = np.log2(SPACINGS)
    spacing = min(max(math.log2(math.sqrt(pixels / max(1, gaussians))), logs[0]), logs[-1])
    after = min(int(np.searchsorted(logs, spacing)), len(logs) - 1)
    before = max(0, after - 1)
    part = 0.0 if after == before else (spacing - logs[before]) / (logs[after] - logs[before])
    both = np.log(np.maximum(errors[[before, after]].astype(np.float64), FLOOR))
    found: Weights = np.exp(EXPONENT * ((1 - part) * both[0] + part * both[1]))
    return found


class Budget:
    """What parts of a canvas are worth, of all of it.

    Args:
        weights: of the canvas, see `shares`.
        size: its height and width, pixels.
    """

    def __init__(self, weights: Weights, size: tuple[int, int]) -> None:
        self._weights, self._size = weights, size
        self._total = float(_overlaps(0, size[0], size[0])[1] @ weights @ _overlaps(0, size[1], size[1])[1])

    def share(self, box: Box) -> float:
        """That of a box, canvas pixels."""
        x, y, width, height = box
        rows, down = _overlaps(y, y + height, self._size[0])
        columns, across = _overlaps(x, x + width, self._size[1])
        return float(down @ self._weights[rows, columns] @ across) / self._total


def _overlaps(start: int, end: int, length: int) -> tuple[slice, Weights]:
    """The cells along a side that have pixels from start to end, and how many of them each has."""
    cells = slice(start // CELL, -(-end // CELL))
    edges = np.minimum(np.arange(cells.start, cells.stop + 1) * CELL, length)
    return cells, np.diff(np.clip(edges, start, end)).astype(np.float64)
