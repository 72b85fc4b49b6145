"""Rate and distortion: ours beside JPEG, WebP, AVIF, JPEG 2000 and JPEG XL, in real bytes.

python benchmarks/rate_distortion.py [--pictures FOLDER ...] [--rates 0.1 0.25 ...] [--efforts 5] [--limit N]
                                     [--parts curves before ...] [--anchors-only] [--any-sources] [--work FOLDER]
python benchmarks/rate_distortion.py --write-docs

The parts, each of which replaces its own section of results/rate_distortion.json:

    curves      size, PSNR and MS-SSIM of every codec on every picture; BD-rates (see imagegs/bench/curves.py); plots
    before      the same Gaussians in a file of fixed width, 12 bits per value
    attributes  bits per Gaussian by attribute, by step of the entropy coder
    decode      times of decoding: warm calls, the first call, whole processes
    efforts     bytes, PSNR, time and peak memory of encoding, by effort
    comparison  a picture beside what other codecs make of as many bytes

Every measured point is kept in the work folder, so a run that was interrupted goes on where it stopped, and points of
other codecs are measured once. Points of ours belong to the sources that made them: after a change of the fit, the
codec or the kernels they are measured again, unless --any-sources says to take what is there. --write-docs draws up
docs/rate-distortion.md from the JSON and measures nothing. With --limit the results stay in the work folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, SHARED, THREADS, commit, write
from rate_attributes import attributes
from rate_docs import document
from rate_plots import Panel, draw_comparison, draw_curves, write_comparison, write_curves
from rate_points import Ours, Source, eight_bits, measure_ours, ms_ssim_curve, psnr_curve, sweep_anchor
from rate_store import Point, Store
from rate_timing import decode_times, efforts

from imagegs.bench.anchors import ANCHORS, Anchor, largest_below, to_image, to_pixels
from imagegs.bench.curves import HIGH, LOW, Curve, bd_rate, mean_curve, quality_at
from imagegs.bench.machine import sources_digest
from imagegs.codec import BitWidths, write_file
from imagegs.decoding import decode, read_gsimg
from imagegs.errors import ImageGSError
from imagegs.files import atomic_write
from imagegs.kernels import native
from imagegs.metrics import psnr

PARTS = ("curves", "before", "attributes", "decode", "efforts", "comparison")
SETS = ("kodak", "stylized")
TITLES = {"kodak": "Kodak", "stylized": "Stylised"}

RATES = (0.1, 0.15, 0.25, 0.5, 0.75, 1.04)
"""Targets of ours, bpp. A file may be 3 % below its target: the last target makes sure that the curve reaches 1.0."""
SHOWN = (0.1, 0.15, 0.25, 0.5, 0.75, 1.0)
"""Rates of the tables."""
PLOTTED = tuple(float(rate) for rate in np.geomspace(LOW, HIGH, 25))
RATE_OF_DETAILS = 0.5
"""Of decode times, efforts and bits by attribute, bpp."""
FIXED = BitWidths(12, 12, 12, 12)

COMPARED = ("game_kenney_city", (150, 20, 600, 440), 0.15)
"""The picture that is shown (its licence allows it), the part of it (left, top, width, height), and bpp."""

IMAGES = ROOT / "docs" / "images"
DOCUMENT = ROOT / "docs" / "rate-distortion.md"


class Benchmark:
    """What the parts share.

    Attributes:
        sets: sources by the name of their folder.
        rates: targets of ours, bpp.
        store: the points kept.
        sources: a digest of ours.
        ours: one entry per effort, the main one first.
        table_efforts: the efforts of the part ``efforts``.
        images: where plots and pictures go.
        anchors: the codecs that can run here.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.sets: dict[str, list[Source]] = {}
        for folder in arguments.pictures:
            paths = sorted(folder.glob("*.png"))[: arguments.limit]
            if not paths:
                raise SystemExit(f"rate_distortion.py: expected PNG files in {folder}, found none")
            self.sets[folder.name] = [Source(path) for path in paths]
        self.rates: list[float] = arguments.rates
        self.store = Store(arguments.work)
        sources = sources_digest(ROOT / "imagegs")
        efforts_of_ours = [] if arguments.anchors_only else arguments.efforts
        self.ours = [Ours(effort, sources, arguments.any_sources) for effort in efforts_of_ours]
        self.sources = sources
        self.table_efforts = [Ours(effort, sources, arguments.any_sources) for effort in arguments.table_efforts]
        self.images: Path = IMAGES if arguments.limit is None else arguments.work
        self.anchors = [anchor for anchor in ANCHORS if anchor.missing is None]
        for anchor in ANCHORS:
            if anchor.missing and anchor.main:
                print(anchor.missing, file=sys.stderr)

    def all_sources(self) -> list[Source]:
        return [source for sources in self.sets.values() for source in sources]

    def detailed(self) -> Source:
        """The picture of the times: the first of the first set."""
        return self.all_sources()[0]


