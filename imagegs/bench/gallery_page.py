"""The page of the gallery: one HTML file that holds every picture in itself, and a script that lays them over another.

JPEG, WebP and AVIF are there as their own files, which the browser decodes; what it cannot decode, and the original,
as lossless WebP of the decoded pixels. Without the script the pictures stand below one another.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from PIL import Image

from ..pages import fill_page
from ..report import data_uri
from .anchors import OURS, shown, to_image
from .running import Outcome

ORIGINAL = "original"
SCRIPT = "gallery.js"
KINDS = {"jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
"""Files that browsers decode."""
THUMBNAIL = 192, 128
"""Pixels, two for each that is shown."""
ROUNDEST, WIDEST = 1.0, 2.0
"""Width over height of a pane: that of the first picture, within these."""


def render_page(record: Mapping[str, Any], outcomes: Sequence[Outcome], labels: Mapping[str, str]) -> str:
    """The page, as text.

    Args:
        record: of the table.
        outcomes: of its cells, with their files.
        labels: of the codecs, by key.
    """
    sources = dict.fromkeys(outcome.cell.source for outcome in outcomes)
    pictures: list[dict[str, Any]] = []
    for number, source in enumerate(sources, 1):
        image = to_image(source.pixels)
        mine = [outcome for outcome in outcomes if outcome.cell.source == source]
        pictures.append(
            {
                "name": source.name,
                "width": image.width,
                "height": image.height,
                "thumbnail": data_uri(_thumbnail(image), "image/webp"),
                "original": data_uri(_lossless(image), "image/webp"),
                "id": f"{number}-{ORIGINAL}",
                "rates": [_rate(number, outcome, labels) for outcome in mine],
            }
        )
    codecs = {ORIGINAL: ORIGINAL.capitalize()} | dict(labels)
    return fill_page(
        "imagegs.bench",
        "gallery.html.j2",
        title="1 picture" if len(pictures) == 1 else f"{len(pictures):,} pictures",
        ratio=min(max(pictures[0]["width"] / pictures[0]["height"], ROUNDEST), WIDEST),
        pictures=pictures,
        codecs=codecs,
        own=[labels[key] for key in labels if key in KINDS],
        lossless=[labels[key] for key in labels if key not in KINDS],
        rates=[f"{row['bpp']:g}" for row in record["summary"]["rates"]],
        size=_size(pictures),
        right=next((key for key in ("jpeg", *labels) if key in labels and key != OURS), ORIGINAL),
        notes=[*record["notes"], *record["left_out"]],
        command=record["command"],
        script=files("imagegs.bench").joinpath(SCRIPT).read_text(encoding="utf-8"),
    )


def _rate(number: int, outcome: Outcome, labels: Mapping[str, str]) -> dict[str, Any]:
    """What the page shows of a picture at a rate."""
    rate = f"{outcome.cell.settings['bpp']:g}"
    found, limit = outcome.found["codecs"], outcome.found["codecs"][OURS]["bytes"]
    return {
        "bpp": rate,
        "notes": outcome.found["notes"],
        "codecs": [
            {
                "id": f"{number}-{rate}-{key}",
                "label": label,
                **_codec(key, found[key], limit, outcome.found["files"].get(key)),
            }
            for key, label in labels.items()
        ],
    }


def _codec(key: str, found: Mapping[str, float], limit: int, encoded: str | None) -> dict[str, str]:
    if encoded is None:
        return {"uri": "", "none": f"No file of {limit:,} bytes or fewer: its smallest has {found['smallest']:,}"}
    data = base64.b64decode(encoded)
    own = key in KINDS
    return {
        "uri": data_uri(data if own else _lossless(to_image(shown(key, data))), KINDS[key] if own else "image/webp"),
        "bytes": f"{found['bytes']:,}",
        "bpp": f"{found['bpp']:.3f}",
        "psnr": f"{found['psnr']:.2f}",
        "ssim": f"{found['ssim']:.4f}",
    }


def _size(pictures: Sequence[Mapping[str, Any]]) -> str:
    """Of all that is in the page as data URIs, which take 4 bytes for 3."""
    uris = [picture[kind] for picture in pictures for kind in ("thumbnail", "original")]
    uris += [codec["uri"] for picture in pictures for rate in picture["rates"] for codec in rate["codecs"]]
    return f"{sum(map(len, uris)) / 1e6:,.1f} MB"


def _lossless(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=80)
    return buffer.getvalue()


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
