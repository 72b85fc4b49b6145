"""``imagegs bench textures``: sets of maps beside texture formats of GPUs and picture files, and what a texel costs.

Ours codes a set as one stack. Block formats code each map on its own, with what their blocks take; picture files code
each map on its own with one quality for all of them, the best whose files together are no larger than ours. PSNR is
over all channels of all maps, of 8 bits. What a texel costs is counted at every texel centre, for all maps at once.
"""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..compression import EFFORTS
from ..decoding import decode
from ..encoding import encode
from ..errors import ConfigError
from ..gaussians import FloatArray
from ..image import Picture
from ..metrics import psnr
from ..sampling import Sampler
from . import markdown
from .anchors import ANCHORS, Anchor, last_below
from .blocks import BLOCKS, Map, parts
from .clocks import decoded_cold, timed
from .curves import front, rate_at
from .pictures import Source, eight_bits, find_stacks
from .running import Cell, Outcome, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES, QUICK_RATES = (0.05, 0.1, 0.2, 0.3), (0.1,)
QUICK_BLOCKS = ("astc-4", "astc-8", "bc1", "bc7")
EFFORT = 2
TOP_K = 10
BLENDS = {"normalized": "imagegs", "topk": f"imagegs, K = {TOP_K}"}
FILES = {"avif-444": "AVIF", "jpeg-444": "JPEG", "webp": "WebP"}
"""Colours at full resolution where the format has it: maps are not what it is halved for."""
LESS = 0.9
"""Files whose best takes fewer than this share of the bits are shown with theirs."""
POINTS = 1 << 16
"""Random texels that are timed in one call."""


