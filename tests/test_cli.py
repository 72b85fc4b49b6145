"""The command line: what each command writes and prints, and how it fails."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import imagegs
from imagegs import budget, cli, encoding
from imagegs.cli import compare as compare_command
from imagegs.cli import console
from imagegs.cli import encode as encode_command
from imagegs.cli import plot as plot_command
from imagegs.codec import with_psnrs, write_file
from imagegs.codec.quantization import MAX_BITS, MIN_BITS
from imagegs.fitting.config import PRESETS, PROFILES
from imagegs.gaussians import MAX_SIDE, MAX_TOP_K, Blend
from imagegs.image import MAX_PIXELS
from imagegs.metrics import LpipsNet

QUICK = ("-n", "40", "--steps", "20", "--preset", "fast")


def run(*arguments: Any, status: int = 0) -> str:
    """What a command prints; it must leave with ``status``."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == status, (done.output, done.exception)
    return done.stdout


def run_json(*arguments: Any) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def fail(monkeypatch, capsys, *arguments: Any, status: int = 1) -> str:
    """The one line that ``main`` leaves on the error stream."""
    monkeypatch.setattr(sys, "argv", ["imagegs", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == status
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("imagegs: ")
    return line


@pytest.fixture
def gsimg(tmp_path: Path, small_gaussians) -> Path:
    path = tmp_path / "small.gsimg"
    imagegs.save(path, small_gaussians)
    return path


@pytest.fixture
def no_fit(monkeypatch):
    """Makes a test fail that reaches the fit."""
    monkeypatch.setattr(encoding, "encode", lambda *args, **options: pytest.fail("the fit was started"))


# -- choices and limits are written in two places, so that --help needs no NumPy


def test_choices_are_those_of_the_library():
    assert get_args(encode_command.Preset) == tuple(PRESETS)
    assert get_args(encode_command.Profile) == tuple(PROFILES)
    assert get_args(encode_command.Blend) == get_args(Blend)
    assert get_args(compare_command.LpipsNet) == get_args(LpipsNet)


def test_limits_are_those_of_the_library():
    text = re.sub(r"\s+", " ", run("encode", "--help"))
    assert text.count(f"[{MIN_BITS}<=x<={MAX_BITS}]") == 4
    assert f"[1<=x<={MAX_TOP_K}]" in text
    for command, most in (("decode", MAX_PIXELS), ("info", MAX_SIDE**2)):
        assert str(most) in run(command, "--help")


@pytest.mark.parametrize("command", ["encode", "decode", "info", "compare", "plot", "demo"])
def test_every_command_has_help_and_json(command):
    text = run(command, "--help")
    assert "--json" in text
    assert "Usage: " in text


def test_version():
    assert run("--version").strip() == f"imagegs {imagegs.__version__}"


# -- encode


def test_encode_writes_what_it_says(photo, tmp_path):
    output = tmp_path / "photo.gsimg"
    text = run("encode", photo, "-o", output, *QUICK)
    figures = run_json("encode", photo, "-o", output, *QUICK)
    size = output.stat().st_size
    assert figures["bytes"] == size
    assert figures["bpp"] == pytest.approx(8 * size / (64 * 48))
    assert figures["gaussians"] == len(imagegs.load(output)) == 40
    assert (figures["width"], figures["height"], figures["channels"]) == (64, 48, 3)
    assert figures["history"][-1][0] == figures["steps"] == 20
    assert figures["target"] == {"kind": "gaussians", "value": 40, "bpp": None, "text": "40 Gaussians", "reached": 40}
    info = run_json("info", output)
    assert figures["attribute_bits_per_gaussian"] == pytest.approx(info["attribute_bits_per_gaussian"])
    assert figures["fixed_width_bytes"] > 1.5 * size
    assert figures["notes"] == []
    compared = run_json("compare", photo, output)
    assert compared["psnr"] == pytest.approx(figures["psnr"], abs=0.05)
    assert f"{size:,} bytes" in text
    assert f"{figures['psnr']:.2f} dB" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.gsimg", "photo.png"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--bytes", 500), "500 bytes; "),
        (("--bpp", 1.5), "1.5 bits per pixel, 576 bytes; "),
        (("--psnr", 30), "PSNR 30 dB; 30."),
        (("--ssim", 0.9), "SSIM 0.9; 0.90"),
        (("--quality", 50), "quality 50"),
        ((), "quality 75"),
    ],
    ids=str,
)
def test_targets(photo, tmp_path, options, text):
    output = tmp_path / "photo.gsimg"
    common = ("encode", photo, "-o", output, "--effort", 1, *options)
    figures = run_json(*common)
    target, value = figures["target"], options[1] if options else 75
    assert (target["bpp"] if target["bpp"] else target["value"]) == value
    if target["kind"] == "bytes":
        assert target["reached"] == figures["bytes"] == output.stat().st_size <= target["value"]
    elif target["kind"] != "quality":
        assert target["reached"] >= target["value"]
        assert target["reached"] == pytest.approx(figures[target["kind"]], abs=0.05)
    first = output.read_bytes()
    assert text in re.sub(r"\s+", " ", run(*common))
    run(*shlex.split(figures["command"])[1:], "--quiet")
    assert output.read_bytes() == first


