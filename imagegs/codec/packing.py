"""Symbols <-> bytes with a fixed width per symbol: coding 0 and the parameters of quantizer 0.

One Gaussian is one record of R bits: x, y, first scale, second scale, rotation, colours; the most significant bit of
each symbol first, records without padding, zero bits up to the end of the last byte (docs/format.md, section 7).

The parameters are the four widths and the ranges of the grid, float32 (section 8).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, FormatError, ShapeError
from .quantization import BitWidths, Grid, Symbols

PARTS = ("position", "scale", "rotation", "color")
"""Attributes that bits are counted for."""

_WIDTHS = 4
_RANGES = 4 + 2
"""Floats: position low x, low y, high x, high y; scale low, high."""

_BLOCK_BITS = 1 << 23
"""Bits unpacked at a time, one byte each: bounds the memory, and stays within a processor's cache."""


def grid_to_bytes(grid: Grid) -> bytes:
    """The parameters of quantizer 0."""
    bits = grid.bits
    ranges = np.concatenate([grid.position.ravel(), grid.scale, grid.color.ravel()])
    return bytes([bits.position, bits.scale, bits.rotation, bits.color]) + ranges.astype("<f4").tobytes()


def grid_from_bytes(data: bytes, channels: int) -> Grid:
    """The inverse of `grid_to_bytes`.

    Args:
        data: the parameters.
        channels: C colours per Gaussian.

    Returns:
        Where the symbols lie.

    Raises:
        FormatError: the length is not that for C channels, or a width or a range is none.
    """
    expected = _WIDTHS + 4 * (_RANGES + 2 * channels)
    if len(data) != expected:
        raise FormatError(f"quantizer's parameters: expected {expected} bytes, found {len(data):,}")
    floats = np.frombuffer(data, "<f4", offset=_WIDTHS).astype(np.float32)
    position, scale, color = np.split(floats, [4, _RANGES])
    try:
        bits = BitWidths(*data[:_WIDTHS])
        return Grid(bits=bits, position=position.reshape(2, 2), scale=scale, color=color.reshape(2, channels))
    except (ConfigError, ShapeError) as error:
        raise FormatError(str(error)) from error


