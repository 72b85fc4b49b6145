"""Small pictures of what was there and of what came of it, drawn in processes too."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import places
from .engines import LocalEngine
from .jobs import ENDING, BatchJob

if TYPE_CHECKING:
    from ..image import Picture

SIDE = 192
"""Longest side of a thumbnail, pixels."""
_QUALITY = 75


@dataclass(frozen=True)
class Thumbnails:
    """Of one picture.

    Attributes:
        original: the bytes of a WebP file.
        result: of what the output shows, likewise.
    """

    original: bytes
    result: bytes


@dataclass(frozen=True)
class ThumbnailTask:
    """A picture to draw small.

    Attributes:
        job: the picture and its output.
        index: which of the jobs it is.
    """

    job: BatchJob
    index: int

    @property
    def name(self) -> str:
        """The picture's file."""
        return str(self.job.source)


def draw_thumbnails(
    jobs: Sequence[BatchJob], *, workers: int | None = None
) -> Iterator[tuple[int, Thumbnails | None, str | None]]:
    """Draw pictures and their outputs small, several at a time.

    Args:
        jobs: whose outputs are there.
        workers: processes; by default one for each core.

    Yields:
        As they are through, the index of a job, and its thumbnails or why there are none.
    """
    with LocalEngine(workers, most=len(jobs)) as engine:
        tasks = (ThumbnailTask(job, index) for index, job in enumerate(jobs))
        for outcome in engine.run(draw_one, tasks):
            yield outcome.task.index, outcome.result, outcome.error


def draw_one(task: ThumbnailTask) -> Thumbnails:
    """Draw one picture and its output small.

    Raises:
        ImageGSError: one of both cannot be read.
    """
    from ..decoding import decode
    from ..image import read_image

    original = read_image(task.name, data=places.read(task.job.source))
    data, output = places.read(task.job.output), task.job.output
    result = decode(data, threads=1) if output.suffix == ENDING else read_image(str(output), data=data)
    return Thumbnails(_small(original), _small(result))


def _small(picture: Picture) -> bytes:
    """The picture, or the first of a stack, as a small WebP file."""
    from PIL import Image

    values = np.round(255 * np.clip(picture.pixels[picture.info.slices[0]], 0, 1)).astype(np.uint8)
    image = Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.convert("RGBA" if picture.info.planes[0].alpha else "RGB").save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
