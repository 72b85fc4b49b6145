"""Progressive streams: files whose every beginning is a picture, served by ranges and drawn in a browser as they come.

```python
from imagegs.apps import lod

encoded = lod.export("photo.png", bpp=0.5)  # levels fitted together, bytes rising geometrically
```

Names load on first use, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporting import export, shares_of
    from .server import make_app, serve
    from .tiles import write_tiles
    from .viewing import page_files, show, write_page

__all__ = ["export", "make_app", "page_files", "serve", "shares_of", "show", "write_page", "write_tiles"]

_HOMES = {
    "exporting": ("export", "shares_of"),
    "server": ("make_app", "serve"),
    "tiles": ("write_tiles",),
    "viewing": ("page_files", "show", "write_page"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
