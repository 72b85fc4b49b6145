"""Pictures of docs/saliency.md: a portrait and a product photograph, plain and guided, in files of the same size.

python benchmarks/saliency_pictures.py

Both photographs come with scikit-image: "astronaut", Eileen Collins, NASA, public domain; "coffee", Rachel Michetti,
courtesy of Pikolo Espresso Bar, CC0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from common import ROOT, THREADS
from imagegs.apps.saliency import Box, Sources, encode, importance, score
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from imagegs import as_picture
from imagegs import encode as encode_plain
from imagegs.plots import false_color

FOLDER = ROOT / "docs" / "images"
SIDE, GAP, LABEL = 360, 8, 26


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def overlay(pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
    heat = false_color(found.astype(np.float64), 1.0)[..., :3].astype(np.float32)
    gray = 255 * pixels.mean(axis=0)[..., None]
    return np.clip(0.45 * gray + 0.75 * heat, 0, 255).astype(np.uint8)


def sheet(columns: Sequence[tuple[str, np.ndarray]], path: Any) -> None:
    """Pictures beside each other, each with a line above it."""
    tiles = []
    for _, values in columns:
        image = Image.fromarray(values)
        width = round(SIDE * image.width / image.height)
        tiles.append(image.resize((width, SIDE), Image.Resampling.LANCZOS))
    page = Image.new("RGB", (sum(tile.width for tile in tiles) + GAP * (len(tiles) - 1), SIDE + LABEL), "white")
    draw, left = ImageDraw.Draw(page), 0
    font = ImageFont.load_default(14)
    for (title, _), tile in zip(columns, tiles, strict=True):
        draw.text((left + 2, 4), title, fill="black", font=font)
        page.paste(tile, (left, LABEL))
        left += tile.width + GAP
    page.save(path, quality=90, optimize=True)


def show(name: str, values: np.ndarray, sources: Sources, strength: float, bpp: float, crop: tuple[int, ...]) -> None:
    picture = as_picture(Image.fromarray(values))
    found = importance(picture, sources)
    plain = encode_plain(picture, bpp=bpp, threads=THREADS)
    guided = encode(picture, found, strength=strength, size=len(plain.data), threads=THREADS)
    scores = [score(picture.pixels, encoded.decoded, found) for encoded in (plain, guided)]
    print(
        f"{name}: {len(plain.data)} and {len(guided.data)} bytes, {plain.bpp:.3f} bpp, from {', '.join(sources.names)}"
    )
    for title, one in zip(("plain", "guided"), scores, strict=True):
        print(title, {key: round(value, 3) for key, value in one.to_dict().items() if value is not None})
    x, y, side = crop
    cut = (slice(None), slice(y, y + side), slice(x, x + side))
    columns = [
        ("original", to_bytes(picture.pixels)),
        (f"importance ({', '.join(sources.names)})", overlay(picture.pixels, found)),
        ("original, crop", to_bytes(picture.pixels[cut])),
        (f"plain, {len(plain.data):,} bytes", to_bytes(plain.decoded[cut])),
        (f"guided, {len(guided.data):,} bytes", to_bytes(guided.decoded[cut])),
    ]
    sheet(columns, FOLDER / f"saliency-{name}.jpg")


if __name__ == "__main__":
    face = Sources(boxes=(Box(170, 60, 110, 130), Box(150, 40, 150, 170, 0.4)))
    show("portrait", data.astronaut(), face, 1.0, 0.25, (160, 50, 140))
    show("product", data.coffee(), Sources(), 1.0, 0.2, (200, 130, 180))
