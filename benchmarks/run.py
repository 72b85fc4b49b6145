"""Runs every benchmark, and the tables of `imagegs bench`, one after another; then draws up docs/results.md.

python benchmarks/run.py [--quick]

With --quick the tables alone, each with its own --quick, into build/bench: two Kodak pictures, the middle 512 x 512
pixels of them, few settings. Without it all that `overview.py` reads: the scripts below, into benchmarks/results, and
the tables as `JOBS` has them, into docs/results, which takes more than a day. What the tables, and
`rate_distortion.py`, have measured is passed over when it is run again.
Where ../shared/data is not at hand, --quick makes its tables of generated pictures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, SHARED, generated
from overview_figures import TABLES

from imagegs import write_image

HERE = Path(__file__).parent
SCRIPTS: tuple[tuple[str, ...], ...] = (
    ("step",),
    ("quality",),
    ("scaling",),
    ("process",),
    ("saliency_sources",),
    ("saliency_rate",),
    ("lod_server",),
    ("lod_counts",),
    ("lod_rate",),
    ("browser",),
    ("restoration_choice",),
    ("restoration",),
    ("batch",),
    ("costs",),
    ("dataset",),
    ("giant", "--effort", "2"),
    ("rate_distortion",),
    ("rate_distortion", "--write-docs"),
)


@dataclass(frozen=True)
class Job:
    """A table to be made.

    Attributes:
        table: of `imagegs bench`.
        data: a folder of pictures or of sets of maps in ../shared/data, or one picture.
        below: folder of docs/results where it goes.
        options: of the command.
    """

    table: str
    data: str = "kodak"
    below: str = ""
    options: tuple[str, ...] = ()


JOBS = (
    Job("representation", options=("--methods", "fast,balanced", "--counts", "1000,5000,10000,40000")),
    Job("representation", below="published", options=("--limit", "1", "--counts", "1000,5000")),
    Job("rate-distortion", options=("--limit", "1", "--gaussian-image", "5000")),
    Job("speed", options=("--limit", "3")),
    Job("upsampling", options=("--limit", "4")),
    Job("upsampling", "stylized/peppercarrot_castle_2k.png", "large"),
    Job("textures", "textures"),
    Job("ablation", options=("--limit", "2")),
    Job("progressive", options=("--limit", "4")),
    Job("restoration", options=("--limit", "1")),
    Job("saliency", options=("--limit", "4")),
    Job("gallery", "stylized/game_kenney_city.png", options=("--bpp", "0.15")),
)


def data(name: str) -> Path:
    """The pictures, or sets of maps, of that name, or a folder with a generated one."""
    if (SHARED / "data" / name).exists():
        return SHARED / "data" / name
    folder = ROOT / "build" / "pictures"
    maps = {"generated": generated(512, 768)}
    if name == "textures":
        folder = ROOT / "build" / "sets" / "generated"
        maps = {name: generated(512, 512, seed) for seed, name in enumerate(("color", "normal"))}
        maps["height"] = maps["color"][:1]
    folder.mkdir(parents=True, exist_ok=True)
    for stem, pixels in maps.items():
        write_image(folder / f"{stem}.png", pixels)
    return folder.parent if name == "textures" else folder


def table(job: Job, quick: bool) -> list[str | Path]:
    """The command of a table; its folder is made."""
    target = (ROOT / "build" / "bench" if quick else TABLES) / job.below
    target.mkdir(parents=True, exist_ok=True)
    options = ("--quick",) if quick else job.options
    paths = [os.path.relpath(data(job.data), ROOT), "-o", os.path.relpath(target, ROOT)]
    # -P: the folder of the sources must not come before the installed package
    return [sys.executable, "-P", "-m", "imagegs", "bench", job.table, *paths, *options]


def main(words: list[str]) -> int:
    unknown = [word for word in words if word != "--quick"]
    if unknown:
        raise SystemExit(f"run.py: expected --quick or nothing, found {' '.join(unknown)}")
    quick = bool(words)
    if not (quick or (SHARED / "data").is_dir()):
        raise SystemExit("run.py: expected the pictures of ../shared/data, found none; --quick makes do with others")
    commands = [table(job, quick) for job in JOBS if not (quick and job.below)]
    if not quick:
        scripts = [[sys.executable, HERE / f"{name}.py", *options] for name, *options in SCRIPTS]
        commands = [*scripts, *commands, [sys.executable, HERE / "overview.py"]]
    codes = []
    for command in commands:
        began = time.perf_counter()
        codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
        print(f"run.py: {' '.join(map(str, command[1:]))}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return int(any(codes))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
