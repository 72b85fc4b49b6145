"""A table is measured cell by cell and then written: JSON, Markdown and plots, all of it from what the cells hold."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import ImageError, ImageGSError
from ..figures import json_text
from ..files import atomic_write
from . import machine
from .cells import Cells
from .pictures import Source, find_sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = "cells"


@dataclass(frozen=True)
class Cell:
    """One picture under one setting.

    Attributes:
        source: the picture.
        settings: all that decides what comes out besides the picture; what JSON can write.
    """

    source: Source
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: it.
        found: the figures, which JSON can write.
    """

    cell: Cell
    found: Mapping[str, Any]


class Table(ABC):
    """A question, and how its answer is measured and shown.

    Attributes:
        name: of its command and its files.
        title: in one line.
        aside: names of figures that stay with the cells and out of the record, as they are long: files in base64.
        sources_name: what its sources are.
        quick_side: so many pixels of their middle, down and across, are measured in a trial.
        notes: what the reader must know; lines may be added while cells are planned.
        command: that made it, to be shown.
        threads: that measure; None is one per core.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    aside: ClassVar[tuple[str, ...]] = ()
    sources_name: ClassVar[str] = "Pictures"
    quick_side: ClassVar[int] = 512

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.command = f"imagegs bench {self.name}"
        self.threads: int | None = None

    def find(
        self, folder: str | Path, *, limit: int | None = None, side: int | None = None, without: Path | None = None
    ) -> list[Source]:
        """What there is to measure in a folder; arguments and errors as of `find_sources`."""
        return find_sources(folder, limit=limit, side=side, without=without)

    @abstractmethod
    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """The cells, in the order in which they are measured."""

    @abstractmethod
    def measure(self, cell: Cell) -> dict[str, Any]:
        """The figures of a cell.

        Raises:
            ImageGSError: there are none; the cell is told and left out.
        """

    @abstractmethod
    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """What the cells come to; what JSON can write."""

    @abstractmethod
    def write(self, summary: Mapping[str, Any]) -> str:
        """The summary as Markdown, its tables and what they mean."""

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """Plots, by what comes after the table's name in theirs."""
        return {}

    def pages(self, record: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, bytes]:
        """Further files, by what their names have after the table's; of all that cells hold, what is ``aside`` too."""
        return {}

    @property
    def home(self) -> Path:
        """The folder of its sources."""
        return Path(str(sys.modules[type(self).__module__].__file__)).resolve().parent


@dataclass(frozen=True)
class Run:
    """What came of a table.

    Attributes:
        record: as it stands in the JSON file.
        markdown: as it stands in the Markdown file.
        files: that were written, the JSON first.
        measured: cells measured in this run.
        kept: cells that were there already.
        left_out: why cells have no figures, one line each.
    """

    record: dict[str, Any]
    markdown: str
    files: list[Path]
    measured: int
    kept: int
    left_out: list[str] = field(default_factory=list)


def run_table(
    table: Table,
    sources: Sequence[Source],
    folder: str | Path,
    *,
    on_cell: Callable[[int, int], None] | None = None,
) -> Run:
    """Measure what is not kept, and write the table into a folder.

    Args:
        table: the question.
        sources: the pictures.
        folder: it gets ``NAME.json``, ``NAME.md``, the plots, and the cells in a folder of their own.
        on_cell: called with how many cells are through, and of how many.

    Raises:
        ImageError: the folder or a file cannot be written, or no cell has figures.
    """
    from ..kernels import native

    target = Path(folder)
    cells = Cells(target / CELLS)
    plan = table.plan(sources)
    identity = machine.identity(table.home)
    outcomes, left_out, kept = [], [], 0
    with native.threads(table.threads):
        for number, cell in enumerate(plan):
            if on_cell is not None:
                on_cell(number, len(plan))
            decides = {
                "picture": cell.source.digest,
                "settings": dict(cell.settings),
                "threads": table.threads,
                "version": identity,
            }
            found = cells.find(table.name, decides)
            if found is not None:
                kept += 1
            else:
                try:
                    found = table.measure(cell)
                except ImageGSError as error:
                    left_out.append(f"{cell.source.name}, {_told(cell.settings)}: left out: {error}")
                    continue
                cells.keep(table.name, decides, found)
                found = json.loads(json_text(found))  # as it will be read the next time
            outcomes.append(Outcome(cell, _numbers(found)))
    if on_cell is not None:
        on_cell(len(plan), len(plan))
    if not outcomes:
        raise ImageError(
            f"{table.name}: expected figures of one cell at least, found none: {(left_out or ['none planned'])[0]}"
        )
    record = {
        "table": table.name,
        "command": table.command,
        **machine.record(),
        "threads": table.threads,
        "pictures": [{"name": source.name, "digest": source.digest} for source in sources],
        "notes": table.notes,
        "left_out": left_out,
        "summary": table.summarize(outcomes),
        "cells": [
            {
                "picture": outcome.cell.source.name,
                "settings": dict(outcome.cell.settings),
                **{name: value for name, value in outcome.found.items() if name not in table.aside},
            }
            for outcome in outcomes
        ],
    }
    record = json.loads(json_text(record))
    markdown, files = _written(table, record, outcomes, target)
    return Run(record, markdown, files, len(outcomes) - kept, kept, left_out)


def _written(
    table: Table, record: Mapping[str, Any], outcomes: Sequence[Outcome], folder: Path
) -> tuple[str, list[Path]]:
    from ..plots import figure_bytes

    contents = {f"{table.name}.json": f"{json_text(record)}\n".encode()}
    record = {**record, "summary": _numbers(record["summary"])}
    figures = table.draw(record["summary"])
    markdown = _page(table, record, [f"{table.name}-{kind}.svg" for kind in figures])
    contents[f"{table.name}.md"] = markdown.encode()
    for kind, figure in figures.items():
        for ending in (".svg", ".png"):
            contents[f"{table.name}-{kind}{ending}"] = figure_bytes(figure, ending)
    contents |= {f"{table.name}{rest}": data for rest, data in table.pages(record, outcomes).items()}
    for name, data in contents.items():
        atomic_write(folder / name, data)
    return markdown, [folder / name for name in contents]


def _page(table: Table, record: Mapping[str, Any], plots: Sequence[str]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    found = record["machine"]
    names = [picture["name"] for picture in record["pictures"]]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    lines = [
        f"# {table.title}",
        "",
        f"`{record['command']}`, {record['date']}. {table.sources_name}: {shown}.",
        "",
        table.write(record["summary"]),
        "",
        *(f"![{table.title}]({plot})\n" for plot in plots),
    ]
    if record["notes"] or record["left_out"]:
        lines += [f"- {note}" for note in (*record["notes"], *record["left_out"])] + [""]
    threads = "one thread per core" if record["threads"] is None else f"{record['threads']} threads"
    lines += [
        f"Machine: {found['processor']}, {found['cores']} cores, {found['system']}; {threads}; "
        f"kernels {record['kernels']}; commit {record['commit'] or 'none'}; {versions}.",
        "",
    ]
    return "\n".join(lines)


def _numbers(value: Any) -> Any:
    """What JSON cannot write as numbers, as numbers again."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if not isinstance(value, Mapping))
