"""Gaussians <-> symbols: uniform grids with a chosen width in bits per attribute.

```
Gaussians2D ── choose_grid ──> Grid
     │                          │
     ├──────── quantize ────────┴──> Symbols ── dequantize ──> Gaussians2D
     └──────────────── round_to_grid ────────────────────────────^
```

Positions and colours lie on a linear grid, scales on a grid that is linear in log(scale), rotations on a grid over
[0, π): an ellipse has the period π, so the end point would repeat the first. The precision control of 4 to 32 bits
follows Image-GS (arXiv 2407.01866), which rounds scales in pixels and angles without their period.

Decoding is normative (docs/format.md, section 8). Every operation is done in float64 and rounded on its own, and the
result is rounded to float32 once, so that positions, rotations and colours are the same bits everywhere; scales pass
through ``log`` and ``exp``, whose last bit depends on the mathematics library.

Quantising decoded values gives the same symbols. A symbol q is the nearest to a float32 x, so x is at most half a step
from the grid point L(q); the decoded value v is the float32 nearest to L(q), hence no further away than x, and
quantises to q. (If both are exactly half a step away, q is even and the tie goes back to it.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, ShapeError
from ..gaussians import MAX_CHANNELS, Blend, FloatArray, Gaussians2D

SymbolArray = npt.NDArray[np.uint32]

MIN_BITS = 4
MAX_BITS = 32


@dataclass(frozen=True)
class BitWidths:
    """Bits of one symbol of each attribute; a Gaussian has two positions, two scales, one rotation and C colours.

    Raises:
        ConfigError: a width is not an integer from 4 to 32.
    """

    position: int = 14
    scale: int = 9
    rotation: int = 10
    color: int = 9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not MIN_BITS <= value <= MAX_BITS:
                raise ConfigError(
                    f"bits of {field.name}: expected an integer from {MIN_BITS} to {MAX_BITS}, found {value!r}"
                )
            object.__setattr__(self, field.name, int(value))

    def record(self, channels: int) -> tuple[int, ...]:
        """Widths of the symbols of one Gaussian: x, y, two scales, rotation, ``channels`` colours."""
        return (self.position,) * 2 + (self.scale,) * 2 + (self.rotation,) + (self.color,) * channels


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the symbols lie; all of it is stored in the file, and the float32 ranges are exactly as stored.

    Attributes:
        bits: widths of the symbols.
        position: [2, 2] lowest and highest (x, y), canvas pixels.
        scale: [2] lowest and highest scale of either axis, canvas pixels, positive.
        color: [2, C] lowest and highest value of each channel.

    Raises:
        ShapeError: a range has another shape, is not finite or ends before it starts; a scale is not positive.
    """

    bits: BitWidths
    position: FloatArray
    scale: FloatArray
    color: FloatArray

    def __post_init__(self) -> None:
        for name, tail in (("position", (2,)), ("scale", ()), ("color", None)):
            ends = np.array(getattr(self, name), dtype=np.float32, order="C")
            channels_fit = tail is not None or (ends.ndim == 2 and 1 <= ends.shape[1] <= MAX_CHANNELS)
            if ends.shape != (2, *(ends.shape[1:] if tail is None else tail)) or not channels_fit:
                wanted = f"[2, 1 to {MAX_CHANNELS}]" if tail is None else list((2, *tail))
                raise ShapeError(f"{name} range: expected shape {wanted}, found {list(ends.shape)}")
            low, high = ends.reshape(2, -1)
            bad = ~(np.isfinite(low) & np.isfinite(high) & (low <= high))
            if bad.any():
                at = int(np.argmax(bad))
                raise ShapeError(f"{name} range {at}: expected finite low <= high, found {low[at]} to {high[at]}")
            ends.setflags(write=False)
            object.__setattr__(self, name, ends)
        if self.scale[0] <= 0:
            raise ShapeError(f"scale range: expected positive numbers, found {self.scale[0]} to {self.scale[1]}")

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.color.shape[1])


@dataclass(frozen=True, eq=False)
class Symbols:
    """The integers of N Gaussians, before they become bytes; each is below 2 to its attribute's width.

    Attributes:
        positions: [N, 2] x, y.
        scales: [N, 2] along the first and the second axis.
        rotations: [N] angle of the first axis.
        colors: [N, C] features.
    """

    positions: SymbolArray
    scales: SymbolArray
    rotations: SymbolArray
    colors: SymbolArray

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.colors.shape[1])


def choose_grid(gaussians: Gaussians2D, bits: BitWidths) -> Grid:
    """The grid that covers these Gaussians.

    Positions cover the canvas, extended to the means that lie outside of it; scales and each colour channel cover their
    smallest to largest value. Without Gaussians, scales are 1 and colours 0.

    Args:
        gaussians: N Gaussians, N may be 0.
        bits: widths of the symbols.

    Returns:
        The grid; every range end is a value of the data, or of the canvas.
    """
    canvas = np.array([[0, 0], [gaussians.width, gaussians.height]], np.float32)
    scales, colors = gaussians.scales, gaussians.colors
    if not len(gaussians):
        scales = np.ones((1, 2), np.float32)
        colors = np.zeros((1, gaussians.channels), np.float32)
    means = np.concatenate([canvas, gaussians.means])
    return Grid(
        bits=bits,
        position=np.stack([means.min(axis=0), means.max(axis=0)]),
        scale=np.stack([scales.min(), scales.max()]),
        color=np.stack([colors.min(axis=0), colors.max(axis=0)]),
    )


