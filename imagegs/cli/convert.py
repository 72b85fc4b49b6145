"""``imagegs convert``: checkpoints of other projects in, arrays and pictures for other programs out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import arguments, console

# Written out here as well as in the library, since importing that would load NumPy before --help.
Blend = Literal["topk", "sum"]
Scales = Literal["inverse", "plain"]


def run(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A .gsimg or .npz file, or a checkpoint: .pt, .pth, .pth.tar.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="File to write: .gsimg, .npz, .ply or .svg.")
    ],
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Size of a checkpoint's picture, pixels, where it does not say it."),
    ] = None,
    blend: Annotated[
        Blend | None, typer.Option(help="How an Image-GS run blended; sum is for --disable_topk_norm.")
    ] = None,
    scales: Annotated[
        Scales | None, typer.Option(help="What an Image-GS run stored; plain is for --disable_inverse_scale.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(min=4, max=32, help="Bits of every symbol of a .gsimg file; by default 16.")
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option("--refit/--no-refit", help="Colours of .ply and .svg: solved for (by default), or as stored."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--gaussians-limit", min=1, help="Most Gaussians in a .ply or .svg, largest first.")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse a larger picture.")] = 1 << 28,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert checkpoints of Image-GS and GaussianImage to .gsimg, and .gsimg to .npz, .ply (3D splats) or .svg."""
    from ..converters import convert
    from ..files import check_target

    canvas = arguments.parse_size(size)
    check_target(output)
    options = {"blend": blend, "scales": scales, "bits": bits, "refit": refit, "limit": limit}
    done = convert(source, output, size=canvas, max_pixels=max_pixels, **options)  # type: ignore[arg-type]
    console.print_notes(done.notes)
    if json:
        facts = asdict(done)
        del facts["notes"]
        console.print_json({"file": str(output), **facts, "bytes": facts.pop("size")})
    else:
        typer.echo(f"{output}: {done.width} x {done.height}, {done.written:,} Gaussians, {done.size:,} bytes")
