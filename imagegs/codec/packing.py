"""Symbols <-> bytes with a fixed width per symbol: payload coding 0 (docs/format.md, section 7).

One Gaussian is one record of R bits: x, y, first scale, second scale, rotation, colours; the most significant bit of
each symbol first, records without padding, zero bits up to the end of the last byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, ShapeError
from .quantization import BitWidths, Symbols

_BLOCK_BITS = 1 << 23
"""Bits unpacked at a time, one byte each: bounds the memory, and stays within a processor's cache."""


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
