"""Gaussians <-> a ``.gsimg`` file: the one place where quantizer, symbols, payloads and container meet.

```
Gaussians2D ─ choose_grid, quantize ─> Symbols ─ by level and block ─ pack ─> Payloads ─ write_levels ─> bytes
bytes ─ Decoder ─> Gaussians2D
```
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import ConfigError, DeviceError, ImageError, ImageGSError, one_line, without_user
from ..files import atomic_write
from ..gaussians import Blend, FloatArray, Gaussians2D
from ..image import MAX_PIXELS, PictureInfo
from .blocks import Blocks, reach
from .codings import parameters
from .format import Header, Payload, round_background, write_container, write_head
from .packing import pack
from .quantization import BitWidths, Grid, Symbols, choose_grid, dequantize, quantize
from .stream import Decoder, feed_chunks, feed_head
from .table import KIND_GAUSSIANS, Chunk

if TYPE_CHECKING:
    from .lattice import Lattice


@dataclass(frozen=True, eq=False)
class GsimgFile:
    """What a ``.gsimg`` file holds, and where its bytes go.

    Attributes:
        gaussians: as decoded, in the order of the chunks.
        info: what is needed to give the channels back as files; None where the file does not say.
        quantizer: how symbols become numbers: a `Grid` (quantizer 0) or a `Lattice` (quantizer 1).
        header: what holds for the whole picture.
        version: (major, minor) of the file.
        chunks: the chunk table, kinds unknown to this program included.
        sections: bytes by section: ``header`` (start and checksum included), ``metadata``, ``table``, ``payload``;
            their sum is ``size``.
        size: the whole file, bytes; of a file that was cut, what there is of it.
        attribute_bits: bits of the whole chunks by attribute: ``position``, ``scale``, ``rotation``, ``color``.
        notes: one line if the file was cut.
    """

    gaussians: Gaussians2D
    info: PictureInfo | None
    quantizer: Grid | Lattice
    header: Header
    version: tuple[int, int]
    chunks: tuple[Chunk, ...]
    sections: dict[str, int]
    size: int
    attribute_bits: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid | None:
        """Where the symbols lie; None for another quantizer than the uniform grid."""
        return self.quantizer if isinstance(self.quantizer, Grid) else None

    @property
    def bits(self) -> BitWidths | None:
        """Widths of the symbols; None where they have no fixed widths."""
        return None if self.grid is None else self.grid.bits

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel of the canvas."""
        return 8 * self.size / (self.gaussians.height * self.gaussians.width)

    @property
    def whole(self) -> tuple[Chunk, ...]:
        """The chunks of Gaussians that are not cut."""
        return tuple(chunk for chunk in self.chunks if chunk.kind == KIND_GAUSSIANS and chunk.end <= self.size)

    @property
    def bits_per_gaussian(self) -> dict[str, float]:
        """Mean bits of one Gaussian of the whole chunks, by attribute; empty where there is none."""
        count = sum(chunk.count for chunk in self.whole)
        return {name: bits / count for name, bits in self.attribute_bits.items()} if count else {}


def write_file(
    gaussians: Gaussians2D,
    *,
    bits: BitWidths | None = None,
    grid: Grid | None = None,
    info: PictureInfo | None = None,
    levels: Sequence[int] | None = None,
    block_shift: int = 0,
    page_entries: int | None = None,
) -> bytes:
    """The bytes of a ``.gsimg`` file with symbols of fixed width; the same input gives the same bytes.

    Args:
        gaussians: N Gaussians, N may be 0, in the order of their levels. Within a level they are stored block by block.
        bits: widths of the symbols; None is ``BitWidths()``, or those of the grid.
        grid: where the symbols lie; None chooses the grid that covers the Gaussians.
        info: what is needed to give the channels back as files; None stores nothing.
        levels: how many Gaussians each level has, level 0 first; None is one level.
        block_shift: blocks are squares of 2 to this pixels, 6 to 16; 0 is one block.
        page_entries: see `write_levels`.

    Returns:
        The whole file.

    Raises:
        ConfigError: ``bits`` are not those of the grid, ``info`` has another number of channels, the levels do not
            have N Gaussians together, or ``block_shift`` is out of range.
        ShapeError: the grid has another number of channels.
    """
    if grid is None:
        grid = choose_grid(gaussians, BitWidths() if bits is None else bits)
    elif bits not in (None, grid.bits):
        raise ConfigError(f"bits: expected those of the grid, {grid.bits}, found {bits}")
    levels = [len(gaussians)] if levels is None else list(levels)
    if sum(levels) != len(gaussians) or min(levels, default=-1) < 0:
        raise ConfigError(f"levels: expected counts that add up to {len(gaussians):,} Gaussians, found {levels}")
    symbols = quantize(gaussians, grid)
    rounded = dequantize(symbols, grid, height=gaussians.height, width=gaussians.width)
    blocks = Blocks(gaussians.width, gaussians.height, block_shift)
    payloads, start = [], 0
    for level, count in enumerate(levels):
        for block, rows in split_blocks(rounded.means[start : start + count], blocks):
            part = _take(symbols, start + rows)
            far = reach(rounded.take(start + rows), blocks.box(block))
            payloads.append(Payload(pack(part, grid.bits), len(rows), level, block, far))
        start += count
    return write_levels(
        payloads,
        quantizer=grid,
        height=gaussians.height,
        width=gaussians.width,
        background=gaussians.background,
        blend=gaussians.blend,
        top_k=gaussians.top_k,
        block_shift=block_shift,
        info=info,
        page_entries=page_entries,
    )


