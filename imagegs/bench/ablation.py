"""``imagegs bench ablation``: each choice of ours switched off or changed once: decibels, bytes and seconds.

The choices of the fit are judged before anything is rounded; those of whole files by files of the same number of
Gaussians, and the stages after a fit by files of the very same one. Of files both the bytes and the decibels change:
what a change costs at equal quality follows from how bytes and decibels go together as the number of Gaussians does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ..budget import best_factor
from ..codec import BitWidths
from ..compression import Effort, Fitted, Job, code, fit, quality_of
from ..encoding import encode, fit_config
from ..fitting.config import make_config
from ..fitting.fit import run
from ..goals import Goal
from . import markdown
from .attribute_bits import steps_of
from .clocks import spread
from .pictures import Source
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PER_GAUSSIAN, STEPS = 80, 800
"""Pixels for each Gaussian, and steps, of each fit; 5,000 Gaussians in a Kodak picture."""
QUICK_STEPS = 300
FEWER, MORE = 0.8, 1.25
"""Times the Gaussians, between which bytes and decibels are taken to go together."""
SHIPPED = "as shipped"

FIT: dict[str, dict[str, Any]] = {
    SHIPPED: {},
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
FILE: dict[str, dict[str, Any]] = {
    SHIPPED: {},
    "no noise of the quantiser in the fit": {"noise_from": 1.0},
    "no Gaussians beyond the number": {"overshoot": 0.0},
    "the usual memory of gradients": {"betas": (0.9, 0.9)},
    "fixed widths of 12 bits, no entropy coding": {"bits": BitWidths(12, 12, 12, 12)},
    "fixed widths of 8 bits, no entropy coding": {"bits": BitWidths(8, 8, 8, 8)},
    "four levels, each of which is shown": {"levels": 4},
    "blocks of 64 pixels, each decoded alone": {"block_shift": 6},
}
"""Changes of `encode`."""
STAGES: dict[str, dict[str, Any]] = {
    SHIPPED: {},
    "no refit of places and colours to rounded shapes": {"refit": False},
    "no colour solve for the rounded geometry": {"solve": False},
    "colours to the nearest step, whatever it costs": {"bit_worth": 0.0},
    "all rounded at once, to the nearest": {"refit": False, "solve": False, "bit_worth": 0.0},
    "no contexts: symbols by their own frequencies": {"contexts": "order-0"},
    "no contexts, and the order of Gaussians paid for": {"contexts": "as a list"},
}
"""Changes of how the same fit is rounded and coded."""
PARTS = {"fit": FIT, "file": FILE, "stages": STAGES}
QUICK = {
    "fit": (SHIPPED, "start at random", "no relocation, no growth", "no colour solve"),
    "file": tuple(FILE)[:5],
    "stages": tuple(STAGES),
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
        self.variants = [(part, name) for part, known in PARTS.items() for name in (QUICK[part] if quick else known)]
        self.notes.append(
            "Files without contexts were not written: their bytes are those of the file less what its contexts took, "
            "with what the same symbols take by their own frequencies, tables of which are not counted."
        )

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every variant of every picture."""
        return [
            Cell(source, {"part": part, "variant": name, "steps": self.steps, "per_gaussian": PER_GAUSSIAN, "seed": 0})
            for source in sources
            for part, name in self.variants
        ]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """PSNR, time, and bytes where there is a file."""
        source, part, variant = cell.source, cell.settings["part"], cell.settings["variant"]
        measured = {"fit": _measure_fit, "file": _measure_file, "stages": _measure_stages}[part]
        return measured(source, self.steps, variant)

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """What each variant changes against ours as shipped, picture by picture."""
        found = {
            (outcome.cell.settings["part"], outcome.cell.settings["variant"], outcome.cell.source.digest): outcome.found
            for outcome in outcomes
        }
        parts: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
        for part, name in self.variants:
            digests = [
                digest
                for one, variant, digest in found
                if (one, variant) == (part, name) and (part, SHIPPED, digest) in found
            ]
            if not digests:
                continue
            mine = [found[part, name, digest] for digest in digests]
            pairs = list(zip(mine, [found[part, SHIPPED, digest] for digest in digests], strict=True))
            row: dict[str, Any] = {"variant": name}
            row |= {key: spread([one[key] for one in mine]) for key in ("psnr", "seconds")}
            row["gain"] = spread([one["psnr"] - other["psnr"] for one, other in pairs])
            row["time"] = spread([one["seconds"] / other["seconds"] for one, other in pairs])
            if part != "fit":
                row["bytes"] = spread([one["bytes"] for one in mine])
                row["size"] = spread([one["bytes"] / other["bytes"] for one, other in pairs])
                slopes = [found.get(("file", SHIPPED, digest), {}).get("slope") for digest in digests]
                row["worth"] = _worth([(*pair, slope) for pair, slope in zip(pairs, slopes, strict=True) if slope])
            parts[part].append(row)
        return parts

    def write(self, summary: Mapping[str, Any]) -> str:
        """The choices of the fit, then those of files."""
        fit_head = ("fit", "PSNR, dB", "change, dB", "time, s", "times as long")
        rows = [
            (
                row["variant"],
                markdown.mean(row["psnr"]),
                markdown.mean(row["gain"], "+.2f"),
                markdown.middle(row["seconds"]),
                markdown.mean(row["time"]),
            )
            for row in summary["fit"]
        ]
        return "\n\n".join(
            (
                f"A Gaussian for {PER_GAUSSIAN} pixels, {self.steps:,} steps; changes against ours as shipped, "
                "means over pictures. The fit, before anything is rounded:",
                markdown.table(fit_head, rows),
                "Whole files. In the last column, the bytes that the change costs at equal quality, since more "
                "Gaussians buy decibels for bytes:",
                _files("file", "encode, s", summary["file"]),
                "The same fit, rounded and coded otherwise:",
                _files("stages after the fit", "rounding and coding, s", summary["stages"]),
            )
        )

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """What each variant changes."""
        from .drawing import draw_bars

        figures = {}
        for part, rows in summary.items():
            changed = [row for row in rows if row["variant"] != SHIPPED]
            if not changed:
                continue
            names = [row["variant"] for row in changed]
            if part == "fit" or not all(row["worth"] for row in changed):
                bars = {"change of PSNR": [row["gain"]["mean"] for row in changed]}
                figures[part] = draw_bars(names, bars, "change of PSNR, dB", log=False)
            else:
                bars = {"change of bytes": [100 * (row["worth"]["mean"] - 1) for row in changed]}
                figures[part] = draw_bars(names, bars, "change of bytes at equal quality, %", log=False)
        return figures