class Textures(Table):
    """The table.

    Args:
        rates: bits per channel and pixel that ours aims at.
        effort: of ours.
        quick: one rate, and few block formats.
    """

    name: ClassVar[str] = "textures"
    title: ClassVar[str] = "Textures: sets of maps beside texture formats and picture files"
    sources_name: ClassVar[str] = "Sets"
    quick_side: ClassVar[int] = 256

    def __init__(self, rates: Sequence[float] = (), effort: int = EFFORT, *, quick: bool = False) -> None:
        super().__init__()
        self.rates = tuple(sorted(set(rates))) or (QUICK_RATES if quick else RATES)
        if effort not in EFFORTS:
            raise ConfigError(f"effort: expected {min(EFFORTS)} to {max(EFFORTS)}, found {effort}")
        self.effort = effort
        self.repeats = 5 if quick else 15
        shown = [block for block in BLOCKS if not quick or block.key in QUICK_BLOCKS]
        self.blocks = {block.key: block for block in shown if not block.missing}
        self.anchors = {anchor.key: anchor for anchor in ANCHORS if anchor.key in FILES}
        packages: dict[str, list[str]] = {}
        for block in shown:
            for package in block.missing:
                packages.setdefault(package, []).append(block.label)
        self.notes += [
            f"Left out: {'; '.join(labels)}: expected the package {package}, found none: pip install 'imagegs[bench]'."
            for package, labels in packages.items()
        ]
        if quick:
            side = self.quick_side
            self.notes.append(f"Quick: the middle {side} x {side} pixels; few block formats and rates.")

    def find(
        self, folder: str | Path, *, limit: int | None = None, side: int | None = None, without: Path | None = None
    ) -> list[Source]:
        """Sets of maps."""
        return find_stacks(folder, limit=limit, side=side, without=without)

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every block format, and ours at every rate, with picture files of no more bytes beside it."""
        blocks, anchors = self.blocks.items(), self.anchors.items()
        found = [
            Cell(source, {"method": key, "coder": block.identity}) for source, (key, block) in product(sources, blocks)
        ]
        ours = {"method": "imagegs", "effort": self.effort, "seed": 0, "repeats": self.repeats}
        coders = {key: anchor.identity for key, anchor in anchors}
        for rate, source in product(self.rates, sources):
            found.append(Cell(source, {**ours, "rate": rate, "blend": "normalized", "files": coders}))
            found.append(Cell(source, {**ours, "rate": rate, "blend": "topk", "top_k": TOP_K}))
        return found

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Bits and quality of a method; of ours also its times, what a texel costs, and files of no more bytes."""
        picture = cell.source.picture
        size = {"maps": len(picture.info.planes), "channels": picture.channels}
        size |= {"height": picture.height, "width": picture.width}
        if cell.settings["method"] == "imagegs":
            return {**size, **self._measure_ours(cell)}
        began = time.perf_counter()
        coded = [self.blocks[cell.settings["method"]].code(one) for one in maps_of(picture)]
        seconds = time.perf_counter() - began
        count = sum(count for count, _ in coded)
        shown = as_channels([found for _, found in coded])
        return {
            **size,
            "bytes": count,
            "bits": 8 * count / picture.pixels.size,
            "psnr": psnr(picture.pixels, shown),
            "code_ms": 1e3 * seconds,
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """By set: ours and files by rate, and block formats with how many times the bits of ours they take."""
        sets = []
        for name in dict.fromkeys(outcome.cell.source.name for outcome in outcomes):
            cells = [outcome for outcome in outcomes if outcome.cell.source.name == name]
            ours = [
                {"blend": cell.cell.settings["blend"], "rate": cell.cell.settings["rate"], **_without_size(cell.found)}
                for cell in cells
                if cell.cell.settings["method"] == "imagegs"
            ]
            plain = [row for row in ours if row["blend"] == "normalized"]
            curve = front((row["bits"], row["psnr"]) for row in plain if math.isfinite(row["psnr"]))
            blocks = []
            for cell in cells:
                if cell.cell.settings["method"] != "imagegs":
                    row = {"key": cell.cell.settings["method"], **_without_size(cell.found)}
                    bits = rate_at(curve, row["psnr"])
                    blocks.append({**row, "times_ours": None if bits is None else row["bits"] / bits})
            sets.append({"name": name, **_size(cells[0].found), "ours": ours, "blocks": blocks})
        return {
            "labels": {block.key: block.label for block in BLOCKS} | FILES | BLENDS,
            "rates": self.rates,
            "effort": self.effort,
            "sets": sets,
        }

    def write(self, summary: Mapping[str, Any]) -> str:
        """What is compared, then each set."""
        told = (
            f"Bits are for each channel of each pixel, of whole files; effort {summary['effort']}. Block formats code "
            "each map of 8 bits on its own, with what their blocks take (ASTC thorough, BC7 at its highest level, of "
            "BC1 the better of two encoders block by block); picture files have the best quality for all maps whose "
            "files together are no larger than ours, JPEG and AVIF with colours at full resolution, which WebP has "
            "not, AVIF tuned for PSNR. PSNR is over all channels of all maps. A texel is all maps at one point: "
            "Gaussians in the list of its cell, those of them that count there, multiply-adds, all means over every "
            f"texel's centre; time in calls of {POINTS:,} random texels, by all threads; resident are Gaussians as "
            "floats with the lists."
        )
        return "\n\n".join([told, *(_section(one, summary["labels"]) for one in summary["sets"])])

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """PSNR over bits, a plot for each set."""
        return {re.sub(r"[^\w.-]+", "-", one["name"]): _figure(one, summary["labels"]) for one in summary["sets"]}

    def _measure_ours(self, cell: Cell) -> dict[str, Any]:
        picture, settings = cell.source.picture, cell.settings
        blend = {key: settings[key] for key in ("blend", "top_k") if key in settings}
        rate = settings["rate"] * picture.channels
        made = encode(picture, bpp=rate, effort=settings["effort"], seed=settings["seed"], **blend)
        sampler = Sampler(made.gaussians)
        cost = sampler.cost(centers(picture.height, picture.width))
        uv = np.random.default_rng(0).random((POINTS, 2))
        samples = picture.pixels.size
        found: dict[str, Any] = {
            "bytes": len(made.data),
            "bits": 8 * len(made.data) / samples,
            "psnr": psnr(picture.pixels, eight_bits(decode(made.data).pixels)),
            "gaussians": len(made.gaussians),
            "looked": cost.looked,
            "taken": cost.taken,
            "multiply_adds": cost.multiply_adds,
            "texel_ns": 1e6 * timed(lambda: sampler.sample(uv), self.repeats)["median_ms"] / POINTS,
            "resident_bits": 8 * cost.bytes / samples,
            "fit_ms": 1e3 * made.fit.seconds,
            "encode_ms": 1e3 * made.seconds,
            "cold_ms": decoded_cold({"file": made.data}, 3)["file"]["cold"]["median_ms"],
        }
        if settings["blend"] == "normalized":
            found["files"] = {
                key: files_below(anchor, cell.source, len(made.data)) for key, anchor in self.anchors.items()
            }
        return found


def maps_of(picture: Picture) -> list[Map]:
    """The maps of a stack of 8 bits."""
    values = np.rint(picture.pixels * 255).astype(np.uint8)
    return [np.ascontiguousarray(values[where].transpose(1, 2, 0)) for where in picture.info.slices]


def as_channels(maps: Sequence[Map]) -> FloatArray:
    """The channels of all maps, [C, H, W] in [0, 1]."""
    channels = np.concatenate([one.transpose(2, 0, 1) for one in maps])
    return np.ascontiguousarray(channels, np.float32) / np.float32(255)


def centers(height: int, width: int) -> npt.NDArray[np.float64]:
    """[H, W, 2], u and v of every texel's centre."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([x / width, y / height], axis=-1)


def files_below(anchor: Anchor, source: Source, limit: int) -> dict[str, Any] | None:
    """Picture files of all maps, of the best quality whose files have at most so many bytes together.

    Returns:
        Bytes, bits for each channel of each pixel, PSNR and the quality; None where the worst have more.
    """
    rung = last_below(anchor, lambda rung: _coded(anchor.key, source, rung)[0], limit)
    if rung is None:
        return None
    count, quality = _coded(anchor.key, source, rung)
    bits = 8 * count / source.pixels.size
    return {"bytes": count, "bits": bits, "psnr": quality, anchor.rung: anchor.ladder[rung]}


@lru_cache(maxsize=1024)  # searches for several sizes begin with the same files
def _coded(key: str, source: Source, rung: int) -> tuple[int, float]:
    """Bytes and PSNR of the files of all maps; alpha is a file of its own."""
    anchor = next(anchor for anchor in ANCHORS if anchor.key == key)
    count, shown = 0, []
    for part in (part for one in maps_of(source.picture) for part in parts(one)):
        image = Image.fromarray(part[..., 0] if part.shape[2] == 1 else part)
        data = anchor.encode(image, anchor.ladder[rung])
        count += len(data)
        with Image.open(io.BytesIO(data)) as found:
            shown.append(np.asarray(found.convert(image.mode)).reshape(part.shape))
    return count, psnr(source.pixels, as_channels(shown))


def _size(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("maps", "channels", "height", "width")}


def _without_size(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in _size(found)}


def _section(one: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    parts = [
        f"**{one['name']}**: {one['maps']} maps, {one['channels']} channels, {one['width']} x {one['height']} pixels"
    ]
    rates = sorted({row["rate"] for row in one["ours"]})
    by_rate = {(row["blend"], row["rate"]): row for row in one["ours"]}
    rows = []
    for rate in rates:
        plain = by_rate.get(("normalized", rate), {})
        files = plain.get("files", {})
        found = [by_rate.get((blend, rate)) for blend in BLENDS] + [files.get(key) for key in FILES]
        rows.append((f"{rate:g}", *_best(found, LESS * rate)))
    if rows:
        parts.append(markdown.table(("PSNR, dB, at bits", *BLENDS.values(), *FILES.values()), rows))
        parts.append(_costs([by_rate[key] for key in product(BLENDS, rates) if key in by_rate], labels))
    blocks = [
        (
            labels[row["key"]],
            f"{row['bits']:.2f}",
            f"{row['psnr']:.2f}",
            markdown.EMPTY if row["times_ours"] is None else f"{row['times_ours']:.1f}",
            markdown.number(row["code_ms"] / 1e3),
        )
        for row in one["blocks"]
    ]
    if blocks:
        head = ("block format", "bits", "PSNR, dB", "times the bits of ours at this PSNR", "code and decode, s")
        parts.append(markdown.table(head, blocks))
    return "\n\n".join(parts)


def _costs(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    head = (
        "a texel",
        "bits",
        "Gaussians",
        "looked at",
        "that count",
        "multiply-adds",
        "ns",
        "resident bits",
        "encode, s",
        "cold decode, ms",
    )
    return markdown.table(
        head,
        (
            (
                labels[row["blend"]],
                f"{row['bits']:.3f}",
                f"{row['gaussians']:,}",
                f"{row['looked']:.1f}",
                f"{row['taken']:.1f}",
                f"{row['multiply_adds']:.0f}",
                markdown.number(row["texel_ns"]),
                f"{row['resident_bits']:.2f}",
                markdown.number(row["encode_ms"] / 1e3),
                markdown.number(row["cold_ms"]),
            )
            for row in rows
        ),
    )


def _best(rows: Sequence[Mapping[str, Any] | None], least: float) -> list[str]:
    """Decibels, the most of them in bold; with the bits where they are fewer than these."""
    most = max(row["psnr"] for row in rows if row is not None)
    shown = []
    for row in rows:
        text = markdown.EMPTY if row is None else f"{row['psnr']:.2f}"
        bold = row is not None and row["psnr"] == most
        few = f" at {row['bits']:.2f}" if row is not None and row["bits"] < least else ""
        shown.append((f"**{text}**" if bold else text) + few)
    return shown


def _figure(one: Mapping[str, Any], labels: Mapping[str, str]) -> Figure:
    from .drawing import Line, draw_lines

    lines = []
    for blend in BLENDS:
        rows = [row for row in one["ours"] if row["blend"] == blend]
        lines.append(Line(labels[blend], [row["bits"] for row in rows], [row["psnr"] for row in rows], ours=True))
    for key in FILES:
        found = [row["files"][key] for row in one["ours"] if row.get("files", {}).get(key)]
        lines.append(Line(labels[key], [row["bits"] for row in found], [row["psnr"] for row in found]))
    for family in ("ASTC", "BC1, BC4", "BC7"):
        rows = [row for row in one["blocks"] if labels[row["key"]].startswith(family)]
        names = [labels[row["key"]].removeprefix("ASTC ") for row in rows]
        points = [row["bits"] for row in rows], [row["psnr"] for row in rows]
        lines.append(Line(family, *points, joined=False, names=names if family == "ASTC" else ()))
    return draw_lines([line for line in lines if line.x], "bits per channel and pixel, of whole files", "PSNR, dB")
