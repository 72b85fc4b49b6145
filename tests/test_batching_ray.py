"""`--engine ray`: the files of the local engine, whatever happens to processes and nodes meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_workers import crash_on_some, fail_once
from PIL import Image
from ray_workers import (
    Errand,
    encode_when_freed,
    give_what_cannot_be_sent,
    killed_once,
    linger,
    say_slowly,
    say_where,
    wait_for,
)
from typer.testing import CliRunner

from imagegs import decode
from imagegs.batching import engines, find_jobs, open_engine, ray_engine, run_batch
from imagegs.batching.engines import Engine, Outcome
from imagegs.cli import app
from imagegs.errors import ConfigError, DeviceError
from imagegs.kernels import native

ray = pytest.importorskip("ray")
pytest.importorskip("pebble")
pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

QUICK = {"gaussians": 20, "steps": 5}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def joined(cluster: Any) -> Iterator[Any]:
    """That cluster, joined by this process."""
    variables = {"PYTHONPATH": str(Path(__file__).parent)}
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": variables})
    yield cluster
    ray.shutdown()


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:24, 0:32] + 3 * seed
    waves = [127 + 90 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)]
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b", "deep/c")):
        draw(tmp_path / "in" / f"{name}.png", number)
    return tmp_path


def records_of(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (target / "manifest.jsonl").read_text().splitlines()]


def check_whole(target: Path) -> None:
    """Every file decodes, has one record, and nothing else is there."""
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    done = [record["output"] for record in records_of(target) if record["error"] is None]
    assert files - {"manifest.parquet"} == {*done, "manifest.jsonl"}
    assert len(done) == len(set(done))
    for name in done:
        decode((target / name).read_bytes())


def test_files_and_records_are_those_of_the_local_engine(joined, folder, monkeypatch):
    monkeypatch.chdir(folder)  # relative paths mean the same to processes that began elsewhere
    for engine in ("local", "ray"):
        summary = run_batch(find_jobs(["in"], Path(engine)), Path(engine), QUICK, engine=engine)
        assert len(summary.done) == 3
        check_whole(folder / engine)
    for local, other in zip(records_of(folder / "local"), records_of(folder / "ray"), strict=True):
        assert {**local, "seconds": 0} == {**other, "seconds": 0}
        assert (folder / "local" / local["output"]).read_bytes() == (folder / "ray" / local["output"]).read_bytes()
    assert run_batch(find_jobs(["in"], Path("ray")), Path("ray"), QUICK, engine="ray").skipped == 3
    assert ray.is_initialized()  # it was joined before


def test_tiles_of_a_giant_picture_are_those_of_the_local_engine(joined, tmp_path):
    pytest.importorskip("pyvips")
    from imagegs.giant import encode_giant

    draw(tmp_path / "in.png")
    small = Image.open(tmp_path / "in.png").resize((300, 200))
    small.save(tmp_path / "in.png")
    for name in ("local", "ray"):
        with open_engine(name) as engine:
            output = tmp_path / f"{name}.gsimg"
            done = encode_giant(
                tmp_path / "in.png", output, gaussians=300, tile=128, block_shift=6, steps=5, engine=engine
            )
        assert done.tiles == 6
    assert (tmp_path / "local.gsimg").read_bytes() == (tmp_path / "ray.gsimg").read_bytes()


def test_a_task_has_its_threads_and_no_more(joined, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("yes")
    with open_engine("ray") as engine:
        assert (engine.workers, engine.threads, engine.room) == (2, 1, 4)
        for _ in range(2):  # an engine serves more than one run
            (outcome,) = engine.run(say_where, [Errand("where", tmp_path)])
            assert outcome.result is not None
            place, text, variables = outcome.result
            assert (place, text) == (str(tmp_path), "yes")
            assert {variables[name] for name in engines.THREAD_VARIABLES} == {"1"}
    with open_engine("ray", workers=1) as engine:
        assert (engine.workers, engine.room) == (1, 1)
    with open_engine("ray", most=1) as engine:
        assert engine.workers == 1
    with pytest.raises(ConfigError, match=r"threads: expected at most 1, the CPUs of .* found 2"):
        open_engine("ray", threads=2)


def test_no_more_tasks_run_than_were_asked_for(joined, tmp_path):
    tasks = [Errand(name, tmp_path) for name in "ab"]
    (tmp_path / "b.free").touch()
    with open_engine("ray", workers=1) as engine:
        outcomes = engine.run(linger, tasks)
        threading.Timer(1, (tmp_path / "a.free").touch).start()
        assert next(outcomes).result == "a"
        assert not (tmp_path / "b.begun").exists()
        assert next(outcomes).result == "b"


def test_a_picture_that_kills_its_process_harms_no_other(joined, folder):
    draw(folder / "in" / "crash.png")
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    jobs = find_jobs([folder / "in"], folder / "out")
    summary = run_batch(jobs, folder / "out", QUICK, engine="ray", retries=2, work=crash_on_some)
    assert len(summary.done) == 3
    errors = {Path(record.source).name: record for record in summary.failed}
    assert set(errors) == {"crash.png", "bad.png"}
    assert errors["crash.png"].error == f"{folder / 'in' / 'crash.png'}: the process died on it"
    assert "expected a picture" in errors["bad.png"].error
    assert {record.attempts for record in summary.failed} == {3}
    check_whole(folder / "out")


def test_processes_that_are_killed_cost_an_attempt_each(joined, folder):
    jobs = find_jobs([folder / "in"], folder / "out")
    summary = run_batch(jobs, folder / "out", QUICK, engine="ray", retries=1, work=killed_once)
    assert [record.attempts for record in summary.done] == [2, 2, 2]
    assert not summary.failed
    check_whole(folder / "out")


def test_a_picture_that_fails_is_tried_again(joined, folder):
    jobs = find_jobs([folder / "in" / "a.png"], folder / "out")
    failed = run_batch(jobs, folder / "out", QUICK, engine="ray", retries=0, work=fail_once).failed
    assert failed[0].error == f"{folder / 'in' / 'a.png'}: RuntimeError: not yet"
    Path(f"{folder / 'in' / 'a.png'}.tried").unlink()
    assert run_batch(jobs, folder / "out", QUICK, engine="ray", retries=1, work=fail_once).done[0].attempts == 2


def test_what_ray_says_is_one_line(joined):
    with open_engine("ray") as engine:
        (outcome,) = engine.run(give_what_cannot_be_sent, [Errand("a", Path())])
    assert outcome.error is not None
    assert outcome.error.startswith("a: TypeError: ")
    assert "\n" not in outcome.error


def test_pictures_of_a_node_that_is_lost_are_done_elsewhere(joined, folder):
    node = joined.add_node(**NODE)
    for number in range(3, 6):
        draw(folder / "in" / f"{number}.png", number)

    def lose() -> None:
        while not list((folder / "in").rglob(f"*.{node.node_id}")):
            threading.Event().wait(0.05)
        joined.remove_node(node, allow_graceful=False)
        for place in (folder / "in", folder / "in" / "deep"):
            (place / "free").touch()

    losing = threading.Thread(target=lose)
    losing.start()
    jobs = find_jobs([folder / "in"], folder / "out")
    summary = run_batch(jobs, folder / "out", QUICK, engine="ray", retries=0, work=encode_when_freed)
    losing.join()
    assert not summary.failed
    assert [record.attempts for record in summary.done] == [1] * 6  # retries=0: the loss is no fault of the picture
    begun = list((folder / "in").rglob("*.png")), list((folder / "in").rglob(f"*.{node.node_id}"))
    assert (len(begun[0]), len(begun[1])) == (6, 1)
    check_whole(folder / "out")
    run_batch(find_jobs([folder / "in"], folder / "local"), folder / "local", QUICK)
    for job in jobs:
        assert job.output.read_bytes() == (folder / "local" / job.output.relative_to(folder / "out")).read_bytes()


class Losing(Engine):
    """Every place is lost on which it runs."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.runs = 0

    def close(self) -> None:
        pass

    def _start(self, work: Any, task: Any) -> int:
        self.runs += 1
        return self.runs

    def _wait(self, tickets: list[Any]) -> list[Any]:
        return tickets

    def _outcome(self, ticket: Any, task: Any) -> Outcome[Any, Any]:
        return Outcome(task, error="lost", lost=True)


