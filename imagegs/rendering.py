"""Gaussians to pixels, at any size and of any region."""

from __future__ import annotations

import math

import numpy as np

from . import devices
from .errors import ShapeError
from .gaussians import MAX_SIDE, FloatArray, Gaussians2D
from .kernels import native

MAX_OUTPUT = 1 << 31
"""Most pixels of one render; larger pictures are drawn region by region."""


def render(
    gaussians: Gaussians2D,
    height: int | None = None,
    width: int | None = None,
    *,
    region: tuple[float, float, float, float] | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> FloatArray:
    """Blend the Gaussians at every pixel centre of an output of any size.

    The centre of output pixel (column j, row i) is the canvas point (x + (j + 0.5) w / width, y + (i + 0.5) h / height)
    of the region, so that renders of different sizes lie exactly on each other. Where the output is coarser than the
    canvas, the pixel's footprint widens the Gaussians (EWA splatting, Zwicker et al. 2001), so that it does not alias.

    Args:
        gaussians: what to draw.
        height: rows of the output; by default as many as the region has canvas pixels, or as ``width`` asks for.
        width: columns of the output, likewise.
        region: (x, y, width, height) in canvas pixels; by default the whole canvas. It may reach beyond the canvas.
        threads: how many to use on a CPU; by default one per core.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        float32 [C, height, width], not clamped.

    Raises:
        ShapeError: a size or region that is not positive and finite, or too large.
        DeviceError: the device cannot be used, or has too little memory.
    """
    height, width, viewport = output_of(gaussians, height, width, region)
    rasterizer = devices.rasterizer(devices.resolve(device))
    arrays = gaussians.means, gaussians.scales, gaussians.rotations, gaussians.colors
    with native.threads(threads):
        rasterizer.prepare(*arrays, (height, width), viewport, gaussians.blend, gaussians.top_k)
        return rasterizer.forward(gaussians.background)


def output_of(
    gaussians: Gaussians2D, height: int | None, width: int | None, region: tuple[float, float, float, float] | None
) -> tuple[int, int, tuple[float, float, float, float]]:
    """Height and width of an output that may be left open, and the canvas point of its pixels; see `render`.

    Raises:
        ShapeError: a size or region that is not positive and finite, or too large.
    """
    region = (0.0, 0.0, float(gaussians.width), float(gaussians.height)) if region is None else region
    if len(region) != 4 or not all(math.isfinite(value) for value in region) or min(region[2:]) <= 0:
        raise ShapeError(f"region: expected finite x, y and positive width, height, found {region}")
    x, y, w, h = region
    for name, side in (("height", height), ("width", width)):
        if side is not None:
            _check_side(name, side)
    if height is None:
        height = _nearest_side("height", h if width is None else h * width / w)
    if width is None:
        width = _nearest_side("width", w * height / h)
    if height * width > MAX_OUTPUT:
        raise ShapeError(f"size: expected at most {MAX_OUTPUT:,} pixels, found {height:,} x {width:,}")
    if w / width == 0 or h / height == 0:
        raise ShapeError(f"region: expected more than a point, found {region}")
    return int(height), int(width), (x, y, w / width, h / height)


def _check_side(name: str, side: int) -> None:
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or not 1 <= side <= MAX_SIDE:
        raise ShapeError(f"{name}: expected an integer from 1 to {MAX_SIDE}, found {side!r}")


def _nearest_side(name: str, length: float) -> int:
    side = max(1, round(min(length, 2.0 * MAX_SIDE)))  # capped first, since it may be infinite
    _check_side(name, side)
    return side
