"""Gaussians <-> a NumPy archive (.npz): every parameter under a name, nothing that runs when it is read.

```
means       float32 [N, 2]   centres (x, y), canvas pixels
scales      float32 [N, 2]   standard deviations along the own axes, canvas pixels
rotations   float32 [N]      angle of the first axis, radians, from +x (right) towards +y (down)
colors      float32 [N, C]   features, for pictures roughly in [0, 1]
size        int64 [2]        width and height of the canvas, pixels
background  float32 [C]      colour where no Gaussian reaches
blend       text             normalized, topk or sum
top_k       int64            K of the blend topk
info        uint8 [bytes]    what the channels are, as in the metadata of a .gsimg file (docs/format.md)
```

The first five are needed when an archive is read; without the others it has a black background, the blend
``normalized``, K = 10 and the plainest picture of C channels. Names beside these are ignored.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, ImageError, ShapeError
from ..gaussians import Gaussians2D
from ..image import PictureInfo
from .contents import Contents

_NEEDED = ("means", "scales", "rotations", "colors", "size")
_OPTIONAL = ("background", "blend", "top_k", "info")

# Members may be deflated; what they claim to inflate to is bounded by this many times the size of the file.
_INFLATION = 100
_ALWAYS_ALLOWED = 1 << 24


def encode_archive(contents: Contents) -> bytes:
    """The bytes of an archive; the same input gives the same bytes.

    Args:
        contents: the Gaussians, and what is known about them.
    """
    gaussians = contents.gaussians
    arrays: dict[str, npt.NDArray[Any]] = {
        "means": gaussians.means,
        "scales": gaussians.scales,
        "rotations": gaussians.rotations,
        "colors": gaussians.colors,
        "size": np.array([gaussians.width, gaussians.height], np.int64),
        "background": gaussians.background,
        "blend": np.array(gaussians.blend),
        "top_k": np.array(gaussians.top_k, np.int64),
    }
    if contents.info is not None:
        arrays["info"] = np.frombuffer(contents.info.to_bytes(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_archive(path: str | Path) -> Contents:
    """Read an archive.

    Args:
        path: the file.

    Raises:
        ImageError: the file cannot be read, or is no such archive.
    """
    name = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {key: f"{key}.npy" for key in (*_NEEDED, *_OPTIONAL) if f"{key}.npy" in archive.namelist()}
            _check_members(name, archive, set(members.values()), Path(path).stat().st_size)
            found = {key: _read_member(archive, member) for key, member in members.items()}
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {(error.strerror or type(error).__name__).lower()}") from error
    except ImageError:
        raise
    except Exception as error:  # what damaged archives raise has no common base
        raise ImageError(f"{name}: expected a NumPy archive (.npz) of plain arrays, found another file") from error
    missing = [key for key in _NEEDED if key not in found]
    if missing:
        raise ImageError(f"{name}: expected the arrays {', '.join(_NEEDED)}, found no {', '.join(missing)}")
    return _contents(name, found)


def _check_members(name: str, archive: zipfile.ZipFile, wanted: set[str], size: int) -> None:
    """Refuse members that claim more than a file of this size can mean, and shapes beyond what a member holds."""
    members = [member for member in archive.infolist() if member.filename in wanted]
    claimed = sum(member.file_size for member in members)
    if claimed > max(_ALWAYS_ALLOWED, _INFLATION * size):
        raise ImageError(f"{name}: expected arrays of up to {_INFLATION} times the file, found {claimed:,} bytes")
    for member in members:
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(stream)
        if dtype.hasobject or np.prod(shape, dtype=object) * dtype.itemsize > member.file_size:
            raise ImageError(f"{name}: {member.filename}: expected an array that the file holds, found {shape}")


def _read_member(archive: zipfile.ZipFile, member: str) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _contents(name: str, found: dict[str, npt.NDArray[Any]]) -> Contents:
    try:
        width, height = found["size"].tolist()
        options: dict[str, Any] = {key: found[key].item() for key in ("blend", "top_k") if key in found}
        gaussians = Gaussians2D(
            means=found["means"],
            scales=found["scales"],
            rotations=found["rotations"],
            colors=found["colors"],
            width=width,
            height=height,
            background=found.get("background"),  # type: ignore[arg-type]
            **options,
        )
        info = PictureInfo.from_bytes(found["info"].tobytes()) if "info" in found else None
    except (ShapeError, FormatError) as error:
        raise ImageError(f"{name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ImageError(f"{name}: expected size, blend and top_k as documented, found others") from error
    if info is not None and info.channels != gaussians.channels:
        raise ImageError(f"{name}: info: expected {gaussians.channels} channels as in colors, found {info.channels}")
    return Contents(gaussians, info)
