"""Other people's files <-> Gaussians: checkpoints in, arrays and pictures for other programs out (docs/converting.md).

```
.pt .pth .pth.tar ─ checkpoints ─ image_gs, gaussian_image ─┐             ┌─ write_file ──> .gsimg
.npz ─────────────────────────────── archives ──────────────┼─> Contents ─┼─ archives ────> .npz
.gsimg ───────────────────────────── read_gsimg ────────────┘             └─ layers ─┬─ ply ─> .ply
                                                                                     └─ svg ─> .svg
```

`routes` chooses the way by the names' endings. Only `checkpoints` imports torch, when it reads one.
"""

from .routes import Conversion, convert

__all__ = ["Conversion", "convert"]