def curves(bench: Benchmark) -> dict[str, Any]:
    """Points of every codec, their curves, BD-rates, means and plots."""
    found: dict[str, Any] = {
        "range_bpp": [LOW, HIGH],
        "rates": list(SHOWN),
        "targets": bench.rates,
        "codecs": _codecs(bench),
        "sets": {},
    }
    for name, sources in bench.sets.items():
        points = {source.path.stem: _points_of(bench, source) for source in sources}
        found["sets"][name] = _summary_of_set(points, bench)
        for metric, ylabel in (("psnr", "PSNR, dB"), ("ms_ssim", "MS-SSIM, dB: -10 log10(1 - x)")):
            lines = {
                key: (entry["label"], [tuple(point) for point in found["sets"][name]["mean"][key][metric]])
                for key, entry in found["codecs"].items()
                if entry["main"]
            }
            title = f"{TITLES.get(name, name)}, mean of {len(sources)} pictures"
            write_curves(draw_curves(lines, ylabel, title), bench.images / f"rate-{name}-{metric.replace('_', '-')}")
    return found


def _codecs(bench: Benchmark) -> dict[str, Any]:
    ours = {
        entry.key: {"label": entry.label, "identity": entry.identity, "main": True, "effort": entry.effort}
        for entry in bench.ours
    }
    anchors = {
        anchor.key: {"label": anchor.label, "identity": anchor.identity, "main": anchor.main}
        for anchor in bench.anchors
    }
    return ours | anchors


def _points_of(bench: Benchmark, source: Source) -> dict[str, list[Point]]:
    """By codec; a target that ours does not meet is told and left out."""
    found: dict[str, list[Point]] = {}
    for ours in bench.ours:
        found[ours.key] = []
        for rate in bench.rates:
            try:
                point = measure_ours(ours, source, rate, bench.store)
            except ImageGSError as error:
                print(f"{source.path.stem}: {ours.label} at {rate} bpp is left out: {error}", file=sys.stderr)
                continue
            found[ours.key].append(point)
            print(
                f"{source.path.stem:26} {ours.key:10} {point.bpp:.4f} bpp {point.psnr:6.2f} dB {point.encode_s:7.1f} s",
                flush=True,
            )
    for anchor in bench.anchors:
        found[anchor.key] = sweep_anchor(anchor, source, bench.store)
    print(f"{source.path.stem:26} anchors measured", flush=True)
    return found


def _summary_of_set(points: dict[str, dict[str, list[Point]]], bench: Benchmark) -> dict[str, Any]:
    makers: dict[str, Callable[[list[Point]], Curve]] = {"psnr": psnr_curve, "ms_ssim": ms_ssim_curve}
    by_metric = {
        metric: {picture: {key: make(found) for key, found in by_codec.items()} for picture, by_codec in points.items()}
        for metric, make in makers.items()
    }
    keys = list(next(iter(points.values())))
    mean = {
        key: {
            metric: _rounded(mean_curve([pictures[picture][key] for picture in pictures], PLOTTED))
            for metric, pictures in by_metric.items()
        }
        for key in keys
    }
    at_rates = {
        picture: {
            key: {
                metric: [_round(quality_at(by_metric[metric][picture][key], rate)) for rate in SHOWN]
                for metric in by_metric
            }
            for key in keys
        }
        for picture in points
    }
    rates = {
        ours.key: {
            anchor.key: {
                metric: {
                    picture: _round(bd_rate(found[anchor.key], found[ours.key]), 2)
                    for picture, found in by_metric[metric].items()
                }
                for metric in by_metric
            }
            for anchor in bench.anchors
        }
        for ours in bench.ours
    }
    measured = {
        picture: {
            ours.key: [
                {
                    "target": point.rung,
                    "bytes": point.bytes,
                    "bpp": round(point.bpp, 4),
                    "psnr": round(point.psnr, 3),
                    "ms_ssim": _round(point.ms_ssim, 5),
                    "gaussians": point.extra.get("gaussians"),
                    "encode_s": point.encode_s,
                }
                for point in by_codec[ours.key]
            ]
            for ours in bench.ours
        }
        for picture, by_codec in points.items()
    }
    return {"mean": mean, "at_rates": at_rates, "bd_rate": rates, "ours": measured}


def before(bench: Benchmark) -> dict[str, Any]:
    """The Gaussians of our files once more, 12 bits for every value: what parameter counts promise."""
    rows: dict[str, list[dict[str, Any]]] = {}
    ours = bench.ours[0]
    for name, sources in bench.sets.items():
        for source in sources:
            for rate in bench.rates:
                point = ours.kept(source, rate, bench.store)
                if point is None:
                    continue
                file = read_gsimg(bench.store.files / point.extra["file"])
                data = write_file(file.gaussians, bits=FIXED, info=file.info)
                fixed = psnr(source.pixels, eight_bits(decode(data).pixels))
                row = {"target": rate, "bytes": point.bytes, "psnr": point.psnr}
                row |= {"fixed_bytes": len(data), "fixed_psnr": fixed, "gaussians": len(file.gaussians)}
                rows.setdefault(f"{name} {rate}", []).append({"set": name, **row})
    table = []
    for group in rows.values():
        numbers = {
            key: round(float(np.mean([row[key] for row in group])), 3) for key in group[0] if key not in ("set",)
        }
        ratio = float(np.mean([row["bytes"] / row["fixed_bytes"] for row in group]))
        table.append({"set": group[0]["set"], "pictures": len(group), **numbers, "ratio": round(ratio, 4)})
    return {"effort": ours.effort, "bits": 12, "rows": table}


