"""Scores of maps against fixations, by hand and by other formulas; the folder that fixations are read from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from imagegs.apps.saliency import fixations
from imagegs.apps.saliency.fixations import Sample, auc_judd, cc, evaluate, kl, nss, read_fixations, shuffled_auc, sim
from PIL import Image

from imagegs import ImageError, ShapeError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "saliency"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder ../shared with the fixations is absent")

RAMP = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
CORNER = np.array([[False, False], [False, True]])


def example(seed: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A map, points, points of others and a density, 9 x 11."""
    rng = np.random.default_rng(seed)
    values = rng.random((9, 11)) if levels is None else rng.integers(0, levels, (9, 11)) / levels
    return values.astype(np.float32), rng.random((9, 11)) < 0.2, rng.random((9, 11)) < 0.3, rng.random((9, 11))


def area_by_pairs(positives: np.ndarray, negatives: np.ndarray) -> float:
    difference = positives[:, None] - negatives[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def area_by_thresholds(positives: np.ndarray, negatives: np.ndarray) -> float:
    """The ROC curve, threshold by threshold, and the trapezoids under it."""
    levels = np.unique(np.concatenate([positives, negatives]))[::-1]
    hits = np.array([0.0, *((positives >= level).mean() for level in levels)])
    alarms = np.array([0.0, *((negatives >= level).mean() for level in levels)])
    return float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1]) / 2))


