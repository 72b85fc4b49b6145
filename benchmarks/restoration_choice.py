"""Ways to choose the number of Gaussians without a clean picture, against the best of a grid that knows it.

python benchmarks/restoration_choice.py [--limit N]

Gaussian noise of 15, 25 and 50 of 255, told, on the middle 256 x 256 of ../shared/data/restoration/clean; the mean of
six fits, no filters. Each way looks at two fits of each number (SURE at four), and expects of the mean of six what they
share and a sixth of what they do not:

- held out: the error at a tenth of the pixels, which the fits do not see;
- sure: Stein's unbiased risk estimate, its divergence from a second look with a fifth of the noise added (Ramani, Blu
  and Unser, IEEE TIP 2008);
- discrepancy: the number whose fits leave just the noise's variance (Morozov);
- coupled bootstrap: what `imagegs restore` does (Oliveira et al., arXiv 2111.09447).

What is reported is how many decibels the chosen number is below the best one.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import write
from restoration import clean_pictures, noise_of, psnr

from imagegs import Picture, fit, render

NUMBERS = (400, 650, 1050, 1700, 2700, 4400)
FITS, LOOKS, STEPS = 6, 2, 200
ADDED, HELD_OUT, NUDGE = 0.4, 0.1, 0.2


def fits_of(pixels: np.ndarray, info: Any, number: int, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    observed = Picture(pixels.astype(np.float32), info)
    return np.stack([render(fit(observed, number, weights=weights, seed=k, steps=STEPS)) for k in range(count)])


def error_of_mean(fits: np.ndarray, wanted: np.ndarray, judged: Any = slice(None)) -> float:
    """What the mean of `FITS` fits would be off, from some: what they do not share shrinks with their number."""
    single = float(np.mean((fits - wanted)[:, :, judged] ** 2))
    mean = float(np.mean((fits.mean(axis=0) - wanted)[:, judged] ** 2))
    lasting = (len(fits) * mean - single) / (len(fits) - 1)
    return lasting + (single - lasting) / FITS


def risks(noisy: np.ndarray, info: Any, sigma: float, number: int, seed: list[int]) -> dict[str, float]:
    """What each way expects of a number of Gaussians: the less, the better. One seed for all numbers."""
    random = np.random.default_rng(seed)
    seen = random.random(noisy.shape[1:]) > HELD_OUT
    held = fits_of(np.where(seen, noisy, noisy.mean()), info, number, LOOKS, seen.astype(np.float32))
    plain, unit = fits_of(noisy, info, number, LOOKS), random.standard_normal(noisy.shape)
    nudged = fits_of(noisy + NUDGE * sigma * unit, info, number, LOOKS)
    divergence = float(np.mean(unit * (nudged - plain))) / (NUDGE * sigma)
    left = error_of_mean(plain, noisy)
    more = sigma * random.standard_normal(noisy.shape)
    coupled = fits_of(noisy + ADDED * more, info, number, LOOKS)
    return {
        "held out": error_of_mean(held, noisy, ~seen),
        "sure": left + 2 * sigma**2 * divergence,
        "discrepancy": abs(left / sigma**2 - 1),
        "coupled bootstrap": error_of_mean(coupled, noisy - more / ADDED),
    }


def main() -> None:
    """Print and write what each way loses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="only so many pictures; nothing is written")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, picture in list(clean_pictures())[: arguments.limit]:
        for level in (15, 25, 50):
            sigma, seed = level / 255, list(f"{name} {level}".encode())
            noisy = picture.pixels + sigma * noise_of(picture.pixels.shape, name)
            truth = [
                psnr(fits_of(noisy, picture.info, number, FITS).mean(axis=0), picture.pixels) for number in NUMBERS
            ]
            expected = [risks(noisy, picture.info, sigma, number, seed) for number in NUMBERS]
            losses = {way: max(truth) - truth[int(np.argmin([risk[way] for risk in expected]))] for way in expected[0]}
            rows.append({"picture": name, "sigma": level, "psnr": truth, "losses": losses})
            print(name, level, np.round(truth, 2), {way: round(loss, 2) for way, loss in losses.items()}, flush=True)
    ways = rows[0]["losses"]
    summary = {
        way: {
            "mean": float(np.mean([row["losses"][way] for row in rows])),
            "worst": max(row["losses"][way] for row in rows),
        }
        for way in ways
    }
    print(summary)
    if arguments.limit is None:
        write("restoration_choice", "python benchmarks/restoration_choice.py", {"summary": summary, "rows": rows})


if __name__ == "__main__":
    main()
