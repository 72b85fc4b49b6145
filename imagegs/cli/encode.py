"""``imagegs encode``: fit Gaussians to a picture and write them as a ``.gsimg`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import arguments, console, results

# Written out here as well as in the library, since importing that would load NumPy before --help.
Preset = Literal["fast", "balanced", "best"]
Profile = Literal["image-gs", "gaussian-image"]
Blend = Literal["normalized", "topk", "sum"]
Device = Literal["auto", "cpu", "cuda"]


def run(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Picture, or a folder of them (a texture stack).")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.gsimg", help="File to write.")],
    quality: Annotated[
        float | None, typer.Option("-q", "--quality", min=0, max=100, help="Target: quality; by default 75.")
    ] = None,
    bpp: Annotated[float | None, typer.Option(min=0, help="Target: bits of the file per pixel, at most.")] = None,
    size: Annotated[int | None, typer.Option("--bytes", min=1, help="Target: bytes of the file, at most.")] = None,
    psnr: Annotated[float | None, typer.Option(min=1, max=100, help="Target: PSNR, dB, at least.")] = None,
    ssim: Annotated[float | None, typer.Option(min=0.001, max=0.99999, help="Target: SSIM, at least.")] = None,
    gaussians: Annotated[
        int | None, typer.Option("-n", "--gaussians", min=1, help="Target: number of Gaussians.")
    ] = None,
    effort: Annotated[
        int | None, typer.Option("-e", "--effort", min=1, max=9, help="1 is fastest, 9 smallest; by default 5.")
    ] = None,
    preset: Annotated[Preset | None, typer.Option(help="Efforts 3, 5 and 8 by name.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Follow a published method instead.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimisation steps; by default the preset's.")] = None,
    blend: Annotated[Blend | None, typer.Option(help="How Gaussians make a pixel.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=32, help="K of the blend topk.")] = None,
    levels: Annotated[int, typer.Option(min=1, max=16, help="Levels of detail.")] = 1,
    block_size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Code squares of this side on their own: a power of two, 64 to 65536."),
    ] = None,
    importance: Annotated[
        Path | None, typer.Option(metavar="MAP.png", help="Picture of the same size: brighter gets more Gaussians.")
    ] = None,
    position_bits: Annotated[int | None, typer.Option(min=4, max=32, help="Fixed width of a position, bits.")] = None,
    scale_bits: Annotated[int | None, typer.Option(min=4, max=32, help="Fixed width of a scale, bits.")] = None,
    rotation_bits: Annotated[int | None, typer.Option(min=4, max=32, help="Fixed width of a rotation, bits.")] = None,
    color_bits: Annotated[int | None, typer.Option(min=4, max=32, help="Fixed width of a colour, bits.")] = None,
    device: Annotated[Device, typer.Option(help="Where the fit runs.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads; by default one per core.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same file.")] = 0,
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="Write an HTML report into this folder.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where Ctrl-C leaves the fit; by default OUT.gsimg.checkpoint.npz."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FILE", help="Go on from such a checkpoint.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, the fit's history included.")] = False,
) -> None:
    """Fit Gaussians to a picture and write them as a .gsimg file."""
    results.check(output, report)
    from ..codec.quantization import BitWidths
    from ..encoding import encode

    kept = checkpoint or output.with_name(f"{output.name}.checkpoint.npz")
    targets = arguments.given(quality=quality, bpp=bpp, size=size, psnr=psnr, ssim=ssim, gaussians=gaussians)
    bits = arguments.given(position=position_bits, scale=scale_bits, rotation=rotation_bits, color=color_bits)
    with arguments.resumable(context), console.fit_progress(quiet=quiet) as on_step:
        encoded = encode(
            source,
            bits=BitWidths(**bits) if bits else None,
            levels=levels,
            block_shift=arguments.parse_block_size(block_size),
            importance=arguments.read_map(importance),
            seed=seed,
            device=device,
            threads=threads,
            checkpoint=kept,
            resume=resume,
            on_step=on_step,
            **targets,
            **arguments.given(effort=effort, preset=preset, profile=profile, steps=steps, blend=blend, top_k=top_k),
        )
    command = arguments.command_line(context, resume=None, checkpoint=None, json=None, quiet=None)
    results.deliver(encoded, output, command, report, quiet=quiet, as_json=json)
    if resume == kept:
        kept.unlink(missing_ok=True)
