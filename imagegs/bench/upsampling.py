"""``imagegs bench upsampling``: fitted at half size and drawn at full size, beside Pillow's filters; and 4K renders."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from ..fitting.config import make_config
from ..fitting.fit import run
from ..gaussians import FloatArray
from ..rendering import render
from . import markdown
from .clocks import spread, timed
from .pictures import Source, eight_bits
from .representation import SCORES, scores
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DENSITIES, QUICK_DENSITIES = (16, 8, 4), (8,)
"""Pixels of the half-size picture for each Gaussian."""
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
LABELS = {"bicubic": "bicubic", "lanczos": "Lanczos"}
LONG_SIDE = 3840


class Upsampling(Table):
    """The table.

    Args:
        quick: one number of Gaussians, and the preset ``fast``.
    """

    name: ClassVar[str] = "upsampling"
    title: ClassVar[str] = "Up-sampling: fitted at half size, drawn at full size"

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.densities = QUICK_DENSITIES if quick else DENSITIES
        self.preset = "fast" if quick else "balanced"
        self.repeats = 5 if quick else 15
        self.notes.append("Halved by the mean of 2 x 2 pixels; an odd last row or column is left out.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """The filters, and ours at every number of Gaussians."""
        found = []
        for source in sources:
            found += [Cell(source, {"method": name}) for name in FILTERS]
            found += [
                Cell(source, {"method": "imagegs", "pixels": pixels, "preset": self.preset, "seed": 0})
                for pixels in self.densities
            ]
        return found

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Quality at full size, and times."""
        half, whole = halved(cell.source.pixels)
        size = whole.shape[1], whole.shape[2]
        if cell.settings["method"] in FILTERS:
            kind = FILTERS[cell.settings["method"]]
            found = resized(half, size, kind)
            return {
                **scores(whole, found),
                "render_ms": timed(lambda: resized(half, size, kind), self.repeats)["median_ms"],
                "large_ms": timed(lambda: resized(whole, _large(size), kind), 3, 1)["median_ms"],
            }
        count = max(1, half[0].size // cell.settings["pixels"])
        began = time.perf_counter()
        gaussians = run(half, make_config(half.shape[1:], gaussians=count, preset=self.preset)).gaussians
        fit_ms = 1e3 * (time.perf_counter() - began)
        full = run(whole, make_config(size, gaussians=count, preset="fast")).gaussians
        return {
            **scores(whole, render(gaussians, *size)),
            "gaussians": count,
            "half_psnr": scores(half, render(gaussians))["psnr"],
            "fit_ms": fit_ms,
            "render_ms": timed(lambda: render(gaussians, *size), self.repeats)["median_ms"],
            "large_ms": timed(lambda: render(full, *_large(size)), 3, 1)["median_ms"],
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """By method and number of Gaussians, over pictures."""
        rows = []
        methods: list[tuple[str, int | None]] = [*product(FILTERS, (None,)), *product(("imagegs",), self.densities)]
        for method, pixels in methods:
            found = [
                outcome.found
                for outcome in outcomes
                if (outcome.cell.settings["method"], outcome.cell.settings.get("pixels")) == (method, pixels)
            ]
            if found:
                label = LABELS.get(method, f"imagegs, a Gaussian for {pixels} pixels")
                row: dict[str, Any] = {"label": label}
                for key in (*SCORES, "gaussians", "half_psnr", "fit_ms", "render_ms", "large_ms"):
                    known = [figures[key] for figures in found if figures.get(key) is not None]
                    row[key] = spread(known) if known else None
                rows.append(row)
        return {"rows": rows}

    def write(self, summary: Mapping[str, Any]) -> str:
        """One line for each method."""
        head = (
            "method",
            "Gaussians",
            "PSNR, dB",
            "SSIM",
            "MS-SSIM",
            "PSNR at half size, dB",
            "fit, s",
            "warm render, ms",
            "4K render, ms",
        )
        rows = [
            (
                row["label"],
                markdown.mean(row["gaussians"], ",.0f"),
                markdown.mean(row["psnr"]),
                markdown.mean(row["ssim"], ".4f"),
                markdown.mean(row["ms_ssim"], ".4f"),
                markdown.mean(row["half_psnr"]),
                markdown.middle(markdown.in_seconds(row["fit_ms"])),
                markdown.middle(row["render_ms"]),
                markdown.middle(row["large_ms"]),
            )
            for row in summary["rows"]
        ]
        return (
            "Means of qualities and medians of times over pictures. The 4K render draws what stands for the picture at "
            f"full size with {LONG_SIDE:,} pixels on its longer side: as many Gaussians, fitted at full size, or the "
            f"picture itself.\n\n{markdown.table(head, rows)}"
        )

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """PSNR at full size."""
        from .drawing import draw_bars

        rows = summary["rows"]
        bars = {"PSNR": [row["psnr"]["mean"] for row in rows]}
        names = [row["label"] for row in rows]
        ours = [name for name in names if name not in LABELS.values()]
        return {"psnr": draw_bars(names, bars, "PSNR at full size, dB", ours=ours, log=False)}


def halved(pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A picture of 8 bits at half its size, and the part of the picture that it shows."""
    height, width = (max(1, length // 2) for length in pixels.shape[1:])
    whole = np.ascontiguousarray(pixels[:, : 2 * height, : 2 * width])
    quarters = whole.reshape(len(whole), height, whole.shape[1] // height, width, whole.shape[2] // width)
    return np.ascontiguousarray(eight_bits(quarters.mean(axis=(2, 4)))), whole


def resized(pixels: FloatArray, size: tuple[int, int], kind: Image.Resampling) -> FloatArray:
    """A picture at another (height, width), by a filter of Pillow, in floating point."""
    planes = [Image.fromarray(channel).resize((size[1], size[0]), kind) for channel in pixels]
    return np.stack([np.asarray(plane) for plane in planes])


def _large(size: tuple[int, int]) -> tuple[int, int]:
    factor = LONG_SIDE / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
