"""Quantiser 1: every Gaussian on a lattice of its own, finer for those that matter more.

What one rounded parameter costs in squared error grows with the Gaussian: a colour's error covers its area, and shape
and place count by contrast along its edge. Measured slopes over the area are 0.95 for colours and 0.3 to 0.7 for
the rest, so steps shrink with the size: with w the square root of the geometric mean of both scales,

- w itself is uniform, so the step of log-scales is proportional to 1/w;
- elongation (log of the ratio of the scales), place (in units of the scales) and direction (in units of the inverse
  elongation) have steps proportional to 1/w, and colours to 1/w².

Equal slopes of error over bits in all of them are what makes a rate-distortion optimum (Shoham and Gersho 1988).

Symbols are integers [N, 5]: size, ratio, angle, and the place x, y in 1/1024 px, of which only those are possible that
the tree of the entropy coder leaves (`entropy`). Only decoding is normative: docs/format.md, section 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, FormatError, ShapeError
from ..gaussians import Blend, FloatArray, Gaussians2D
from ..kernels import native
from .fields import Fields, varint

IntArray = npt.NDArray[np.int32]
DoubleArray = npt.NDArray[np.float64]

UNIT = 4096
"""One, in steps and roots."""
COLOR_UNIT = 65536
"""One, in steps of colours."""
PLACE_UNIT = 1024
"""A pixel, in places."""
MIN_ROOT, MAX_ROOT = 1 << 9, 1 << 19
MAX_STEP, MAX_COLOR_STEP = 1 << 20, 1 << 24
MAX_RATIO = 1 << 20
MAX_COLOR = 1 << 24
MAX_COLOR_VALUE = 1 << 34
"""Of a colour symbol times its step, in 1/65536."""
SMALLEST_ROOT = 0.5
"""Square root of the geometric mean of the scales of the smallest size, sqrt(px)."""
LARGEST_ROOT = 128.0

# luma and two differences of colours, orthogonal so that rounding one does not reach into another
_TO_LUMA = np.array([[1 / 3, 1 / 3, 1 / 3], [1 / 2, 0, -1 / 2], [-1 / 4, 1 / 2, -1 / 4]])
_FROM_LUMA = np.array([[1, 1, -2 / 3], [1, 0, 4 / 3], [1, -1, -2 / 3]])


@dataclass(frozen=True)
class Steps:
    """Quantiser steps at w = 1 sqrt(px), relative to each other at equal slopes; all are multiplied by one factor.

    Attributes:
        size: of the logarithm of w², times sqrt(2).
        place: of the mean, in scales.
        angle: of the direction, in radians times (ratio - 1 / ratio).
        color: of an orthonormal colour component.
    """

    size: float = 0.45
    place: float = 0.54
    angle: float = 0.66
    color: float = 0.25


@dataclass(frozen=True)
class Lattice:
    """Steps as a file stores them: integers, in 1/4096, those of colours in 1/65536.

    Attributes:
        root: w of size 0.
        root_step: of w from size to size.
        ratio_step: of log2 of the ratio of the scales, times w.
        place_step: of the mean in scales, times w.
        angle_step: of the direction in radians, times w · (ratio - 1 / ratio).
        color_steps: of each component, times w².
        luma_at: first channels of the triples that are coded as luma and two differences.

    Raises:
        ConfigError: a step is out of range, or triples overlap.
    """

    root: int
    root_step: int
    ratio_step: int
    place_step: int
    angle_step: int
    color_steps: tuple[int, ...]
    luma_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.color_steps) <= 32:
            raise ConfigError(f"lattice: expected 1 to 32 channels, found {len(self.color_steps)}")
        if not MIN_ROOT <= self.root <= MAX_ROOT:
            raise ConfigError(f"lattice: expected a root from {MIN_ROOT:,} to {MAX_ROOT:,}, found {self.root:,}")
        for steps, most in ((self.steps[1:5], MAX_STEP), (self.color_steps, MAX_COLOR_STEP)):
            for step in steps:
                if not 1 <= step <= most:
                    raise ConfigError(f"lattice: expected steps from 1 to {most:,}, found {step:,}")
        ends = 0
        for first in self.luma_at:
            if not ends <= first <= self.channels - 3:
                raise ConfigError(f"lattice: expected triples within {self.channels} channels, found one at {first}")
            ends = first + 3

    @staticmethod
    def of(factor: float, channels: int, luma_at: Sequence[int] = (), steps: Steps | None = None) -> Lattice:
        """The lattice whose steps are ``factor`` times those of ``steps``."""
        steps = steps or Steps()
        norms = np.ones(channels)
        for first in luma_at:
            norms[first : first + 3] = np.sqrt((_FROM_LUMA**2).sum(axis=0))
        return Lattice(
            round(SMALLEST_ROOT * UNIT),
            _step(factor * steps.size / math.sqrt(8)),
            _step(factor * steps.size * math.sqrt(2) / math.log(2)),
            _step(factor * steps.place),
            _step(factor * steps.angle),
            tuple(_step(factor * steps.color / norm, COLOR_UNIT, MAX_COLOR_STEP) for norm in norms),
            tuple(luma_at),
        )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.color_steps)

    @property
    def steps(self) -> list[int]:
        """All integers, as the kernels take them."""
        return [self.root, self.root_step, self.ratio_step, self.place_step, self.angle_step, *self.color_steps]

    @property
    def most_size(self) -> int:
        """Largest size symbol."""
        return max(0, (round(LARGEST_ROOT * UNIT) - self.root) // self.root_step)

    def to_bytes(self) -> bytes:
        """The parameters of quantiser 1 in a header: varints of the steps and of the mask of triples."""
        mask = sum(1 << first for first in self.luma_at)
        return b"".join(varint(value) for value in (*self.steps, mask))

    @staticmethod
    def from_bytes(data: bytes, channels: int) -> Lattice:
        """Inverse of `to_bytes`.

        Raises:
            FormatError: these are no such parameters.
        """
        fields = Fields(data, "quantizer 1")
        values = [fields.varint("steps") for _ in range(5 + channels + 1)]
        fields.finish(newer=False)
        mask = values.pop()
        if mask >> channels:
            raise FormatError(f"quantizer 1: expected triples within {channels} channels, found the mask {mask:#x}")
        triples = tuple(first for first in range(channels) if mask >> first & 1)
        root, root_step, ratio_step, place_step, angle_step, *colors = values
        try:
            return Lattice(root, root_step, ratio_step, place_step, angle_step, tuple(colors), triples)
        except ConfigError as error:
            raise FormatError(f"quantizer 1: {error}") from error

    def roots(self, sizes: IntArray) -> DoubleArray:
        """Values of w of size symbols [N], sqrt(px)."""
        found: DoubleArray = (self.root + sizes.astype(np.float64) * self.root_step) / UNIT
        return found

    def angles(self, sizes: IntArray, ratios: IntArray) -> IntArray:
        """How many directions [N] are told apart, for shapes of these symbols [N]."""
        shapes = np.ascontiguousarray(np.stack([sizes, ratios], axis=1), dtype=np.int32)
        return native.lattice_angles(self.steps, shapes)

    def color_values(self, sizes: IntArray) -> DoubleArray:
        """Steps of the colour components [N, C] for size symbols [N]."""
        roots = self.root + sizes.astype(np.int64) * self.root_step
        area = np.maximum(1, roots * roots // UNIT)  # w², 1/4096
        steps = np.array(self.color_steps, np.int64) * UNIT // area[:, None]
        values: DoubleArray = np.maximum(1, steps) / COLOR_UNIT
        return values

    def to_components(self, colors: npt.NDArray[np.floating]) -> DoubleArray:
        """Colours [N, C] -> components [N, C]."""
        return self._turned(colors, _TO_LUMA)

    def from_components(self, components: DoubleArray) -> DoubleArray:
        """Components [N, C] -> colours [N, C]."""
        return self._turned(components, _FROM_LUMA)

    def _turned(self, values: npt.NDArray[np.floating], matrix: DoubleArray) -> DoubleArray:
        turned = values.astype(np.float64)
        for first in self.luma_at:
            turned[:, first : first + 3] = turned[:, first : first + 3] @ matrix.T
        return turned


@dataclass(frozen=True, eq=False)
class LatticeSymbols:
    """Symbols of N Gaussians.

    Attributes:
        shape: [N, 5] size, ratio, angle, x, y.
        colors: [N, C].
    """

    shape: IntArray
    colors: IntArray

    def __len__(self) -> int:
        return len(self.shape)

    def take(self, rows: npt.NDArray[np.intp] | slice) -> LatticeSymbols:
        """Those rows."""
        return LatticeSymbols(np.ascontiguousarray(self.shape[rows]), np.ascontiguousarray(self.colors[rows]))

    @staticmethod
    def concatenate(parts: Sequence[LatticeSymbols], channels: int) -> LatticeSymbols:
        """All of them, one after the other; none is fine."""
        shape = [np.zeros((0, 5), np.int32), *(part.shape for part in parts)]
        colors = [np.zeros((0, channels), np.int32), *(part.colors for part in parts)]
        return LatticeSymbols(np.concatenate(shape), np.concatenate(colors))


def canonical(scales: FloatArray, rotations: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Larger and smaller scale [N, 2], and the direction [N] of the larger in [0, π)."""
    swapped = scales[:, 0] < scales[:, 1]
    turned = rotations.astype(np.float64) + np.where(swapped, np.pi / 2, 0.0)
    return np.sort(scales.astype(np.float64), axis=1)[:, ::-1], np.mod(turned, np.pi)


