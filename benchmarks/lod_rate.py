"""What the beginnings of progressive files show: against separate files, a plain file, progressive JPEG and JPEG 2000.

python benchmarks/lod_rate.py [--set kodak|stylized] [--quick] [--write-docs]

Kodak, or the stylised pictures of up to 1,024 pixels a side, at 1.3 bits per pixel. For each picture: one file in
levels that were fitted together, and a separate file of the size of each prefix, the whole included; a progressive
JPEG of about that size, cut at shares of its bytes; and JPEG 2000 files at some rates, which whole quality layers of
one file come within 0.1 dB of. Bytes are real, heads included.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, SHARED, THREADS, kodak, write
from imagegs.apps.lod import export
from imagegs.apps.lod.bench import LAYERS, SHARES, cut_jpeg, layered_jpeg2000
from matplotlib.figure import Figure
from PIL import Image

from imagegs import encode, read_image
from imagegs.arranging import prefixes
from imagegs.kernels import native
from imagegs.plots import write_figure

NAME, BPP, EFFORT = "lod_rate", 1.3, 5
JPEG_XL = {0.1: 18.94, 0.15: 20.57, 0.2: 22.75, 0.3: 24.12, 0.4: 25.91, 0.5: 28.99, 0.6: 31.50, 0.8: 32.64, 1.0: 34.69}
"""Progressive AC, 1.12 bpp, mean of the Kodak pictures that decode at each share (../shared/research/peers.md)."""
DOCUMENT = ROOT / "docs" / "progressive.md"
BEGIN, END = "<!-- prefixes: begin -->", "<!-- prefixes: end -->"


def measure(path: Path) -> dict[str, Any]:
    pixels = read_image(path).pixels
    progressive = export(path, bpp=BPP, effort=EFFORT, threads=THREADS)
    rows = prefixes(progressive.data, pixels)
    for row in rows:
        row["separate"] = encode(path, size=row["bytes"], effort=EFFORT, threads=THREADS).psnr
    jpeg_bpp, jpeg = cut_jpeg(pixels, BPP)
    return {
        "picture": path.stem,
        "bytes": len(progressive.data),
        "levels": rows,
        "jpeg": {"bpp": jpeg_bpp, "psnr": [np.nan if value is None else value for value in jpeg]},
        "jpeg2000": layered_jpeg2000(pixels),
    }


def means(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the pictures, by level, share and layer."""
    levels = []
    for k in range(len(results[0]["levels"])):
        rows = [found["levels"][k] for found in results]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in ("share", "gaussians", "psnr", "separate")}
        mean["worst"] = float(min(row["psnr"] - row["separate"] for row in rows))
        levels.append(mean)
    return {
        "levels": levels,
        "jpeg": np.nanmean([found["jpeg"]["psnr"] for found in results], axis=0).tolist(),
        "jpeg_bpp": float(np.mean([found["jpeg"]["bpp"] for found in results])),
        "jpeg2000": np.mean([found["jpeg2000"] for found in results], axis=0).tolist(),
    }


def table(mean: dict[str, Any]) -> str:
    lines = [
        "| share of the bytes | Gaussians | PSNR | separate file of these bytes | difference |",
        "|---|---|---|---|---|",
    ]
    for row in mean["levels"]:
        change = row["psnr"] - row["separate"]
        lines.append(
            f"| {100 * row['share']:.1f} % | {row['gaussians']:,.0f} | {row['psnr']:.2f} dB | {row['separate']:.2f} dB "
            f"| {change:+.2f} dB |"
        )
    lines += ["", "| | " + " | ".join(f"{100 * share:.0f} %" for share in SHARES) + " |", "|---" * 11 + "|"]
    lines.append(
        f"| progressive JPEG, {mean['jpeg_bpp']:.2f} bpp | " + " | ".join(f"{v:.1f}" for v in mean["jpeg"]) + " |"
    )
    ours = []
    for share in SHARES:
        whole = [row["psnr"] for row in mean["levels"] if row["share"] <= share + 0.006]
        ours.append(f"{whole[-1]:.1f}" if whole else "–")
    lines.append("| this, last whole level | " + " | ".join(ours) + " |")
    return "\n".join(lines)


def draw(mean: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    shares = [100 * row["share"] for row in mean["levels"]]
    axes.step(
        shares, [row["psnr"] for row in mean["levels"]], "o-", where="post", label="imagegs, levels fitted together"
    )
    axes.plot(shares, [row["separate"] for row in mean["levels"]], "o:", label="imagegs, separate files")
    axes.plot([100 * share for share in SHARES], mean["jpeg"], "s-", label="progressive JPEG")
    axes.plot(
        [100 * share for share in JPEG_XL], list(JPEG_XL.values()), "d-", label="JPEG XL, progressive AC, 1.12 bpp"
    )
    axes.plot([100 * bpp / BPP for bpp in LAYERS], mean["jpeg2000"], "^-", label="JPEG 2000, by layers")
    axes.set(xlabel=f"bytes received, % of a file of {BPP} bits per pixel", ylabel="PSNR, dB (mean of Kodak 1–12)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def pictures_of(name: str) -> list[Path]:
    """Those of a set that are measured."""
    if name == "kodak":
        return kodak()
    found = sorted((SHARED / "data" / "stylized").glob("*.png"))
    return [path for path in found if max(Image.open(path).size) <= 1024]


def results_of(name: str) -> Path:
    return RESULTS / (f"{NAME}.json" if name == "kodak" else f"{NAME}_{name}.json")


def write_docs() -> None:
    """Puts the figures at hand into the document."""
    means = [
        json.loads(results_of(name).read_text(encoding="utf-8"))["results"]["mean"] for name in ("kodak", "stylized")
    ]
    write_figure(ROOT / "docs" / "images" / "progressive-curve.png", draw(means[0]))
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    tables = f"{table(means[0])}\n\nSix stylised pictures of up to 1,024 pixels a side, likewise:\n\n{table(means[1])}"
    DOCUMENT.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two pictures; nothing is written")
    parser.add_argument(
        "--write-docs", action="store_true", help="only put the figures at hand into docs/progressive.md"
    )
    parser.add_argument("--set", choices=("kodak", "stylized"), default="kodak", help="which pictures")
    arguments = parser.parse_args()
    if arguments.write_docs:
        write_docs()
        raise SystemExit
    paths = pictures_of(arguments.set)[: 2 if arguments.quick else None]
    if not paths:
        raise SystemExit(f"lod_rate.py: expected pictures in ../shared/data/{arguments.set}, found none")
    found = []
    with native.threads(THREADS):
        for picture in paths:
            found.append(measure(picture))
            print(
                picture.stem,
                [(round(r["share"], 3), round(r["psnr"], 2), round(r["separate"], 2)) for r in found[-1]["levels"]],
                flush=True,
            )
            if not arguments.quick:
                command = f"python benchmarks/lod_rate.py --set {arguments.set}"
                write(results_of(arguments.set).stem, command, {"mean": means(found), "pictures": found})
    print(table(means(found)))
