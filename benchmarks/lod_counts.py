"""What the first 5,000, 7,000 and 9,000 Gaussians of progressive files show, from real bytes.

python benchmarks/lod_counts.py [--quick]

The counts at which P-GSVC (arXiv 2603.10551) reports Kodak; here Kodak 1 to 12, effort 5, one file each
with 9,000 Gaussians in three levels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import THREADS, kodak, write
from imagegs.apps.lod import export

from imagegs import read_image
from imagegs.arranging import prefixes

NAME, COUNTS, EFFORT = "lod_counts", (5000, 7000, 9000), 5
PUBLISHED = (28.5, 29.4, 30.2)


def measure(path: Path, effort: int) -> dict[str, Any]:
    found = export(path, gaussians=COUNTS[-1], level_gaussians=COUNTS[:-1], effort=effort, threads=THREADS)
    rows = prefixes(found.data, read_image(path).pixels)
    return {"picture": path.stem, "bytes": len(found.data), "bpp": found.bpp, "levels": rows}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two pictures, effort 2")
    quick = parser.parse_args().quick
    results = []
    for path in kodak(2 if quick else 12):
        results.append(measure(path, 2 if quick else EFFORT))
        print(path.stem, [f"{row['gaussians']}: {row['psnr']:.2f} dB" for row in results[-1]["levels"]], flush=True)
    mean = [float(np.mean([found["levels"][k]["psnr"] for found in results])) for k in range(len(COUNTS))]
    for count, psnr, other in zip(COUNTS, mean, PUBLISHED, strict=True):
        print(f"{count:,} Gaussians: {psnr:.2f} dB; asked: above {other} dB")
    summary = {"mean_psnr": mean, "mean_bpp": float(np.mean([found["bpp"] for found in results]))}
    if not quick:
        write(NAME, f"python benchmarks/{NAME}.py", {"mean": summary, "pictures": results})


if __name__ == "__main__":
    main()
