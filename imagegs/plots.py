"""Figures about a picture and its Gaussians, drawn with matplotlib's objects (no pyplot, no global state).

Each function here returns a ``Figure``; ``figure_bytes`` and ``write_figure`` turn one into PNG or SVG. Positions are
canvas pixels, y down, as in ``gaussians.py``. The same figure always gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from .errors import ConfigError, ShapeError
from .files import atomic_write
from .gaussians import FloatArray, Gaussians2D
from .image import PictureInfo

KINDS = (".png", ".svg")

LONGEST_SIDE = 10.0
"""Longest side of a map, inches."""
DOTS_PER_INCH = 120
VECTOR_LIMIT = 5000
"""More ellipses than this are stored in an SVG as pixels, which keeps the file usable in a browser."""

INK = "#6e7781"
"""Grey of text and axes: readable on a white and on a near-black page."""
ACCENT = "#2f81f7"
SECOND = "#db6d28"

HistoryRow = tuple[int, float, float, int]
"""Step, seconds, PSNR in dB, number of Gaussians."""


def draw_ellipses(gaussians: Gaussians2D, *, reach: float = 1.0, channels: Sequence[int] | None = None) -> Figure:
    """Each Gaussian as an ellipse in its own colour, the large ones below.

    Args:
        gaussians: any number of Gaussians, none included.
        reach: semi-axes of an ellipse, standard deviations.
        channels: the one (grey) or three (red, green, blue) channels that make the colours; by default the first three,
            or the first where there are fewer than three.

    Returns:
        A map of the canvas, without axes.
    """
    if channels is None:
        channels = (0, 1, 2) if gaussians.channels >= 3 else (0,)
    if len(channels) not in (1, 3) or not all(0 <= channel < gaussians.channels for channel in channels):
        raise ShapeError(f"channels: expected one or three from 0 to {gaussians.channels - 1}, found {tuple(channels)}")
    figure, axes = _map_figure(gaussians.height, gaussians.width)
    order = np.argsort(-gaussians.scales.prod(axis=1), kind="stable")
    face = np.clip(gaussians.colors[order][:, list(channels)], 0.0, 1.0)
    face = np.repeat(face, 3, axis=1) if len(channels) == 1 else face
    ground = np.clip(gaussians.background[list(channels)], 0.0, 1.0)
    axes.set_facecolor(tuple(np.repeat(ground, 3) if len(channels) == 1 else ground))
    diameters = 2.0 * reach * gaussians.scales[order]
    ellipses = EllipseCollection(
        diameters[:, 0],
        diameters[:, 1],
        np.degrees(gaussians.rotations[order]),
        units="xy",
        offsets=gaussians.means[order],
        offset_transform=axes.transData,
        facecolors=face,
        edgecolors=0.72 * face,
        linewidths=0.3,
        rasterized=len(gaussians) > VECTOR_LIMIT,
    )
    axes.add_collection(ellipses, autolim=False)
    return figure


def draw_density(gaussians: Gaussians2D, *, blur: float | None = None) -> Figure:
    """Number of Gaussians per 1,000 canvas pixels, smoothed.

    Args:
        gaussians: any number of Gaussians; those centred outside the canvas are not counted.
        blur: standard deviation of the smoothing, canvas pixels; by default 1.5 times the mean spacing.
    """
    height, width = gaussians.height, gaussians.width
    if blur is None:
        blur = 1.5 * float(np.sqrt(height * width / max(len(gaussians), 1)))
    cell = max(1.0, max(height, width) / 512)
    rows, columns = max(1, round(height / cell)), max(1, round(width / cell))
    counts, _, _ = np.histogram2d(
        gaussians.means[:, 1], gaussians.means[:, 0], bins=(rows, columns), range=((0, height), (0, width))
    )
    per_pixel = counts * (rows * columns) / (height * width)
    density = 1000.0 * gaussian_filter(per_pixel, (blur * rows / height, blur * columns / width), mode="reflect")
    return _draw_map(density, (height, width), "viridis", "Gaussians per 1,000 pixels")


def draw_gradient(pixels: FloatArray) -> Figure:
    """Gradient magnitude of a picture [C, H, W]: central differences, root of the sum of squares over channels."""
    image = _image("pixels", pixels)
    magnitude = np.zeros(image.shape[1:], np.float64)
    for axis in (1, 2):
        if image.shape[axis] > 1:
            magnitude += np.square(np.gradient(image, axis=axis)).sum(axis=0)
    return _draw_map(np.sqrt(magnitude), image.shape[1:], "magma", "gradient magnitude per pixel")


def draw_error(reference: FloatArray, test: FloatArray) -> Figure:
    """Error of a picture against its reference, both [C, H, W]: root mean square over channels at each pixel."""
    error = error_map(reference, test)
    return _draw_map(error, error.shape, "inferno", "error (1 = full range)", limit=error_limit(error))


def draw_curve(history: Sequence[HistoryRow]) -> Figure:
    """Convergence of a fit: PSNR over steps, and the number of Gaussians below it.

    Args:
        history: rows of step, seconds, PSNR in dB, number of Gaussians, in the order of time.
    """
    if not history:
        raise ConfigError("history: expected at least one row of step, seconds, PSNR, count, found none")
    steps, seconds, psnr, counts = (np.asarray(column, np.float64) for column in zip(*history, strict=True))
    with style():
        figure = Figure(figsize=(8.0, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot(steps, psnr, color=ACCENT, linewidth=1.8)
        upper.set_ylabel("PSNR (dB)")
        upper.set_title(f"{psnr[-1]:.2f} dB after {steps[-1]:,.0f} steps, {seconds[-1]:.1f} s", fontsize=11)
        lower.plot(steps, counts, color=SECOND, linewidth=1.8, drawstyle="steps-post")
        lower.set_ylabel("Gaussians")
        lower.set_xlabel("step")
        lower.set_ylim(bottom=0)
        for axes in (upper, lower):
            axes.grid(color=INK, alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def color_channels(info: PictureInfo) -> tuple[int, ...]:
    """The channels that show a picture best: those of its first coloured plane, else its first channel."""
    for plane, where in zip(info.planes, info.slices, strict=True):
        if plane.mode in ("RGB", "RGBA"):
            return where.start, where.start + 1, where.start + 2
    return (0,)


def error_map(reference: FloatArray, test: FloatArray) -> npt.NDArray[np.float64]:
    """Root mean square error over channels at each pixel of two pictures [C, H, W]; the result is [H, W]."""
    first, second = _image("reference", reference), _image("test", test)
    if first.shape != second.shape:
        raise ShapeError(f"test: expected the reference's shape {list(first.shape)}, found {list(second.shape)}")
    mean: npt.NDArray[np.float64] = np.sqrt(np.square(second - first).mean(axis=0))
    return mean


def error_limit(error: npt.NDArray[np.float64]) -> float:
    """The error that is drawn brightest: exceeded by one pixel in a thousand, and never less than one 8-bit step."""
    return max(float(np.quantile(error, 0.999)), 1 / 255)


def false_color(values: npt.NDArray[np.float64], limit: float, colormap: str = "inferno") -> npt.NDArray[np.uint8]:
    """Colours [H, W, 3] for values [H, W] from 0 to ``limit``."""
    colors: npt.NDArray[np.uint8] = matplotlib.colormaps[colormap](np.clip(values / limit, 0, 1), bytes=True)
    return np.ascontiguousarray(colors[..., :3])


def figure_bytes(figure: Figure, kind: str, *, transparent: bool = False) -> bytes:
    """The figure as a file.

    Args:
        figure: what one of the functions above returned.
        kind: ``".png"`` or ``".svg"``.
        transparent: leave the page behind the figure visible.
    """
    if kind.lower() not in KINDS:
        raise ConfigError(f"figure: expected a name ending in {' or '.join(KINDS)}, found {kind!r}")
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind.lower() == ".svg" else {"Software": None}
    with style():
        figure.savefig(buffer, format=kind.lower().lstrip("."), transparent=transparent, metadata=metadata)
    return buffer.getvalue()


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write the figure as PNG or SVG, by the name's ending; the file appears whole or not at all."""
    atomic_write(path, figure_bytes(figure, Path(path).suffix))


