"""``imagegs restore``: a degraded picture as it was, and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imagegs.cli import arguments, console
from imagegs.cli.help import GroupedCommand, make_group

if TYPE_CHECKING:
    from .operators import Operator

Method = Literal["bicubic", "area", "lanczos"]
FILE, FIT, BLUR = "File", "Fit", "Blur, one of these"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".exr")
Source = Annotated[Path, typer.Argument(metavar="IN", help="Degraded picture.")]

app = make_group("restore", "Restore a picture, and compress it: Gaussians fitted through what happened to it.")


def options(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Picture to write.", rich_help_panel=FILE)
    ],
    compressed: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.gsimg", help="Write the restored picture as a .gsimg file, too.", rich_help_panel=FILE
        ),
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(min=0, help="Bits of that file per pixel at most.", rich_help_panel=FILE)
    ] = None,
    size: Annotated[
        int | None, typer.Option("--bytes", min=1, help="Bytes of that file at most.", rich_help_panel=FILE)
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="CLEAN", help="Measure against this picture.", rich_help_panel=FILE)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write an HTML report into this folder.", rich_help_panel=FILE)
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(min=0, max=255, help="Noise, of 255; by default estimated.", rich_help_panel=FIT),
    ] = None,
    spread: Annotated[
        float,
        typer.Option(
            min=0, max=8, metavar="PX", help="With --sigma: a bell that the noise went through.", rich_help_panel=FIT
        ),
    ] = 0,
    gaussians: Annotated[
        int | None,
        typer.Option("-n", "--gaussians", min=1, help="Of each fit; by default chosen.", rich_help_panel=FIT),
    ] = None,
    fits: Annotated[int, typer.Option(min=1, help="How many are averaged.", rich_help_panel=FIT)] = 6,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each fit.", rich_help_panel=FIT)] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=FIT)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """What every task takes."""


def _restore(
    context: typer.Context, source: Path, given: Mapping[str, Any], operator: Operator | None = None, known: Any = None
) -> None:
    """Restore, write, and say what came of it."""
    output, compressed, reference = given["output"], given["compressed"], given["reference"]
    arguments.check_output(output, PICTURES)
    if given["report"] is not None:
        arguments.check_output_folder(given["report"])
    if compressed is not None:
        arguments.check_output(compressed, arguments.GSIMG)
    elif given["bpp"] is not None or given["size"] is not None:
        raise typer.BadParameter("expected --compressed with it", param_hint="'--bpp', '--bytes'")
    from imagegs import encode, read_image, write_image
    from imagegs.files import atomic_write
    from imagegs.metrics import psnr

    from .restoring import restore

    picture, clean = read_image(source), None if reference is None else read_image(reference)
    with console.counting("fits", quiet=given["quiet"]) as on_fit:
        found = restore(
            picture,
            operator,
            known=known,
            sigma=None if given["sigma"] is None else given["sigma"] / 255,
            spread=given["spread"],
            gaussians=given["gaussians"],
            fits=given["fits"],
            steps=given["steps"],
            seed=given["seed"],
            on_fit=on_fit,
        )
    write_image(output, found.picture.pixels, found.picture.info)
    facts: dict[str, Any] = {
        "file": str(output),
        "gaussians": found.gaussians,
        "fits": found.fits,
        "sigma": found.sigma,
        "spread": found.spread,
    }
    if clean is not None:
        facts["psnr"] = psnr(clean.pixels, found.picture.pixels)
        if clean.pixels.shape == picture.pixels.shape:
            facts["psnr_before"] = psnr(clean.pixels, picture.pixels)
    if compressed is not None:
        target = {name: given[name] for name in ("bpp", "size") if given[name] is not None}
        encoded = encode(found.picture, **target)
        atomic_write(compressed, encoded.data)
        facts |= {"compressed": str(compressed), "bytes": len(encoded.data), "bpp": encoded.bpp}
    if given["report"] is not None:
        from .operators import Identity
        from .report import write_report

        command = arguments.command_line(context)
        page = write_report(given["report"], picture, found, operator or Identity(), facts, command, clean)
        facts["report"] = str(page)
    if given["json"]:
        console.print_json(facts)
    elif not given["quiet"]:
        console.print_table(_rows(facts))


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    spread = f", spread over {facts['spread']:.1f} pixels" if facts["spread"] else ""
    rows = [
        ("restored", facts["file"]),
        ("noise", f"{255 * facts['sigma']:.1f} of 255{spread}"),
        ("Gaussians", f"{facts['gaussians']:,}, the mean of {facts['fits']} fits"),
    ]
    if "psnr" in facts:
        before = f"; {facts['psnr_before']:.2f} dB before" if "psnr_before" in facts else ""
        rows.append(("against the reference", f"{facts['psnr']:.2f} dB{before}"))
    if "compressed" in facts:
        rows.append(
            ("compressed", f"{facts['compressed']}, {facts['bytes']:,} bytes, {facts['bpp']:.3f} bits per pixel")
        )
    if "report" in facts:
        rows.append(("report", facts["report"]))
    return rows


@app.command("denoise", cls=GroupedCommand)
@arguments.also(options)
def denoise(context: typer.Context, source: Source, **given: Any) -> None:
    """Take noise away; how much there is, is estimated."""
    _restore(context, source, given)


@app.command("inpaint", cls=GroupedCommand)
@arguments.also(options)
def inpaint(
    context: typer.Context,
    source: Source,
    mask: Annotated[
        Path, typer.Option(metavar="MASK", help="Picture of the same size: white where pixels are missing.")
    ],
    **given: Any,
) -> None:
    """Fill holes."""
    missing = arguments.read_map(mask)
    assert missing is not None
    _restore(context, source, given, known=missing < 0.5)


@app.command("upscale", cls=GroupedCommand)
@arguments.also(options)
def upscale(
    context: typer.Context,
    source: Source,
    factor: Annotated[float, typer.Option(min=1, max=16, help="How many times larger; may be a fraction.")] = 2,
    method: Annotated[Method, typer.Option(help="How the picture was made smaller.")] = "bicubic",
    **given: Any,
) -> None:
    """Enlarge a picture that was made smaller."""
    from .operators import Downsample

    _restore(context, source, given, Downsample(factor, method))


@app.command("deblur", cls=GroupedCommand)
@arguments.also(options)
def deblur(
    context: typer.Context,
    source: Source,
    bell: Annotated[
        float | None, typer.Option("--gaussian", help="Standard deviation of a bell, pixels.", rich_help_panel=BLUR)
    ] = None,
    disk: Annotated[float | None, typer.Option(help="Radius of a disk, pixels.", rich_help_panel=BLUR)] = None,
    motion: Annotated[
        str | None, typer.Option(metavar="LENGTH,ANGLE", help="Line in pixels, degrees.", rich_help_panel=BLUR)
    ] = None,
    kernel: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Picture of the kernel.", rich_help_panel=BLUR)
    ] = None,
    **given: Any,
) -> None:
    """Take a known blur away."""
    named = {"--gaussian": bell, "--disk": disk, "--motion": motion, "--kernel": kernel}
    asked = [name for name, value in named.items() if value is not None]
    if len(asked) != 1:
        raise typer.BadParameter(f"expected one of {', '.join(named)}, found {' and '.join(asked) or 'none'}")
    from imagegs import read_image

    from .operators import Blur

    if bell is not None:
        blur = Blur.gaussian(bell)
    elif disk is not None:
        blur = Blur.disk(disk)
    elif motion is not None:
        blur = Blur.motion(*_two_numbers(motion))
    else:
        assert kernel is not None
        blur = Blur(read_image(kernel).pixels[:3].mean(axis=0))
    _restore(context, source, given, blur)


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        length, angle = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"expected two numbers such as 9,45, found {text!r}", param_hint="'--motion'"
        ) from error
    return length, angle


@app.command("dejpeg", cls=GroupedCommand)
@arguments.also(options)
def dejpeg(context: typer.Context, source: Source, **given: Any) -> None:
    """Take the artefacts of a JPEG file away, within what its coefficients allow."""
    from imagegs.files import read_bytes

    from .jpeg import read_jpeg

    _restore(
        context,
        source,
        {**given, "sigma": 0 if given["sigma"] is None else given["sigma"]},
        read_jpeg(read_bytes(source), str(source)),
    )
