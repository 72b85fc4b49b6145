"""Tables that anybody can measure again: one for each question, over the pictures of a folder.

```
 folder ─ pictures ─ plan: cells ─ measure those that are not kept ─ summary ─┬─ JSON: machine, versions, every figure
                                        └─► one file each, atomic             ├─ Markdown
                                                                              └─ plots
```

A cell is one picture under one setting. It is kept by what decides it, so that the same command goes on where it was
stopped, and measures nothing twice.

Names load on first use, so that what decodes a file in a fresh process loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazily import exports

if TYPE_CHECKING:
    from . import markdown
    from .clocks import decoded_cold, spread, timed
    from .pictures import Source, find_sources
    from .running import Cell, Outcome, Run, Table, run_table

__all__ = [
    "Cell",
    "Outcome",
    "Run",
    "Source",
    "Table",
    "decoded_cold",
    "find_sources",
    "markdown",
    "run_table",
    "spread",
    "timed",
]

_HOMES = {
    "clocks": ("decoded_cold", "spread", "timed"),
    "pictures": ("Source", "find_sources"),
    "running": ("Cell", "Outcome", "Run", "Table", "run_table"),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
