"""``imagegs bench progressive``: what beginnings of a file show, beside separate files and other progressive formats.

For each picture: one file in levels that were fitted together, and a separate file of the size of each beginning, the
whole included; a progressive JPEG of about that size, cut at shares of its bytes; and JPEG 2000 files at some rates,
which whole quality layers of one file come within 0.1 dB of. Bytes are real, heads included.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image, ImageFile

from imagegs import encode
from imagegs.arranging import prefixes
from imagegs.bench import Cell, Outcome, Source, Table, decoded_cold, markdown, spread, timed
from imagegs.bench.anchors import to_image
from imagegs.bench.clocks import decode_call
from imagegs.image import FloatArray
from imagegs.metrics import psnr

from .exporting import export

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BPP, EFFORT, QUICK_EFFORT = 1.3, 5, 2
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
LAYERS = (0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0, 1.3)


class Progressive(Table):
    """The table.

    Args:
        quick: little effort.
    """

    name: ClassVar[str] = "progressive"
    title: ClassVar[str] = "Progressive files: what their beginnings show"

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.effort = QUICK_EFFORT if quick else EFFORT
        self.repeats = 5 if quick else 15
        if quick:
            self.notes.append(f"Quick: effort {QUICK_EFFORT} where {EFFORT} is usual.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Each picture once."""
        return [Cell(source, {"bpp": BPP, "effort": self.effort, "seed": 0}) for source in sources]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Levels and separate files, JPEG and JPEG 2000, and the clocks."""
        picture = cell.source.picture
        made = export(picture, bpp=BPP, effort=self.effort)
        rows: list[dict[str, Any]] = [*prefixes(made.data, picture.pixels)]
        for row in rows:
            row["separate"] = encode(picture, size=row["bytes"], effort=self.effort).psnr
        jpeg_bpp, jpeg = cut_jpeg(picture.pixels, BPP)
        return {
            "levels": rows,
            "jpeg_bpp": jpeg_bpp,
            "jpeg": jpeg,
            "jpeg2000": layered_jpeg2000(picture.pixels),
            "fit_ms": 1e3 * made.fit.seconds,
            "encode_ms": 1e3 * made.seconds,
            "cold_ms": decoded_cold({"file": made.data}, 3)["file"]["cold"]["median_ms"],
            "decode_ms": timed(decode_call(made.data), self.repeats)["median_ms"],
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Means over the pictures, by level, share and layer."""
        results = [outcome.found for outcome in outcomes]
        levels = []
        for level in range(len(results[0]["levels"])):
            rows = [found["levels"][level] for found in results]
            mean = {key: spread([row[key] for row in rows]) for key in ("share", "gaussians", "psnr", "separate")}
            mean["change"] = spread([row["psnr"] - row["separate"] for row in rows])
            mean["worst"] = min(row["psnr"] - row["separate"] for row in rows)
            levels.append(mean)
        return {
            "levels": levels,
            "shares": SHARES,
            "jpeg": [_mean([found["jpeg"][place] for found in results]) for place in range(len(SHARES))],
            "jpeg_bpp": float(np.mean([found["jpeg_bpp"] for found in results])),
            "layers": LAYERS,
            "jpeg2000": [_mean([found["jpeg2000"][place] for found in results]) for place in range(len(LAYERS))],
            "times": {
                clock: spread([found[clock] for found in results])
                for clock in ("fit_ms", "encode_ms", "cold_ms", "decode_ms")
            },
        }

    def write(self, summary: Mapping[str, Any]) -> str:
        """Beginnings against separate files, then against others, then times."""
        levels = markdown.table(
            ("share of the bytes", "Gaussians", "PSNR, dB", "separate file, dB", "difference, dB", "worst, dB"),
            (
                (
                    f"{100 * row['share']['mean']:.1f} %",
                    markdown.mean(row["gaussians"], ",.0f"),
                    markdown.mean(row["psnr"]),
                    markdown.mean(row["separate"]),
                    markdown.mean(row["change"], "+.2f"),
                    f"{row['worst']:+.2f}",
                )
                for row in summary["levels"]
            ),
        )
        ours: list[float | None] = []
        for share in summary["shares"]:
            whole = [row["psnr"]["mean"] for row in summary["levels"] if row["share"]["mean"] <= share + 0.006]
            ours.append(whole[-1] if whole else None)
        others = markdown.table(
            ("PSNR, dB, after", *(f"{100 * share:.0f} %" for share in summary["shares"])),
            (
                ("imagegs, last whole level", *map(_decibels, ours)),
                (f"progressive JPEG, {summary['jpeg_bpp']:.2f} bpp", *map(_decibels, summary["jpeg"])),
            ),
        )
        layers = markdown.table(
            ("bits per pixel", *(f"{layer:g}" for layer in summary["layers"])),
            [("JPEG 2000, dB", *map(_decibels, summary["jpeg2000"]))],
        )
        times = summary["times"]
        clocks = markdown.table(
            ("", "fit, s", "encode, s", "cold decode, ms", "warm decode, ms"),
            [
                (
                    "imagegs, whole file",
                    markdown.middle(markdown.in_seconds(times["fit_ms"])),
                    markdown.middle(markdown.in_seconds(times["encode_ms"])),
                    markdown.middle(times["cold_ms"]),
                    markdown.middle(times["decode_ms"]),
                )
            ],
        )
        return (
            f"Files of {BPP} bits per pixel, means over pictures; the separate files have the bytes of each beginning."
            f"\n\n{levels}\n\n{others}\n\n{layers}\n\n{clocks}"
        )

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """PSNR over the bytes received."""
        from imagegs.bench.drawing import Line, draw_lines

        shares = [100 * row["share"]["mean"] for row in summary["levels"]]
        quality = [row["psnr"]["mean"] for row in summary["levels"]]
        jpeg = [(100 * share, value) for share, value in zip(SHARES, summary["jpeg"], strict=True) if value is not None]
        layers = [100 * layer / BPP for layer in LAYERS]
        lines = [
            Line("imagegs, levels fitted together", shares, quality, ours=True, steps=True),
            Line("imagegs, separate files", shares, [row["separate"]["mean"] for row in summary["levels"]], ours=True),
            Line("progressive JPEG", [share for share, _ in jpeg], [value for _, value in jpeg]),
            Line("JPEG 2000, by layers", layers, summary["jpeg2000"]),
        ]
        label = f"bytes received, % of a file of {BPP} bits per pixel"
        return {"psnr": draw_lines(lines, label, "PSNR, dB", log=False)}


