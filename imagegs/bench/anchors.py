"""The codecs that ours is compared with: how each is set, what it gives, and a ladder of its qualities.

All are Pillow's own but JPEG XL, which comes from the optional package `pillow-jxl-plugin` and is left out without it.
A file is what the codec writes from the pixels alone, without metadata or a colour profile; it decodes to 8 bits.
"""

from __future__ import annotations

import importlib
import io
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image, features

from ..gaussians import FloatArray
from .pictures import eight_bits

OURS = "ours"
QUALITIES = tuple(range(101))
WEBP_LADDER = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, *QUALITIES[1:])
"""libwebp takes fractions, and its smallest files differ most by them."""
J2K_LADDER = tuple(24 / (0.08 * 1.12**step) for step in range(25))
"""Ratios of compression of a picture of 24 bits, for 0.08 bpp and more; OpenJPEG meets a ratio closely."""


@dataclass(frozen=True)
class Anchor:
    """A codec at one setting.

    Attributes:
        key: its name in the results.
        label: its name for people, with what is not the default.
        format: Pillow's name of the format.
        options: what is always handed to Pillow's ``save``.
        ladder: values of the option that trades bytes for quality, rising in bytes.
        rung: that option's name.
        main: whether it stands in the first table and in the plots; others stand under "other settings".
    """

    key: str
    label: str
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ladder: Sequence[float] = QUALITIES
    rung: str = "quality"
    main: bool = True

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.format == "JXL":
            try:
                importlib.import_module("pillow_jxl")
            except ImportError:
                return f"{self.label} is left out: it needs the package pillow-jxl-plugin: pip install 'imagegs[bench]'"
        return None

    @property
    def version(self) -> str:
        """The version of the library behind it."""
        if self.format == "JXL":
            return f"pillow-jxl-plugin {version('pillow-jxl-plugin')}"
        found = {
            "JPEG": ("libjpeg-turbo", features.version_feature("libjpeg_turbo")),
            "WEBP": ("libwebp", features.version_module("webp")),
            "AVIF": ("libavif", features.version_module("avif")),
            "JPEG2000": ("OpenJPEG", features.version_codec("jpg_2000")),
        }
        library, number = found[self.format]
        return f"{library} {number}"

    @property
    def identity(self) -> str:
        """Codec, options and version: results of another identity are not comparable."""
        options = ", ".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return f"{self.format}({options}) {self.version}, Pillow {version('pillow')}"

    def encode(self, image: Image.Image, rung: float) -> bytes:
        """The file at one rung of the ladder."""
        if self.missing:
            raise RuntimeError(self.missing)
        buffer = io.BytesIO()
        setting = {self.rung: [rung] if self.rung == "quality_layers" else rung}
        image.save(buffer, self.format, **self.options, **setting)
        return buffer.getvalue()


ANCHORS = (
    Anchor("jpeg", "JPEG", "JPEG", {"optimize": True, "progressive": True}, QUALITIES[1:96]),
    Anchor("webp", "WebP", "WEBP", {"method": 6}, WEBP_LADDER),
    Anchor("avif", "AVIF", "AVIF", {"speed": 6}),
    Anchor(
        "avif-444",
        "AVIF, 4:4:4, tuned for PSNR",
        "AVIF",
        {"speed": 4, "subsampling": "4:4:4", "advanced": {"tune": "psnr"}},
    ),
    Anchor(
        "jpeg2000",
        "JPEG 2000",
        "JPEG2000",
        {"mct": 1, "irreversible": True, "quality_mode": "rates", "no_jp2": True},
        J2K_LADDER,
        "quality_layers",
    ),
    Anchor("jxl", "JPEG XL", "JXL", {"effort": 7}, QUALITIES[:100]),
    Anchor(
        "jpeg-444",
        "JPEG, 4:4:4",
        "JPEG",
        {"optimize": True, "progressive": True, "subsampling": "4:4:4"},
        QUALITIES[1:96],
        main=False,
    ),
    Anchor("avif-slow", "AVIF, speed 4", "AVIF", {"speed": 4}, main=False),
)


def to_image(pixels: FloatArray) -> Image.Image:
    """[3, H, W] in [0, 1] as a Pillow picture of 8 bits."""
    return Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def to_pixels(data: bytes) -> FloatArray:
    """A file that Pillow reads, [3, H, W] in [0, 1]."""
    with Image.open(io.BytesIO(data)) as image:
        values = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray(values) / np.float32(255)


def shown(name: str, data: bytes) -> FloatArray:
    """A file as it is seen, of ours where the name is ``ours`` or else one that Pillow reads: 8 bits, [3, H, W]."""
    if name != OURS:
        return to_pixels(data)
    from ..decoding import decode

    return eight_bits(decode(data).pixels)


def largest_below(anchor: Anchor, image: Image.Image, limit: int) -> bytes | None:
    """A codec's largest file of at most so many bytes, over all its rungs; None where its smallest has more."""
    files: dict[int, bytes] = {}

    def size(rung: int) -> int:
        files[rung] = anchor.encode(image, anchor.ladder[rung])
        return len(files[rung])

    rung = last_below(anchor, size, limit)
    return None if rung is None else files[rung]


def last_below(anchor: Anchor, size: Callable[[int], int], limit: int) -> int | None:
    """The last rung whose size is at most the limit; None where the first has more. Sizes rise with the rungs."""
    below = bisect_right(range(len(anchor.ladder)), limit, key=size)
    return below - 1 if below else None


def sweep(
    rate: Callable[[int], float],
    rungs: int,
    low: float,
    high: float,
    gap: float = 1.3,
) -> list[int]:
    """Rungs of a ladder whose rates cover a range without large gaps.

    Between two neighbours whose rates enclose a part of the range and differ by more than the factor ``gap``, the rung
    in the middle is tried, until there is none left; so rates below and above the range are tried only as far as they
    are needed to enclose its ends.

    Args:
        rate: bits per pixel at a rung; called once per rung.
        rungs: how many there are; the rates rise with them, more or less.
        low: smallest rate of interest.
        high: largest rate of interest.
        gap: largest factor between neighbouring rates.

    Returns:
        The rungs tried, ascending.
    """
    found = {0: rate(0), rungs - 1: rate(rungs - 1)}
    open_gaps = [(0, rungs - 1)]
    while open_gaps:
        a, b = open_gaps.pop()
        outside = max(found[a], found[b]) < low or min(found[a], found[b]) > high
        if b - a < 2 or outside or abs(math.log(found[b] / found[a])) <= math.log(gap):
            continue
        middle = (a + b) // 2
        found[middle] = rate(middle)
        open_gaps += [(a, middle), (middle, b)]
    return sorted(found)
