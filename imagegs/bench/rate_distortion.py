"""``imagegs bench rate-distortion``: bytes and quality beside the codecs that people use, BD-rates, and the clocks."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..compression import EFFORTS as ALL_EFFORTS
from ..decoding import decode
from ..encoding import encode
from ..errors import ConfigError, ImageGSError
from ..gaussians import FloatArray
from ..metrics import ms_ssim, psnr
from ..rendering import render
from . import gaussian_image, markdown
from .anchors import ANCHORS, Anchor, sweep, to_image, to_pixels
from .clocks import decode_call, decoded_cold, spread, timed
from .curves import HIGH, LOW, Curve, bd_rate, front, mean_curve, quality_at, similarity_decibels
from .gaussian_image_fit import PUBLISHED_STEPS, counts_for, fit_coded
from .pictures import Source, eight_bits
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (0.1, 0.15, 0.25, 0.5, 0.75, 1.04)
"""Targets of ours, bpp. A file may be 3 % below its target: the last makes sure that the curve reaches 1.0."""
QUICK_RATES = (0.15, 0.5, 1.04)
EFFORTS, QUICK_EFFORTS = (5,), (2,)
GAP, QUICK_GAP = 1.3, 1.8
"""Largest factor between neighbouring rates of another codec."""
QUICK_ANCHORS = ("jpeg", "webp", "avif", "jpeg2000", "jxl")
SHOWN = (0.1, 0.15, 0.25, 0.5, 0.75, 1.0)
PLOTTED = tuple(float(rate) for rate in np.geomspace(LOW, HIGH, 25))
MARGIN = 1.25
"""Others are measured this factor beyond the range of rates, so that its ends lie between points."""
RATE_OF_TIMES = 0.5
GAUSSIAN_IMAGE = "gaussian-image"
QUICK_STEPS = 300
"""Of each fit of GaussianImage's codec."""
METRICS = {"psnr": "PSNR, dB", "ms_ssim": "MS-SSIM, dB"}
CLOCKS = {"fit_ms": "fit, s", "encode_ms": "encode, s", "cold_ms": "cold decode, ms", "decode_ms": "warm decode, ms"}
FRAMES = {"decode_ms": "frames per second, from the file", "render_ms": "frames per second, in memory"}


