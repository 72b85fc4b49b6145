"""``imagegs lod export`` and ``inspect``: levels by number and by bytes, what comes first, sorting without a fit."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from imagegs.apps import lod
from PIL import Image
from typer.testing import CliRunner

from imagegs import ConfigError, ImageError, cli
from imagegs.arranging import prefixes
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
Pixels = npt.NDArray[np.float32]
QUICK = ("-e", "1", "--bytes", "1500")


def run(*arguments: Any) -> str:
    done = CliRunner().invoke(cli.app, ["lod", *map(str, arguments)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return done.stdout


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    monkeypatch.setattr(sys, "argv", ["imagegs", "lod", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("levels", "count"), [("auto", 4), (1, 1), (2, 2), (6, 6)])
def test_shares_are_geometric_from_five_per_cent_on(levels: Any, count: int) -> None:
    shares = lod.shares_of(levels)
    assert len(shares) == count - 1
    if shares:
        assert shares[0] == pytest.approx(0.05**1.125)
        ratios = [high / low for low, high in zip(shares, (*shares[1:], 1.0), strict=True)]
        np.testing.assert_allclose(ratios, ratios[0])


def test_what_levels_cannot_be() -> None:
    for levels in (0, 17):
        with pytest.raises(ConfigError, match=rf"^levels: expected auto, or 1 to 16, found {levels}$"):
            lod.shares_of(levels)
    for cuts in ([0.5, 0.2], [0.0, 0.5], [1.0], [-0.1]):
        with pytest.raises(ConfigError, match=r"^levels: expected rising shares of the bytes between 0 and 1, found "):
            lod.shares_of(cuts=cuts)


def test_an_export_meets_its_target_and_every_level_gains(scene: Pixels) -> None:
    encoded = lod.export(scene, size=3000, effort=2)
    assert 0.97 * 3000 <= len(encoded.data) <= 3000
    rows = prefixes(encoded.data, scene)
    assert len(rows) == 4
    psnrs = [row["psnr"] for row in rows]
    assert all(later > earlier + 1 for earlier, later in pairwise(psnrs))
    assert psnrs[-1] == pytest.approx(encoded.psnr, abs=0.05)


def test_levels_end_near_the_bytes_that_are_asked_for(scene: Pixels) -> None:
    encoded = lod.export(scene, size=4000, effort=1, level_bytes=(800, 2000))
    found = [row["bytes"] for row in prefixes(encoded.data)]
    assert found[0] == pytest.approx(800, rel=0.25)
    assert found[1] == pytest.approx(2000, rel=0.2)
    with pytest.raises(
        ConfigError, match=r"^levels: expected a target of bytes or bits per pixel beside bytes of levels"
    ):
        lod.export(scene, gaussians=50, level_bytes=(800,))
    with pytest.raises(ConfigError, match=r"^levels: expected rising shares of the bytes between 0 and 1"):
        lod.export(scene, bpp=1.0, level_bytes=(10000,))


def test_what_is_asked_for_comes_first(scene: Pixels) -> None:
    left = np.zeros((64, 80))
    left[:, :30] = 1
    errors = []
    for first in (None, left):
        encoded = lod.export(scene, gaussians=150, effort=2, levels=2, first=first)
        image = np.clip(_prefix(encoded, 0), 0, 1)
        errors.append(float(np.mean((image - scene)[:, :, :30] ** 2)))
    assert errors[1] < 0.9 * errors[0]


def _prefix(encoded: Any, level: int) -> Pixels:
    from imagegs import render

    return render(encoded.gaussians.take(slice(0, int(prefixes(encoded.data)[level]["gaussians"]))))


# -- commands


@pytest.fixture
def exported(photo: Path, tmp_path: Path) -> Path:
    run("export", photo, "-o", tmp_path / "photo.gsimg", *QUICK, "--quiet")
    return tmp_path / "photo.gsimg"


def test_export_prints_its_levels(photo: Path, tmp_path: Path) -> None:
    text = run("export", photo, "-o", tmp_path / "photo.gsimg", *QUICK, "--levels", 3)
    assert "bytes so far" in text
    assert "100.0 %" in text
    facts = json.loads(run("export", photo, "-o", tmp_path / "photo.gsimg", *QUICK, "--levels", 3, "--json"))
    assert facts["bytes"] == (tmp_path / "photo.gsimg").stat().st_size
    levels = json.loads(run("inspect", tmp_path / "photo.gsimg", "--json"))["levels"]
    assert [row["level"] for row in levels] == [0, 1, 2]
    run("export", photo, "-o", tmp_path / "cut.gsimg", *QUICK, "--level-bytes", "500", "--quiet")
    assert len(json.loads(run("inspect", tmp_path / "cut.gsimg", "--json"))["levels"]) == 2


def test_inspect_prints_and_plots(exported: Path, photo: Path, tmp_path: Path) -> None:
    text = run("inspect", exported, "--plot", tmp_path / "plot.png", "--reference", photo)
    assert "dB" in text
    assert Image.open(tmp_path / "plot.png").width > 300
    said = json.loads(run("inspect", exported, "--json"))["levels"]
    measured = json.loads(run("inspect", exported, "--json", "--reference", photo))["levels"]
    for row, other in zip(said, measured, strict=True):
        assert row["psnr"] == pytest.approx(other["psnr"], abs=0.02)


def test_a_file_is_exported_again_at_its_size(photo: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.gsimg"
    assert CliRunner().invoke(cli.app, ["encode", str(photo), "-o", str(plain), *QUICK]).exit_code == 0
    run("export", plain, "-o", tmp_path / "levels.gsimg", "-e", 1, "--quiet")
    size = plain.stat().st_size
    assert 0.97 * size <= (tmp_path / "levels.gsimg").stat().st_size <= size
    text = run("export", plain, "-o", tmp_path / "sorted.gsimg", "--no-refit", "--levels", 3)
    assert "against the file before" in text
    facts = json.loads(run("export", plain, "-o", tmp_path / "sorted.gsimg", "--no-refit", "--levels", 3, "--json"))
    assert facts["change_psnr"] > 30
    assert facts["bytes_before"] == size
    assert len(json.loads(run("inspect", tmp_path / "sorted.gsimg", "--json"))["levels"]) == 3


def test_wrong_usage_and_bad_files(photo: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    output = tmp_path / "photo.gsimg"
    for options, expected in (
        (("--levels", "many"), "expected auto or a number, found 'many'"),
        (("--level-bytes", "1k"), "expected whole numbers such as 1000,4000, found '1k'"),
        (("--no-refit",), "expected a .gsimg file beside it"),
    ):
        done = CliRunner().invoke(
            cli.app, ["lod", "export", str(photo), "-o", str(output), *options], env={"COLUMNS": "200"}
        )
        assert done.exit_code == 2
        assert expected in " ".join(done.stderr.split())
    assert "levels: expected auto, or 1 to 16, found 40" in fail(
        monkeypatch, capsys, "export", photo, "-o", output, "--levels", 40
    )
    assert not output.exists()
    (tmp_path / "bad.gsimg").write_bytes(b"")
    assert "bad.gsimg" in fail(monkeypatch, capsys, "inspect", tmp_path / "bad.gsimg")
    assert "absent.gsimg: cannot be read" in fail(monkeypatch, capsys, "inspect", tmp_path / "absent.gsimg")


def test_a_missing_file_is_one_line_without_a_refit_too(tmp_path):
    missing = tmp_path / "none.gsimg"
    done = CliRunner().invoke(cli.app, ["lod", "export", str(missing), "--no-refit", "-o", str(tmp_path / "a.gsimg")])
    assert isinstance(done.exception, ImageError)
    assert str(done.exception) == f"{missing}: cannot be read: no such file or directory"
