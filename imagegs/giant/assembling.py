"""Parts of tiles -> one file: its head from what all of them say, then their payloads in its order, one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..codec.codings import parameters
from ..codec.fields import checksum
from ..codec.format import Header, round_background, write_head
from ..codec.table import KIND_GAUSSIANS, MAX_ENTRIES, Chunk, cut_pages
from ..files import atomic_stream
from ..fitting.losses import to_psnr
from .stages import Plan, read_part

OPEN_PARTS = 64
"""Parts whose payloads are held at the same time."""


PAGED = 512
"""Files of more chunks have their table in pages."""
LEAST_ENTRIES = 32
"""Most chunks of a page, unless that makes so many pages that larger ones are better."""


@dataclass(frozen=True)
class Piece:
    """A chunk, and where its bytes are.

    Attributes:
        chunk: of the table.
        tile: whose part has it.
        start: of its bytes there.
    """

    chunk: Chunk
    tile: int
    start: int


def pieces(plan: Plan, factor: float, psnrs: Sequence[float] = ()) -> list[Piece]:
    """All chunks, in the order of the file.

    Args:
        plan: of the picture.
        factor: of the quantiser's steps.
        psnrs: of the prefixes that end with each level, dB.
    """
    found = []
    for tile in range(len(plan.tiles)):
        part = read_part(plan.part("code", tile, factor))
        start, data = 0, part["data"].tobytes()
        for level, block, count, far, length in part["table"].tolist():
            sum_ = checksum(data[start : start + length])
            chunk = Chunk(KIND_GAUSSIANS, 0, level, block, count, 0, length, far, None, sum_)
            found.append(Piece(chunk, tile, start))
            start += length
    found.sort(key=lambda piece: (piece.chunk.level, piece.chunk.block))
    return list(_with_psnrs(found, psnrs))


def _with_psnrs(found: list[Piece], psnrs: Sequence[float]) -> Iterator[Piece]:
    for piece, following in zip(found, [*found[1:], None], strict=True):
        level = piece.chunk.level
        if level < len(psnrs) and (following is None or following.chunk.level != level):
            piece = replace(piece, chunk=replace(piece.chunk, psnr=psnrs[level]))
        yield piece


def head_of(plan: Plan, factor: float, found: Sequence[Piece]) -> bytes:
    """The head of the file, with its pages."""
    number, stored = parameters(plan.lattice(factor))
    tiles, config = plan.tiles, plan.config
    background = round_background(np.array(plan.background, np.float32))
    header = Header(tiles.height, tiles.width, config.blend, config.top_k, background, number, stored, tiles.shift)
    chunks = [piece.chunk for piece in found] or [Chunk(KIND_GAUSSIANS, number, 0, 0, 0, 0, 0, 0, None, checksum(b""))]
    coded = [replace(chunk, coding=number) for chunk in chunks]
    counts = cut_pages(coded, header.blocks, page_entries(len(coded))) if len(coded) > PAGED else []
    return write_head(header, plan.windows.info.to_bytes(), coded, counts)


def page_entries(count: int) -> int:
    """Most chunks of a page in a file of so many; a region takes about as many bytes of pages as of their list."""
    return min(max(1 << (math.isqrt(count // 8) - 1).bit_length(), LEAST_ENTRIES), MAX_ENTRIES)


def write(plan: Plan, factor: float, psnrs: Sequence[float], output: Path) -> tuple[int, int]:
    """Write the file, whole or not at all; its bytes and Gaussians.

    Raises:
        ImageError: it cannot be written, or a part is gone.
    """
    found = pieces(plan, factor, psnrs)
    held: dict[int, npt.NDArray[Any]] = {}
    with atomic_stream(output) as file:
        total = file.write(head_of(plan, factor, found))
        for piece in found:
            if piece.tile not in held:
                if len(held) >= OPEN_PARTS:
                    del held[next(iter(held))]
                held[piece.tile] = read_part(plan.part("code", piece.tile, factor))["data"]
            data = held[piece.tile][piece.start : piece.start + piece.chunk.length]
            total += file.write(data.tobytes())
    return total, sum(piece.chunk.count for piece in found)


def total_size(plan: Plan, factor: float) -> int:
    """Bytes of the file that there would be."""
    found = pieces(plan, factor)
    return len(head_of(plan, factor, found)) + sum(piece.chunk.length for piece in found)


def psnrs_of(sums: npt.NDArray[np.float64], samples: int) -> list[float]:
    """PSNR of each level, dB, from sums of squared errors."""
    return [to_psnr(float(value) / samples) if math.isfinite(value) else math.nan for value in sums]
