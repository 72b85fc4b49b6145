"""Many small pictures: what a second process is worth, and whether memory stays flat.

python benchmarks/batch.py [--quick]

- 64 pictures of 192 x 128 pixels by one process and by two, one thread each; the median of three runs of both, in turn.
- 2,000 pictures of 32 x 24 pixels by two processes: memory of all processes after a quarter of them, and at the end.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import write
from PIL import Image

from imagegs.batching import find_jobs, run_batch

RUNS, SEED = 3, 1


def draw(folder: Path, count: int, width: int, height: int) -> None:
    """Pictures of waves and noise, each another."""
    random = np.random.default_rng(SEED)
    y, x = np.mgrid[0:height, 0:width]
    for number in range(count):
        lengths = random.uniform(4, 40, (3, 2))
        waves = [127 + 60 * np.sin(x / across) + 50 * np.cos(y / down) for across, down in lengths]
        pixels = np.stack(waves, axis=-1) + random.normal(0, 4, (height, width, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number:04}.png")


def resident() -> int:
    """Bytes in memory of this process and its children."""
    own = Path("/proc/self")
    children = (own / "task" / own.resolve().name / "children").read_text().split()
    pages = [int((Path("/proc") / one / "statm").read_text().split()[1]) for one in (own.resolve().name, *children)]
    return 4096 * sum(pages)


def seconds(source: Path, workers: int, settings: dict[str, Any]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        summary = run_batch(find_jobs([source], target), target, {**settings, "threads": 1}, workers=workers)
        assert not summary.failed
        return summary.seconds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pictures; nothing is written")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        small, tiny = Path(folder) / "small", Path(folder) / "tiny"
        small.mkdir()
        tiny.mkdir()
        draw(small, 8 if quick else 64, 192, 128)
        draw(tiny, 40 if quick else 2000, 32, 24)
        runs = [{workers: seconds(small, workers, {"effort": 3}) for workers in (1, 2)} for _ in range(RUNS)]
        ratios = sorted(run[1] / run[2] for run in runs)
        memory: list[int] = []
        target = Path(folder) / "out"
        run_batch(
            find_jobs([tiny], target),
            target,
            {"effort": 1, "threads": 1},
            workers=2,
            on_record=lambda *_: memory.append(resident()),
        )
    results = {
        "seconds": runs,
        "two over one": {"median": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]},
        "memory": {"quarter": memory[len(memory) // 4], "end": memory[-1], "most": max(memory)},
    }
    print(results)
    if not quick:
        write("batch", "python benchmarks/batch.py", results)


if __name__ == "__main__":
    main()