def comparison(bench: Benchmark) -> dict[str, Any]:
    """One picture at a low rate, every codec with at most as many bytes as ours."""
    stem, box, rate = COMPARED
    sources = [source for source in bench.all_sources() if source.path.stem == stem]
    if not sources:
        raise SystemExit(f"rate_distortion.py: comparison: expected {stem}.png among the pictures")
    source = sources[0]
    point = measure_ours(bench.ours[0], source, rate, bench.store)
    data = (bench.store.files / point.extra["file"]).read_bytes()
    panels = [Panel("original", f"{source.pixels.shape[2]} x {source.pixels.shape[1]} pixels", source.pixels)]
    rows = []

    def add(label: str, size: int, pixels: Any) -> None:
        quality = psnr(source.pixels, pixels)
        panels.append(Panel(label, f"{size:,} bytes, {quality:.2f} dB", pixels))
        rows.append({"label": label, "bytes": size, "psnr": round(quality, 2)})

    add("imagegs", len(data), eight_bits(decode(data).pixels))
    for key in ("avif", "avif-444", "webp", "jpeg"):
        found = largest_below(_anchor(bench, key), to_image(source.pixels), len(data))
        if found is None:
            print(f"comparison: {key} makes no file of {len(data)} bytes or fewer", file=sys.stderr)
        else:
            add(_anchor(bench, key).label, len(found), to_pixels(found))
    path = write_comparison(draw_comparison(panels, box), bench.images / "rate-comparison.jpg")
    return {"picture": source.path.name, "rate": rate, "file": path.name, "rows": rows}


def _anchor(bench: Benchmark, key: str) -> Anchor:
    return next(anchor for anchor in bench.anchors if anchor.key == key)


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _rounded(curve: Curve) -> list[list[float]]:
    return [[round(rate, 4), round(quality, 3)] for rate, quality in curve]


def _measure(part: str, bench: Benchmark) -> dict[str, Any]:
    if part == "curves":
        return curves(bench)
    if part == "before":
        return before(bench)
    if part == "attributes":
        return attributes(bench.ours[0], bench.sets, RATE_OF_DETAILS, bench.store)
    if part == "decode":
        return decode_times(bench.ours[0], bench.detailed(), RATE_OF_DETAILS, bench.store)
    if part == "efforts":
        return efforts(bench.detailed(), RATE_OF_DETAILS, bench.table_efforts, bench.store)
    return comparison(bench)


def _parse(values: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "imagegs" / "rate_distortion"
    parser.add_argument("--pictures", type=Path, nargs="+", default=[SHARED / "data" / name for name in SETS])
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="targets of ours, bits per pixel")
    parser.add_argument("--efforts", type=int, nargs="+", default=[5], help="of ours; the first is the main one")
    parser.add_argument("--table-efforts", type=int, nargs="+", default=list(range(1, 10)), help="of the part efforts")
    parser.add_argument("--limit", type=int, help="pictures per folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--anchors-only", action="store_true", help="the part curves without ours")
    parser.add_argument("--any-sources", action="store_true", help="take points of ours that other sources made")
    parser.add_argument("--work", type=Path, default=cache, help="where points are kept")
    parser.add_argument(
        "--write-docs", action="store_true", help="draw up docs/rate-distortion.md from the JSON, no more"
    )
    return parser.parse_args(values)


def _command(values: Sequence[str]) -> str:
    """How the run was started, but for where its points were kept."""
    named = list(values)
    if "--work" in named:
        start = named.index("--work")
        del named[start : start + 2]
    return shlex.join(["python", "benchmarks/rate_distortion.py", *named])


def main(values: Sequence[str] | None = None) -> None:
    arguments = _parse(values)
    folder = RESULTS if arguments.limit is None else arguments.work
    kept = folder / "rate_distortion.json"
    record = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {"results": {}}
    if arguments.write_docs:
        atomic_write(DOCUMENT, document(record).encode())
        return
    bench = Benchmark(arguments)
    command = _command(sys.argv[1:] if values is None else values)
    results: dict[str, Any] = record["results"]
    with native.threads(THREADS):
        for part in ["curves"] if arguments.anchors_only else arguments.parts:
            measured = _measure(part, bench)
            about = {"date": datetime.date.today().isoformat(), "commit": commit(), "sources": bench.sources}
            results[part] = about | measured
            write("rate_distortion", command, results, folder)


if __name__ == "__main__":
    main()