def test_what_a_target_leaves_is_one_note(photo, tmp_path, monkeypatch, capsys):
    output = tmp_path / "photo.gsimg"
    Image.new("RGB", (8, 8), (200, 90, 10)).save(tmp_path / "flat.png")
    common = ("encode", tmp_path / "flat.png", "-o", output, "--effort", 1)
    (line,) = warnings_of(*common, "--bytes", 50000)
    assert line.startswith("imagegs: note: bytes: 50,000 bytes allowed, ")
    assert run_json(*common, "--bytes", 50000)["notes"] == [line.removeprefix("imagegs: note: ")]
    assert warnings_of(*common, "--bytes", 50000, "--quiet") == []
    before = output.read_bytes()
    line = fail(monkeypatch, capsys, *common, "--bytes", 20)
    assert re.fullmatch(r"imagegs: bytes: expected at least \d+ bytes for this picture .*, found 20 bytes", line)
    assert output.read_bytes() == before


def test_levels_and_blocks(tmp_path):
    y, x = np.mgrid[0:100, 0:130]
    pixels = (127 + 60 * np.sin(x / 7) + 60 * np.cos(y / 9)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "waves.png")
    output = tmp_path / "waves.gsimg"
    common = ("encode", tmp_path / "waves.png", "-o", output, "--effort", 1, "--bytes", 1500)
    run(*common, "--levels", 3, "--block-size", 64)
    facts = run_json("info", output)
    assert (facts["block_size"], facts["blocks"]) == (64, 6)
    assert [row["level"] for row in facts["levels"]] == [0, 1, 2]
    assert 0.97 * 1500 <= facts["bytes"] <= 1500
    for row in facts["levels"]:
        run("decode", output, "-o", tmp_path / "out.png", "--level", row["level"])
        found = np.asarray(Image.open(tmp_path / "out.png")).astype(float)
        rounded = 10 ** (-row["psnr"] / 10) + 1 / 12 / 255**2  # 8 bits add a twelfth of their step's square
        assert -10 * np.log10(rounded) == pytest.approx(
            -10 * np.log10(np.mean((found - pixels) ** 2) / 255**2), abs=0.1
        )
    run("decode", output, "-o", tmp_path / "part.png", "--region", "64,0,60,64")
    part = np.asarray(Image.open(tmp_path / "part.png")).astype(int)
    assert np.abs(part - found[0:64, 64:124]).max() <= 1


