"""``imagegs bench gallery``: pictures to look at, ours beside files of other codecs of no more bytes, in one page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

from ..compression import EFFORTS
from ..encoding import encode
from ..errors import ConfigError
from ..metrics import psnr, ssim
from . import markdown
from .anchors import ANCHORS, OURS, largest_below, shown, to_image
from .clocks import spread
from .pictures import Source
from .running import Cell, Outcome, Table

PAGE = "-pictures.html"
"""What the page's name has after the table's."""
RATES, QUICK_RATES = (0.15, 0.5), (0.3,)
EFFORT, QUICK_EFFORT = 5, 2
OTHERS = ("jpeg", "webp", "avif", "jxl")
FIGURES = {"bytes": ",.0f", "psnr": ".2f", "ssim": ".4f"}
LONGEST_SIDE = 16_383
"""Of a WebP file, pixels."""


class Gallery(Table):
    """The table.

    Args:
        rates: bits per pixel that ours aims at.
        effort: of ours.
        quick: one rate, and little effort.
    """

    name: ClassVar[str] = "gallery"
    title: ClassVar[str] = "Gallery: pictures beside other codecs at equal bytes"
    aside: ClassVar[tuple[str, ...]] = ("files",)

    def __init__(self, rates: Sequence[float] = (), effort: int | None = None, *, quick: bool = False) -> None:
        super().__init__()
        self.rates = tuple(sorted(set(rates))) or (QUICK_RATES if quick else RATES)
        self.effort = effort or (QUICK_EFFORT if quick else EFFORT)
        if self.effort not in EFFORTS:
            raise ConfigError(f"effort: expected {min(EFFORTS)} to {max(EFFORTS)}, found {self.effort}")
        self.anchors = {anchor.key: anchor for anchor in ANCHORS if anchor.key in OTHERS and not anchor.missing}
        self.labels = {OURS: "imagegs"} | {key: anchor.label for key, anchor in self.anchors.items()}
        self.notes += [f"{anchor.missing}." for anchor in ANCHORS if anchor.key in OTHERS and anchor.missing]
        self.notes.append(f"imagegs at effort {self.effort}; {self._codecs()}.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every rate of every picture; all codecs in one cell, as the bytes of ours are the limit of the others."""
        codecs = {key: anchor.identity for key, anchor in self.anchors.items()}
        return [
            Cell(source, {"bpp": rate, "effort": self.effort, "seed": 0, "codecs": codecs})
            for source, rate in product(sources, self.rates)
        ]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Figures by codec, and the files themselves.

        Raises:
            ConfigError: WebP, in which the page holds decoded pixels as well, has no place for so long a side.
            ImageGSError: ours cannot encode it.
        """
        source = cell.source
        longest = max(source.pixels.shape)
        if longest > LONGEST_SIDE:
            raise ConfigError(f"expected sides of at most {LONGEST_SIDE:,} pixels, WebP's limit, found {longest:,}")
        encoded = encode(source.picture, bpp=cell.settings["bpp"], effort=cell.settings["effort"], seed=0)
        files = {OURS: encoded.data}
        codecs: dict[str, dict[str, float]] = {}
        image = to_image(source.pixels)
        for key, anchor in self.anchors.items():
            data = largest_below(anchor, image, len(encoded.data))
            if data is None:
                codecs[key] = {"smallest": len(anchor.encode(image, anchor.ladder[0]))}
            else:
                files[key] = data
        codecs |= {key: _figures(source, key, data) for key, data in files.items()}
        return {
            "codecs": {key: codecs[key] for key in self.labels},
            "notes": list(encoded.notes),
            "files": {key: base64.b64encode(data).decode() for key, data in files.items()},
        }

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """By rate: means over the pictures of which a codec makes a file, and each picture."""
        rates = []
        for rate in self.rates:
            mine = [outcome for outcome in outcomes if outcome.cell.settings["bpp"] == rate]
            if not mine:
                continue
            row: dict[str, Any] = {"bpp": rate, "means": {}}
            for key in self.labels:
                made = [found for outcome in mine if "bytes" in (found := outcome.found["codecs"][key])]
                row["means"][key] = {name: spread([found[name] for found in made]) for name in FIGURES if made}
            row["pictures"] = {outcome.cell.source.name: outcome.found["codecs"] for outcome in mine}
            row["notes"] = [
                f"{outcome.cell.source.name}: {note}" for outcome in mine for note in outcome.found["notes"]
            ]
            rates.append(row)
        return {"labels": self.labels, "rates": rates}

    def write(self, summary: Mapping[str, Any]) -> str:
        """A table for each rate, a picture in each line."""
        labels = summary["labels"]
        parts = [
            f"[{self.name}{PAGE}]({self.name}{PAGE}) shows the pictures. Of each file: bytes, PSNR in dB, SSIM. "
            "The others are their largest file of no more bytes than ours; ours aims at the rate."
        ]
        for row in summary["rates"]:
            lines = [(name, *(_told(found[key]) for key in labels)) for name, found in row["pictures"].items()]
            count = len(lines)
            if count > 1:
                lines.append(("**mean**", *(_mean(row["means"][key], count) for key in labels)))
            head = (f"{row['bpp']:g} bits per pixel", *labels.values())
            parts.append(markdown.table(head, lines))
            if row["notes"]:
                parts.append("\n".join(f"- {note}" for note in row["notes"]))
        return "\n\n".join(parts)

    def pages(self, record: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, bytes]:
        """The pictures themselves."""
        from .gallery_page import render_page

        return {PAGE: render_page(record, outcomes, self.labels).encode()}

    def _codecs(self) -> str:
        return "; ".join(anchor.identity.rpartition(", ")[0] for anchor in self.anchors.values())


def _figures(source: Source, key: str, data: bytes) -> dict[str, float]:
    pixels = shown(key, data)
    return {
        "bytes": len(data),
        "bpp": 8 * len(data) / source.count,
        "psnr": psnr(source.pixels, pixels),
        "ssim": ssim(source.pixels, pixels),
    }


def _told(found: Mapping[str, float]) -> str:
    if "smallest" in found:
        return f"none below {found['smallest']:,}"
    return ", ".join(format(found[name], form) for name, form in FIGURES.items())


def _mean(found: Mapping[str, Mapping[str, float]], count: int) -> str:
    if not found:
        return markdown.EMPTY
    made = int(found["bytes"]["n"])
    text = ", ".join(markdown.mean(found[name], form) for name, form in FIGURES.items())
    return text + (f" ({made} of {count})" if made < count else "")