def split_blocks(means: FloatArray, blocks: Blocks) -> list[tuple[int, np.ndarray[Any, np.dtype[np.int64]]]]:
    """Gaussians of one level by block, each block's in their order.

    Args:
        means: [N, 2] centres as decoded, canvas pixels.
        blocks: of the canvas.

    Returns:
        Pairs of a block and its rows of ``means``, in ascending order; blocks without Gaussians are left out, but for
        block 0 where there is none at all, so that every level has a chunk.
    """
    of = blocks.of(means)
    if not len(of):
        return [(0, np.empty(0, np.int64))]
    rows = np.argsort(of, kind="stable")
    found, starts = np.unique(of[rows], return_index=True)
    return list(zip(found.tolist(), np.split(rows, starts[1:]), strict=True))


def write_levels(
    payloads: Sequence[Payload],
    *,
    quantizer: Grid | Lattice,
    height: int,
    width: int,
    background: FloatArray,
    blend: Blend = "normalized",
    top_k: int = 10,
    block_shift: int = 0,
    info: PictureInfo | None = None,
    page_entries: int | None = None,
) -> bytes:
    """The bytes of a ``.gsimg`` file from payloads, whatever quantizer made them.

    Args:
        payloads: one for each (level, block), in ascending order; of any kind. The coding of Gaussians is that of the
            quantizer, whatever they say.
        quantizer: a `Grid` (quantizer 0) or a `Lattice` (quantizer 1).
        height: canvas height, pixels.
        width: canvas width, pixels.
        background: [C] colour where no Gaussian reaches; stored as `round_background` leaves it.
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.
        block_shift: blocks are squares of 2 to this pixels, 6 to 16; 0 is one block.
        info: what is needed to give the channels back as files; None stores nothing.
        page_entries: cut the table into pages of so many chunks at most, 1 to 4,096, of which who decodes a region
            reads only some; None keeps all of it in the head.

    Returns:
        The whole file.

    Raises:
        ConfigError: ``info`` has another number of channels, or the payloads are not such as the format allows.
    """
    if info is not None and info.channels != len(background):
        raise ConfigError(f"info: expected {len(background)} channels as in the Gaussians, found {info.channels}")
    number, stored = parameters(quantizer)
    header = Header(height, width, blend, top_k, round_background(background), number, stored, block_shift)
    coded = [replace(payload, coding=number) if payload.kind == KIND_GAUSSIANS else payload for payload in payloads]
    return write_container(header, b"" if info is None else info.to_bytes(), coded, page_entries=page_entries)


def with_psnrs(data: bytes, psnrs: Sequence[float | None]) -> bytes:
    """A file with the quality of its prefixes filled in; nothing else changes, and not its size.

    Args:
        data: a whole file.
        psnrs: for each chunk of Gaussians, of the prefix that ends with it, dB; None is unknown.

    Returns:
        The whole file.

    Raises:
        ConfigError: there are more or fewer of them than chunks of Gaussians.
        FormatError: as `parse`.
    """
    decoder = Decoder()
    feed_head(io.BytesIO(data), decoder)
    if decoder.head is None:
        decoder.finish()
    head = decoder.head
    assert head is not None
    count = sum(chunk.kind == KIND_GAUSSIANS for chunk in head.chunks)
    if len(psnrs) != count:
        raise ConfigError(f"psnrs: expected {count}, one for each chunk, found {len(psnrs)}")
    found = iter(psnrs)
    chunks = [replace(chunk, psnr=next(found)) if chunk.kind == KIND_GAUSSIANS else chunk for chunk in head.chunks]
    counts = [page.entry.count for page in head.pages]
    return write_head(head.header, head.metadata, chunks, counts) + data[head.length :]


