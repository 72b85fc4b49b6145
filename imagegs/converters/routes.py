"""Which file becomes which, by the endings of their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..codec import BitWidths, write_file
from ..decoding import read_gsimg
from ..errors import ConfigError, ImageError, ShapeError
from ..files import atomic_write
from ..gaussians import MAX_SIDE
from ..image import MAX_PIXELS
from . import gaussian_image, image_gs
from .archives import encode_archive, read_archive
from .checkpoints import Checkpoint, read_checkpoint
from .contents import Contents
from .image_gs import ImageGSBlend, ImageGSScales
from .layers import stack_layers
from .ply import encode_ply
from .svg import encode_svg

CHECKPOINTS = (".pt", ".pth", ".pth.tar")
READABLE = (".gsimg", ".npz", *CHECKPOINTS)
WRITABLE = (".gsimg", ".npz", ".ply", ".svg")

DEFAULT_BITS = 16
"""Width of every symbol of a ``.gsimg`` file made here: what Image-GS reckons with."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion came to.

    Attributes:
        gaussians: how many were read.
        written: how many stand in the output; a stack of layers may have more, or fewer.
        width: of the canvas, pixels.
        height: of the canvas, pixels.
        channels: of the picture.
        size: bytes of the output.
        notes: what the user should know.
    """

    gaussians: int
    written: int
    width: int
    height: int
    channels: int
    size: int
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    blend: ImageGSBlend | None = None,
    scales: ImageGSScales | None = None,
    bits: int | None = None,
    refit: bool | None = None,
    limit: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Conversion:
    """Convert a file of Gaussians to another kind, which the endings of the names choose.

    Args:
        source: a ``.gsimg`` file, an archive ``.npz``, or a checkpoint of Image-GS or GaussianImage (``.pt``, ``.pth``,
            ``.pth.tar``).
        output: ``.gsimg``, ``.npz``, ``.ply`` or ``.svg``; written whole or not at all.
        size: width and height of the picture, pixels; for checkpoints, which do not say it.
        blend: how the Image-GS run of a checkpoint blended; None is ``topk``.
        scales: what the Image-GS run of a checkpoint stored; None is ``inverse``.
        bits: width of each symbol of a ``.gsimg`` file, 4 to 32; None is 16.
        refit: whether layers (``.ply``, ``.svg``) get colours that make up the picture; None is yes.
        limit: the most Gaussians that become layers, the largest first; None is all.
        max_pixels: refuse a canvas of more pixels.

    Returns:
        What it came to.

    Raises:
        ConfigError: an ending is not known, an option does not go with the files, or the picture does not.
        ImageError: a file cannot be read or written, or is not what its name says.
        FormatError: a ``.gsimg`` file that is not what its format says.
    """
    source, output = Path(source), Path(output)
    start, end = _ending(source, READABLE, "converted"), _ending(output, WRITABLE, "written")
    if start == end:
        raise ConfigError(f"{output}: expected another kind of file than {source}, found {end} again")
    _check_options(source, start in CHECKPOINTS, ("size", size), ("blend", blend), ("scales", scales))
    _check_options(output, end == ".gsimg", ("bits", bits))
    _check_options(output, end in {".ply", ".svg"}, ("refit", refit), ("limit", limit))
    contents = _read(source, start, size, blend, scales, max_pixels)
    data, written = _encode(contents, output, end, source.stem, bits, refit is not False, limit)
    atomic_write(output, data)
    gaussians = contents.gaussians
    return Conversion(
        gaussians=len(gaussians),
        written=written,
        width=gaussians.width,
        height=gaussians.height,
        channels=gaussians.channels,
        size=len(data),
        notes=contents.notes,
    )


def _ending(path: Path, known: tuple[str, ...], what: str) -> str:
    name = path.name.lower()
    found = [ending for ending in known if name.endswith(ending)]
    if not found:
        raise ConfigError(f"{path}: expected a name ending in {' '.join(known)} to be {what}, found another")
    return max(found, key=len)


def _check_options(path: Path, allowed: bool, *options: tuple[str, object]) -> None:
    for name, value in options:
        if value is not None and not allowed:
            raise ConfigError(f"{name}: expected none, since it means nothing for {path}, found {value}")


def _read(
    source: Path,
    ending: str,
    size: tuple[int, int] | None,
    blend: ImageGSBlend | None,
    scales: ImageGSScales | None,
    max_pixels: int,
) -> Contents:
    if ending == ".gsimg":
        file = read_gsimg(source, max_pixels=max_pixels, strict=True)
        return Contents(file.gaussians, file.info)
    if ending == ".npz":
        contents = read_archive(source)
        _check_canvas(str(source), (contents.gaussians.width, contents.gaussians.height), max_pixels)
        return contents
    checkpoint = read_checkpoint(source)
    canvas = _canvas(checkpoint, size, max_pixels)
    if all(name in checkpoint for name in image_gs.TENSORS):
        return image_gs.gaussians_of(checkpoint, canvas, blend=blend or "topk", scales=scales or "inverse")
    if all(name in checkpoint for name in gaussian_image.TENSORS):
        _check_options(source, False, ("blend", blend), ("scales", scales))
        return gaussian_image.gaussians_of(checkpoint, canvas)
    wanted = f"{' '.join(image_gs.TENSORS)} (Image-GS) or {' '.join(gaussian_image.TENSORS)} (GaussianImage)"
    raise ImageError(f"{source}: expected the tensors {wanted}, found {_listed(list(checkpoint.tensors))}")


def _canvas(checkpoint: Checkpoint, size: tuple[int, int] | None, max_pixels: int) -> tuple[int, int]:
    stated = checkpoint.size
    if size is None and stated is None:
        raise ConfigError(
            f"{checkpoint.path}: expected the size of its picture, which the checkpoint does not say; add --size WxH"
        )
    if size is not None and stated not in (None, size):
        raise ConfigError(f"{checkpoint.path}: expected its own size, {_product(stated)}, found {_product(size)}")
    canvas = stated if size is None else size
    assert canvas is not None
    _check_canvas(checkpoint.path, canvas, max_pixels)
    return canvas


def _check_canvas(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ConfigError(f"{name}: expected sides from 1 to {MAX_SIDE:,} pixels, found {_product(size)}")
    if width * height > max_pixels:
        raise ConfigError(f"{name}: expected up to {max_pixels:,} pixels, found {_product(size)}")


def _encode(
    contents: Contents, output: Path, ending: str, title: str, bits: int | None, refit: bool, limit: int | None
) -> tuple[bytes, int]:
    """The bytes of the output, and how many Gaussians or layers it has."""
    if ending == ".gsimg":
        width = DEFAULT_BITS if bits is None else bits
        try:
            data = write_file(contents.gaussians, bits=BitWidths(width, width, width, width), info=contents.info)
        except ShapeError as error:
            raise ConfigError(f"{output}: {error}") from error
        return data, len(contents.gaussians)
    if ending == ".npz":
        return encode_archive(contents), len(contents.gaussians)
    layers = stack_layers(contents, str(output), refit=refit, limit=limit)
    return encode_ply(layers) if ending == ".ply" else encode_svg(layers, title=title), len(layers)


def _product(size: tuple[int, int] | None) -> str:
    return "none" if size is None else f"{size[0]:,} x {size[1]:,}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(ascii(name)[1:-1] for name in sorted(names)[:6])
    return f"{shown}, ..." if len(names) > 6 else shown or "none"
