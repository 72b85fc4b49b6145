"""What each choice of the fit is worth: switched off or changed once, PSNR and time over a few Kodak pictures.

python benchmarks/ablation.py [--quick]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import THREADS, kodak, pixels, write

from imagegs.bench.ablation import FIT
from imagegs.fitting.config import make_config
from imagegs.fitting.fit import run
from imagegs.kernels import native

GAUSSIANS, STEPS = 5000, 800
PICTURES = ("kodim01.png", "kodim03.png", "kodim05.png", "kodim09.png")


def measure(names: list[str], variants: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    paths = [path for path in kodak() if path.name in names]
    rows = []
    for variant, changes in variants.items():
        found = []
        for path in paths:
            picture = pixels(path)
            settings = {"steps": STEPS, **changes}
            found.append(run(picture, make_config(picture.shape[1:], gaussians=GAUSSIANS, **settings)))
        row = {
            "variant": variant,
            "psnr_db": [round(result.psnr, 3) for result in found],
            "mean_db": round(float(np.mean([result.psnr for result in found])), 3),
            "mean_s": round(float(np.mean([result.seconds for result in found])), 2),
        }
        rows.append(row)
        row["gain_db"] = round(row["mean_db"] - rows[0]["mean_db"], 3)
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one picture and the first variants")
    arguments = parser.parse_args()
    if not kodak():
        raise SystemExit("ablation.py: expected the Kodak pictures in ../shared/data/kodak, found none")
    chosen = dict(list(FIT.items())[:4]) if arguments.quick else FIT
    with native.threads(THREADS):
        rows = measure(list(PICTURES[: 1 if arguments.quick else None]), chosen)
    results = {"gaussians": GAUSSIANS, "steps": STEPS, "pictures": PICTURES, "variants": rows}
    write("ablation", "python benchmarks/ablation.py" + " --quick" * arguments.quick, results)