def parse(data: bytes, *, max_pixels: int = MAX_PIXELS, name: str = "bytes", strict: bool = True) -> GsimgFile:
    """Read the bytes of a ``.gsimg`` file.

    Args:
        data: the whole file.
        max_pixels: refuse a canvas of more pixels.
        name: what an error calls the file.
        strict: refuse a file that was cut; else what there is of it comes back, from the end of its level 0 on.

    Returns:
        Its contents.

    Raises:
        FormatError: the bytes are not a ``.gsimg`` file of a version that is known here, or were cut or altered.
    """
    decoder = Decoder(max_pixels=max_pixels, name=name)
    decoder.feed(data)
    return _contents(decoder, decoder.finish(strict=strict))


def read_file(path: str | Path, *, max_pixels: int = MAX_PIXELS, strict: bool = True) -> GsimgFile:
    """Read a ``.gsimg`` file from the disk; what is no such file is refused by its first bytes.

    Args:
        path: the file.
        max_pixels: refuse a canvas of more pixels.
        strict: as in `parse`.

    Returns:
        Its contents.

    Raises:
        ImageError: the file is missing or cannot be read.
        FormatError: as `parse`.
    """
    decoder = Decoder(max_pixels=max_pixels, name=str(path))
    with open_source(path) as file:
        feed_head(file, decoder)
        feed_chunks(file, decoder)
    return _contents(decoder, decoder.finish(strict=strict))


@contextmanager
def open_source(source: str | Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """A file, or bytes as one, open for reading.

    Args:
        source: a path; an address such as ``https://…`` or ``s3://…``, of which only those bytes are fetched that are
            read; the bytes; or a file that is open, which stays open.

    Raises:
        ImageError: the file is missing or cannot be read, also later, in the body.
        DeviceError: a package for the address is absent.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
        return
    if not isinstance(source, str | Path):
        yield source
        return
    name = str(source)
    if "\0" in name:
        raise ImageError(f"{name!r}: expected a path, found a null character in it")
    try:
        with open(source, "rb") if not is_address(name) else _open_address(name) as file:
            yield file
    except OSError as error:
        raise ImageError(f"{without_user(name)}: cannot be read: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.strerror:
        return error.strerror.lower()
    return "no such file, or no answer" if isinstance(error, FileNotFoundError) else type(error).__name__.lower()


def is_address(name: str) -> bool:
    """Whether a name is an address and no path."""
    return "://" in name


@contextmanager
def _open_address(name: str) -> Iterator[BinaryIO]:
    try:
        import fsspec

        with fsspec.open(name, "rb", cache_type="none").open() as file:
            yield file
    except ImportError as error:
        raise DeviceError(
            f"{without_user(name)}: {error}; pip install 'imagegs[remote]' has what https needs"
        ) from error
    except (ImageGSError, OSError):
        raise
    except Exception as error:  # each store has its own
        why = f"{type(error).__name__}: {without_user(one_line(error))}"
        raise ImageError(f"{without_user(name)}: cannot be read: {why}") from error


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


def _contents(decoder: Decoder, notes: tuple[str, ...]) -> GsimgFile:
    head, gaussians = decoder.head, decoder.gaussians(partial=True)
    assert head is not None
    return GsimgFile(
        gaussians=gaussians,
        info=decoder.info,
        quantizer=decoder.quantizer,
        header=head.header,
        version=head.version,
        chunks=head.chunks,
        sections={
            "header": head.length - len(head.metadata) - head.table_length,
            "metadata": len(head.metadata),
            "table": head.table_length,
            "payload": decoder.received - head.length,
        },
        size=decoder.received,
        attribute_bits=dict(decoder.attribute_bits),
        notes=notes,
    )


def _take(symbols: Symbols, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Symbols:
    return Symbols(symbols.positions[rows], symbols.scales[rows], symbols.rotations[rows], symbols.colors[rows])
