"""Before and after: the picture of docs/restoration.md.

python benchmarks/restoration_pictures.py

Part of the demonstration's photograph with noise of 25 of 255, with half of its pixels missing, at a third of its size,
with a fifth of its pixels black or white, with noise of a sensor, and as JPEG of quality 10; what `restore` makes of
each, blindly. Writes docs/images/restoration.jpg.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from common import ROOT
from imagegs.apps.restoration import Downsample, read_jpeg, restore
from PIL import Image
from skimage import data

from imagegs import Picture, PictureInfo, as_picture

OUTPUT = ROOT / "docs" / "images" / "restoration.jpg"
WHERE = (slice(40, 280), slice(180, 480))


def main() -> None:
    """Restore and write."""
    clean = np.ascontiguousarray(data.coffee()[WHERE].transpose(2, 0, 1), dtype=np.float32) / 255
    info, random = PictureInfo.of_channels(3), np.random.default_rng(11)
    noisy = np.clip(clean + 25 / 255 * random.standard_normal(clean.shape), 0, 1).astype(np.float32)
    known = random.random(clean.shape[1:]) < 0.5
    holes = np.where(known, clean, 0).astype(np.float32)
    operator = Downsample(3)
    small = np.clip(operator(torch.from_numpy(clean)).numpy(), 0, 1)
    enlarged = np.repeat(np.repeat(small, 3, axis=1), 3, axis=2)
    hit, white = random.random((2, *clean.shape[1:]))
    salted = np.where(hit < 0.2, white < 0.5, clean).astype(np.float32)
    grainy = clean + np.sqrt(0.02**2 + 0.02 * clean) * random.standard_normal(clean.shape)
    grainy = np.clip(grainy, 0, 1).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * clean).astype(np.uint8).transpose(1, 2, 0)).save(buffer, "JPEG", quality=10)
    blocky = as_picture(Image.open(buffer)).pixels
    rows = [
        [noisy, holes, enlarged],
        [
            restore(Picture(noisy, info)).picture.pixels,
            restore(Picture(holes, info), known=known, noise=0.0).picture.pixels,
            restore(Picture(small, info), operator).picture.pixels,
        ],
        [salted, grainy, blocky],
        [
            restore(Picture(salted, info)).picture.pixels,
            restore(Picture(grainy, info)).picture.pixels,
            restore(Picture(blocky, info), read_jpeg(buffer.getvalue()), noise=0.0).picture.pixels,
        ],
    ]
    sheet = np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1)
    Image.fromarray(np.round(255 * np.clip(sheet, 0, 1)).astype(np.uint8).transpose(1, 2, 0)).save(OUTPUT, quality=85)
    print(f"{OUTPUT.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
