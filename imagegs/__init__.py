"""Images as 2D Gaussians: fit, compress, decode and render.

```python
import imagegs

gaussians = imagegs.fit("photo.png", gaussians=5000)
imagegs.save("photo.gsimg", gaussians)
pixels = imagegs.render(imagegs.load("photo.gsimg"))
```

Every name loads its module on first use (PEP 562), so that importing the package, and decoding, never start torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    ChecksumError,
    CompileError,
    ConfigError,
    DeviceError,
    FormatError,
    ImageError,
    ImageGSError,
    ImageGSWarning,
    ShapeError,
    TruncatedError,
    VersionError,
    WeightsError,
)

if TYPE_CHECKING:
    from .codec import BitWidths, Decoder, GsimgFile, load, save
    from .decoding import decode, read_gsimg
    from .encoding import Encoded, encode
    from .fitting.fit import Interrupted, fit
    from .fitting.loop import FitResult, Progress
    from .fitting.many import fit_many
    from .gaussians import Gaussians2D
    from .guidance import Guidance
    from .image import Picture, PictureInfo, Plane, as_picture, read_image, write_image
    from .rendering import render
    from .sampling import Sampler, sample

    __version__: str

__all__ = [
    "BitWidths",
    "ChecksumError",
    "CompileError",
    "ConfigError",
    "Decoder",
    "DeviceError",
    "Encoded",
    "FitResult",
    "FormatError",
    "Gaussians2D",
    "GsimgFile",
    "Guidance",
    "ImageError",
    "ImageGSError",
    "ImageGSWarning",
    "Interrupted",
    "Picture",
    "PictureInfo",
    "Plane",
    "Progress",
    "Sampler",
    "ShapeError",
    "TruncatedError",
    "VersionError",
    "WeightsError",
    "__version__",
    "as_picture",
    "decode",
    "encode",
    "fit",
    "fit_many",
    "load",
    "read_gsimg",
    "read_image",
    "render",
    "sample",
    "save",
    "write_image",
]

_HOMES = {
    "codec": ("BitWidths", "Decoder", "GsimgFile", "load", "save"),
    "decoding": ("decode", "read_gsimg"),
    "encoding": ("Encoded", "encode"),
    "fitting.fit": ("Interrupted", "fit"),
    "fitting.many": ("fit_many",),
    "fitting.loop": ("FitResult", "Progress"),
    "gaussians": ("Gaussians2D",),
    "guidance": ("Guidance",),
    "image": ("Picture", "PictureInfo", "Plane", "as_picture", "read_image", "write_image"),
    "rendering": ("render",),
    "sampling": ("Sampler", "sample"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULES:
        value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("imagegs")
    except PackageNotFoundError:  # run from its sources, without having been installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
