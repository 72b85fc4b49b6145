"""Runs every benchmark that takes minutes, and the tables of `imagegs bench`, one after another.

python benchmarks/run.py [--quick]

With --quick the tables alone, each with its own --quick, into build/bench: two Kodak pictures, the middle 512 x 512
pixels of them, few settings. Without it the scripts below and the tables over all Kodak pictures, into
benchmarks/results, which takes a day and more: the published methods have up to 50,000 steps. What the tables have
measured is passed over when it is run again. The table of textures is made over the sets of maps in
../shared/data/textures.
Where these folders are not at hand, the tables are made of a generated picture, and of maps made of it.
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
    "textures",
    "ablation",
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


def sets() -> Path:
    """A folder with sets of maps."""
    found = SHARED / "data" / "textures"
    if found.is_dir():
        return found
    folder = ROOT / "build" / "sets"
    stack = folder / "generated"
    stack.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("color", "normal")):
        write_image(stack / f"{name}.png", generated(512, 512, seed))
    write_image(stack / "height.png", generated(512, 512, 0)[:1])
    return folder


def main(words: list[str]) -> int:
    unknown = [word for word in words if word != "--quick"]
    if unknown:
        raise SystemExit(f"run.py: expected --quick or nothing, found {' '.join(unknown)}")
    quick = ["--quick"] * bool(words)
    target = ROOT / "build" / "bench" if quick else RESULTS / "tables"
    target.mkdir(parents=True, exist_ok=True)
    commands = [] if quick else [[sys.executable, HERE / f"{name}.py"] for name in NAMES]
    folder, stacks = (os.path.relpath(found, ROOT) for found in (pictures(), sets()))
    where = ["-o", os.path.relpath(target, ROOT)]
    # -P: the folder of the sources must not come before the installed package
    bench = [sys.executable, "-P", "-m", "imagegs", "bench"]
    commands += [[*bench, name, stacks if name == "textures" else folder, *where, *quick] for name in TABLES]
    codes = []
    for command in commands:
        began = time.perf_counter()
        codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
        print(f"run.py: {' '.join(map(str, command[1:]))}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
