"""``imagegs bench speed``: every clock of ours on the same Gaussians, and decoders in turns with ours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from ..encoding import encode
from ..fitting.config import make_config
from ..fitting.fit import run
from ..gaussians import Gaussians2D
from ..kernels import native
from ..metrics import psnr
from ..rendering import render
from . import markdown
from .anchors import ANCHORS, largest_below, shown, to_image
from .clocks import alternated, decode_call, decoded_cold, spread, timed
from .pictures import Source
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTS, QUICK_COUNTS = (5000, 20_000), (2000,)
EFFORT = 3
LONG_SIDE = 3840
"""Of a 4K render."""
DECODED = ("jpeg", "webp", "avif", "jpeg2000", "jxl")
"""Others whose decoders are timed, at the largest file of no more bytes than ours."""
CLOCKS = {
    "step_ms": "step, ms",
    "fit_fast_ms": "fit fast, s",
    "fit_balanced_ms": "fit balanced, s",
    "encode_ms": "encode, s",
    "cold_ms": "cold decode, ms",
    "decode_ms": "warm decode, ms",
    "render_ms": "warm render, ms",
    "render_4k_ms": "4K render, ms",
}
IN_SECONDS = ("fit_fast_ms", "fit_balanced_ms", "encode_ms")


class Speed(Table):
    """The table.

    Args:
        counts: of Gaussians.
        quick: few Gaussians and few repeats.
    """

    name: ClassVar[str] = "speed"
    title: ClassVar[str] = "Speed: a step, a fit, a file, its decoding and its renders"

    def __init__(self, counts: Sequence[int] = (), *, quick: bool = False) -> None:
        super().__init__()
        self.counts = tuple(sorted(set(counts))) or (QUICK_COUNTS if quick else COUNTS)
        self.repeats = 5 if quick else 15
        self.anchors = [anchor for anchor in ANCHORS if anchor.key in DECODED and not anchor.missing]
        self.notes += [f"{anchor.missing}." for anchor in ANCHORS if anchor.key in DECODED and anchor.missing]

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every count of every picture that is large enough."""
        return [
            Cell(source, {"gaussians": count, "effort": EFFORT, "seed": 0, "repeats": self.repeats})
            for source, count in product(sources, self.counts)
            if count <= source.count
        ]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """All clocks, one after another in one process; the decoders in turns."""
        picture, count = cell.source.picture, cell.settings["gaussians"]
        size = picture.height, picture.width
        fast = make_config(size, gaussians=count, preset="fast")
        run(picture.pixels, replace(fast, steps=3, add_at=()))
        fits = {name: _fit(cell.source, count, name) for name in ("fast", "balanced")}
        gaussians = fits["balanced"][1]
        encoded = encode(picture, gaussians=count, effort=EFFORT, seed=0)
        files = {"ours": encoded.data, **self._others(cell.source, len(encoded.data))}
        warm = alternated({name: decode_call(data) for name, data in files.items()}, self.repeats)
        cold = decoded_cold(files, max(2, self.repeats // 3))
        long_side = LONG_SIDE / max(size)
        large = round(size[0] * long_side), round(size[1] * long_side)
        decoders = {
            name: {
                "bytes": len(data),
                "psnr": psnr(picture.pixels, shown(name, data)),
                "decode_ms": warm[name]["median_ms"],
                "cold_ms": cold[name]["cold"]["median_ms"],
                "process_ms": cold[name]["process"]["median_ms"],
            }
            for name, data in files.items()
        }
        return {
            "step_ms": timed(_step(cell.source, gaussians), self.repeats)["median_ms"],
            **{f"fit_{name}_ms": milliseconds for name, (milliseconds, _) in fits.items()},
            "encode_ms": 1e3 * encoded.seconds,
            "cold_ms": decoders["ours"]["cold_ms"],
            "decode_ms": decoders["ours"]["decode_ms"],
            "render_ms": timed(lambda: render(gaussians), self.repeats)["median_ms"],
            "render_4k_ms": timed(lambda: render(gaussians, *large), max(3, self.repeats // 3), 1)["median_ms"],
            "decoders": decoders,
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """By number of Gaussians, over pictures."""
        rows = []
        for count in self.counts:
            found = [outcome.found for outcome in outcomes if outcome.cell.settings["gaussians"] == count]
            if not found:
                continue
            row: dict[str, Any] = {"gaussians": count}
            row |= {clock: spread([figures[clock] for figures in found]) for clock in CLOCKS}
            row["decoders"] = {
                name: {
                    key: spread([figures["decoders"][name][key] for figures in found if name in figures["decoders"]])
                    for key in ("bytes", "psnr", "cold_ms", "process_ms", "decode_ms")
                }
                for name in dict.fromkeys(name for figures in found for name in figures["decoders"])
            }
            rows.append(row)
        return {"labels": {"ours": "imagegs"} | {anchor.key: anchor.label for anchor in self.anchors}, "rows": rows}

    def write(self, summary: Mapping[str, Any]) -> str:
        """Ours by number of Gaussians, then decoders."""
        rows = [
            (
                f"{row['gaussians']:,}",
                *(
                    markdown.middle(markdown.in_seconds(row[clock]) if clock in IN_SECONDS else row[clock])
                    for clock in CLOCKS
                ),
            )
            for row in summary["rows"]
        ]
        parts = [
            "Medians over pictures, quartiles in brackets. A step is one forward and backward pass; encode is the "
            f"fit under rounding and the coding at effort {EFFORT}; a 4K render has {LONG_SIDE:,} pixels on its longer "
            "side.",
            markdown.table(("Gaussians", *CLOCKS.values()), rows),
        ]
        for row in summary["rows"]:
            decoders = [
                (
                    summary["labels"][name],
                    markdown.mean(found["bytes"], ",.0f"),
                    markdown.mean(found["psnr"]),
                    *(markdown.middle(found[clock]) for clock in ("cold_ms", "process_ms", "decode_ms")),
                )
                for name, found in row["decoders"].items()
            ]
            head = ("codec", "bytes", "PSNR, dB", "cold decode, ms", "whole process, ms", "warm decode, ms")
            parts.append(
                f"Decoders in turns, files of no more bytes than ours of {row['gaussians']:,} Gaussians (where a codec "
                f"makes one):\n\n{markdown.table(head, decoders)}"
            )
        return "\n\n".join(parts)

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """Times of decoding, of the most Gaussians."""
        from .drawing import draw_bars

        decoders = summary["rows"][-1]["decoders"]
        names = sorted(decoders, key=lambda name: float(decoders[name]["cold_ms"]["median"]))
        bars = {
            "cold": [decoders[name]["cold_ms"]["median"] for name in names],
            "warm": [decoders[name]["decode_ms"]["median"] for name in names],
        }
        return {"decode": draw_bars([summary["labels"][name] for name in names], bars, "time of decoding, ms")}

    def _others(self, source: Source, limit: int) -> dict[str, bytes]:
        found = {anchor.key: largest_below(anchor, to_image(source.pixels), limit) for anchor in self.anchors}
        return {key: data for key, data in found.items() if data is not None}


def _fit(source: Source, count: int, preset: str) -> tuple[float, Gaussians2D]:
    config = make_config(source.pixels.shape[1:], gaussians=count, preset=preset)
    began = time.perf_counter()
    found = run(source.pixels, config)
    return 1e3 * (time.perf_counter() - began), found.gaussians


def _step(source: Source, gaussians: Gaussians2D) -> Any:
    rasterizer = native.Rasterizer()
    arrays = gaussians.means, gaussians.scales, gaussians.rotations, gaussians.colors
    size = gaussians.height, gaussians.width

    def work() -> None:
        rasterizer.prepare(*arrays, size, native.IDENTITY, gaussians.blend, gaussians.top_k)
        rasterizer.backward(gaussians.background, target=source.pixels, l2=1.0, fused=True)

    return work
