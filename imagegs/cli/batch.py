"""``imagegs batch``: a folder of pictures in one command."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from . import arguments, console, encode

BATCH = "Batch"
ALONE = ("report", "checkpoint", "resume")
"""Options of a single picture."""


@arguments.also(encode.options, without=ALONE)
def run(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="Pictures, folders, patterns or text files that list pictures; or URLs."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Folder of the files, manifest.jsonl and manifest.parquet; or its URL.")
    ],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default one for each core.", rich_help_panel=BATCH),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a picture that failed is tried again.", rich_help_panel=BATCH)
    ] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget files of other settings.", rich_help_panel=BATCH)
    ] = False,
    **given: Any,
) -> None:
    """Encode many pictures; what is done already is passed over, what fails does not stop the rest."""
    arguments.check_one("target", [name for name in encode.TARGETS if given[name] is not None])
    arguments.check_one("pace", [name for name in encode.PACES if given[name] is not None])
    from ..batching import find_jobs, run_batch

    jobs = find_jobs(sources, target)
    with console.counting("pictures", quiet=given["quiet"] or given["json"]) as count:
        summary = run_batch(
            jobs,
            target,
            encode.keywords(given),
            workers=workers,
            retries=retries,
            overwrite=overwrite,
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
    if given["json"]:
        console.print_json(facts)
    elif not given["quiet"]:
        console.print_table(_rows(facts, target))
    for record in summary.failed:
        typer.echo(f"imagegs: {record.error}", err=True)
    if summary.failed:
        raise typer.Exit(1)


def _rows(facts: dict[str, Any], target: str) -> list[tuple[str, str]]:
    rate = facts["encoded"] / max(facts["seconds"], 1e-9)
    return [
        ("encoded", f"{facts['encoded']:,} pictures, {facts['bytes']:,} bytes, in {target}"),
        ("there already", f"{facts['skipped']:,}"),
        ("failed", f"{len(facts['failed']):,}"),
        ("seconds", f"{facts['seconds']:.1f}, {rate:.2f} pictures a second"),
    ]