def quantize(gaussians: Gaussians2D, grid: Grid) -> Symbols:
    """The nearest symbols, ties to even; values outside of the grid go to its ends.

    Args:
        gaussians: N Gaussians with the grid's number of channels.
        grid: where the symbols lie.

    Returns:
        Symbols of the N Gaussians, in their order.

    Raises:
        ShapeError: the channels of the grid are not those of the Gaussians.
    """
    _check_channels(gaussians.channels, grid)
    n, bits, (log_low, log_high) = len(gaussians), grid.bits, _log_range(grid)
    positions, scales, colors = (np.empty((n, k), np.uint32) for k in (2, 2, grid.channels))
    for k in range(2):
        positions[:, k] = _nearest(gaussians.means[:, k], *_range(grid.position[:, k]), bits.position)
        scales[:, k] = _nearest(np.log(gaussians.scales[:, k].astype(np.float64)), log_low, log_high, bits.scale)
    for k in range(grid.channels):
        colors[:, k] = _nearest(gaussians.colors[:, k], *_range(grid.color[:, k]), bits.color)
    return Symbols(positions, scales, _nearest_angle(gaussians.rotations, bits.rotation), colors)


def dequantize(
    symbols: Symbols,
    grid: Grid,
    *,
    height: int,
    width: int,
    background: FloatArray | None = None,
    blend: Blend = "normalized",
    top_k: int = 10,
) -> Gaussians2D:
    """The Gaussians that these symbols mean; the arithmetic is that of docs/format.md, section 8.

    Args:
        symbols: N Gaussians as integers.
        grid: where the symbols lie.
        height: canvas height, pixels.
        width: canvas width, pixels.
        background: [C] colour where no Gaussian reaches; None is zeros.
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.

    Returns:
        N Gaussians, rotations in [0, π).

    Raises:
        ShapeError: the channels of the grid are not those of the symbols, or a canvas number is out of range.
    """
    _check_channels(symbols.channels, grid)
    n, bits, (log_low, log_high) = len(symbols), grid.bits, _log_range(grid)
    means, scales, colors = (np.empty((n, k), np.float32) for k in (2, 2, grid.channels))
    for k in range(2):
        means[:, k] = _points(symbols.positions[:, k], *_range(grid.position[:, k]), bits.position)
        scales[:, k] = np.exp(_points(symbols.scales[:, k], log_low, log_high, bits.scale))
    for k in range(grid.channels):
        colors[:, k] = _points(symbols.colors[:, k], *_range(grid.color[:, k]), bits.color)
    return Gaussians2D(
        means=means,
        scales=scales,
        rotations=(symbols.rotations * (math.pi / 2.0**bits.rotation)).astype(np.float32),
        colors=colors,
        height=height,
        width=width,
        background=np.zeros(grid.channels, np.float32) if background is None else background,
        blend=blend,
        top_k=top_k,
    )


def round_to_grid(gaussians: Gaussians2D, grid: Grid) -> Gaussians2D:
    """What is left of the Gaussians after a round trip through symbols: the same bits as decoding gives.

    Args:
        gaussians: N Gaussians with the grid's number of channels.
        grid: where the symbols lie.

    Returns:
        N Gaussians, on the same canvas.

    Raises:
        ShapeError: the channels of the grid are not those of the Gaussians.
    """
    return dequantize(
        quantize(gaussians, grid),
        grid,
        height=gaussians.height,
        width=gaussians.width,
        background=gaussians.background,
        blend=gaussians.blend,
        top_k=gaussians.top_k,
    )


def _check_channels(channels: int, grid: Grid) -> None:
    if channels != grid.channels:
        raise ShapeError(f"colors: expected the grid's {grid.channels} channels, found {channels}")


def _range(ends: FloatArray) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])


def _log_range(grid: Grid) -> tuple[float, float]:
    low, high = np.log(grid.scale.astype(np.float64))
    return float(low), float(high)


def _step(low: float, high: float, bits: int) -> float:
    return (high - low) / ((1 << bits) - 1)


def _nearest(values: npt.NDArray[np.floating], low: float, high: float, bits: int) -> SymbolArray:
    step = _step(low, high, bits)
    if step == 0:
        return np.zeros(values.shape, np.uint32)
    with np.errstate(over="ignore"):  # a value far outside of a tiny range: infinity is clipped like any other
        steps = np.rint((values.astype(np.float64) - low) / step)
    return np.clip(steps, 0, (1 << bits) - 1).astype(np.uint32)


def _points(symbols: SymbolArray, low: float, high: float, bits: int) -> npt.NDArray[np.float64]:
    return low + symbols.astype(np.float64) * _step(low, high, bits)


def _nearest_angle(rotations: FloatArray, bits: int) -> SymbolArray:
    # To float32 first: the decoded angle must be no further from its grid point than the angle that was quantised.
    angles = np.mod(rotations.astype(np.float64), math.pi).astype(np.float32).astype(np.float64)
    angles[angles >= math.pi] = 0.0
    return np.mod(np.rint(angles / math.pi * 2.0**bits), 2.0**bits).astype(np.uint32)