class FixedWidthDecoder:
    """Decodes the payloads of a block; with fixed widths, each on its own.

    Attributes:
        bits: of each payload so far, by attribute.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.bits: list[dict[str, float]] = []

    def decode(self, payload: bytes, count: int, *, cut: bool = False) -> Symbols:
        """The symbols of a payload.

        Args:
            payload: its bytes.
            count: Gaussians in it.
            cut: the payload ends early; what is whole of it is wanted.

        Returns:
            ``count`` Gaussians, or where ``cut`` as many as are whole.

        Raises:
            FormatError: the length is not that of so many Gaussians, or the padding bits are not zero.
        """
        channels, bits = self._grid.channels, self._grid.bits
        if cut:
            record = sum(bits.record(channels))
            count = min(count, 8 * len(payload) // record)
            whole, over = divmod(count * record, 8)
            payload = payload[:whole] + (bytes([payload[whole] & 0xFF00 >> over]) if over else b"")
        symbols = unpack(payload, count, channels, bits)
        widths = (2 * bits.position, 2 * bits.scale, bits.rotation, channels * bits.color)
        self.bits.append({name: float(count * width) for name, width in zip(PARTS, widths, strict=True)})
        return symbols


def concatenate(parts: Sequence[Symbols], channels: int) -> Symbols:
    """The symbols of all parts, one after another; there may be none."""
    parts = parts or [unpack(b"", 0, channels, BitWidths())]
    if len(parts) == 1:
        return parts[0]
    return Symbols(
        positions=np.concatenate([part.positions for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        rotations=np.concatenate([part.rotations for part in parts]),
        colors=np.concatenate([part.colors for part in parts]),
    )


def packed_length(count: int, channels: int, bits: BitWidths) -> int:
    """Bytes of the payload of ``count`` Gaussians with ``channels`` colours."""
    return (count * sum(bits.record(channels)) + 7) // 8


def pack(symbols: Symbols, bits: BitWidths) -> bytes:
    """Write symbols with a fixed width.

    Args:
        symbols: N Gaussians as integers.
        bits: widths of the symbols.

    Returns:
        ``packed_length(N, C, bits)`` bytes.

    Raises:
        ShapeError: a symbol does not fit its width.
    """
    for name, array, width in (
        ("positions", symbols.positions, bits.position),
        ("scales", symbols.scales, bits.scale),
        ("rotations", symbols.rotations, bits.rotation),
        ("colors", symbols.colors, bits.color),
    ):
        if array.size and int(array.max()) >> width:
            raise ShapeError(f"{name}: expected symbols of {width} bits, found {int(array.max())}")
    widths = bits.record(symbols.channels)
    block = _records_per_block(len(widths))
    return b"".join(
        np.packbits(_gather(_columns(symbols, start, start + block), widths)).tobytes()
        for start in range(0, len(symbols), block)
    )


def unpack(data: bytes, count: int, channels: int, bits: BitWidths, *, where: str = "payload") -> Symbols:
    """Read what ``pack`` wrote; memory is taken only after the length was found right.

    Args:
        data: the payload.
        count: N Gaussians.
        channels: C colours per Gaussian.
        bits: widths of the symbols.
        where: what an error calls the payload.

    Returns:
        Symbols of N Gaussians.

    Raises:
        FormatError: the length is not that of N Gaussians, or the padding bits are not zero.
    """
    expected = packed_length(count, channels, bits)
    if len(data) != expected:
        raise FormatError(f"{where}: expected {expected:,} bytes for {count:,} Gaussians, found {len(data):,}")
    widths = bits.record(channels)
    record = sum(widths)
    padding = 8 * expected - count * record
    if padding and data[-1] & ((1 << padding) - 1):
        raise FormatError(f"{where}: expected {padding} zero bits at the end, found byte 0x{data[-1]:02X}")
    packed = np.frombuffer(data, np.uint8)
    columns = np.empty((count, len(widths)), np.uint32)
    block = _records_per_block(len(widths))
    for start in range(0, count, block):
        stop = min(start + block, count)
        # A block starts at a whole byte: it holds a multiple of eight records.
        taken = np.unpackbits(packed[start * record // 8 : (stop * record + 7) // 8], count=(stop - start) * record)
        columns[start:stop] = _scatter(taken.reshape(stop - start, record), widths)
    return Symbols(
        positions=np.ascontiguousarray(columns[:, 0:2]),
        scales=np.ascontiguousarray(columns[:, 2:4]),
        rotations=np.ascontiguousarray(columns[:, 4]),
        colors=np.ascontiguousarray(columns[:, 5:]),
    )


def _records_per_block(symbols: int) -> int:
    return _BLOCK_BITS // (32 * symbols) // 8 * 8


def _columns(symbols: Symbols, start: int, stop: int) -> npt.NDArray[np.uint32]:
    part = slice(start, stop)
    return np.column_stack(
        [symbols.positions[part], symbols.scales[part], symbols.rotations[part], symbols.colors[part]]
    )


def _gather(columns: npt.NDArray[np.uint32], widths: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Symbols [n, A] -> their low bits, one per byte, [n, R]."""
    n = len(columns)
    every = np.unpackbits(columns.astype(">u4").view(np.uint8), axis=1).reshape(n, len(widths), 32)
    bits = np.empty((n, sum(widths)), np.uint8)
    end = 0
    for k, width in enumerate(widths):
        start, end = end, end + width
        bits[:, start:end] = every[:, k, 32 - width :]
    return bits


def _scatter(bits: npt.NDArray[np.uint8], widths: tuple[int, ...]) -> npt.NDArray[np.uint32]:
    """Bits [n, R], one per byte -> symbols [n, A]: the inverse of ``_gather``."""
    n = len(bits)
    every = np.zeros((n, len(widths), 32), np.uint8)
    end = 0
    for k, width in enumerate(widths):
        start, end = end, end + width
        every[:, k, 32 - width :] = bits[:, start:end]
    return np.packbits(every.reshape(n, -1), axis=1).view(">u4").astype(np.uint32)
