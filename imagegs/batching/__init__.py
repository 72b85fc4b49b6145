"""Many pictures in one go: what is to be done, doing it in processes, and a record of each that makes it resumable.

```
sources ─ jobs ─ those that the manifest has done ─ processes, one picture at a time ─ outputs and records ─ manifest
```
"""

from __future__ import annotations

from .jobs import BatchJob, find_jobs
from .making import Made, app_one, encode_one
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
    "place_in",
    "run_batch",
]
