"""``imagegs restore``: a degraded picture as it was, and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imagegs.cli import arguments, console
from imagegs.cli.help import GroupedCommand, make_group

if TYPE_CHECKING:
    from imagegs import Picture

    from .operators import Blur, Operator
    from .recognizing import Damage

Method = Literal["bicubic", "area", "lanczos"]
LpipsNet = Literal["alex", "vgg", "squeeze"]
SCORES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS"}
Task = Literal["auto", "denoise", "inpaint", "upscale", "deblur", "dejpeg"]
Ending = Literal["png", "jpg", "webp", "avif", "tif", "exr"]
FILE, FIT, BLUR, TASK = "File", "Fit", "Blur, one of these", "Task"
BLURS = ("bell", "disk", "motion", "kernel")
ALONE = ("output", "compressed", "reference", "lpips_net", "lpips_weights", "report")
"""Options of a single picture."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".exr")
Source = Annotated[Path, typer.Argument(metavar="IN", help="Degraded picture.")]

TABLES = {"restoration": "Pictures damaged on purpose and restored.\n\nBy ours, and by classical methods beside it."}
"""Of ``imagegs bench``."""

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
    lpips_net: Annotated[
        LpipsNet | None,
        typer.Option(help="With --reference: LPIPS too, by this network; its weights are large.", rich_help_panel=FILE),
    ] = None,
    lpips_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder with those weights; by default they are downloaded.", rich_help_panel=FILE
        ),
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
    gain: Annotated[
        float,
        typer.Option(
            min=0,
            max=255,
            help="With --sigma, of a sensor: variance is its square plus this times brightness.",
            rich_help_panel=FIT,
        ),
    ] = 0,
    impulses: Annotated[
        bool | None,
        typer.Option(
            "--impulses/--no-impulses",
            help="Some pixels have values that are not theirs; by default black and white ones are looked for.",
            rich_help_panel=FIT,
            show_default=False,
        ),
    ] = None,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided/--no-guided", help="Of noise: bring fine texture back by filters too.", rich_help_panel=FIT
        ),
    ] = True,
    importance: Annotated[
        Path | None,
        typer.Option(metavar="MAP", help="Picture: the brighter, the more Gaussians.", rich_help_panel=FIT),
    ] = None,
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
    context: typer.Context,
    source: Path,
    given: Mapping[str, Any],
    operator: Operator | None = None,
    known: Any = None,
    automatic: bool = False,
) -> None:
    """Restore, write, and say what came of it; what happened is looked for where that is automatic."""
    _check(given)
    from imagegs import read_image, write_image

    from .tasks import perform

    picture = read_image(source)
    clean = None if given["reference"] is None else read_image(given["reference"])
    importance = arguments.read_map(given["importance"])
    facts: dict[str, Any] = {"file": str(given["output"])}
    if automatic and known is None:
        damage = _recognized(source, picture)
        operator, facts["found"] = damage.operator, damage.kind
        if not given["quiet"] and not given["json"]:
            console.print_notes([f"found {damage.text}"])
    _check_shapes(given, picture, operator, clean, importance)
    with console.counting("fits", quiet=given["quiet"]) as on_fit:
        found = perform(picture, operator, known, given, importance, on_fit)
    write_image(given["output"], found.picture.pixels, found.picture.info)
    facts |= {
        "gaussians": found.gaussians,
        "fits": found.fits,
        "sigma": found.noise.sigma,
        "spread": found.noise.spread,
        "curve": found.noise.curve,
        "impulses": found.impulses,
        "shares": found.shares,
    }
    if clean is not None:
        from .report import scores_of

        facts["scores"] = scores_of(picture, found.picture, clean, given["lpips_net"], given["lpips_weights"])
    if given["compressed"] is not None:
        facts |= _compress(given, found.picture, importance, clean)
    if given["report"] is not None:
        from .operators import Identity
        from .report import write_report

        command, scores = arguments.command_line(context), facts.get("scores", {})
        page = write_report(given["report"], picture, found, operator or Identity(), facts, command, scores)
        facts["report"] = str(page)
    if given["json"]:
        console.print_json(facts)
    elif not given["quiet"]:
        console.print_table(_rows(facts))


