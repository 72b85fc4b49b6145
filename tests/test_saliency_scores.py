"""Qualities where it matters: against formulas written out, and the metrics of the core."""

from __future__ import annotations

import numpy as np
import pytest
from imagegs.apps.saliency.scores import MS_SSIM_SIDE, region_of, score, weighted_ms_ssim
from scipy.ndimage import gaussian_filter

from imagegs import ShapeError
from imagegs.metrics import ms_ssim, psnr


def pictures(height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    smooth = gaussian_filter(random.random((channels, height, width)), (0, 3, 3))
    first = ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)
    return first, np.clip(first + 0.05 * random.standard_normal(first.shape), 0, 1).astype(np.float32)


def test_psnr_by_weight_and_region() -> None:
    reference = np.full((2, 4, 5), 0.5, np.float32)
    test = reference.copy()
    test[:, :2] += 0.1
    test[0, 2:] += 0.2
    importance = np.zeros((4, 5), np.float32)
    importance[0], importance[1], importance[3] = 1.0, 0.5, 0.4
    found = score(reference, test, importance)
    error = np.repeat([0.01, 0.01, 0.02, 0.02], 5).reshape(4, 5)
    decibels = lambda value: -10 * np.log10(value)
    assert found.psnr == pytest.approx(decibels(error.mean()), abs=1e-4)
    assert found.psnr == pytest.approx(psnr(reference, test), abs=1e-4)
    assert found.weighted_psnr == pytest.approx(decibels((error * importance).sum() / importance.sum()), abs=1e-4)
    assert found.region_share == 0.5  # both rows that reach half of the maximum
    assert found.region_psnr == pytest.approx(20, abs=1e-4)
    assert found.outside_psnr == pytest.approx(decibels(0.02), abs=1e-4)
    assert found.region_ms_ssim is None  # too small


def test_a_map_that_is_everywhere_the_same() -> None:
    reference, test = pictures(20, 30)
    found = score(reference, test, np.full((20, 30), 0.2, np.float32))
    assert found.weighted_psnr == pytest.approx(found.psnr)
    assert found.region_psnr == pytest.approx(found.psnr)
    assert found.outside_psnr is None
    assert found.region_share == 1


def test_equal_pictures_and_values_outside_the_range() -> None:
    reference = np.full((1, 3, 3), 1.2, np.float32)
    found = score(reference, np.full((1, 3, 3), 1.7, np.float32), np.ones((3, 3), np.float32))
    assert found.psnr == float("inf")


@pytest.mark.parametrize("size", [(MS_SSIM_SIDE, 200), (181, 203), (200, 240)])
def test_ms_ssim_with_even_weights_is_the_usual_one(size: tuple[int, int]) -> None:
    pytest.importorskip("pytorch_msssim")
    reference, test = pictures(*size)
    even, shape = weighted_ms_ssim(reference, test, (np.ones(size, np.float32), np.full(size, 5.0, np.float32)))
    assert even == pytest.approx(ms_ssim(reference, test), abs=1e-6)
    assert shape == pytest.approx(even)


def test_ms_ssim_looks_at_the_region_alone() -> None:
    reference, _ = pictures(180, 400)
    test = reference.copy()
    test[:, :, 300:] = np.clip(test[:, :, 300:] + 0.2 * np.random.default_rng(0).standard_normal((3, 180, 100)), 0, 1)
    importance = np.zeros((180, 400), np.float32)
    importance[:, :100] = 1
    found = score(reference, test, importance)
    assert found.region_ms_ssim == pytest.approx(1, abs=1e-6)
    assert found.outside_ms_ssim is not None
    assert found.outside_ms_ssim < 0.95
    edge = np.zeros((180, 400), bool)
    edge[0, 0] = True  # no window has its centre there
    assert weighted_ms_ssim(reference, test, (edge,)) == (None,)


def test_the_region_is_where_half_of_the_maximum_is_reached() -> None:
    np.testing.assert_array_equal(
        region_of(np.array([[0.0, 0.19, 0.2, 0.4]], np.float32)), [[False, False, True, True]]
    )


def test_what_cannot_be_scored() -> None:
    reference, test = pictures(8, 9)
    with pytest.raises(ShapeError, match=r"^scores: expected two pictures \[C, H, W\] and a map \[H, W\] of one size"):
        score(reference, test[:, :7], np.ones((8, 9), np.float32))
    with pytest.raises(ShapeError, match=r"^scores: expected two pictures"):
        score(reference, test, np.ones((9, 8), np.float32))
    for bad in (np.zeros((8, 9)), np.full((8, 9), -1.0), np.full((8, 9), np.nan)):
        with pytest.raises(
            ShapeError, match=r"^scores: expected a map of finite numbers, none negative and some positive$"
        ):
            score(reference, test, bad.astype(np.float32))