def test_options_stand_in_groups():
    text = run("encode", "--help")
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles == [
        "Arguments",
        "File",
        "Target, one of these",
        "Effort",
        "Fit",
        "Fixed widths, instead of entropy coding",
        "Options",
    ]
    targets = text.partition("Target, one of these:")[2].partition("Effort:")[0]
    assert re.findall(r"--[a-z]+", targets) == ["--quality", "--bpp", "--bytes", "--psnr", "--ssim", "--gaussians"]


def test_the_printed_command_reproduces_the_file(photo, tmp_path):
    output = tmp_path / "a photo.gsimg"
    options = ("--position-bits", 12, "--color-bits", 7, "--seed", 3, "--blend", "topk", "--top-k", 4, "--threads", 1)
    command = run_json("encode", photo, "-o", output, *QUICK, *options)["command"]
    first = output.read_bytes()
    output.unlink()
    name, *arguments = shlex.split(command)
    assert name == "imagegs"
    run(*arguments)
    assert output.read_bytes() == first
    facts = run_json("info", output)
    assert facts["bits"] == {"position": 12, "scale": 9, "rotation": 10, "color": 7}
    assert (facts["blend"], facts["top_k"]) == ("topk", 4)


def test_encode_reports(photo, tmp_path):
    text = run("encode", photo, "-o", tmp_path / "photo.gsimg", *QUICK, "--report", tmp_path / "report")
    assert "index.html" in re.sub(r"\s", "", text)
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert data["bytes"] == (tmp_path / "photo.gsimg").stat().st_size
    run("plot", "curve", tmp_path / "report" / "report.json", "-o", tmp_path / "curve.png")
    assert Image.open(tmp_path / "curve.png").width > 100


def test_encode_quiet_prints_nothing(photo, tmp_path):
    assert run("encode", photo, "-o", tmp_path / "photo.gsimg", *QUICK, "--quiet") == ""


def test_importance_moves_the_gaussians(photo, tmp_path):
    left = np.zeros((48, 64), np.uint8)
    left[:, :16] = 255
    Image.fromarray(left).save(tmp_path / "map.png")
    common = ("encode", photo, "-o", tmp_path / "photo.gsimg", "-n", 60, "--steps", 1)
    run(*common)
    plain = imagegs.load(tmp_path / "photo.gsimg")
    run(*common, "--importance", tmp_path / "map.png")
    steered = imagegs.load(tmp_path / "photo.gsimg")
    assert np.mean(steered.means[:, 0] < 20) > np.mean(plain.means[:, 0] < 20) + 0.2


def interrupt_at(step: int, monkeypatch) -> None:
    """Let the progress of the next fit raise what Ctrl-C raises."""

    @contextmanager
    def progress(*, quiet):
        def show(now):
            if now.step >= step:
                raise KeyboardInterrupt

        yield show

    monkeypatch.setattr(console, "fit_progress", progress)


def test_an_interrupted_fit_is_resumed_by_the_printed_command(photo, tmp_path, monkeypatch):
    output = tmp_path / "photo.gsimg"
    arguments = ["encode", str(photo), "-o", str(output), *QUICK]
    run(*arguments)
    whole = output.read_bytes()
    output.write_bytes(b"an older file")
    with monkeypatch.context() as patch:
        interrupt_at(10, patch)
        done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 130
    assert output.read_bytes() == b"an older file"
    assert (tmp_path / "photo.gsimg.checkpoint.npz").exists()
    name, *resume = shlex.split(done.stderr.splitlines()[-1])
    assert name == "imagegs"
    assert "--resume" in resume
    run(*resume)
    assert output.read_bytes() == whole
    assert not (tmp_path / "photo.gsimg.checkpoint.npz").exists()


