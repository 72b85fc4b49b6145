"""Gaussians on a lattice -> a ``.gsimg`` file with levels and blocks (quantizer 1, coding 1).

```
model ─ quantize_shape ─> shape ─ arrange ─> groups by (level, block) ─ place ─> symbols ─ write_lattice ─> bytes
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..gaussians import Blend, FloatArray
from ..image import PictureInfo
from .blocks import Blocks, reach
from .entropy import BlockEncoder, place
from .format import Payload
from .lattice import DoubleArray, IntArray, Lattice, LatticeSymbols, dequantize_lattice
from .storage import split_blocks, write_levels

Rows = npt.NDArray[np.int64]

LEVEL_RATIO = 4
"""Each level has so many times the Gaussians of all before it together and itself."""


@dataclass(frozen=True, eq=False)
class Group:
    """Gaussians of one level and block.

    Attributes:
        level: 0 is the coarsest.
        block: of the canvas.
        rows: which they are.
    """

    level: int
    block: int
    rows: Rows


def usual_ends(count: int, levels: int) -> list[int]:
    """Where levels of ``count`` Gaussians end, each with about a quarter of the next; fewer if there are too few."""
    return sorted({max(1, round(count / LEVEL_RATIO**k)) for k in range(levels)}) if count else [0]


def arrange(
    worth: npt.NDArray[np.floating] | npt.NDArray[np.integer], means: FloatArray, ends: Sequence[int], blocks: Blocks
) -> list[Group]:
    """Gaussians by level, those of the most worth first, and by block; in the order of a file.

    Args:
        worth: [N] what to sort them by, such as their areas.
        means: [N, 2] px.
        ends: how many Gaussians the levels up to each have, the last N.
        blocks: of the canvas.
    """
    order = np.argsort(-worth, kind="stable").astype(np.int64)
    groups, start = [], 0
    for level, end in enumerate(ends):
        rows = np.sort(order[start:end])
        groups += [Group(level, block, rows[part]) for block, part in split_blocks(means[rows], blocks)]
        start = end
    return groups


def place_groups(
    shape: IntArray, means: FloatArray, lattice: Lattice, groups: Sequence[Group], blocks: Blocks
) -> IntArray:
    """Shapes [N, 3] at means [N, 2] -> symbols [N, 5] with places that their groups' trees have."""
    symbols = np.zeros((len(shape), 5), np.int32)
    for group in groups:
        box = blocks.box(group.block)
        symbols[group.rows] = place(shape[group.rows], means[group.rows], lattice, box)
    return symbols


@dataclass(frozen=True, eq=False)
class LatticeFile:
    """A file and what went into it.

    Attributes:
        data: its bytes.
        bits: bits of the payloads by attribute.
        symbols: in the order of decoding.
    """

    data: bytes
    bits: dict[str, float]
    symbols: LatticeSymbols


def write_lattice(
    symbols: LatticeSymbols,
    lattice: Lattice,
    groups: Sequence[Group],
    *,
    height: int,
    width: int,
    background: FloatArray,
    blend: Blend = "normalized",
    top_k: int = 10,
    block_shift: int = 0,
    info: PictureInfo | None = None,
    wanted: DoubleArray | None = None,
    bit_worth: float | DoubleArray = 0.0,
) -> LatticeFile:
    """Code symbols [N] as a file; see ``storage.write_levels`` and ``entropy.BlockEncoder.encode``."""
    blocks = Blocks(width, height, block_shift)
    canvas = {"height": height, "width": width, "background": background}
    encoders: dict[int, BlockEncoder] = {}
    payloads, parts = [], []
    for group in groups:
        if not len(group.rows):
            payloads.append(Payload(b"", 0, group.level, group.block))
            continue
        box = blocks.box(group.block)
        encoder = encoders.setdefault(group.block, BlockEncoder(lattice, box))
        before = None if wanted is None else wanted[group.rows]
        worth = np.broadcast_to(np.asarray(bit_worth, np.float64), len(symbols))[group.rows]
        data, part = encoder.encode(symbols.take(group.rows), before, worth)
        far = reach(dequantize_lattice(part, lattice, **canvas), box)  # type: ignore[arg-type]
        payloads.append(Payload(data, len(part), group.level, group.block, far))
        parts.append(part)
    whole = write_levels(
        payloads,
        quantizer=lattice,
        height=height,
        width=width,
        background=background,
        blend=blend,
        top_k=top_k,
        block_shift=block_shift,
        info=info,
    )
    bits: dict[str, float] = {}
    for encoder in encoders.values():
        for level in encoder.bits:
            bits = {name: bits.get(name, 0.0) + value for name, value in level.items()}
    return LatticeFile(whole, bits, LatticeSymbols.concatenate(parts, lattice.channels))
