"""Block formats of GPUs: what each makes of one map, by encoders that are packages of their own.

ASTC comes from `astc-encoder-py`, BC1, BC4 and BC7 from `etcpak` and Pillow; `texture2ddecoder` decodes BC blocks.
All are set to lose as little squared error as they can: ASTC thorough, BC7 at its highest level with equal weights of
channels, and of BC1 each block is the better of what `etcpak` and Pillow make of it.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from PIL import Image

Map = npt.NDArray[np.uint8]
"""[H, W, C] bytes of one map: grey, grey and alpha, colours, or colours and alpha."""

ASTC_SIDES = (4, 5, 6, 8, 10, 12)
QUALITY = 98.0
"""ASTC's preset "thorough"."""
UBER_LEVEL = 4
DDS_HEAD = 128
"""Bytes before the blocks."""


@dataclass(frozen=True)
class Block:
    """A block format.

    Attributes:
        key: its name in the results.
        label: its name for people.
        packages: that it needs, by the module that is imported.
        code: bytes of a map, and what they decode to.
    """

    key: str
    label: str
    packages: dict[str, str]
    code: Callable[[Map], tuple[int, Map]]

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for module, package in self.packages.items() if importlib.util.find_spec(module) is None]

    @property
    def identity(self) -> str:
        """Format and versions: results of another identity are not comparable."""
        return ", ".join([self.key, *(f"{package} {version(package)}" for package in self.packages.values())])


def astc(one: Map, side: int) -> tuple[int, Map]:
    """ASTC in blocks of this many pixels down and across."""
    import astc_encoder as library

    height, width, channels = one.shape
    context = library.ASTCContext(library.ASTCConfig(library.ASTCProfile.LDR, side, side, 1, QUALITY))
    image = library.ASTCImage(library.ASTCType.U8, width, height, 1, _four(one).tobytes())
    data = context.compress(image, library.ASTCSwizzle.from_str("RGB1" if channels % 2 else "RGBA"))
    found = library.ASTCImage(library.ASTCType.U8, width, height, 1)
    context.decompress(data, found, library.ASTCSwizzle.from_str("RGBA"))
    return len(data), _back(np.frombuffer(found.data or b"", np.uint8).reshape(height, width, 4), channels)


def bc7(one: Map) -> tuple[int, Map]:
    """BC7."""
    import etcpak

    options = etcpak.BC7CompressBlockParams()
    options.init_linear_weights()
    options.m_uber_level = UBER_LEVEL
    texels = _padded(_four(one))
    data = etcpak.compress_bc7(texels.tobytes(), texels.shape[1], texels.shape[0], options)
    return len(data), _back(_decoded(data, texels, "bc7"), one.shape[2])[: one.shape[0], : one.shape[1]]


def bc1(one: Map) -> tuple[int, Map]:
    """BC1 for colours, and BC4 for grey and for alpha."""
    height, width = one.shape[:2]
    coded = [_bc1(part) if part.shape[2] == 3 else _bc4(part) for part in parts(one)]
    return sum(size for size, _ in coded), np.concatenate([found for _, found in coded], axis=2)[:height, :width]


def parts(one: Map) -> list[Map]:
    """A map's colours, and its alpha as a map of its own."""
    colors = one.shape[2] - (one.shape[2] % 2 == 0)
    return [np.ascontiguousarray(part) for part in (one[..., :colors], one[..., colors:]) if part.size]


_BC = {"etcpak": "etcpak", "texture2ddecoder": "texture2ddecoder"}
BLOCKS = (
    *(
        Block(f"astc-{side}", f"ASTC {side} x {side}", {"astc_encoder": "astc-encoder-py"}, partial(astc, side=side))
        for side in ASTC_SIDES
    ),
    Block("bc1", "BC1, BC4", _BC, bc1),
    Block("bc7", "BC7", _BC, bc7),
)


def _bc1(one: Map) -> tuple[int, Map]:
    """Of every block the better of two."""
    import etcpak

    texels = _padded(_four(one))
    height, width = texels.shape[:2]
    image = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(texels[..., :3])).save(image, "DDS", pixel_format="DXT1")
    coded = [etcpak.compress_bc1(texels.tobytes(), width, height), image.getvalue()[DDS_HEAD:]]
    errors = []
    for data in coded:
        squares = np.square(_decoded(data, texels, "bc1")[..., :3].astype(np.int32) - texels[..., :3])
        errors.append(squares.reshape(height // 4, 4, width // 4, 4, 3).sum(axis=(1, 3, 4)).ravel())
    first, second = (np.frombuffer(data, np.uint8).reshape(-1, 8) for data in coded)
    data = np.where((errors[0] <= errors[1])[:, None], first, second).tobytes()
    return len(data), _decoded(data, texels, "bc1")[..., :3]


def _bc4(one: Map) -> tuple[int, Map]:
    import etcpak

    texels = _padded(_four(one))
    data = etcpak.compress_bc4(texels.tobytes(), texels.shape[1], texels.shape[0])
    return len(data), _decoded(data, texels, "bc4")[..., :1]


def _decoded(data: bytes, texels: Map, kind: str) -> Map:
    """Blocks as RGBA, of the size of ``texels``."""
    import texture2ddecoder

    height, width = texels.shape[:2]
    found = getattr(texture2ddecoder, f"decode_{kind}")(data, width, height)  # as BGRA
    return np.frombuffer(found, np.uint8).reshape(height, width, 4)[..., [2, 1, 0, 3]]


def _four(one: Map) -> Map:
    """RGBA, as the encoders take it; grey is repeated."""
    colors, *alpha = parts(one)
    if colors.shape[2] == 1:
        colors = np.repeat(colors, 3, axis=2)
    opaque = np.full((*one.shape[:2], 1), 255, np.uint8)
    return np.concatenate([colors, *(alpha or [opaque])], axis=2)


def _back(four: Map, channels: int) -> Map:
    """The channels of a map that became RGBA."""
    return four[..., [[0], [0, 3], [0, 1, 2], [0, 1, 2, 3]][channels - 1]]


def _padded(texels: Map) -> Map:
    """Whole blocks of 4 x 4."""
    height, width = texels.shape[:2]
    return np.ascontiguousarray(np.pad(texels, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="edge"))
