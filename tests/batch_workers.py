"""Work that goes wrong, for processes to import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagegs.batching import BatchJob, Record
from imagegs.batching.running import encode_one


def crash_on_some(job: BatchJob, place: str, settings: Mapping[str, Any], key: str) -> Record:
    """The process dies on pictures called crash, as it would on what crashes a decoder."""
    if "crash" in job.source.name:
        os._exit(7)
    return encode_one(job, place, settings, key)


def fail_once(job: BatchJob, place: str, settings: Mapping[str, Any], key: str) -> Record:
    """Fails the first time with each picture."""
    mark = Path(f"{job.source}.tried")
    if not mark.exists():
        mark.touch()
        raise RuntimeError("not yet")
    return encode_one(job, place, settings, key)
