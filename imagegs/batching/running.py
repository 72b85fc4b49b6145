"""Doing it: processes that take one picture at a time, and whose death costs no more than that picture."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ImageError
from ..files import atomic_write, read_bytes
from .engines import Outcome
from .jobs import BatchJob
from .opening import check_engine, open_engine
from .records import NAME, Manifest, Record


@dataclass(frozen=True)
class Summary:
    """What came of a batch.

    Attributes:
        done: records of pictures that were encoded now.
        skipped: how many were there already, of the same picture and settings.
        failed: records of those that could not be encoded.
        seconds: that it took.
    """

    done: tuple[Record, ...]
    skipped: int
    failed: tuple[Record, ...]
    seconds: float


def settings_key(settings: Mapping[str, Any]) -> str:
    """A name of settings, equal where the files would be equal: threads do not count."""
    kept = {name: value for name, value in settings.items() if name != "threads" and value is not None}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=repr).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EncodeTask:
    """A picture to encode.

    Attributes:
        job: the picture.
        place: of the output, as its record calls it.
        settings: arguments of ``imagegs.encode``.
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


def encode_one(task: EncodeTask) -> Record:
    """Encode one picture and write its file.

    Raises:
        ImageGSError: it cannot be.
    """
    from ..encoding import encode
    from ..image import read_image

    digest = hashlib.sha256(read_bytes(task.job.source)).hexdigest()
    encoded = encode(read_image(task.job.source), **task.settings)
    task.job.output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(task.job.output, encoded.data)
    picture = encoded.picture
    return replace(
        task.record,
        digest=digest,
        width=picture.width,
        height=picture.height,
        size=len(encoded.data),
        bpp=encoded.bpp,
        psnr=encoded.psnr,
    )


Work = Callable[[EncodeTask], Record]
"""What is done with a picture, like `encode_one`."""


def run_batch(
    jobs: Sequence[BatchJob],
    target: Path,
    settings: Mapping[str, Any],
    *,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    retries: int = 1,
    overwrite: bool = False,
    work: Work = encode_one,
    on_record: Callable[[int, int], None] | None = None,
) -> Summary:
    """Encode pictures, several at a time; those that are done are passed over.

    Args:
        jobs: see `find_jobs`.
        target: folder of the outputs and of the manifest; made if it is not there.
        settings: arguments of ``imagegs.encode``, ``threads`` among them: of each process.
        engine: where it is done, see `open_engine`: "local" or "ray".
        address: of the Ray cluster; its nodes reach pictures and outputs by the same paths as this machine.
        workers: pictures at once; by default what the engine's cores allow, but no more than pictures.
        retries: how often a picture that failed is tried again.
        overwrite: forget what was made with other settings.
        work: what makes the file and the record of a picture, in another process: a function that can be imported.
        on_record: called with how many pictures are through, and of how many.

    Raises:
        ConfigError: numbers out of range, an engine that is not known, or a manifest of other settings.
        ImageError: the folder cannot be written.
        DeviceError: the engine's package is absent, or its cluster cannot be reached.
    """
    if (workers is not None and workers < 1) or retries < 0:
        raise ConfigError(f"batch: expected workers from 1 and retries from 0, found {workers} and {retries}")
    check_engine(engine, address)
    began = time.perf_counter()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{target}: cannot be made: {(error.strerror or str(error)).lower()}") from error
    if not os.access(target, os.W_OK | os.X_OK):
        raise ImageError(f"{target}: cannot be written: no permission in this folder")
    key = settings_key(settings)
    if overwrite:
        (target / NAME).unlink(missing_ok=True)
    done: list[Record] = []
    failed: list[Record] = []
    with Manifest(target, key) as manifest:
        skipped = 0

        def through() -> None:
            if on_record is not None:
                on_record(skipped + len(done) + len(failed), len(jobs))

        todo = []
        for job in jobs:
            if manifest.has(_place(job, target), digest_of(job.source), target):
                skipped += 1
                through()
            else:
                todo.append(job)
        if todo:
            threads = settings.get("threads")
            with open_engine(engine, workers=workers, threads=threads, most=len(todo), address=address) as opened:
                options = {**settings, "threads": opened.threads}
                tasks = (EncodeTask(job, _place(job, target), options, key) for job in todo)
                for outcome in opened.run(work, tasks, retries=retries):
                    record = _record(outcome)
                    manifest.add(record)
                    (done if record.error is None else failed).append(record)
                    through()
    return Summary(tuple(done), skipped, tuple(failed), time.perf_counter() - began)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; empty where it cannot be read, which the encoding will say."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _record(outcome: Outcome[EncodeTask, Record]) -> Record:
    task = outcome.task
    found = outcome.result or replace(task.record, digest=digest_of(task.job.source), error=outcome.error)
    return replace(found, attempts=outcome.attempts, seconds=outcome.seconds)


def _place(job: BatchJob, target: Path) -> str:
    """Where an output lies below the target, with slashes."""
    return job.output.relative_to(target).as_posix()