def quantize_shape(scales: FloatArray, rotations: FloatArray, lattice: Lattice) -> IntArray:
    """Nearest symbols [N, 3] of size, ratio and angle."""
    both, direction = canonical(scales, rotations)
    both = np.maximum(both, 1e-6)
    roots = np.sqrt(np.sqrt(both[:, 0] * both[:, 1])) * UNIT
    sizes = np.clip(np.rint((roots - lattice.root) / lattice.root_step), 0, lattice.most_size).astype(np.int32)
    octaves = np.log2(both[:, 0] / both[:, 1])
    ratios = np.rint(octaves * lattice.roots(sizes) * UNIT / lattice.ratio_step)
    most = 12 * lattice.roots(sizes) * UNIT / lattice.ratio_step
    ratios = np.minimum(ratios, np.minimum(most, MAX_RATIO)).astype(np.int32)
    count = lattice.angles(sizes, ratios)
    angles = np.rint(direction / np.pi * count).astype(np.int32) % count
    return np.stack([sizes, ratios, angles], axis=1)


def shape_values(shape: IntArray, lattice: Lattice) -> tuple[DoubleArray, DoubleArray]:
    """Scales [N, 2], the larger first, and rotations [N] of shape symbols [N, 3 or more]."""
    sizes, ratios, angles = shape[:, 0], shape[:, 1], shape[:, 2]
    roots = lattice.roots(sizes)
    octaves = np.minimum(ratios * (lattice.ratio_step / UNIT) / roots, 12.0)
    spread = np.exp2(octaves / 2)
    scales = np.stack([roots * roots * spread, roots * roots / spread], axis=1)
    return scales, angles * np.pi / lattice.angles(sizes, ratios)


