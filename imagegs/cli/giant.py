"""``imagegs giant``: a picture of any size, in tiles."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import arguments, console, encode
from .batch import Engine
from .encode import FILE, TARGET, Output

if TYPE_CHECKING:
    from ..giant import Giant

TILES = "Tiles"
SHARED = ("quality", "bpp", "size", "effort", "preset", "seed")
"""Options of ``encode`` that mean the same here."""
ALONE = (
    *("psnr", "ssim", "steps", "device", "blend", "top_k", "profile", "report", "checkpoint", "resume"),
    *("position_bits", "scale_bits", "rotation_bits", "color_bits"),
)
"""Those that a picture fitted in one piece has alone."""


@arguments.also(encode.options, without=ALONE)
def run(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="TIFF, BigTIFF, PNG, JPEG or zarr; of the latter also an address.")
    ],
    output: Output,
    gaussians: Annotated[
        int | None,
        typer.Option("-n", "--gaussians", min=1, help="Number of Gaussians, about.", rich_help_panel=TARGET),
    ] = None,
    levels: Annotated[
        int, typer.Option(min=1, max=16, help="Levels of detail, coarse to fine.", rich_help_panel=FILE)
    ] = 2,
    block_size: Annotated[
        int,
        typer.Option(
            metavar="PX", help="Squares of the file that decode alone: a power of two from 64.", rich_help_panel=FILE
        ),
    ] = 256,
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
        int | None, typer.Option(min=1, max=1024, help="Of each tile; by default its share.", rich_help_panel=TILES)
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
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    **given: Any,
) -> None:
    """Fit a picture of any size in tiles, side by side, and write one file in blocks and levels.

    After an interruption the same command goes on where it stopped.
    """
    encode.check_choices({**given, "gaussians": gaussians})
    arguments.check_output(output, arguments.GSIMG)
    shift = arguments.parse_block_size(block_size)
    from ..batching import open_engine
    from ..giant import encode_giant, parts_of

    folder, quiet = parts or parts_of(output), given["quiet"]
    try:
        with (
            contextlib.redirect_stdout(sys.stderr),  # for what Ray says of its nodes
            open_engine(engine, workers=workers, threads=threads, address=address) as opened,
            console.staging(quiet=quiet or json) as on_stage,
        ):
            done = encode_giant(
                source,
                output,
                gaussians=gaussians,
                **{name: given[name] for name in SHARED},
                levels=levels,
                block_shift=shift,
                tile=tile,
                halo=halo,
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