def test_what_brings_every_node_down_ends():
    engine = Losing()
    (outcome,) = engine.run(say_where, [Errand("a", Path())], retries=1)
    assert (outcome.error, outcome.attempts) == ("lost", 2)
    assert engine.runs == engines.LOSSES + 2


def test_workers_follow_the_nodes(joined, monkeypatch):
    with open_engine("ray") as engine:
        nodes = [1, 1, 4, 0]
        monkeypatch.setattr(ray_engine, "_cpus", lambda: nodes)
        monkeypatch.setattr(ray_engine, "PULSE", 0.05)
        list(engine.run(say_slowly, [Errand("a", Path())]))
        assert engine.workers == 6
        monkeypatch.setattr(ray_engine, "PATIENCE", -1)
        nodes.clear()
        with pytest.raises(DeviceError, match="expected a node with 1 CPUs, found none"):
            list(engine.run(say_slowly, [Errand("a", Path())]))


def test_closing_stops_what_runs(joined, tmp_path):
    tasks = [Errand(name, tmp_path) for name in "abcdef"]
    (tmp_path / "a.free").touch()
    with open_engine("ray") as engine:
        assert next(engine.run(linger, tasks)).result == "a"
        wait_for(tmp_path / "b.begun")
    wait_for(tmp_path / "b.ended")  # it was interrupted, not killed
    assert not (tmp_path / "f.begun").exists()
    with open_engine("ray") as engine:  # the CPUs are free again
        (tmp_path / "f.free").touch()
        assert [outcome.result for outcome in engine.run(linger, tasks[-1:])] == ["f"]
    assert ray.is_initialized()


