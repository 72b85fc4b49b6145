"""The page of a batch: each picture beside its file, what failed, and no more of them than a browser opens."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs import gallery
from imagegs.batching import BatchJob, Record
from imagegs.batching.thumbnails import SIDE, ThumbnailTask, draw_one
from imagegs.cli import app, console
from imagegs.errors import ImageError
from imagegs.kernels import native

pytest.importorskip("pebble")
needs_kernels = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def records(count: int) -> list[Record]:
    return [Record(f"{n:05}.png", f"{n:05}.gsimg", "k", "d", 8, 6, 12, 2.0, 30.0 + n) for n in range(count)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Image.linear_gradient("L").resize((32, 24)).save("in/grey.png")
    Image.radial_gradient("L").resize((400, 300)).convert("RGBA").save("in/<b>large.png")
    Path("in/bad.png").write_bytes(b"no picture")
    return tmp_path


@needs_kernels
def test_the_page_shows_every_picture_and_what_failed(folder):
    words = ("batch", "in", "out", "-n", "20", "--steps", "5", "--workers", "1", "--retries", "0", "--report", "page")
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 1, (done.output, done.exception)
    facts = json.loads(done.stdout)
    assert facts["report"] == "page/index.html"
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert "<b>large" not in page
    assert "&lt;b&gt;large.gsimg" in page
    assert page.count("<figure data-name") == 2
    assert "in/bad.png: expected a picture" in page
    assert "imagegs batch in out --gaussians 20 --steps 5" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    thumbnails = re.findall(r"data:image/webp;base64,([^\"]+)", page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(text))).size for text in thumbnails]
    assert sizes == [(SIDE, SIDE * 3 // 4)] * 2 + [(32, 24)] * 2
    assert json.loads(Path("page/report.json").read_text())["records"] == facts["records"]
    # again, when nothing is left to do but the page
    done = CliRunner().invoke(app, [*words])
    assert "report: page/index.html" in done.stdout
    assert Path("page/index.html").read_text(encoding="utf-8").count("data:image/webp") == 4


@needs_kernels
def test_restored_pictures_are_shown(folder):
    Path("in/bad.png").unlink()
    words = ("--app", "restore", "--task", "denoise", "-n", "20", "--fits", "1", "--steps", "5", "--report", "page")
    done = CliRunner().invoke(app, ["batch", "in/grey.png", "out", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 2
    assert " dB" not in page  # there is nothing to compare with


def test_a_page_shows_some_of_many_and_says_so(folder, monkeypatch):
    asked = []

    def draw(jobs, *, workers):
        asked.extend(job.output.name for job in jobs)
        yield from ((index, None, f"{job.source}: gone") for index, job in enumerate(jobs))

    monkeypatch.setattr(gallery, "draw_thumbnails", draw)
    monkeypatch.setattr(gallery, "MOST_FAILURES", 2)
    many = records(2500)
    bad = [Record(f"bad{n}.png", f"bad{n}.gsimg", "k", error="it is bad") for n in range(5)]
    jobs = {record.output: BatchJob(Path(record.source), Path(record.output)) for record in many}
    seen = []
    command = "imagegs batch ftp://me:secret@host/a out"
    gallery.write_gallery("page", jobs, [*many, *bad], command, on_picture=lambda *now: seen.append(now))
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert len(asked) == gallery.MOST_SHOWN == seen[-1][0]
    assert asked[:3] == ["00000.gsimg", "00002.gsimg", "00005.gsimg"]
    assert "1,000 of them are shown, spread evenly by name; report.json names the other 1,500" in page
    assert page.count("it is bad") == 2
    assert "And 3 more" in page
    assert "not shown: 00000.png: gone" in page
    assert len(json.loads(Path("page/report.json").read_text())["records"]) == 2505
    assert "secret" not in page + Path("page/report.json").read_text()


def test_spread_is_even_and_complete():
    assert gallery.spread(records(3), 5) == records(3)
    assert [record.output for record in gallery.spread(records(10), 5)] == [f"{n:05}.gsimg" for n in range(0, 10, 2)]
    assert gallery.spread([], 5) == []


def test_a_page_of_nothing_is_a_page(folder):
    bad = [Record("bad.png", "bad.gsimg", "k", error="it is bad")]
    page = gallery.write_gallery("page", {}, bad, "imagegs batch in out").read_text(encoding="utf-8")
    assert "it is bad" in page
    assert "<figure" not in page


def test_a_thumbnail_of_what_is_gone_is_an_error(folder):
    with pytest.raises(ImageError, match=r"none.png: cannot be read"):
        draw_one(ThumbnailTask(BatchJob(Path("none.png"), Path("none.gsimg")), 0))


def test_a_report_that_cannot_be_written_is_said_before_the_work(folder):
    Path("file").write_text("")
    done = CliRunner().invoke(app, ["batch", "in", "out", "--report", "file"])
    assert "file: expected a folder, found a file of this name" in str(done.exception)
    assert not Path("out").exists()


def test_progress_shows_how_many_and_what_rate(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.counting("pictures", quiet=False) as count:
        count(2, 4)
        count(3, 4)
    assert "3/4" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    with console.counting("pictures", quiet=True) as count:
        count(2, 4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("speed", "text"), [(None, ""), (0.0, ""), (2.26, "2.3 a second"), (0.05, "3.0 a minute"), (1, "1.0 a second")]
)
def test_rates_are_said_in_fitting_units(speed, text):
    assert console._rate(speed) == text
