"""``imagegs giant``: a picture of any size, in tiles."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import arguments, console
from .batch import Engine
from .encode import EFFORT, FILE, TARGET, Output, Preset

if TYPE_CHECKING:
    from ..giant import Giant

TILES = "Tiles"
STAGES = ("survey", "pilots", "fit", "join", "sizes", "settle", "code", "measure")


def run(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="TIFF, BigTIFF, PNG, JPEG or zarr; of the latter also an address.")
    ],
    output: Output,
    quality: Annotated[
        float | None,
        typer.Option("-q", "--quality", min=0, max=100, help="By default 75.", rich_help_panel=TARGET),
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(min=0, help="Bits of the file per pixel: never more.", rich_help_panel=TARGET)
    ] = None,
    size: Annotated[
        int | None, typer.Option("--bytes", min=1, help="Bytes of the file: never more.", rich_help_panel=TARGET)
    ] = None,
    gaussians: Annotated[
        int | None,
        typer.Option("-n", "--gaussians", min=1, help="Number of Gaussians, about.", rich_help_panel=TARGET),
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            "-e", "--effort", min=1, max=9, help="1 is quickest, 9 best; by default 5.", rich_help_panel=EFFORT
        ),
    ] = None,
    preset: Annotated[Preset | None, typer.Option(help="Efforts 3, 5 and 8 by name.", rich_help_panel=EFFORT)] = None,
    levels: Annotated[
        int, typer.Option(min=1, max=16, help="Levels of detail, coarse to fine.", rich_help_panel=FILE)
    ] = 2,
    block_size: Annotated[
        int,
        typer.Option(
            metavar="PX", help="Squares of the file that decode alone: a power of two from 64.", rich_help_panel=FILE
        ),
    ] = 256,
    seed: Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=FILE)] = 0,
    tile: Annotated[
        int, typer.Option(metavar="PX", min=128, help="Squares that are fitted at once.", rich_help_panel=TILES)
    ] = 1024,
    halo: Annotated[
        int | None,
        typer.Option(
            metavar="PX", min=0, help="Fitted beyond each; by default what the Gaussians need.", rich_help_panel=TILES
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="Processes of this machine, or tasks of a Ray cluster.", rich_help_panel=TILES)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto|ray://HOST:PORT",
            help="Ray cluster to join; its nodes must reach IN and the parts by the same paths.",
            rich_help_panel=TILES,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Tiles at the same time; by default one for each core.", rich_help_panel=TILES),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of each; by default its share.", rich_help_panel=TILES)
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Finished tiles; by default OUT.gsimg.parts.", rich_help_panel=TILES),
    ] = None,
    keep_parts: Annotated[
        bool, typer.Option("--keep-parts", help="Leave finished tiles there in the end.", rich_help_panel=TILES)
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the tiles of an earlier run.", rich_help_panel=TILES)
    ] = False,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a tile that failed is tried again.", rich_help_panel=TILES)
    ] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit a picture of any size in tiles, side by side, and write one file in blocks and levels.

    After an interruption the same command goes on where it stopped.
    """
    targets = {"quality": quality, "bpp": bpp, "bytes": size, "gaussians": gaussians}
    arguments.check_one("target", [name for name, value in targets.items() if value is not None])
    arguments.check_one("pace", [name for name, value in (("effort", effort), ("preset", preset)) if value is not None])
    arguments.check_output(output, arguments.GSIMG)
    shift = arguments.parse_block_size(block_size)
    from ..batching import open_engine
    from ..giant import encode_giant

    folder = parts or output.with_name(f"{output.name}.parts")
    try:
        with (
            contextlib.redirect_stdout(sys.stderr),  # for what Ray says of its nodes
            open_engine(engine, workers=workers, threads=threads, address=address) as opened,
            console.staging(STAGES, quiet=quiet or json) as on_stage,
        ):
            done = encode_giant(
                source,
                output,
                quality=quality,
                bpp=bpp,
                size=size,
                gaussians=gaussians,
                effort=effort,
                preset=preset,
                levels=levels,
                block_shift=shift,
                tile=tile,
                halo=halo,
                seed=seed,
                engine=opened,
                parts=folder,
                keep_parts=keep_parts,
                fresh=fresh,
                retries=retries,
                on_stage=on_stage,
            )
    except KeyboardInterrupt as stop:
        typer.echo(f"imagegs: interrupted; finished tiles are kept in {folder}; the same command goes on", err=True)
        raise typer.Exit(130) from stop
    console.print_notes(done.notes)
    if json:
        console.print_json(_facts(done, output))
    elif not quiet:
        console.print_table(_rows(done, output))


def _facts(done: Giant, output: Path) -> dict[str, object]:
    return {
        "file": str(output),
        "bytes": done.size,
        "bpp": done.bpp,
        "width": done.width,
        "height": done.height,
        "gaussians": done.gaussians,
        "psnr": done.psnrs[-1],
        "psnr_of_levels": list(done.psnrs),
        "tiles": done.tiles,
        "seconds": done.seconds,
    }


def _rows(done: Giant, output: Path) -> list[tuple[str, str]]:
    return [
        ("file", str(output)),
        ("size", f"{done.size:,} bytes, {done.bpp:.4f} bits per pixel"),
        ("picture", f"{done.width:,} x {done.height:,}, in {done.tiles:,} tiles"),
        ("Gaussians", f"{done.gaussians:,}"),
        ("PSNR", f"{done.psnrs[-1]:.2f} dB; by level {', '.join(f'{value:.2f}' for value in done.psnrs)}"),
        ("seconds", f"{done.seconds:.1f}"),
    ]
