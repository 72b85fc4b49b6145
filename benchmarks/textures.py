"""Texture stacks beside texture formats of GPUs and beside picture files, at equal bits per channel and pixel.

python benchmarks/textures.py [--quick]

The sets of maps in ../shared/data/textures. Ours codes a set as one stack; ASTC, BC1, BC4 (maps of one channel) and
BC7 code each map on its own, with what their blocks take; JPEG, WebP and AVIF code each map with one quality for all
of them, the best whose files together are no larger than ours. PSNR is over all channels of all maps. Random access:
multiply-adds for one texel of all maps, counted at every texel centre, from lists of 8 x 8 pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED, write
from PIL import Image

from imagegs import Sampler, encode, read_image
from imagegs.image import Picture

RATES, EFFORT, ASTC = (0.05, 0.1, 0.2, 0.3), 2, (4, 5, 6, 8, 10, 12)
Map = np.ndarray
"""[H, W, C] bytes of one map, with 1 or 3 channels."""


def maps_of(picture: Picture) -> list[Map]:
    """The maps of a stack."""
    values = np.round(255 * np.clip(picture.pixels, 0, 1)).astype(np.uint8)
    return [np.ascontiguousarray(np.moveaxis(values[where], 0, -1)) for where in picture.info.slices]


def psnr(maps: list[Map], found: list[Map]) -> float:
    """Over all channels, dB."""
    errors = [np.square(a.astype(float) - b).sum() for a, b in zip(maps, found, strict=True)]
    return float(-10 * np.log10(sum(errors) / sum(one.size for one in maps) / 255**2))


def rgba(one: Map) -> np.ndarray:
    """Four channels, as the texture encoders take them."""
    colors = np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one
    return np.ascontiguousarray(np.concatenate([colors, np.full_like(colors[..., :1], 255)], axis=2))


def astc(one: Map, side: int) -> tuple[int, Map]:
    """Bytes and what they decode to."""
    import astc_encoder as library

    height, width, channels = one.shape
    context = library.ASTCContext(library.ASTCConfig(library.ASTCProfile.LDR, side, side, 1, 60.0))
    kept = library.ASTCSwizzle.from_str("RRR1" if channels == 1 else "RGB1")
    data = context.compress(library.ASTCImage(library.ASTCType.U8, width, height, 1, rgba(one).tobytes()), kept)
    image = library.ASTCImage(library.ASTCType.U8, width, height, 1)
    context.decompress(data, image, library.ASTCSwizzle.from_str("RGBA"))
    return len(data), np.frombuffer(image.data, np.uint8).reshape(height, width, 4)[..., :channels]


def blocks(one: Map, kind: str) -> tuple[int, Map]:
    """BC1 or BC7; BC4 for a map of one channel in place of the first."""
    import etcpak
    import texture2ddecoder

    height, width, channels = one.shape
    texels = rgba(one).tobytes()
    if kind == "bc7":
        data = etcpak.compress_bc7(texels, width, height, etcpak.BC7CompressBlockParams())
        back = texture2ddecoder.decode_bc7(data, width, height)
    elif channels == 1:
        data = etcpak.compress_bc4(texels, width, height)
        back = texture2ddecoder.decode_bc4(data, width, height)
    else:
        data = etcpak.compress_bc1(texels, width, height)
        back = texture2ddecoder.decode_bc1(data, width, height)
    colors = np.frombuffer(back, np.uint8).reshape(height, width, 4)[..., [2, 1, 0]]
    return len(data), colors[..., :channels]


def files(maps: list[Map], kind: str, most: int) -> tuple[int, float] | None:
    """Bytes and PSNR of picture files of the best quality that takes no more bytes; None if the worst does."""
    best = None
    low, high = 0, 100
    while low <= high:
        quality = (low + high) // 2
        size, found = 0, []
        for one in maps:
            image, buffer = Image.fromarray(one[..., 0] if one.shape[2] == 1 else one), io.BytesIO()
            image.save(buffer, kind, quality=quality, **({} if kind == "WEBP" else {"subsampling": "4:4:4"}))
            size += buffer.tell()
            found.append(np.asarray(Image.open(buffer).convert(image.mode)).reshape(one.shape))
        if size <= most:
            best, low = (size, psnr(maps, found)), quality + 1
        else:
            high = quality - 1
    return best


def centers(height: int, width: int) -> np.ndarray:
    """UV of every texel's centre."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([x / width, y / height], axis=-1)


def measured(folder: Path, quick: bool) -> dict[str, Any]:
    """Everything of one set."""
    picture = read_image(folder)
    if quick:
        corner = np.ascontiguousarray(picture.pixels[:, :256, :256])
        picture = Picture(corner, picture.info)
    maps = maps_of(picture)
    channels, height, width = picture.pixels.shape
    samples = channels * height * width
    rows: list[dict[str, Any]] = []

    def add(name: str, size: int, value: float, **more: Any) -> None:
        rows.append({"method": name, "bits": 8 * size / samples, "psnr": value, **more})
        print(folder.name, json.dumps(rows[-1]), flush=True)

    texture: dict[str, Callable[[Map], tuple[int, Map]]] = {
        **{f"ASTC {side} x {side}": lambda one, side=side: astc(one, side) for side in ASTC},
        "BC1, BC4": lambda one: blocks(one, "bc1"),
        "BC7": lambda one: blocks(one, "bc7"),
    }
    for name, coder in texture.items():
        coded = [coder(one) for one in maps]
        add(name, sum(size for size, _ in coded), psnr(maps, [found for _, found in coded]))
    for rate in RATES[: 1 if quick else None]:
        for blend in ("normalized", "topk"):
            if blend == "topk" and rate not in RATES[1:2]:
                continue
            began = time.perf_counter()
            made = encode(picture, bpp=rate * channels, effort=EFFORT, blend=blend, top_k=10)
            seconds = time.perf_counter() - began
            found = maps_of(Picture(made.decoded, picture.info))
            cost = Sampler(made.gaussians).cost(centers(height, width))
            name = "ours" if blend == "normalized" else "ours, topk, K = 10"
            add(
                name,
                len(made.data),
                psnr(maps, found),
                gaussians=len(made.gaussians),
                seconds=seconds,
                multiply_adds=cost.multiply_adds,
                looked=cost.looked,
                taken=cost.taken,
                resident=8 * cost.bytes / samples,
            )
            if blend == "normalized":
                for kind in ("JPEG", "WEBP", "AVIF"):
                    best = files(maps, kind, len(made.data))
                    if best is not None:
                        add(kind, *best, beside=rate)
    return {"channels": channels, "size": [height, width], "rows": rows}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="corners, one rate; nothing is written")
    quick = parser.parse_args().quick
    sets = sorted(path for path in (SHARED / "data" / "textures").glob("*") if path.is_dir())
    if not sets:
        raise SystemExit("textures.py: expected sets of maps in ../shared/data/textures, found none")
    results = {path.name: measured(path, quick) for path in sets}
    if not quick:
        write("textures", "python benchmarks/textures.py", results)


if __name__ == "__main__":
    main()
