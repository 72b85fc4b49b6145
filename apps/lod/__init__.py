"""Progressive streams: files whose every beginning is a picture, served by ranges and drawn in a browser as they come.

```python
from imagegs.apps import lod

encoded = lod.export("photo.png", bpp=0.5)  # levels fitted together, bytes rising geometrically
```

Names load on first use, so that the command line starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagegs.lazily import exports

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
__getattr__, __dir__ = exports(__name__, _HOMES)
