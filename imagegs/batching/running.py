"""Doing it: processes that take one picture at a time, and whose death costs no more than that picture."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DeviceError, ImageError, ImageGSError
from ..files import atomic_write, read_bytes
from .jobs import BatchJob
from .records import NAME, Manifest, Record

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
AHEAD = 2
"""Jobs that wait for each process: a long list does not stand in memory twice."""


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


def encode_one(job: BatchJob, place: str, settings: Mapping[str, Any], key: str) -> Record:
    """Encode one picture and write its file; what goes wrong with it is in the record.

    Args:
        job: the picture.
        place: of the output, as the record calls it.
        settings: arguments of ``imagegs.encode``.
        key: name of the settings.
    """
    from ..encoding import encode
    from ..image import read_image

    began = time.perf_counter()
    record = Record(str(job.source), place, key)
    try:
        record = replace(record, digest=hashlib.sha256(read_bytes(job.source)).hexdigest())
        encoded = encode(read_image(job.source), **settings)
        job.output.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(job.output, encoded.data)
    except (ImageGSError, OSError, MemoryError) as error:
        return replace(record, seconds=time.perf_counter() - began, error=_line(error))
    picture = encoded.picture
    return replace(
        record,
        width=picture.width,
        height=picture.height,
        size=len(encoded.data),
        bpp=encoded.bpp,
        psnr=encoded.psnr,
        seconds=time.perf_counter() - began,
    )


Work = Callable[[BatchJob, str, Mapping[str, Any], str], Record]
"""What is done with a picture, like `encode_one`."""


def run_batch(
    jobs: Sequence[BatchJob],
    target: Path,
    settings: Mapping[str, Any],
    *,
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
        workers: processes; by default one for each core, but no more than pictures.
        retries: how often a picture that failed is tried again.
        overwrite: forget what was made with other settings.
        work: what makes the file and the record of a picture, in another process: a function that can be imported.
        on_record: called with how many pictures are through, and of how many.

    Raises:
        ConfigError: numbers out of range, or a manifest of other settings.
        ImageError: the folder cannot be written.
        DeviceError: the package pebble is absent.
    """
    if (workers is not None and workers < 1) or retries < 0:
        raise ConfigError(f"batch: expected workers from 1 and retries from 0, found {workers} and {retries}")
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
        cores = os.cpu_count() or 1
        workers = min(workers or cores, max(1, len(todo)))
        threads = settings.get("threads") or max(1, cores // workers)
        for record in _records(todo, target, {**settings, "threads": threads}, key, workers, retries, work):
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


def _records(
    jobs: Sequence[BatchJob],
    target: Path,
    settings: Mapping[str, Any],
    key: str,
    workers: int,
    retries: int,
    work: Work,
) -> Iterator[Record]:
    """Records as pictures are through; a picture that failed is tried again."""
    if not jobs:
        return
    try:
        from pebble import ProcessPool
    except ImportError as error:
        raise DeviceError("batch needs the package pebble: pip install 'imagegs[batch]'") from error
    for name in THREAD_VARIABLES:  # of what the processes import
        os.environ.setdefault(name, "1")
    waiting = iter(jobs)
    running: dict[Future[Record], tuple[BatchJob, int]] = {}
    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))

    def start(job: BatchJob, attempt: int) -> None:
        future = pool.schedule(work, args=(job, _place(job, target), dict(settings), key))
        running[future] = job, attempt

    try:
        while True:
            while len(running) < AHEAD * workers and (job := next(waiting, None)) is not None:
                start(job, 1)
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, attempt = running.pop(future)
                record = replace(_outcome(future, job, _place(job, target), key), attempts=attempt)
                if record.error is not None and attempt <= retries:
                    start(job, attempt + 1)
                else:
                    yield record
        pool.close()  # type: ignore[no-untyped-call]
    finally:
        pool.stop()  # type: ignore[no-untyped-call]  # at once, if something went wrong
        pool.join()


def _outcome(future: Future[Record], job: BatchJob, place: str, key: str) -> Record:
    """The record of what a process did, or of its death."""
    from pebble import ProcessExpired

    try:
        return future.result()
    except ProcessExpired as error:
        text = f"{job.source}: the process died on it, with status {error.exitcode}"
    except Exception as error:  # one picture must not stop the rest
        text = f"{job.source}: {type(error).__name__}: {_line(error)}"
    return Record(str(job.source), place, key, digest_of(job.source), error=text)


def _place(job: BatchJob, target: Path) -> str:
    """Where an output lies below the target, with slashes."""
    return job.output.relative_to(target).as_posix()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
