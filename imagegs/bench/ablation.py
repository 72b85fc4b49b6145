"""``imagegs bench ablation``: each choice of ours switched off or changed once: decibels, bytes and seconds.

The choices of the fit are judged before anything is rounded; those of the codec by whole files of the same number of
Gaussians, of which both the bytes and the decibels change.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..codec import BitWidths
from ..encoding import encode
from ..fitting.config import make_config
from ..fitting.fit import run
from . import markdown
from .clocks import spread
from .pictures import Source
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_GAUSSIAN, STEPS = 80, 800
"""Of each fit; 5,000 Gaussians in a Kodak picture."""
QUICK_STEPS = 300

FIT: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "another seed": {"seed": 1},
    "blend topk, K = 10": {"blend": "topk", "top_k": 10},
    "blend sum": {"blend": "sum"},
    "start by gradient": {"init": "gradient"},
    "start at random": {"init": "random"},
    "all Gaussians from the start": {"start_fraction": 1.0},
    "no relocation": {"relocate": 0.0},
    "no relocation, no growth": {"relocate": 0.0, "start_fraction": 1.0},
    "growth by error, not its square": {"error_power": 1.0},
    "Adam betas 0.9, 0.999": {"betas": (0.9, 0.999)},
    "Adam betas 0.9, 0.999, epsilon 1e-8": {"betas": (0.9, 0.999), "epsilon": 1e-8},
    "inverse scales, the official rates": {
        "shape": "inverse-scale",
        "rates": {"position": 5e-4, "scale": 2e-3, "rotation": 2e-3, "color": 5e-3},
    },
    "coarse to fine, 30 %": {"coarse": 0.3},
    "no colour solve": {"color_solve": 0},
    "loss L1": {"loss": {"l1": 1.0, "l2": 0.0}},
    "rounded to the default widths": {"bits": BitWidths()},
    "rounded to 10, 6, 6, 6 bits, from 85 % on": {"bits": BitWidths(10, 6, 6, 6)},
    "rounded to 10, 6, 6, 6 bits, only at the end": {"bits": BitWidths(10, 6, 6, 6), "quantize_from": 1.0},
    "as above, and no colour solve": {"bits": BitWidths(10, 6, 6, 6), "quantize_from": 1.0, "color_solve": 0},
    "2,000 steps": {"steps": 2000},
}
"""Changes of `FitConfig`."""
CODEC: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no noise of the quantiser in the fit": {"noise_from": 1.0},
    "no Gaussians beyond the number": {"overshoot": 0.0},
    "the usual memory of gradients": {"betas": (0.9, 0.9)},
    "fixed widths of 12 bits, no entropy coding": {"bits": BitWidths(12, 12, 12, 12)},
    "fixed widths of 8 bits, no entropy coding": {"bits": BitWidths(8, 8, 8, 8)},
    "four levels, each of which is shown": {"levels": 4},
    "blocks of 64 pixels, each decoded alone": {"block_shift": 6},
}
"""Changes of `encode`."""
QUICK = {
    "fit": ("as shipped", "start at random", "no relocation, no growth", "no colour solve"),
    "codec": tuple(CODEC)[:5],
}


class Ablation(Table):
    """The table.

    Args:
        quick: few variants, and few steps.
    """

    name: ClassVar[str] = "ablation"
    title: ClassVar[str] = "Ablation: what each choice is worth"

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.steps = QUICK_STEPS if quick else STEPS
        self.variants = [
            (part, name)
            for part, known in (("fit", FIT), ("codec", CODEC))
            for name in (QUICK[part] if quick else known)
        ]

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every variant of every picture."""
        return [
            Cell(source, {"part": part, "variant": name, "steps": self.steps, "per_gaussian": PIXELS_PER_GAUSSIAN})
            for source in sources
            for part, name in self.variants
        ]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """PSNR, time, and bytes where there is a file."""
        picture, count = cell.source.picture, max(1, cell.source.count // PIXELS_PER_GAUSSIAN)
        if cell.settings["part"] == "codec":
            settings = {"seed": 0, "steps": self.steps, **CODEC[cell.settings["variant"]]}
            encoded = encode(picture, gaussians=count, **settings)
            return {"psnr": encoded.psnr, "seconds": encoded.seconds, "bytes": len(encoded.data)}
        settings = {"steps": self.steps, **FIT[cell.settings["variant"]]}
        config = make_config((picture.height, picture.width), gaussians=count, **settings)
        run(picture.pixels, replace(config, steps=3, add_at=()))
        began = time.perf_counter()
        found = run(picture.pixels, config)
        return {"psnr": found.psnr, "seconds": time.perf_counter() - began}

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """What each variant changes against ours as shipped, picture by picture."""
        found = {
            (outcome.cell.settings["part"], outcome.cell.settings["variant"], outcome.cell.source.digest): outcome.found
            for outcome in outcomes
        }
        parts: dict[str, list[dict[str, Any]]] = {"fit": [], "codec": []}
        for part, name in self.variants:
            digests = [
                digest
                for one, variant, digest in found
                if (one, variant) == (part, name) and (part, "as shipped", digest) in found
            ]
            if not digests:
                continue
            mine = [found[part, name, digest] for digest in digests]
            shipped = [found[part, "as shipped", digest] for digest in digests]
            row: dict[str, Any] = {"variant": name}
            row |= {key: spread([one[key] for one in mine]) for key in ("psnr", "seconds")}
            pairs = list(zip(mine, shipped, strict=True))
            row["gain"] = spread([one["psnr"] - other["psnr"] for one, other in pairs])
            row["time"] = spread([one["seconds"] / other["seconds"] for one, other in pairs])
            if part == "codec":
                row["bytes"] = spread([one["bytes"] for one in mine])
                row["size"] = spread([one["bytes"] / other["bytes"] for one, other in pairs])
            parts[part].append(row)
        return parts

    def write(self, summary: Mapping[str, Any]) -> str:
        """The choices of the fit, then those of the codec."""
        fit = [
            (
                row["variant"],
                markdown.mean(row["psnr"]),
                markdown.mean(row["gain"], "+.2f"),
                markdown.middle(row["seconds"]),
                markdown.mean(row["time"]),
            )
            for row in summary["fit"]
        ]
        codec = [
            (
                row["variant"],
                markdown.mean(row["psnr"]),
                markdown.mean(row["gain"], "+.2f"),
                markdown.mean(row["bytes"], ",.0f"),
                markdown.mean(row["size"]),
                markdown.middle(row["seconds"]),
            )
            for row in summary["codec"]
        ]
        return (
            f"A Gaussian for {PIXELS_PER_GAUSSIAN} pixels, {self.steps:,} steps; changes against ours as shipped, "
            "means over pictures. The fit, before anything is rounded:\n\n"
            f"{markdown.table(('fit', 'PSNR, dB', 'change, dB', 'time, s', 'times as long'), fit)}\n\n"
            "Whole files:\n\n"
            + markdown.table(("codec", "PSNR, dB", "change, dB", "bytes", "times the bytes", "encode, s"), codec)
        )

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """What each variant changes."""
        from .drawing import draw_bars

        figures = {}
        for part, rows in summary.items():
            changed = [row for row in rows if row["variant"] != "as shipped"]
            if changed:
                bars = {"change of PSNR": [row["gain"]["mean"] for row in changed]}
                figures[part] = draw_bars([row["variant"] for row in changed], bars, "change of PSNR, dB", log=False)
        return figures
