"""The stages of the pipeline as pictures, for docs/concepts.md.

python docs/making/pictures.py

The photograph of `imagegs demo`, encoded as that does, looked at on its way. Writes docs/images/stage-*.jpg and prints
the figures that the page names.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data

import imagegs
from imagegs.fitting.config import make_config
from imagegs.fitting.initialization import start_density
from imagegs.fitting.targets import analyze, make_target
from imagegs.plots import draw_ellipses, error_limit, error_map, false_color, figure_bytes

FOLDER = Path(__file__).resolve().parents[1] / "images"
GAUSSIANS, PRESET = 6000, "fast"
LOOKS = (1, 10, 60)
"""Steps after which the fit is looked at."""
GAP = 8
QUALITY = 84
LARGE = 3840
"""Columns of the picture at 4K."""
PART = (352.0, 28.0, 80.0, 60.0)
"""What is shown of it, canvas pixels."""


def to_image(pixels: npt.NDArray[Any]) -> Image.Image:
    """Floats [C, H, W] as a picture of eight bits."""
    return Image.fromarray(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8).transpose(1, 2, 0))


def ellipses(gaussians: imagegs.Gaussians2D) -> Image.Image:
    """Gaussians as ellipses, on white, pixel for pixel of the canvas."""
    drawn = Image.open(io.BytesIO(figure_bytes(draw_ellipses(gaussians), ".png"))).convert("RGB")
    return drawn.resize((gaussians.width, gaussians.height), Image.Resampling.LANCZOS)


def heat(values: npt.NDArray[Any], colormap: str) -> Image.Image:
    """Values [H, W] in false colours; the brightest thousandth share one."""
    return Image.fromarray(false_color(values, float(np.quantile(values, 0.999)), colormap))


def write(name: str, rows: list[list[Image.Image]], width: int) -> None:
    """Pictures of one size in rows, as a JPEG file of panels of this width."""
    height = round(width * rows[0][0].height / rows[0][0].width)
    size = (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            fitting = panel.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(fitting, (column * (width + GAP), row * (height + GAP)))
    path = FOLDER / f"stage-{name}.jpg"
    sheet.save(path, quality=QUALITY, optimize=True, progressive=True)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    """Fit, look and write."""
    photograph = Image.fromarray(data.coffee())
    seen: dict[int, imagegs.Gaussians2D] = {}

    def look(progress: imagegs.Progress) -> None:
        if progress.step in LOOKS and progress.step not in seen:
            seen[progress.step] = progress.snapshot()
            print(f"step {progress.step} of {progress.steps}: {progress.gaussians:,} Gaussians, {progress.psnr:.2f} dB")

    encoded = imagegs.encode(photograph, gaussians=GAUSSIANS, preset=PRESET, on_step=look)
    print(f"{len(encoded.data):,} bytes, {encoded.bpp:.3f} bits per pixel, {encoded.psnr:.2f} dB")
    pixels, final = encoded.picture.pixels, encoded.gaussians
    target = make_target(pixels)
    structure = analyze(target.pixels)
    density = start_density(target, structure, make_config(target.size, gaussians=GAUSSIANS))
    write("gradient", [[photograph, heat(structure.gradient, "magma"), heat(density, "viridis")]], 400)
    first = seen[LOOKS[0]]
    write("start", [[ellipses(first), to_image(imagegs.render(first))]], 560)
    grown = [*(seen[step] for step in LOOKS[1:]), final]
    write("growth", [[ellipses(one) for one in grown], [to_image(imagegs.render(one)) for one in grown]], 330)
    error = error_map(pixels, encoded.decoded)
    write("result", [[to_image(encoded.decoded), Image.fromarray(false_color(error, error_limit(error)))]], 560)
    scale = LARGE / photograph.width
    side = round(PART[2] * scale), round(PART[3] * scale)
    box = (PART[0], PART[1], PART[0] + PART[2], PART[1] + PART[3])
    enlarged = [photograph.resize(side, kind, box) for kind in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)]
    drawn = to_image(imagegs.render(final, height=side[1], width=side[0], region=PART))
    write("large", [[*enlarged, drawn]], side[0])


if __name__ == "__main__":
    main()
