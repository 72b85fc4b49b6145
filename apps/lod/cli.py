"""``imagegs lod``: progressive files, what their beginnings show, and how they reach a browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from imagegs.cli import arguments, console, encode, results
from imagegs.cli.help import GroupedCommand, make_group

Format = Literal["jpg", "png", "webp"]
LEVELS = "Levels"
PLOTS = (".png", ".svg")

TABLES = {"progressive": "What beginnings of files show.\n\nBeside separate files, progressive JPEG and JPEG 2000."}
"""Of ``imagegs bench``."""

app = make_group("lod", "Progressive files: every beginning is a picture, served by ranges.")


def _numbers(text: str | None, what: str) -> tuple[int, ...]:
    """The numbers of ``1000,4000``; none for None."""
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"expected whole numbers such as 1000,4000, found {text!r}", param_hint=what
        ) from error


def _levels(text: str) -> int | Literal["auto"]:
    """A number of levels, or ``auto``."""
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"expected auto or a number, found {text!r}", param_hint="'--levels'")
    return int(text)


def level_options(
    levels: Annotated[
        str,
        typer.Option(metavar="N", help="How many, geometric in bytes from 5 % on; auto is 4.", rich_help_panel=LEVELS),
    ] = "auto",
    level_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N", help="End levels at about these bytes of the file instead.", rich_help_panel=LEVELS
        ),
    ] = None,
    level_gaussians: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="End levels at these numbers of Gaussians.", rich_help_panel=LEVELS),
    ] = None,
    first: Annotated[
        Path | None,
        typer.Option(metavar="MAP.png", help="Picture of the same size: brighter comes first.", rich_help_panel=LEVELS),
    ] = None,
) -> dict[str, Any]:
    """What levels there are to be."""
    return dict(locals())


@app.command("export", cls=GroupedCommand)
@arguments.also(encode.options, without=("levels",))
@arguments.also(level_options)
def export_picture(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Picture, folder of them, or .gsimg file.")],
    output: encode.Output,
    no_refit: Annotated[
        bool,
        typer.Option("--no-refit", help="Only sort the Gaussians of a .gsimg file anew.", rich_help_panel=LEVELS),
    ] = False,
    **given: Any,
) -> None:
    """Write a .gsimg file in levels that were fitted together, so that every beginning is a good picture."""
    how, first = _how(given), given["first"]
    given = {**given, "levels": 1}
    encode.check(output, given)
    if no_refit:
        _sort_anew(source, output, how["levels"], given)
        return
    from .exporting import export

    picture = arguments.read_any(source)
    if source.suffix.lower() in arguments.GSIMG and not any(given[name] is not None for name in encode.TARGETS):
        given["size"] = source.stat().st_size
    encoded = encode.perform(context, picture, output, given, encoder=export, first=arguments.read_map(first), **how)
    quiet, as_json = given["quiet"], given["json"]
    results.deliver(encoded, output, encode.command_of(context), given["report"], quiet=quiet, as_json=as_json)
    encode.drop_checkpoint(output, given)
    if not quiet and not as_json:
        from imagegs.arranging import prefixes

        _print_levels(prefixes(encoded.data))


def _how(given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``export`` is told of the levels."""
    count, cuts = _levels(given["levels"]), _numbers(given["level_bytes"], "'--level-bytes'")
    counts = _numbers(given["level_gaussians"], "'--level-gaussians'")
    if cuts and counts:
        raise typer.BadParameter("expected one of both", param_hint="'--level-bytes', '--level-gaussians'")
    return {"levels": count, "level_bytes": cuts, "level_gaussians": counts}


@arguments.also(encode.options, without=("levels",))
@arguments.also(level_options)
def batch_options(**given: Any) -> None:
    """What ``imagegs batch --app lod`` can be told."""


