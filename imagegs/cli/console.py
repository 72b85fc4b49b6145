"""What a person sees: tables and the progress of a fit; and JSON for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..fitting.loop import Progress


RATE_OVER = 600.0
"""Seconds of the past by which rate and time left are estimated; large pictures take minutes each."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    from ..figures import json_text

    typer.echo(json_text(value))


def print_table(rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] = ()) -> None:
    """Print rows of text; the first column names what the others say."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=bool(header), header_style="bold")
    for column in header or ("",) * max(len(row) for row in rows):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def print_notes(notes: Sequence[str]) -> None:
    """Print what the user should know about the input, one line each, to the error stream."""
    for note in notes:
        typer.echo(f"imagegs: note: {note}", err=True)


def print_warnings(warnings: Sequence[str]) -> None:
    """Print what is wrong with the input though it could be used, one line each, to the error stream."""
    for warning in warnings:
        typer.echo(f"imagegs: warning: {warning}", err=True)


@contextmanager
def counting(name: str, total: int | None = None, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """A progress bar with rate and time left, on the error stream, over things; nothing where that is no terminal.

    Yields:
        To be called after each of them; or with how many are done, and of how many.
    """
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with progress.Progress(*columns, console=console, speed_estimate_period=RATE_OVER, disable=hidden) as bar:
        task = bar.add_task(name, total=total, rate="")

        def count(done: int | None = None, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total) if done is not None else bar.advance(task)
            bar.update(task, rate=_rate(bar.tasks[0].speed))

        yield count


def _rate(speed: float | None) -> str:
    """Things a second, or a minute where that is less than one."""
    if not speed:
        return ""
    return f"{speed:.1f} a second" if speed >= 1 else f"{60 * speed:.1f} a minute"


@contextmanager
def staging(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on the error stream, one for each stage of a work, as they come; nothing where that is no terminal.

    Yields:
        To be called with the name of a stage, how much of it is done, and of how much.
    """
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with progress.Progress(*columns, console=console, refresh_per_second=2, disable=hidden) as bar:
        tasks: dict[str, progress.TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield show


@contextmanager
def fit_progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on the error stream while a fit runs; nothing where that is no terminal.

    Yields:
        The callback for the fit.
    """
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("fit"),
        progress.BarColumn(),
        progress.TextColumn("step {task.completed}/{task.total}"),
        progress.TextColumn("{task.fields[psnr]:.2f} dB"),
        progress.TextColumn("{task.fields[gaussians]:,} Gaussians"),
        progress.TimeRemainingColumn(compact=True),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with progress.Progress(*columns, console=console, refresh_per_second=5, disable=hidden) as bar:
        task = bar.add_task("fit", total=None, psnr=0.0, gaussians=0, visible=False)

        def show(now: Progress) -> None:
            bar.update(task, completed=now.step, total=now.steps, psnr=now.psnr, gaussians=now.gaussians, visible=True)

        yield show
