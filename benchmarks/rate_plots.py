"""Draws the curves of a set of pictures, and one picture beside what other codecs make of as many bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image, ImageDraw, ImageFont

from imagegs.bench.anchors import FloatArray, to_image
from imagegs.bench.curves import Curve
from imagegs.files import atomic_write
from imagegs.plots import write_figure

TICKS = (0.1, 0.15, 0.25, 0.5, 0.75, 1.0)
COLORS = {
    "jpeg": "#8c959f",
    "webp": "#3a9a68",
    "avif": "#db6d28",
    "avif-444": "#a0400c",
    "jpeg2000": "#9a6fb8",
    "jxl": "#c9a227",
}
OURS = "#1f6feb"
WIDTHS_OF_OURS = (2.6, 1.6, 1.2)

MARGIN = 8
LABEL = 40


@dataclass(frozen=True)
class Panel:
    """One picture of a comparison.

    Attributes:
        title: the codec.
        detail: its bytes and quality.
        pixels: [3, H, W], the whole picture.
    """

    title: str
    detail: str
    pixels: FloatArray


def draw_curves(curves: Mapping[str, tuple[str, Curve]], ylabel: str, title: str) -> Figure:
    """Mean quality over rate, one line per codec.

    Args:
        curves: by key, the codec's name for people and its curve; the keys of ours begin with ``imagegs``.
        ylabel: what the quality is.
        title: what the pictures are.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _draw(axes, curves)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("bits per pixel, of the whole file")
    axes.set_ylabel(ylabel)
    return figure


def write_curves(figure: Figure, stem: Path) -> list[Path]:
    """The figure as SVG and as PNG."""
    paths = [stem.with_suffix(kind) for kind in (".svg", ".png")]
    for path in paths:
        write_figure(path, figure)
    return paths


def draw_comparison(panels: Sequence[Panel], box: tuple[int, int, int, int], columns: int = 3) -> Image.Image:
    """The same part of every panel, pixel for pixel, under its label.

    Args:
        panels: the pictures, in reading order.
        box: left, top, width and height of the part, pixels.
        columns: panels in a row.
    """
    x, y, width, height = box
    rows = -(-len(panels) // columns)
    size = columns * (width + MARGIN) + MARGIN, rows * (height + LABEL + MARGIN) + MARGIN
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    title, detail = ImageFont.load_default(16), ImageFont.load_default(13)
    for index, panel in enumerate(panels):
        left = MARGIN + index % columns * (width + MARGIN)
        top = MARGIN + index // columns * (height + LABEL + MARGIN)
        draw.text((left, top), panel.title, "black", title)
        draw.text((left, top + 20), panel.detail, "#57606a", detail)
        sheet.paste(to_image(panel.pixels[:, y : y + height, x : x + width]), (left, top + LABEL))
    return sheet


def write_comparison(sheet: Image.Image, path: Path, limit: int = 390_000) -> Path:
    """As a JPEG file of good quality, the best that takes at most so many bytes."""
    for quality in range(94, 50, -3):
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=quality, subsampling="4:4:4", optimize=True, progressive=True)
        if buffer.tell() <= limit:
            break
    atomic_write(path, buffer.getvalue())
    return path


def _draw(axes: Axes, curves: Mapping[str, tuple[str, Curve]]) -> None:
    ours = [key for key in curves if key.startswith("imagegs")]
    for key, (label, curve) in curves.items():
        if not curve:
            continue
        rates, qualities = np.array(curve).T
        if key in ours:
            width = WIDTHS_OF_OURS[min(ours.index(key), len(WIDTHS_OF_OURS) - 1)]
            axes.plot(rates, qualities, color=OURS, linewidth=width, label=label, zorder=3)
        else:
            style = "--" if key == "avif-444" else "-"
            axes.plot(rates, qualities, style, color=COLORS.get(key, "#57606a"), linewidth=1.4, label=label)
    axes.set_xscale("log")
    axes.set_xlim(0.097, 1.03)
    axes.set_xticks(TICKS)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color="#d0d7de", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
