"""One HTML page about an encoding, and the same figures as JSON beside it.

The page holds everything in itself, pictures as data URIs, so that it works offline and can be sent as one file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from . import plots
from .figures import json_text, rows
from .files import atomic_write_folder
from .gaussians import FloatArray
from .image import Plane
from .pages import fill_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .encoding import Encoded

PAGE = "index.html"
DATA = "report.json"

LONGEST_SIDE = 2048
"""Larger pictures are shown at this size, pixels, which keeps the page within what a browser opens at once."""

_TILES = (
    ("PSNR", "psnr", ".2f", "dB"),
    ("SSIM", "ssim", ".4f", ""),
    ("file", "bytes", ",", "bytes"),
    ("rate", "bpp", ".3f", "bit/pixel"),
    ("Gaussians", "gaussians", ",", ""),
    ("encoding", "encode_seconds", ".1f", "s"),
)


def write_report(folder: str | Path, encoded: Encoded, figures: Mapping[str, Any], command: str) -> Path:
    """Write the page and ``report.json`` into a folder, which is made if its parent exists.

    Args:
        folder: where to write.
        encoded: the encoding to show.
        figures: what ``figures.measure`` returned for it.
        command: how to reproduce it, as one would type it.

    Returns:
        The page's path.

    Raises:
        ImageError: the folder cannot be made or written.
    """
    page = render_page(encoded, figures, command).encode()
    data = json_text({"command": command, **figures}).encode()
    atomic_write_folder(folder, {PAGE: lambda: page, DATA: lambda: data})
    return Path(folder) / PAGE


def render_page(encoded: Encoded, figures: Mapping[str, Any], command: str) -> str:
    """The page of ``write_report``, as text."""
    info, history = encoded.picture.info, figures["history"]
    ellipses = plots.draw_ellipses(encoded.gaussians, channels=plots.color_channels(info))
    curve = plots.figure_bytes(plots.draw_curve(history), ".svg", transparent=True) if history else b""
    return fill_page(
        "imagegs",
        "report.html.j2",
        title=Path(encoded.picture.source).name or "picture",
        subtitle=f"{figures['width']} × {figures['height']} pixels, {figures['channels']} channels, "
        f"as {figures['gaussians']:,} Gaussians in {figures['bytes']:,} bytes",
        tiles=[
            {"name": name, "value": format(figures[key], form), "unit": unit}
            for name, key, form, unit in _TILES
            if figures[key] is not None
        ],
        notes=[*encoded.picture.notes, *encoded.notes],
        pictures=[_picture(encoded, *part) for part in zip(info.planes, info.slices, strict=True)],
        ellipses=figure_uri(ellipses),
        count=f"{figures['gaussians']:,}",
        curve=data_uri(curve, "image/svg+xml") if curve else "",
        figures=rows(figures),
        bits=_bits(figures["attribute_bits_per_gaussian"]),
        settings=[(name.replace("_", " "), _setting(value)) for name, value in figures["settings"].items()],
        command=command,
    )


def picture_uri(pixels: FloatArray, scale: float = 1.0) -> str:
    """A picture [C, H, W] with one or three channels, cut to [0, 1], as a data URI of 8 bits; ``scale`` shrinks it."""
    return _png(_bytes_of(np.clip(pixels, 0, 1)), scale)


def figure_uri(figure: Figure) -> str:
    """A figure as a data URI."""
    return data_uri(plots.figure_bytes(figure, ".png"), "image/png")


def _picture(encoded: Encoded, plane: Plane, where: slice) -> dict[str, Any]:
    """What the page shows of one plane, whose channels lie at ``where``."""
    original, decoded = (np.clip(pixels[where], 0, 1) for pixels in (encoded.picture.pixels, encoded.decoded))
    error = plots.error_map(original, decoded)
    limit = plots.error_limit(error)
    height, width = error.shape
    shrunk = min(1.0, LONGEST_SIDE / max(height, width))
    return {
        "name": plane.name,
        "original": _png(_bytes_of(original), shrunk),
        "result": _png(_bytes_of(decoded), shrunk),
        "error": _png(plots.false_color(error, limit), shrunk),
        "limit": f"{100 * limit:.1f} %",
        "width": width,
        "height": height,
        "shrunk": f", shown at {100 * shrunk:.0f} % of its size" if shrunk < 1 else "",
    }


def _bytes_of(pixels: FloatArray) -> npt.NDArray[np.uint8]:
    """Channels [C, H, W] in [0, 1] as [H, W] or [H, W, C] bytes."""
    rounded = np.round(255 * pixels).astype(np.uint8)
    return rounded[0] if len(rounded) == 1 else np.ascontiguousarray(rounded.transpose(1, 2, 0))


def _png(values: npt.NDArray[np.uint8], scale: float) -> str:
    image = Image.fromarray(values)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of a media type as a URI that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _bits(bits: Mapping[str, float]) -> list[dict[str, str]]:
    """Each attribute's part of a Gaussian's bits."""
    total = sum(bits.values()) or 1.0
    return [
        {"name": name, "value": f"{value:.1f}", "share": f"{100 * value / total:.1f}"} for name, value in bits.items()
    ]


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_setting(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_setting(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
