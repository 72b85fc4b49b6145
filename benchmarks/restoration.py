"""Restoration beside classical methods, each in the same run on the same degraded picture.

python benchmarks/restoration.py [--tasks denoise,inpaint,...] [--limit N] [--write-docs]

- denoise: Gaussian noise of 15, 25 and 50 of 255, not cut to [0, 1], on whole Kodak pictures up to 12; beside
  non-local means, BayesShrink wavelets, total variation and the bilateral filter of scikit-image with its own estimate,
  and, where the package bm3d is installed (not for commercial use, by its licence), CBM3D, which is told the noise.
- poisson: variance 0.02² + 0.02 times brightness; beside non-local means.
- impulses: a fifth of the pixels black or white, also with noise of 10 of 255, and a tenth of the values random,
  which is told; beside the better median of 3 x 3 and 5 x 5.
- inpaint: half of the pixels missing, and holes in the shape of text; beside biharmonic inpainting and Telea's
  (OpenCV).
- upscale: 2 and 4 times, from bicubic; beside Pillow's bicubic and Lanczos.
- deblur: a bell of 2 px and 1 % noise; beside Richardson-Lucy with a mirrored margin, best of four numbers of rounds.
- dejpeg: quality 10; beside the decoded file.
- real: noisy photographs and their clean counterparts (../shared/data/restoration/real_pairs); beside non-local means.
- joint: restored *and* compressed, at 0.25, 0.5 and 0.95 bits per pixel of kodim02, 04 and 06 with noise; beside
  non-local means or wavelets followed by JPEG or WebP of no more bytes (the better one), and these alone.

Others on the pictures of ../shared/data/restoration/clean and on kodim02, 06 and 10, the middle 256 x 256 pixels; PSNR
against the clean picture, restored ones cut to [0, 1]. Nothing is told to the method but the operator.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, SHARED, kodak, write
from imagegs.apps.restoration import Blur, Downsample, restore
from imagegs.apps.restoration.bench import blindly, estimated, noise_of, richardson_lucy
from PIL import Image, ImageDraw, ImageFont

from imagegs import Picture, decode, encode, read_image

NAME, SIDE = "restoration", 256
DOCUMENT = ROOT / "docs" / "restoration.md"
Found = dict[str, Any]


def psnr(found: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(found, 0, 1) - clean) ** 2)))


def clean_pictures() -> Iterator[tuple[str, Picture]]:
    for path in sorted((SHARED / "data" / "restoration" / "clean").glob("*.png")):
        yield path.stem, cropped(read_image(path))


def cropped(picture: Picture) -> Picture:
    """The middle of a picture."""
    top, left = (picture.height - SIDE) // 2, (picture.width - SIDE) // 2
    pixels = picture.pixels[:, top : top + SIDE, left : left + SIDE]
    return Picture(np.ascontiguousarray(pixels), picture.info)


def whole_kodak() -> Iterator[tuple[str, Picture]]:
    paths = kodak(12)
    for path in paths[1::2] + paths[::2]:
        yield path.stem, read_image(path)


def cropped_kodak() -> Iterator[tuple[str, Picture]]:
    for path in kodak(12)[1::4]:
        yield path.stem, cropped(read_image(path))


def timed(work: Callable[[], np.ndarray], clean: np.ndarray) -> Found:
    began = time.perf_counter()
    found = work()
    return {"psnr": psnr(found, clean), "seconds": time.perf_counter() - began}


def ours(observed: np.ndarray, clean: Picture, *arguments: Any, **options: Any) -> Found:
    began = time.perf_counter()
    found = restore(Picture(observed.astype(np.float32), clean.info), *arguments, **options)
    seconds = time.perf_counter() - began
    return {"psnr": psnr(found.picture.pixels, clean.pixels), "seconds": seconds, "gaussians": found.gaussians}


def denoise(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    try:
        from bm3d import bm3d_rgb
    except ImportError:
        bm3d_rgb = None
    clean = picture.pixels
    for sigma in (15, 25, 50):
        noisy = (clean + sigma / 255 * noise_of(clean.shape, name)).astype(np.float32)
        works = blindly(noisy, estimated(noisy))
        if bm3d_rgb is not None:
            works["cbm3d"] = lambda y=noisy, s=sigma: bm3d_rgb(y.transpose(1, 2, 0), s / 255).transpose(2, 0, 1)
        rows = {method: timed(work, clean) for method, work in works.items()}
        yield f"sigma {sigma}", {"observed": {"psnr": psnr(noisy, clean)}, "ours": ours(noisy, picture), **rows}


def poisson(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    clean = picture.pixels
    noisy = (clean + np.sqrt(0.02**2 + 0.02 * clean) * noise_of(clean.shape, name)).astype(np.float32)
    nlm = timed(blindly(noisy, estimated(noisy))["nlm"], clean)
    yield "gain 0.02", {"observed": {"psnr": psnr(noisy, clean)}, "ours": ours(noisy, picture), "nlm": nlm}


def impulses(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    from scipy.ndimage import median_filter

    clean, random = picture.pixels, np.random.default_rng(list(name.encode()))
    hit, white = random.random(clean.shape[1:]) < 0.2, random.random(clean.shape[1:]) < 0.5
    noisy = np.clip(clean + 10 / 255 * noise_of(clean.shape, name), 0, 1)
    values, single = random.random(clean.shape), random.random(clean.shape) < 0.1
    for what, seen, told in (
        ("20 % black or white", np.where(hit, white, clean), None),
        ("and noise of 10", np.where(hit, white, noisy), None),
        ("10 % of any value", np.where(single, values, clean), True),
    ):
        best = max(psnr(median_filter(seen, (1, side, side)), clean) for side in (3, 5))
        rows = {"ours": ours(seen, picture, impulses=told), "median": {"psnr": best}}
        yield what, {"observed": {"psnr": psnr(seen, clean)}, **rows}


def text_holes(height: int, width: int) -> np.ndarray:
    """Which pixels are known where text was written over a picture."""
    page = Image.new("L", (width, height), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(18)
    for row in range(0, height, 24):
        draw.text((-(row % 50), row), "holes in the shape of text " * 4, 0, font=font)
    return np.asarray(page) > 127


def inpaint(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    import cv2
    from skimage.restoration import inpaint_biharmonic

    def telea(seen: np.ndarray, known: np.ndarray) -> np.ndarray:
        levels = np.round(255 * seen).astype(np.uint8).transpose(1, 2, 0)
        return cv2.inpaint(levels, (~known).astype(np.uint8), 3, cv2.INPAINT_TELEA).transpose(2, 0, 1) / 255

    clean = picture.pixels
    size = clean.shape[1:]
    random = np.random.default_rng(list(name.encode())).random(size) < 0.5
    for what, known in (("half missing", random), ("text", text_holes(*size))):
        seen = np.where(known, clean, 0)
        mine = ours(seen, picture, known=known, noise=0.0)
        rows = {
            "ours": mine,
            "biharmonic": timed(lambda y=seen, k=known: inpaint_biharmonic(y, ~k, channel_axis=0), clean),
            "telea": timed(lambda y=seen, k=known: telea(y, k), clean),
        }
        yield what, rows


def upscale(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    import torch

    clean = picture.pixels
    for factor in (2, 4):
        operator = Downsample(factor)
        seen = np.round(255 * np.clip(operator(torch.from_numpy(clean)).numpy(), 0, 1)) / 255
        rows = {"ours": ours(seen, picture, operator)}
        for method, kind in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
            planes = [Image.fromarray(channel.astype(np.float32)).resize((SIDE, SIDE), kind) for channel in seen]
            rows[method] = {"psnr": psnr(np.stack([np.asarray(plane) for plane in planes]), clean)}
        yield f"x{factor}", rows


def deblur(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    import torch

    clean, operator = picture.pixels, Blur.gaussian(2)
    blurred = operator(torch.from_numpy(clean)).numpy() + 0.01 * noise_of(clean.shape, name)
    seen = np.clip(blurred, 0, 1)
    best = max(psnr(richardson_lucy(seen, operator.kernel, n), clean) for n in (5, 10, 20, 30))
    rows = {"ours": ours(seen, picture, operator), "richardson-lucy": {"psnr": best}}
    yield "2 px, 1 %", {"observed": {"psnr": psnr(seen, clean)}, **rows}


def dejpeg(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    from imagegs.apps.restoration import read_jpeg

    clean, buffer = picture.pixels, io.BytesIO()
    image = Image.fromarray(np.round(255 * clean).astype(np.uint8).transpose(1, 2, 0))
    image.save(buffer, "JPEG", quality=10)
    seen = np.asarray(Image.open(buffer).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
    rows = {
        "observed": {"psnr": psnr(seen, clean)},
        "ours": ours(seen, picture, read_jpeg(buffer.getvalue()), noise=0.0),
    }
    yield "quality 10", rows


def real_pairs() -> Iterator[tuple[str, Picture]]:
    for path in sorted((SHARED / "data" / "restoration" / "real_pairs").glob("*_clean.png")):
        yield path.stem.removesuffix("_clean"), read_image(path)


def real(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    clean = picture.pixels
    noisy = read_image(SHARED / "data" / "restoration" / "real_pairs" / f"{name}_noisy.png").pixels
    nlm = timed(blindly(noisy, estimated(noisy))["nlm"], clean)
    yield "noise of cameras", {"observed": {"psnr": psnr(noisy, clean)}, "ours": ours(noisy, picture), "nlm": nlm}


def coded(pixels: np.ndarray, clean: np.ndarray, size: int) -> float:
    """The best PSNR of JPEG and WebP files of these pixels with no more bytes."""
    image = Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8).transpose(1, 2, 0))
    best = -np.inf
    for kind in ("JPEG", "WEBP"):
        for quality in range(1, 96, 2):
            buffer = io.BytesIO()
            image.save(buffer, kind, quality=quality)
            if buffer.tell() > size:
                break
            found = np.asarray(Image.open(buffer).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            best = max(best, psnr(found, clean))
    return float(best)


def joint(name: str, picture: Picture) -> Iterator[tuple[str, Found]]:
    clean = picture.pixels
    for sigma in (15, 25, 50):
        noisy = np.clip(clean + sigma / 255 * noise_of(clean.shape, name), 0, 1).astype(np.float32)
        works = blindly(noisy, estimated(noisy))
        filtered = {f"{method}, coded": works[method]() for method in ("nlm", "wavelet")} | {"coded": noisy}
        began = time.perf_counter()
        restored = restore(Picture(noisy, picture.info)).picture
        for bpp in (0.25, 0.5, 0.95):
            encoded = encode(restored, bpp=bpp)
            row = {"psnr": psnr(decode(encoded.data).pixels, clean), "seconds": time.perf_counter() - began}
            others = {what: {"psnr": coded(pixels, clean, len(encoded.data))} for what, pixels in filtered.items()}
            yield f"sigma {sigma}, {bpp} bpp", {"observed": {"psnr": psnr(noisy, clean)}, "ours": row, **others}


TASKS: dict[str, tuple[Callable[..., Iterator[tuple[str, Found]]], Callable[[], Iterator[tuple[str, Picture]]]]] = {
    "denoise": (denoise, whole_kodak),
    "poisson": (poisson, clean_pictures),
    "impulses": (impulses, clean_pictures),
    "inpaint": (inpaint, clean_pictures),
    "inpaint kodak": (inpaint, cropped_kodak),
    "upscale": (upscale, clean_pictures),
    "upscale kodak": (upscale, cropped_kodak),
    "deblur": (deblur, clean_pictures),
    "deblur kodak": (deblur, cropped_kodak),
    "dejpeg": (dejpeg, clean_pictures),
    "dejpeg kodak": (dejpeg, cropped_kodak),
    "real": (real, real_pairs),
    "joint": (joint, lambda: itertools.islice(whole_kodak(), 3)),
}


def means(rows: list[Found]) -> Found:
    """Mean PSNR and seconds of each method over pictures."""
    found: Found = {}
    for method in rows[0]:
        found[method] = {key: float(np.mean([row[method][key] for row in rows])) for key in rows[0][method]}
    return found


def cell(row: Found, bold: str = "") -> str:
    seconds = f" ({row['seconds']:.0f} s)" if row.get("seconds", 0) >= 0.5 else ""
    return f"{bold}{row['psnr']:.2f}{bold}{seconds}"


def table(results: Found) -> str:
    """Markdown: one line for each degradation."""
    lines = ["| degradation | degraded | this | others |", "|---|---|---|---|"]
    order = list(TASKS)
    for what, mean in sorted(results["means"].items(), key=lambda item: order.index(item[0].split(",")[0])):
        others = ", ".join(
            f"{method} {cell(row)}" for method, row in mean.items() if method not in ("observed", "ours")
        )
        seen = f"{mean['observed']['psnr']:.2f}" if "observed" in mean else ""
        lines.append(f"| {what} | {seen} | {cell(mean['ours'], '**')} | {others} |")
    return "\n".join(lines)


def choice_table(summary: Found) -> str:
    """Markdown: one line for each way to choose the number of Gaussians."""
    lines = ["| way | in the mean | at worst |", "|---|---|---|"]
    return "\n".join(lines + [f"| {way} | {row['mean']:.2f} | {row['worst']:.2f} |" for way, row in summary.items()])


def put_between(text: str, name: str, inner: str) -> str:
    """A text with what stands between the marks of this name replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{inner}\n{end}{rest.split(end)[1]}"


