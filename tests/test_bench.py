"""`imagegs bench`: what is kept is not measured again, what cannot be measured is told, and the figures are right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.bench import Cell, Source, Table, clocks, find_sources, machine, markdown, run_table
from imagegs.bench.cells import Cells
from imagegs.bench.representation import METHODS, Representation
from imagegs.cli import app
from imagegs.errors import ConfigError, ImageError
from imagegs.kernels import native

NEEDS_KERNELS = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (32, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0 : size[1], 0 : size[0]] + 3 * seed
    waves = [127 + 90 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)]
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    draw(tmp_path / "in" / "a.png", 0)
    draw(tmp_path / "in" / "deep" / "b.png", 1)
    return tmp_path / "in"


class Counting(Table):
    """Tells the mean of a picture times a factor, and which cells were measured."""

    name, title = "counting", "A table"

    def __init__(self, factors=(1, 2)):
        super().__init__()
        self.factors = factors
        self.measured = []

    def plan(self, sources):
        return [Cell(source, {"factor": factor}) for source in sources for factor in self.factors]

    def measure(self, cell):
        self.measured.append((cell.source.name, cell.settings["factor"]))
        if cell.settings["factor"] == 9:
            raise ConfigError("factor: expected another, found 9")
        if cell.settings["factor"] == 13:
            raise KeyboardInterrupt
        return {"value": cell.settings["factor"] * float(cell.source.pixels.mean())}

    def summarize(self, outcomes):
        return {"sum": sum(outcome.found["value"] for outcome in outcomes)}

    def write(self, summary):
        return f"sum {summary['sum']:.3f}"


def test_a_cell_is_measured_once(folder, tmp_path):
    first, again = Counting(), Counting((1, 2, 3))
    seen = []
    done = run_table(first, find_sources(folder), tmp_path / "out", on_cell=lambda *now: seen.append(now))
    assert first.measured == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert (done.measured, done.kept, seen[0], seen[-1]) == (4, 0, (0, 4), (4, 4))
    more = run_table(again, find_sources(folder), tmp_path / "out")
    assert again.measured == [("a", 3), ("b", 3)]
    assert (more.measured, more.kept) == (2, 4)
    means = [float(source.pixels.mean()) for source in find_sources(folder)]
    assert more.record["summary"]["sum"] == pytest.approx(6 * sum(means))


@pytest.mark.parametrize("change", ["picture", "threads", "version", "damage"])
def test_what_decides_a_cell_makes_another(folder, tmp_path, monkeypatch, change):
    run_table(Counting(), find_sources(folder), tmp_path / "out")
    again = Counting()
    if change == "picture":
        draw(folder / "a.png", 7)
    elif change == "threads":
        again.threads = 1
    elif change == "version":
        monkeypatch.setattr(machine, "identity", lambda home: "another")
    else:
        for path in (tmp_path / "out" / "cells").iterdir():
            path.write_text(path.read_text()[:-20])
    run_table(again, find_sources(folder), tmp_path / "out")
    assert again.measured == [("a", 1), ("a", 2)] + [("b", 1), ("b", 2)] * (change != "picture")


def test_a_run_that_was_stopped_goes_on(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_table(Counting((1, 13)), find_sources(folder), tmp_path / "out")
    assert not (tmp_path / "out" / "counting.json").exists()
    again = Counting((1, 2))
    run_table(again, find_sources(folder), tmp_path / "out")
    assert again.measured == [("a", 2), ("b", 1), ("b", 2)]


def test_what_cannot_be_measured_is_told_and_tried_again(folder, tmp_path):
    for _ in range(2):
        table = Counting((1, 9))
        run = run_table(table, find_sources(folder), tmp_path / "out")
        assert ("a", 9) in table.measured
    assert run.left_out == [f"{name}, factor 9: left out: factor: expected another, found 9" for name in "ab"]
    assert run.left_out[0] in run.markdown
    with pytest.raises(ImageError, match="counting: expected figures of one cell at least, found none: a, factor 9"):
        run_table(Counting((9,)), find_sources(folder), tmp_path / "out")


def test_a_record_says_what_it_was_measured_on(folder, tmp_path):
    run = run_table(Counting(), find_sources(folder), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "counting.json").read_text())
    assert record == run.record
    assert set(record["machine"]) == {"processor", "cores", "system"}
    assert record["versions"]["imagegs"]
    assert [picture["name"] for picture in record["pictures"]] == ["a", "b"]
    assert [(cell["picture"], cell["settings"]["factor"]) for cell in record["cells"]][:2] == [("a", 1), ("a", 2)]
    page = (tmp_path / "out" / "counting.md").read_text()
    assert page.startswith("# A table\n")
    assert record["machine"]["processor"] in page


def test_every_picture_is_8_bits_of_three_channels(tmp_path):
    grey = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.new("RGBA", (4, 3), (255, 0, 0, 128)).save(tmp_path / "clear.png")
    clear, sixteen = find_sources(tmp_path)
    assert clear.pixels.shape == sixteen.pixels.shape == (3, 3, 4)
    assert np.allclose(clear.pixels[:, 0, 0], [1, 127 / 255, 127 / 255])
    assert np.allclose(sixteen.pixels[1], np.rint(grey / 65535 * 255) / 255)


def test_the_middle_of_a_picture(folder):
    whole, part = find_sources(folder, limit=1)[0], find_sources(folder, limit=1, side=10)[0]
    assert np.array_equal(part.pixels, whole.pixels[:, 7:17, 11:21])
    assert part.digest == f"{whole.digest}-10"
    assert find_sources(folder, limit=1, side=99)[0].count == 24 * 32


def test_plots_of_an_earlier_run_are_no_pictures(folder):
    draw(folder / "out" / "plot.png")
    assert [source.name for source in find_sources(folder, without=folder / "out")] == ["a", "b"]
    with pytest.raises(ConfigError, match="out: expected pictures, found none"):
        find_sources(folder / "out", without=folder)


def test_pictures_of_one_name_keep_apart(folder):
    draw(folder / "a.jpg")
    draw(folder / ".hidden" / "c.png")
    assert [source.name for source in find_sources(folder)] == ["a.jpg", "a.png", "b"]
    with pytest.raises(ImageError, match="none: cannot be read: no such file or folder"):
        find_sources(folder / "none")


def test_a_stack_of_other_channels_is_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "heights.tif", np.ones((4, 4), np.float32))
    with pytest.raises(ImageError, match="expected a picture of grey or of colours, found other channels"):
        _ = Source(tmp_path / "heights.tif").pixels


def test_cells_fall_back_to_nothing(tmp_path):
    cells = Cells(tmp_path / "cells")
    cells.keep("t", {"a": 1}, {"x": [1, 2]})
    assert cells.find("t", {"a": 1}) == {"x": [1, 2]}
    assert cells.find("t", {"a": 2}) is None
    assert cells.find("other", {"a": 1}) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="file/cells: cannot be made: not a directory"):
        Cells(tmp_path / "file" / "cells")


def test_spread_and_wording():
    found = clocks.spread([4.0, 1.0, 2.0, 3.0, 100.0])
    assert found == {"mean": 22.0, "median": 3.0, "q1": 2.0, "q3": 4.0, "n": 5}
    assert markdown.middle(found) == "3.00 (2.00–4.00)"
    assert markdown.middle(clocks.spread([1234.5])) == "1,234"
    assert markdown.mean(clocks.spread([-0.001]), "+.2f") == "+0.00"
    assert markdown.mean(clocks.spread([1234.5, 1235.5]), ",.0f") == "1,235"
    assert markdown.mean(None) == markdown.middle(None) == "–"
    assert markdown.table(("a", "b"), [("x", "1")]) == "| a | b |\n|---|---:|\n| x | 1 |"


@NEEDS_KERNELS
def test_a_cold_decode_is_a_process_of_its_own(tmp_path, small_gaussians):
    from imagegs.codec import write_file

    jpeg = draw(tmp_path / "a.jpg").read_bytes()
    found = clocks.decoded_cold({"ours": write_file(small_gaussians), "jpeg": jpeg}, 2)
    for times in found.values():
        assert {clock: value["repeats"] for clock, value in times.items()} == {"cold": 2, "first": 2, "process": 2}
        assert times["first"]["median_ms"] <= times["cold"]["median_ms"] <= times["process"]["median_ms"]
    assert clocks.decode_call(jpeg)() is not None
    assert clocks.decode_call(write_file(small_gaussians))().shape == (3, 48, 64)


def test_the_dense_baseline_fits(scene):
    from imagegs.bench.dense import fit_dense

    pixels = np.ascontiguousarray(scene[:, :24, :32])
    start, later = (fit_dense(pixels, 12, steps=steps, seconds=60, threads=1) for steps in (1, 60))
    assert (start.steps, later.steps) == (1, 60)
    errors = [float(np.mean((found.pixels - pixels) ** 2)) for found in (start, later)]
    assert errors[1] < 0.5 * errors[0]
    assert fit_dense(pixels, 12, steps=60, seconds=0).steps == 1


def test_the_dense_baseline_is_the_same_in_groups_of_rows(scene, monkeypatch):
    from imagegs.bench import dense

    whole = dense.fit_dense(scene, 5, steps=3, seconds=60, threads=1).pixels
    monkeypatch.setattr(dense, "PAIRS", 5 * 80 * 7)
    assert np.allclose(dense.fit_dense(scene, 5, steps=3, seconds=60, threads=1).pixels, whole, atol=1e-4)


class Splats:
    """In place of gsplat: round splats in the picture's plane, weighted by their opacity."""

    @staticmethod
    def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height):
        import torch

        points = torch.nn.functional.pad(means, (0, 1), value=1) @ viewmats[0].T
        depth = points[:, 2]
        centers = (points[:, :3] @ Ks[0].T)[:, :2] / depth[:, None]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        squares = (torch.stack([x, y], -1)[:, :, None] - centers).square().sum(-1)
        weights = opacities * torch.exp(-0.5 * squares / (Ks[0, 0, 0] * scales[:, 0] / depth) ** 2)
        assert torch.allclose(quats.norm(dim=-1), torch.ones(len(quats)))
        return ((weights / (weights.sum(-1, keepdim=True) + 1e-6)) @ colors)[None], weights.sum(-1)[None, ..., None], {}


