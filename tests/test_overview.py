"""What `make bench` runs, and docs/results.md, which comes of it."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main

from imagegs.bench.pictures import find_sources, find_stacks
from imagegs.cli import app

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
NAMES = ("overview", "overview_figures", "run", "common")


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in NAMES:
            sys.modules.pop(name, None)


def figures(overview):
    return [figure for row in (overview.DESIGN, *overview.EARLIER.values()) for figure in row]


def test_every_table_is_made(modules):
    commands = typer.main.get_command(app).commands["bench"].commands
    assert {job.table for job in modules.run.JOBS} == set(commands)
    for job in modules.run.JOBS:
        with commands[job.table].make_context(job.table, ["pictures", "-o", "folder", *job.options]) as context:
            assert context.params["quick"] is False


def test_quick_makes_every_table_once(modules, monkeypatch):
    ran = []
    monkeypatch.setattr(
        modules.run.subprocess, "run", lambda command, **_: ran.append(command) or SimpleNamespace(returncode=0)
    )
    assert modules.run.main(["--quick"]) == 0
    tables = [command[command.index("bench") + 1] for command in ran]
    assert len(tables) == len(set(tables))
    assert set(tables) == {job.table for job in modules.run.JOBS}
    assert all(command[-1] == "--quick" for command in ran)


def test_a_failure_is_the_status(modules, monkeypatch):
    codes = iter([0, -9])  # killed by a signal
    monkeypatch.setattr(modules.run.subprocess, "run", lambda command, **_: SimpleNamespace(returncode=next(codes, 0)))
    assert modules.run.main(["--quick"]) == 1
    with pytest.raises(SystemExit, match="expected --quick or nothing, found -q"):
        modules.run.main(["-q"])


def test_generated_pictures_take_the_place_of_absent_ones(modules, monkeypatch, tmp_path):
    monkeypatch.setattr(modules.run, "SHARED", tmp_path / "shared")
    monkeypatch.setattr(modules.run, "ROOT", tmp_path)
    (stack,) = find_stacks(modules.run.data("textures"))
    assert (stack.name, stack.picture.channels) == ("generated", 7)
    (picture,) = find_sources(modules.run.data("kodak"))
    assert picture.pixels.shape == (3, 512, 768)
    with pytest.raises(SystemExit, match=r"expected the pictures of \.\./shared/data, found none"):
        modules.run.main([])
    (tmp_path / "shared" / "data" / "kodak").mkdir(parents=True)
    assert modules.run.data("kodak") == tmp_path / "shared" / "data" / "kodak"


def test_all_that_is_read_is_made(modules):
    scripts = {f"benchmarks/results/{name}.json" for name, *_ in modules.run.SCRIPTS}
    tables = {(Path("docs/results") / job.below / f"{job.table}.json").as_posix() for job in modules.run.JOBS}
    assert {figure.source for figure in figures(modules.overview)} <= scripts | tables
    assert all((BENCHMARKS / f"{name}.py").is_file() for name, *_ in modules.run.SCRIPTS)


def test_the_page_is_what_the_results_say(modules):
    assert modules.overview.missing() == []
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == modules.overview.document()


def test_results_stand_as_they_were_measured():
    """Each page says the command of its figures, as the JSON beside it does."""
    pages = sorted((ROOT / "docs" / "results").rglob("*.md"))
    assert pages
    for page in pages:
        record = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
        assert f"`{record['command']}`" in page.read_text(encoding="utf-8")
        assert record["commit"]


@pytest.mark.parametrize(
    ("value", "least", "met"), [(34.47, 34.0, True), (33.99, 34.0, False), (-0.75, -0.3, False), (-0.1, -0.3, True)]
)
def test_a_figure_is_met_or_not(modules, value, least, met):
    assert modules.overview_figures.above(value, least).met is met
    assert modules.overview_figures.below(-value, -least).met is met


def test_what_is_missing_is_told(modules, monkeypatch, tmp_path):
    overview = modules.overview
    for module in (overview, modules.overview_figures):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    modules.overview_figures.record.cache_clear()
    try:
        found = overview.missing()
    finally:
        modules.overview_figures.record.cache_clear()
    assert len(found) == len(figures(overview))
    assert found[0].endswith("missing: docs/results/representation.json is not there")


def test_one_figure_that_falls_short_is_told(modules):
    table = {"results": {"mean": {"mean_psnr": [33.0, 29.0, 31.0]}}}
    found = modules.overview_figures.prefixes_of(table)
    assert found.met is False
    assert found.text == "33.00 dB / 29.00 dB / 31.00 dB"
