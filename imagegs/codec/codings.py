"""Which quantizer is which, and which coding goes with it: the one place that knows all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import FormatError
from ..gaussians import Gaussians2D
from .blocks import Box
from .format import Header
from .packing import FixedWidthDecoder, concatenate, grid_from_bytes, grid_to_bytes, packed_length
from .quantization import Grid, dequantize
from .table import GAUSSIANS_PER_BYTE, Chunk

if TYPE_CHECKING:
    from .lattice import Lattice


class BlockDecoder(Protocol):
    """Decodes the payloads of one block, one level after another.

    Attributes:
        bits: of each payload so far, by attribute.
    """

    bits: list[dict[str, float]]

    def decode(self, payload: bytes, count: int, *, cut: bool = False) -> Any:
        """Symbols of the next level; where the payload was cut, those that are whole. Raises FormatError."""
        ...


@dataclass(frozen=True)
class Coding:
    """A quantizer and the coding that goes with it.

    Attributes:
        number: of both, in the header and in the chunk table.
        name: what people call the coding.
        read: the quantizer from its parameters and the number of channels; FormatError.
        lengths: the least and the most bytes that a number of Gaussians may take.
        decoder: what decodes the payloads of a block, from the quantizer and the block's box.
        dequantize: Gaussians from symbols of several payloads, in order; ShapeError or FormatError.
    """

    number: int
    name: str
    read: Callable[[bytes, int], Any]
    lengths: Callable[[Any, int], tuple[int, int | None]]
    decoder: Callable[[Any, Box], BlockDecoder]
    dequantize: Callable[[Sequence[Any], Any, Header], Gaussians2D]


def find(number: int) -> Coding:
    """The coding of a file by the number of its quantizer.

    Raises:
        FormatError: there is none of this number here.
    """
    known = {0: fixed_width, 1: contexts}
    if number not in known:
        raise FormatError(f"quantizer: expected {' or '.join(map(str, known))}, found {number}")
    return known[number]()


def parameters(quantizer: Grid | Lattice) -> tuple[int, bytes]:
    """The number of a quantizer and its bytes, as the header stores them."""
    if isinstance(quantizer, Grid):
        return 0, grid_to_bytes(quantizer)
    return 1, quantizer.to_bytes()


def check_coding(chunk: Chunk, coding: Coding) -> None:
    """Check the coding of a chunk of Gaussians, or of all of a page.

    Raises:
        FormatError: it is another.
    """
    if chunk.coding != coding.number:
        raise FormatError(f"coding: expected {coding.number} ({coding.name}), found {chunk.coding}")


def check_chunk(chunk: Chunk, coding: Coding, quantizer: Any) -> None:
    """Check what the table says of a chunk of Gaussians against its coding.

    Raises:
        FormatError: the coding is another, or so many Gaussians do not have so many bytes in it.
    """
    check_coding(chunk, coding)
    least, most = coding.lengths(quantizer, chunk.count)
    if chunk.length < least or (most is not None and chunk.length > most):
        expected = (
            f"{least:,}" if least == most else f"at least {least:,}" if most is None else f"{least:,} to {most:,}"
        )
        raise FormatError(f"length: expected {expected} bytes for {chunk.count:,} Gaussians, found {chunk.length:,}")


def fixed_width() -> Coding:
    """Quantizer 0, a uniform grid, with symbols of fixed width."""
    return Coding(
        number=0,
        name="fixed width",
        read=grid_from_bytes,
        lengths=_fixed_lengths,
        decoder=lambda grid, box: FixedWidthDecoder(grid),
        dequantize=lambda parts, grid, header: dequantize(concatenate(parts, grid.channels), grid, **_canvas(header)),
    )


def _fixed_lengths(grid: Grid, count: int) -> tuple[int, int]:
    length = packed_length(count, grid.channels, grid.bits)
    return length, length


def contexts() -> Coding:
    """Quantizer 1, a lattice in each Gaussian's own frame, with a range coder that adapts to contexts."""
    from .entropy import BlockDecoder as ContextDecoder
    from .lattice import Lattice, LatticeSymbols, dequantize_lattice

    return Coding(
        number=1,
        name="range coder",
        read=Lattice.from_bytes,
        lengths=lambda _, count: (-(-count // GAUSSIANS_PER_BYTE), None),
        decoder=ContextDecoder,
        dequantize=lambda parts, quantizer, header: dequantize_lattice(
            LatticeSymbols.concatenate(parts, quantizer.channels), quantizer, **_canvas(header)
        ),
    )


def _canvas(header: Header) -> dict[str, Any]:
    return {
        "height": header.height,
        "width": header.width,
        "background": header.background,
        "blend": header.blend,
        "top_k": header.top_k,
    }
