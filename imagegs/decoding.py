"""A ``.gsimg`` file -> pixels: read what is needed, render, clamp. Never imports torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from . import devices
from .codec import VERSION, GsimgFile, parse, read_file
from .codec.blocks import footprint
from .codec.format import Head, Header
from .codec.storage import open_source
from .codec.stream import Decoder, feed_chunks, feed_head, needed_chunks, needed_pages
from .errors import ConfigError, without_user
from .gaussians import MAX_SIDE
from .image import MAX_PIXELS, FloatArray, Picture, PictureInfo
from .rendering import render

Region = tuple[float, float, float, float]
"""Left x, top y, width, height; canvas pixels."""


def read_gsimg(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, strict: bool = True) -> GsimgFile:
    """Read a ``.gsimg`` file, from the disk or from memory.

    Args:
        source: its path, or its bytes.
        max_pixels: refuse a canvas of more pixels.
        strict: refuse a file that was cut; else what there is of it comes back, from the end of its level 0 on.

    Returns:
        Its Gaussians, its metadata and where its bytes go.

    Raises:
        ImageError: the file is missing or cannot be read.
        FormatError: it is not a ``.gsimg`` file of a version that is known here, or was cut or altered.
    """
    if isinstance(source, str | Path):
        return read_file(source, max_pixels=max_pixels, strict=strict)
    return parse(source, max_pixels=max_pixels, strict=strict)


def decode(
    source: str | Path | bytes | BinaryIO,
    *,
    height: int | None = None,
    scale: float | None = None,
    region: Region | None = None,
    level: int | None = None,
    max_bytes: int | None = None,
    strict: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Draw a ``.gsimg`` file, at any size.

    Of a file on the disk or at an address, no more is read than the drawing needs.

    Args:
        source: its path, its address, its bytes, or a file that is open for reading, at its start.
        height: rows of the output; the columns follow from the aspect ratio.
        scale: output pixels per canvas pixel; 1 unless ``height`` or ``scale`` is given.
        region: the part of the canvas to draw, left x, top y, width and height in canvas pixels; None is all of it.
        level: the highest level of detail to draw; None is all.
        max_bytes: use only so many bytes from the start of the file; None is all.
        strict: refuse a file that was cut. Else what there is of it is drawn, from the end of its level 0 on.
        threads: threads that draw on a CPU; None is one per core.
        device: what draws: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_pixels: refuse an output of more pixels; the canvas may have any number of them.

    Returns:
        The picture. Channels of files of integers are cut to [0, 1], unless they are colours with a profile, which may
        hold more than sRGB does; floating-point channels stay as drawn. Its notes say whether the file was cut, or is
        of a newer version; what ``max_bytes`` leaves out needs no note.

    Raises:
        ConfigError: ``height`` and ``scale`` are both given, a number is out of range, the region leaves the canvas, or
            the output is too large.
        ImageError: the file is missing or cannot be read.
        DeviceError: the device cannot be used, or has too little memory.
        FormatError: as `read_gsimg`; `TruncatedError` also if ``max_bytes`` end before level 0 does.
    """
    device = devices.resolve(device)
    _check_size(height, scale)
    for what, value, low in (("level", level, 0), ("max_bytes", max_bytes, 1)):
        if value is not None and not _is_integer(value, low):
            raise ConfigError(f"{what}: expected an integer from {low}, found {value!r}")
    name = without_user(str(source)) if isinstance(source, str | Path) else "bytes"

    def pages(head: Head) -> frozenset[int]:
        seen, _, _, margin = _frame(head.header, region, height, scale, max_pixels)
        return needed_pages(head, level=level, region=seen, margin=margin)

    decoder = Decoder(max_pixels=MAX_SIDE * MAX_SIDE, name=name, pages=pages)
    with open_source(source) as file:
        feed_head(file, decoder, max_bytes)
        if decoder.head is None:
            decoder.finish()
        assert decoder.head is not None
        header = decoder.head.header
        seen, rows, columns, margin = _frame(header, region, height, scale, max_pixels)
        decoder.select(needed_chunks(decoder.head, level=level, region=seen, margin=margin))
        feed_chunks(file, decoder, max_bytes)
    asked = decoder.received == max_bytes
    missing = decoder.finish(strict=strict and not asked)
    gaussians = decoder.gaussians(partial=True)
    pixels = render(gaussians, rows, columns, region=seen, threads=threads, device=device)
    info = PictureInfo.of_channels(header.channels) if decoder.info is None else decoder.info
    cut(pixels, info)
    return Picture(pixels, info, name, _version_notes(name, decoder.head.version) + (() if asked else missing))


def _version_notes(name: str, version: tuple[int, int]) -> tuple[str, ...]:
    if version <= VERSION:
        return ()
    found, known = (".".join(map(str, numbers)) for numbers in (version, VERSION))
    return (f"{name}: written by version {found} of the format; what version {known} lacks was left out",)


def _is_integer(value: object, low: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | np.integer) and bool(value >= low)


def _check_size(height: int | None, scale: float | None) -> None:
    if height is not None and scale is not None:
        raise ConfigError(f"size: expected a height or a scale, found both: {height} and {scale}")
    if height is not None and not (_is_integer(height, 1) and height <= MAX_SIDE):
        raise ConfigError(f"height: expected an integer from 1 to {MAX_SIDE:,}, found {height!r}")
    if scale is not None and not 0 < scale < math.inf:
        raise ConfigError(f"scale: expected a finite number above 0, found {scale!r}")


def _frame(
    header: Header, region: Region | None, height: int | None, scale: float | None, max_pixels: int
) -> tuple[Region, int, int, float]:
    """The region, the rows and columns of the output, and how much further Gaussians reach in it, canvas pixels."""
    seen = _region_within(header, region)
    rows, columns = _output_size(seen, height, scale, max_pixels)
    return seen, rows, columns, footprint(max(seen[2] / columns, seen[3] / rows))


def _region_within(header: Header, region: Region | None) -> Region:
    if region is None:
        return 0.0, 0.0, float(header.width), float(header.height)
    if len(region) == 4:
        x, y, width, height = region
        inside = 0 <= x and 0 <= y and x + width <= header.width and y + height <= header.height
        if inside and width > 0 and height > 0:
            return x, y, width, height
    canvas = f"{header.width} x {header.height}"
    found = ", ".join(f"{value:g}" for value in region)
    raise ConfigError(f"region: expected x, y, width, height within the canvas of {canvas} pixels, found {found}")


def _output_size(region: Region, height: int | None, scale: float | None, max_pixels: int) -> tuple[int, int]:
    """Rows and columns; the sides are capped before they are rounded, since they may be infinite."""
    factor = height / region[3] if height is not None else 1.0 if scale is None else scale
    columns, rows = (max(1, round(min(side * factor, 2.0 * MAX_SIDE))) for side in region[2:])
    if max(rows, columns) > MAX_SIDE or rows * columns > max_pixels:
        raise ConfigError(
            f"output: expected at most {max_pixels:,} pixels (max_pixels) and sides of at most {MAX_SIDE:,}, "
            f"found {region[2] * factor:,.0f} x {region[3] * factor:,.0f}"
        )
    return rows, columns


def cut(pixels: FloatArray, info: PictureInfo) -> None:
    """Clamp, in place, what files of integers hold."""
    for plane, where in zip(info.planes, info.slices, strict=True):
        if plane.bits < 32:
            free = plane.channels - plane.alpha if info.icc else 0
            part = pixels[where][free:]
            np.clip(part, 0, 1, out=part)
