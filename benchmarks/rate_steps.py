"""What each of the quantiser's steps is worth: decibels and bits when it alone changes, on pictures of no table.

    python benchmarks/rate_steps.py [--gaussians 2500]

At the optimum all slopes, decibels over bits per Gaussian, are the same, and equal to what bits are worth when they go
into more Gaussians. ``Steps`` in imagegs/codec/lattice.py were chosen so; this is the check. Fits are made once, with
noise of the usual steps, and coded with others.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from common import write

from imagegs.codec.lattice import Steps
from imagegs.compression import EFFORTS, Coded, Job, code, fit, quality_of
from imagegs.encoding import fit_config
from imagegs.goals import Goal
from imagegs.image import as_picture

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PICTURES = (
    "saliency/images/salicon_123177.png",
    "saliency/images/salicon_123514.png",
    "saliency/images/salicon_123749.png",
    "restoration/clean/mcmaster05.png",
)
CHANGE = 1.3


def measure(job: Job, coded: Coded) -> tuple[float, float]:
    """PSNR, dB, and bits per Gaussian."""
    return quality_of(job, coded, "psnr"), 8 * len(coded.data) / len(coded.gaussians)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussians", type=int, default=2500)
    count = parser.parse_args().gaussians
    names = [field.name for field in fields(Steps)]
    rows: dict[str, list[tuple[float, float]]] = {}
    for path in PICTURES:
        if not (DATA / path).exists():
            sys.exit(f"{DATA / path}: expected a picture, found none")
        picture = as_picture(DATA / path)
        job = Job(picture, EFFORTS[5], fit_config((picture.height, picture.width), Goal("gaussians", count), 0, {}))
        gaussians = fit(job, count, job.effort.steps).gaussians
        usual = measure(job, code(job, gaussians, job.factor))
        for name in names:
            for change in (CHANGE, 1 / CHANGE):
                steps = replace(job.steps, **{name: getattr(job.steps, name) * change})
                found = measure(job, code(replace(job, steps=steps), gaussians, job.factor))
                rows.setdefault(f"{name} x {change:.2f}", []).append((found[0] - usual[0], found[1] - usual[1]))
    table = {}
    for name, changes in rows.items():
        psnr, bits = np.mean(changes, axis=0)
        table[name] = {"psnr": psnr, "bits": bits, "slope": psnr / bits}
        print(f"{name:16} {psnr:+.3f} dB {bits:+.2f} bits per Gaussian, slope {psnr / bits:.3f} dB per bit")
    write(
        "rate_steps",
        "python benchmarks/rate_steps.py",
        {"pictures": list(PICTURES), "gaussians": count, "changes": table},
    )


if __name__ == "__main__":
    main()