def style() -> Any:
    """Settings of every figure; the fixed salt keeps an SVG's identifiers the same from run to run."""
    return matplotlib.rc_context(
        {
            "svg.hashsalt": "imagegs",
            "font.size": 10.0,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )


def _map_figure(height: int, width: int, *, bar: bool = False) -> tuple[Figure, Axes]:
    """A figure whose one axes are the canvas, y down; ``bar`` leaves a strip for a colour bar on the right."""
    scale = LONGEST_SIDE / max(height, width)
    inches = max(width * scale, 0.5), max(height * scale, 0.5)
    margin = 1.1 if bar else 0.0
    figure = Figure(figsize=(inches[0] + margin, inches[1]), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0.0, 0.0, inches[0] / (inches[0] + margin), 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure, axes


def _draw_map(
    values: npt.NDArray[np.float64], size: tuple[int, ...], colormap: str, label: str, *, limit: float | None = None
) -> Figure:
    """Values [rows, columns] over a canvas of ``size`` (height, width), with a colour bar from 0 to ``limit``."""
    height, width = size
    with style():
        figure, axes = _map_figure(height, width, bar=True)
        top = float(values.max()) if limit is None else limit
        extent = (0, width, height, 0)
        shown = axes.imshow(values, cmap=colormap, vmin=0.0, vmax=top or 1.0, extent=extent, aspect="auto")
        edge = axes.get_position().x1
        strip = figure.add_axes((edge + 0.15 * (1 - edge), 0.04, 0.16 * (1 - edge), 0.92))
        figure.colorbar(shown, cax=strip, label=label)
    return figure


def _image(name: str, pixels: FloatArray) -> npt.NDArray[np.float64]:
    image = np.asarray(pixels, np.float64)
    if image.ndim != 3 or 0 in image.shape:
        raise ShapeError(f"{name}: expected shape [C, H, W] with at least one pixel, found {list(image.shape)}")
    if not np.isfinite(image).all():
        raise ShapeError(f"{name}: expected finite numbers, found NaN or infinity")
    return image
