"""Semantics-aware compression: what a picture is about decides where Gaussians and bits go.

```python
from imagegs.apps import saliency

encoded = saliency.encode("portrait.jpg", bpp=0.3, strength=1.0)
encoded = saliency.encode("portrait.jpg", saliency.Sources(prompt="the face"), bpp=0.3)
```

Names load on first use, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