class RateDistortion(Table):
    """The table.

    Args:
        rates: bits per pixel that ours aims at.
        efforts: of ours.
        steps: of each of the two fits of GaussianImage's codec; 0 leaves it out, and so does None where not quick.
        quick: few rates, little effort, and none of the codecs' other settings.
    """

    name: ClassVar[str] = "rate-distortion"
    title: ClassVar[str] = "Rate and distortion: whole files beside other codecs"

    def __init__(
        self,
        rates: Sequence[float] = (),
        efforts: Sequence[int] = (),
        steps: int | None = None,
        *,
        quick: bool = False,
    ) -> None:
        super().__init__()
        self.quick = quick
        self.rates = tuple(sorted(set(rates))) or (QUICK_RATES if quick else RATES)
        self.efforts = tuple(efforts) or (QUICK_EFFORTS if quick else EFFORTS)
        for effort in self.efforts:
            if effort not in ALL_EFFORTS:
                raise ConfigError(f"efforts: expected {min(ALL_EFFORTS)} to {max(ALL_EFFORTS)}, found {effort}")
        self.repeats = 5 if quick else 15
        self.gap = QUICK_GAP if quick else GAP
        shown = [anchor for anchor in ANCHORS if not quick or anchor.key in QUICK_ANCHORS]
        self.anchors = {anchor.key: anchor for anchor in shown if not anchor.missing}
        self.ours = {f"imagegs-{effort}": f"imagegs, effort {effort}" for effort in self.efforts}
        self.labels = self.ours | {key: anchor.label for key, anchor in self.anchors.items()}
        self.steps = (QUICK_STEPS if quick else 0) if steps is None else steps
        if self.steps:
            self.labels[GAUSSIAN_IMAGE] = f"GaussianImage, its codec, {self.steps:,} + {self.steps:,} steps"
        self.notes += [f"{anchor.missing}." for anchor in ANCHORS if anchor.missing and anchor.main]
        if quick:
            self.notes.append(
                f"Quick: effort {self.efforts[0]} where 5 is usual; curves of ours through {len(self.rates)} points, "
                "of others through few; their settings for the most quality are left out."
            )
        self.notes += _about_gaussian_image(self.steps)
        self.has_bd_rate = importlib.util.find_spec("bjontegaard") is not None
        if not self.has_bd_rate:
            self.notes.append("BD-rates are left out: they need the package bjontegaard: pip install 'imagegs[bench]'.")
        if importlib.util.find_spec("pytorch_msssim") is None:
            self.notes.append("MS-SSIM is left out: it needs pytorch-msssim: pip install 'imagegs[metrics]'.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Each other codec once, over the whole range; ours at every rate and effort; GaussianImage's at its counts."""
        found = []
        for source in sources:
            found += [
                Cell(source, {"codec": anchor.identity, "key": key, "gap": self.gap})
                for key, anchor in self.anchors.items()
            ]
            found += [
                Cell(source, {"codec": "imagegs", "key": f"imagegs-{effort}", "effort": effort, "bpp": rate, "seed": 0})
                for effort, rate in product(self.efforts, self.rates)
            ]
            counts = counts_for(source.count, quick=self.quick) if self.steps else ()
            found += [
                Cell(source, {"codec": "GaussianImage", "key": GAUSSIAN_IMAGE, **settings, "steps": self.steps})
                for settings in ({"gaussians": count, "seed": 0} for count in counts)
            ]
        return found

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Points of a codec; times at one of them."""
        if cell.settings["key"] == GAUSSIAN_IMAGE:
            return self._measure_gaussian_image(cell)
        if cell.settings["codec"] != "imagegs":
            return self._measure_anchor(self.anchors[cell.settings["key"]], cell.source)
        rate, effort = cell.settings["bpp"], cell.settings["effort"]
        encoded = encode(cell.source.picture, bpp=rate, effort=effort, seed=0)
        point = _point(cell.source, encoded.data, eight_bits(decode(encoded.data).pixels), self.gap)
        return {
            "points": [{**point, "gaussians": len(encoded.gaussians)}],
            "fit_ms": 1e3 * encoded.fit.seconds,
            "encode_ms": 1e3 * encoded.seconds,
            "render_ms": timed(lambda: render(encoded.gaussians), self.repeats)["median_ms"],
            **self._decode_times(encoded.data),
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Mean curves, qualities at some rates, BD-rates of ours, and times."""
        curves: dict[str, dict[str, dict[str, Curve]]] = {metric: {} for metric in METRICS}
        times: dict[str, dict[str, Any]] = {}
        for key in self.labels:
            mine = [outcome for outcome in outcomes if outcome.cell.settings["key"] == key]
            for metric, name in product(METRICS, dict.fromkeys(outcome.cell.source.name for outcome in mine)):
                points = [
                    point for outcome in mine if outcome.cell.source.name == name for point in outcome.found["points"]
                ]
                curves[metric].setdefault(name, {})[key] = _curve(points, metric)
            if mine:
                times[key] = _times(mine)
        summary: dict[str, Any] = {
            "labels": self.labels,
            "pictures": len(curves["psnr"]),
            "rates": SHOWN,
            "range_bpp": [LOW, HIGH],
            "times": times,
        }
        for metric, pictures in curves.items():
            summary[metric] = {
                key: {
                    "mean": mean_curve([found.get(key, []) for found in pictures.values()], PLOTTED),
                    "at_rates": [_mean_at([found.get(key, []) for found in pictures.values()], rate) for rate in SHOWN],
                }
                for key in self.labels
            }
        summary["bd_rate"] = self._bd_rates(curves) if self.has_bd_rate else {}
        return summary

    def write(self, summary: Mapping[str, Any]) -> str:
        """BD-rates first, then qualities by rate, then times."""
        parts = []
        labels = summary["labels"]
        if summary["bd_rate"]:
            low, high = summary["range_bpp"]
            for ours, others in summary["bd_rate"].items():
                rows = [
                    (labels[key], *(_percent(found[metric], summary["pictures"]) for metric in METRICS))
                    for key, found in others.items()
                ]
                parts.append(
                    f"Bits of {labels[ours]} beyond those of others at equal quality (BD-rate over {low:g} to {high:g} "
                    "bits per pixel, mean over the pictures); below 0: fewer.\n\n"
                    + markdown.table(("codec", "by PSNR", "by MS-SSIM"), rows)
                )
        for metric, title in METRICS.items():
            rows = [
                (labels[key], *(markdown.EMPTY if value is None else f"{value:.2f}" for value in found["at_rates"]))
                for key, found in summary[metric].items()
            ]
            if any(value is not None for found in summary[metric].values() for value in found["at_rates"]):
                head = (f"{title}, at bpp", *(f"{rate:g}" for rate in summary["rates"]))
                parts.append(markdown.table(head, rows))
        rows = [
            (
                labels[key],
                markdown.mean(found["bpp"]),
                markdown.middle(markdown.in_seconds(found.get("fit_ms"))),
                markdown.middle(markdown.in_seconds(found["encode_ms"])),
                *(markdown.middle(found.get(clock)) for clock in ("cold_ms", "decode_ms", "render_ms")),
                *(markdown.middle(found["frames"].get(clock)) for clock in FRAMES),
            )
            for key, found in summary["times"].items()
        ]
        parts.append(
            f"Times of files of about {RATE_OF_TIMES:g} bits per pixel, medians over pictures. Encode is all of it, "
            "the search for the size included, of which fit is the last fit; a cold decode is that of a fresh "
            "process, with the loading of the decoder; render draws Gaussians that are in memory. Frames per second "
            "are those of warm decodes and of warm renders.\n\n"
            + markdown.table(("codec", "bpp", *CLOCKS.values(), "warm render, ms", *FRAMES.values()), rows)
        )
        return "\n\n".join(parts)

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """Mean quality over rate."""
        from .drawing import Line, draw_lines

        figures = {}
        for metric, title in METRICS.items():
            lines = []
            for key, found in summary[metric].items():
                shown = key not in self.anchors or self.anchors[key].main
                if found["mean"] and shown:
                    rates, qualities = zip(*found["mean"], strict=True)
                    lines.append(Line(summary["labels"][key], rates, qualities, ours=key in self.ours, marks=False))
            if lines:
                name = metric.replace("_", "-")
                figures[name] = draw_lines(lines, "bits per pixel, of the whole file", title)
        return figures

    def _measure_anchor(self, anchor: Anchor, source: Source) -> dict[str, Any]:
        image, points = to_image(source.pixels), {}
        low, high = LOW / MARGIN, HIGH * MARGIN

        def rate(rung: int) -> float:
            began = time.perf_counter()
            data = anchor.encode(image, anchor.ladder[rung])
            seconds = time.perf_counter() - began
            found = _point(source, data, to_pixels(data), self.gap)
            points[rung] = {**found, "rung": anchor.ladder[rung], "encode_ms": 1e3 * seconds}
            return float(found["bpp"])

        tried = sweep(rate, len(anchor.ladder), low, high, self.gap)
        timed_rung = min(tried, key=lambda rung: abs(points[rung]["bpp"] - RATE_OF_TIMES))
        data = anchor.encode(image, anchor.ladder[timed_rung])
        encoding = timed(lambda: anchor.encode(image, anchor.ladder[timed_rung]), 3, 0)
        return {
            "points": [points[rung] for rung in tried],
            "timed_bpp": points[timed_rung]["bpp"],
            "encode_ms": encoding["median_ms"],
            **self._decode_times(data),
        }

    def _measure_gaussian_image(self, cell: Cell) -> dict[str, Any]:
        source, settings = cell.source, cell.settings
        fitted = fit_coded(source.pixels, settings["gaussians"], settings["steps"], settings["seed"])
        began = time.perf_counter()
        data = gaussian_image.encode_bytes(fitted.coded)
        seconds = time.perf_counter() - began
        gaussians = fitted.coded.gaussians
        return {
            "points": [_point(source, data, eight_bits(gaussian_image.decode(data)), self.gap)],
            "fit_ms": 1e3 * fitted.seconds,
            "encode_ms": 1e3 * (fitted.seconds + seconds),
            "render_ms": timed(lambda: render(gaussians), self.repeats)["median_ms"],
            **self._decode_times(data),
        }

    def _decode_times(self, data: bytes) -> dict[str, float]:
        return {
            "cold_ms": decoded_cold({"file": data}, 3)["file"]["cold"]["median_ms"],
            "decode_ms": timed(decode_call(data), self.repeats)["median_ms"],
        }

    def _bd_rates(self, curves: Mapping[str, Mapping[str, Mapping[str, Curve]]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        others = [key for key in self.labels if key not in self.ours]
        for ours, key, metric in product(self.ours, others, METRICS):
            rates = {
                name: bd_rate(by_codec.get(key, []), by_codec.get(ours, []))
                for name, by_codec in curves[metric].items()
            }
            known = [value for value in rates.values() if value is not None]
            row = {"mean": float(np.mean(known)) if known else None, "pictures": rates}
            found.setdefault(ours, {}).setdefault(key, {})[metric] = row
        return found


def _point(source: Source, data: bytes, decoded: FloatArray, reach: float) -> dict[str, Any]:
    """One file; MS-SSIM takes longer than all else, and is left out more than a factor of ``reach`` off the range."""
    bpp = 8 * len(data) / source.count
    similarity = None
    if LOW / MARGIN / reach <= bpp <= HIGH * MARGIN * reach:
        try:
            similarity = ms_ssim(source.pixels, decoded)
        except ImageGSError:  # too small a picture, or pytorch-msssim is absent
            similarity = None
    return {"bytes": len(data), "bpp": bpp, "psnr": psnr(source.pixels, decoded), "ms_ssim": similarity}


def _times(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of the file of each picture that is nearest to the rate of the times."""
    nearest: dict[str, Mapping[str, Any]] = {}
    for name, found in ((outcome.cell.source.name, outcome.found) for outcome in outcomes):
        nearest[name] = min(nearest.get(name, found), found, key=lambda one: abs(_rate_of_times(one) - RATE_OF_TIMES))
    near = list(nearest.values())
    clocks = [clock for clock in (*CLOCKS, "render_ms") if clock in near[0]]
    return {
        **{clock: spread([found[clock] for found in near]) for clock in clocks},
        "frames": {clock: spread([1e3 / found[clock] for found in near]) for clock in FRAMES if clock in clocks},
        "bpp": spread([_rate_of_times(found) for found in near]),
    }


def _about_gaussian_image(steps: int) -> list[str]:
    """Notes."""
    if not steps:
        return [
            f"GaussianImage's codec is left out: --gaussian-image {PUBLISHED_STEPS} measures it with the steps of its "
            "paper."
        ]
    found = [
        "GaussianImage's codec is that of its paper, fitted and drawn by the kernels of imagegs; its files have 56 "
        "bits for each Gaussian, without entropy coding, and a head with scales and code words."
    ]
    if steps < PUBLISHED_STEPS:
        found.append(
            f"It was given {steps:,} steps in each of its two fits, where its paper takes {PUBLISHED_STEPS:,}: that is "
            "not enough for it."
        )
    return found


def _curve(points: Sequence[Mapping[str, Any]], metric: str) -> Curve:
    known = [(point["bpp"], point[metric]) for point in points if isinstance(point[metric], float)]
    if metric == "ms_ssim":
        known = [(rate, similarity_decibels(value)) for rate, value in known]
    return front((rate, value) for rate, value in known if math.isfinite(value))


def _rate_of_times(found: Mapping[str, Any]) -> float:
    return float(found["timed_bpp"] if "timed_bpp" in found else found["points"][0]["bpp"])


def _mean_at(curves: Sequence[Curve], rate: float) -> float | None:
    found = [quality_at(curve, rate) for curve in curves]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known and len(known) == len(found) else None


def _percent(found: Mapping[str, Any], pictures: int) -> str:
    known = sum(value is not None for value in found["pictures"].values())
    if found["mean"] is None:
        return markdown.EMPTY
    return f"{found['mean']:+.1f} %" + (f" ({known} of {pictures})" if known < pictures else "")
