"""`imagegs batch`: every picture once, none lost, one bad picture harms no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from batch_workers import crash_on_some, fail_once, fill_the_disk
from PIL import Image
from typer.testing import CliRunner

from imagegs import decode, encode
from imagegs.batching import Manifest, Record, find_jobs, run_batch, running
from imagegs.cli import app
from imagegs.errors import ConfigError, ImageError, ImageGSError
from imagegs.kernels import native

pytest.importorskip("pebble")
pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

QUICK = {"gaussians": 20, "steps": 5}


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:24, 0:32] + 3 * seed
    waves = [127 + 90 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)]
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("b.png", "a.jpg", "deep/er/a.png", ".hidden/c.png", "deep/.d.png")):
        draw(tmp_path / "in" / name, number)
    (tmp_path / "in" / "notes.md").write_text("no picture")
    return tmp_path


def test_jobs_of_a_folder_keep_their_places(folder):
    jobs = find_jobs([folder / "in"], folder / "out")
    outputs = [job.output.relative_to(folder / "out").as_posix() for job in jobs]
    assert outputs == ["a.gsimg", "b.gsimg", "deep/er/a.gsimg"]


def test_jobs_of_files_patterns_and_lists(folder):
    (folder / "in" / "some.txt").write_text("b.png\n\ndeep/er/a.png\n")
    listed = find_jobs([folder / "in" / "some.txt"], folder / "out")
    assert [job.output.name for job in listed] == ["b.gsimg", "a.gsimg"]
    matched = find_jobs([f"{folder}/in/**/*.png"], folder / "out")
    assert [job.source.name for job in matched] == ["b.png", "a.png"]
    assert len(find_jobs([folder / "in" / "b.png", folder / "in" / "b.png"], folder / "out")) == 1


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        (["empty"], ConfigError, "empty: expected pictures, found none"),
        (["none"], ImageError, "none: cannot be read"),
        (["in/*.exr"], ConfigError, "expected pictures, found none"),
        (["in/a.jpg", "in/deep/er/a.png"], ConfigError, "expected one picture for it, found in/a.jpg and in/deep/er/a"),
        (["bad.txt"], ImageError, "named in bad.txt"),
    ],
)
def test_jobs_that_cannot_be_are_one_line(folder, monkeypatch, sources, error, message):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "bad.txt").write_text("absent.png")
    with pytest.raises(error, match=message) as caught:
        find_jobs(sources, Path("out"))
    assert "\n" not in str(caught.value)


def test_files_are_those_of_encode_whatever_the_number_of_processes(folder):
    jobs = find_jobs([folder / "in"], folder / "one")
    seen = []
    summary = run_batch(jobs, folder / "one", QUICK, workers=1, on_record=lambda *now: seen.append(now))
    run_batch(find_jobs([folder / "in"], folder / "two"), folder / "two", QUICK, workers=2)
    assert not summary.failed
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for job in jobs:
        data = job.output.read_bytes()
        assert data == encode(job.source, **QUICK).data
        assert data == (folder / "two" / job.output.relative_to(folder / "one")).read_bytes()
    records = [json.loads(line) for line in (folder / "one" / "manifest.jsonl").read_text().splitlines()]
    assert [record["output"] for record in records] == ["a.gsimg", "b.gsimg", "deep/er/a.gsimg"]
    for record in records:
        file = folder / "one" / record["output"]
        assert record["size"] == file.stat().st_size
        assert record["bpp"] == pytest.approx(8 * record["size"] / (24 * 32))
        assert (record["width"], record["height"], record["error"]) == (32, 24, None)
        assert record["psnr"] > 15


def test_the_records_are_a_typed_table_too(folder):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    summary = run_batch(find_jobs([folder / "in"], folder / "out"), folder / "out", QUICK, retries=0)
    table = parquet.read_table(folder / "out" / "manifest.parquet")
    assert [Record(**row) for row in table.to_pylist()] == list(summary.records)
    assert [record.output for record in summary.records] == ["a.gsimg", "b.gsimg", "bad.gsimg", "deep/er/a.gsimg"]
    assert table.schema.field("size").type == arrow.int64()
    assert table.schema.field("bpp").type == arrow.float64()
    assert table.schema.field("error").type == arrow.string()
    assert [field.name for field in table.schema if field.nullable] == ["psnr", "error"]
    assert table.column("error").null_count == 3
    assert table.column("psnr").null_count == 1


def test_without_pyarrow_there_is_no_table(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    run_batch(find_jobs([folder / "in" / "b.png"], folder / "out"), folder / "out", QUICK)
    assert {file.name for file in (folder / "out").iterdir()} == {"b.gsimg", "manifest.jsonl"}


def test_what_is_done_is_passed_over(folder):
    def again() -> tuple[int, int]:
        summary = run_batch(find_jobs([folder / "in"], target), target, QUICK, workers=2)
        return len(summary.done), summary.skipped

    target = folder / "out"
    assert again() == (3, 0)
    assert again() == (0, 3)
    seen = []
    run_batch(find_jobs([folder / "in"], target), target, QUICK, on_record=lambda *now: seen.append(now))
    assert seen == [(3, 3)]
    draw(folder / "in" / "b.png", 9)  # another picture
    (target / "a.gsimg").unlink()  # a file that is gone
    (target / "deep" / "er" / "a.gsimg").write_bytes(b"cut")
    assert again() == (3, 0)
    assert len((target / "manifest.jsonl").read_text().splitlines()) == 3
    with open(target / "manifest.jsonl", "a") as file:
        file.write('{"source": "tor')
    assert again() == (0, 3)


def test_other_settings_are_refused_unless_told(folder):
    target = folder / "out"
    jobs = find_jobs([folder / "in"], target)
    run_batch(jobs, target, QUICK)
    with pytest.raises(ConfigError, match="expected records of these settings"):
        run_batch(jobs, target, {**QUICK, "gaussians": 30})
    assert run_batch(jobs, target, {**QUICK, "threads": 1}).skipped == 3  # threads change nothing
    assert len(run_batch(jobs, target, {**QUICK, "gaussians": 30}, overwrite=True).done) == 3


def test_a_picture_that_kills_its_process_harms_no_other(folder):
    draw(folder / "in" / "crash.png")
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    target = folder / "out"
    jobs = find_jobs([folder / "in"], target)
    summary = run_batch(jobs, target, QUICK, workers=2, retries=2, work=crash_on_some)
    assert len(summary.done) == 3
    errors = {Path(record.source).name: record for record in summary.failed}
    assert set(errors) == {"crash.png", "bad.png"}
    assert "the process died on it, with status 7" in errors["crash.png"].error
    assert "expected a picture" in errors["bad.png"].error
    assert {record.attempts for record in summary.failed} == {3}
    assert not list(target.rglob("*.tmp"))
    # mended, it is done the next time, and nothing else
    summary = run_batch(jobs, target, QUICK)
    assert [Path(record.source).name for record in summary.done] == ["crash.png"]
    assert summary.skipped == 3


def test_a_picture_that_fails_is_tried_again(folder):
    jobs = find_jobs([folder / "in" / "b.png"], folder / "out")
    failed = run_batch(jobs, folder / "out", QUICK, retries=0, work=fail_once).failed
    assert "RuntimeError: not yet" in failed[0].error
    Path(f"{folder / 'in' / 'b.png'}.tried").unlink()
    assert run_batch(jobs, folder / "out", QUICK, retries=1, work=fail_once).done[0].attempts == 2


def test_a_full_disk_is_one_line_for_each_picture(folder):
    jobs = find_jobs([folder / "in"], folder / "out")
    summary = run_batch(jobs, folder / "out", QUICK, workers=1, retries=0, work=fill_the_disk)
    lines = [f"{job.output}: cannot be written: no space left on device" for job in jobs]
    assert sorted(str(record.error) for record in summary.failed) == sorted(lines)
    assert not [*(folder / "out").rglob("*.tmp"), *(folder / "out").rglob("*.gsimg")]
    assert len(run_batch(jobs, folder / "out", QUICK).done) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_manifest_without_room_is_one_line(tmp_path):
    with Manifest(tmp_path, "k") as manifest:
        manifest._file.close()
        manifest._file = open("/dev/full", "w")
        with pytest.raises(ImageError, match=r"manifest.jsonl: cannot be written: no space left on device"):
            manifest.add(Record("a", "a.gsimg", "k"))
    assert manifest.path.read_text().count("\n") == 1  # there was room in the end


def test_a_target_that_cannot_be_written_is_one_line(folder, monkeypatch):
    jobs = find_jobs([folder / "in"], folder / "out")
    monkeypatch.setattr(running.os, "access", lambda *_: False)
    with pytest.raises(ImageError, match="out: cannot be written: no permission in this folder"):
        run_batch(jobs, folder / "out", QUICK)


def test_a_batch_that_is_killed_goes_on_where_it_was(tmp_path):
    for number in range(12):
        draw(tmp_path / "in" / f"{number:02}.png", number)
    command = [sys.executable, "-m", "imagegs", "batch", "in", "out", "-n", "20", "--workers", "2"]
    manifest = tmp_path / "out" / "manifest.jsonl"
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(1200):
            if manifest.exists() and len(manifest.read_text().splitlines()) >= 3:
                break
            time.sleep(0.05)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    done = sum(json.loads(line)["error"] is None for line in manifest.read_text().splitlines() if line.endswith("}"))
    for file in (tmp_path / "out").glob("*.gsimg"):
        decode(file.read_bytes())  # whole
    again = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    facts = json.loads(again.stdout)
    assert facts["skipped"] == done
    assert facts["encoded"] == 12 - done
    assert len(manifest.read_text().splitlines()) == 12
    assert len(list((tmp_path / "out").glob("*.gsimg"))) == 12


def test_the_command_says_what_failed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["batch", "in", "out", "-n", "20", "--steps", "5", "--json"])
    assert done.exit_code == 1
    facts = json.loads(done.stdout)
    assert (facts["encoded"], facts["skipped"], len(facts["failed"])) == (3, 0, 1)
    lines = (folder / "out" / "manifest.jsonl").read_text().splitlines()
    assert facts["records"] == [json.loads(line) for line in lines]
    assert "imagegs: in/bad.png: expected a picture" in done.stderr
    (folder / "in" / "bad.png").unlink()
    done = CliRunner().invoke(app, ["batch", "in", "out", "-n", "20", "--steps", "5"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "there already" in done.output


@pytest.mark.parametrize(
    "options", [("--bpp", "1", "--psnr", "30"), ("--checkpoint", "x"), ("--workers", "0"), ("--resume", "x")]
)
def test_wrong_usage_is_said(folder, options):
    assert CliRunner().invoke(app, ["batch", str(folder / "in"), str(folder / "out"), *options]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("empty", "out"), "imagegs: empty: expected pictures, found none"),
        (("in/a.jpg", "in/deep/er/a.png", "out"), "imagegs: out/a.gsimg: expected one picture for it, found in/a.jpg"),
        (("in", "file"), "imagegs: file: cannot be made: file exists"),
        (
            ("in", "made"),
            "imagegs: made/manifest.jsonl: expected records of these settings, found others; take another",
        ),
        (("http://127.0.0.1:9/a.png", "out"), "imagegs: http://127.0.0.1:9/a.png: cannot be read: Cannot connect"),
        (("in", "http://127.0.0.1:9/out"), "imagegs: http://127.0.0.1:9/out/manifest.jsonl: cannot be read: Cannot"),
        (("in", "nothing://out"), "imagegs: nothing://out/manifest.jsonl: expected a URL that fsspec knows"),
    ],
)
def test_bad_input_is_one_line_and_status_1(folder, words, line):
    pytest.importorskip("aiohttp")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "made").mkdir()
    (folder / "made" / "manifest.jsonl").write_text('{"source": "a", "output": "b", "settings": "others"}\n')
    command = [sys.executable, "-m", "imagegs", "batch", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_target_that_cannot_be_is_one_line(folder):
    file = folder / "file"
    file.write_text("")
    with pytest.raises(ImageError, match="file: cannot be made"):
        run_batch(find_jobs([folder / "in"], file), file, QUICK)
    with pytest.raises(ConfigError, match="workers from 1"):
        run_batch([], folder / "out", QUICK, workers=0)
    (folder / "out").mkdir()
    for line in ('{"source": 1}', '{"source": "a", "output": "b", "settings": "", "size": "large"}', "[]"):
        (folder / "out" / "manifest.jsonl").write_text(f"{line}\n{{}}\n")
        with pytest.raises(ConfigError, match="line 1: expected a record") as caught:
            Manifest(folder / "out", "")
    assert isinstance(caught.value, ImageGSError)
    assert Record("a", "b", "c").error is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_target_without_permission_is_one_line(folder):
    (folder / "out").mkdir(mode=0o500)
    with pytest.raises(ImageError, match="no permission"):
        run_batch(find_jobs([folder / "in"], folder / "out"), folder / "out", QUICK)