def test_an_interruption_outside_a_fit_is_one_line(photo, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(budget, "code", stop)
    done = CliRunner().invoke(cli.app, ["encode", str(photo), "-o", str(tmp_path / "photo.gsimg"), *QUICK])
    assert done.exit_code == 130
    assert done.stderr == "imagegs: interrupted outside a fit; nothing is kept\n"
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_stack_makes_the_round_trip(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    ramp = np.linspace(0, 255, 32 * 24).reshape(24, 32).astype(np.uint8)
    Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)).save(folder / "color.png")
    Image.fromarray(ramp).save(folder / "height.png")
    run("encode", folder, "-o", tmp_path / "stack.gsimg", *QUICK)
    run("decode", tmp_path / "stack.gsimg", "-o", tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["color.png", "height.png"]
    assert Image.open(tmp_path / "again" / "color.png").mode == "RGB"
    figures = run_json("compare", folder, tmp_path / "again")
    assert [plane["name"] for plane in figures["planes"]] == ["color.png", "height.png"]
    text = run("compare", folder, tmp_path / "again")
    assert re.search(r"PSNR of L\W+-\W+\d", text)  # the coloured picture has no such channel
    assert run_json("info", tmp_path / "stack.gsimg")["stack"] == ["color.png", "height.png"]


# -- decode and info


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((), (64, 48)),
        (("--height", 96), (128, 96)),
        (("--scale", 0.5), (32, 24)),
        (("--region", "8,4,16,12"), (16, 12)),
        (("--region", "8,4,16,12", "--scale", 3), (48, 36)),
    ],
)
def test_decode_sizes(gsimg, tmp_path, options, size):
    facts = run_json("decode", gsimg, "-o", tmp_path / "out.png", *options)
    assert Image.open(tmp_path / "out.png").size == size == (facts["width"], facts["height"])


def test_a_region_is_cut_from_the_whole(gsimg, tmp_path):
    run("decode", gsimg, "-o", tmp_path / "whole.png")
    run("decode", gsimg, "-o", tmp_path / "part.png", "--region", "8,4,16,12", "--threads", 2)
    whole, part = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("whole.png", "part.png"))
    assert np.abs(whole[4:16, 8:24] - part).max() <= 1


def test_info_adds_up(gsimg):
    facts = run_json("info", gsimg)
    assert facts["bytes"] == gsimg.stat().st_size == sum(facts["sections"].values())
    assert (facts["width"], facts["height"], facts["gaussians"]) == (64, 48, 60)
    assert facts["attribute_bits_per_gaussian"] == {"position": 28, "scale": 18, "rotation": 10, "color": 27}
    assert 83 <= facts["bits_per_gaussian"] < 83 + 8 / 60
    assert 0 <= facts["sections"]["payload"] - sum(facts["attribute_bytes"].values()) < 1
    text = run("info", gsimg)
    assert f"{facts['bytes']:,} bytes" in text
    assert "64 x 48" in text


@pytest.fixture
def leveled(tmp_path: Path, small_gaussians) -> Path:
    """Sixty Gaussians in three levels, without blocks; the quality of the first level is known."""
    path = tmp_path / "leveled.gsimg"
    path.write_bytes(with_psnrs(write_file(small_gaussians, levels=[10, 20, 30]), [21.5, None, 30.25]))
    return path


def test_info_by_level_and_block(leveled, tmp_path, small_gaussians):
    facts = run_json("info", leveled)
    assert [(row["level"], row["gaussians"], row["psnr"]) for row in facts["levels"]] == [
        (0, 10, 21.5),
        (1, 20, None),
        (2, 30, 30.25),
    ]
    assert sum(row["bytes"] for row in facts["levels"]) == facts["sections"]["payload"]
    assert (facts["block_size"], facts["blocks"], len(facts["chunks"])) == (None, 1, 3)
    text = run("info", leveled)
    assert re.search(r"0\W+1\W+104\W+10\W+21\.50 dB", text)
    assert re.search(r"1\W+1\W+208\W+20\W+unknown", text)
    assert "reach" not in text

    path = tmp_path / "blocks.gsimg"
    wide = small_gaussians.replace(means=small_gaussians.means * 3, height=144, width=192)
    path.write_bytes(write_file(wide, levels=[20, 40], block_shift=6))
    facts = run_json("info", path)
    assert (facts["block_size"], facts["blocks"]) == (64, 9)
    assert sum(chunk["count"] for chunk in facts["chunks"]) == facts["gaussians"] == 60
    assert max(row["blocks"] for row in facts["levels"]) > 4
    text = run("info", path)
    assert "9 of 64 x 64 pixels" in text
    assert f"{facts['chunks'][3]['reach']} pixels" in text


