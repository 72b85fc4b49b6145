"""The command line: one Typer app, one file per command, and the only place that names the apps.

Heavy modules are imported in the bodies of the commands, so that ``--help`` is instant and ``decode`` starts no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from typing import Annotated, TextIO

import typer

from ..errors import ImageGSError, ImageGSWarning, one_line, without_user
from . import batch, bench, compare, convert, decode, demo, encode, giant, info, plot, weights
from .help import GroupedCommand, make_group

APPS = {"saliency": "saliency", "restore": "restoration", "lod": "lod"}
"""Sub-command and the app under ``imagegs.apps`` that carries it; one that is not installed is left out."""

app = make_group("imagegs", "Images as 2D Gaussians: fit, compress, decode and look at them.")
for command in (encode, batch, giant, decode, info, convert, compare, plot, demo):
    kind = batch.BatchCommand if command is batch else GroupedCommand
    app.command(command.__name__.rpartition(".")[2], cls=kind)(command.run)
app.add_typer(weights.app, name="weights")
app.add_typer(bench.app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"imagegs {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _add_apps(root: typer.Typer) -> None:
    """Give the root one sub-command for each installed app, ``batch`` its options and ``bench`` its tables."""
    for name, folder in APPS.items():
        module = f"imagegs.apps.{folder}.cli"
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if found:
            loaded = importlib.import_module(module)
            root.add_typer(loaded.app, name=name)
            batch.offer_app(name, folder, loaded)
            bench.offer_app(folder, loaded)


_add_apps(app)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of this package as one line, any other as Python does."""
    if issubclass(category, ImageGSWarning):
        typer.echo(f"imagegs: warning: {one_line(message)}", err=True)
    else:
        typer.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


def main() -> None:
    """Run the command line and leave with its status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    # Typer's pydantic would look for plugins in every installed package: 50 ms of each start
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app(prog_name="imagegs")
    except (ImageGSError, OSError) as error:
        typer.echo(f"imagegs: {without_user(one_line(error))}", err=True)
        sys.exit(1)
