"""``imagegs encode``: fit Gaussians to a picture and write them as a ``.gsimg`` file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import arguments, console, results

if TYPE_CHECKING:
    from ..encoding import Encoded

# Written out here as well as in the library, since importing that would load NumPy before --help.
Preset = Literal["fast", "balanced", "best"]
Profile = Literal["image-gs", "gaussian-image"]
Blend = Literal["normalized", "topk", "sum"]

TARGET, EFFORT, FILE = "Target, one of these", "Effort", "File"
FIT, FIXED = "Fit", "Fixed widths, instead of entropy coding"
TARGETS = ("quality", "bpp", "size", "psnr", "ssim", "gaussians")
PACES = ("effort", "preset")
SETTINGS = ("profile", "steps", "blend", "top_k")
Source = Annotated[Path, typer.Argument(metavar="IN", help="Picture, or a folder of them (a texture stack).")]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="OUT.gsimg", help="File to write.", rich_help_panel=FILE)
]


def options(
    quality: Annotated[
        float | None,
        typer.Option(
            "-q",
            "--quality",
            min=0,
            max=100,
            help="Bytes follow the content; by default 75.",
            rich_help_panel=TARGET,
        ),
    ] = None,
    bpp: Annotated[
        float | None,
        typer.Option(min=0, help="Bits of the file per pixel: never more, at most 3 % less.", rich_help_panel=TARGET),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--bytes", min=1, help="Bytes of the file: never more, at most 3 % less.", rich_help_panel=TARGET),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option(min=1, max=100, help="PSNR, dB: never less, at most 0.1 more.", rich_help_panel=TARGET),
    ] = None,
    ssim: Annotated[
        float | None, typer.Option(min=0.001, max=0.99999, help="SSIM: never less.", rich_help_panel=TARGET)
    ] = None,
    gaussians: Annotated[
        int | None, typer.Option("-n", "--gaussians", min=1, help="Number of Gaussians.", rich_help_panel=TARGET)
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            "-e", "--effort", min=1, max=9, help="1 is quickest, 9 best; by default 5.", rich_help_panel=EFFORT
        ),
    ] = None,
    preset: Annotated[Preset | None, typer.Option(help="Efforts 3, 5 and 8 by name.", rich_help_panel=EFFORT)] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the fit; by default the effort's.", rich_help_panel=EFFORT)
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Threads; by default one per core.", rich_help_panel=EFFORT),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar=arguments.DEVICES,
            callback=arguments.check_device,
            help="Where the fit runs.",
            rich_help_panel=EFFORT,
        ),
    ] = "auto",
    levels: Annotated[
        int, typer.Option(min=1, max=16, help="Levels of detail, coarse to fine.", rich_help_panel=FILE)
    ] = 1,
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Code squares of this side on their own, so that regions decode alone: a power of two, 64 to 65536.",
            rich_help_panel=FILE,
        ),
    ] = None,
    blend: Annotated[Blend | None, typer.Option(help="How Gaussians make a pixel.", rich_help_panel=FIT)] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=32, help="K of the blend topk.", rich_help_panel=FIT)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same file.", rich_help_panel=FIT)] = 0,
    profile: Annotated[
        Profile | None, typer.Option(help="Follow a published method instead.", rich_help_panel=FIXED)
    ] = None,
    position_bits: Annotated[
        int | None, typer.Option(min=4, max=32, help="Of a position.", rich_help_panel=FIXED)
    ] = None,
    scale_bits: Annotated[int | None, typer.Option(min=4, max=32, help="Of a scale.", rich_help_panel=FIXED)] = None,
    rotation_bits: Annotated[
        int | None, typer.Option(min=4, max=32, help="Of a rotation.", rich_help_panel=FIXED)
    ] = None,
    color_bits: Annotated[int | None, typer.Option(min=4, max=32, help="Of a colour.", rich_help_panel=FIXED)] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write an HTML report into this folder.", rich_help_panel=FILE)
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where Ctrl-C leaves the fit; by default OUT.gsimg.checkpoint.npz.",
            rich_help_panel=FIT,
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on from such a checkpoint.", rich_help_panel=FIT)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, the fit's history included.")] = False,
) -> dict[str, Any]:
    """What every command that encodes can be told."""
    return dict(locals())


@arguments.also(options)
def run(
    context: typer.Context,
    source: Source,
    output: Output,
    importance: Annotated[
        Path | None,
        typer.Option(
            metavar="MAP.png", help="Picture of the same size: brighter gets more Gaussians.", rich_help_panel=FIT
        ),
    ] = None,
    **given: Any,
) -> None:
    """Fit Gaussians to a picture and write them as a .gsimg file."""
    check(output, given)
    encoded = perform(context, source, output, given, importance=arguments.read_map(importance))
    quiet, as_json = given["quiet"], given["json"]
    results.deliver(encoded, output, command_of(context), given["report"], quiet=quiet, as_json=as_json)
    drop_checkpoint(output, given)


def check(output: Path, given: Mapping[str, Any]) -> None:
    """Refuse options that exclude each other, and results that could not be written.

    Raises:
        typer.BadParameter: more than one target, or more than one pace.
        ImageError: the file or the report cannot be written.
    """
    check_choices(given)
    results.check(output, given["report"])


def check_choices(given: Mapping[str, Any]) -> None:
    """Refuse options that exclude each other; a command may have fewer targets.

    Raises:
        typer.BadParameter: more than one target, or more than one pace.
    """
    names = {"size": "bytes"}
    arguments.check_one("target", [names.get(name, name) for name in TARGETS if given.get(name) is not None])
    arguments.check_one("pace", [name for name in PACES if given[name] is not None])


def perform(
    context: typer.Context,
    source: Any,
    output: Path,
    given: Mapping[str, Any],
    encoder: Callable[..., Encoded] | None = None,
    **more: Any,
) -> Encoded:
    """Encode as the options say; what Ctrl-C leaves can be resumed.

    Args:
        context: of the command.
        source: see ``encode``.
        output: the file that is to be written, whose name the checkpoint's follows.
        given: values of ``options``.
        encoder: in place of ``imagegs.encode``, with its arguments.
        **more: further arguments, such as importance or guidance; they come before the options.

    Raises:
        ImageGSError: see ``encode``.
    """
    from ..encoding import encode

    kept = _checkpoint(output, given)
    with arguments.resumable(context), console.fit_progress(quiet=given["quiet"]) as on_step:
        options = {**keywords(given), **more}
        return (encoder or encode)(source, checkpoint=kept, resume=given["resume"], on_step=on_step, **options)


def keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as ``imagegs.encode`` takes them."""
    from ..codec.quantization import BitWidths

    widths = arguments.given(**{name: given[f"{name}_bits"] for name in ("position", "scale", "rotation", "color")})
    return {
        "bits": BitWidths(**widths) if widths else None,
        "block_shift": arguments.parse_block_size(given["block_size"]),
        **{name: given[name] for name in ("levels", "seed", "device", "threads")},
        **arguments.given(**{name: given[name] for name in (*TARGETS, *PACES, *SETTINGS)}),
    }


def drop_checkpoint(output: Path, given: Mapping[str, Any]) -> None:
    """Remove the checkpoint that was resumed, once its result is written."""
    kept = _checkpoint(output, given)
    if given["resume"] == kept:
        kept.unlink(missing_ok=True)


def _checkpoint(output: Path, given: Mapping[str, Any]) -> Path:
    path: Path = given["checkpoint"] or output.with_name(f"{output.name}.checkpoint.npz")
    return path


def command_of(context: typer.Context) -> str:
    """The command, as one would type it for the same file."""
    return arguments.command_line(context, resume=None, checkpoint=None, json=None, quiet=None)