def warnings_of(*arguments: Any) -> list[str]:
    """The lines that a command leaves on the error stream; it must succeed."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stderr.splitlines()


def test_a_file_that_was_cut_is_drawn_with_one_warning(leveled, tmp_path, monkeypatch, capsys):
    cut, output = tmp_path / "cut.gsimg", tmp_path / "out.png"
    cut.write_bytes(leveled.read_bytes()[:-50])
    for arguments in (("decode", cut, "-o", output), ("info", cut), ("info", cut, "--json")):
        (line,) = warnings_of(*arguments)
        size = leveled.stat().st_size
        assert line == (
            f"imagegs: warning: {cut}: expected {size:,} bytes, found {size - 50:,}: what there is was drawn; "
            "of its levels 0 to 2, those up to 1 are whole"
        )
    assert Image.open(output).size == (64, 48)
    assert 30 < run_json("info", cut)["gaussians"] < 60
    output.unlink()
    for arguments in (("decode", cut, "-o", output, "--strict"), ("info", cut, "--strict")):
        assert "chunk 2: expected 312 bytes" in fail(monkeypatch, capsys, *arguments)
    assert not output.exists()
    for arguments in (("--level", 1), ("--max-bytes", cut.stat().st_size)):
        assert warnings_of("decode", cut, "-o", output, *arguments) == []
    (line,) = [line for line in warnings_of("compare", leveled, cut) if "not measured" not in line]
    assert str(cut) in line


def test_levels_and_bytes_that_are_drawn(leveled, tmp_path):
    chunks = run_json("info", leveled)["chunks"]
    pictures = {}
    for name, options in (
        ("level", ("--level", 0)),
        ("bytes", ("--max-bytes", chunks[0]["offset"] + chunks[0]["length"])),
        ("all", ("--strict",)),
        ("more", ("--level", 7, "--max-bytes", 10**9)),
    ):
        run("decode", leveled, "-o", tmp_path / f"{name}.png", *options)
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))
    np.testing.assert_array_equal(pictures["level"], pictures["bytes"])
    np.testing.assert_array_equal(pictures["all"], pictures["more"])
    assert (pictures["all"] != pictures["level"]).any()


def test_the_limit_of_pixels(gsimg, tmp_path, monkeypatch, capsys):
    for arguments in (("info", gsimg), ("decode", gsimg, "-o", tmp_path / "out.png")):
        assert "at most 3,000 pixels" in fail(monkeypatch, capsys, *arguments, "--max-pixels", 3000)
    assert run_json("info", gsimg, "--max-pixels", 3072)["width"] == 64


# -- compare and plot


def test_compare_of_a_picture_with_itself(photo):
    figures = run_json("compare", photo, photo)
    assert figures["psnr"] == "inf"
    (plane,) = figures["planes"]
    assert plane["channels"] == {"R": "inf", "G": "inf", "B": "inf"}
    assert plane["ssim"] == pytest.approx(1)
    assert re.search(r"PSNR of G\W+inf dB", run("compare", photo, photo))


def test_compare_with_a_file(photo, gsimg):
    figures = run_json("compare", photo, gsimg)
    assert 0 < figures["psnr"] < 20
    text = run("compare", photo, gsimg)
    assert f"{figures['psnr']:.2f} dB" in text
    assert f"{figures['planes'][0]['ssim']:.4f}" in text


def test_compare_says_what_it_cannot_measure(photo, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ["compare", photo, photo, "--lpips-net", "squeeze", "--lpips-weights", tmp_path / "empty"]
    (plane,) = run_json(*arguments)["planes"]
    assert plane["lpips"] is None
    assert "found neither" in plane["unavailable"]["lpips"]
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 0
    assert "not measured: LPIPS: expected" in done.stderr
    assert "not measured: MS-SSIM: expected sides" in done.stderr  # 48 rows are too few
    assert re.search(r"LPIPS\W+-", done.stdout)


def test_compare_refuses_unlike_pictures(photo, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (10, 12)).save(tmp_path / "small.png")
    line = fail(monkeypatch, capsys, "compare", photo, tmp_path / "small.png")
    assert "64 x 48" in line
    assert "10 x 12" in line


@pytest.mark.parametrize("kind", ["gaussians", "density", "gradient", "error"])
@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_plot(kind, ending, gsimg, photo, tmp_path):
    output = tmp_path / f"figure{ending}"
    options = ("--reference", photo) if kind == "error" else ()
    facts = run_json("plot", kind, gsimg, "-o", output, *options)
    assert facts == {"file": str(output), "kind": kind}
    start = output.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if ending == ".png" else b"<svg" in start or b"<?xml" in start


def test_plot_kinds_are_all_drawn():
    assert {"gaussians", "density", "gradient", "error", "curve"} == set(get_args(plot_command.Kind))


def test_plot_curve_of_something_else(photo, tmp_path, monkeypatch, capsys):
    (tmp_path / "other.json").write_text('{"history": 3}')
    for source in (photo, tmp_path / "other.json"):
        line = fail(monkeypatch, capsys, "plot", "curve", source, "-o", tmp_path / "out.png")
        assert "expected the JSON" in line
    assert "cannot be read" in fail(
        monkeypatch, capsys, "plot", "curve", tmp_path / "none.json", "-o", tmp_path / "out.png"
    )


# -- bad input: one line, status 1, nothing half-written; wrong usage is 2


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/out.gsimg", "does not exist"),
        ("out.png", "expected a name ending in .gsimg, found .png"),
        ("out", "expected a name ending in .gsimg, found none"),
        ("folder.gsimg", "found a folder"),
    ],
)
@pytest.mark.usefixtures("no_fit")
def test_encode_checks_its_output_before_the_fit(photo, tmp_path, monkeypatch, capsys, output, message):
    (tmp_path / "folder.gsimg").mkdir()
    assert message in fail(monkeypatch, capsys, "encode", photo, "-o", tmp_path / output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.gsimg", "photo.png"]


@pytest.mark.usefixtures("no_fit")
def test_encode_checks_its_report_before_the_fit(photo, tmp_path, monkeypatch, capsys):
    options = ("encode", photo, "-o", tmp_path / "out.gsimg", "--report")
    assert "expected a folder" in fail(monkeypatch, capsys, *options, photo)
    assert "does not exist" in fail(monkeypatch, capsys, *options, tmp_path / "missing" / "report")


@pytest.mark.parametrize("content", [None, b"", b"no picture at all", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_encode_of_no_picture(tmp_path, monkeypatch, capsys, content):
    source = tmp_path / "source.png"
    if content is not None:
        source.write_bytes(content)
    assert "source.png" in fail(monkeypatch, capsys, "encode", source, "-o", tmp_path / "out.gsimg", *QUICK)
    assert not (tmp_path / "out.gsimg").exists()


def test_more_gaussians_than_pixels(photo, tmp_path, monkeypatch, capsys):
    line = fail(monkeypatch, capsys, "encode", photo, "-o", tmp_path / "out.gsimg", "-n", 64 * 48 + 1)
    assert "3072" in line.replace(",", "")


@pytest.mark.parametrize("command", ["decode", "info"])
def test_a_damaged_file(gsimg, tmp_path, monkeypatch, capsys, command):
    data = bytearray(gsimg.read_bytes())
    data[-1] ^= 1
    (tmp_path / "altered.gsimg").write_bytes(data)
    (tmp_path / "cut.gsimg").write_bytes(data[:-9])
    output = ("-o", tmp_path / "out.png") if command == "decode" else ()
    for name in ("altered.gsimg", "cut.gsimg", "absent.gsimg"):
        assert name in fail(monkeypatch, capsys, command, tmp_path / name, *output)
    assert not (tmp_path / "out.png").exists()


def test_decode_leaves_what_was_there(gsimg, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out.png"
    output.write_bytes(b"older")
    assert "region" in fail(monkeypatch, capsys, "decode", gsimg, "-o", output, "--region", "60,0,16,16")
    assert "2,000 pixels" in fail(monkeypatch, capsys, "decode", gsimg, "-o", output, "--max-pixels", 2000)
    assert output.read_bytes() == b"older"


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "in.png"),
        ("encode", "in.png", "-o", "out.gsimg", "-n", "0"),
        ("encode", "in.png", "-o", "out.gsimg", "--color-bits", "3"),
        ("encode", "in.png", "-o", "out.gsimg", "--position-bits", "33"),
        ("encode", "in.png", "-o", "out.gsimg", "--top-k", "33"),
        ("encode", "in.png", "-o", "out.gsimg", "--preset", "slow"),
        ("encode", "in.png", "-o", "out.gsimg", "--device", "tpu"),
        ("encode", "in.png", "-o", "out.gsimg", "--effort", "0"),
        ("encode", "in.png", "-o", "out.gsimg", "--effort", "10"),
        ("encode", "in.png", "-o", "out.gsimg", "--effort", "3", "--preset", "fast"),
        ("encode", "in.png", "-o", "out.gsimg", "--psnr", "30", "--bytes", "900"),
        ("encode", "in.png", "-o", "out.gsimg", "--bpp", "1", "-n", "90"),
        ("encode", "in.png", "-o", "out.gsimg", "-q", "101"),
        ("encode", "in.png", "-o", "out.gsimg", "--ssim", "1"),
        ("encode", "in.png", "-o", "out.gsimg", "--levels", "0"),
        ("encode", "in.png", "-o", "out.gsimg", "--block-size", "100"),
        ("decode", "in.gsimg", "-o", "out.png", "--level", "-1"),
        ("decode", "in.gsimg", "-o", "out.png", "--max-bytes", "0"),
        ("decode", "in.gsimg", "-o", "out.png", "--scale", "0"),
        ("decode", "in.gsimg", "-o", "out.png", "--scale", "2", "--height", "9"),
        ("decode", "in.gsimg", "-o", "out.png", "--region", "1,2,3"),
        ("decode", "in.gsimg", "-o", "out.png", "--region", "0,0,0,5"),
        ("decode", "in.gsimg", "-o", "out.png", "--region", "0,0,nan,5"),
        ("plot", "error", "in.png", "-o", "out.png"),
        ("plot", "density", "in.gsimg", "-o", "out.png", "--reference", "in.png"),
        ("plot", "histogram", "in.png", "-o", "out.png"),
        ("compare", "in.png", "out.png", "--lpips-weights", "folder"),
        ("unknown",),
    ],
)
def test_wrong_usage_is_2(arguments):
    run(*arguments, status=2)


def test_warnings_are_one_line():
    script = (
        "import warnings\n"
        "from imagegs import cli\n"
        "from imagegs.errors import ImageGSWarning\n"
        "cli.app = lambda **_: warnings.warn('the reference runs;\\n  install a compiler', ImageGSWarning)\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "imagegs: warning: the reference runs; install a compiler\n"


def test_a_closed_pipe_is_quiet(gsimg):
    script = "from imagegs.cli import main; main()"
    command = f"{shlex.quote(sys.executable)} -c '{script}' info --json {shlex.quote(str(gsimg))} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
