"""`imagegs restore`: pictures come back better than they were, blindly; bad input is one line."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from imagegs.apps.restoration import Blur, Downsample, Noise, estimate_noise, recognize_noise, restore
from imagegs.apps.restoration.restoring import Trial, best_of, filled, search
from PIL import Image
from typer.testing import CliRunner

from imagegs import Picture, PictureInfo, read_image
from imagegs.cli import app
from imagegs.errors import ConfigError, ImageGSError, ShapeError
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

QUICK = {"gaussians": 150, "fits": 2, "steps": 60}


def clean(height: int = 72, width: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] + 0.5
    waves = [0.5 + 0.2 * np.sin(x / (9 + 2 * k)) * np.cos(y / (11 - k)) for k in range(3)]
    shape = 0.2 * (np.hypot(x - 40, y - 30) < 17) - 0.2 * (y > 0.4 * x + 36)
    return np.clip(np.stack(waves) + shape, 0, 1).astype(np.float32)


def noisy(sigma: float, seed: int = 1) -> Picture:
    pixels = clean()
    noise = np.random.default_rng(seed).standard_normal(pixels.shape)
    return Picture((pixels + sigma * noise).astype(np.float32), PictureInfo.of_channels(3))


def psnr(found: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((found - clean()) ** 2)))


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
    noise = Noise(0.05, spread).sample(pixels.shape, np.random.default_rng(5))
    assert noise.std() == pytest.approx(0.05, rel=0.01)
    found = recognize_noise((pixels + noise).astype(np.float32))
    assert found.sigma == pytest.approx(0.05, rel=0.3)
    assert found.spread == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize("sigma", [0.0, 0.03, 0.1])
def test_white_noise_is_not_taken_for_that_of_cameras(sigma):
    pixels = clean(160, 200)
    noise = Noise(sigma).sample(pixels.shape, np.random.default_rng(6))
    assert recognize_noise((pixels + noise).astype(np.float32)).spread == 0


def test_noise_of_cameras_goes():
    pixels = clean()
    noise = Noise(0.06, 0.8).sample(pixels.shape, np.random.default_rng(7))
    observed = Picture((pixels + noise).astype(np.float32), PictureInfo.of_channels(3))
    found = restore(observed, sigma=0.06, spread=0.8, steps=80, fits=3)
    assert psnr(found.picture.pixels) > psnr(observed.pixels) + 3


def test_noise_goes_and_nothing_is_told():
    observed = noisy(0.1)
    found = restore(observed, steps=80, fits=4)
    assert psnr(found.picture.pixels) > psnr(observed.pixels) + 9
    assert found.sigma == pytest.approx(0.1, rel=0.15)
    assert len(found.trials) >= 3
    numbers = [trial.gaussians for trial in found.trials]
    assert numbers == sorted(numbers)
    assert numbers[0] <= found.gaussians <= numbers[-1]
    assert found.picture.pixels.min() >= 0
    assert found.picture.pixels.max() <= 1


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
    found = restore(Picture(seen, PictureInfo.of_channels(3)), known=known, sigma=0, steps=80, fits=3).picture.pixels
    assert np.array_equal(found[:, known], pixels[:, known])
    assert psnr(found) > psnr(filled(seen, known)) + 0.5


def test_small_pictures_are_enlarged():
    operator = Downsample(2)
    seen = np.clip(operator(torch.from_numpy(clean())).numpy(), 0, 1)
    found = restore(Picture(seen, PictureInfo.of_channels(3)), operator, gaussians=400, fits=2, steps=120)
    assert found.picture.pixels.shape == clean().shape
    bicubic = np.stack([np.asarray(Image.fromarray(c).resize((96, 72), Image.Resampling.BICUBIC)) for c in seen])
    assert psnr(found.picture.pixels) > psnr(bicubic)


def test_blur_goes():
    operator = Blur.gaussian(1.5)
    seen = operator(torch.from_numpy(clean())).numpy()
    found = restore(Picture(seen, PictureInfo.of_channels(3)), operator, gaussians=400, fits=2, steps=120)
    assert psnr(found.picture.pixels) > psnr(seen) + 1


def test_an_operator_of_ones_own_serves():
    class Mirrored:
        def __call__(self, image):
            return image.flip(2)

        def canvas_size(self, observed):
            return observed

        def guess(self, observed):
            return observed[:, :, ::-1].copy()

    seen = Picture(np.ascontiguousarray(clean()[:, :, ::-1]), PictureInfo.of_channels(3))
    assert psnr(restore(seen, Mirrored(), gaussians=300, fits=1, steps=80).picture.pixels) > 25


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 3)])
def test_the_smallest_pictures_have_a_number_of_gaussians(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = restore(Picture(np.full((3, *size), 0.4, np.float32), PictureInfo.of_channels(3)), fits=1, steps=5)
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
        ({"gaussians": 10**6}, ConfigError, "at most one per pixel"),
    ],
)
def test_what_cannot_be_done_is_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        restore(noisy(0.1), **options)
    assert "\n" not in str(caught.value)


def run(*arguments: str):
    return CliRunner().invoke(app, ["restore", *arguments])


@pytest.fixture
def folder(tmp_path):
    def save(name: str, pixels: np.ndarray, **options) -> None:
        levels = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(levels).save(tmp_path / name, **options)

    save("clean.png", clean())
    save("noisy.png", noisy(0.1).pixels)
    save("small.png", clean()[:, ::2, ::2])
    save("bad.jpg", clean(), quality=10)
    mask = np.zeros((72, 96), np.uint8)
    mask[20:30, 10:70] = 255
    Image.fromarray(mask).save(tmp_path / "holes.png")
    Image.fromarray(np.full((3, 3), 200, np.uint8)).save(tmp_path / "kernel.png")
    return tmp_path


FAST = ("-n", "150", "--fits", "1", "--steps", "30")


def test_denoise_writes_a_picture_and_a_file(folder):
    out, file = folder / "out.png", folder / "out.gsimg"
    done = run(
        *("denoise", str(folder / "noisy.png"), "-o", str(out), "--compressed", str(file), "--bpp", "2", "--json"),
        *("--reference", str(folder / "clean.png"), "--fits", "2", "--steps", "60", "-n", "200"),
    )
    assert done.exit_code == 0, (done.output, done.exception)
    facts = json.loads(done.output)
    assert facts["psnr"] > facts["psnr_before"] + 6
    assert facts["bytes"] == file.stat().st_size <= 2 * 72 * 96 / 8
    assert read_image(out).pixels.shape == (3, 72, 96)


def test_a_report_shows_both_pictures_and_the_choice(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = ("denoise", "noisy.png", "-o", "out.png", "--report", "report", "--reference", "clean.png", "--json")
    done = run(*arguments, "--fits", "1", "--steps", "30")
    assert done.exit_code == 0, (done.output, done.exception)
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 4
    assert "imagegs restore denoise noisy.png --output out.png" in page
    data = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert data["scores"]["after"]["psnr"] == pytest.approx(json.loads(done.output)["psnr"])
    assert data["scores"]["after"]["ssim"] > data["scores"]["before"]["ssim"]
    assert len(data["trials"]) >= 3


def test_a_report_of_an_enlarged_picture(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = run("upscale", "small.png", "-o", "out.png", "--report", "report", *FAST)
    assert done.exit_code == 0, (done.output, done.exception)
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 3
    assert 'width="96" height="72"' in page


@pytest.mark.parametrize(
    "arguments",
    [
        ("inpaint", "clean.png", "--mask", "holes.png"),
        ("upscale", "small.png", "--factor", "2"),
        ("deblur", "clean.png", "--gaussian", "1"),
        ("deblur", "clean.png", "--disk", "1.5"),
        ("deblur", "clean.png", "--motion", "5,20"),
        ("deblur", "clean.png", "--kernel", "kernel.png"),
        ("dejpeg", "bad.jpg"),
    ],
)
def test_each_task_runs(folder, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    done = run(*arguments, "-o", "out.png", *FAST)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "restored" in done.output
    assert read_image(folder / "out.png").pixels.shape == (3, 72, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inpaint", "clean.png", "--mask", "kernel.png"), "mask: expected"),
        (("inpaint", "clean.png", "--mask", "white.png"), "some pixels that are known"),
        (("dejpeg", "clean.png"), "expected a JPEG file"),
        (("dejpeg", "none.jpg"), "none.jpg: cannot be read"),
        (("dejpeg", "empty.jpg"), "empty.jpg: expected a JPEG file, found no picture"),
        (("deblur", "clean.png", "--kernel", "black.png"), "positive sum"),
        (("deblur", "small.png", "--gaussian", "15"), "kernel"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    Image.fromarray(np.full((72, 96), 255, np.uint8)).save("white.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save("black.png")
    (folder / "empty.jpg").write_bytes(b"")
    done = run(*arguments, "-o", "out.png", *FAST)
    assert isinstance(done.exception, ImageGSError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [("deblur",), ("deblur", "--gaussian", "1", "--disk", "2"), ("denoise", "--bpp", "1"), ("deblur", "--motion", "a")],
)
def test_wrong_usage_is_said(folder, arguments):
    task, *rest = arguments
    done = run(task, str(folder / "clean.png"), "-o", str(folder / "out.png"), *rest)
    assert done.exit_code == 2
