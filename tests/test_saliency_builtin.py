"""The built-in source: what it finds in plain pictures, at any size, and better than the middle alone on fixations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from imagegs.apps.saliency import builtin, classical
from imagegs.apps.saliency.fixations import evaluate, read_fixations

from imagegs import ConfigError, ShapeError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "saliency"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder ../shared with the fixations is absent")

MODELS = ["surroundedness", "rarity"]


def scene(height: int = 90, width: int = 120, at: tuple[int, int] = (20, 85)) -> np.ndarray:
    """A grey ground with some texture and a red square of 15 pixels, its first corner at (row, column)."""
    noise = np.random.default_rng(4).normal(0, 0.02, (height, width))
    picture = np.clip(np.broadcast_to(0.5 + noise, (3, height, width)), 0, 1).astype(np.float32)
    picture[:, at[0] : at[0] + 15, at[1] : at[1] + 15] = np.array([0.8, 0.1, 0.1], np.float32)[:, None, None]
    return picture


def peak(values: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(np.argmax(values), values.shape)
    return int(row), int(column)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("models", [MODELS, MODELS[:1], MODELS[1:]])
def test_what_differs_stands_out(models, center):
    found = builtin.load(models, center)(scene())
    row, column = peak(found)
    assert 15 <= row <= 40
    assert 80 <= column <= 105
    assert found[20:35, 85:100].mean() > 5 * found.mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (1, 700), (900, 2), (5, 3), (33, 47), (300, 200)])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_any_size_gives_a_map_of_that_size_from_0_to_1(size, flat, center):
    rng = np.random.default_rng(1)
    picture = np.full((3, *size), 0.3, np.float32) if flat else rng.random((3, *size), dtype=np.float32)
    before = picture.copy()
    found = builtin.load(center=center)(picture)
    assert found.shape == size
    assert found.dtype == np.float32
    assert found.max() == 1
    assert found.min() == 0 or np.all(found == 1)
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("color", [(0, 0, 0), (1, 1, 1), (0.2, 0.7, 0.4)])
def test_one_color_gives_the_center_prior(color):
    picture = np.broadcast_to(np.array(color, np.float32)[:, None, None], (3, 60, 80)).copy()
    found = builtin.load()(picture)
    prior = builtin.center_prior((60, 80))
    assert found == pytest.approx((prior - prior.min()) / (prior.max() - prior.min()), abs=1e-6)
    assert np.all(builtin.load(center=False)(picture) == 1)


def test_the_center_prior_is_a_gaussian_of_the_sides():
    prior = builtin.center_prior((41, 61))
    assert prior.shape == (41, 61)
    assert prior.dtype == np.float32
    assert peak(prior) == (20, 30)
    assert prior[20, 30] == 1
    assert np.array_equal(prior, prior[::-1, ::-1])
    # a standard deviation away from the middle it has fallen to exp(-1/2)
    assert np.interp(20 + 0.21 * 41, np.arange(41), prior[:, 30]) == pytest.approx(np.exp(-0.5), abs=0.01)
    assert np.interp(30 + 0.2345 * 61, np.arange(61), prior[20]) == pytest.approx(np.exp(-0.5), abs=0.01)
    shares = np.outer(prior[:, 30], prior[20])
    assert shares == pytest.approx(prior, abs=1e-6)


def test_the_map_does_not_depend_on_the_size_of_the_picture():
    small = scene(120, 160)
    large = np.repeat(np.repeat(small, 3, axis=1), 3, axis=2)
    predict = builtin.load()
    a, b = predict(small), predict(large).reshape(120, 3, 160, 3).mean(axis=(1, 3))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


def test_a_mirrored_picture_gives_the_mirrored_map():
    predict = builtin.load(center=False)
    found, mirrored = predict(scene()), predict(scene()[:, :, ::-1])
    assert np.abs(found - mirrored[:, ::-1]).mean() < 0.02


def test_it_is_deterministic():
    first, second = builtin.load(), builtin.load()
    expected = first(scene())
    first(scene(at=(60, 10)))
    assert np.array_equal(first(scene()), expected)
    assert np.array_equal(second(scene()), expected)


@pytest.mark.parametrize(("models", "found"), [([], "none"), (["rarity", "gbvs"], "'gbvs'"), (["a", "b"], "'a', 'b'")])
def test_unknown_models_are_refused(models, found):
    with pytest.raises(ConfigError, match=f"^models: expected some of surroundedness, rarity, found {found}$"):
        builtin.load(models)


@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 4), (3, 0, 4)])
def test_arrays_that_are_no_picture_are_refused(shape):
    with pytest.raises(ShapeError, match=r"^picture: expected \[3, H, W\], found \[[0-9, ]+\]$"):
        builtin.load()(np.zeros(shape, np.float32))


def test_lab_agrees_with_known_colors():
    colors = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]], np.float32)
    expected = [
        [100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [53.39, 0, 0],
    ]  # fmt: skip
    found = classical.to_lab(colors.T[:, :, None])[:, :, 0].T
    assert found == pytest.approx(np.array(expected), abs=0.05)


def test_lab_agrees_with_another_implementation():
    color = pytest.importorskip("skimage.color", reason="scikit-image is not installed")
    picture = np.random.default_rng(2).random((3, 20, 30), dtype=np.float32)
    expected = np.moveaxis(color.rgb2lab(np.moveaxis(picture, 0, -1)), -1, 0)
    assert classical.to_lab(picture) == pytest.approx(expected, abs=0.05)


def test_surrounded_regions_count_and_those_at_the_edge_do_not():
    lab = np.zeros((3, 60, 60), np.float32)
    lab[0, 10:20, 10:20] = 50
    lab[0, 40:60, 30:45] = 50
    found = classical.surroundedness(lab)
    assert found[15, 15] == found.max() > 0
    assert found[40:, 30:45].max() == 0
    # at every threshold the same: the square without its corners, which the median takes, grown by a pixel
    assert found[15, 15] == pytest.approx(classical.LEVELS / np.sqrt(12 * 12 - 4))


@pytest.mark.parametrize("seed", range(3))
def test_surrounded_means_every_path_to_the_edge_leaves_the_region(seed):
    """Against a flood from the edge, pixel by pixel."""
    regions = np.random.default_rng(seed).random((12, 15)) < 0.6
    reached = np.zeros_like(regions)
    edge = [(r, c) for r in range(12) for c in range(15) if r in (0, 11) or c in (0, 14)]
    stack = [place for place in edge if regions[place]]
    while stack:
        r, c = stack.pop()
        if 0 <= r < 12 and 0 <= c < 15 and regions[r, c] and not reached[r, c]:
            reached[r, c] = True
            stack += [(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)]
    assert np.array_equal(classical._inner(regions), regions & ~reached)


def test_whitened_planes_are_uncorrelated_and_rounding_is_dropped():
    rng = np.random.default_rng(0)
    planes = rng.normal(0, 1, (2, 40, 50))
    dependent = np.stack([3 * planes[0], planes[0] + 0.2 * planes[1], 2 * planes[1] - planes[0]]).astype(np.float32)
    found = classical._whitened(classical._decorrelated(dependent))
    assert found.shape == (2, 40, 50)
    assert np.cov(found.reshape(2, -1)) == pytest.approx(np.eye(2), abs=1e-3)
    assert classical._decorrelated(np.ones((3, 4, 5), np.float32)).shape == (0, 4, 5)


def test_a_color_too_faint_to_see_does_not_count_as_one():
    grey = scene()
    grey[:] = grey.mean(axis=0)
    speck = grey.copy()
    speck[0, 60:64, 20:24] += np.float32(0.004)
    a, b = (builtin.load(["rarity"], center=False)(picture) for picture in (grey, speck))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


def test_it_needs_no_torch():
    code = (
        "import sys, numpy as np; from imagegs.apps.saliency import builtin;"
        "builtin.load()(np.zeros((3, 8, 8), np.float32)); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_data
def test_it_says_more_than_the_center_prior_about_where_people_look():
    samples = read_fixations(DATA)
    alone = evaluate(lambda rgb: builtin.center_prior((rgb.shape[1], rgb.shape[2])), samples)
    found = evaluate(builtin.load(), samples)
    assert found.mean.nss > alone.mean.nss + 0.6
    assert found.mean.auc_judd > alone.mean.auc_judd + 0.04
    assert found.mean.shuffled_auc > alone.mean.shuffled_auc + 0.08
    assert found.mean.cc > alone.mean.cc + 0.1
    assert found.mean.sim > alone.mean.sim
    assert found.mean.kl < alone.mean.kl
    for ours, prior in zip(found.rows, alone.rows, strict=True):
        if prior.nss is not None:
            assert ours.nss > prior.nss
            assert ours.auc_judd > prior.auc_judd
