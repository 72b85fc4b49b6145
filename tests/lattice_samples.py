"""Random lattices, blocks and symbols for tests of quantizer 1 and coding 1, at the ends of their ranges too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from imagegs.codec.lattice import (
    MAX_COLOR,
    MAX_COLOR_STEP,
    MAX_COLOR_VALUE,
    MAX_RATIO,
    MAX_ROOT,
    MAX_STEP,
    MIN_ROOT,
    UNIT,
    Lattice,
    LatticeSymbols,
)

Box = tuple[int, int, int, int]
SIDE = 1 << 20


def wide(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers whose logarithms are spread, and both ends."""
    exponents = st.integers(0, max(0, (high - low).bit_length() - 1))
    inner = exponents.flatmap(lambda e: st.integers(low, min(high, low + (2 << e))))
    return st.one_of(inner, st.sampled_from([low, high]))


@st.composite
def lattices(draw: st.DrawFn, most_channels: int = 5) -> Lattice:
    """Any that a file may have."""
    channels = draw(st.integers(1, most_channels))
    colors = tuple(draw(wide(1, MAX_COLOR_STEP)) for _ in range(channels))
    triples = (draw(st.integers(0, channels - 3)),) if channels >= 3 and draw(st.booleans()) else ()
    steps = [draw(wide(1, MAX_STEP)) for _ in range(4)]
    return Lattice(draw(wide(MIN_ROOT, MAX_ROOT)), *steps, colors, triples)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Any block that a canvas may have."""
    width, height = draw(wide(1, SIDE)), draw(wide(1, SIDE))
    return draw(wide(0, SIDE - width)), draw(wide(0, SIDE - height)), width, height


@dataclass(frozen=True)
class Ranges:
    """Up to what symbols go; positions are drawn from so many different ones, 0 for no limit."""

    size: int = 60
    ratio: int = 12
    color: int = 8
    spots: int = 0


@st.composite
def ranges(draw: st.DrawFn) -> Ranges:
    """Small and large, all in one place and all over."""
    spots = draw(st.sampled_from([0, 0, 1, 2, 5]))
    return Ranges(draw(wide(0, MAX_ROOT)), draw(wide(0, MAX_RATIO)), draw(wide(0, MAX_COLOR)), spots)


def color_limits(lattice: Lattice, sizes: np.ndarray) -> np.ndarray:
    """Largest magnitudes [N, C] of colour symbols."""
    roots = lattice.root + sizes.astype(np.int64) * lattice.root_step
    steps = np.maximum(1, np.array(lattice.color_steps, np.int64) * UNIT // (roots * roots // UNIT)[:, None])
    return np.minimum(MAX_COLOR, MAX_COLOR_VALUE // steps)


def sample(seed: int, lattice: Lattice, box: Box, count: int, limits: Ranges | None = None) -> LatticeSymbols:
    """Random symbols of ``count`` Gaussians, not yet on places that the tree leaves."""
    limits = limits or Ranges()
    random = np.random.default_rng(seed)
    x, y, width, height = box
    shape = np.zeros((count, 5), np.int32)
    shape[:, 0] = random.integers(0, min(limits.size, lattice.most_size) + 1, count)
    shape[:, 1] = random.integers(0, limits.ratio + 1, count)
    if count:
        shape[:, 2] = random.integers(0, lattice.angles(shape[:, 0], shape[:, 1]))
    spots = random.integers((1024 * x, 1024 * y), (1024 * (x + width), 1024 * (y + height)), (limits.spots or count, 2))
    shape[:, 3:] = spots[random.integers(0, len(spots), count)] if limits.spots else spots
    most = np.minimum(color_limits(lattice, shape[:, 0]), limits.color)
    return LatticeSymbols(shape, random.integers(-most, most + 1).astype(np.int32))


def in_range(symbols: LatticeSymbols, lattice: Lattice, box: Box) -> bool:
    """Whether an encoder takes them."""
    if not len(symbols):
        return True
    sizes, ratios, angles, xs, ys = symbols.shape.astype(np.int64).T
    x, y, width, height = box
    return bool(
        (sizes >= 0).all()
        and (sizes <= lattice.most_size).all()
        and (ratios >= 0).all()
        and (ratios <= MAX_RATIO).all()
        and (angles >= 0).all()
        and (angles < lattice.angles(symbols.shape[:, 0], symbols.shape[:, 1])).all()
        and ((xs >= 1024 * x) & (xs < 1024 * (x + width))).all()
        and ((ys >= 1024 * y) & (ys < 1024 * (y + height))).all()
        and (np.abs(symbols.colors.astype(np.int64)) <= color_limits(lattice, symbols.shape[:, 0])).all()
    )
