"""`imagegs restore`: pictures come back better than they were, blindly; bad input is one line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from degraded import clean, noisy, picture_of, psnr
from imagegs.apps.restoration import Blur, Downsample, Noise, recognize_damage, restore
from imagegs.apps.restoration.restoring import Trial, best_of, filled, search
from PIL import Image

from imagegs import Picture, PictureInfo
from imagegs.errors import ConfigError, ShapeError
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

QUICK = {"gaussians": 150, "fits": 2, "steps": 60}


def test_noise_of_cameras_goes():
    pixels = clean()
    noise = Noise(0.06, 0.8).sample(pixels, np.random.default_rng(7))
    observed = picture_of(pixels + noise)
    found = restore(observed, noise=Noise(0.06, 0.8), steps=80, fits=3)
    assert psnr(found.picture.pixels) > psnr(observed.pixels) + 3


def test_noise_goes_and_nothing_is_told():
    observed = noisy(0.1)
    found = restore(observed, steps=80, fits=4)
    assert psnr(found.picture.pixels) > psnr(observed.pixels) + 9
    assert found.noise.sigma == pytest.approx(0.1, rel=0.15)
    assert len(found.trials) >= 3
    numbers = [trial.gaussians for trial in found.trials]
    assert numbers == sorted(numbers)
    assert numbers[0] <= found.gaussians <= numbers[-1]
    assert found.picture.pixels.min() >= 0
    assert found.picture.pixels.max() <= 1


def test_filters_by_the_fits_bring_texture_back():
    """Texture that Gaussians are too few for."""
    y, x = np.mgrid[0:72, 0:96]
    texture = 0.1 * np.sin(0.9 * x) * np.sin(0.8 * y)
    pixels = (0.6 * clean() + 0.2 + texture).astype(np.float32)
    random = np.random.default_rng(4)
    observed = picture_of(pixels + 0.06 * random.standard_normal(pixels.shape))
    plain, guided = (restore(observed, noise=0.06, guided=on, gaussians=500, fits=2, steps=80) for on in (False, True))
    errors = [np.mean((found.picture.pixels - pixels) ** 2) for found in (plain, guided)]
    assert errors[1] < 0.6 * errors[0]
    assert plain.shares == (1, 0, 0)
    assert sum(guided.shares) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("share", "told"), [(0.2, None), (0.1, True)])
def test_impulses_go(share, told):
    random, pixels = np.random.default_rng(3), clean()
    hit = random.random((72, 96)) < share
    values = random.random((3, 72, 96)) if told else random.random((72, 96)) < 0.5
    seen = picture_of(np.where(hit, values, pixels))
    found = restore(seen, impulses=told, fits=2, steps=80)
    assert psnr(found.picture.pixels) > psnr(seen.pixels) + 12
    assert found.impulses == pytest.approx(share, rel=0.25)
    assert restore(seen, impulses=False, **QUICK).impulses == 0


def test_impulses_and_noise_go():
    random = np.random.default_rng(3)
    hit = random.random((72, 96)) < 0.15
    seen = picture_of(np.where(hit, random.random((72, 96)) < 0.5, np.clip(noisy(0.06).pixels, 0, 1)))
    found = restore(seen, fits=3, steps=80)
    assert psnr(found.picture.pixels) > 29
    assert found.noise.sigma == pytest.approx(0.06, rel=0.35)


def test_noise_that_depends_on_brightness_is_weighed():
    pixels, noise = clean(), Noise.poisson_gaussian(0.06, 0.0)
    random = np.random.default_rng(2)
    observed = picture_of(pixels + np.sqrt(0.06 * pixels) * random.standard_normal(pixels.shape))
    found = [restore(observed, noise=level, steps=80, fits=4).picture.pixels for level in (noise, noise.sigma)]
    assert psnr(found[0]) > psnr(found[1])


def test_transparency_stays():
    alpha = np.zeros((1, 72, 96), np.float32)
    alpha[:, :, :50] = 1
    observed = Picture(np.concatenate([noisy(0.1).pixels, alpha]).astype(np.float32), PictureInfo.of_channels(4))
    found = restore(observed, **QUICK)
    assert np.array_equal(found.picture.pixels[3:], alpha)
    assert np.array_equal(found.picture.pixels[:3], restore(noisy(0.1), **QUICK).picture.pixels)
    assert found.noise.sigma == pytest.approx(0.1, rel=0.15)
    assert recognize_damage(observed).kind == "noise"


def test_importance_draws_gaussians():
    """With next to no Gaussians, the half that matters is nearer to the picture than it is without."""
    importance = np.full((72, 96), 0.01, np.float32)
    importance[:, :48] = 1
    observed = noisy(0.05)
    errors = []
    for some in (None, importance):
        found = restore(observed, importance=some, gaussians=60, fits=3, steps=80, guided=False).picture.pixels
        errors.append(np.mean((found - clean())[:, :, :48] ** 2))
    assert errors[1] < 0.85 * errors[0]


def test_the_mean_of_fits_is_better_than_one():
    observed = noisy(0.15)
    one, four = (restore(observed, gaussians=200, fits=fits, steps=80) for fits in (1, 4))
    assert psnr(four.picture.pixels) > psnr(one.picture.pixels) + 0.3


def test_the_same_seed_gives_the_same_picture():
    first, again, other = (restore(noisy(0.1), seed=seed, **QUICK).picture.pixels for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_noise_of_the_callers_seed_does_not_mislead():
    """The trial's noise must not be that which a test made with the same seed."""
    observed = noisy(0.1, seed=0)
    found = restore(observed, seed=0, steps=60, fits=2)
    least = 0.1**2 * (1 + 1 / 0.4**2)
    assert all(trial.risk > 0.8 * least for trial in found.trials)


