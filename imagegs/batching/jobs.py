"""What is to be done: each picture, and the file that is to come of it."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, ImageError
from ..files import read_bytes

LISTS = (".txt", ".lst")
ENDING = ".gsimg"
READ_ONLY = (".bmp", ".gif")
"""Besides those that are written, too."""


@dataclass(frozen=True)
class BatchJob:
    """One picture.

    Attributes:
        source: the picture's file.
        output: the file to make of it.
    """

    source: Path
    output: Path


def find_jobs(sources: Sequence[str | Path], target: Path) -> tuple[BatchJob, ...]:
    """Every picture that is meant, in the order of the sources and by name inside each.

    Args:
        sources: pictures; folders, whose pictures are found at any depth and keep their place below; patterns such as
            ``shots/**/*.png``; or text files (.txt, .lst) with one picture on each line, relative to their own folder.
        target: the folder of the outputs.

    Raises:
        ImageError: a source is absent, or cannot be read.
        ConfigError: a source has no pictures, or two have the same output.
    """
    jobs: dict[Path, BatchJob] = {}
    for source in sources:
        found = list(_pictures(str(source)))
        if not found:
            raise ConfigError(f"{source}: expected pictures, found none")
        for path, place in found:
            job = BatchJob(path, target / place.with_suffix(ENDING))
            other = jobs.setdefault(job.output, job)
            if other.source.resolve() != path.resolve():
                raise ConfigError(f"{job.output}: expected one picture for it, found {other.source} and {path}")
    return tuple(jobs.values())


def _pictures(source: str) -> Iterator[tuple[Path, Path]]:
    """Pictures of a source, and where each goes below the target."""
    path = Path(source)
    if path.is_dir():
        for picture in sorted(path.rglob("*")):
            place = picture.relative_to(path)
            if is_picture(picture) and not any(part.startswith(".") for part in place.parts) and picture.is_file():
                yield picture, place
    elif path.suffix.lower() in LISTS and path.is_file():
        for line in read_bytes(path).decode("utf-8", "replace").splitlines():
            if line.strip():
                picture = path.parent / line.strip()
                if not picture.is_file():
                    raise ImageError(f"{picture}: cannot be read: named in {path}, but there is no such file")
                yield picture, Path(picture.name)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(source):
        for name in sorted(glob.glob(source, recursive=True)):
            if is_picture(Path(name)) and Path(name).is_file():
                yield Path(name), Path(Path(name).name)
    else:
        raise ImageError(f"{source}: cannot be read: no such file or folder")


def is_picture(path: Path) -> bool:
    """Whether a file's ending is that of a picture that can be read."""
    from ..rasters import FORMATS

    return path.suffix.lower() in {*FORMATS, *READ_ONLY}
