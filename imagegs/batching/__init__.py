"""Many pictures in one go: what is to be done, doing it on an engine, and a record of each that makes it resumable.

```
sources ─ jobs ─ those that the manifest has done ─ an engine, one picture at a time ─ outputs and records ─ manifest
```
"""

from __future__ import annotations

from .jobs import BatchJob, find_jobs
from .making import Made, app_one, encode_one
from .opening import open_engine
from .records import Manifest, Record
from .running import Summary, place_in, run_batch
from .thumbnails import Thumbnails, draw_thumbnails

__all__ = [
    "BatchJob",
    "Made",
    "Manifest",
    "Record",
    "Summary",
    "Thumbnails",
    "app_one",
    "draw_thumbnails",
    "encode_one",
    "find_jobs",
    "open_engine",
    "place_in",
    "run_batch",
]
