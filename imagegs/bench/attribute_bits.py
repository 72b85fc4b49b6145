"""Bits of a file by attribute and by step of the entropy coder: what each of its contexts is worth.

The steps:

- ``as a list``: as order-0, but with the log2 N! bits of the order in which a list of Gaussians stands.
- ``order-0``: sizes, ratios and colours by their own frequencies over the file (the table of frequencies not counted),
  directions as equally likely among those that their Gaussian's shape tells apart, places as equally likely within the
  block, less the log2 N! bits of an order that nobody needs. No contexts.
- ``contexts``: what the adaptive coder took for the very same symbols.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..codec.entropy import BlockDecoder, Box
from ..codec.lattice import Lattice, LatticeSymbols
from ..decoding import read_gsimg
from ..errors import FormatError
from ..kernels import native

Steps = Mapping[str, Mapping[str, float]]
"""Step -> attribute -> bits, in the order of the work."""


def order_0(symbols: npt.NDArray[np.integer[Any]]) -> float:
    """Bits of a sequence of symbols by their own frequencies."""
    counts = np.unique(symbols.ravel(), return_counts=True)[1]
    return float(-np.sum(counts * np.log2(counts / counts.sum())))


def steps_of(data: bytes) -> Steps:
    """Bits of a file of quantizer 1, by step and attribute.

    Raises:
        FormatError: it is a file of another quantizer.
    """
    file = read_gsimg(data)
    lattice = file.quantizer
    if not isinstance(lattice, Lattice):
        raise FormatError("quantizer: expected 1, with entropy coding, found fixed widths")
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
