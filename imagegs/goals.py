"""What an encoding is to come to: one target, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .errors import ConfigError

Kind = Literal["gaussians", "bytes", "psnr", "ssim", "quality"]

DEFAULT_QUALITY = 75.0


@dataclass(frozen=True)
class Goal:
    """What an encoding is to come to.

    Attributes:
        kind: of the value.
        value: Gaussians, bytes of the whole file, dB, SSIM, or a quality from 0 to 100.
        bpp: bits per pixel, where the bytes were given so.

    Raises:
        ConfigError: the value is out of range.
    """

    kind: Kind
    value: float
    bpp: float | None = None

    def __post_init__(self) -> None:
        low, high = {
            "gaussians": (1, 2**31),
            "bytes": (1, 2**48),
            "psnr": (1, 100),
            "ssim": (0.001, 0.99999),
            "quality": (0, 100),
        }[self.kind]
        if not low <= self.value <= high:
            raise ConfigError(f"{self.kind}: expected {low:,} to {high:,}, found {self.value:,}")
        if self.kind in ("gaussians", "bytes") and self.value != int(self.value):
            raise ConfigError(f"{self.kind}: expected an integer, found {self.value:,}")

    @property
    def name(self) -> str:
        """Of the target, as it was given."""
        return self.kind if self.bpp is None else "bpp"

    @property
    def text(self) -> str:
        """The target in words."""
        if self.kind in ("gaussians", "bytes"):
            given = "" if self.bpp is None else f"{self.bpp:g} bits per pixel, "
            unit = {"gaussians": "Gaussian", "bytes": "byte"}[self.kind]
            return f"{given}{int(self.value):,} {unit}{'s' * (self.value > 1)}"
        if self.kind == "quality":
            return f"quality {self.value:g}"
        return f"PSNR {self.value:g} dB" if self.kind == "psnr" else f"SSIM {self.value:g}"


def make_goal(size: tuple[int, int], *, bpp: float | None = None, **targets: float | None) -> Goal:
    """The one target that is given; by default a quality.

    Args:
        size: height and width of the picture, pixels.
        bpp: bits of the whole file per pixel.
        **targets: ``Kind`` to value; None is not given.

    Raises:
        ConfigError: more than one is given, or a value is out of range.
    """
    given = {kind: value for kind, value in targets.items() if value is not None}
    names = [*given, *(["bpp"] if bpp is not None else [])]
    if len(names) > 1:
        raise ConfigError(f"target: expected one of bpp, {', '.join(targets)}, found {' and '.join(names)}")
    if bpp is not None:
        if not 0 < bpp < math.inf:
            raise ConfigError(f"bpp: expected a finite number above 0, found {bpp}")
        return Goal("bytes", max(1, math.floor(bpp * size[0] * size[1] / 8)), bpp)
    for kind, value in given.items():
        return Goal(kind, value)  # type: ignore[arg-type]
    return Goal("quality", DEFAULT_QUALITY)
