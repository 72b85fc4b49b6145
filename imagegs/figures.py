"""The figures of an encoding: measured from its bytes and pixels, worded for people, or as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .encoding import Encoded


def measure(encoded: Encoded) -> dict[str, Any]:
    """The figures of an encoding.

    Sizes are those of the file; qualities compare what the file decodes to with the picture, for a stack as the mean
    over its pictures. A metric that cannot run here is None, and ``unavailable`` says why. ``fixed_width_bytes`` is the
    file that the same Gaussians would make with 12 bits for each of their numbers, as Image-GS counts them.
    """
    from .codec import BitWidths, write_file
    from .image import Picture
    from .metrics import compare

    picture, fit = encoded.picture, encoded.fit
    count = len(encoded.gaussians)
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
        "gaussians": count,
        "bytes": len(encoded.data),
        "bpp": encoded.bpp,
        "psnr": encoded.psnr,
        **qualities,
        "unavailable": unavailable,
        "target": _target(encoded),
        "notes": [*picture.notes, *encoded.notes],
        "attribute_bits_per_gaussian": {name: bits / count for name, bits in encoded.bits.items()} if count else {},
        "fixed_width_bytes": len(write_file(encoded.gaussians, bits=BitWidths(12, 12, 12, 12), info=picture.info)),
        "steps": fit.steps,
        "seconds": fit.seconds,
        "encode_seconds": encoded.seconds,
        "settings": dataclasses.asdict(fit.config),
        "history": [list(row) for row in fit.history],
    }


def _target(encoded: Encoded) -> dict[str, Any] | None:
    """What was asked for, and what came of it; a quality compares pictures as files of their kind hold them."""
    from .compression import shown
    from .fitting.losses import to_psnr
    from .image import Picture
    from .metrics import ssim

    goal, picture = encoded.goal, encoded.picture
    if goal is None:
        return None
    reached: float | None = None
    if goal.kind in ("psnr", "ssim"):
        found = shown(Picture(encoded.decoded, picture.info))
        error = np.mean(np.square(found - picture.pixels, dtype=np.float64))
        reached = to_psnr(float(error)) if goal.kind == "psnr" else ssim(found, picture.pixels)
    elif goal.kind != "quality":
        reached = len(encoded.data) if goal.kind == "bytes" else len(encoded.gaussians)
    return {"kind": goal.kind, "value": goal.value, "bpp": goal.bpp, "text": goal.text, "reached": reached}


def rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of ``measure`` as rows of a table for people."""

    def quality(name: str) -> str:
        value = figures[name]
        return f"not measured: {figures['unavailable'][name]}" if value is None else f"{value:.4f}"

    bits = figures["attribute_bits_per_gaussian"]
    shares = ", ".join(f"{name} {value:.1f}" for name, value in bits.items())
    share = figures["bytes"] / figures["fixed_width_bytes"]
    return [
        ("picture", f"{figures['width']} x {figures['height']}, {figures['channels']} channels"),
        ("target", _target_text(figures["target"])),
        ("Gaussians", f"{figures['gaussians']:,}"),
        ("size of the file", f"{figures['bytes']:,} bytes"),
        (
            "with 12 bits for each number",
            f"{figures['fixed_width_bytes']:,} bytes; the file is {100 * share:.0f} % of it",
        ),
        ("bits per pixel", f"{figures['bpp']:.4f}"),
        ("bits per Gaussian", f"{sum(bits.values()):.1f}: {shares}"),
        ("PSNR", f"{figures['psnr']:.2f} dB"),
        ("SSIM", quality("ssim")),
        ("MS-SSIM", quality("ms_ssim")),
        ("fit", f"{figures['steps']:,} steps in {figures['seconds']:.1f} s"),
        ("encoding in all", f"{figures['encode_seconds']:.1f} s"),
    ]


def _target_text(target: Mapping[str, Any] | None) -> str:
    if target is None:
        return "none"
    reached = {"psnr": "; {:.2f} dB in rounded pixels", "ssim": "; {:.4f}", "bytes": "; {:,} used"}.get(target["kind"])
    return str(target["text"]) + ("" if reached is None else reached.format(target["reached"]))


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
