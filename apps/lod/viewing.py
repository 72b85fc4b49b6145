"""The viewer's page: what a browser needs to draw a ``.gsimg`` file while its bytes arrive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from imagegs import Decoder, ImageError
from imagegs.files import atomic_write, read_bytes

PAGE = "index.html"
_SOURCE = 'data-src=""'
"""Where the page says which file it shows unless its address does."""


def page_files(source: str = "") -> dict[str, bytes]:
    """Name and contents of the page and its scripts, which refer to each other by these names.

    The scripts run as they are written, too; without comments and long names they are half as large.

    Args:
        source: address of the file that the page shows where its own address has no ``?src=``.
    """
    found = dict(_small_files())
    found[PAGE] = found[PAGE].replace(_SOURCE.encode(), f'data-src="{escape(source)}"'.encode(), 1)
    return found


@cache
def _small_files() -> dict[str, bytes]:
    found = {}
    for item in sorted(files(__package__).joinpath("viewer").iterdir(), key=lambda item: item.name):
        if item.name.endswith(".html"):
            found[item.name] = item.read_bytes()
        elif item.name.endswith(".js"):
            found[item.name] = _shortened(item.read_text(encoding="utf-8")).encode()
    return found


def _shortened(script: str) -> str:
    try:
        import minify  # of tdewolff-minify
    except ImportError:
        return script
    return str(minify.string("application/javascript", script))


def write_page(folder: str | Path, source: str | Path) -> Path:
    """Write a page that shows a file, with the file, for any web server.

    Args:
        folder: made where there is none; files of the same names are replaced.
        source: the ``.gsimg`` file.

    Returns:
        The path of the page.

    Raises:
        ImageError: the file is missing, or the folder cannot be written.
        FormatError: the file is none, or ends before its first level does.
    """
    folder, name, data = Path(folder), Path(source).name, _read(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{folder}: expected a folder to write into: {(error.strerror or '').lower()}") from error
    for where, contents in {name: data, **page_files(quote(name))}.items():
        atomic_write(folder / where, contents)
    return folder / PAGE


def show(
    source: str | Path, host: str = "127.0.0.1", port: int = 0, *, on_start: Callable[[str], None] | None = None
) -> None:
    """Serve the viewer with one file, and nothing else, until the process is interrupted.

    Args:
        source: the ``.gsimg`` file, as it is now.
        host: address or name to listen on.
        port: 0 takes a free one.
        on_start: called with the page's URL once connections are accepted.

    Raises:
        ImageError: the file is missing.
        FormatError: it is no such file, or ends before its first level does.
        ConfigError: nothing can be listened on there.
    """
    from .server import VIEWER, serve

    name, data = Path(source).name, _read(source)

    def started(url: str) -> None:
        if on_start is not None:
            on_start(f"{url}{VIEWER}/{PAGE}")

    with tempfile.TemporaryDirectory() as nothing:
        serve(nothing, host, port, viewer={name: data, **page_files(quote(name))}, cors=False, on_start=started)


def _read(source: str | Path) -> bytes:
    """The bytes of a file that a viewer can show."""
    data = read_bytes(source)
    decoder = Decoder(name=str(source))
    decoder.feed(data)
    decoder.finish()
    return data