def _check(given: Mapping[str, Any]) -> None:
    """Refuse results that could not be written, and options that mean nothing alone."""
    arguments.check_output(given["output"], PICTURES)
    if given["report"] is not None:
        arguments.check_output_folder(given["report"])
    if given["compressed"] is not None:
        arguments.check_output(given["compressed"], arguments.GSIMG)
    _check_alone(given)


def _check_alone(given: Mapping[str, Any]) -> None:
    for needed, options in (
        ("compressed", {"bpp": "--bpp", "size": "--bytes"}),
        ("reference", {"lpips_net": "--lpips-net", "lpips_weights": "--lpips-weights"}),
        ("sigma", {"spread": "--spread", "gain": "--gain"}),
    ):
        alone = [option for name, option in options.items() if given.get(name)]
        if alone and given[needed] is None:
            raise typer.BadParameter(f"expected --{needed} with it", param_hint=" and ".join(map(repr, alone)))


def _compress(given: Mapping[str, Any], restored: Picture, importance: Any, clean: Picture | None) -> dict[str, Any]:
    """Write the file, and say what it came to."""
    from imagegs import decode
    from imagegs.files import atomic_write
    from imagegs.metrics import psnr

    from .tasks import compress

    encoded = compress(restored, given, importance)
    atomic_write(given["compressed"], encoded.data)
    facts = {"compressed": str(given["compressed"]), "bytes": len(encoded.data), "bpp": encoded.bpp}
    if clean is not None:
        facts["compressed_psnr"] = psnr(clean.pixels, decode(encoded.data).pixels)
    return facts


def _recognized(source: Path, picture: Picture) -> Damage:
    from imagegs.files import read_bytes

    from .recognizing import recognize_damage

    return recognize_damage(picture, read_bytes(source))


def _check_shapes(
    given: Mapping[str, Any], picture: Picture, operator: Operator | None, clean: Picture | None, importance: Any
) -> None:
    """Refuse before the fits what could not be used after them."""
    from imagegs import ShapeError

    if picture.info.stack:
        raise ShapeError(f"{picture.source}: expected one picture, found a texture stack; restore them one by one")
    size = picture.height, picture.width
    height, width = size if operator is None else operator.canvas_size(size)
    if importance is not None and importance.shape != (height, width):
        rows, columns = importance.shape
        raise ShapeError(
            f"importance: expected {width} x {height} pixels as the restored picture has, "
            f"found {columns} x {rows} in {given['importance']}"
        )
    if clean is not None and clean.pixels.shape != (picture.channels, height, width):
        raise ShapeError(
            f"reference: expected {width} x {height} pixels and {picture.channels} channels as the restored picture "
            f"has, found {clean.width} x {clean.height} and {clean.channels} in {given['reference']}"
        )


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    spread = f", spread over {facts['spread']:.1f} pixels" if facts["spread"] else ""
    curve = ""
    if facts["curve"]:
        sigmas = [255 * sigma for _, sigma in facts["curve"]]
        curve = f", {min(sigmas):.1f} to {max(sigmas):.1f} by brightness"
    rows = [
        ("restored", facts["file"]),
        ("noise", f"{255 * facts['sigma']:.1f} of 255{curve}{spread}"),
        ("Gaussians", f"{facts['gaussians']:,}, the mean of {facts['fits']} fits"),
    ]
    if facts["impulses"]:
        rows.append(("impulses", f"{100 * facts['impulses']:.1f} % of the pixels"))
    if sum(facts["shares"][1:]):
        parts = zip(facts["shares"], ("fits", "similar places", "Wiener's filter"), strict=True)
        rows.append(("made of", ", ".join(f"{100 * share:.0f} % {part}" for share, part in parts)))
    for name, values in facts.get("scores", {}).items():
        before = f"; {_score(name, values['before'])} before" if "before" in values else ""
        rows.append((f"{SCORES[name]} against the reference", f"{_score(name, values['after'])}{before}"))
    if "compressed" in facts:
        decibels = f", {facts['compressed_psnr']:.2f} dB" if "compressed_psnr" in facts else ""
        text = f"{facts['compressed']}, {facts['bytes']:,} bytes, {facts['bpp']:.3f} bits per pixel{decibels}"
        rows.append(("compressed", text))
    if "report" in facts:
        rows.append(("report", facts["report"]))
    return rows


