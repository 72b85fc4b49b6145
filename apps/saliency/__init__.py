"""Semantics-aware compression: what a picture is about decides where Gaussians and bits go.

```python
from imagegs.apps import saliency

encoded = saliency.encode("portrait.jpg", bpp=0.3, strength=1.0)
encoded = saliency.encode("portrait.jpg", saliency.Sources(prompt="the face"), bpp=0.3)
```

Names load on first use, so that the command line starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagegs.lazily import exports

if TYPE_CHECKING:
    from .encoding import encode, importance
    from .guide import guidance_of
    from .regions import Box
    from .scores import Scores, score
    from .sources import Sources, make_predictor

__all__ = ["Box", "Scores", "Sources", "encode", "guidance_of", "importance", "make_predictor", "score"]

_HOMES = {
    "encoding": ("encode", "importance"),
    "guide": ("guidance_of",),
    "regions": ("Box",),
    "scores": ("Scores", "score"),
    "sources": ("Sources", "make_predictor"),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
