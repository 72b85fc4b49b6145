"""Work for Ray's processes to import: it waits, it is killed, or it says where it ran."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import NamedTuple

from imagegs.batching import Record
from imagegs.batching.making import EncodeTask, encode_one


class Errand(NamedTuple):
    """A task without a picture.

    Attributes:
        name: what an error calls it.
        folder: of its marks.
    """

    name: str
    folder: Path


def say_where(task: Errand) -> tuple[str, str, dict[str, str]]:
    """The folder, a relative path seen from it, and the variables."""
    return os.getcwd(), Path("here").read_text(), dict(os.environ)


def say_slowly(task: Errand) -> str:
    """Its name, after some pulses of the engine."""
    time.sleep(0.3)
    return task.name


def give_what_cannot_be_sent(task: Errand) -> object:
    """A lock."""
    return threading.Lock()


def wait_for(path: Path, seconds: float = 60) -> None:
    """Until a file is there."""
    last = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > last:
            raise RuntimeError(f"{path.name} never came")
        time.sleep(0.05)


def linger(task: Errand) -> str:
    """Leaves NAME.begun, waits for NAME.free, and leaves NAME.ended however it ends."""
    (task.folder / f"{task.name}.begun").touch()
    try:
        wait_for(task.folder / f"{task.name}.free")
    finally:
        (task.folder / f"{task.name}.ended").touch()
    return task.name


def encode_when_freed(task: EncodeTask) -> Record:
    """Leaves the node's name beside the picture and waits for a file called free there, then encodes."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    (task.job.source.parent / f"{task.job.source.stem}.{node}").touch()
    wait_for(task.job.source.parent / "free")
    return encode_one(task)


def killed_once(task: EncodeTask) -> Record:
    """The first time with each picture the process is killed from outside, once the picture's file is written."""
    record = encode_one(task)
    mark = Path(f"{task.job.source}.killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return record
