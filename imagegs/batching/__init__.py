"""Many pictures in one go: what is to be done, doing it on an engine, and a record of each that makes it resumable.

```
sources ─ jobs ─ those that the manifest has done ─ an engine, one picture at a time ─ outputs and records ─ manifest
```
"""

from __future__ import annotations

from .jobs import BatchJob, find_jobs
from .opening import open_engine
from .records import Manifest, Record
from .running import Summary, run_batch

__all__ = ["BatchJob", "Manifest", "Record", "Summary", "find_jobs", "open_engine", "run_batch"]
