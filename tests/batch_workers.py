"""Work that goes wrong, for processes to import."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

from imagegs.batching import Record
from imagegs.batching.making import EncodeTask, encode_one


def crash_on_some(task: EncodeTask) -> Record:
    """The process dies on pictures called crash, as it would on what crashes a decoder."""
    if "crash" in task.job.source.name:
        os._exit(7)
    return encode_one(task)


def fail_once(task: EncodeTask) -> Record:
    """Fails the first time with each picture."""
    mark = Path(f"{task.job.source}.tried")
    if not mark.exists():
        mark.touch()
        raise RuntimeError("not yet")
    return encode_one(task)


def fill_the_disk(task: EncodeTask) -> Record:
    """There is no room for the file."""
    with mock.patch("imagegs.files.os.fsync", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        return encode_one(task)
