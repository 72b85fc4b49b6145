"""The viewer's page: what a browser needs to draw a ``.gsimg`` file while its bytes arrive."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from imagegs.files import atomic_write

PAGE = "index.html"


def page_files() -> dict[str, bytes]:
    """Name and contents of the page and its scripts; they refer to each other by these names."""
    folder = files(__package__).joinpath("viewer")
    found = {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith((".html", ".js"))}
    return dict(sorted(found.items()))


def write_page(folder: Path) -> tuple[Path, ...]:
    """Copy the page and its scripts into a folder, for any web server.

    Args:
        folder: made where there is none; files of these names are replaced.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in page_files().items():
        atomic_write(folder / name, data)
        written.append(folder / name)
    return tuple(written)
