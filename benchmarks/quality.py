"""PSNR and time of a fit beside the spike's 1,000 steps, picture by picture in one run.

python benchmarks/quality.py [--quick] [--counts 5000 10000] [--preset balanced]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import THREADS, kodak, pixels, spike, write

from imagegs.fitting.config import make_config
from imagegs.fitting.fit import run
from imagegs.kernels import native


def measure(counts: list[int], preset: str, limit: int | None) -> list[dict[str, Any]]:
    module = spike()
    tables = []
    for count in counts:
        rows = []
        for path in kodak(limit):
            picture = pixels(path)
            row: dict[str, Any] = {"picture": path.name}
            if module is not None:
                image = np.ascontiguousarray(picture.transpose(1, 2, 0))
                score, seconds, _ = module.fit(image, count, 1000)
                row |= {"spike_db": round(float(score), 3), "spike_s": round(seconds, 2)}
            began = time.perf_counter()
            found = run(picture, make_config(picture.shape[1:], gaussians=count, preset=preset))
            row |= {
                "ours_db": round(found.psnr, 3),
                "ours_s": round(time.perf_counter() - began, 2),
                "steps": found.steps,
            }
            rows.append(row)
            print(count, row, flush=True)
        mean = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0] if key != "picture"}
        tables.append({"gaussians": count, "preset": preset, "mean": mean, "pictures": rows})
        print(count, "mean", mean, flush=True)
    return tables


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three pictures")
    parser.add_argument("--counts", type=int, nargs="+", default=[5000, 10000])
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()
    if not kodak():
        raise SystemExit("quality.py: expected the Kodak pictures in ../shared/data/kodak, found none")
    command = (
        f"python benchmarks/quality.py --counts {' '.join(map(str, arguments.counts))} --preset {arguments.preset}"
    )
    with native.threads(THREADS):
        tables = measure(arguments.counts, arguments.preset, 3 if arguments.quick else None)
    write("quality", command + " --quick" * arguments.quick, tables)
