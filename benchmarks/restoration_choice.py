"""Ways to choose the number of Gaussians without a clean picture, against the best of a grid that knows it.

python benchmarks/restoration_choice.py [--limit N]

Gaussian noise of 15, 25 and 50 of 255, told, on the middle 256 x 256 of ../shared/data/restoration/clean; the mean of
six fits, no filters. Each way looks at two fits of each number:

- held out: the error at a tenth of the pixels, which the fits do not see;
- sure: Stein's unbiased risk estimate, its divergence from a second look with a fifth of the noise added (Ramani, Blu
  and Unser, IEEE TIP 2008);
- discrepancy: the number whose fits leave just the noise's variance (Morozov);
- coupled bootstrap: what `imagegs restore` does (Oliveira et al., arXiv 2111.09447).

What is reported is how many decibels the chosen number is below the best one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write
from restoration import clean_pictures, noise_of, psnr

from imagegs import Picture, fit, render

NUMBERS = (400, 650, 1050, 1700, 2700, 4400)
FITS, LOOKS, STEPS = 6, 2, 200
ADDED, HELD_OUT, NUDGE = 0.4, 0.1, 0.2


def mean_of(pixels: np.ndarray, info: Any, number: int, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    observed = Picture(pixels.astype(np.float32), info)
    fits = (render(fit(observed, number, weights=weights, seed=seed, steps=STEPS)) for seed in range(count))
    return np.mean(list(fits), axis=0)


def risks(noisy: np.ndarray, info: Any, sigma: float, number: int, seed: list[int]) -> dict[str, float]:
    """What each way expects of a number of Gaussians: the less, the better. One seed for all numbers."""
    random = np.random.default_rng(seed)
    look: Callable[..., np.ndarray] = lambda pixels, **more: mean_of(pixels, info, number, LOOKS, **more)  # noqa: E731
    seen = random.random(noisy.shape[1:]) > HELD_OUT
    held = look(np.where(seen, noisy, noisy.mean()), weights=seen.astype(np.float32))
    plain, unit = look(noisy), random.standard_normal(noisy.shape)
    nudged = look(noisy + NUDGE * sigma * unit)
    divergence = float(np.mean(unit * (nudged - plain))) / (NUDGE * sigma)
    left = float(np.mean((plain - noisy) ** 2))
    more = sigma * random.standard_normal(noisy.shape)
    coupled = look(noisy + ADDED * more)
    return {
        "held out": float(np.mean((held - noisy)[:, ~seen] ** 2)),
        "sure": left + 2 * sigma**2 * divergence,
        "discrepancy": abs(left / sigma**2 - 1),
        "coupled bootstrap": float(np.mean((coupled - (noisy - more / ADDED)) ** 2)),
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
            truth = [psnr(mean_of(noisy, picture.info, number, FITS), picture.pixels) for number in NUMBERS]
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
