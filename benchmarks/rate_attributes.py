"""Bits per Gaussian by attribute, by step of the entropy coder: a table {step: {attribute: bits per Gaussian}}.

The steps of a file:

- ``as a list``: as order-0, but with the log2 N! bits of the order in which a list of Gaussians stands.
- ``order-0``: sizes, ratios and colours by their own frequencies over the file (the table of frequencies not counted),
  directions as equally likely among those that their Gaussian's shape tells apart, places as equally likely within the
  block, less the log2 N! bits of an order that nobody needs. No contexts.
- ``contexts``: what the adaptive coder took for the very same symbols.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rate_points import Ours, Source
from rate_store import Store

from imagegs.codec.entropy import BlockDecoder, Box
from imagegs.codec.lattice import Lattice, LatticeSymbols
from imagegs.decoding import read_gsimg
from imagegs.kernels import native

Steps = Mapping[str, Mapping[str, float]]
"""Step -> attribute -> bits, in the order of the work."""


def order_0(symbols: npt.NDArray[np.integer[Any]]) -> float:
    """Bits of a sequence of symbols by their own frequencies."""
    counts = np.unique(symbols.ravel(), return_counts=True)[1]
    return float(-np.sum(counts * np.log2(counts / counts.sum())))


def steps_of(data: bytes) -> Steps:
    """Bits of a file of quantizer 1, by step and attribute.

    Raises:
        ValueError: it is a file of another quantizer.
    """
    file = read_gsimg(data)
    lattice = file.quantizer
    if not isinstance(lattice, Lattice):
        raise ValueError(f"expected a file of quantizer 1, found a {type(lattice).__name__}")
    parts, position = [], 0.0
    decoders: dict[int, BlockDecoder] = {}
    for chunk in file.whole:
        box = file.header.blocks.box(chunk.block)
        decoder = decoders.setdefault(chunk.block, BlockDecoder(lattice, box))
        symbols = decoder.decode(data[chunk.offset : chunk.offset + chunk.length], chunk.count)
        position += _places(symbols, lattice, box)
        parts.append(symbols)
    every = LatticeSymbols.concatenate(parts, lattice.channels)
    sizes, ratios = every.shape[:, 0], every.shape[:, 1]
    plain = {
        "position": position,
        "scale": order_0(sizes) + order_0(ratios),
        "rotation": float(np.sum(np.log2(np.maximum(1, lattice.angles(sizes, ratios))))),
        "color": sum(order_0(channel) for channel in every.colors.T),
    }
    order = sum(math.lgamma(chunk.count + 1) / math.log(2) for chunk in file.whole)
    listed = plain | {"position": position + order}
    return {"as a list": listed, "order-0": plain, "contexts": file.attribute_bits}


def _places(symbols: LatticeSymbols, lattice: Lattice, box: Box) -> float:
    """Bits of a set of places in a block, all places equally likely."""
    if not len(symbols):
        return 0.0
    cells = native.block_codec(lattice.steps, box).cells(np.ascontiguousarray(symbols.shape)).astype(np.float64)
    _, _, wide, high, columns, rows = cells.T
    each = np.log2(box[2] * box[3] * columns * rows / (wide * high))
    return float(np.sum(each) - math.lgamma(len(symbols) + 1) / math.log(2))


def per_gaussian(files: Sequence[tuple[int, Steps]]) -> dict[str, dict[str, float]]:
    """The mean over all Gaussians of all files, with the sum of each step under ``total``.

    Args:
        files: of each file, its number of Gaussians and its bits.
    """
    count = sum(number for number, _ in files)
    table: dict[str, dict[str, float]] = {}
    for _, steps in files:
        for step, bits in steps.items():
            row = table.setdefault(step, {})
            for name, value in bits.items():
                row[name] = row.get(name, 0.0) + value / count
    return {
        step: {name: round(value, 3) for name, value in row.items()} | {"total": round(sum(row.values()), 3)}
        for step, row in table.items()
    }


def attributes(ours: Ours, sets: Mapping[str, Sequence[Source]], rate: float, store: Store) -> dict[str, Any]:
    """The table of each set, over the files of ours at one rate that are kept."""
    found: dict[str, Any] = {}
    for name, sources in sets.items():
        files = []
        for source in sources:
            point = ours.kept(source, rate, store)
            if point is not None:
                files.append((point.extra["gaussians"], steps_of((store.files / point.extra["file"]).read_bytes())))
        if files:
            found[name] = {"pictures": len(files), "steps": per_gaussian(files)}
    return {"effort": ours.effort, "rate": rate, "sets": found}
