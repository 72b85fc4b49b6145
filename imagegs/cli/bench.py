"""``imagegs bench``: tables over a folder of pictures, one command each, that anybody can measure again."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import arguments, console
from .help import GroupedCommand, make_group

if TYPE_CHECKING:
    from ..bench import Run, Table

QUICK_PICTURES = 2

app = make_group("bench", "Tables of quality, size and time over a folder of pictures, by one command each.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures at any depth; or one picture.")]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the table, its plots and what was measured.")
]


def options(
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures, the first by name.")] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A trial of minutes: 2 pictures, the middle 512 x 512 pixels of them, few settings."
        ),
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads; by default one per core.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> dict[str, Any]:
    """What every table can be told."""
    return dict(locals())


def add_table(root: typer.Typer, name: str, command: Callable[..., None]) -> None:
    """Give the group the command of a table, with what every table can be told besides its own options."""
    root.command(name, cls=GroupedCommand)(arguments.also(options)(command))


def perform(context: typer.Context, folder: Path, output: Path, make: Callable[[bool], Table], **given: Any) -> None:
    """Measure a table, write it and print it.

    Args:
        context: of the command.
        folder: of the pictures.
        output: folder of what is written.
        make: the table, quick or not.
        **given: values of ``options``.

    Raises:
        ImageGSError: there are no pictures, or nothing can be measured or written.
    """
    arguments.check_output_folder(output)
    from ..bench import run_table

    quick = given["quick"]
    limit = given["limit"] or (QUICK_PICTURES if quick else None)
    table = make(quick)
    sources = table.find(folder, limit=limit, side=table.quick_side if quick else None, without=output)
    table.command = arguments.command_line(context, json=None, quiet=None)
    table.threads = given["threads"]
    silent = given["quiet"] or given["json"]
    try:
        with console.counting("cells", quiet=silent) as count:
            run = run_table(table, sources, output, on_cell=count)
    except KeyboardInterrupt as stop:
        typer.echo("imagegs: interrupted; the same command goes on with what is there", err=True)
        raise typer.Exit(130) from stop
    _present(run, given["quiet"], given["json"])


def _present(run: Run, quiet: bool, as_json: bool) -> None:
    if as_json:
        console.print_json({"files": [str(path) for path in run.files], **run.record})
        return
    if not quiet:
        typer.echo(run.markdown)
        console.print_notes([f"{run.measured:,} cells measured, {run.kept:,} were there"])
        typer.echo("\n".join(str(path) for path in run.files))


def _numbers(text: str | None, option: str) -> tuple[int, ...]:
    """The numbers of ``1000,5000``; none for None."""
    if text is None:
        return ()
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(
            f"expected whole numbers above 0 such as 1000,5000, found {text!r}", param_hint=f"'{option}'"
        )
    return tuple(int(part) for part in parts)


def representation(
    context: typer.Context,
    folder: Folder,
    output: Output,
    counts: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Numbers of Gaussians; by default from 1000 to 70000 (quick: 1000,5000)."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Some of fast, balanced, best, image-gs, gaussian-image, gaussian-image-rs, dense and 3dgs.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each, with the seeds 0, 1, ...")] = 1,
    **given: Any,
) -> None:
    """Quality and time by the number of Gaussians.

    Ours, published methods, plain PyTorch, and 3DGS where it can run.
    """
    numbers = _numbers(counts, "--counts")

    def make(quick: bool) -> Table:
        from ..bench.representation import Representation

        return Representation(numbers, methods.split(",") if methods else (), seeds, quick=quick)

    perform(context, folder, output, make, **given)


def rate_distortion(
    context: typer.Context,
    folder: Folder,
    output: Output,
    rates: Annotated[
        str | None,
        typer.Option(metavar="BPP,BPP", help="Bits per pixel that ours aims at; by default six from 0.1 to 1.04."),
    ] = None,
    efforts: Annotated[str | None, typer.Option(metavar="N,N", help="Efforts of ours, 1 to 9; by default 5.")] = None,
    gaussian_image: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="STEPS",
            help="Also GaussianImage's codec, with so many steps in each of its two fits, of which its paper takes "
            "50000; by default 0, without it (quick: 300).",
        ),
    ] = None,
    **given: Any,
) -> None:
    """Bytes and quality beside other codecs.

    JPEG, WebP, AVIF, JPEG 2000, JPEG XL and GaussianImage's: quality by rate, BD-rates and times.
    """
    aims = tuple(_positive(part, "--rates") for part in rates.split(",")) if rates else ()
    chosen = _numbers(efforts, "--efforts")

    def make(quick: bool) -> Table:
        from ..bench.rate_distortion import RateDistortion

        return RateDistortion(aims, chosen, gaussian_image, quick=quick)

    perform(context, folder, output, make, **given)


def speed(
    context: typer.Context,
    folder: Folder,
    output: Output,
    counts: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of Gaussians; by default 5000,20000 (quick: 2000).")
    ] = None,
    **given: Any,
) -> None:
    """A step, a fit, a file, decoding and renders.

    Decoders of other codecs take turns with ours.
    """
    numbers = _numbers(counts, "--counts")

    def make(quick: bool) -> Table:
        from ..bench.speed import Speed

        return Speed(numbers, quick=quick)

    perform(context, folder, output, make, **given)


def _positive(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"expected numbers above 0 such as 0.25,0.5, found {text!r}", param_hint=f"'{option}'")
    return value


def upsampling(context: typer.Context, folder: Folder, output: Output, **given: Any) -> None:
    """Fitted at half size, drawn at full size.

    Beside bicubic and Lanczos; and the time of a 4K render.
    """

    def make(quick: bool) -> Table:
        from ..bench.upsampling import Upsampling

        return Upsampling(quick=quick)

    perform(context, folder, output, make, **given)


def textures(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of maps of one size, or of such folders.")],
    output: Output,
    limit: Annotated[int | None, typer.Option(min=1, help="So many sets of maps, the first by name.")] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A trial of a minute: 2 sets, the middle 256 x 256 pixels of them, one rate."),
    ] = False,
    rates: Annotated[
        str | None,
        typer.Option(
            metavar="BITS,BITS",
            help="Bits per channel and pixel that ours aims at; by default 0.05,0.1,0.2,0.3 (quick: 0.1).",
        ),
    ] = None,
    effort: Annotated[int, typer.Option(min=1, max=9, help="Of ours.")] = 2,
    **given: Any,
) -> None:
    """Sets of maps beside texture formats and picture files.

    ASTC, BC1, BC4 and BC7; JPEG, WebP and AVIF at equal bytes; and what a texel costs.
    """
    aims = tuple(_positive(part, "--rates") for part in rates.split(",")) if rates else ()

    def make(quick: bool) -> Table:
        from ..bench.textures import Textures

        return Textures(aims, effort, quick=quick)

    perform(context, folder, output, make, limit=limit, quick=quick, **given)


def ablation(context: typer.Context, folder: Folder, output: Output, **given: Any) -> None:
    """What each choice of ours is worth.

    Those of the fit and of the codec, switched off once: decibels, bytes and seconds.
    """

    def make(quick: bool) -> Table:
        from ..bench.ablation import Ablation

        return Ablation(quick=quick)

    perform(context, folder, output, make, **given)


def gallery(
    context: typer.Context,
    folder: Folder,
    output: Output,
    bpp: Annotated[
        str | None,
        typer.Option(metavar="BPP,BPP", help="Bits per pixel that ours aims at; by default 0.15,0.5 (quick: 0.3)."),
    ] = None,
    effort: Annotated[int | None, typer.Option(min=1, max=9, help="Of ours, 1 to 9; by default 5 (quick: 2).")] = None,
    **given: Any,
) -> None:
    """Pictures to look at, in one page.

    JPEG, WebP, AVIF and JPEG XL of no more bytes, with a divider and one zoom for all.
    """
    rates = tuple(_positive(part, "--bpp") for part in bpp.split(",")) if bpp else ()

    def make(quick: bool) -> Table:
        from ..bench.gallery import Gallery

        return Gallery(rates, effort, quick=quick)

    perform(context, folder, output, make, **given)


def offer_app(folder: str, module: Any) -> None:
    """Give the group the tables of an app.

    Args:
        folder: the app's, below ``imagegs.apps``; its module ``bench`` has ``make_table(name, quick)``.
        module: it may have ``TABLES``: the help of each, by name.
    """
    for name, told in getattr(module, "TABLES", {}).items():
        add_table(app, name, _command_of(folder, name, told))


def _command_of(place: str, name: str, told: str) -> Callable[..., None]:
    def command(context: typer.Context, folder: Folder, output: Output, **given: Any) -> None:
        def make(quick: bool) -> Table:
            table: Table = importlib.import_module(f"imagegs.apps.{place}.bench").make_table(name, quick)
            return table

        perform(context, folder, output, make, **given)

    command.__doc__ = told
    return command


for table in (representation, rate_distortion, speed, upsampling, textures, ablation, gallery):
    add_table(app, table.__name__.replace("_", "-"), table)
