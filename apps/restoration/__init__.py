"""Restoration: Gaussians fitted through what happened to a picture, so that they show it as it was.

```python
from imagegs.apps import restoration

restored = restoration.restore("noisy.png")
restored = restoration.restore("blurred.png", restoration.Blur.gaussian(2))
```

Names load on first use, so that the command line starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagegs.lazily import exports

if TYPE_CHECKING:
    from .jpeg import JpegIntervals, read_jpeg
    from .noise import Noise, estimate_noise, recognize_noise
    from .operators import Blur, Chain, Downsample, Identity, Operator
    from .recognizing import Damage, recognize_damage
    from .restoring import Restored, Trial, restore

__all__ = [
    "Blur",
    "Chain",
    "Damage",
    "Downsample",
    "Identity",
    "JpegIntervals",
    "Noise",
    "Operator",
    "Restored",
    "Trial",
    "estimate_noise",
    "read_jpeg",
    "recognize_damage",
    "recognize_noise",
    "restore",
]

_HOMES = {
    "jpeg": ("JpegIntervals", "read_jpeg"),
    "noise": ("Noise", "estimate_noise", "recognize_noise"),
    "operators": ("Blur", "Chain", "Downsample", "Identity", "Operator"),
    "recognizing": ("Damage", "recognize_damage"),
    "restoring": ("Restored", "Trial", "restore"),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