def _score(name: str, value: float) -> str:
    return f"{value:.2f} dB" if name == "psnr" else f"{value:.4f}"


@app.command("auto", cls=GroupedCommand)
@arguments.also(options)
def auto(
    context: typer.Context,
    source: Source,
    mask: Annotated[
        Path | None, typer.Option(metavar="MASK", help="Picture of the same size: white where pixels are missing.")
    ] = None,
    **given: Any,
) -> None:
    """Find out what happened: coarse JPEG, impulses or noise, and, with a mask, holes."""
    missing = arguments.read_map(mask)
    _restore(context, source, given, known=None if missing is None else missing < 0.5, automatic=True)


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


def blurs(
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
) -> None:
    """The blurs that can be taken away."""


@app.command("deblur", cls=GroupedCommand)
@arguments.also(options)
@arguments.also(blurs)
def deblur(
    context: typer.Context,
    source: Source,
    **given: Any,
) -> None:
    """Take a known blur away."""
    _restore(context, source, given, _blur(given))


def _blur(given: Mapping[str, Any]) -> Blur:
    named = {f"--{'gaussian' if name == 'bell' else name}": given[name] for name in BLURS}
    asked = [name for name, value in named.items() if value is not None]
    if len(asked) != 1:
        raise typer.BadParameter(f"expected one of {', '.join(named)}, found {' and '.join(asked) or 'none'}")
    from .tasks import blur_of

    return blur_of(_blur_values(given))


def _blur_values(given: Mapping[str, Any]) -> dict[str, Any]:
    motion = given["motion"]
    return {name: given[name] for name in BLURS} | {"motion": None if motion is None else _two_numbers(motion)}


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
    from .recognizing import COARSE

    operator = read_jpeg(read_bytes(source), str(source))
    if operator.coarseness < COARSE and not given["quiet"]:
        steps = f"{255 * operator.coarseness:.0f} of 255"
        console.print_notes([f"{source} has steps of {steps}: there is little to gain, or nothing"])
    _restore(context, source, given, operator)


@arguments.also(options, without=ALONE)
@arguments.also(blurs)
def batch_options(
    task: Annotated[Task, typer.Option(help="What is to be restored, see imagegs restore.", rich_help_panel=TASK)],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Of auto and inpaint: picture of the same size as all, white where pixels are missing.",
            rich_help_panel=TASK,
        ),
    ] = None,
    factor: Annotated[
        float | None,
        typer.Option(min=1, max=16, help="Of upscale: how many times larger, by default 2.", rich_help_panel=TASK),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="Of upscale: how they were made smaller, by default bicubic.", rich_help_panel=TASK),
    ] = None,
    ending: Annotated[Ending, typer.Option(help="Format of the restored pictures.", rich_help_panel=FILE)] = "png",
    compressed: Annotated[
        bool,
        typer.Option("--compressed", help="Write the restored pictures as .gsimg files, too.", rich_help_panel=FILE),
    ] = False,
    **given: Any,
) -> None:
    """What ``imagegs batch --app restore`` can be told."""


def batch_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options for ``batch.make``, and the endings of the files."""
    task = given["task"]
    for tasks, names in ((("auto", "inpaint"), ("mask",)), (("upscale",), ("factor", "method")), (("deblur",), BLURS)):
        found = [f"--{'gaussian' if name == 'bell' else name}" for name in names if given[name] is not None]
        if found and task not in tasks:
            raise typer.BadParameter(f"expected --task {' or '.join(tasks)} with it, found {task}", param_hint=found[0])
    if task == "inpaint" and given["mask"] is None:
        raise typer.BadParameter("expected --mask with it", param_hint="--task inpaint")
    _check_alone({**given, "compressed": given["compressed"] or None, "reference": None})
    if task == "deblur":
        _blur(given)
    settings = {name: value for name, value in given.items() if name not in ("json", "quiet")}
    ending = f".{given['ending']}"
    endings = (*arguments.GSIMG, ending) if given["compressed"] else (ending,)
    return settings | _blur_values(given), endings
