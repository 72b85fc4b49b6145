"""``imagegs saliency``: maps of importance, and files whose bits follow them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imagegs.cli import arguments, console, encode, results
from imagegs.cli.help import GroupedCommand, make_group

if TYPE_CHECKING:
    from imagegs import Encoded

    from .sources import Sources

# Written out here as well as in their modules, since importing those would load NumPy before --help.
Combination = Literal["max", "mean", "product"]
Method = Literal["attention", "features"]
MODELS = ("builtin", "emlnet", "vit", "fastgaze", "prompt")
EFFECTS = ("start", "growth", "loss", "rounding", "order")

IMPORTANCE = "Importance"
MAPS = (".png", ".npy")

TABLES = {"saliency": "What importance moves at equal bytes.\n\nBy strength, with the map of the built-in model."}
"""Of ``imagegs bench``."""

app = make_group("saliency", "Let what a picture is about decide where Gaussians and bits go.")


def sources(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(MODELS)}; again for more. By default builtin, unless there is a prompt, mask or box.",
            rich_help_panel=IMPORTANCE,
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help='What matters, in words: "the face, the sign:0.5".', rich_help_panel=IMPORTANCE
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Picture of the same size: brighter matters.", rich_help_panel=IMPORTANCE),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H[,WEIGHT]", help="Box that matters, pixels; again for more.", rich_help_panel=IMPORTANCE
        ),
    ] = None,
    combine: Annotated[
        Combination, typer.Option(help="How several maps become one.", rich_help_panel=IMPORTANCE)
    ] = "max",
    vit: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="timm's name of the transformer.", rich_help_panel=IMPORTANCE),
    ] = None,
    vit_method: Annotated[
        Method, typer.Option(help="What of the transformer is looked at.", rich_help_panel=IMPORTANCE)
    ] = "attention",
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the models' weights.", rich_help_panel=IMPORTANCE),
    ] = None,
) -> dict[str, Any]:
    """Where importance comes from."""
    return dict(locals())


def _sources_of(given: Mapping[str, Any]) -> Sources:
    from .regions import parse_box
    from .sources import Sources

    return Sources(
        models=arguments.check_each("--model", given["model"], MODELS),
        prompt=given["prompt"],
        mask=given["mask"],
        boxes=tuple(parse_box(text) for text in given["roi"] or ()),
        how=given["combine"],
        vit=given["vit"],
        vit_method=given["vit_method"],
        weights=given["weights"],
    )


@app.command("map", cls=GroupedCommand)
@arguments.also(sources)
def write_map(
    source: encode.Source,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MAP", help="Map to write: .png (grey) or .npy.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    **given: Any,
) -> None:
    """Write where a picture matters: brighter is more important."""
    arguments.check_output(output, MAPS)
    from imagegs import read_image

    from .maps import write
    from .sources import make_importance

    asked = _sources_of(given)
    found = make_importance(asked)(read_image(source))
    write(output, found)
    if not quiet:
        share = f"{100 * float((found >= 0.5 * found.max()).mean()):.1f} %"
        rows = [("map", str(output)), ("from", ", ".join(asked.names)), ("at least half of its maximum", share)]
        console.print_table(rows)


def effects(
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="0 is plain encode, 1 most.", rich_help_panel=IMPORTANCE)
    ] = 0.5,
    floor: Annotated[
        float,
        typer.Option(
            min=0.0001, max=1, help="What the least important pixel counts, at strength 1.", rich_help_panel=IMPORTANCE
        ),
    ] = 0.02,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EFFECT",
            help=f"Leave out {', '.join(EFFECTS)}, to see what it is worth; again for more.",
            rich_help_panel=IMPORTANCE,
        ),
    ] = None,
) -> dict[str, Any]:
    """What importance does."""
    return dict(locals())


@app.command("encode", cls=GroupedCommand)
@arguments.also(encode.options)
@arguments.also(sources)
@arguments.also(effects)
def encode_picture(
    context: typer.Context,
    source: encode.Source,
    output: encode.Output,
    **given: Any,
) -> None:
    """Write a .gsimg file whose Gaussians and bits lie where the picture matters. The map is not in the file."""
    encode.check(output, given)
    left_out, strength, floor = _left_out(given), given["strength"], given["floor"]
    from imagegs import read_image

    from .guide import guidance_of
    from .scores import score
    from .sources import make_importance

    asked = _sources_of(given)
    picture = read_image(source)
    importance = make_importance(asked)(picture)
    guidance = guidance_of(importance, strength, floor, left_out)
    encoded = encode.perform(context, picture, output, given, guidance=guidance)
    figures = results.write(encoded, output)
    facts: dict[str, Any] = {"importance": list(asked.names), "strength": strength, "floor": floor}
    rows = [("importance from", ", ".join(asked.names)), ("strength", f"{strength:g}")]
    if importance.max() > 0:
        scores = score(picture.pixels, encoded.decoded, importance)
        facts |= {"scores": scores.to_dict()}
        rows += [
            ("weighted PSNR", f"{scores.weighted_psnr:.2f} dB"),
            (f"PSNR of the {100 * scores.region_share:.1f} % that matter", f"{scores.region_psnr:.2f} dB"),
        ]
        if scores.outside_psnr is not None:
            rows.append(("PSNR of the rest", f"{scores.outside_psnr:.2f} dB"))
    command, page = encode.command_of(context), None
    if given["report"] is not None:
        from .report import Pair, write_report

        plain = _plain_of(encoded, given)
        pair = Pair(plain, encoded, importance, asked.names, strength)
        page = write_report(given["report"], pair, figures | facts, command)
    quiet, as_json = given["quiet"], given["json"]
    results.present(encoded, output, command, figures | facts, page, quiet=quiet, as_json=as_json, more=rows)
    encode.drop_checkpoint(output, given)


def _left_out(given: Mapping[str, Any]) -> tuple[str, ...]:
    return arguments.check_each("--without", given["without"], EFFECTS)


@arguments.also(encode.options)
@arguments.also(sources)
@arguments.also(effects)
def batch_options(**given: Any) -> None:
    """What ``imagegs batch --app saliency`` can be told."""


def batch_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options for ``batch.make``, and the endings of the files."""
    encode.check_choices(given)
    left_out = _left_out(given)
    settings = {
        "encode": encode.keywords(given) | {"threads": None},
        "sources": _sources_of(given).settings,
        "strength": given["strength"],
        "floor": given["floor"],
        "without": left_out,
    }
    return settings | {"threads": given["threads"]}, arguments.GSIMG


