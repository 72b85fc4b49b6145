"""Restoration: Gaussians fitted through what happened to a picture, so that they show it as it was.

```python
from imagegs.apps import restoration

restored = restoration.restore("noisy.png")
restored = restoration.restore("blurred.png", restoration.Blur.gaussian(2))
```

Names load on first use, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jpeg import JpegIntervals, read_jpeg
    from .noise import Noise, estimate_noise, recognize_noise
    from .operators import Blur, Chain, Downsample, Identity, Operator
    from .restoring import Restored, Trial, restore

__all__ = [
    "Blur",
    "Chain",
    "Downsample",
    "Identity",
    "JpegIntervals",
    "Noise",
    "Operator",
    "Restored",
    "Trial",
    "estimate_noise",
    "read_jpeg",
    "recognize_noise",
    "restore",
]

_HOMES = {
    "jpeg": ("JpegIntervals", "read_jpeg"),
    "noise": ("Noise", "estimate_noise", "recognize_noise"),
    "operators": ("Blur", "Chain", "Downsample", "Identity", "Operator"),
    "restoring": ("Restored", "Trial", "restore"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