def test_values_by_hand():
    two = np.array([[False, True], [False, True]])
    assert auc_judd(RAMP, CORNER) == 1
    assert auc_judd(-RAMP, CORNER) == 0
    assert auc_judd(RAMP, two) == 0.75  # 1 > 0, 1 < 2, 3 > 0, 3 > 2
    assert shuffled_auc(RAMP, CORNER, two) == 0.75  # 3 > 1, 3 = 3
    assert nss(RAMP, CORNER) == pytest.approx(1.5 / math.sqrt(1.25))
    assert cc(RAMP, CORNER) == pytest.approx((3 / 4 - 1.5 / 4) / math.sqrt(1.25 * 3 / 16))
    assert sim(RAMP, np.ones((2, 2))) == pytest.approx(0 + 1 / 6 + 1 / 4 + 1 / 4)
    assert kl(RAMP, CORNER) == pytest.approx(math.log(2))  # q is 1 where p is 1/2
    assert kl(np.ones((2, 2)), RAMP) == pytest.approx((math.log(4 / 6) + 2 * math.log(8 / 6) + 3 * math.log(2)) / 6)
    # a map that is 0 where people looked costs as much as the guard allows, not infinitely much
    assert kl(1.0 - CORNER, CORNER) == pytest.approx(-math.log(fixations.EPSILON))


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_areas_agree_with_all_pairs_and_with_the_curve(seed, levels):
    values, points, others, _ = example(seed, levels)
    for found, negatives in (
        (auc_judd(values, points), values[~points]),
        (shuffled_auc(values, points, others), values[others]),
    ):
        assert found == pytest.approx(area_by_pairs(values[points], negatives), abs=1e-12)
        assert found == pytest.approx(area_by_thresholds(values[points], negatives), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_auc_is_what_drawing_others_gives_in_the_long_run(seed):
    values, points, others, _ = example(seed)
    rng = np.random.default_rng(0)
    drawn = [
        area_by_pairs(values[points], rng.choice(values[others], points.sum(), replace=False)) for _ in range(2000)
    ]
    assert shuffled_auc(values, points, others) == pytest.approx(np.mean(drawn), abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_auc_judd_is_near_the_script_that_takes_thresholds_at_points(seed):
    values, points, _, _ = example(seed)
    levels = np.sort(values[points])[::-1]
    above = np.array([(values >= level).sum() for level in levels])
    hits = np.arange(1, len(levels) + 1) / len(levels)
    alarms = (above - np.arange(1, len(levels) + 1)) / (~points).sum()
    area = np.trapezoid([0, *hits, 1], [0, *alarms, 1])
    assert abs(auc_judd(values, points) - area) <= 1 / (2 * len(levels)) + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_cc_and_nss_agree_with_other_formulas(seed):
    values, points, _, density = example(seed)
    assert cc(values, density) == pytest.approx(np.corrcoef(values.ravel(), density.ravel())[0, 1], abs=1e-6)
    # with a map of points in place of the density, CC is NSS times a factor of the points alone
    share = points.mean()
    assert nss(values, points) == pytest.approx(cc(values, points) * math.sqrt((1 - share) / share), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_sim_and_kl_agree_with_other_formulas(seed):
    values, _, _, density = example(seed)
    p, q = values / values.sum(dtype=float), density / density.sum()
    assert sim(values, density) == pytest.approx(1 - np.abs(p - q).sum() / 2, abs=1e-6)
    positive = values + np.float32(0.1)
    p = positive / positive.sum(dtype=float)
    assert kl(positive, density) == pytest.approx(np.sum(q * (np.log(q) - np.log(p))), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_what_must_not_change_a_score(seed):
    values, points, others, density = example(seed)
    moved = 3 * values + 2
    assert nss(moved, points) == pytest.approx(nss(values, points), abs=1e-5)
    assert cc(moved, density) == pytest.approx(cc(values, density), abs=1e-5)
    assert cc(density, values) == pytest.approx(cc(values, density), abs=1e-12)
    assert cc(-values, density) == pytest.approx(-cc(values, density), abs=1e-12)
    assert sim(4 * values, density) == pytest.approx(sim(values, density), abs=1e-6)
    assert sim(density, values) == pytest.approx(sim(values, density), abs=1e-12)
    assert kl(4 * values, density) == pytest.approx(kl(values, density), abs=1e-6)
    bent = np.exp(3 * values)
    assert auc_judd(bent, points) == auc_judd(values, points)
    assert shuffled_auc(bent, points, others) == shuffled_auc(values, points, others)
    assert auc_judd(-values, points) == pytest.approx(1 - auc_judd(values, points), abs=1e-12)
    assert shuffled_auc(values, others, points) == pytest.approx(1 - shuffled_auc(values, points, others), abs=1e-12)


def test_equals_and_maps_that_say_nothing():
    values, points, others, density = example(0)
    assert cc(density, density) == pytest.approx(1)
    assert sim(density, density) == pytest.approx(1)
    assert kl(density, density) == pytest.approx(0, abs=1e-12)
    for flat in (np.zeros((9, 11), np.float32), np.full((9, 11), 0.3, np.float32)):
        assert auc_judd(flat, points) == shuffled_auc(flat, points, others) == 0.5
        assert nss(flat, points) == cc(flat, density) == 0
        assert sim(flat, density) == pytest.approx(sim(np.ones((9, 11)), density))
        assert kl(flat, density) == pytest.approx(kl(np.ones((9, 11)), density))
    assert cc(values, np.ones((9, 11))) == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nss(RAMP[0], CORNER), r"map: expected \[H, W\] as the points, \[2, 2\], found \[2\]"),
        (lambda: cc(RAMP, np.ones((2, 3))), r"map: expected \[H, W\] as the density, \[2, 3\], found \[2, 2\]"),
        (lambda: auc_judd(RAMP, ~(RAMP >= 0)), "points: expected at least one, found none"),
        (lambda: auc_judd(RAMP, RAMP >= 0), "points: expected pixels nobody looked at, found none"),
        (lambda: shuffled_auc(RAMP, CORNER, ~(RAMP >= 0)), "others: expected at least one, found none"),
        (lambda: sim(RAMP - 1, CORNER), "map: expected no negative values, found -1"),
        (lambda: kl(RAMP, RAMP - 1), "map: expected no negative values, found -1"),
        (lambda: nss(RAMP * np.float32(np.nan), CORNER), "map: expected finite values, found others"),
        (lambda: cc(RAMP, RAMP / np.float32(0)), "density: expected finite values, found others"),
        (lambda: evaluate(lambda rgb: rgb[0], []), "samples: expected at least one, found none"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arrays_that_do_not_fit_are_refused(call, text):
    with pytest.raises(ShapeError, match=f"^{text}$"):
        call()


def sample(name: str, at: tuple[int, int] | None, size: tuple[int, int] = (12, 16)) -> Sample:
    """A grey ramp; the density and perhaps a point lie at one pixel."""
    height, width = size
    picture = np.broadcast_to(np.linspace(0, 1, height * width, dtype=np.float32).reshape(size), (3, *size)).copy()
    density, points = np.full(size, 0.1, np.float32), np.zeros(size, np.bool_)
    density[at or (0, 0)] = 1
    if at:
        points[at] = True
    return Sample(name, picture, density, points if at else None)


def test_evaluate_scores_each_picture_and_leaves_out_what_cannot_be_known():
    samples = [sample("a", (11, 15)), sample("b", None), sample("c", (3, 4), (24, 32))]
    table = evaluate(lambda rgb: rgb[0], samples)
    assert [row.picture for row in table.rows] == ["a", "b", "c"]
    a, b, c = table.rows
    assert b.auc_judd is b.nss is b.shuffled_auc is None
    assert a.auc_judd == a.shuffled_auc == 1
    # the last pixel of a is the last of c, where the ramp is at its end
    assert c.shuffled_auc == 0
    assert table.mean.picture == "mean"
    assert table.mean.nss == pytest.approx((a.nss + c.nss) / 2)
    assert table.mean.cc == pytest.approx((a.cc + b.cc + c.cc) / 3)
    assert table.to_dict()["pictures"][2]["kl"] == c.kl
    alone = evaluate(lambda rgb: rgb[0], samples[:2])
    assert alone.mean.shuffled_auc is None
    assert alone.mean.auc_judd == 1
    with pytest.raises(ShapeError, match=r"^a: expected a map of 16 x 12 pixels, found \[3, 12, 16\]$"):
        evaluate(lambda rgb: rgb, samples)


def write_folder(folder: Path) -> Path:
    """Pictures p (gazes and points), q (points only) and r (neither), 8 wide, 6 high."""
    for part in ("images", "fixations"):
        (folder / part).mkdir()
    density = np.full((6, 8), 51, np.uint8)
    points = np.zeros((6, 8), np.uint8)
    points[5, 7] = 255
    for name in "pqr":
        Image.fromarray(np.full((6, 8, 3), 128, np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(density).save(folder / "fixations" / f"{name}_density.png")
    for name in "pq":
        Image.fromarray(points).save(folder / "fixations" / f"{name}_points.png")
    gazes = {"observers": [[[0, 1], [0, 1]], [], [[7, 5]]]}
    (folder / "fixations" / "p_fixations.json").write_text(json.dumps(gazes), encoding="utf-8")
    return folder


def test_a_folder_is_read(tmp_path):
    p, q, r = read_fixations(write_folder(tmp_path))
    assert [p.name, q.name, r.name] == ["p", "q", "r"]
    assert p.picture.shape == (3, 6, 8)
    assert p.density == pytest.approx(np.full((6, 8), 0.2))
    assert [gazes.tolist() for gazes in p.observers] == [[[0, 1], [0, 1]], [], [[7, 5]]]
    assert np.argwhere(p.points).tolist() == [[1, 0], [5, 7]]
    assert np.argwhere(q.points).tolist() == [[5, 7]]
    assert q.observers == ()
    assert r.points is None


@pytest.mark.parametrize(
    ("gazes", "error", "text"),
    [
        ([[[8, 0]]], ShapeError, r"expected gazes within 8 x 6 pixels, found \(8, 0\)"),
        ([[[1, 1], [3, -1]]], ShapeError, r"expected gazes within 8 x 6 pixels, found \(3, -1\)"),
        ([[[math.nan, 2]]], ShapeError, r"expected gazes within 8 x 6 pixels, found \(nan, 2\)"),
        ([[], []], ShapeError, "expected fixations, found none"),
        ([[[1, 2, 3]]], ImageError, r'expected \{"observers": \[\[\[x, y\], ...\], ...\]\}, found something else'),
        ([[["a", "b"]]], ImageError, r'expected \{"observers": .*found something else'),
        (5, ImageError, r'expected \{"observers": .*found something else'),
        (None, ImageError, r'expected \{"observers": .*found something else'),
    ],
)
def test_gazes_that_cannot_be_are_refused(tmp_path, gazes, error, text):
    path = write_folder(tmp_path) / "fixations" / "p_fixations.json"
    path.write_text(json.dumps({} if gazes is None else {"observers": gazes}), encoding="utf-8")
    with pytest.raises(error, match=rf"p_fixations\.json: {text}$"):
        read_fixations(tmp_path)


def test_damaged_json_is_refused(tmp_path):
    path = write_folder(tmp_path) / "fixations" / "p_fixations.json"
    for contents in (b"{", b"\xff\xfe", b"[" * 100_000, b"[]"):
        path.write_bytes(contents)
        with pytest.raises(ImageError, match=r"p_fixations\.json: expected .*, found something else$"):
            read_fixations(tmp_path)


def test_folders_and_maps_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"expected the folders images and fixations, found no images$"):
        read_fixations(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(ImageError, match=r"expected the folders images and fixations, found no fixations$"):
        read_fixations(tmp_path)
    (tmp_path / "fixations").mkdir()
    with pytest.raises(ImageError, match=r"images: expected pictures, found none$"):
        read_fixations(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    density = write_folder(other) / "fixations" / "q_density.png"
    Image.fromarray(np.ones((8, 6), np.uint8)).save(density)
    with pytest.raises(
        ShapeError, match=r"q_density\.png: expected the size of the picture, 8 x 6 pixels, found 6 x 8$"
    ):
        read_fixations(other)
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(density)
    with pytest.raises(ShapeError, match=r"q_density\.png: expected fixations, found only zeros$"):
        read_fixations(other)
    density.unlink()
    with pytest.raises(ImageError, match=r"^q\.png: expected its fixations in .*q_density\.png, found no such file$"):
        read_fixations(other)
    (other / "images" / "a.txt").write_text("not a picture", encoding="utf-8")
    with pytest.raises(ImageError, match=r"a\.txt"):
        read_fixations(other)


@needs_data
def test_people_agree_with_themselves_on_the_data_at_hand():
    samples = read_fixations(DATA)
    assert len(samples) == 9
    with_points = [one for one in samples if one.points is not None]
    assert [len(one.observers) for one in with_points] == [67, 66, 67, 60]
    for one in with_points:
        listed = np.asarray(Image.open(DATA / "fixations" / f"{one.name}_points.png")) > 0
        assert np.array_equal(one.points, listed)
    table = fixations.tabulate([one.density for one in samples], samples)
    assert table.mean.cc == table.mean.sim == pytest.approx(1)
    assert table.mean.kl == pytest.approx(0, abs=1e-9)
    assert table.mean.auc_judd > 0.84
    assert table.mean.nss > 1.8
    assert 0.65 < table.mean.shuffled_auc < table.mean.auc_judd
