"""``imagegs decode``: a ``.gsimg`` file back to a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import arguments, console


def run(
    source: Annotated[str, typer.Argument(metavar="IN.gsimg", help="File to decode, or its address.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Picture to write; a folder for a texture stack.")
    ],
    height: Annotated[int | None, typer.Option(min=1, help="Height of the result, pixels.")] = None,
    scale: Annotated[float | None, typer.Option(min=1e-6, help="Size of the result over the stored size.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Decode only this rectangle of the canvas, pixels.")
    ] = None,
    level: Annotated[int | None, typer.Option(min=0, help="Draw only up to this level of detail.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Use only so many bytes from the file's start.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a file that was cut, instead of a warning.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads; by default one per core.")] = None,
    device: Annotated[
        str, typer.Option(metavar=arguments.DEVICES, callback=arguments.check_device, help="What draws.")
    ] = "cpu",
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse a larger result.")] = 1 << 28,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Decode a .gsimg file to a picture, at its own size or any other."""
    if height is not None and scale is not None:
        raise typer.BadParameter("expected --height or --scale, found both", param_hint="'--scale'")
    rectangle = arguments.parse_region(region)
    from ..decoding import decode
    from ..image import write_image

    picture = decode(
        source,
        height=height,
        scale=scale,
        region=rectangle,
        level=level,
        max_bytes=max_bytes,
        strict=strict,
        threads=threads,
        device=device,
        max_pixels=max_pixels,
    )
    paths = write_image(output, picture.pixels, picture.info)
    console.print_warnings(picture.notes)
    channels, rows, columns = picture.pixels.shape
    if json:
        files = [str(path) for path in paths]
        console.print_json({"files": files, "height": rows, "width": columns, "channels": channels})
    else:
        typer.echo(f"{output}: {columns} x {rows}, {channels} channels")