def make_table(name: str, quick: bool) -> Table:
    """The table of this name."""
    return {"progressive": Progressive}[name](quick=quick)


def cut_jpeg(pixels: FloatArray, bpp: float) -> tuple[float, list[float | None]]:
    """Bits per pixel of a progressive JPEG near a rate, and the PSNR of what its beginnings decode to, if they do."""
    image, count = to_image(pixels), pixels[0].size
    files = []
    for quality in range(30, 96):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, progressive=True, optimize=True)
        files.append(buffer.getvalue())
    data = min(files, key=lambda found: abs(8 * len(found) / count - bpp))
    shown: list[float | None] = []
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        for share in SHARES:
            try:
                shown.append(_psnr_of(Image.open(io.BytesIO(data[: round(share * len(data))])), pixels))
            except OSError:
                shown.append(None)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return 8 * len(data) / count, shown


def layered_jpeg2000(pixels: FloatArray) -> list[float]:
    """PSNR of JPEG 2000 files at each rate of ``LAYERS``."""
    image, found = to_image(pixels), []
    for bpp in LAYERS:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG2000", quality_mode="rates", quality_layers=[24 / bpp], irreversible=True, mct=1)
        found.append(_psnr_of(Image.open(buffer), pixels))
    return found


def _psnr_of(image: Image.Image, pixels: FloatArray) -> float:
    return psnr(pixels, np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / np.float32(255))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _decibels(value: float | None) -> str:
    return markdown.EMPTY if value is None else f"{value:.1f}"