def color_values(symbols: IntArray, sizes: IntArray, lattice: Lattice) -> DoubleArray:
    """Colours [N, C] of colour symbols [N, C] of Gaussians with size symbols [N]."""
    return lattice.from_components(symbols * lattice.color_values(sizes))


def in_steps(colors: FloatArray, sizes: IntArray, lattice: Lattice) -> DoubleArray:
    """Colours [N, C] as multiples of their steps, not rounded; cut to what a file can hold."""
    steps = lattice.color_values(sizes)
    most = np.minimum(MAX_COLOR, MAX_COLOR_VALUE / COLOR_UNIT / steps) - 1
    found: DoubleArray = np.clip(lattice.to_components(colors) / steps, -most, most)
    return found


def quantize_colors(colors: FloatArray, sizes: IntArray, lattice: Lattice) -> IntArray:
    """Nearest colour symbols [N, C]."""
    return np.rint(in_steps(colors, sizes, lattice)).astype(np.int32)


def dequantize_lattice(
    symbols: LatticeSymbols,
    lattice: Lattice,
    *,
    height: int,
    width: int,
    background: FloatArray,
    blend: Blend = "normalized",
    top_k: int = 10,
) -> Gaussians2D:
    """What symbols mean.

    Raises:
        ShapeError: they do not make Gaussians.
    """
    if symbols.colors.shape[1] != lattice.channels:
        raise ShapeError(f"symbols: expected {lattice.channels} channels, found {symbols.colors.shape[1]}")
    scales, rotations = shape_values(symbols.shape, lattice)
    colors = color_values(symbols.colors, symbols.shape[:, 0], lattice)
    means = symbols.shape[:, 3:5] / PLACE_UNIT
    arrays = (_single(means), _single(scales), _single(rotations), _single(colors))
    return Gaussians2D(*arrays, height, width, background, blend, top_k)


def _single(values: DoubleArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _step(value: float, unit: int = UNIT, most: int = MAX_STEP) -> int:
    return min(max(1, round(value * unit)), most)
