"""Tables of `imagegs bench` that apps give: progressive, restoration and saliency."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from imagegs.apps.lod.bench import SHARES, Progressive, cut_jpeg, layered_jpeg2000
from imagegs.apps.restoration import bench as restoration
from imagegs.apps.saliency.bench import Saliency
from PIL import Image, ImageFile
from typer.testing import CliRunner

from imagegs.bench import Cell, find_sources, run_table
from imagegs.cli import app
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


@pytest.fixture
def sources(tmp_path):
    y, x = np.mgrid[0:48, 0:64]
    waves = [127 + 90 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)]
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(tmp_path / "a.png")
    return find_sources(tmp_path)


def test_beginnings_of_a_jpeg_get_better(sources):
    bpp, shown = cut_jpeg(sources[0].pixels, 4.0)
    assert bpp == pytest.approx(4.0, abs=0.5)
    known = [value for value in shown if value is not None]
    assert len(shown) == len(SHARES)
    assert known[-1] == max(known)
    assert known[0] < known[-1] - 3
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_layers_of_jpeg_2000_get_better(scene):
    found = layered_jpeg2000(scene)
    assert found[0] < found[-1]


def test_progressive(sources, tmp_path):
    table = Progressive(quick=True)
    table.effort = 1
    run = run_table(table, sources, tmp_path / "out")
    levels = run.record["summary"]["levels"]
    assert [level["share"]["mean"] for level in levels] == sorted(level["share"]["mean"] for level in levels)
    assert levels[-1]["share"]["mean"] == 1
    assert levels[0]["psnr"]["mean"] < levels[-1]["psnr"]["mean"]
    for level in levels:
        assert level["change"]["mean"] == pytest.approx(level["psnr"]["mean"] - level["separate"]["mean"])
    assert "| 100.0 % |" in run.markdown
    assert "progressive-psnr.png" in {path.name for path in run.files}


@pytest.mark.parametrize("task", restoration.TASKS)
def test_every_damage_is_restored_by_every_method(sources, tmp_path, monkeypatch, task):
    pytest.importorskip("skimage")
    pytest.importorskip("pywt")
    found = restoration.restore
    monkeypatch.setattr(restoration, "restore", lambda *a, **k: found(*a, **{**k, "gaussians": 60, "fits": 1}))
    table = restoration.Restoration(quick=True)
    table.tasks, table.steps, table.side = (task,), 30, 32
    run = run_table(table, sources, tmp_path / "out")
    (cell,) = run.record["cells"]
    methods = run.record["summary"]["tasks"][task]
    assert methods["ours"]["psnr"]["mean"] == cell["ours"]["psnr"] > 12
    assert set(methods) <= set(restoration.LABELS)
    assert len(methods) >= 2
    order = [line for line in run.markdown.splitlines() if line.startswith("| ") and " dB " not in line]
    figures = [float(line.split("|")[2]) for line in order]
    assert figures == sorted(figures, reverse=True)


def test_noise_is_that_of_its_name():
    first, same, other = (restoration.noise_of((3, 40, 40), name) for name in ("a", "a", "b"))
    assert np.array_equal(first, same)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1
    assert first.std() == pytest.approx(1, abs=0.05)


def test_without_scikit_image_there_is_one_line(monkeypatch, sources):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    table = restoration.Restoration()
    assert table.notes == [
        "Filters of scikit-image are left out: they need scikit-image: pip install 'imagegs[bench]'."
    ]
    assert {cell.settings["classical"] for cell in table.plan(sources)} == {False}


def test_saliency(sources, tmp_path):
    table = Saliency(quick=True)
    cells = table.plan(sources)
    table.plan = lambda sources: [Cell(cell.source, {**cell.settings, "test": True}) for cell in cells]
    table.effort, table.strengths = 1, (1.0,)
    run = run_table(table, sources, tmp_path / "out")
    plain, strong = run.record["summary"]["rows"]
    assert plain["psnr"]["mean"] == plain["size"] == 0
    assert strong["weighted_psnr"]["mean"] == pytest.approx(
        run.record["cells"][0]["rows"][1]["scores"]["weighted_psnr"]
        - run.record["cells"][0]["rows"][0]["scores"]["weighted_psnr"]
    )
    assert strong["size"] < 0.2
    assert "| 1 | " in run.markdown


def test_the_apps_tables_are_commands(sources, tmp_path):
    listed = CliRunner().invoke(app, ["bench", "--help"]).output
    assert "What importance moves at equal bytes." in listed
    for name in ("progressive", "restoration", "saliency"):
        assert name in listed
    command = ["bench", "progressive", str(sources[0].path), "-o", str(tmp_path / "out"), "--quick", "--json"]
    assert json.loads(CliRunner().invoke(app, command).stdout)["table"] == "progressive"
