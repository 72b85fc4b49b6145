"""Doing it: processes that take one picture at a time, and whose death costs no more than that picture."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ConfigError, ImageError
from . import places
from .engines import Outcome
from .jobs import BatchJob
from .making import EncodeTask, encode_one
from .opening import check_engine, open_engine
from .places import Place, digest_of, place_of
from .records import NAME, TABLE, Manifest, Record, in_order

READERS = 8
"""Pictures that are looked at at once, to see whether they are those that were done."""


@dataclass(frozen=True)
class Summary:
    """What came of a batch.

    Attributes:
        done: records of pictures that were encoded now.
        skipped: how many were there already, of the same picture and settings.
        failed: records of those that could not be encoded.
        seconds: that it took.
        records: of every output in the manifest, by name.
    """

    done: tuple[Record, ...]
    skipped: int
    failed: tuple[Record, ...]
    seconds: float
    records: tuple[Record, ...] = ()


def settings_key(settings: Mapping[str, Any]) -> str:
    """A name of settings, equal where the files would be equal: threads do not count."""
    kept = {name: value for name, value in settings.items() if name != "threads" and value is not None}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=_named).encode()).hexdigest()[:16]


def _named(value: Any) -> str:
    """A setting that is no text; a file is what is in it."""
    return f"file {digest_of(value)}" if isinstance(value, Path) and value.is_file() else repr(value)


Work = Callable[[EncodeTask], Record]
"""What is done with a picture, like `encode_one`."""


def run_batch(
    jobs: Sequence[BatchJob],
    target: str | Place,
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
        target: folder of the outputs and of the manifest, or its URL; made if it is not there.
        settings: arguments of ``imagegs.encode``, ``threads`` among them: of each process; or of an app, see ``work``.
        engine: where it is done, see `open_engine`: "local" or "ray".
        address: of the Ray cluster; its nodes reach pictures and outputs by the same paths as this machine.
        workers: pictures at once; by default what the engine's cores allow, but no more than pictures.
        retries: how often a picture that failed is tried again.
        overwrite: forget what was made with other settings.
        work: what makes the file and the record of a picture, in another process: a function that can be imported.
        on_record: called with how many pictures are through, and of how many; first for those that are passed over.

    Raises:
        ConfigError: numbers out of range, an engine that is not known, or a manifest of other settings.
        ImageError: the folder cannot be written.
        DeviceError: the engine's package is absent, or its cluster cannot be reached.
    """
    if (workers is not None and workers < 1) or retries < 0:
        raise ConfigError(f"batch: expected workers from 1 and retries from 0, found {workers} and {retries}")
    check_engine(engine, address)
    began = time.perf_counter()
    folder = place_of(target)
    if isinstance(folder, Path):
        _make_folder(folder)
    key = settings_key(settings)
    if overwrite:
        for name in (NAME, TABLE):
            places.remove(folder / name)
    done: list[Record] = []
    failed: list[Record] = []
    with Manifest(folder, key) as manifest:
        skipped = 0

        def through() -> None:
            if on_record is not None:
                on_record(skipped + len(done) + len(failed), len(jobs))

        todo = []
        for job, is_done in zip(jobs, _done(jobs, folder, manifest), strict=True):
            if is_done:
                skipped += 1
            else:
                todo.append(job)
        if skipped:
            through()  # once, since a rate counts from the first call on
        if todo:
            threads = settings.get("threads")
            with open_engine(engine, workers=workers, threads=threads, most=len(todo), address=address) as opened:
                options = {**settings, "threads": opened.threads}
                tasks = (EncodeTask(job, place_in(job, folder), options, key) for job in todo)
                for outcome in opened.run(work, tasks, retries=retries):
                    record = _record(outcome)
                    manifest.add(record)
                    (done if record.error is None else failed).append(record)
                    through()
    everything = tuple(in_order(manifest.records.values()))
    return Summary(tuple(done), skipped, tuple(failed), time.perf_counter() - began, everything)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"{folder}: cannot be written: no permission in this folder")


def _done(jobs: Sequence[BatchJob], folder: Place, manifest: Manifest) -> Iterator[bool]:
    """Whether each output was made of the picture that is there now, and is there itself."""

    def is_same(job: BatchJob) -> bool:
        record = manifest.done(place_in(job, folder))
        return record is not None and record.digest == digest_of(job.source)

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(is_same, jobs)


def _record(outcome: Outcome[EncodeTask, Record]) -> Record:
    task = outcome.task
    found = outcome.result or replace(task.record, digest=digest_of(task.job.source), error=outcome.error)
    return replace(found, attempts=outcome.attempts, seconds=outcome.seconds)


def place_in(job: BatchJob, folder: Place) -> str:
    """Where an output lies below the target, with slashes, as its record has it."""
    return PurePosixPath(job.output.relative_to(folder)).as_posix()  # type: ignore[arg-type]
