"""The tables of `imagegs bench` on tiny pictures: their figures, their words and their plots."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.bench import Outcome, ablation, find_sources, rate_distortion, run_table, speed, upsampling
from imagegs.bench.ablation import FILE, FIT, STAGES, Ablation
from imagegs.bench.anchors import ANCHORS, largest_below, to_image
from imagegs.bench.rate_distortion import RateDistortion
from imagegs.bench.speed import Speed
from imagegs.bench.upsampling import Upsampling
from imagegs.cli import app
from imagegs.errors import ConfigError
from imagegs.fitting.config import make_config
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


@pytest.fixture
def sources(tmp_path):
    for number in range(2):
        y, x = np.mgrid[0:48, 0:64] + 3 * number
        waves = [127 + 90 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)]
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(tmp_path / f"{number}.png")
    return find_sources(tmp_path)


def test_rate_and_distortion(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_distortion, "QUICK_ANCHORS", ("jpeg", "webp"))
    table = RateDistortion((1.0, 2.0), (1,), 0, quick=True)
    run = run_table(table, sources[:1], tmp_path / "out")
    assert [cell["settings"]["key"] for cell in run.record["cells"]] == ["jpeg", "webp", "imagegs-1", "imagegs-1"]
    for cell in run.record["cells"]:
        for point in cell["points"]:
            assert point["bpp"] == pytest.approx(8 * point["bytes"] / (48 * 64))
            assert point["psnr"] > 5
    ours = [cell["points"][0] for cell in run.record["cells"][2:]]
    assert [point["bpp"] <= rate for point, rate in zip(ours, (1.0, 2.0), strict=True)] == [True, True]
    assert ours[0]["psnr"] < ours[1]["psnr"]
    assert run.record["summary"]["times"]["imagegs-1"]["bpp"]["n"] == 1
    assert "| imagegs, effort 1 |" in run.markdown
    assert "warm decode, ms" in run.markdown


def outcomes_of(sources, factors):
    """Curves of 6 dB for every factor of ten in rate; ours takes so many times the bits of JPEG."""
    rates = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
    found = []
    for source, factor in zip(sources, factors, strict=True):
        for key, times in (("jpeg", 1.0), ("imagegs-5", factor)):
            points = [
                {"bpp": times * rate, "psnr": 30 + 6 * float(np.log10(rate)), "ms_ssim": None, "bytes": 1}
                for rate in rates
            ]
            clocks = {"encode_ms": 1.0, "cold_ms": 2.0, "decode_ms": 3.0, "timed_bpp": 0.5}
            cell = {"points": points, **clocks}
            found.append(Outcome(rate_distortion.Cell(source, {"key": key, "codec": key}), cell))
    return found


def test_bd_rates_are_means_over_pictures(sources):
    pytest.importorskip("bjontegaard")
    table = RateDistortion()
    summary = table.summarize(outcomes_of(sources, (0.5, 0.8)))
    row = summary["bd_rate"]["imagegs-5"]["jpeg"]["psnr"]
    assert row["mean"] == pytest.approx(-35, abs=0.01)
    assert list(row["pictures"].values()) == pytest.approx([-50, -20], abs=0.01)
    page = table.write(summary)
    assert "| JPEG | -35.0 % | – |" in page
    assert summary["psnr"]["jpeg"]["at_rates"][3] == pytest.approx(30 + 6 * np.log10(0.5))
    figures = table.draw(summary)
    assert set(figures) == {"psnr"}
    assert {text.get_text() for text in figures["psnr"].legends[0].get_texts()} == {"imagegs, effort 5", "JPEG"}


def test_losses_are_shown_as_losses(sources):
    pytest.importorskip("bjontegaard")
    table = RateDistortion()
    assert "| JPEG | +50.0 % |" in table.write(table.summarize(outcomes_of(sources, (1.5, 1.5))))


@pytest.mark.parametrize("name", ["bjontegaard", "pytorch_msssim"])
def test_what_is_not_installed_is_one_line(monkeypatch, sources, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else find(asked))
    table = RateDistortion()
    extra = {"bjontegaard": "imagegs[bench]", "pytorch_msssim": "imagegs[metrics]"}[name]
    assert sum(f"pip install '{extra}'" in note for note in table.notes) == 1
    if name == "bjontegaard":
        assert table.summarize(outcomes_of(sources, (1, 1)))["bd_rate"] == {}


def test_speed(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "DECODED", ("jpeg",))
    monkeypatch.setattr(speed, "LONG_SIDE", 128)
    table = Speed((40, 5000), quick=True)
    table.repeats = 3
    run = run_table(table, sources[:1], tmp_path / "out")
    (cell,) = run.record["cells"]  # there are fewer than 5,000 pixels
    assert all(cell[clock] > 0 for clock in speed.CLOCKS)
    (row,) = run.record["summary"]["rows"]
    assert row["gaussians"] == 40
    assert set(row["decoders"]) - {"jpeg"} == {"ours"}
    assert row["decoders"]["ours"]["bytes"]["mean"] == cell["decoders"]["ours"]["bytes"]
    assert "| imagegs | " in run.markdown


def test_the_largest_file_below(sources):
    jpeg, image = ANCHORS[0], to_image(sources[0].pixels)
    sizes = [len(jpeg.encode(image, rung)) for rung in jpeg.ladder]
    found = largest_below(jpeg, image, sizes[40])
    assert len(found) <= sizes[40]
    assert len(found) >= sizes[39]
    assert largest_below(jpeg, image, 10) is None


def test_halving_is_the_mean_of_four():
    pixels = np.zeros((3, 5, 6), np.float32)
    pixels[:, :2, :2] = [[0, 1], [1, 0]]
    half, whole = upsampling.halved(pixels)
    assert half.shape == (3, 2, 3)
    assert whole.shape == (3, 4, 6)
    assert half[0, 0, 0] == pytest.approx(128 / 255)
    assert half[:, 1].max() == 0


def test_filters_keep_a_slope():
    slope = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (3, 6, 8)).copy()
    for kind in upsampling.FILTERS.values():
        found = upsampling.resized(slope, (12, 16), kind)
        assert found.shape == (3, 12, 16)
        assert np.allclose(found[:, :, 4:12], np.interp(np.arange(4.5, 12) / 2 - 0.5, range(8), slope[0, 0]), atol=0.01)


def test_upsampling(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(upsampling, "LONG_SIDE", 128)
    run = run_table(Upsampling(quick=True), sources[:1], tmp_path / "out")
    rows = {row["label"]: row for row in run.record["summary"]["rows"]}
    assert list(rows) == ["bicubic", "Lanczos", "imagegs, a Gaussian for 8 pixels"]
    assert rows["bicubic"]["psnr"]["mean"] > 25
    assert rows["imagegs, a Gaussian for 8 pixels"]["gaussians"]["mean"] == 24 * 32 // 8
    assert rows["imagegs, a Gaussian for 8 pixels"]["half_psnr"]["mean"] > 15
    assert "upsampling-psnr.svg" in {path.name for path in run.files}


@pytest.mark.parametrize("variant", FIT)
def test_a_variant_of_the_fit_is_a_change(variant):
    shipped = make_config((64, 64), gaussians=9, steps=800)
    found = make_config((64, 64), gaussians=9, **{"steps": 800, **FIT[variant]})
    assert (found == shipped) == (variant == "as shipped")


def test_ablation(sources, tmp_path):
    table = Ablation(quick=True)
    table.steps = 3
    run = run_table(table, sources, tmp_path / "out")
    summary = run.record["summary"]
    assert [row["variant"] for row in summary["fit"]] == [name for part, name in table.variants if part == "fit"]
    for rows in summary.values():
        assert rows[0]["variant"] == "as shipped"
        assert rows[0]["gain"]["mean"] == 0
        assert {row["psnr"]["n"] for row in rows} == {2}
    fixed = summary["file"][-1]
    assert fixed["variant"] == "fixed widths of 12 bits, no entropy coding"
    assert fixed["size"]["mean"] > 1
    stages = {row["variant"]: row for row in summary["stages"]}
    plain, listed = (stages[name] for name in list(STAGES)[-2:])
    assert plain["gain"]["mean"] == listed["gain"]["mean"] == 0
    assert listed["size"]["mean"] > plain["size"]["mean"]
    assert stages["no colour solve for the rounded geometry"]["gain"]["mean"] < 0
    assert "| start at random |" in run.markdown


def test_every_variant_of_the_codec_makes_another_file(sources):
    from imagegs import encode

    files = {
        name: encode(sources[0].picture, gaussians=30, **{"steps": 12, **change}).data for name, change in FILE.items()
    }
    assert len(set(files.values())) == len(files)


def test_every_stage_makes_another_file(sources, tmp_path):
    """Those that write one: contexts are only counted."""
    table = Ablation(quick=True)
    table.steps = 20
    found = {cell.settings["variant"]: table.measure(cell) for cell in table.plan(sources[:1]) if is_stage(cell)}
    written = [(one["bytes"], one["psnr"]) for one in list(found.values())[:-2]]
    assert len(set(written)) == len(written)


def is_stage(cell):
    return cell.settings["part"] == "stages"


def test_bytes_at_equal_quality():
    """6 dB for every doubling: a change of -3 dB costs half an octave, one of the same dB its bytes."""
    other = {"bytes": 1000, "psnr": 30.0}
    changed = {"bytes": 1000, "psnr": 27.0}
    assert ablation._worth([(changed, other, 6.0)])["mean"] == pytest.approx(2**0.5)
    assert ablation._worth([({"bytes": 800, "psnr": 30.0}, other, 6.0)])["mean"] == pytest.approx(0.8)
    assert ablation._worth([(changed, other, -1.0)]) is None


def test_the_tables_are_commands(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(upsampling, "LONG_SIDE", 128)
    listed = CliRunner().invoke(app, ["bench", "--help"]).output
    for name in ("representation", "rate-distortion", "speed", "upsampling", "ablation", "progressive"):
        assert name in listed
    given = ["bench", "upsampling", str(sources[0].path), "-o", str(tmp_path / "out"), "--quick", "--json"]
    record = json.loads(CliRunner().invoke(app, given).stdout)
    assert record["table"] == "upsampling"
    assert [picture["name"] for picture in record["pictures"]] == ["0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rates", "0.5,-1"], "expected numbers above 0 such as 0.25,0.5, found '-1'"),
        (["--rates", "high"], "found 'high'"),
        (["--efforts", "x"], "expected whole numbers above 0"),
    ],
)
def test_rates_that_cannot_be_are_told(sources, tmp_path, words, message):
    command = ["bench", "rate-distortion", str(sources[0].path), "-o", str(tmp_path / "out"), *words]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2
    assert message in " ".join(found.output.split())


def test_efforts_that_cannot_be_are_told():
    with pytest.raises(ConfigError, match="efforts: expected 1 to 9, found 11"):
        RateDistortion(efforts=(11,))


def test_a_picture_that_is_shown_exactly_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(upsampling, "LONG_SIDE", 128)
    Image.new("RGB", (64, 48), (51, 102, 153)).save(tmp_path / "flat.png")
    sources = find_sources(tmp_path)
    for _ in range(2):
        run = run_table(Upsampling(quick=True), sources, tmp_path / "out")
    assert run.kept == 3
    assert run.record["summary"]["rows"][0]["psnr"]["mean"] == "inf"  # which JSON has no number for
    assert "| bicubic | – | inf | " in run.markdown


def test_an_interrupted_command_says_how_to_go_on(sources, tmp_path, monkeypatch):
    def stop(self, cell):
        raise KeyboardInterrupt

    monkeypatch.setattr(Upsampling, "measure", stop)
    found = CliRunner().invoke(app, ["bench", "upsampling", str(sources[0].path), "-o", str(tmp_path / "out")])
    assert found.exit_code == 130
    assert "the same command goes on with what is there" in found.output