@pytest.mark.usefixtures("one_torch_thread")
def test_splats_are_fitted_by_what_gsplat_gives(scene, monkeypatch):
    from imagegs.bench.splatting import fit_splats

    scene = np.ascontiguousarray(scene[:, :32, :40])

    monkeypatch.setitem(sys.modules, "gsplat", Splats)
    found = [fit_splats(scene, 40, steps=steps, device="cpu") for steps in (1, 100)]
    errors = [float(np.mean((one.pixels - scene) ** 2)) for one in found]
    assert found[1].pixels.shape == scene.shape
    assert errors[1] < 0.5 * errors[0]


def test_without_gsplat_there_is_one_line(monkeypatch):
    from imagegs.bench import splatting

    monkeypatch.setattr(splatting.importlib.util, "find_spec", lambda name: None)
    table = Representation(quick=True)
    assert "3dgs" not in table.methods
    assert sum("gsplat" in note for note in table.notes) == 1
    assert sum("pip install 'imagegs[metrics]'" in note for note in table.notes) == 1


@NEEDS_KERNELS
def test_the_representation_table(folder, tmp_path):
    table = Representation((8, 30), ("fast", "gaussian-image-rs", "dense"), quick=True)
    sources = find_sources(folder, limit=1)
    cells = [Cell(cell.source, {**cell.settings, "steps": 2}) for cell in table.plan(sources)]
    table.plan = lambda sources: cells
    table.repeats = 2
    run = run_table(table, sources, tmp_path / "out")
    rows = {(row["method"], row["gaussians"]): row for row in run.record["summary"]["rows"]}
    assert len(rows) == 6
    assert rows["fast", 30]["psnr"]["mean"] > rows["fast", 8]["psnr"]["mean"]
    assert rows["fast", 30]["steps"]["mean"] == 2
    assert rows["fast", 30]["bytes"]["mean"] > rows["fast", 8]["bytes"]["mean"]
    assert rows["dense", 8]["bytes"] is None
    assert {"representation-psnr.svg", "representation-time.png"} <= {path.name for path in run.files}
    assert f"| {METHODS['fast'].label} | 30 |" in run.markdown
    assert all(path.is_file() for path in run.files)


