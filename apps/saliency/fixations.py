"""How well an importance map says where people look: six scores, and the folder that they are measured on.

```
             every point of the picture counts          only where somebody looked counts
density Q    CC, SIM, KL                                -
points F     -                                          NSS, AUC-Judd, sAUC (against where people look elsewhere)
```

The definitions are those of Bylinskii, Judd, Oliva, Torralba and Durand, "What do different evaluation metrics tell us
about saliency models?", arXiv 1604.03605. A map that is the same everywhere says nothing and scores as chance does: 0.5
for the areas, 0 for NSS and CC; SIM and KL see it as uniform. Which score a map was made for matters: Kümmerer, Wallis
and Bethge, "Saliency Benchmarking Made Easy", arXiv 1704.08615. A centre prior is good at all of them but sAUC.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imagegs import ImageError, ShapeError, read_image

from .maps import FloatArray, Predictor, as_rgb

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.int64]

EPSILON = float(np.finfo(np.float64).eps)
"""What keeps KL finite where a map is 0; the value of the MIT benchmark."""


@dataclass(frozen=True)
class Sample:
    """A picture and where people looked.

    Attributes:
        name: of its file, without the extension.
        picture: [3, H, W], sRGB in [0, 1].
        density: [H, W] in [0, 1]: fixations, blurred.
        points: [H, W]: where at least one gaze fell; None where only the density is known.
        observers: the gazes of each, [n, 2] as (x, y) in pixels counted from 0; empty where they are not known.
    """

    name: str
    picture: FloatArray
    density: FloatArray
    points: Mask | None = None
    observers: tuple[Points, ...] = ()


@dataclass(frozen=True)
class Row:
    """The scores of one map; None where the data has no points, or no points on other pictures."""

    picture: str
    auc_judd: float | None
    shuffled_auc: float | None
    nss: float | None
    cc: float
    sim: float
    kl: float


@dataclass(frozen=True)
class Table:
    """The scores of one source.

    Attributes:
        rows: one for each picture.
        mean: of each score, over the pictures that have it.
    """

    rows: tuple[Row, ...]
    mean: Row

    def to_dict(self) -> dict[str, Any]:
        """The rows and the mean as plain data."""
        return {"mean": asdict(self.mean), "pictures": [asdict(row) for row in self.rows]}


def auc_judd(saliency: FloatArray, points: Mask) -> float:
    """The chance that a place somebody looked at has a higher value than one nobody looked at; a tie counts half.

    Source: Judd, Durand and Torralba, "A benchmark of computational models of saliency to predict human fixations",
    2012: the area under the curve of hits, the share of points at or above a threshold, over false alarms, the share of
    all other pixels there. Their script takes the thresholds at the points and adds random numbers to tell equal values
    apart. Here the whole curve is taken, with straight lines across ties, whose area is the Mann-Whitney statistic
    [#(s > t) + #(s = t) / 2] / (points x others): no chance in it, and within 1 / (2 points) of the script.

    Args:
        saliency: [H, W].
        points: [H, W], true where somebody looked.

    Raises:
        ShapeError: other shapes, values that are not finite, no point, or nothing but points.
    """
    values, where = _checked(saliency, points)
    if where.all():
        raise ShapeError("points: expected pixels nobody looked at, found none")
    return _chance_of_more(values[where], values[~where])


def shuffled_auc(saliency: FloatArray, points: Mask, others: Mask) -> float:
    """The chance that a place looked at here has a higher value than one looked at on other pictures.

    What all pictures share, such as the middle, is no merit here. Source: Zhang, Tong, Marks, Shan and Cottrell, "SUN",
    2008; Borji, Sihite and Itti, "Quantitative analysis of human-model agreement", 2013. They draw as many of the other
    points as there are points, many times over; the expected value of that is taken, which uses all of them once.

    Args:
        saliency: [H, W].
        points: [H, W], true where somebody looked.
        others: [H, W], true where somebody looked at another picture.

    Raises:
        ShapeError: other shapes, values that are not finite, or no point.
    """
    values, where = _checked(saliency, points)
    _, elsewhere = _checked(saliency, others, "others")
    return _chance_of_more(values[where], values[elsewhere])


def nss(saliency: FloatArray, points: Mask) -> float:
    """Normalised scanpath saliency: the mean over the points of (s - mean s) / (standard deviation of s).

    Source: Peters, Iyer, Itti and Koch, "Components of bottom-up gaze allocation in natural images", 2005.

    Args:
        saliency: [H, W].
        points: [H, W], true where somebody looked.

    Raises:
        ShapeError: other shapes, values that are not finite, or no point.
    """
    values, where = _checked(saliency, points)
    return float(_standardized(values)[where].mean())


def cc(saliency: FloatArray, density: FloatArray) -> float:
    """Pearson's linear correlation of two maps: cov(s, q) / (σ(s) σ(q)), -1 to 1.

    Args:
        saliency: [H, W].
        density: [H, W].

    Raises:
        ShapeError: other shapes, or values that are not finite.
    """
    values, truth = _pair(saliency, density)
    return float(np.mean(_standardized(values) * _standardized(truth)))


def sim(saliency: FloatArray, density: FloatArray) -> float:
    """What two distributions share: sum of min(p, q), each of sum 1; 0 to 1.

    Args:
        saliency: [H, W], none negative.
        density: [H, W], none negative.

    Raises:
        ShapeError: other shapes, negative values, or values that are not finite.
    """
    values, truth = _pair(saliency, density)
    return float(np.minimum(_distribution(values), _distribution(truth)).sum())


def kl(saliency: FloatArray, density: FloatArray) -> float:
    """What is lost, in nats, when the map stands for the density: sum of q log(ε + q / (ε + p)), each of sum 1.

    0 for equals, without a bound: a map that is 0 where people looked costs much.

    Args:
        saliency: [H, W], none negative.
        density: [H, W], none negative.

    Raises:
        ShapeError: other shapes, negative values, or values that are not finite.
    """
    values, truth = _pair(saliency, density)
    p, q = _distribution(values), _distribution(truth)
    return float(np.sum(q * np.log(EPSILON + q / (EPSILON + p))))


def evaluate(predictor: Predictor, samples: Sequence[Sample]) -> Table:
    """Score the maps of one source.

    Args:
        predictor: the source.
        samples: as `read_fixations` gives them; the points of the others are the negatives of sAUC.

    Raises:
        ShapeError: no samples, or a map of another size than its picture.
    """
    if not samples:
        raise ShapeError("samples: expected at least one, found none")
    return tabulate([predictor(sample.picture) for sample in samples], samples)


def tabulate(maps: Sequence[FloatArray], samples: Sequence[Sample]) -> Table:
    """Score maps that are made already, one for each sample, as `evaluate` does."""
    rows = tuple(_row(found, sample, samples) for found, sample in zip(maps, samples, strict=True))
    means = {field.name: _mean([getattr(row, field.name) for row in rows]) for field in fields(Row)[1:]}
    return Table(rows, Row("mean", **means))


def read_fixations(folder: str | Path) -> list[Sample]:
    """Pictures and where people looked at them.

    ```
    images/NAME.png                    any picture format
    fixations/NAME_density.png         brighter: more gazes
    fixations/NAME_fixations.json      optional: {"observers": [[[x, y], ...], ...]}, pixels counted from 0
    fixations/NAME_points.png          optional: bright where a gaze fell; read where there is no such JSON
    ```

    Args:
        folder: it holds the two folders.

    Returns:
        The samples by name.

    Raises:
        ImageError: folders or files are missing or cannot be read, or a JSON says something else.
        ShapeError: a map of another size than its picture, a map without anything, or gazes outside the picture.
    """
    folder = Path(folder)
    for part in ("images", "fixations"):
        if not (folder / part).is_dir():
            raise ImageError(f"{folder}: expected the folders images and fixations, found no {part}")
    pictures = sorted(path for path in (folder / "images").iterdir() if path.is_file() and path.name[0] != ".")
    if not pictures:
        raise ImageError(f"{folder / 'images'}: expected pictures, found none")
    return [_sample(path, folder / "fixations") for path in pictures]


def points_of(observers: Sequence[Points], size: tuple[int, int]) -> Mask:
    """Where at least one gaze fell [height, width], of gazes [n, 2] as (x, y)."""
    found = np.zeros(size, np.bool_)
    for gazes in observers:
        found[gazes[:, 1], gazes[:, 0]] = True
    return found


def _chance_of_more(positives: npt.NDArray[np.float64], negatives: npt.NDArray[np.float64]) -> float:
    ordered = np.sort(negatives)
    below_or_half_ties = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below_or_half_ties.mean() / (2 * len(negatives)))


def _standardized(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if values.min() == values.max():
        return np.zeros_like(values)
    return np.asarray((values - values.mean()) / values.std())


def _distribution(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if values.min() < 0:
        raise ShapeError(f"map: expected no negative values, found {values.min():g}")
    total = values.sum()
    return values / total if total > 0 else np.full_like(values, 1 / values.size)


def _checked(
    saliency: FloatArray, points: Mask, name: str = "points"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    values, where = _pair(saliency, points, name)
    mask = where > 0
    if not mask.any():
        raise ShapeError(f"{name}: expected at least one, found none")
    return values, mask


def _pair(
    saliency: npt.ArrayLike, truth: npt.ArrayLike, name: str = "density"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    found, expected = np.asarray(saliency, np.float64), np.asarray(truth, np.float64)
    if expected.ndim != 2 or expected.size == 0 or found.shape != expected.shape:
        raise ShapeError(f"map: expected [H, W] as the {name}, {list(expected.shape)}, found {list(found.shape)}")
    for what, values in (("map", found), (name, expected)):
        if not np.isfinite(values).all():
            raise ShapeError(f"{what}: expected finite values, found others")
    return found, expected


def _row(found: FloatArray, sample: Sample, samples: Sequence[Sample]) -> Row:
    size = sample.density.shape
    if found.shape != size:
        raise ShapeError(f"{sample.name}: expected a map of {size[1]} x {size[0]} pixels, found {list(found.shape)}")
    judd = shuffled = scanpath = None
    if sample.points is not None:
        judd, scanpath = auc_judd(found, sample.points), nss(found, sample.points)
        others = _elsewhere(sample, samples)
        shuffled = shuffled_auc(found, sample.points, others) if others.any() else None
    density = sample.density
    return Row(sample.name, judd, shuffled, scanpath, cc(found, density), sim(found, density), kl(found, density))


def _elsewhere(sample: Sample, samples: Sequence[Sample]) -> Mask:
    """The points of the other pictures, at the same share of the height and the width."""
    height, width = sample.density.shape
    found = np.zeros((height, width), np.bool_)
    for other in samples:
        if other is not sample and other.points is not None:
            rows, columns = np.nonzero(other.points)
            (h, w) = other.points.shape
            found[((rows + 0.5) * height / h).astype(int), ((columns + 0.5) * width / w).astype(int)] = True
    return found


def _mean(scores: Sequence[float | None]) -> Any:
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else None


def _sample(path: Path, folder: Path) -> Sample:
    picture = as_rgb(read_image(path))
    size = (picture.shape[1], picture.shape[2])
    density_file = folder / f"{path.stem}_density.png"
    if not density_file.is_file():
        raise ImageError(f"{path.name}: expected its fixations in {density_file}, found no such file")
    density = _read_map(density_file, size)
    points_file, gazes_file = folder / f"{path.stem}_points.png", folder / f"{path.stem}_fixations.json"
    if gazes_file.is_file():
        observers = _read_gazes(gazes_file, size)
        return Sample(path.stem, picture, density, points_of(observers, size), observers)
    points = _read_map(points_file, size) > 0 if points_file.is_file() else None
    return Sample(path.stem, picture, density, points)


def _read_map(path: Path, size: tuple[int, int]) -> FloatArray:
    values = np.ascontiguousarray(read_image(path).pixels[0])
    if values.shape != size:
        found = f"{values.shape[1]} x {values.shape[0]}"
        raise ShapeError(f"{path}: expected the size of the picture, {size[1]} x {size[0]} pixels, found {found}")
    if not values.any():
        raise ShapeError(f"{path}: expected fixations, found only zeros")
    return values


def _read_gazes(path: Path, size: tuple[int, int]) -> tuple[Points, ...]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["observers"]
        observers = [np.asarray(gazes, np.float64).reshape(-1, 2) for gazes in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImageError(f'{path}: expected {{"observers": [[[x, y], ...], ...]}}, found something else') from error
    if not any(len(gazes) for gazes in observers):
        raise ShapeError(f"{path}: expected fixations, found none")
    for gazes in observers:
        outside = ~np.all((gazes >= 0) & (gazes < (size[1], size[0])), axis=1)
        if outside.any():
            x, y = gazes[outside][0]
            raise ShapeError(f"{path}: expected gazes within {size[1]} x {size[0]} pixels, found ({x:g}, {y:g})")
    return tuple(gazes.astype(np.int64) for gazes in observers)
