"""`imagegs batch --app`: for each picture the files that the app's own command writes, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.cli import app
from imagegs.kernels import native

pytest.importorskip("pebble")
pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

ENCODE = ("-n", "60", "--steps", "8")
FIT = ("-n", "60", "--fits", "2", "--steps", "8")


def run(*words: str, status: int = 0):
    done = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert done.exit_code == status, (done.output, done.exception)
    return done


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:48, 0:64]
    for number, name in enumerate(("in/a.png", "in/deep/b.jpg")):
        waves = [127 + 80 * np.sin(x / (5 + channel + number) + y / 9) for channel in range(3)]
        pixels = np.clip(np.stack(waves, axis=-1) + random.normal(0, 12, (48, 64, 3)), 0, 255)
        Path(name).parent.mkdir(parents=True)
        Image.fromarray(pixels.astype(np.uint8)).save(name, quality=30)
    hole = np.zeros((48, 64), np.uint8)
    hole[10:20, 10:30] = 255
    Image.fromarray(hole).save("map.png")
    return tmp_path


BOX = ("--roi", "4,4,20,20", "--strength", "0.8", "--without", "order")


@pytest.mark.parametrize(
    ("single", "options"),
    [
        (("encode",), ENCODE),
        (("saliency", "encode"), (*ENCODE, *BOX)),
        (("saliency", "encode"), (*ENCODE, "--model", "builtin", "--mask", "map.png", "--combine", "mean")),
        (("lod", "export"), (*ENCODE, "--levels", "3")),
        (("lod", "export"), (*ENCODE, "--level-gaussians", "10,30", "--first", "map.png", "--seed", "2")),
    ],
)
def test_files_are_those_of_the_command(folder, single, options):
    run("batch", "in", "out", "--app", single[0], *options, "--workers", "1")
    for source, output in (("in/a.png", "out/a.gsimg"), ("in/deep/b.jpg", "out/deep/b.gsimg")):
        run(*single, source, "-o", "one.gsimg", *options, "--quiet")
        assert Path(output).read_bytes() == Path("one.gsimg").read_bytes()


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("auto", ()),
        ("denoise", ("--sigma", "12", "--importance", "map.png")),
        ("inpaint", ("--mask", "map.png", "--seed", "3")),
        ("upscale", ("--factor", "1.5", "--method", "area")),
        ("deblur", ("--motion", "5,30")),
    ],
)
def test_restored_pictures_are_those_of_the_command(folder, task, options):
    run("batch", "in", "out", "--app=restore", "--task", task, *FIT, *options, "--workers", "1")
    for source, output in (("in/a.png", "out/a.png"), ("in/deep/b.jpg", "out/deep/b.png")):
        run("restore", task, source, "-o", "one.png", *FIT, *options, "--quiet")
        assert Path(output).read_bytes() == Path("one.png").read_bytes()
    records = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    assert [record["output"] for record in records] == ["a.png", "deep/b.png"]
    assert [record["psnr"] for record in records] == [None, None]
    assert records[0]["width"] == (96 if task == "upscale" else 64)


def test_restored_pictures_are_compressed_too(folder):
    words = ("batch", "in/deep", "out", "--app", "restore", "--task", "dejpeg", *FIT, "--compressed", "--bpp", "3")
    words = (*words, "--ending", "tif", "--workers", "1", "--json")
    (record,) = json.loads(run(*words).stdout)["records"]
    single = ("restore", "dejpeg", "in/deep/b.jpg", "-o", "one.tif", "--compressed", "one.gsimg", "--bpp", "3", *FIT)
    run(*single, "--quiet")
    assert Path("out/b.tif").read_bytes() == Path("one.tif").read_bytes()
    assert Path("out/b.gsimg").read_bytes() == Path("one.gsimg").read_bytes()
    assert (record["output"], record["beside"], record["size"]) == (
        "b.gsimg",
        "b.tif",
        Path("one.gsimg").stat().st_size,
    )
    assert record["psnr"] > 10
    assert json.loads(run(*words).stdout)["skipped"] == 1
    Path("out/b.tif").unlink()
    assert json.loads(run(*words).stdout)["encoded"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--app", "nothing"), "expected one of encode, saliency, restore, lod, found 'nothing'"),
        (("--app", "lod", "--strength", "1"), "No such option: --strength"),
        (("--strength", "1"), "No such option: --strength"),
        (("--app", "restore"), "Missing option '--task'"),
        (("--app", "restore", "--task", "inpaint"), "expected --mask with it"),
        (("--app", "restore", "--task", "denoise", "--mask", "map.png"), "expected --task auto or inpaint with it"),
        (("--app", "restore", "--task", "denoise", "--factor", "2"), "expected --task upscale with it"),
        (("--app", "restore", "--task", "upscale", "--disk", "2"), "expected --task deblur with it"),
        (
            ("--app", "restore", "--task", "deblur"),
            "expected one of --gaussian, --disk, --motion, --kernel, found none",
        ),
        (("--app", "restore", "--task", "denoise", "--bpp", "1"), "expected --compressed with it"),
        (("--app", "saliency", "--model", "nothing"), "found 'nothing'"),
        (("--app", "saliency", "--bpp", "1", "--bytes", "100"), "expected one, found --bpp and --bytes"),
        (("--app", "lod", "--levels", "many"), "expected auto or a number, found 'many'"),
    ],
)
def test_options_that_an_app_does_not_have_are_wrong_usage(folder, options, message):
    assert message in " ".join(run("batch", "in", "out", *options, status=2).stderr.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "option"), [("encode", "--effort"), ("saliency", "--prompt"), ("restore", "--task"), ("lod", "--first")]
)
def test_the_help_page_is_that_of_the_app(name, option):
    page = run("batch", "--app", name, "--help").stdout
    assert option in page
    assert "encode, saliency, restore, lod" in " ".join(page.split())
    assert ("--prompt" in page) == (name == "saliency")
    assert "--resume" not in page


def test_settings_of_apps_are_told_apart(folder):
    words = ("batch", "in", "out", "--app", "saliency", *ENCODE, "--mask", "map.png", "--json")
    assert json.loads(run(*words).stdout)["encoded"] == 2
    assert json.loads(run(*words).stdout)["skipped"] == 2
    Image.new("L", (64, 48), 9).save("map.png")  # another map makes other files
    for other in (words, ("batch", "in", "out", *ENCODE), ("batch", "in", "out", "--app", "lod", *ENCODE)):
        done = CliRunner().invoke(app, other)
        assert "expected records of these settings, found others" in str(done.exception)


def test_a_blur_is_named_by_its_kernel(folder):
    Image.new("L", (3, 3), 200).save("kernel.png")
    words = (
        "batch",
        "in/a.png",
        "out",
        "--app",
        "restore",
        "--task",
        "deblur",
        *FIT,
        "--kernel",
        "kernel.png",
        "--json",
    )
    assert json.loads(run(*words).stdout)["encoded"] == 1
    assert json.loads(run(*words).stdout)["skipped"] == 1
    Image.new("L", (5, 5), 200).save("kernel.png")
    assert "expected records of these settings" in str(CliRunner().invoke(app, words).exception)
