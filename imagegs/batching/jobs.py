"""What is to be done: each picture, and the file that is to come of it."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import ConfigError, ImageError
from . import places
from .places import Place, Url, place_of

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

    source: Place
    output: Place


def find_jobs(
    sources: Sequence[str | Place], target: str | Place, endings: Sequence[str] = (ENDING,)
) -> tuple[BatchJob, ...]:
    """Every picture that is meant, in the order of the sources and by name inside each.

    Args:
        sources: pictures; folders, whose pictures are found at any depth and keep their place below; patterns such as
            ``shots/**/*.png``; or text files (.txt, .lst) with one picture on each line, relative to their own folder.
            Each of them may be a URL such as ``s3://bucket/shots``, and so may the lines of a list.
        target: the folder of the outputs, or its URL.
        endings: of the outputs, and of what is made beside them.

    Raises:
        ImageError: a source is absent, or cannot be read.
        ConfigError: a source has no pictures, two have the same output, or an output would replace a picture.
    """
    folder = place_of(target)
    jobs: dict[Place, BatchJob] = {}
    for source in sources:
        found = list(_pictures(source))
        if not found:
            raise ConfigError(f"{place_of(source)}: expected pictures, found none")
        for picture, below in found:
            job = BatchJob(picture, folder / below.with_suffix(endings[0]))
            other = jobs.setdefault(job.output, job)
            if _resolved(other.source) != _resolved(picture):
                raise ConfigError(f"{job.output}: expected one picture for it, found {other.source} and {picture}")
    for ending in filter(is_picture, endings):
        pictures = {_resolved(job.source) for job in jobs.values()}
        for job in jobs.values():
            output = job.output.with_suffix(ending)
            if _resolved(output) in pictures:
                raise ConfigError(f"{output}: expected an output beside the pictures, found one of them there")
    return tuple(jobs.values())


def _pictures(source: str | Place) -> Iterator[tuple[Place, PurePosixPath]]:
    """Pictures of a source, and where each goes below the target."""
    path = place_of(source)
    if isinstance(path, Url):
        yield from _pictures_of_url(path)
    elif path.is_dir():
        for picture in sorted(path.rglob("*")):
            below = PurePosixPath(picture.relative_to(path).as_posix())
            if is_picture(picture.name) and _is_shown(below) and picture.is_file():
                yield picture, below
    elif path.suffix.lower() in LISTS and path.is_file():
        for listed in _listed(path, path.parent):
            if isinstance(listed, Path) and not listed.is_file():
                raise ImageError(f"{listed}: cannot be read: named in {path}, but there is no such file")
            yield listed, PurePosixPath(listed.name)
    elif path.exists():
        yield path, PurePosixPath(path.name)
    elif glob.has_magic(str(source)):
        for name in sorted(glob.glob(str(source), recursive=True)):
            if is_picture(name) and Path(name).is_file():
                yield Path(name), PurePosixPath(Path(name).name)
    else:
        raise ImageError(f"{source}: cannot be read: no such file or folder")


def _pictures_of_url(url: Url) -> Iterator[tuple[Place, PurePosixPath]]:
    if url.is_pattern:
        for found in places.matches(url):
            if is_picture(found.name):
                yield found, PurePosixPath(found.name)
    elif url.suffix.lower() in LISTS:
        for listed in _listed(url, url.parent):
            yield listed, PurePosixPath(listed.name)
    elif places.is_folder(url):
        for below in places.files_below(url):
            if is_picture(below.name) and _is_shown(below):
                yield url / below, below
    else:
        places.check(url)
        yield url, PurePosixPath(url.name)


def _listed(path: Place, folder: Place) -> Iterator[Place]:
    """What the lines of a text file name."""
    for line in places.read(path).decode("utf-8", "replace").splitlines():
        if line.strip():
            named = place_of(line.strip())
            yield named if isinstance(named, Url) else folder / line.strip()


def is_picture(name: str) -> bool:
    """Whether a file's ending is that of a picture that can be read."""
    from ..rasters import FORMATS

    return PurePosixPath(f"a{name}").suffix.lower() in {*FORMATS, *READ_ONLY}


def _is_shown(below: PurePosixPath) -> bool:
    return not any(part.startswith(".") for part in below.parts)


def _resolved(place: Place) -> Place:
    return place.resolve() if isinstance(place, Path) else place