def _plain_of(encoded: Encoded, given: Mapping[str, Any]) -> Encoded:
    """The same picture without guidance, as large; in files of fixed widths, of as many Gaussians."""
    from imagegs import encode as encode_plain

    options = {name: value for name, value in encode.keywords(given).items() if name not in encode.TARGETS}
    fixed = options["bits"] is not None or given["profile"] is not None
    options |= {"gaussians": len(encoded.gaussians)} if fixed else {"size": len(encoded.data)}
    with console.fit_progress(quiet=given["quiet"]) as on_step:
        return encode_plain(encoded.picture, on_step=on_step, **options)


@app.command("eval", cls=GroupedCommand)
@arguments.also(sources)
def evaluate(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with images/ and fixations/; see the README for the layout.")
    ],
    human: Annotated[
        bool, typer.Option("--human", help="The fixations themselves as the map: what is possible.")
    ] = False,
    bpp: Annotated[
        float | None,
        typer.Option(min=0.01, help="Compress too, to so many bits per pixel: plain and by the map at the same bytes."),
    ] = None,
    strength: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="With --bpp; again for more. By default 0.5 and 1.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="EFFECT", help=f"With --bpp, leave out {', '.join(EFFECTS)}; again for more."),
    ] = None,
    effort: Annotated[int, typer.Option("-e", "--effort", min=1, max=9, help="With --bpp.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, picture by picture.")] = False,
    **given: Any,
) -> None:
    """Score maps against human fixations, and what they are worth in files of the same size."""
    left_out = arguments.check_each("--without", without, EFFECTS)
    from . import evaluation
    from .fixations import read_fixations, tabulate

    asked = _sources_of(given)
    samples = read_fixations(data)
    maps = [sample.density for sample in samples] if human else evaluation.maps_of(asked, samples)
    name = "human fixations" if human else ", ".join(asked.names)
    table, beside = tabulate(maps, samples), evaluation.baseline(samples)
    rows = []
    if bpp is not None:
        with console.counting("encode", len(samples) * (1 + len(strength or (0.5, 1.0))), quiet=json) as count:
            rows = evaluation.compression_rows(
                maps,
                samples,
                bpp=bpp,
                strengths=strength or (0.5, 1.0),
                without=left_out,
                effort=effort,
                on_row=lambda row: count(),
            )
    if json:
        console.print_json(evaluation.to_dict(name, table, beside, rows))
        return
    typer.echo(f"Importance from {name}, against where people looked:")
    header = ("picture", *evaluation.FIXATION_SCORES.values())
    console.print_table(evaluation.fixation_rows(table, beside), header=header)
    if rows:
        typer.echo("Guided against plain files of the same size, PSNR in dB and MS-SSIM, by where people looked:")
        header = ("strength", *evaluation.GAINS.values(), "bytes")
        console.print_table(evaluation.gain_rows(rows), header=header)
