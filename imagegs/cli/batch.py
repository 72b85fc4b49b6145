"""``imagegs batch``: a folder of pictures in one command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import arguments, console, encode
from .help import GroupedCommand

if TYPE_CHECKING:
    from ..batching import BatchJob, Summary

Engine = Literal["local", "ray"]

BATCH = "Batch"
ALONE = ("report", "checkpoint", "resume")
"""Options of a single picture."""


def _encode_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    encode.check_choices(given)
    return encode.keywords(given), arguments.GSIMG


@dataclass(frozen=True)
class Offer:
    """What can be done with each picture.

    Attributes:
        options: a function whose parameters are its options.
        settings: makes of their values what work is told, and the endings of what it writes, the output's first.
    """

    options: Callable[..., Any]
    settings: Callable[[Mapping[str, Any]], tuple[dict[str, Any], tuple[str, ...]]]


OFFERS = {"encode": Offer(encode.options, _encode_settings)}
"""By what ``--app`` calls it; apps add themselves with `offer_app`."""


def offer_app(name: str, folder: str, module: Any) -> None:
    """Let ``--app`` choose an app.

    Args:
        name: what it is called.
        folder: the app's, below ``imagegs.apps``; its module ``batch`` has ``make``, see ``batching.making``.
        module: it has ``batch_options`` and ``batch_settings``, as `Offer` has them.
    """

    def settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        values, endings = module.batch_settings(given)
        return {"app": folder, **values}, endings

    OFFERS[name] = Offer(module.batch_options, settings)
    APP.help = f"What is done with each: {', '.join(OFFERS)}; the options are its own, see --app NAME --help."


class BatchCommand(GroupedCommand):
    """The command, with the options of what ``--app`` names in place of those of ``encode``."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """A context of the command that has these options."""
        name = _chosen(args)
        if name == "encode" or name not in OFFERS:
            return super().make_context(info_name, args, parent, **extra)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command("batch", cls=GroupedCommand)(arguments.also(OFFERS[name].options, without=ALONE)(_run))
        return typer.main.get_command(alone).make_context(info_name, args, parent, **extra)


def _chosen(words: Sequence[str]) -> str:
    name = "encode"
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == "--":
            break
        if word.startswith("--app="):
            name = word.partition("=")[2]
        elif word == "--app":
            name = following
    return name


def _checked_app(name: str) -> str:
    if name not in OFFERS:
        raise typer.BadParameter(f"expected one of {', '.join(OFFERS)}, found {name!r}")
    return name


APP = typer.Option(metavar="NAME", callback=_checked_app, rich_help_panel=BATCH, help="What is done with each: encode.")


def _run(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="Pictures, folders, patterns or text files that list pictures; or URLs."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Folder of the files, manifest.jsonl and manifest.parquet; or its URL.")
    ],
    app: Annotated[str, APP] = "encode",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures at once; by default what the cores allow.", rich_help_panel=BATCH),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(help="Processes of this machine, or tasks of a Ray cluster.", rich_help_panel=BATCH),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto|ray://HOST:PORT",
            help="Ray cluster to join; its nodes must reach SRC and DST by the same paths. By default that of "
            "RAY_ADDRESS, else Ray is started on this machine.",
            rich_help_panel=BATCH,
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a picture that failed is tried again.", rich_help_panel=BATCH)
    ] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget files of other settings.", rich_help_panel=BATCH)
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write an HTML page with all of them into this folder.", rich_help_panel=BATCH
        ),
    ] = None,
    **given: Any,
) -> None:
    """Encode many pictures, or let an app work on them; what is done is passed over, what fails stops no other."""
    settings, endings = OFFERS[app].settings(given)
    if report is not None:
        arguments.check_output_folder(report)
    from ..batching import app_one, encode_one, find_jobs, run_batch

    jobs = find_jobs(sources, target, endings)
    silent = given["quiet"] or given["json"]
    # Ray prints what befalls its nodes to the standard output, which is for the result alone
    with contextlib.redirect_stdout(sys.stderr), console.counting("pictures", quiet=silent) as count:
        summary = run_batch(
            jobs,
            target,
            settings,
            engine=engine,
            address=address,
            workers=workers,
            retries=retries,
            overwrite=overwrite,
            work=app_one if "app" in settings else encode_one,
            on_record=count,
        )
    facts = {
        "encoded": len(summary.done),
        "skipped": summary.skipped,
        "failed": [{"source": record.source, "error": record.error} for record in summary.failed],
        "bytes": sum(record.size for record in summary.done),
        "seconds": summary.seconds,
        "records": [asdict(record) for record in summary.records],
    }
    if report is not None:
        facts["report"] = str(_write_gallery(report, context, jobs, target, summary, workers, silent))
    if given["json"]:
        console.print_json(facts)
    elif not given["quiet"]:
        console.print_table(_rows(facts, target))
        if report is not None:
            typer.echo(f"report: {facts['report']}")
    for record in summary.failed:
        typer.echo(f"imagegs: {record.error}", err=True)
    if summary.failed:
        raise typer.Exit(1)


run = arguments.also(encode.options, without=ALONE)(_run)


def _write_gallery(
    report: Path,
    context: typer.Context,
    jobs: Sequence[BatchJob],
    target: str,
    summary: Summary,
    workers: int | None,
    silent: bool,
) -> Path:
    from ..batching import place_in
    from ..batching.places import place_of
    from ..gallery import write_gallery

    by_output = {place_in(job, place_of(target)): job for job in jobs}
    records = [record for record in summary.records if record.output in by_output]
    command = arguments.command_line(context, json=None, quiet=None)
    with console.counting("thumbnails", quiet=silent) as count:
        return write_gallery(report, by_output, records, command, workers=workers, on_picture=count)


def _rows(facts: dict[str, Any], target: str) -> list[tuple[str, str]]:
    rate = facts["encoded"] / max(facts["seconds"], 1e-9)
    return [
        ("done", f"{facts['encoded']:,} pictures, {facts['bytes']:,} bytes, in {target}"),
        ("there already", f"{facts['skipped']:,}"),
        ("failed", f"{len(facts['failed']):,}"),
        ("seconds", f"{facts['seconds']:.1f}, {rate:.2f} pictures a second"),
    ]
