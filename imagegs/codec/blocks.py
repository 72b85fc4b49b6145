"""Blocks of a canvas, and how far Gaussians reach beyond them (docs/format.md, section 6.1)."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..gaussians import Gaussians2D
from ..kernels.constants import FOOTPRINT, MAX_SCALE, MIN_SCALE, RADIUS

Box = tuple[int, int, int, int]
"""Left x, top y, width, height; canvas pixels."""

MIN_SHIFT, MAX_SHIFT = 6, 16
MAX_REACH = 2**32 - 1

_SLACK, _RELATIVE_SLACK = 1 / 64, 2.0**-20
"""Pixels, and a share of the coordinates, added before a reach is rounded up: kernels compute in single precision."""


@dataclass(frozen=True)
class Blocks:
    """A grid of squares over a canvas, or the canvas as one block.

    Attributes:
        width: of the canvas, pixels.
        height: of the canvas, pixels.
        shift: squares of 2 to this pixels, 6 to 16; 0 is one block.

    Raises:
        ConfigError: the shift is another.
    """

    width: int
    height: int
    shift: int = 0

    def __post_init__(self) -> None:
        if self.shift != 0 and not MIN_SHIFT <= self.shift <= MAX_SHIFT:
            raise ConfigError(f"block_shift: expected 0 or {MIN_SHIFT} to {MAX_SHIFT}, found {self.shift}")

    @property
    def columns(self) -> int:
        """Blocks in a row."""
        return -(-self.width >> self.shift) if self.shift else 1

    @property
    def rows(self) -> int:
        """Blocks in a column."""
        return -(-self.height >> self.shift) if self.shift else 1

    def __len__(self) -> int:
        return self.columns * self.rows

    def box(self, block: int) -> Box:
        """The rectangle of a block, cut at the canvas."""
        if not self.shift:
            return 0, 0, self.width, self.height
        row, column = divmod(block, self.columns)
        x, y, side = column << self.shift, row << self.shift, 1 << self.shift
        return x, y, min(side, self.width - x), min(side, self.height - y)

    def run_box(self, first: int, last: int) -> Box:
        """The rectangle around all blocks from the first to the last, cut at the canvas."""
        x, y, _, _ = self.box(first)
        left, top, width, height = self.box(last)
        if not self.shift or first // self.columns == last // self.columns:
            return x, y, left + width - x, top + height - y
        return 0, y, self.width, top + height - y

    def of(self, means: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """The blocks [N] that hold centres [N, 2], or are nearest to those outside of the canvas."""
        if not self.shift:
            return np.zeros(len(means), np.int64)
        cells = np.floor(np.asarray(means, np.float64) / (1 << self.shift))
        column, row = (np.clip(cells[:, k], 0, last - 1) for k, last in enumerate((self.columns, self.rows)))
        found: npt.NDArray[np.int64] = (row * self.columns + column).astype(np.int64)
        return found


def reach(gaussians: Gaussians2D, box: Box) -> int:
    """How far Gaussians reach beyond a box, at the scale of the canvas or larger.

    Args:
        gaussians: N Gaussians as decoded, N may be 0.
        box: their block.

    Returns:
        Pixels, rounded up; 0 where nothing sticks out.
    """
    if not len(gaussians):
        return 0
    means = gaussians.means.astype(np.float64)
    scales = np.clip(gaussians.scales.astype(np.float64), MIN_SCALE, MAX_SCALE)
    angles = gaussians.rotations.astype(np.float64)
    cos, sin = np.cos(angles), np.sin(angles)
    extents = RADIUS * np.stack(
        [np.hypot(cos * scales[:, 0], sin * scales[:, 1]), np.hypot(sin * scales[:, 0], cos * scales[:, 1])], axis=1
    )
    start = np.array(box[:2], np.float64)
    beyond = np.maximum(start - (means - extents), means + extents - (start + box[2:]))
    farthest = float((beyond + _SLACK + _RELATIVE_SLACK * (np.abs(means) + extents)).max())
    return min(max(math.ceil(farthest), 0), MAX_REACH)


def footprint(step: float) -> float:
    """How much further a Gaussian reaches, canvas pixels, in an output with one pixel per ``step`` canvas pixels."""
    return RADIUS * math.sqrt(FOOTPRINT) * step if step > 1 else 0.0


def touches(box: Box, margin: float, region: tuple[float, float, float, float]) -> bool:
    """Whether a box, grown by a margin on all sides, has a point in common with a region."""
    return all(
        start - margin <= other + length and other <= start + side + margin
        for start, side, other, length in zip(box[:2], box[2:], region[:2], region[2:], strict=True)
    )


class Runs:
    """A set of blocks, as runs of their numbers that have no block in common."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, first: int, last: int) -> None:
        """Add all blocks from the first to the last."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high], self._lasts[low:high] = [first], [last]

    def meets(self, first: int, last: int) -> bool:
        """Whether a block from the first to the last is in the set."""
        low = bisect_left(self._lasts, first)
        return low < len(self._firsts) and self._firsts[low] <= last