def test_a_cluster_that_is_joined_takes_no_address(joined):
    with pytest.raises(ConfigError, match="address: expected none, since a Ray cluster is joined already"):
        open_engine("ray", address=joined.address)


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """The address of a server that gives this answer, or none."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    if answer is not None:
                        connection.sendall(answer)
                    connection.recv(1024)
                    while connection.recv(1024):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def unjoined(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had joined no cluster, and none were known; nothing starts or joins one."""

    def refuse(**options: Any) -> None:
        raise ConnectionError("Ray\nitself")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray_engine, "REACH", 0.5)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_is_is_one_line(unjoined, monkeypatch, scheme):
    address = scheme + unused_address()
    with pytest.raises(DeviceError, match=f"^{address}: expected a Ray cluster there, found none: .*refused$"):
        open_engine("ray", address=address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in (None, "auto"):
        with pytest.raises(DeviceError, match=f"^{address}: expected a Ray cluster there, found none"):
            open_engine("ray", address=given)


def test_an_address_where_something_else_is_is_one_line(unjoined):
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        with pytest.raises(DeviceError, match="expected a Ray cluster there, found something else"):
            open_engine("ray", address=address)
    with listening(None) as address, pytest.raises(DeviceError, match="found none: timed out"):
        open_engine("ray", address=address)
    with listening(bytes((0, 0, 0, 4))) as address:
        with pytest.raises(DeviceError, match=f"^{address}: expected a Ray cluster, found: Ray itself$"):
            open_engine("ray", address=address)


def test_an_address_that_is_none_is_one_line(unjoined):
    for address in ("nothing", "host:", ":1", "host:port", "host:99999", "http://host:1", "host:1/more"):
        with pytest.raises(ConfigError, match="address: expected auto, HOST:PORT or ray://HOST:PORT, found"):
            open_engine("ray", address=address)


def test_an_engine_that_is_none_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="engine: expected local or ray, found dask"):
        open_engine("dask")
    with pytest.raises(ConfigError, match="address: expected none with the engine local, found host:1"):
        run_batch([], tmp_path, QUICK, address="host:1")
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(ConfigError, match="Ray: expected workers and threads from 1"):
            open_engine("ray", **wrong)


def test_without_the_package_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = CliRunner().invoke(app, ["batch", str(folder / "in"), str(folder / "out"), "--engine", "ray"])
    assert isinstance(done.exception, DeviceError)
    assert str(done.exception) == "--engine ray needs the package ray: pip install 'imagegs[ray]'"


def test_the_command_starts_ray_and_ends_it(folder):
    command = [sys.executable, "-m", "imagegs", "batch", "in", "out", "-n", "20", "--steps", "5", "--json"]
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [*command, "--engine", "ray", "--workers", "2"], cwd=folder, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["encoded"], facts["failed"]) == (3, [])
    assert done.stderr == ""
    check_whole(folder / "out")


def test_the_command_joins_a_cluster_and_ctrl_c_leaves_it(cluster, tmp_path):
    for number in range(24):
        draw(tmp_path / "in" / f"{number:02}.png", number)
    command = [sys.executable, "-m", "imagegs", "batch", "in", "out", "-n", "20", "--json", "--engine", "ray"]
    command += ["--address", cluster.address]
    manifest = tmp_path / "out" / "manifest.jsonl"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    stopped = subprocess.Popen(command, cwd=tmp_path, **quiet)
    try:
        while not (manifest.exists() and manifest.read_text()) and stopped.poll() is None:
            threading.Event().wait(0.05)
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(60) == 130
    finally:
        stopped.kill()
    assert 0 < len(records_of(tmp_path / "out")) < 24
    for path in (tmp_path / "out").glob("*.gsimg"):
        decode(path.read_bytes())
    assert not list((tmp_path / "out").rglob("*.tmp"))
    done = len(records_of(tmp_path / "out"))
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    facts = json.loads(again.stdout)  # Ray's own words on the node that was lost go elsewhere
    assert (facts["encoded"], facts["skipped"]) == (24 - done, done)
    check_whole(tmp_path / "out")
