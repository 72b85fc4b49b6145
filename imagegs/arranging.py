"""The Gaussians of a file in other levels and blocks, without another fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .codec import parse
from .codec.blocks import Blocks
from .codec.lattice import Lattice, LatticeSymbols, in_steps, quantize_shape
from .codec.lattice_file import arrange, place_groups, usual_ends, write_lattice
from .errors import ConfigError, ShapeError
from .fitting.losses import to_psnr
from .gaussians import MAX_SIDE, FloatArray, Gaussians2D
from .guidance import sample
from .rendering import render

MAX_LEVELS = 16


@dataclass(frozen=True, eq=False)
class Rearranged:
    """A file whose Gaussians stand in another order.

    Attributes:
        data: its bytes.
        gaussians: what they decode to.
        change: PSNR of its picture against that of the file it was made of, dB; infinite if none of the places moved.
    """

    data: bytes
    gaussians: Gaussians2D
    change: float


def rearrange(
    data: bytes, levels: int = 1, block_shift: int = 0, worth: FloatArray | None = None, *, name: str = "bytes"
) -> Rearranged:
    """Put the Gaussians of a file into levels, the largest first, and blocks.

    Shapes and colours stay as they are; places move by less than their step, since every level of every block has its
    own tree of places. The quality of prefixes is not known and not written.

    Args:
        data: a whole file with entropy coding.
        levels: how many, each of about four times the Gaussians of those before it.
        block_shift: see ``encode``.
        worth: [H, W], weights of a Gaussian's area: what has more of both comes earlier.
        name: what an error calls the file.

    Raises:
        FormatError: it is no such file.
        ConfigError: it has fixed widths, or the levels or blocks are out of range.
    """
    if not 1 <= levels <= MAX_LEVELS:
        raise ConfigError(f"levels: expected 1 to {MAX_LEVELS}, found {levels}")
    file = parse(data, max_pixels=MAX_SIDE * MAX_SIDE, name=name)
    if not isinstance(file.quantizer, Lattice):
        raise ConfigError(f"{name}: expected a file with entropy coding, found one of fixed widths")
    gaussians, lattice = file.gaussians, file.quantizer
    blocks = Blocks(gaussians.width, gaussians.height, block_shift)
    shape = quantize_shape(gaussians.scales, gaussians.rotations, lattice)
    areas = lattice.roots(shape[:, 0]) ** 4
    if worth is not None:
        areas = areas * sample(worth, gaussians.means)
    groups = arrange(areas, gaussians.means, usual_ends(len(gaussians), levels), blocks)
    symbols = place_groups(shape, gaussians.means, lattice, groups, blocks)
    colors = np.rint(in_steps(gaussians.colors, shape[:, 0], lattice)).astype(np.int32)
    written = write_lattice(
        LatticeSymbols(symbols, colors),
        lattice,
        groups,
        height=gaussians.height,
        width=gaussians.width,
        background=gaussians.background,
        blend=gaussians.blend,
        top_k=gaussians.top_k,
        block_shift=block_shift,
        info=file.info,
    )
    found = parse(written.data, max_pixels=MAX_SIDE * MAX_SIDE).gaussians
    return Rearranged(written.data, found, _psnr(render(gaussians), render(found)))


def prefixes(
    data: bytes, reference: FloatArray | None = None, *, name: str = "bytes"
) -> list[dict[str, float | int | None]]:
    """What the levels of a file add up to.

    Args:
        data: a whole file.
        reference: [C, H, W] to measure the PSNR of every prefix against; without it, it is what the file says.
        name: what an error calls the file.

    Returns:
        For each level its number, the bytes of the file up to its end, their share, the Gaussians up to its end, and
        the PSNR of what these show, dB, or None.

    Raises:
        FormatError: it is no such file.
        ShapeError: the reference has another shape.
    """
    file = parse(data, max_pixels=MAX_SIDE * MAX_SIDE, name=name)
    shape = [file.gaussians.channels, file.gaussians.height, file.gaussians.width]
    if reference is not None and list(reference.shape) != shape:
        raise ShapeError(f"{name}: expected a reference of shape {shape}, found {list(reference.shape)}")
    found: list[dict[str, float | int | None]] = []
    levels = sorted({chunk.level for chunk in file.whole})
    for level in levels:
        chunks = [chunk for chunk in file.whole if chunk.level <= level]
        count = sum(chunk.count for chunk in chunks)
        end = max((chunk.offset + chunk.length for chunk in chunks), default=0)
        psnr = chunks[-1].psnr if chunks else None
        if reference is not None:
            image = np.clip(render(file.gaussians.take(slice(0, count))), 0, 1)
            psnr = _psnr(reference, image)
        row = {"level": level, "bytes": end, "share": end / file.size, "gaussians": count, "psnr": psnr}
        found.append(row)
    return found


def _psnr(reference: FloatArray, image: FloatArray) -> float:
    return to_psnr(float(np.mean(np.square(image - reference), dtype=np.float64)))
