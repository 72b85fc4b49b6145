"""``imagegs bench representation``: what a number of Gaussians shows, by method, and the time that it takes."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..codec import write_file
from ..decoding import decode
from ..errors import ConfigError, ImageGSError
from ..fitting.config import make_config
from ..fitting.fit import run
from ..gaussians import FloatArray
from ..metrics import ms_ssim, psnr, ssim
from ..rendering import render
from . import markdown
from .clocks import decoded_cold, spread, timed
from .pictures import Source, eight_bits
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .dense import DenseFit
    from .splatting import SplatFit

COUNTS = (1000, 2000, 5000, 10_000, 20_000, 40_000, 70_000)
QUICK_COUNTS = (1000, 5000)
QUICK_STEPS = 300
"""Most steps of the published methods in quick runs."""
WARM_UP = 3
"""Steps of a fit that is not counted."""
SPLAT_STEPS = 10_000
DENSE_STEPS, DENSE_SECONDS, QUICK_SECONDS = 2000, 240.0, 10.0
DENSE_MOST, QUICK_DENSE_MOST = 5000, 1000
"""Gaussians of the dense baseline, whose steps cost pixels times Gaussians."""


@dataclass(frozen=True)
class Method:
    """A way to fit.

    Attributes:
        label: for people.
        settings: of ``imagegs.fit``; none where it is not ours.
        most: Gaussians; more are not tried.
        published: it follows a paper, with many steps.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    most: int | None = None
    published: bool = False


METHODS = {
    "fast": Method("imagegs, fast", {"preset": "fast"}),
    "balanced": Method("imagegs, balanced", {"preset": "balanced"}),
    "best": Method("imagegs, best", {"preset": "best"}),
    "image-gs": Method("Image-GS (profile)", {"profile": "image-gs"}, published=True),
    "gaussian-image": Method(
        "GaussianImage, Cholesky (profile)", {"profile": "gaussian-image", "shape": "cholesky"}, published=True
    ),
    "gaussian-image-rs": Method(
        "GaussianImage, RS (profile)", {"profile": "gaussian-image", "shape": "rotation-scale"}, published=True
    ),
    "dense": Method("plain PyTorch, every Gaussian at every pixel", most=DENSE_MOST),
    "3dgs": Method("3DGS (gsplat)"),
}
QUICK_METHODS = tuple(name for name in METHODS if name != "best")
SCORES = ("psnr", "ssim", "ms_ssim")
CLOCKS = ("fit_ms", "encode_ms", "cold_ms", "render_ms")


