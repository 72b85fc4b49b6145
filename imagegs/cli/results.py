"""What follows a fit in ``encode`` and ``demo``: the file, the report and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ImageError
from . import arguments, console

if TYPE_CHECKING:
    from ..encoding import Encoded


def check(output: Path, report: Path | None) -> None:
    """Refuse a file or a report folder that could not be written after the fit.

    Raises:
        ImageError: with the reason.
    """
    arguments.check_output(output, arguments.GSIMG)
    if report is not None:
        arguments.check_output_folder(report)


def make_folder(path: Path) -> None:
    """Make a folder for results if it is missing; its parent must exist.

    Raises:
        ImageError: with the reason.
    """
    arguments.check_output_folder(path)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path}: cannot be made: {(error.strerror or str(error)).lower()}") from error


def deliver(encoded: Encoded, output: Path, command: str, report: Path | None, *, quiet: bool, as_json: bool) -> None:
    """Write the file and the report, and print what they came to.

    Args:
        encoded: the result of the fit.
        output: the ``.gsimg`` file to write.
        command: the command to reproduce it.
        report: folder of the report, or None.
        quiet: print nothing but JSON.
        as_json: print JSON instead of a table.
    """
    figures = write(encoded, output)
    page = None
    if report is not None:
        from ..report import write_report

        page = write_report(report, encoded, figures, command)
    present(encoded, output, command, figures, page, quiet=quiet, as_json=as_json)


def write(encoded: Encoded, output: Path) -> dict[str, Any]:
    """Write the file; its figures, see ``figures.measure``."""
    from ..figures import measure
    from ..files import atomic_write

    atomic_write(output, encoded.data)
    return measure(encoded)


def present(
    encoded: Encoded,
    output: Path,
    command: str,
    figures: Mapping[str, Any],
    page: Path | None,
    *,
    quiet: bool,
    as_json: bool,
    more: Sequence[tuple[str, str]] = (),
) -> None:
    """Print what an encoding came to.

    Args:
        encoded: the encoding.
        output: its file.
        command: the command to reproduce it.
        figures: of ``write``; others beside them go into the JSON.
        page: of the report, or None.
        quiet: print nothing but JSON.
        as_json: print JSON instead of a table.
        more: further rows of the table.
    """
    from ..figures import rows

    if as_json:
        console.print_json({"file": str(output), "report": page and str(page), "command": command, **figures})
        return
    if quiet:
        return
    console.print_notes([*encoded.picture.notes, *encoded.notes])
    console.print_table([("file", str(output)), *rows(figures), *more])
    if page is not None:
        typer.echo(f"report: {page}")
