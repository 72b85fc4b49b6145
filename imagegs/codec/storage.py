"""Gaussians <-> a ``.gsimg`` file: the one place where grid, symbols, payload and container meet.

```
Gaussians2D ─ choose_grid, quantize ─> Symbols ─ pack ─> payload ─ write_container ─> bytes ─ atomic_write ─> file
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError, FormatError, ImageError, ShapeError
from ..files import atomic_write
from ..gaussians import Gaussians2D
from ..image import MAX_PIXELS, PictureInfo
from .format import (
    KIND_GAUSSIANS,
    START_BYTES,
    Chunk,
    Container,
    Header,
    Payload,
    check_start,
    read_container,
    write_container,
)
from .packing import pack, unpack
from .quantization import BitWidths, Grid, Symbols, choose_grid, dequantize, quantize


@dataclass(frozen=True, eq=False)
class GsimgFile:
    """What a ``.gsimg`` file holds, and where its bytes go.

    Attributes:
        gaussians: as decoded.
        info: what is needed to give the channels back as files; None where the file does not say.
        bits: widths of the symbols.
        grid: where the symbols lie.
        version: (major, minor) of the file.
        chunks: the chunk table, kinds unknown to this program included.
        sections: bytes by section: ``header``, ``metadata``, ``table``, ``payload``; their sum is ``size``.
        size: the whole file, bytes.
    """

    gaussians: Gaussians2D
    info: PictureInfo | None
    bits: BitWidths
    grid: Grid
    version: tuple[int, int]
    chunks: tuple[Chunk, ...]
    sections: dict[str, int]
    size: int

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel of the canvas."""
        return 8 * self.size / (self.gaussians.height * self.gaussians.width)

    @property
    def bits_per_gaussian(self) -> dict[str, int]:
        """Bits of one Gaussian in the payload by attribute: ``position``, ``scale``, ``rotation``, ``color``."""
        bits = self.bits
        return {
            "position": 2 * bits.position,
            "scale": 2 * bits.scale,
            "rotation": bits.rotation,
            "color": self.gaussians.channels * bits.color,
        }


def write_file(
    gaussians: Gaussians2D, *, bits: BitWidths | None = None, grid: Grid | None = None, info: PictureInfo | None = None
) -> bytes:
    """The bytes of a ``.gsimg`` file; the same input gives the same bytes.

    Args:
        gaussians: N Gaussians, N may be 0.
        bits: widths of the symbols; None is ``BitWidths()``, or those of the grid.
        grid: where the symbols lie; None chooses the grid that covers the Gaussians.
        info: what is needed to give the channels back as files; None stores nothing.

    Returns:
        The whole file.

    Raises:
        ConfigError: ``bits`` are not those of the grid, or ``info`` has another number of channels.
        ShapeError: the grid has another number of channels.
    """
    if info is not None and info.channels != gaussians.channels:
        raise ConfigError(f"info: expected {gaussians.channels} channels as in the Gaussians, found {info.channels}")
    if grid is None:
        grid = choose_grid(gaussians, BitWidths() if bits is None else bits)
    elif bits not in (None, grid.bits):
        raise ConfigError(f"bits: expected those of the grid, {grid.bits}, found {bits}")
    symbols = quantize(gaussians, grid)
    header = Header(
        height=gaussians.height,
        width=gaussians.width,
        blend=gaussians.blend,
        top_k=gaussians.top_k,
        background=gaussians.background,
        grid=grid,
    )
    metadata = b"" if info is None else info.to_bytes()
    return write_container(header, metadata, [Payload(pack(symbols, grid.bits), count=len(symbols))])