def test_holes_are_filled_and_what_is_known_stays():
    pixels, known = clean(), np.random.default_rng(2).random((72, 96)) < 0.5
    seen = np.where(known, pixels, 0).astype(np.float32)
    found = restore(picture_of(seen), known=known, noise=0, steps=80, fits=3).picture.pixels
    assert np.array_equal(found[:, known], pixels[:, known])
    assert psnr(found) > psnr(filled(seen, known)) + 0.5


def test_small_pictures_are_enlarged():
    operator = Downsample(2)
    seen = np.clip(operator(torch.from_numpy(clean())).numpy(), 0, 1)
    found = restore(picture_of(seen), operator, gaussians=400, fits=2, steps=120)
    assert found.picture.pixels.shape == clean().shape
    bicubic = np.stack([np.asarray(Image.fromarray(c).resize((96, 72), Image.Resampling.BICUBIC)) for c in seen])
    assert psnr(found.picture.pixels) > psnr(bicubic)


def test_blur_goes():
    operator = Blur.gaussian(1.5)
    seen = operator(torch.from_numpy(clean())).numpy()
    found = restore(picture_of(seen), operator, gaussians=400, fits=2, steps=120)
    assert psnr(found.picture.pixels) > psnr(seen) + 1


def test_an_operator_of_ones_own_serves():
    class Mirrored:
        def __call__(self, image):
            return image.flip(2)

        def canvas_size(self, observed):
            return observed

        def guess(self, observed):
            return observed[:, :, ::-1].copy()

    seen = picture_of(np.ascontiguousarray(clean()[:, :, ::-1]))
    assert psnr(restore(seen, Mirrored(), gaussians=300, fits=1, steps=80).picture.pixels) > 25


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 3)])
def test_the_smallest_pictures_have_a_number_of_gaussians(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = restore(picture_of(np.full((3, *size), 0.4, np.float32)), fits=1, steps=5)
    assert all(np.isfinite(trial.risk) for trial in found.trials)


def test_search_goes_where_risk_falls():
    def trial(number: int) -> Trial:
        return Trial(number, (np.log(number) - np.log(best)) ** 2)

    for best, expected in ((100, 4), (1000, 5), (12, 5)):
        found = search(trial, 100, 10_000)
        assert len(found) <= 5
        assert len(found) == expected or best == 100
        assert best_of(found) == pytest.approx(best, rel=0.15)
    assert [one.gaussians for one in search(lambda number: Trial(number, 1 / number), 6, 10)] == [6, 10]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"known": np.zeros((72, 96))}, ConfigError, "some pixels that are known"),
        ({"known": np.ones((72, 95))}, ShapeError, "expected .72, 96."),
        ({"fits": 0}, ConfigError, "fits"),
        ({"noise": -0.1}, ConfigError, "sigma from 0"),
        ({"impulses": True, "operator": Downsample(2)}, ConfigError, "impulses"),
        ({"importance": np.ones((5, 5))}, ShapeError, "importance"),
        ({"gaussians": 10**6}, ConfigError, "at most one per pixel"),
    ],
)
def test_what_cannot_be_done_is_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        restore(noisy(0.1), **options)
    assert "\n" not in str(caught.value)
