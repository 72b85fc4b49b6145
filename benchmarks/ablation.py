"""What each choice of the fit is worth: switched off or changed once, PSNR and time over a few Kodak pictures.

python benchmarks/ablation.py [--quick]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import THREADS, kodak, pixels, write

from imagegs.codec import BitWidths
from imagegs.fitting.config import make_config
from imagegs.fitting.fit import run
from imagegs.kernels import native

GAUSSIANS, STEPS = 5000, 800
PICTURES = ("kodim01.png", "kodim03.png", "kodim05.png", "kodim09.png")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "another seed": {"seed": 1},
    "blend topk, K = 10": {"blend": "topk", "top_k": 10},
    "blend sum": {"blend": "sum"},
    "start by gradient": {"init": "gradient"},
    "start at random": {"init": "random"},
    "all Gaussians from the start": {"start_fraction": 1.0},
    "no relocation": {"relocate": 0.0},
    "no relocation, no growth": {"relocate": 0.0, "start_fraction": 1.0},
    "growth by error, not its square": {"error_power": 1.0},
    "Adam betas 0.9, 0.999": {"betas": (0.9, 0.999)},
    "Adam betas 0.9, 0.999, epsilon 1e-8": {"betas": (0.9, 0.999), "epsilon": 1e-8},
    "inverse scales, the official rates": {
        "shape": "inverse-scale",
        "rates": {"position": 5e-4, "scale": 2e-3, "rotation": 2e-3, "color": 5e-3},
    },
    "coarse to fine, 30 %": {"coarse": 0.3},
    "no colour solve": {"color_solve": 0},
    "loss L1": {"loss": {"l1": 1.0, "l2": 0.0}},
    "rounded to the default widths": {"bits": BitWidths()},
    "rounded to 10, 6, 6, 6 bits, from 85 % on": {"bits": BitWidths(10, 6, 6, 6)},
    "rounded to 10, 6, 6, 6 bits, only at the end": {"bits": BitWidths(10, 6, 6, 6), "quantize_from": 1.0},
    "as above, and no colour solve": {"bits": BitWidths(10, 6, 6, 6), "quantize_from": 1.0, "color_solve": 0},
    "2,000 steps": {"steps": 2000},
}


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
    chosen = dict(list(VARIANTS.items())[:4]) if arguments.quick else VARIANTS
    with native.threads(THREADS):
        rows = measure(list(PICTURES[: 1 if arguments.quick else None]), chosen)
    results = {"gaussians": GAUSSIANS, "steps": STEPS, "pictures": PICTURES, "variants": rows}
    write("ablation", "python benchmarks/ablation.py" + " --quick" * arguments.quick, results)
