"""What every beginning of a file shows: a table of its levels, and the curve of quality over bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imagegs.plots import ACCENT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """PSNR over the bytes received, with a mark at the end of each level.

    Args:
        rows: as ``imagegs.arranging.prefixes`` gives them.
        title: of the file.
    """
    from matplotlib.figure import Figure

    known = [row for row in rows if row["psnr"] is not None]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.step([row["bytes"] for row in known], [row["psnr"] for row in known], "o-", where="post", color=ACCENT)
    for row in known:
        place = (row["bytes"], row["psnr"])
        axes.annotate(f"level {row['level']}", place, (6, -12), textcoords="offset points", color=INK)
    axes.set(title=title, xlabel="bytes received", ylabel="PSNR, dB", xlim=(0, None))
    axes.grid(alpha=0.3)
    return figure


def table(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows as text: level, bytes up to its end, their share, Gaussians, PSNR."""
    return [
        (
            f"{row['level']}",
            f"{row['bytes']:,}",
            f"{100 * row['share']:.1f} %",
            f"{row['gaussians']:,}",
            "unknown" if row["psnr"] is None else f"{row['psnr']:.2f} dB",
        )
        for row in rows
    ]
