"""``imagegs weights``: what pretrained models need, where it comes from, and whether it is there and whole."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import WeightsError
from . import console

if TYPE_CHECKING:
    from ..pretrained import Check, Model, Progress

AGAINST = {
    "manifest": "as the manifest says",
    "record": "as recorded at download, not published",
    "hub": "as the hub names it",
    "nothing": "readable; no checksum is published or recorded",
}
UNITS = ("bytes", "kB", "MB", "GB")

app = typer.Typer(
    help="Weights of pretrained models: list, fetch, verify, path.", no_args_is_help=True, rich_markup_mode=None
)
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names that list shows.")]
Folder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the weights; by default $IMAGEGS_WEIGHTS, else the user's cache."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("list")
def list_models(folder: Folder = None, json: Json = False) -> None:
    """List the models, their licences and sizes, and whether they are present, partial or absent; without a network."""
    from ..pretrained import models, state, weights_folder

    states = {model: state(model.name, folder) for model in models()}
    if json:
        facts = [_facts(model) | {"state": found} for model, found in states.items()]
        console.print_json({"folder": str(weights_folder(folder)), "models": facts})
        return
    for model, found in states.items():
        licence = model.license or "no licence stated"
        typer.echo(f"{model.name:38} {found:8} {_size(model):14} {licence}")
        typer.echo(f"    {model.purpose}\n    {model.origin}")
    typer.echo(f"folder: {weights_folder(folder)}; models of the hub also in its own cache")


@app.command()
def fetch(
    names: Names,
    folder: Folder = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Download what is absent or damaged; an interrupted download goes on where it was."""
    from .. import pretrained

    chosen = [pretrained.model(name) for name in dict.fromkeys(names)]
    if not quiet:
        console.print_notes([f"{model.name}: {model.note}" for model in chosen if model.note])
    try:
        for model in chosen:
            with _progress(quiet=quiet) as report:
                pretrained.fetch(model.name, folder, progress=report)
            if not quiet:
                _print_checks(pretrained.verify(model.name, folder))
    except KeyboardInterrupt as stop:
        typer.echo("imagegs: interrupted; the same command goes on with what is there", err=True)
        raise typer.Exit(130) from stop


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="By default all that are there, whole or in part.")
    ] = None,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """Compare files with their checksums, published or recorded; status 1 where one is damaged or absent."""
    from .. import pretrained

    there = [model.name for model in pretrained.models() if pretrained.state(model.name, folder) != "absent"]
    checks = {name: pretrained.verify(name, folder) for name in (names or there)}
    if json:
        console.print_json({name: [_checked(check) for check in found] for name, found in checks.items()})
    else:
        for found in checks.values():
            _print_checks(found)
        if not checks:
            typer.echo(f"nothing to verify in {pretrained.weights_folder(folder)}")
    bad = [name for name, found in checks.items() if any(check.problem for check in found)]
    if bad:
        words = [*bad, *(["--folder", str(folder)] if folder else [])]
        raise WeightsError(
            f"weights: expected whole files, found others; run: imagegs weights fetch {shlex.join(words)}"
        )


@app.command()
def path(
    name: Annotated[str | None, typer.Argument(help="A model; by default the folder is printed.")] = None,
    folder: Folder = None,
) -> None:
    """Print where the weights lie: the folder, or the files of one model."""
    from ..pretrained import files_of, weights_folder

    for place in [weights_folder(folder)] if name is None else files_of(name, folder):
        typer.echo(place)


def _facts(model: Model) -> dict[str, object]:
    return {
        "name": model.name,
        "purpose": model.purpose,
        "license": model.license,
        "note": model.note,
        "bytes": model.size,
        "bytes_are_exact": model.size_is_exact,
        "origin": model.origin,
        "source": model.source,
        "files": [file.name for file in model.files],
    }


def _checked(check: Check) -> dict[str, object]:
    path = None if check.path is None else str(check.path)
    return {"file": check.file, "path": path, "against": check.against, "problem": check.problem}


def _print_checks(checks: list[Check]) -> None:
    for check in checks:
        typer.echo(f"{check.path or check.file}: {check.problem or AGAINST[check.against]}")


def _size(model: Model) -> str:
    if model.size is None:
        return "not known"
    value, unit = float(model.size), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{'' if model.size_is_exact else 'about '}{value:.{0 if value >= 99.5 or not unit else 1}f} {UNITS[unit]}"


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
    """A progress bar for each file on the error stream; nothing where that is no terminal.

    Yields:
        The callback for the download.
    """
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
    )
    screen = Console(stderr=True)
    with progress.Progress(
        *columns, console=screen, refresh_per_second=5, disable=quiet or not screen.is_terminal
    ) as bar:
        tasks: dict[str, progress.TaskID] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done, total=total)

        yield show