class Representation(Table):
    """The table.

    Args:
        counts: of Gaussians.
        methods: of `METHODS`; all by default, in quick runs all but ``best``.
        seeds: how many, from 0 on.
        quick: few counts and methods, the published methods with few steps, the baseline with little time.
    """

    name: ClassVar[str] = "representation"
    title: ClassVar[str] = "Representation: quality and time by the number of Gaussians"

    def __init__(
        self, counts: Sequence[int] = (), methods: Sequence[str] = (), seeds: int = 1, *, quick: bool = False
    ) -> None:
        super().__init__()
        self.counts = tuple(sorted(set(counts))) or (QUICK_COUNTS if quick else COUNTS)
        self.methods = tuple(methods) or (QUICK_METHODS if quick else tuple(METHODS))
        check_names("methods", self.methods, METHODS)
        self.seeds = seeds
        self.quick = quick
        self.repeats = 5 if quick else 15
        if quick:
            self.notes.append(
                f"Quick: published methods were given {QUICK_STEPS:,} steps at most, which is not enough for them."
            )
        if "dense" in self.methods:
            limit, most = self._dense_limits()
            self.notes.append(
                f"The plain PyTorch baseline stops after {DENSE_STEPS:,} steps or {limit:.0f} s, and is tried with up "
                f"to {most:,} Gaussians; its steps are in the table, and few. It has no file format."
            )
        if "3dgs" in self.methods:
            from .splatting import missing

            if reason := missing():
                self.methods = tuple(method for method in self.methods if method != "3dgs")
                self.notes.append(f"{reason}.")
        if importlib.util.find_spec("pytorch_msssim") is None:
            self.notes.append("MS-SSIM is left out: it needs pytorch-msssim: pip install 'imagegs[metrics]'.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every method at every count that it can be tried with."""
        found = []
        for source, count, method, seed in product(sources, self.counts, self.methods, range(self.seeds)):
            limits = [source.count, METHODS[method].most, self._dense_limits()[1] if method == "dense" else None]
            if count <= min(limit for limit in limits if limit is not None):
                settings = {"method": method, "gaussians": count, "seed": seed, **self._pace(method)}
                found.append(Cell(source, settings))
        return found

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Quality of what was fitted, unrounded; then its file of the usual fixed widths, and what it decodes to."""
        settings, pixels = cell.settings, cell.source.pixels
        if not METHODS[settings["method"]].settings:
            return self._measure_other(cell)
        made = {**METHODS[settings["method"]].settings, **({"steps": settings["steps"]} if settings["steps"] else {})}
        config = make_config(pixels.shape[1:], gaussians=settings["gaussians"], seed=settings["seed"], **made)
        run(pixels, replace(config, steps=WARM_UP, add_at=()))
        began = time.perf_counter()
        found = run(pixels, config)
        fit_ms = 1e3 * (time.perf_counter() - began)
        info = cell.source.picture.info
        data = write_file(found.gaussians, info=info)
        return {
            **scores(pixels, render(found.gaussians)),
            "steps": found.steps,
            "fit_ms": fit_ms,
            "encode_ms": timed(lambda: write_file(found.gaussians, info=info), self.repeats)["median_ms"],
            "cold_ms": decoded_cold({"ours": data}, 3)["ours"]["cold"]["median_ms"],
            "render_ms": timed(lambda: render(found.gaussians), self.repeats)["median_ms"],
            "bytes": len(data),
            "file_psnr": psnr(pixels, eight_bits(decode(data).pixels)),
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Of each method and count, the spread over pictures and seeds."""
        rows = []
        for count, method in product(self.counts, self.methods):
            found = [
                outcome.found
                for outcome in outcomes
                if (outcome.cell.settings["method"], outcome.cell.settings["gaussians"]) == (method, count)
            ]
            if found:
                row: dict[str, Any] = {"method": method, "label": METHODS[method].label, "gaussians": count}
                for key in (*SCORES, "steps", *CLOCKS, "bytes", "file_psnr"):
                    values = [figures[key] for figures in found if figures.get(key) is not None]
                    row[key] = spread(values) if values else None
                rows.append(row)
        return {"rows": rows}

    def write(self, summary: Mapping[str, Any]) -> str:
        """A table of qualities and one of times."""
        head = ("method", "Gaussians", "PSNR, dB", "SSIM", "MS-SSIM", "steps")
        times = ("method", "Gaussians", "fit, s", "encode, ms", "cold decode, ms", "warm render, ms", "file, bytes")
        rows = summary["rows"]
        quality = markdown.table(
            head,
            (
                (
                    row["label"],
                    f"{row['gaussians']:,}",
                    markdown.mean(row["psnr"]),
                    markdown.mean(row["ssim"], ".4f"),
                    markdown.mean(row["ms_ssim"], ".4f"),
                    markdown.mean(row["steps"], ",.0f"),
                )
                for row in rows
            ),
        )
        clocks = markdown.table(
            times,
            (
                (
                    row["label"],
                    f"{row['gaussians']:,}",
                    markdown.middle(markdown.in_seconds(row["fit_ms"])),
                    *(markdown.middle(row[key]) for key in CLOCKS[1:]),
                    markdown.mean(row["bytes"], ",.0f"),
                )
                for row in rows
            ),
        )
        return (
            f"Means over pictures and seeds, of the fitted Gaussians before any rounding.\n\n{quality}\n\n"
            "Medians over pictures and seeds, quartiles in brackets; encode is the writing of a file of fixed widths "
            f"(14, 9, 10 and 9 bits), cold decode its reading and drawing in a fresh process.\n\n{clocks}"
        )

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """PSNR over the number of Gaussians, and over the time of the fit."""
        from .drawing import Line, draw_lines

        counts, times = [], []
        for method in self.methods:
            rows = [row for row in summary["rows"] if row["method"] == method]
            if not rows:
                continue
            quality = [row["psnr"]["mean"] for row in rows]
            ours = method in ("fast", "balanced", "best")
            counts.append(Line(METHODS[method].label, [row["gaussians"] for row in rows], quality, ours=ours))
            seconds = [row["fit_ms"]["median"] / 1e3 for row in rows]
            times.append(Line(METHODS[method].label, seconds, quality, ours=ours))
        return {
            "psnr": draw_lines(counts, "Gaussians", "PSNR, dB"),
            "time": draw_lines(times, "time of the fit, s", "PSNR, dB"),
        }

    def _measure_other(self, cell: Cell) -> dict[str, Any]:
        """Of what is not ours: it has no file."""
        settings, pixels = cell.settings, cell.source.pixels
        found: DenseFit | SplatFit
        if settings["method"] == "dense":
            from .dense import fit_dense

            limits = {"steps": settings["steps"], "seconds": settings["seconds"]}
            found = fit_dense(pixels, settings["gaussians"], seed=settings["seed"], threads=self.threads, **limits)
        else:
            from .splatting import fit_splats

            found = fit_splats(pixels, settings["gaussians"], steps=settings["steps"], seed=settings["seed"])
        return {
            **scores(pixels, found.pixels),
            "steps": found.steps,
            "fit_ms": 1e3 * found.seconds,
            "render_ms": 1e3 * found.render_s,
        }

    def _pace(self, method: str) -> dict[str, Any]:
        """Steps and seconds that are not the method's own."""
        if method == "3dgs":
            return {"steps": QUICK_STEPS if self.quick else SPLAT_STEPS}
        if method == "dense":
            return {"steps": DENSE_STEPS, "seconds": self._dense_limits()[0]}
        return {"steps": QUICK_STEPS if self.quick and METHODS[method].published else None}

    def _dense_limits(self) -> tuple[float, int]:
        return (QUICK_SECONDS, QUICK_DENSE_MOST) if self.quick else (DENSE_SECONDS, DENSE_MOST)


def check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    """Refuse names that are not known.

    Raises:
        ConfigError: with those that are.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(f"{what}: expected some of {', '.join(known)}, found {', '.join(unknown)}")


def scores(reference: FloatArray, found: FloatArray) -> dict[str, float | None]:
    """PSNR, SSIM and MS-SSIM of a picture, cut to [0, 1]; None for one that cannot be measured here."""
    cut = np.clip(found, 0, 1)
    result: dict[str, float | None] = {"psnr": psnr(reference, cut), "ssim": None, "ms_ssim": None}
    for name, measure in (("ssim", ssim), ("ms_ssim", ms_ssim)):
        try:
            result[name] = measure(reference, cut)
        except ImageGSError:  # too small a picture, or pytorch-msssim is absent
            continue
    return result