def batch_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options for ``batch.make``, and the endings of the files."""
    encode.check_choices(given)
    how = _how(given)
    options = encode.keywords({**given, "levels": 1}) | {"threads": None} | how
    return {"export": options, "first": given["first"], "threads": given["threads"]}, arguments.GSIMG


def _sort_anew(source: Path, output: Path, levels: int | Literal["auto"], given: dict[str, Any]) -> None:
    from imagegs.arranging import prefixes, rearrange
    from imagegs.files import atomic_write, read_bytes

    from .exporting import AUTO_LEVELS

    if source.suffix.lower() not in arguments.GSIMG:
        raise typer.BadParameter("expected a .gsimg file beside it", param_hint="'--no-refit'")
    shift = arguments.parse_block_size(given["block_size"])
    before = read_bytes(source)
    found = rearrange(before, AUTO_LEVELS if levels == "auto" else levels, shift, name=str(source))
    atomic_write(output, found.data)
    facts = {"file": str(output), "bytes": len(found.data), "bytes_before": len(before), "change_psnr": found.change}
    if given["json"]:
        console.print_json(facts)
    elif not given["quiet"]:
        rows = [
            ("file", str(output)),
            ("bytes", f"{len(found.data):,}; {len(before):,} before"),
            ("against the file before", f"{found.change:.2f} dB"),
        ]
        console.print_table(rows)
        _print_levels(prefixes(found.data))


def _print_levels(rows: list[dict[str, float | int | None]]) -> None:
    from .inspecting import table

    console.print_table(table(rows), header=("level", "bytes so far", "share", "Gaussians", "PSNR"))


@app.command("inspect", cls=GroupedCommand)
def inspect_file(
    source: Annotated[Path, typer.Argument(metavar="IN.gsimg", help="File to describe.")],
    plot: Annotated[Path | None, typer.Option(metavar="PLOT", help="Draw quality over bytes: .png or .svg.")] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Measure against the original instead of what the file says.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what every beginning of a file comes to."""
    if plot is not None:
        arguments.check_output(plot, PLOTS)
    from imagegs.arranging import prefixes
    from imagegs.files import read_bytes

    from .inspecting import draw

    data = read_bytes(source)
    pixels = None if reference is None else arguments.read_any(reference).pixels
    rows = prefixes(data, pixels, name=str(source))
    if plot is not None:
        from imagegs.plots import write_figure

        write_figure(plot, draw(rows, source.name))
    if json:
        console.print_json({"file": str(source), "bytes": len(data), "levels": rows})
    else:
        _print_levels(rows)


@app.command("serve", cls=GroupedCommand)
def serve_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to serve, with its sub-folders.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    cache: Annotated[int, typer.Option(min=0, metavar="SECONDS", help="How long browsers may keep files.")] = 0,
    cors: Annotated[bool, typer.Option("--cors/--no-cors", help="Let pages of other sites read the files.")] = True,
) -> None:
    """Serve .gsimg files by ranges, with an index page and the viewer, until Ctrl-C."""
    from .server import serve
    from .viewing import page_files

    serve(
        folder,
        host,
        port,
        viewer=page_files(),
        cache_seconds=cache,
        cors=cors,
        on_start=lambda url: typer.echo(f"serving {folder} at {url}"),
    )


@app.command("view", cls=GroupedCommand)
def view_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help=".gsimg file to show.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Only write the page and the file there.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
) -> None:
    """Show a .gsimg file in the browser until Ctrl-C, or write a page that does."""
    from .viewing import show, write_page

    if output is not None:
        typer.echo(f"{write_page(output, source)}")
        return

    def started(url: str) -> None:
        typer.echo(f"{source} at {url}")
        if open:
            typer.launch(url)

    show(source, host, port, on_start=started)


@app.command("tiles", cls=GroupedCommand)
def write_pyramid(
    source: Annotated[Path, typer.Argument(metavar="IN.gsimg", help="File to draw.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the pyramid.")],
    tile: Annotated[int, typer.Option(min=64, max=4096, help="Side of a tile, pixels.")] = 512,
    format: Annotated[Format, typer.Option(help="Of the tiles.")] = "jpg",
    scale_up: Annotated[int, typer.Option(min=1, max=64, help="Largest size, times the picture's.")] = 1,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of jpg and webp.")] = 90,
    plane: Annotated[str | None, typer.Option(metavar="NAME", help="Picture of a stack; by default the first.")] = None,
    base_uri: Annotated[str | None, typer.Option(metavar="URI", help="Where the folder will be served.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="By default one per core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a pyramid that is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Write a static IIIF Image API 3 pyramid, level 0, for viewers such as OpenSeadragon."""
    from .tiles import write_tiles

    with console.counting("tiles", quiet=quiet) as on_file:
        written = write_tiles(
            source,
            output,
            tile=tile,
            format=format,
            quality=quality,
            plane=plane,
            scale_up=scale_up,
            base_uri=base_uri,
            threads=threads,
            overwrite=overwrite,
            on_file=on_file,
        )
    if not quiet:
        typer.echo(f"{written}")
