"""A picture of 8192 x 8192 pixels with 400,000 Gaussians: memory, seams, and what a region of it costs.

python benchmarks/giant.py [--quick] [--effort N]

A mosaic of the pictures in ../shared (cut so that none of its edges lies on a block's), as a tiled TIFF, goes through
`imagegs giant` as a process of its own, and the memory of it and its workers is looked at every half second
(proportional set sizes). Then:

- PSNR within 1, 4 and 16 pixels of the borders of blocks (256 pixels) and of tiles (1024), less that of all within 96
  pixels; and the same for lines that are no borders, as a control;
- 512 x 512 pixels at random places: share of the file that is read, and seconds, as a call and as a process; and
  through HTTP ranges from a server on loopback.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyvips
from common import SHARED, generated, write
from imagegs.apps.lod.server import make_app
from PIL import Image

from imagegs import decode
from imagegs.giant.windows import open_windows

ROW, SIDE, REGION, PLACES = 463, 8192, 512, 40
WIDTHS = (1, 4, 16)


def mosaic(side: int, path: Path) -> None:
    """Rows of pictures, mirrored every other time, each cut to another width."""
    paths = [*sorted(SHARED.glob("data/stylized/*.png")), *sorted(SHARED.glob("data/kodak/*.png"))]
    sources = [np.asarray(Image.open(one).convert("RGB")) for one in paths]
    if not sources:
        sources = [np.uint8(255 * generated(512, 768, seed).transpose(1, 2, 0)) for seed in range(8)]
    random, whole, number = np.random.default_rng(0), np.zeros((side, side, 3), np.uint8), 0
    for top in range(0, side, ROW):
        left = 0
        while left < side:
            source = sources[number % len(sources)][:, :: -1 if number // len(sources) % 2 else 1]
            number += 1
            piece = source[: min(ROW, side - top), : source.shape[1] - int(random.integers(7, 90))][:, : side - left]
            piece = np.pad(piece, ((0, min(ROW, side - top) - len(piece)), (0, 0), (0, 0)), mode="reflect")
            whole[top : top + ROW, left : left + piece.shape[1]] = piece
            left += piece.shape[1]
    pyvips.Image.new_from_array(whole).tiffsave(
        str(path), tile=True, tile_width=256, tile_height=256, compression="deflate"
    )


def watched(command: list[str]) -> tuple[dict[str, Any], int, float]:
    """What a command prints as JSON; the most memory that it and its children had, bytes; their core seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    family, most = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            members = [family, *family.children(recursive=True)]
            most = max(most, sum(member.memory_full_info().pss for member in members))
        except psutil.Error:
            pass  # one has just ended
        time.sleep(0.5)
    assert process.stdout is not None
    assert process.returncode == 0, command
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(process.stdout.read()), most, spent


def squared_errors(source: Path, file: Path, folder: Path) -> np.ndarray:
    """Mean over the channels [H, W], drawn strip by strip."""
    windows = open_windows(str(source), folder)
    found = np.empty((windows.height, windows.width), np.float32)
    for top in range(0, windows.height, 1024):
        box = 0, top, windows.width, min(1024, windows.height - top)
        found[top : top + box[3]] = np.square(decode(file, region=box).pixels - windows.read(box)).mean(axis=0)
    return found


def border_gaps(errors: np.ndarray, side: int, shift: int = 0) -> dict[str, float]:
    """Decibels by which the PSNR at lines, every ``side`` pixels from ``shift``, is above that of all around them."""
    away = []
    for length in errors.shape:
        place = (np.arange(length) - shift) % side
        distance = np.minimum(place, side - 1 - place)
        distance[:96] = distance[-96:] = side  # the canvas's own border is none
        away.append(distance)
    distance = np.minimum(away[0][:, None], away[1][None, :])
    around = errors[distance < 96].mean(dtype=np.float64)
    return {
        str(width): round(10 * float(np.log10(around / errors[distance < width].mean(dtype=np.float64))), 3)
        for width in WIDTHS
    }


class Counting(io.FileIO):
    """A file that counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        """As of a file."""
        data = super().read(-1 if size is None else size)
        self.count += len(data)
        return data


def regions(file: Path, side: int) -> dict[str, Any]:
    """What squares at random places cost."""
    from lod_reading import running

    random, size = np.random.default_rng(1), file.stat().st_size
    places = [tuple(float(at) for at in random.integers(0, side - REGION, 2)) for _ in range(PLACES)]
    shares, seconds, remote = [], [], []
    for x, y in places:
        with Counting(file) as opened:
            began = time.perf_counter()
            decode(opened, region=(x, y, REGION, REGION))
            seconds.append(time.perf_counter() - began)
            shares.append(opened.count / size)
    with running(make_app(file.parent)) as port:
        for x, y in places[:10]:
            began = time.perf_counter()
            decode(f"http://127.0.0.1:{port}/{file.name}", region=(x, y, REGION, REGION))
            remote.append(time.perf_counter() - began)
    command = [sys.executable, "-m", "imagegs", "decode", str(file), "-o", str(file.with_suffix(".png"))]
    command += ["--region", f"{side // 3},{side // 3},{REGION},{REGION}"]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--region", f"{side // 3},{side // 3},{REGION},{REGION}"], check=True, stdout=subprocess.DEVNULL
    )
    return {
        "share of the file": {
            "median": statistics.median(shares),
            "mean": statistics.mean(shares),
            "most": max(shares),
        },
        "seconds": {"median": statistics.median(seconds), "most": max(seconds)},
        "seconds by HTTP": {"median": statistics.median(remote), "most": max(remote)},
        "seconds of a process": time.perf_counter() - began,
    }


def main() -> None:
    """Measure, print and write."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2048 x 2048 pixels; nothing is written")
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the picture and the file, to look at")
    options = parser.parse_args()
    side = 2048 if options.quick else SIDE
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(exist_ok=True)
        source, file = folder / "mosaic.tif", folder / "mosaic.gsimg"
        mosaic(side, source)
        results: dict[str, Any] = {"side": side, "effort": options.effort}
        for levels in (2,) if options.quick else (2, 1):
            command = [sys.executable, "-m", "imagegs", "giant", str(source), "-o", str(file), "--json"]
            command += [
                "-n",
                str(round(400_000 * (side / SIDE) ** 2)),
                "-e",
                str(options.effort),
                "--levels",
                str(levels),
            ]
            facts, memory, spent = watched(command)
            errors = squared_errors(source, file, folder)
            results[f"levels {levels}"] = {
                **{key: facts[key] for key in ("bytes", "bpp", "gaussians", "psnr_of_levels", "tiles", "seconds")},
                "core seconds per megapixel": round(spent / (side * side / 1e6), 2),
                "peak memory, bytes": memory,
                "PSNR at borders of blocks": border_gaps(errors, 256),
                "PSNR at borders of tiles": border_gaps(errors, 1024),
                "PSNR at other lines": border_gaps(errors, 256, 100),
                "region": regions(file, side),
            }
            print(json.dumps(results[f"levels {levels}"], indent=1))
    if not options.quick:
        write("giant", f"python benchmarks/giant.py --effort {options.effort}", results)


if __name__ == "__main__":
    main()
