"""``imagegs bench saliency``: what importance is worth in files of the same size, by the built-in model.

Each picture is encoded plainly at some bits per pixel, then by its map at the same bytes. The scores weigh errors by
the very map that the encoding followed: they show what is moved, not whether people look there.
`imagegs saliency eval` scores by where people looked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from imagegs import encode as encode_plain
from imagegs.bench import Cell, Outcome, Source, Table, markdown, spread

from .encoding import encode, importance
from .scores import score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BPP, EFFORT, QUICK_EFFORT = 0.3, 5, 2
STRENGTHS, QUICK_STRENGTHS = (0.25, 0.5, 0.75, 1.0), (0.5, 1.0)
SHOWN = {
    "weighted_psnr": "weighted PSNR, dB",
    "region_psnr": "region PSNR, dB",
    "outside_psnr": "rest PSNR, dB",
    "psnr": "PSNR, dB",
}


class Saliency(Table):
    """The table.

    Args:
        quick: two strengths, and little effort.
    """

    name: ClassVar[str] = "saliency"
    title: ClassVar[str] = "Saliency: what importance is worth in files of the same size"

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.strengths = QUICK_STRENGTHS if quick else STRENGTHS
        self.effort = QUICK_EFFORT if quick else EFFORT
        self.notes.append(
            "The map is the built-in model's, and the scores are weighted by it: they show what is moved, not whether "
            "people look there. imagegs saliency eval scores by where people looked."
        )
        if quick:
            self.notes.append(f"Quick: effort {QUICK_EFFORT} where {EFFORT} is usual.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Each picture once."""
        settings = {"bpp": BPP, "effort": self.effort, "strengths": list(self.strengths), "seed": 0}
        return [Cell(source, settings) for source in sources]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The plain file, and one for each strength, with their scores."""
        picture = cell.source.picture
        importance(picture)
        began = time.perf_counter()
        found = importance(picture)
        map_ms = 1e3 * (time.perf_counter() - began)
        plain = encode_plain(picture, bpp=BPP, effort=self.effort)
        rows = []
        for strength in (0.0, *self.strengths):
            made = plain
            if strength:
                made = encode(picture, found, strength=strength, size=len(plain.data), effort=self.effort)
            scores = asdict(score(picture.pixels, made.decoded, found))
            rows.append(
                {"strength": strength, "bytes": len(made.data), "encode_ms": 1e3 * made.seconds, "scores": scores}
            )
        return {"rows": rows, "map_ms": map_ms}

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Changes against the plain files, by strength, over pictures."""
        rows = []
        for place, strength in enumerate((0.0, *self.strengths)):
            pairs = [(outcome.found["rows"][0], outcome.found["rows"][place]) for outcome in outcomes]
            row: dict[str, Any] = {
                "strength": strength,
                "size": max(abs(after["bytes"] / before["bytes"] - 1) for before, after in pairs),
                "encode_ms": spread([after["encode_ms"] for _, after in pairs]),
            }
            for key in SHOWN:
                both = [(before["scores"][key], after["scores"][key]) for before, after in pairs]
                known = [after - before for before, after in both if before is not None and after is not None]
                row[key] = spread(known) if known else None
            rows.append(row)
        return {"rows": rows, "map_ms": spread([outcome.found["map_ms"] for outcome in outcomes])}

    def write(self, summary: Mapping[str, Any]) -> str:
        """One line for each strength."""
        rows = [
            (
                f"{row['strength']:g}",
                *(markdown.mean(row[key], "+.2f") for key in SHOWN),
                f"±{100 * row['size']:.1f} %",
                markdown.middle(markdown.in_seconds(row["encode_ms"])),
            )
            for row in summary["rows"]
        ]
        head = ("strength", *SHOWN.values(), "bytes", "encode, s")
        return (
            f"Changes against plain files of {BPP} bits per pixel, means over pictures; the map takes "
            f"{markdown.middle(summary['map_ms'])} ms.\n\n{markdown.table(head, rows)}"
        )

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """Changes over the strength."""
        from imagegs.bench.drawing import Line, draw_lines

        lines = []
        for key, label in SHOWN.items():
            rows = [row for row in summary["rows"] if row[key] is not None]
            strengths, changes = [row["strength"] for row in rows], [row[key]["mean"] for row in rows]
            lines.append(Line(label.removesuffix(", dB"), strengths, changes, ours=key == "weighted_psnr"))
        return {"strength": draw_lines(lines, "strength", "change at equal bytes, dB", log=False)}


def make_table(name: str, quick: bool) -> Table:
    """The table of this name."""
    return {"saliency": Saliency}[name](quick=quick)
