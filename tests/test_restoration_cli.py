"""The command `imagegs restore`: every task runs, and what it cannot do is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from degraded import clean, noisy
from PIL import Image
from typer.testing import CliRunner

from imagegs import read_image
from imagegs.cli import app
from imagegs.errors import ImageGSError
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

SHARED = Path(__file__).parents[2] / "shared"


def run(*arguments: str):
    return CliRunner().invoke(app, ["restore", *arguments])


@pytest.fixture
def folder(tmp_path):
    def save(name: str, pixels: np.ndarray, **options) -> None:
        levels = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(levels).save(tmp_path / name, **options)

    save("clean.png", clean())
    save("noisy.png", noisy(0.1).pixels)
    save("wide.png", clean(160, 200))
    save("small.png", clean()[:, ::2, ::2])
    save("bad.jpg", clean(), quality=10)
    hit = np.random.default_rng(0).random((72, 96)) < 0.1
    save("salted.png", np.where(hit, np.random.default_rng(1).random((72, 96)) < 0.5, clean()))
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
    assert facts["scores"]["psnr"]["after"] > facts["scores"]["psnr"]["before"] + 6
    assert facts["scores"]["psnr"]["before"] + 4 < facts["compressed_psnr"] <= facts["scores"]["psnr"]["after"] + 1
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
    assert data["scores"] == json.loads(done.output)["scores"]
    assert data["scores"]["ssim"]["after"] > data["scores"]["ssim"]["before"]
    assert len(data["trials"]) >= 3


def test_auto_says_what_it_found(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name, kind in (("bad.jpg", "jpeg"), ("noisy.png", "noise"), ("salted.png", "impulses")):
        done = run("auto", name, "-o", "out.png", "--json", *FAST)
        assert json.loads(done.stdout)["found"] == kind
    assert "impulses in" in run("auto", "salted.png", "-o", "out.png", *FAST).output


def test_little_is_to_gain_from_a_fine_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Image.open("clean.png").save("fine.jpg", quality=95)
    assert "little to gain" in run("dejpeg", "fine.jpg", "-o", "out.png", *FAST).output
    assert "little to gain" not in run("dejpeg", "bad.jpg", "-o", "out.png", *FAST).output


def test_lpips_stands_beside(folder, monkeypatch):
    weights = SHARED / "weights"
    if not (weights / "lpips_squeeze_v0.1.npz").exists():
        pytest.skip("../shared/weights is absent")
    monkeypatch.chdir(folder)
    options = ("--reference", "clean.png", "--lpips-net", "squeeze", "--lpips-weights", str(weights))
    done = run("denoise", "noisy.png", "-o", "out.png", "--report", "report", *options, *FAST)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "LPIPS against the reference" in done.output
    data = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert data["scores"]["lpips"]["after"] < data["scores"]["lpips"]["before"]
    assert "LPIPS" in (folder / "report" / "index.html").read_text(encoding="utf-8")


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
        ("auto", "bad.jpg"),
        ("auto", "noisy.png"),
        ("auto", "salted.png"),
        ("auto", "clean.png", "--mask", "holes.png"),
        ("denoise", "noisy.png", "--sigma", "20", "--gain", "10", "--spread", "0.7", "--no-guided"),
        ("denoise", "noisy.png", "--impulses", "--importance", "holes.png"),
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
        (("denoise", "stack"), "stack: expected one picture, found a texture stack"),
        (("auto", "wide.png"), "expected coarse JPEG, impulses or noise, found none"),
        (("denoise", "noisy.png", "--reference", "small.png"), "reference: expected 96 x 72 pixels"),
        (
            ("denoise", "noisy.png", "--reference", "holes.png"),
            "3 channels as the restored picture has, found 96 x 72 and",
        ),
        (("upscale", "small.png", "--importance", "small.png"), "importance: expected 96 x 72 pixels"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    Image.fromarray(np.full((72, 96), 255, np.uint8)).save("white.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save("black.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "stack").mkdir()
    for name in ("clean.png", "noisy.png"):
        (folder / "stack" / name).write_bytes((folder / name).read_bytes())
    done = run(*arguments, "-o", "out.png", *FAST)
    assert isinstance(done.exception, ImageGSError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("deblur",),
        ("deblur", "--gaussian", "1", "--disk", "2"),
        ("denoise", "--bpp", "1"),
        ("deblur", "--motion", "a"),
        ("denoise", "--gain", "1"),
        ("denoise", "--lpips-net", "alex"),
    ],
)
def test_wrong_usage_is_said(folder, arguments):
    task, *rest = arguments
    done = run(task, str(folder / "clean.png"), "-o", str(folder / "out.png"), *rest)
    assert done.exit_code == 2
