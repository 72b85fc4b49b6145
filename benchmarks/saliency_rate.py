"""What importance is worth in files of the same size: over strength, by source, by rate, and effect by effect.

python benchmarks/saliency_rate.py [PART...] [--quick] [--write-docs]

Pictures of ../shared/data/saliency are encoded plainly at some bits per pixel, then by a map at the same bytes; both
are scored by where people looked (see apps/saliency/scores.py). Parts that are not named keep their earlier figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from common import RESULTS, ROOT, SHARED, THREADS, write
from imagegs.apps.saliency.evaluation import EQUAL, STRENGTHS, Gain, compression_rows, gains, maps_of
from imagegs.apps.saliency.fixations import Sample, read_fixations
from imagegs.apps.saliency.guide import EFFECTS
from imagegs.apps.saliency.sources import Sources
from matplotlib.figure import Figure

from imagegs.kernels import native
from imagegs.plots import INK, write_figure

DATA = SHARED / "data" / "saliency"
NAME = "saliency_rate"
BPP, EFFORT, ABLATION_EFFORT = 0.3, 5, 3
DOCUMENT = ROOT / "docs" / "saliency.md"
BEGIN, END = "<!-- strength: begin -->", "<!-- strength: end -->"


def human(samples: Sequence[Sample]) -> list[Any]:
    return [sample.density for sample in samples]


def by_model(name: str) -> Callable[[Sequence[Sample]], list[Any]]:
    return lambda samples: maps_of(Sources(models=(name,), weights=SHARED / "weights"), samples)


def center(samples: Sequence[Sample]) -> list[Any]:
    from imagegs.apps.saliency.builtin import center_prior

    return [center_prior(sample.density.shape) for sample in samples]


Part = tuple[Callable[[Sequence[Sample]], list[Any]], dict[str, Any]]
PARTS: dict[str, Part] = {
    "human fixations": (human, {"bpp": BPP, "strengths": STRENGTHS}),
    "human fixations, 0.15 bpp": (human, {"bpp": 0.15, "strengths": (1.0,)}),
    "human fixations, 0.6 bpp": (human, {"bpp": 0.6, "strengths": (1.0,)}),
    "all effects": (human, {"bpp": BPP, "strengths": (1.0,), "effort": ABLATION_EFFORT}),
    **{
        f"without {effect}": (
            human,
            {"bpp": BPP, "strengths": (1.0,), "effort": ABLATION_EFFORT, "without": (effect,)},
        )
        for effect in EFFECTS
        if effect != "order"  # which moves no bit in a file of one level
    },
    "builtin": (by_model("builtin"), {"bpp": BPP, "strengths": STRENGTHS}),
    "fastgaze": (by_model("fastgaze"), {"bpp": BPP, "strengths": STRENGTHS}),
    "centre prior": (center, {"bpp": BPP, "strengths": (0.5, 1.0)}),
}


def run(name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    make, settings = PARTS[name]
    settings = {"effort": EFFORT, "threads": THREADS} | settings
    rows = compression_rows(make(samples), samples, **settings)
    for gain in gains(rows):
        print(name, describe(gain), flush=True)
    return {
        "settings": {key: value for key, value in settings.items() if key != "threads"},
        "gains": [asdict(gain) for gain in gains(rows)],
        "rows": [row.to_dict() for row in rows],
    }


def describe(gain: Gain) -> str:
    found = {key: round(value, 3) for key, value in gain.changes.items() if value is not None}
    flag = "" if gain.size < EQUAL else " NOT EQUAL"
    return f"strength {gain.strength:g}: {found}, sizes within {100 * gain.size:.2f} %{flag}"


def table(results: dict[str, Any]) -> str:
    """The gains as Markdown."""
    head = ("map", "strength", "weighted PSNR", "region PSNR", "rest PSNR", "PSNR", "region MS-SSIM", "rest MS-SSIM")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, part in results.items():
        for gain in part["gains"]:
            changes = gain["changes"]
            cells = [f"{changes[key]:+.2f} dB" for key in ("weighted_psnr", "region_psnr", "outside_psnr", "psnr")]
            cells += [f"{changes[key]:+.4f}" for key in ("region_ms_ssim", "outside_ms_ssim")]
            lines.append(f"| {name} | {gain['strength']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_strength(results: dict[str, Any]) -> Figure:
    """Mean changes over the strength, human fixations and the built-in model beside each other."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    names = ("human fixations", "builtin")
    lines = {"region_psnr": "region", "weighted_psnr": "weighted", "outside_psnr": "rest", "psnr": "everything"}
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        gains = [{"strength": 0.0, "changes": dict.fromkeys(lines, 0.0)}, *results[name]["gains"]]
        for key, label in lines.items():
            axes.plot([gain["strength"] for gain in gains], [gain["changes"][key] for gain in gains], "o-", label=label)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(title=f"{name}, {BPP} bits per pixel", xlabel="strength")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("change of PSNR at equal bytes, dB")
    figure.axes[0].legend()
    return figure


def write_docs(results: dict[str, Any]) -> None:
    write_figure(ROOT / "docs" / "images" / "saliency-strength.png", draw_strength(results))
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="two pictures; nothing is written")
    parser.add_argument("--write-docs", action="store_true", help="only put the figures at hand into docs/saliency.md")
    arguments = parser.parse_args()
    path = RESULTS / f"{NAME}.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
    if arguments.write_docs:
        write_docs(earlier)
        raise SystemExit
    if unknown := set(arguments.parts) - set(PARTS):
        raise SystemExit(f"saliency_rate.py: expected some of {', '.join(PARTS)}, found {', '.join(sorted(unknown))}")
    if not DATA.is_dir():
        raise SystemExit("saliency_rate.py: expected fixations in ../shared/data/saliency, found none")
    samples = read_fixations(DATA)[: 2 if arguments.quick else None]
    with native.threads(THREADS):
        for name in arguments.parts or PARTS:
            earlier[name] = run(name, samples)
            if not arguments.quick:
                ordered = {part: earlier[part] for part in PARTS if part in earlier}
                write(NAME, "python benchmarks/saliency_rate.py", ordered)
