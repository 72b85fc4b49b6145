"""Runs every benchmark that takes minutes, and the tables of `imagegs bench`, one after another.

python benchmarks/run.py [--quick]

With --quick the tables alone, each with its own --quick, into build/bench: two Kodak pictures, the middle 512 x 512
pixels of them, few settings. Without it the scripts below and the tables over all Kodak pictures, into
benchmarks/results, which takes a day and more: the published methods have up to 50,000 steps. What the tables have
measured is passed over when it is run again.
Where ../shared/data/kodak is not at hand, the tables are made of a generated picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from common import RESULTS, ROOT, SHARED, generated, kodak

from imagegs import write_image

HERE = Path(__file__).parent
NAMES = ("step", "quality", "scaling", "process", "ablation", "saliency_sources", "lod_server", "lod_counts")
TABLES = (
    "representation",
    "rate-distortion",
    "speed",
    "upsampling",
    "ablation",
    "gallery",
    "progressive",
    "restoration",
    "saliency",
)


def pictures() -> Path:
    """A folder with pictures."""
    if kodak():
        return SHARED / "data" / "kodak"
    folder = ROOT / "build" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "generated.png", generated(512, 768))
    return folder


def main(words: list[str]) -> int:
    unknown = [word for word in words if word != "--quick"]
    if unknown:
        raise SystemExit(f"run.py: expected --quick or nothing, found {' '.join(unknown)}")
    quick = ["--quick"] * bool(words)
    target = ROOT / "build" / "bench" if quick else RESULTS / "tables"
    target.mkdir(parents=True, exist_ok=True)
    commands = [] if quick else [[sys.executable, HERE / f"{name}.py"] for name in NAMES]
    folder = pictures()
    # -P: the folder of the sources must not come before the installed package
    paths = [os.path.relpath(folder, ROOT), "-o", os.path.relpath(target, ROOT)]
    commands += [[sys.executable, "-P", "-m", "imagegs", "bench", name, *paths, *quick] for name in TABLES]
    codes = []
    for command in commands:
        began = time.perf_counter()
        codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
        print(f"run.py: {' '.join(map(str, command[1:]))}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
