"""Coding 1: symbols of the lattice <-> range-coded bytes, one block and one level after the other.

The work is done by the compiled kernels (``block_codec.cpp``), in integers only, so that every decoder takes the same
decisions; docs/format.md, section 10, is the specification. Levels of a block are coded in turn by one object, since
each takes its contexts from those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FormatError
from ..kernels import native
from .lattice import DoubleArray, IntArray, Lattice, LatticeSymbols, shape_values

Box = tuple[int, int, int, int]
"""Left x, top y, width, height of a block; canvas pixels."""

PARTS = ("position", "scale", "rotation", "color")
"""Attributes that bits are counted for."""


class BlockEncoder:
    """Codes the levels of one block, in order."""

    def __init__(self, lattice: Lattice, box: Box) -> None:
        self._codec = native.block_codec(lattice.steps, box)
        self.bits: list[dict[str, float]] = []
        """Bits of each level so far, by attribute."""

    def encode(
        self, symbols: LatticeSymbols, wanted: DoubleArray | None = None, bit_worth: float | DoubleArray = 0.0
    ) -> tuple[bytes, LatticeSymbols]:
        """One level: its bytes, and the symbols as a decoder finds them, in its order.

        Places that the lattice lacks are rounded to the nearest.

        Args:
            symbols: N Gaussians.
            wanted: [N, C] colours before rounding, in steps; then a symbol moves towards what the decoder expects as
                long as that saves more bits than it is worse.
            bit_worth: squared steps of a colour that a bit is worth; one for all, or [N].
        """
        worth = None if wanted is None else np.broadcast_to(np.asarray(bit_worth, np.float64), len(symbols))
        data, shape, colors, _, bits = self._codec.encode(
            np.ascontiguousarray(symbols.shape, np.int32),
            np.ascontiguousarray(symbols.colors, np.int32),
            None if wanted is None else np.ascontiguousarray(wanted, np.float64),
            None if worth is None else np.ascontiguousarray(worth[:, None]),
        )
        self.bits.append(_by_attribute(bits))
        return data, LatticeSymbols(shape, colors)


class BlockDecoder:
    """Decodes the levels of one block, in order."""

    def __init__(self, lattice: Lattice, box: Box) -> None:
        self._codec = native.block_codec(lattice.steps, box)
        self.bits: list[dict[str, float]] = []
        """Bits of each level so far, by attribute."""

    def decode(self, payload: bytes, count: int, *, cut: bool = False) -> LatticeSymbols:
        """One level of ``count`` Gaussians.

        Args:
            payload: its bytes.
            count: Gaussians in it.
            cut: the payload ends early; those that are whole come back.

        Raises:
            FormatError: the payload is malformed.
        """
        if count > 8 * len(payload) and not cut:
            raise FormatError(f"payload: expected at least {-(-count // 8)} bytes, found {len(payload)}")
        try:
            shape, colors, bits = self._codec.decode(payload, count, cut)
        except native.malformed() as error:
            raise FormatError(f"payload: {error}") from error
        self.bits.append(_by_attribute(bits))
        return LatticeSymbols(shape, colors)


def place(shape: IntArray, means: Any, lattice: Lattice, box: Box) -> IntArray:
    """Shapes [N, 3] at means [N, 2] (canvas px) -> symbols [N, 5] on the places that a block's tree leaves.

    A box of the tree tells apart so many rows and columns. The row is rounded first; the column then follows the ridge
    of the Gaussian, along which moving costs least, so that together they are as good as a lattice in its own frame.
    """
    x0, y0, width, height = box
    inside = np.clip(means, [x0, y0], [x0 + width - 1e-3, y0 + height - 1e-3]).astype(np.float64)
    symbols = np.zeros((len(shape), 5), np.int32)
    symbols[:, :3] = shape[:, :3]
    symbols[:, 3:] = np.floor(inside * 1024)
    if not len(shape):
        return symbols
    cells = native.block_codec(lattice.steps, box).cells(symbols).astype(np.int64)
    left, top, wide, high, columns, rows = cells.T
    scales, rotations = shape_values(symbols, lattice)
    c, s = np.cos(rotations), np.sin(rotations)
    large, small = (scales**2).T
    yy, xy = s * s * large + c * c * small, c * s * (large - small)
    row = np.clip(np.floor((inside[:, 1] - top) * rows / high), 0, rows - 1).astype(np.int64)
    moved = top + (row + 0.5) * high / rows - inside[:, 1]
    along = inside[:, 0] + xy / yy * moved
    column = np.clip(np.floor((along - left) * columns / wide), 0, columns - 1).astype(np.int64)
    symbols[:, 3] = left * 1024 + (2 * column + 1) * wide * 1024 // (2 * columns)
    symbols[:, 4] = top * 1024 + (2 * row + 1) * high * 1024 // (2 * rows)
    return symbols


def attribute_bits(levels: Sequence[dict[str, float]]) -> dict[str, float]:
    """Bits in all by attribute."""
    return {part: sum(level[part] for level in levels) for part in PARTS}


def _by_attribute(bits: Sequence[float]) -> dict[str, float]:
    tree, size, ratio, angle, position, color = bits
    return dict(zip(PARTS, (tree + position, size + ratio, angle, color), strict=True))
