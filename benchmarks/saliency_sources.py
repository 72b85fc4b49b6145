"""Sources of importance: how well they say where people look, and how long a map takes.

python benchmarks/saliency_sources.py [--quick] [--weights FOLDER]

The scores of AUC-Judd, shuffled AUC and NSS are means over the pictures of SALICON, those of CC, SIM and KL over these
and the ones of MIT1003. What needs weights that are not at hand is timed with random ones, which take as long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import SHARED, THREADS, generated, timed, write
from imagegs.apps.saliency import builtin, emlnet, fastgaze, vit
from imagegs.apps.saliency.fixations import Sample, Table, evaluate, points_of, read_fixations, tabulate
from imagegs.apps.saliency.maps import FloatArray, Predictor, smooth, stretch

from imagegs import DeviceError, WeightsError

DATA = SHARED / "data" / "saliency"
SIZES = ((512, 768), (1536, 2048))
GAZE_BLUR = 19 / 800
"""Of SALICON's densities: 19 pixels in 640 x 480, as a share of the diagonal."""
SCORES = {
    "auc_judd": "AUC-Judd",
    "shuffled_auc": "sAUC",
    "nss": "NSS",
    "cc": "CC",
    "sim": "SIM",
    "kl": "KL",
}


@dataclass(frozen=True)
class Source:
    """A line of the table.

    Attributes:
        name: as printed.
        predictor: what is timed; None where it is no model, or one that takes as long as another here.
        scores: None where only the time means something.
        note: what must be known about it.
    """

    name: str
    predictor: Predictor | None
    scores: Table | None
    note: str = ""


def center(rgb: FloatArray) -> FloatArray:
    return builtin.center_prior((rgb.shape[1], rgb.shape[2]))


def classical_sources(samples: list[Sample]) -> list[Source]:
    predictors = {"centre prior": center, "builtin": builtin.load(), "builtin, no centre": builtin.load(center=False)}
    for name in ("surroundedness", "rarity"):
        predictors[name] = builtin.load([name])
        predictors[f"{name}, no centre"] = builtin.load([name], center=False)
    return [_scored(name, predictor, samples) for name, predictor in predictors.items()]


def learned_sources(samples: list[Sample], folder: Path | None) -> list[Source]:
    loads: dict[str, tuple[Callable[[], Predictor], Callable[[], Predictor] | None]] = {
        "fastgaze": (lambda: fastgaze.load(_fastgaze_folder(folder)), None),
        "fastgaze, no centre": (lambda: fastgaze.load(_fastgaze_folder(folder), center=False), None),
        "emlnet": (lambda: emlnet.load(folder), _random_emlnet),
        "vit attention": (lambda: vit.load(folder=folder), lambda: _random_vit("attention")),
        "vit features": (lambda: vit.load(method="features", folder=folder), lambda: _random_vit("features")),
    }
    found = []
    for name, (load, load_random) in loads.items():
        try:
            found.append(_scored(name, load(), samples))
        except (DeviceError, WeightsError) as error:
            print(f"{name}: {error}", flush=True)
            if load_random is not None and not isinstance(error, DeviceError):
                found.append(Source(name, load_random(), None, "random weights: time only"))
    return found


def bounds(samples: list[Sample]) -> list[Source]:
    """What no model can be expected to pass: other people, and the very gazes that are to be said."""
    seen = [sample for sample in samples if sample.observers]
    halves = [_gaze_map(sample.observers[::2], sample) for sample in seen]
    others = [
        replace(sample, points=points_of(half, sample.density.shape), density=_gaze_map(half, sample))
        for sample, half in ((sample, sample.observers[1::2]) for sample in seen)
    ]
    people = tabulate(halves, others) if others else None
    itself = tabulate([sample.density for sample in samples], samples)
    return [
        Source("half of the observers", None, people, "against the other half, SALICON only"),
        Source("the density itself", None, itself, "it knows the answer"),
    ]


def measured(sources: list[Source], repeats: int) -> list[dict[str, Any]]:
    rows = []
    for source in sources:
        row: dict[str, Any] = {"source": source.name}
        if source.note:
            row["note"] = source.note
        if source.scores is not None:
            row |= {key: _rounded(value) for key, value in asdict(source.scores.mean).items() if key in SCORES}
            row["pictures"] = [
                {key: _rounded(value) for key, value in asdict(picture).items()} for picture in source.scores.rows
            ]
        if source.predictor is not None:
            row["times"] = {
                f"{width} x {height}": _timed(source.predictor, generated(height, width), repeats)
                for height, width in SIZES
            }
        print(source.name, {key: row[key] for key in row if key not in ("source", "pictures")}, flush=True)
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    head = ["source", *SCORES.values(), *(f"{width} × {height}, s" for height, width in SIZES)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        cells = [_cell(row.get(key)) for key in SCORES]
        cells += [_cell(took["median_ms"] / 1e3) for took in row.get("times", {}).values()] or ["", ""]
        label = row["source"] + (f" ({row['note']})" if "note" in row else "")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _fastgaze_folder(folder: Path | None) -> Path | None:
    return SHARED / "weights" if folder is None and (SHARED / "weights" / "fastgaze.vxm").is_file() else folder


def _random_emlnet() -> Predictor:
    network = emlnet.EmlNet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, module in (("imagenet", network.imagenet), ("places", network.places), ("decoder", network.decoder)):
            state = {key.removeprefix("backbone."): value for key, value in module.state_dict().items()}
            torch.save({"state_dict": state}, folder / f"res_{part}.pth")
        return emlnet.load(folder)


def _random_vit(method: vit.Method) -> Predictor:
    return vit.predictor(vit.create(vit.DEFAULT), method)


def _gaze_map(observers: tuple[Any, ...], sample: Sample) -> FloatArray:
    return stretch(smooth(points_of(observers, sample.density.shape).astype(np.float32), GAZE_BLUR))


def _scored(name: str, predictor: Predictor, samples: list[Sample]) -> Source:
    return Source(name, None if "no centre" in name else predictor, evaluate(predictor, samples))


def _timed(predictor: Predictor, picture: FloatArray, repeats: int) -> dict[str, float]:
    began = time.perf_counter()
    predictor(picture)
    slow = time.perf_counter() - began > 0.5
    return timed(lambda: predictor(picture), 3 if slow else repeats, 0 if slow else 1)


def _rounded(value: Any) -> Any:
    # adding 0 makes a rounded -0 the 0 that it is
    return round(value, 4) + 0 if isinstance(value, float) else value


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three repeats of each time")
    parser.add_argument("--weights", type=Path, help="folder of the weights; by default the environment's or the cache")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("saliency_sources.py: expected fixations in ../shared/data/saliency, found none")
    torch.set_num_threads(THREADS)
    samples = read_fixations(DATA)
    sources = [*classical_sources(samples), *learned_sources(samples, arguments.weights), *bounds(samples)]
    rows = measured(sources, 3 if arguments.quick else 9)
    print(markdown(rows))
    write("saliency_sources", "python benchmarks/saliency_sources.py" + " --quick" * arguments.quick, rows)