def write_docs(results: Found) -> None:
    text = put_between(DOCUMENT.read_text(encoding="utf-8"), "figures", table(results))
    choice = json.loads((RESULTS / "restoration_choice.json").read_text(encoding="utf-8"))["results"]["summary"]
    DOCUMENT.write_text(put_between(text, "choice", choice_table(choice)), encoding="utf-8")


def main() -> None:
    """Measure task by task; what was measured before of other tasks stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS), help="which, by commas")
    parser.add_argument("--limit", type=int, help="only so many pictures; nothing is written")
    parser.add_argument("--write-docs", action="store_true", help="only put the figures at hand into the document")
    arguments = parser.parse_args()
    path = Path(RESULTS / f"{NAME}.json")
    results: Found = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    if arguments.write_docs:
        write_docs(results)
        return
    results.setdefault("means", {})
    results.setdefault("pictures", {})
    for task in arguments.tasks.split(","):
        work, pictures = TASKS[task]
        rows: dict[str, list[Found]] = {}
        for name, picture in list(pictures())[: arguments.limit]:
            for what, found in work(name, picture):
                rows.setdefault(f"{task}, {what}", []).append(found)
                shown = {method: round(row["psnr"], 2) for method, row in found.items()}
                print(name, task, what, shown, flush=True)
                results["pictures"].setdefault(f"{task}, {what}", {})[name] = found
            results["means"] |= {what: means(found) for what, found in rows.items()}
            if arguments.limit is None:
                write(NAME, f"python benchmarks/{NAME}.py", results)
    print(table(results))


if __name__ == "__main__":
    main()
