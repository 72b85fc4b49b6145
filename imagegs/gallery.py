"""One HTML page about a batch: what came of each picture, small, beside the picture itself; and the records as JSON.

The page holds everything in itself, so that it works offline and can be sent as one file. A page of ten thousand
pictures would not open: it shows some of them, spread evenly by name, and says so; report.json has all records.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .batching import BatchJob, Record, Thumbnails, draw_thumbnails
from .errors import without_user
from .figures import json_text
from .files import atomic_write_folder
from .pages import fill_page
from .report import DATA, PAGE, data_uri

MOST_SHOWN = 1000
MOST_FAILURES = 1000
"""Of pictures, and of lines about pictures that failed, on the page."""
_SORTS = (("name", "name", 1), ("bytes", "size", -1), ("bits per pixel", "bpp", -1), ("PSNR", "psnr", 1))


def write_gallery(
    folder: str | Path,
    jobs: Mapping[str, BatchJob],
    records: Sequence[Record],
    command: str,
    *,
    workers: int | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the page and ``report.json`` into a folder, which is made if its parent exists.

    Args:
        folder: where to write.
        jobs: of the batch, by the name of the output.
        records: of these outputs.
        command: how to reproduce it, as one would type it; names and passwords in URLs are not shown.
        workers: processes that draw; by default one for each core.
        on_picture: called with how many are drawn, and of how many.

    Returns:
        The page's path.

    Raises:
        ImageError: the folder cannot be made or written.
    """
    command = without_user(command)
    done = [record for record in records if record.error is None]
    shown = spread(done, MOST_SHOWN)
    drawn: dict[int, Thumbnails | str] = {}
    if shown:
        for index, thumbnails, error in draw_thumbnails([jobs[record.output] for record in shown], workers=workers):
            drawn[index] = thumbnails or str(error)
            if on_picture is not None:
                on_picture(len(drawn), len(shown))
    pictures = [_picture(record, drawn[index]) for index, record in enumerate(shown)]
    page = render_page(records, pictures, command).encode()
    data = json_text({"command": command, "records": [asdict(record) for record in records]}).encode()
    atomic_write_folder(folder, {PAGE: lambda: page, DATA: lambda: data})
    return Path(folder) / PAGE


def render_page(records: Sequence[Record], pictures: Sequence[Mapping[str, Any]], command: str) -> str:
    """The page of `write_gallery`, as text."""
    done = [record for record in records if record.error is None]
    failed = [record for record in records if record.error is not None]
    return fill_page(
        "imagegs",
        "gallery.html.j2",
        title=f"{len(records):,} pictures" if len(records) != 1 else "1 picture",
        tiles=[{"name": name, "value": value, "unit": unit} for name, value, unit in _tiles(done, failed)],
        failed=failed[:MOST_FAILURES],
        more_failed=max(0, len(failed) - MOST_FAILURES),
        pictures=pictures,
        hidden=len(done) - len(pictures),
        sorts=[{"title": title, "key": key, "sign": sign} for title, key, sign in _SORTS],
        command=command,
    )


def spread(records: Sequence[Record], most: int) -> list[Record]:
    """At most so many of the records, spread evenly."""
    count = min(len(records), most)
    return [records[index * len(records) // count] for index in range(count)]


def _tiles(done: Sequence[Record], failed: Sequence[Record]) -> list[tuple[str, str, str]]:
    size, pixels = sum(record.size for record in done), sum(record.width * record.height for record in done)
    psnrs = [record.psnr for record in done if record.psnr is not None]
    tiles = [("pictures", f"{len(done):,}", ""), ("failed", f"{len(failed):,}", ""), ("files", f"{size:,}", "bytes")]
    if pixels:
        tiles.append(("rate", f"{8 * size / pixels:.3f}", "bit/pixel"))
    if psnrs:
        tiles.append(("PSNR, median", f"{statistics.median(psnrs):.2f}", "dB"))
    seconds = sum(record.seconds for record in done)
    return [*tiles, ("work of all processes", f"{seconds:,.1f}", "s")]


def _picture(record: Record, drawn: Thumbnails | str) -> dict[str, Any]:
    """What the page shows of one picture."""
    psnr = "" if record.psnr is None else f", {record.psnr:.2f} dB"
    return {
        "name": record.output,
        "source": record.source,
        "size": record.size,
        "bpp": f"{record.bpp:.6f}",
        "psnr": "" if record.psnr is None else f"{record.psnr:.4f}",
        "text": f"{record.width} × {record.height}, {record.size:,} bytes, {record.bpp:.3f} bit/pixel{psnr}",
        "original": "" if isinstance(drawn, str) else data_uri(drawn.original, "image/webp"),
        "result": "" if isinstance(drawn, str) else data_uri(drawn.result, "image/webp"),
        "error": drawn if isinstance(drawn, str) else "",
    }
