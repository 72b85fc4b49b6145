"""Lines over a figure, in the manner of `plots`: ours in blue, others in colours of their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..plots import ACCENT, DOTS_PER_INCH, INK, style
from .markdown import number

COLORS = ("#db6d28", "#3a9a68", "#9a6fb8", "#c9a227", "#8c959f", "#a0400c", "#c25b7c", "#4f8f8f")
OTHER = "#8c959f"
STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Line:
    """Points of one method.

    Attributes:
        label: the method.
        x: ascending or not.
        y: likewise many.
        ours: whether it is drawn as ours is.
        steps: drawn as a staircase, since nothing lies between the points.
        marks: whether the points are marked.
        joined: whether they are joined.
        names: of the points, written beside them.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    ours: bool = False
    steps: bool = False
    marks: bool = True
    joined: bool = True
    names: Sequence[str] = ()


def draw_lines(lines: Sequence[Line], xlabel: str, ylabel: str, *, log: bool = True) -> Figure:
    """Points by method, joined.

    Args:
        lines: one for each method.
        xlabel: what the methods are compared over.
        ylabel: what they give.
        log: over a logarithmic scale.
    """
    with style():
        figure = Figure(figsize=(7.6, 5.2), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        ours = others = 0
        for line in lines:
            color, dashes = (ACCENT, STYLES[ours % len(STYLES)]) if line.ours else (COLORS[others % len(COLORS)], "-")
            ours, others = ours + line.ours, others + (not line.ours)
            axes.plot(
                line.x,
                line.y,
                f"{'o' * line.marks}{dashes * line.joined}",
                color=color,
                linewidth=2.0 if line.ours else 1.4,
                markersize=4,
                label=line.label,
                zorder=3 if line.ours else 2,
                drawstyle="steps-post" if line.steps else "default",
            )
            for name, x, y in zip(line.names, line.x, line.y, strict=False):
                axes.annotate(name, (x, y), (5, -3), textcoords="offset points", fontsize=8, color=color)
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.grid(color=INK, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2, handlelength=4)  # dashes show
    return figure


def draw_bars(
    names: Sequence[str],
    bars: Mapping[str, Sequence[float]],
    xlabel: str,
    *,
    ours: Collection[str] = (),
    log: bool = True,
) -> Figure:
    """Bars beside each other.

    Args:
        names: one for each group, from the top.
        bars: by label, the length of its bar in each group.
        xlabel: what the lengths are.
        ours: names whose bars stand out; by default all alike.
        log: over a logarithmic scale.
    """
    with style():
        size = (7.6, 1.1 + 0.5 * len(names))
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        thickness = 0.8 / len(bars)
        for place, (label, lengths) in enumerate(bars.items()):
            where = [row + (place - (len(bars) - 1) / 2) * thickness for row in range(len(names))]
            color = ACCENT if place == 0 else COLORS[place - 1]
            colors = [color if not ours or name in ours else OTHER for name in names]
            finite = [length if math.isfinite(length) else 0.0 for length in lengths]
            drawn = axes.barh(where, finite, thickness, color=colors, label=label)
            shown = [number(length) if log else f"{length:z.2f}" for length in lengths]
            axes.bar_label(drawn, shown, padding=3, fontsize=8)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        elif any(length < 0 for lengths in bars.values() for length in lengths):
            axes.axvline(0, color=INK, linewidth=0.8)
        axes.margins(x=0.15)
        axes.set_xlabel(xlabel)
        axes.spines[["top", "right"]].set_visible(False)
        if len(bars) > 1:
            figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=len(bars))
    return figure