def parse(data: bytes, *, max_pixels: int = MAX_PIXELS, name: str = "bytes") -> GsimgFile:
    """Read the bytes of a ``.gsimg`` file.

    Args:
        data: the whole file.
        max_pixels: refuse a canvas of more pixels.
        name: what an error calls the file.

    Returns:
        Its contents.

    Raises:
        FormatError: the bytes are not a ``.gsimg`` file of a version that is known here, or were cut or altered.
    """
    data = bytes(data)
    container = read_container(data, max_pixels=max_pixels, name=name)
    header = container.header
    symbols = _read_symbols(container, name)
    try:
        gaussians = dequantize(
            symbols,
            header.grid,
            height=header.height,
            width=header.width,
            background=header.background,
            blend=header.blend,
            top_k=header.top_k,
        )
    except ShapeError as error:
        raise FormatError(f"{name}: {error}") from error
    return GsimgFile(
        gaussians=gaussians,
        info=_read_info(container, name),
        bits=header.grid.bits,
        grid=header.grid,
        version=container.version,
        chunks=container.chunks,
        sections=container.sections,
        size=len(data),
    )


def read_file(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> GsimgFile:
    """Read a ``.gsimg`` file from the disk; what is no such file is refused by its first bytes.

    Args:
        path: the file.
        max_pixels: refuse a canvas of more pixels.

    Returns:
        Its contents.

    Raises:
        ImageError: the file is missing or cannot be read.
        FormatError: as `parse`.
    """
    name = str(path)
    if "\0" in name:
        raise ImageError(f"{name!r}: expected a path, found a null character in it")
    try:
        with open(path, "rb") as file:
            start = file.read(START_BYTES)
            check_start(start, name)
            data = start + file.read()
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {(error.strerror or type(error).__name__).lower()}") from error
    return parse(data, max_pixels=max_pixels, name=name)


def save(
    path: str | Path, gaussians: Gaussians2D, *, bits: BitWidths | None = None, info: PictureInfo | None = None
) -> int:
    """Write Gaussians to a ``.gsimg`` file, whole or not at all.

    Saving what `load` returned, with the same ``bits`` and ``info``, gives the same bytes.

    Args:
        path: the file; one that exists is replaced.
        gaussians: N Gaussians, N may be 0.
        bits: widths of the symbols; None is ``BitWidths()``.
        info: what is needed to give the channels back as files; None stores nothing.

    Returns:
        Bytes written.

    Raises:
        ConfigError: ``info`` has another number of channels than the Gaussians.
        ImageError: the file cannot be written.
    """
    data = write_file(gaussians, bits=bits, info=info)
    atomic_write(path, data)
    return len(data)


def load(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Gaussians2D:
    """Read the Gaussians of a ``.gsimg`` file.

    Args:
        path: the file.
        max_pixels: refuse a canvas of more pixels.

    Returns:
        The Gaussians, as rounded when they were saved.

    Raises:
        ImageError: the file is missing or cannot be read.
        FormatError: as `parse`.
    """
    return read_file(path, max_pixels=max_pixels).gaussians


def _read_symbols(container: Container, name: str) -> Symbols:
    """The symbols of all chunks of Gaussians, in the order of the table."""
    grid = container.header.grid
    parts = [
        unpack(payload, chunk.count, grid.channels, grid.bits, where=f"{name}: chunk {number}")
        for number, (chunk, payload) in enumerate(zip(container.chunks, container.payloads, strict=True))
        if chunk.kind == KIND_GAUSSIANS
    ]
    if len(parts) == 1:
        return parts[0]
    parts = parts or [unpack(b"", 0, grid.channels, grid.bits)]
    return Symbols(
        positions=np.concatenate([part.positions for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        rotations=np.concatenate([part.rotations for part in parts]),
        colors=np.concatenate([part.colors for part in parts]),
    )


def _read_info(container: Container, name: str) -> PictureInfo | None:
    if not container.metadata:
        return None
    try:
        info = PictureInfo.from_bytes(container.metadata)
    except FormatError as error:
        raise FormatError(f"{name}: metadata: {error}") from error
    expected = container.header.grid.channels
    if info.channels != expected:
        raise FormatError(f"{name}: metadata: expected {expected} channels as in the header, found {info.channels}")
    return info
