"""One HTML page: the picture, its importance, where the Gaussians lie, and plain and guided files of the same size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion, uniform_filter

from imagegs import Encoded
from imagegs.figures import json_text
from imagegs.files import atomic_write_folder
from imagegs.pages import fill_page
from imagegs.plots import color_channels, draw_density, false_color
from imagegs.report import DATA, LONGEST_SIDE, PAGE, figure_uri, picture_uri

from .maps import FloatArray
from .scores import Scores, region_of, score

CROP_SHARE, CROP_SIDES = 0.22, (48, 192)
"""Side of a crop: a share of the picture's shorter side, and pixels at least and at most."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two encodings of one picture at the same size, and what they came to.

    Attributes:
        plain: without guidance.
        guided: by the map.
        importance: the map [H, W] in [0, 1].
        sources: where it comes from.
        strength: 0 to 1.
    """

    plain: Encoded
    guided: Encoded
    importance: FloatArray
    sources: tuple[str, ...]
    strength: float

    @property
    def scores(self) -> tuple[Scores, Scores]:
        """Of the plain one and the guided one, by the map; by an even one if it is zero everywhere."""
        by = self.importance if self.importance.max() > 0 else np.ones_like(self.importance)
        pixels = self.plain.picture.pixels
        return score(pixels, self.plain.decoded, by), score(pixels, self.guided.decoded, by)


def write_report(folder: Path, pair: Pair, figures: Mapping[str, Any], command: str) -> Path:
    """Write the page and ``report.json`` into a folder, which is made if its parent exists.

    Args:
        folder: where to write.
        pair: the encodings to show.
        figures: of the guided one.
        command: how to reproduce it, as one would type it.

    Returns:
        The page's path.

    Raises:
        ImageError: the folder cannot be made or written.
    """
    before, after = pair.scores
    plain = {"bytes": len(pair.plain.data), "gaussians": len(pair.plain.gaussians), "scores": before.to_dict()}
    page = render_page(pair, command).encode()
    data = json_text({"command": command, **figures, "scores": after.to_dict(), "plain": plain}).encode()
    atomic_write_folder(folder, {PAGE: lambda: page, DATA: lambda: data})
    return folder / PAGE


def render_page(pair: Pair, command: str) -> str:
    """The page of ``write_report``, as text."""
    plain, guided = pair.plain, pair.guided
    picture = plain.picture
    channels = list(color_channels(picture.info))
    shown = [pixels[channels] for pixels in (picture.pixels, plain.decoded, guided.decoded)]
    scale = min(1.0, LONGEST_SIDE / max(picture.height, picture.width))
    original, before, after = (picture_uri(pixels, scale) for pixels in shown)
    scores = pair.scores
    return fill_page(
        __package__,
        "report.html.j2",
        title=Path(picture.source).name or "picture",
        subtitle=f"{picture.width} × {picture.height} pixels, {guided.bpp:.3f} bits per pixel, "
        f"importance from {', '.join(pair.sources)} at strength {pair.strength:g}",
        tiles=_tiles(*scores),
        notes=[*picture.notes, *guided.notes],
        width=picture.width,
        height=picture.height,
        shrunk=f", shown at {100 * scale:.0f} % of its size" if scale < 1 else "",
        original=original,
        plain=before,
        guided=after,
        plain_bytes=f"{len(plain.data):,}",
        guided_bytes=f"{len(guided.data):,}",
        plain_count=f"{len(plain.gaussians):,}",
        guided_count=f"{len(guided.gaussians):,}",
        sources=", ".join(pair.sources),
        map=picture_uri(_overlay(shown[0], pair.importance), scale),
        plain_density=figure_uri(draw_density(plain.gaussians)),
        guided_density=figure_uri(draw_density(guided.gaussians)),
        crops=[_crop(shown, where, name) for name, where in _windows(shown[0], pair.importance)],
        rows=_rows(pair, *scores),
        command=command,
    )


def _tiles(before: Scores, after: Scores) -> list[dict[str, str]]:
    rows = [("weighted PSNR", before.weighted_psnr, after.weighted_psnr)]
    rows.append((f"PSNR, {100 * after.region_share:.1f} % that matter", before.region_psnr, after.region_psnr))
    if before.outside_psnr is not None and after.outside_psnr is not None:
        rows.append(("PSNR of the rest", before.outside_psnr, after.outside_psnr))
    rows.append(("PSNR of everything", before.psnr, after.psnr))
    return [{"name": name, "value": f"{new - old:+.2f}", "unit": f"dB, to {new:.2f}"} for name, old, new in rows]


def _rows(pair: Pair, before: Scores, after: Scores) -> list[tuple[str, ...]]:
    names = {
        "weighted_psnr": "PSNR weighted by the map, dB",
        "region_psnr": "PSNR inside of the region, dB",
        "outside_psnr": "PSNR outside of it, dB",
        "psnr": "PSNR, dB",
        "region_ms_ssim": "MS-SSIM inside of the region",
        "outside_ms_ssim": "MS-SSIM outside of it",
    }
    sizes = len(pair.plain.data), len(pair.guided.data)
    counts = len(pair.plain.gaussians), len(pair.guided.gaussians)
    found: list[tuple[str, ...]] = [
        ("size of the file, bytes", *(f"{size:,}" for size in sizes), f"{100 * (sizes[1] / sizes[0] - 1):+.2f} %"),
        ("Gaussians", *(f"{count:,}" for count in counts), f"{100 * (counts[1] / max(1, counts[0]) - 1):+.1f} %"),
    ]
    for key, name in names.items():
        old, new = getattr(before, key), getattr(after, key)
        if old is not None and new is not None:
            digits = 4 if "ssim" in key else 2
            found.append((name, f"{old:.{digits}f}", f"{new:.{digits}f}", f"{new - old:+.{digits}f}"))
    return found


def _overlay(colors: FloatArray, importance: FloatArray) -> FloatArray:
    """The picture in grey under the map in false colours, and a line around the region."""
    gray = np.broadcast_to(colors.mean(axis=0), (3, *importance.shape))
    heat = false_color(importance.astype(np.float64), 1.0).astype(np.float32).transpose(2, 0, 1)[:3] / 255
    found = np.clip(0.45 * gray + 0.75 * heat, 0, 1)
    if importance.max() > 0:
        region = region_of(importance)
        width = max(1, round(min(importance.shape) / 300))
        found[:, region & ~binary_erosion(region, iterations=width)] = 1
    return np.ascontiguousarray(found, dtype=np.float32)


def _windows(colors: FloatArray, importance: FloatArray) -> list[tuple[str, tuple[slice, slice]]]:
    """Two crops: where importance is highest, and where it is lowest though there is something to see."""
    height, width = importance.shape
    side = int(min(max(CROP_SHARE * min(height, width), CROP_SIDES[0]), CROP_SIDES[1], height, width))
    mean = uniform_filter(importance.astype(np.float64), side, mode="nearest")
    gray = colors.mean(axis=0, dtype=np.float64)
    detail = np.sqrt(np.maximum(uniform_filter(gray**2, side) - uniform_filter(gray, side) ** 2, 0))
    low = side // 2
    inner = slice(low, max(low + 1, height - (side - low) + 1)), slice(low, max(low + 1, width - (side - low) + 1))
    found = []
    for name, worth in (("where it matters", mean), ("elsewhere", detail * (1 - mean) ** 4)):
        part = worth[inner]
        row, column = np.unravel_index(int(np.argmax(part)), part.shape)
        found.append((name, (slice(int(row), int(row) + side), slice(int(column), int(column) + side))))
    return found


def _crop(shown: list[FloatArray], where: tuple[slice, slice], name: str) -> dict[str, Any]:
    pictures = [(title, picture_uri(pixels[:, *where])) for title, pixels in zip(_TITLES, shown, strict=True)]
    side = where[0].stop - where[0].start
    return {"where": name, "pictures": pictures, "width": side, "height": where[1].stop - where[1].start}


_TITLES = ("original", "plain", "guided")
