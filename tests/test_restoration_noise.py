"""Noise and impulses are found from the picture alone, and none where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from degraded import clean, noisy, picture_of, psnr
from imagegs.apps.restoration import Noise, estimate_noise, recognize_damage, recognize_noise
from imagegs.apps.restoration.guided import guided_parts, shares_of, similar_mean, wiener
from imagegs.apps.restoration.impulses import extremes, outlying, salt_and_pepper

from imagegs.errors import ConfigError


@pytest.mark.parametrize("sigma", [0.02, 0.06, 0.1, 0.2])
def test_noise_is_estimated(sigma):
    assert estimate_noise(noisy(sigma).pixels) == pytest.approx(sigma, rel=0.12, abs=0.005)


def test_noise_is_estimated_where_pixels_are_known():
    pixels, known = noisy(0.1).pixels.copy(), np.ones((72, 96), bool)
    known[:, 60:] = False
    pixels[:, ~known] = 0
    assert estimate_noise(pixels, known) == pytest.approx(0.1, rel=0.12)
    assert estimate_noise(pixels[:, :8, :8]) == 0


@pytest.mark.parametrize("spread", [0.7, 1.0])
def test_noise_of_cameras_is_recognized(spread):
    pixels = clean(160, 200)
    noise = Noise(0.05, spread).sample(pixels, np.random.default_rng(5))
    assert noise.std() == pytest.approx(0.05, rel=0.01)
    found = recognize_noise((pixels + noise).astype(np.float32))
    assert found.sigma == pytest.approx(0.05, rel=0.3)
    assert found.spread == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize("sigma", [0.0, 0.03, 0.1])
def test_white_noise_is_not_taken_for_that_of_cameras(sigma):
    pixels = clean(160, 200)
    noise = Noise(sigma).sample(pixels, np.random.default_rng(6))
    assert recognize_noise((pixels + noise).astype(np.float32)).spread == 0


def test_small_textured_pictures_are_not_taken_for_noise_of_cameras():
    random = np.random.default_rng(7)
    texture = Noise(0.1, 0.7).sample(np.zeros((3, 96, 128), np.float32), random)  # all of it alike in neighbours
    assert recognize_noise((0.5 + texture).astype(np.float32)).spread == 0


def test_noise_that_grows_with_brightness_is_recognized():
    pixels, random = clean(160, 200), np.random.default_rng(4)
    noise = Noise.poisson_gaussian(0.02, 0.01)
    sigmas = np.sqrt(0.01**2 + 0.02 * pixels)
    assert np.allclose(noise.variances(np.full_like(pixels, 0.5)), 0.01**2 + 0.01, rtol=1e-5)
    assert noise.sample(pixels, random).std() == pytest.approx(math.sqrt((sigmas**2).mean()), rel=0.05)
    found = recognize_noise((pixels + sigmas * random.standard_normal(pixels.shape)).astype(np.float32))
    assert found.sigma == pytest.approx(math.sqrt((sigmas**2).mean()), rel=0.1)
    (_, dark), (_, bright) = found.curve
    assert bright > 2 * dark
    flat = (pixels + 0.1 * random.standard_normal(pixels.shape)).astype(np.float32)
    assert recognize_noise(flat).curve == ()


def test_noise_is_recognized_where_pixels_are_missing():
    pixels, known = noisy(0.1).pixels, np.random.default_rng(3).random((72, 96)) < 0.7
    assert recognize_noise(np.where(known, pixels, 0), known).sigma == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1.0,), "sigma from 0"), ((0.1, math.nan), "spread from 0"), ((0.1, 0, ((0.5, 1), (0.5, 2))), "ascending")],
)
def test_noise_that_cannot_be_is_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Noise(*arguments)
    with pytest.raises(ConfigError, match="gain"):
        Noise.poisson_gaussian(-1, 0)


def salted(share: float, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A picture with black and white pixels, and which."""
    random, pixels = np.random.default_rng(seed), clean()
    hit = random.random(pixels.shape[1:]) < share
    return np.where(hit, random.random(hit.shape) < 0.5, pixels).astype(np.float32), hit


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_salt_and_pepper_is_found(share):
    pixels, hit = salted(share)
    found = salt_and_pepper(pixels)
    assert found[hit].mean() > 0.95
    assert found[~hit].mean() < 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.4])
def test_noise_that_was_cut_is_no_salt_and_pepper(sigma):
    assert salt_and_pepper(np.clip(noisy(sigma).pixels, 0, 1)) is None
    bars = np.zeros((1, 40, 40), np.float32)
    bars[:, :, 10:20] = 1
    assert salt_and_pepper(bars) is None


def test_what_a_fit_leaves_of_impulses_is_outlying():
    fitted, random = clean(), np.random.default_rng(8)
    hit = random.random(fitted.shape[1:]) < 0.1
    pixels = np.where(hit, fitted + 0.5, fitted + 0.01 * random.standard_normal(fitted.shape))
    assert np.array_equal(outlying(pixels, fitted), hit)
    # where a fit leaves much of everything, it is the fit
    pixels[:, :40] += 0.2 * random.standard_normal((3, 40, 96))
    assert outlying(pixels, fitted)[:36][~hit[:36]].mean() < 0.05
    assert np.array_equal(extremes(np.array([[[0, 0.5, 1]]])), [[True, False, True]])


def test_filters_by_a_good_pilot_are_better_than_the_noise():
    observed, noise = noisy(0.1).pixels, Noise(0.1)
    for work in (wiener, similar_mean):
        assert psnr(work(observed, clean(), noise)) > psnr(observed) + 8
    assert np.allclose(wiener(clean(), clean(), Noise(1e-4)), clean(), atol=2e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 40)])
def test_filters_take_pictures_of_any_size(size):
    pixels = np.random.default_rng(0).random((2, *size)).astype(np.float32)
    for part in guided_parts(pixels, pixels, Noise(0.1, 0.8), np.ones(size, bool)):
        assert part.shape == pixels.shape
        assert np.isfinite(part).all()


def test_shares_are_those_of_the_least_error():
    random = np.random.default_rng(1)
    one, other, noise = random.standard_normal((3, 5000))
    wanted = 0.3 * one + 0.7 * other
    trials = np.array([[one, other], [one, other]])
    assert shares_of(trials, wanted + noise, 2) == pytest.approx([0.3, 0.7], abs=0.05)
    assert shares_of(trials, -wanted, 2) == pytest.approx([0, 0], abs=1e-9)
    # what trials do not share goes away with their number
    trials = wanted + np.array([[random.standard_normal(5000)], [random.standard_normal(5000)]])
    few, many = (float(shares_of(trials, wanted, count)[0]) for count in (1, 1000))
    assert few == pytest.approx(wanted.var() / (wanted.var() + 1), rel=0.1)
    assert many == pytest.approx(1, rel=0.1)


def test_damage_is_recognized():
    assert recognize_damage(noisy(0.1)).kind == "noise"
    assert recognize_damage(picture_of(salted(0.1)[0])).kind == "impulses"
    with pytest.raises(ConfigError, match="found none") as caught:
        recognize_damage(picture_of(clean(160, 200)))
    assert "\n" not in str(caught.value)