def test_no_more_gaussians_than_a_method_takes(folder):
    table = Representation((500, 2000, 10_000), ("fast", "dense"))
    source = find_sources(folder)[0]  # 768 pixels
    assert [(cell.settings["method"], cell.settings["gaussians"]) for cell in table.plan([source])] == [
        ("fast", 500),
        ("dense", 500),
    ]
    with pytest.raises(ConfigError, match=r"methods: expected some of fast, .*, found slow"):
        Representation((), ("slow",))


@NEEDS_KERNELS
def test_the_command(folder):
    given = ["bench", "representation", str(folder), "-o", str(folder / "_out"), "--limit", "1", "--threads", "1"]
    shown = CliRunner().invoke(app, [*given, "--counts", "5,6", "--methods", "fast", "--seeds", "2"])
    assert shown.exit_code == 0, shown.output
    assert "| imagegs, fast | 5 |" in shown.output
    assert "4 cells measured, 0 were there" in shown.output
    again = CliRunner().invoke(app, [*given, "--counts", "5,6", "--methods", "fast", "--seeds", "2", "--json"])
    record = json.loads(again.stdout)
    assert record["summary"]["rows"][0]["psnr"]["n"] == 2
    assert [picture["name"] for picture in record["pictures"]] == ["a"]  # and not the plots in _out
    assert record["command"].startswith("imagegs bench representation")
    assert record["threads"] == 1
    assert "measured" not in again.stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--counts", "5,x"], 2, "expected whole numbers above 0 such as 1000,5000, found '5,x'"),
        (["--limit", "0"], 2, "limit"),
    ],
)
def test_wrong_usage_is_told(folder, tmp_path, words, status, message):
    found = CliRunner().invoke(app, ["bench", "representation", str(folder), "-o", str(tmp_path / "out"), *words])
    assert found.exit_code == status
    assert message in " ".join(found.output.split())


def test_a_folder_without_pictures_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    command = ["bench", "representation", str(tmp_path / "empty"), "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(app, command)
    assert isinstance(found.exception, ConfigError)
    assert "expected pictures, found none" in str(found.exception)
