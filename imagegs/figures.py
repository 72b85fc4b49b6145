"""The figures of an encoding: measured from its bytes and pixels, worded for people, or as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoding import Encoded


def measure(encoded: Encoded) -> dict[str, Any]:
    """The figures of an encoding.

    Sizes are those of the file; qualities compare what the file decodes to with the picture, for a stack as the mean
    over its pictures. A metric that cannot run here is None, and ``unavailable`` says why.
    """
    from .image import Picture
    from .metrics import compare

    picture, fit = encoded.picture, encoded.fit
    comparison = compare(picture, Picture(encoded.decoded, picture.info), flip=False)
    qualities: dict[str, float | None] = {}
    unavailable: dict[str, str] = {}
    for name in ("ssim", "ms_ssim"):
        scores = [getattr(plane, name) for plane in comparison.planes]
        missing = [score.reason for score in scores if not isinstance(score, float)]
        if missing:
            qualities[name], unavailable[name] = None, missing[0]
        else:
            qualities[name] = sum(scores) / len(scores)
    return {
        "source": picture.source,
        "width": picture.width,
        "height": picture.height,
        "channels": picture.channels,
        "gaussians": len(encoded.gaussians),
        "bytes": len(encoded.data),
        "bpp": encoded.bpp,
        "psnr": encoded.psnr,
        **qualities,
        "unavailable": unavailable,
        "steps": fit.steps,
        "seconds": fit.seconds,
        "settings": dataclasses.asdict(fit.config),
        "history": [list(row) for row in fit.history],
    }


def rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of ``measure`` as rows of a table for people."""

    def quality(name: str) -> str:
        value = figures[name]
        return f"not measured: {figures['unavailable'][name]}" if value is None else f"{value:.4f}"

    return [
        ("picture", f"{figures['width']} x {figures['height']}, {figures['channels']} channels"),
        ("Gaussians", f"{figures['gaussians']:,}"),
        ("size of the file", f"{figures['bytes']:,} bytes"),
        ("bits per pixel", f"{figures['bpp']:.4f}"),
        ("PSNR", f"{figures['psnr']:.2f} dB"),
        ("SSIM", quality("ssim")),
        ("MS-SSIM", quality("ms_ssim")),
        ("fit", f"{figures['steps']:,} steps in {figures['seconds']:.1f} s"),
    ]


def json_text(value: Mapping[str, Any]) -> str:
    """One JSON object; numbers that JSON cannot write (infinity, NaN) become their names."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
