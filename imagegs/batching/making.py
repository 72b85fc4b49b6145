"""What is made of one picture, by ``imagegs.encode`` or by an app, and how it becomes files and a record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from . import places
from .jobs import BatchJob
from .records import Record

if TYPE_CHECKING:
    from ..encoding import Encoded
    from ..image import Picture


@dataclass(frozen=True)
class EncodeTask:
    """A picture to encode.

    Attributes:
        job: the picture.
        place: of the output, as its record calls it.
        settings: arguments of ``imagegs.encode``; or those of an app, whose folder's name is ``app`` among them.
        key: name of the settings.
    """

    job: BatchJob
    place: str
    settings: Mapping[str, Any]
    key: str

    @property
    def name(self) -> str:
        """The picture's file."""
        return str(self.job.source)

    @property
    def record(self) -> Record:
        """What is known before it is done."""
        return Record(self.name, self.place, self.key)


@dataclass(frozen=True, eq=False)
class Made:
    """What came of a picture.

    Attributes:
        data: the output's bytes.
        width: of what it shows, pixels.
        height: likewise.
        psnr: of what it shows, dB; None where there is nothing to compare with.
        beside: ending and bytes of another file, which has the output's name otherwise.
    """

    data: bytes
    width: int
    height: int
    psnr: float | None = None
    beside: tuple[str, bytes] | None = None

    @classmethod
    def of(cls, encoded: Encoded) -> Made:
        """A ``.gsimg`` file."""
        return cls(encoded.data, encoded.picture.width, encoded.picture.height, encoded.psnr)


Make: TypeAlias = Callable[["Picture", bytes, Mapping[str, Any]], Made]
"""Makes something of a picture, its file's bytes and the settings; in an app it is ``make`` of the module ``batch``."""


def encode_one(task: EncodeTask) -> Record:
    """Encode one picture and write its file.

    Raises:
        ImageGSError: it cannot be.
    """
    return _made(task, _encode)


def app_one(task: EncodeTask) -> Record:
    """Let an app make what it makes of one picture, and write its files.

    Raises:
        ImageGSError: it cannot be.
    """
    # apps stand on this package, which therefore names none of them
    make: Make = import_module(f"imagegs.apps.{task.settings['app']}.batch").make
    return _made(task, make)


def _encode(picture: Picture, data: bytes, settings: Mapping[str, Any]) -> Made:
    from ..encoding import encode

    return Made.of(encode(picture, **settings))


def _made(task: EncodeTask, make: Make) -> Record:
    from ..image import read_image
    from ..kernels import native

    data = places.read(task.job.source)
    with native.threads(task.settings.get("threads")):
        made = make(read_image(task.name, data=data), data, task.settings)
    beside = ""
    if made.beside is not None:
        ending, content = made.beside
        beside = PurePosixPath(task.place).with_suffix(ending).as_posix()
        places.write(task.job.output.with_suffix(ending), content)
    places.write(task.job.output, made.data)  # the last, so that both are there where it is
    return replace(
        task.record,
        beside=beside,
        digest=hashlib.sha256(data).hexdigest(),
        width=made.width,
        height=made.height,
        size=len(made.data),
        bpp=8 * len(made.data) / (made.width * made.height),
        psnr=made.psnr,
    )
