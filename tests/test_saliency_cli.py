"""``imagegs saliency`` as a user meets it: map, encode, eval, and what they say when something is wrong."""

from __future__ import annotations

import json
import re
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs import cli
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
QUICK = ("--bytes", "900", "-e", "1")


def run(*arguments: Any) -> str:
    done = CliRunner().invoke(cli.app, ["saliency", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def run_json(*arguments: Any) -> Any:
    return json.loads(run(*arguments, "--json"))


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """The one line of a command that fails with status 1."""
    monkeypatch.setattr(sys, "argv", ["imagegs", "saliency", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def misuse(*arguments: Any) -> str:
    """What wrong usage prints, on one line."""
    done = CliRunner().invoke(cli.app, ["saliency", *map(str, arguments)], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    return re.sub(r"[\s│]+", " ", done.stderr)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    values = np.zeros((48, 64), np.uint8)
    values[10:30, 30:50] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(values).save(path)
    return path


# -- map


def test_a_map_is_written_as_a_picture_or_as_numbers(photo: Path, tmp_path: Path) -> None:
    text = run("map", photo, "-o", tmp_path / "map.png")
    assert "builtin" in text
    run("map", photo, "-o", tmp_path / "map.npy", "--quiet")
    picture, numbers = np.asarray(Image.open(tmp_path / "map.png")), np.load(tmp_path / "map.npy")
    assert picture.shape == numbers.shape == (48, 64)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture / 255, numbers, atol=0.5 / 255 + 1e-6)
    assert numbers.max() == pytest.approx(1)


def test_sources_are_combined(photo: Path, mask: Path, tmp_path: Path) -> None:
    common = ("map", photo, "-o", tmp_path / "map.npy", "--quiet")
    run(*common, "--roi", "0,0,8,8", "--roi", "20,20,4,4,0.5")
    found = np.load(tmp_path / "map.npy")
    assert (found[:8, :8] == 1).all()
    assert (found[20:24, 20:24] == 0.5).all()
    assert np.count_nonzero(found) == 64 + 16
    run(*common, "--roi", "0,0,8,8", "--mask", mask)
    assert np.count_nonzero(np.load(tmp_path / "map.npy")) == 64 + 400
    run(*common, "--mask", mask, "--model", "builtin", "--combine", "product")
    product = np.load(tmp_path / "map.npy")
    assert np.count_nonzero(product) <= 400
    run(*common, "--model", "builtin")
    np.testing.assert_allclose(product[10:30, 30:50], np.load(tmp_path / "map.npy")[10:30, 30:50], rtol=1e-6)


# -- encode


def test_encode_follows_a_mask_within_its_target(photo: Path, mask: Path, tmp_path: Path) -> None:
    output = tmp_path / "photo.gsimg"
    common = ("encode", photo, "-o", output, *QUICK, "--mask", mask)
    plain = run_json(*common, "--strength", 0)
    guided = run_json(*common, "--strength", 1)
    assert guided["importance"] == ["mask"]
    for figures in (plain, guided):
        assert 0.97 * 900 <= figures["bytes"] <= 900
    assert output.stat().st_size == guided["bytes"]
    assert guided["scores"]["region_psnr"] > plain["scores"]["region_psnr"] + 1
    assert guided["scores"]["region_share"] == pytest.approx(400 / 48 / 64)
    without = run_json(*common, "--strength", 1, *(part for name in ("loss", "growth") for part in ("--without", name)))
    assert without["scores"]["region_psnr"] < guided["scores"]["region_psnr"]


def test_strength_zero_writes_what_plain_encode_writes(photo: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["encode", str(photo), "-o", str(tmp_path / "plain.gsimg"), *QUICK])
    assert done.exit_code == 0
    run("encode", photo, "-o", tmp_path / "guided.gsimg", *QUICK, "--strength", 0)
    assert (tmp_path / "guided.gsimg").read_bytes() == (tmp_path / "plain.gsimg").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ("--bpp", "2.5", "--levels", "2", "--block-size", "64"),
        ("--psnr", "27"),
        ("--ssim", "0.8"),
        ("--quality", "60"),
        ("-n", "40"),
        ("-n", "30", "--position-bits", "12"),
        ("-n", "30", "--profile", "image-gs", "--steps", "10"),
        ("-n", "30", "--blend", "topk", "--top-k", "4", "--seed", "3", "--threads", "1"),
    ],
)
def test_every_target_and_option_of_encode_is_there(options: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    pace = () if "--profile" in options else ("-e", "1")
    figures = run_json("encode", photo, "-o", tmp_path / "photo.gsimg", *options, *pace)
    assert figures["bytes"] == (tmp_path / "photo.gsimg").stat().st_size
    if "--psnr" in options:
        assert figures["target"]["reached"] >= 27
    if "-n" in options:
        assert figures["gaussians"] == int(options[options.index("-n") + 1])


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [str(value) for name, value in attrs if name in {"src", "href"}]


def test_the_report_shows_plain_and_guided_at_the_same_size(photo: Path, mask: Path, tmp_path: Path) -> None:
    text = run(
        "encode", photo, "-o", tmp_path / "photo.gsimg", *QUICK, "--mask", mask, "--strength", 1,
        "--report", tmp_path / "report",
    )  # fmt: skip
    assert "index.html" in re.sub(r"\s", "", text)
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert abs(data["plain"]["bytes"] / data["bytes"] - 1) < 0.03
    assert data["scores"]["region_psnr"] > data["plain"]["scores"]["region_psnr"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    references = Page(page).references
    assert len(references) == 6 + 6  # picture, map, two results, two densities; two crops of three
    assert all(reference.startswith("data:image/png;base64,") for reference in references)
    command = data["command"]
    assert command.startswith("imagegs saliency encode ")
    assert shlex.join(["--mask", str(mask)]) in command
    assert command in page.replace("&#39;", "'")


def test_a_report_of_fixed_widths_and_of_an_empty_region(photo: Path, tmp_path: Path) -> None:
    run(
        "encode", photo, "-o", tmp_path / "photo.gsimg", "-n", 30, "-e", 1, "--color-bits", 8,
        "--roi", "60,40,1,1", "--report", tmp_path / "report", "--quiet",
    )  # fmt: skip
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert data["plain"]["gaussians"] == data["gaussians"] == 30


def test_the_command_of_an_interrupted_fit_names_the_application(photo: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from contextlib import contextmanager

    from imagegs.cli import console

    @contextmanager
    def progress(*, quiet: bool) -> Any:
        def show(now: Any) -> None:
            if now.step >= 5:
                raise KeyboardInterrupt

        yield show

    arguments = ["saliency", "encode", str(photo), "-o", str(tmp_path / "photo.gsimg"), *QUICK, "--roi", "1,1,9,9"]
    whole = CliRunner().invoke(cli.app, arguments)
    assert whole.exit_code == 0
    expected = (tmp_path / "photo.gsimg").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(console, "fit_progress", progress)
        done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 130
    assert (tmp_path / "photo.gsimg").read_bytes() == expected
    name, *resume = shlex.split(done.stderr.splitlines()[-1])
    assert (name, *resume[:2]) == ("imagegs", "saliency", "encode")
    assert resume[resume.index("--roi") + 1] == "1,1,9,9"
    again = CliRunner().invoke(cli.app, resume)
    assert again.exit_code == 0
    assert (tmp_path / "photo.gsimg").read_bytes() == expected
    assert not list(tmp_path.glob("*.checkpoint.npz"))


# -- eval


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "fixations").mkdir()
    y, x = np.mgrid[0:48, 0:64] + 0.5
    for index, (cx, cy) in enumerate(((20, 30), (45, 15))):
        disc = np.hypot(x - cx, y - cy) < 7
        picture = np.stack([x / 64, np.where(disc, 0.9, 0.3), y / 48], axis=-1)
        Image.fromarray(np.round(255 * picture).astype(np.uint8)).save(folder / "images" / f"p{index}.png")
        density = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 60)
        Image.fromarray(np.round(255 * density).astype(np.uint8)).save(folder / "fixations" / f"p{index}_density.png")
        points = np.zeros((48, 64), np.uint8)
        points[cy - 3 : cy + 4 : 2, cx - 3 : cx + 4 : 3] = 255
        Image.fromarray(points).save(folder / "fixations" / f"p{index}_points.png")
    return folder


def test_eval_scores_maps_and_files(data: Path) -> None:
    found = run_json("eval", data, "--human", "--bpp", 2.5, "-e", 1, "--strength", 1)
    assert found["importance"] == "human fixations"
    mean = found["fixations"]["mean"]
    assert (mean["cc"], mean["sim"]) == (pytest.approx(1), pytest.approx(1))
    assert mean["nss"] > found["center_prior"]["nss"]
    (gain,) = found["compression"]["gains"]
    assert gain["strength"] == 1
    assert gain["size"] < 0.03
    assert gain["changes"]["weighted_psnr"] > 0.3
    rows = found["compression"]["rows"]
    assert [(row["picture"], row["strength"]) for row in rows] == [("p0", 0), ("p0", 1), ("p1", 0), ("p1", 1)]
    text = run("eval", data, "--bpp", 2.5, "-e", 1)
    assert "mean, centre prior" in text
    assert "Guided against plain files of the same size" in text
    assert "p0" in run("eval", data)


def test_eval_refuses_what_belongs_to_one_picture(data: Path, mask: Path, monkeypatch: Any, capsys: Any) -> None:
    for name, options in (("mask", ("--mask", mask)), ("boxes", ("--roi", "0,0,4,4"))):
        line = fail(monkeypatch, capsys, "eval", data, *options)
        assert line.startswith(f"imagegs: {name}: expected a source that can look at any picture")
    assert "expected the folders images and fixations" in fail(monkeypatch, capsys, "eval", data.parent)


# -- wrong input


def test_bad_input_is_one_line_and_leaves_the_old_file(
    photo: Path, mask: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    output = tmp_path / "photo.gsimg"
    output.write_bytes(b"an older file")
    Image.fromarray(np.ones((20, 30), np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "black.png")
    common = ("encode", photo, "-o", output, *QUICK)
    cases: list[tuple[tuple[Any, ...], str]] = [
        (
            ("--mask", tmp_path / "small.png"),
            "small.png: expected a mask of the picture's size, 64 x 48, found 30 x 20",
        ),
        (
            ("--mask", tmp_path / "black.png"),
            "black.png: expected a mask with some pixel brighter than black, found none",
        ),
        (("--mask", tmp_path / "absent.png"), "absent.png"),
        (("--roi", "100,100,5,5"), "roi: expected pixels of the picture (64 x 48) in the box, found 100,100,5,5"),
        (("--roi", "face"), "roi: expected x,y,w,h or x,y,w,h,weight, found 'face'"),
        (("--model", "prompt"), "model: expected a prompt for the model prompt"),
        (("--prompt", "the face", "--weights", tmp_path), "imagegs weights fetch clipseg"),
        (("--model", "emlnet", "--weights", tmp_path), "imagegs weights fetch emlnet"),
    ]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for options, expected in cases:
        assert expected in fail(monkeypatch, capsys, *common, *options)
    assert output.read_bytes() == b"an older file"
    assert "expected a name ending in .png or .npy" in fail(
        monkeypatch, capsys, "map", photo, "-o", tmp_path / "map.jpg"
    )


def test_wrong_usage(photo: Path, tmp_path: Path) -> None:
    common = ("encode", photo, "-o", tmp_path / "photo.gsimg")
    assert "found 'cnn'" in misuse(*common, "--model", "cnn")
    assert "expected one of start, growth, loss, rounding, order, found 'colour'" in misuse(
        *common, "--without", "colour"
    )
    assert "strength" in misuse(*common, "--strength", "1.5")
    assert "floor" in misuse(*common, "--floor", "0")
    assert "expected one" in misuse(*common, "--bpp", "1", "--psnr", "30")
    assert not (tmp_path / "photo.gsimg").exists()