def _measure_fit(source: Source, steps: int, variant: str) -> dict[str, Any]:
    pixels = source.pixels
    config = make_config(pixels.shape[1:], gaussians=_count(source), **{"steps": steps, **FIT[variant]})
    run(pixels, replace(config, steps=3, add_at=()))
    began = time.perf_counter()
    found = run(pixels, config)
    return {"psnr": found.psnr, "seconds": time.perf_counter() - began}


def _measure_file(source: Source, steps: int, variant: str) -> dict[str, Any]:
    count, settings = _count(source), {"seed": 0, "steps": steps, **FILE[variant]}
    encoded = encode(source.picture, gaussians=count, **settings)
    found = {"psnr": encoded.psnr, "seconds": encoded.seconds, "bytes": len(encoded.data)}
    if variant == SHIPPED:
        less, more = (
            encode(source.picture, gaussians=max(1, round(times * count)), **settings) for times in (FEWER, MORE)
        )
        octaves = math.log2(len(more.data) / len(less.data))
        found["slope"] = (more.psnr - less.psnr) / octaves if octaves else 0.0
    return found


def _measure_stages(source: Source, steps: int, variant: str) -> dict[str, Any]:
    change = STAGES[variant]
    job = replace(_job(source, steps), **{name: change[name] for name in ("bit_worth",) if name in change})
    fitted = _fitted(source, steps)
    began = time.perf_counter()
    refit = job.effort.refit if change.get("refit", True) else 0
    factor = best_factor(job, _count(source))
    coded = code(job, fitted.gaussians, factor, refit_steps=refit, solve=change.get("solve", True))
    found = {"seconds": time.perf_counter() - began, "psnr": quality_of(job, coded, "psnr"), "bytes": len(coded.data)}
    if "contexts" in change:
        bits = {name: sum(by_attribute.values()) for name, by_attribute in steps_of(coded.data).items()}
        found["bytes"] += math.ceil((bits[change["contexts"]] - bits["contexts"]) / 8)
    return found


def _count(source: Source) -> int:
    return max(1, source.count // PER_GAUSSIAN)


def _job(source: Source, steps: int) -> Job:
    picture = source.picture
    config = fit_config((picture.height, picture.width), Goal("gaussians", _count(source)), 0, {})
    job = Job(picture, Effort(steps, steps // 10), config)
    return replace(job, config=replace(config, lattice=job.lattice(best_factor(job, _count(source)))))


@lru_cache(maxsize=1)
def _fitted(source: Source, steps: int) -> Fitted:
    """The fit that all stages start from."""
    return fit(_job(source, steps), _count(source), steps)


def _worth(found: Sequence[tuple[Mapping[str, float], Mapping[str, float], float]]) -> dict[str, float] | None:
    """Bytes at equal quality as multiples of those as shipped, of (changed, as shipped, dB per octave of bytes)."""
    worth = [
        one["bytes"] / other["bytes"] * 2 ** ((other["psnr"] - one["psnr"]) / slope)
        for one, other, slope in found
        if slope > 0
    ]
    return spread(worth) if worth else None


def _files(what: str, clock: str, rows: Sequence[Mapping[str, Any]]) -> str:
    head = (what, "PSNR, dB", "change, dB", "bytes", "times the bytes", clock, "bytes at equal PSNR")
    lines = []
    for row in rows:
        worth = row["worth"]
        lines.append(
            (
                row["variant"],
                markdown.mean(row["psnr"]),
                markdown.mean(row["gain"], "+.2f"),
                markdown.mean(row["bytes"], ",.0f"),
                markdown.mean(row["size"]),
                markdown.middle(row["seconds"]),
                markdown.EMPTY if worth is None else f"{100 * (worth['mean'] - 1):+.1f} %",
            )
        )
    return markdown.table(head, lines)
