"""Pictures that no memory holds: read in windows, fitted in tiles, written as one file in blocks and levels.

```
file ─ windows ─ plan: tiles, budget ─ stages of each tile, on an engine ─ parts ─ assembling ─ one .gsimg
```
"""

from __future__ import annotations

from .running import Giant, encode_giant, parts_of

__all__ = ["Giant", "encode_giant", "parts_of"]
