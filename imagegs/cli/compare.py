"""``imagegs compare``: how far a picture is from its reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import arguments, console

if TYPE_CHECKING:
    from ..metrics import Comparison, PlaneComparison

SCORES = {"ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS", "flip": "FLIP"}

LpipsNet = Literal["alex", "vgg", "squeeze"]


def run(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="Picture, folder of pictures or .gsimg file.")],
    test: Annotated[Path, typer.Argument(metavar="TEST", help="What is compared with it, of the same size.")],
    lpips_net: Annotated[
        LpipsNet | None, typer.Option(help="Measure LPIPS too, with this network; its weights are large.")
    ] = None,
    lpips_weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with those weights; by default they are downloaded.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare two pictures: PSNR, also of each channel, SSIM, MS-SSIM, FLIP and LPIPS."""
    if lpips_weights is not None and lpips_net is None:
        raise typer.BadParameter("expected together with --lpips-net", param_hint="'--lpips-weights'")
    from ..metrics import compare

    pictures = arguments.read_any(reference), arguments.read_any(test)
    comparison = compare(*pictures, lpips_net=lpips_net, weights_dir=lpips_weights)
    if json:
        console.print_json(comparison.to_dict())
        return
    console.print_notes(comparison.notes)
    typer.echo(f"{comparison.test} against {comparison.reference}, {comparison.width} x {comparison.height} pixels")
    names = ("", *(plane.name for plane in comparison.planes)) if len(comparison.planes) > 1 else ()
    console.print_table(_rows(comparison), header=names)
    console.print_notes(_reasons(comparison))


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row for each figure, one column for each plane."""
    planes = comparison.planes
    rows = [("PSNR", *(_decibels(plane.psnr) for plane in planes))]
    if any(plane.psnr_composited is not None for plane in planes):
        rows.append(("PSNR on black and white", *(_decibels(plane.psnr_composited) for plane in planes)))
    for letter in dict.fromkeys(letter for plane in planes for letter in plane.channels):
        rows.append((f"PSNR of {letter}", *(_decibels(plane.channels.get(letter)) for plane in planes)))
    rows += [(title, *(_score(plane, name) for plane in planes)) for name, title in SCORES.items()]
    return rows + [("PSNR of all", _decibels(comparison.psnr))] * (len(planes) > 1)


def _reasons(comparison: Comparison) -> list[str]:
    """Why figures are absent, each reason once."""
    from ..metrics import Missing

    scores = [getattr(plane, name) for name in SCORES for plane in comparison.planes]
    return list(dict.fromkeys(f"not measured: {score.reason}" for score in scores if isinstance(score, Missing)))


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} dB"


def _score(plane: PlaneComparison, name: str) -> str:
    value = getattr(plane, name)
    if value is None:
        return "not asked for"
    return f"{value:.4f}" if isinstance(value, float) else "-"
