"""``imagegs plot``: figures about a file, a picture or a fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import arguments, console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["gaussians", "density", "gradient", "error", "curve"]


def run(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="gaussians: the ellipses of a .gsimg file; density: how many lie where; gradient: of a picture; "
            "error: against --reference; curve: convergence, from the JSON of encode or of its report."
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .gsimg file, a picture, or the JSON of a fit.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Figure to write, .png or .svg.")],
    reference: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="What IN is compared with (error only).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw ellipses, density, gradient, error or convergence as PNG or SVG."""
    if (reference is not None) != (kind == "error"):
        raise typer.BadParameter("expected with the kind error, and only there", param_hint="'--reference'")
    arguments.check_output(output, (".png", ".svg"))
    from ..plots import write_figure

    write_figure(output, _draw(kind, source, reference))
    if json:
        console.print_json({"file": str(output), "kind": kind})
    else:
        typer.echo(f"{output}: {kind} of {source}")


def _draw(kind: Kind, source: Path, reference: Path | None) -> Figure:
    from .. import plots

    if kind == "curve":
        return plots.draw_curve(_history(source))
    if kind == "gradient":
        return plots.draw_gradient(arguments.read_any(source).pixels)
    if reference is not None:
        return plots.draw_error(arguments.read_any(reference).pixels, arguments.read_any(source).pixels)
    from ..codec import read_file

    file = read_file(source)
    if kind == "density":
        return plots.draw_density(file.gaussians)
    channels = None if file.info is None else plots.color_channels(file.info)
    return plots.draw_ellipses(file.gaussians, channels=channels)


def _history(source: Path) -> list[tuple[int, float, float, int]]:
    """The rows of ``history`` in a JSON file.

    Raises:
        ImageError: it cannot be read, or is no such file.
    """
    import json

    from ..errors import ImageError
    from ..files import read_bytes

    data = read_bytes(source)
    try:
        rows = json.loads(data)["history"]
        return [(int(step), float(seconds), float(psnr), int(count)) for step, seconds, psnr, count in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise ImageError(
            f"{source}: expected the JSON of encode --json or of a report, found something else"
        ) from error
