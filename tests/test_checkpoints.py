"""Interrupted fits: whatever the moment, going on gives exactly what an undisturbed fit gives."""

from __future__ import annotations

import json
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imagegs.codec import BitWidths
from imagegs.errors import ConfigError, ImageError
from imagegs.fitting import fit as fitting
from imagegs.fitting import loop, schedule
from imagegs.fitting.config import FitConfig, make_config
from imagegs.fitting.fit import Interrupted, run
from imagegs.fitting.loop import FitResult, Progress
from imagegs.fitting.optimizer import LocalAdam
from imagegs.guidance import Guidance
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

Pixels = npt.NDArray[np.float32]

STEPS = 60
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bits": {"bits": BitWidths(9, 6, 6, 6), "quantize_from": 0.3},
    "coarse": {"coarse": 0.4, "bits": BitWidths(), "quantize_from": 0.5},
    "ssim": {"loss": {"l1": 0.5, "l2": 0.0, "ssim": 0.2}, "hold": 0.3},
    "topk": {"blend": "topk", "top_k": 4},
    "patience": {"patience": 8, "patience_gain": 2.0, "add_at": (), "relocate_every": 50},
    "image-gs": {"profile": "image-gs", "bits": BitWidths(), "quantize_from": 0.3},
    "gaussian-image": {"profile": "gaussian-image"},
    "rotation-scale": {"profile": "gaussian-image", "shape": "rotation-scale", "bits": BitWidths()},
}


def config_for(name: str) -> FitConfig:
    settings = {"steps": STEPS, "relocate_every": 5, **SETTINGS[name]}
    return make_config((64, 80), gaussians=80, seed=3, **settings)


def stop_at(step: int) -> Any:
    def on_step(now: Progress) -> None:
        if now.step == step:
            raise KeyboardInterrupt

    return on_step


def assert_same(found: FitResult, wanted: FitResult) -> None:
    for name in ("means", "scales", "rotations", "colors", "background"):
        assert getattr(found.gaussians, name).tobytes() == getattr(wanted.gaussians, name).tobytes(), name
    assert found.psnr == wanted.psnr
    assert [(row[0], *row[2:]) for row in found.history] == [(row[0], *row[2:]) for row in wanted.history]
    assert (found.steps, found.added_at) == (wanted.steps, wanted.added_at)


@pytest.fixture(autouse=True)
def short_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published schedules, which take thousands of steps, in tens."""
    monkeypatch.setattr(loop, "CHECK_EVERY", 4)
    monkeypatch.setattr(schedule, "CHECK_PATIENCE", 100)
    monkeypatch.setattr(schedule, "HALVE_EVERY", 20)


@pytest.mark.parametrize("name", SETTINGS)
def test_going_on_after_an_interruption_changes_nothing(name: str, scene: Pixels, tmp_path: Path) -> None:
    config, path = config_for(name), tmp_path / "fit.npz"
    whole = run(scene, config)
    # around additions (6, 12, 18, 24) and relocations (5, 10, ...), the change of size and those of the grid
    stops = [step for step in (1, 5, 6, 7, 12, 15, 19, 23, 24, 25, 31, 38, 40, 44, 51, 59) if step < whole.steps]
    resume = None
    for step in stops:
        with pytest.raises(Interrupted) as stopped:
            run(scene, config, on_step=stop_at(step), checkpoint=path, resume=resume)
        assert stopped.value.checkpoint == path
        resume = path
    seen: list[Progress] = []
    assert_same(run(scene, config, on_step=seen.append, resume=path), whole)
    assert seen[0].step == stops[-1] + 1
    assert seen[0].seconds > 0


def test_the_schedules_are_really_passed_through(scene: Pixels) -> None:
    # what the test above relies on: its settings reach the plateau, early ends and additions
    assert run(scene, config_for("patience")).steps < STEPS
    assert run(scene, config_for("plain")).added_at == [6, 12, 18, 24]
    official = run(scene, config_for("image-gs"))
    assert official.added_at == [6, 12, 18, 24]
    assert 24 < official.steps < STEPS


def test_an_interruption_of_the_last_touches_is_kept_too(
    scene: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = config_for("bits"), tmp_path / "fit.npz"
    whole = run(scene, config)

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "solve_colors", stop)
        with pytest.raises(Interrupted):
            run(scene, config, checkpoint=path)
    assert_same(run(scene, config, resume=path), whole)


@pytest.fixture
def heeded_ctrl_c() -> Iterator[None]:
    """Processes that a shell starts in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_ctrl_c")
@pytest.mark.parametrize("place", ["evaluate", "optimise", "relocate", "add"])
def test_ctrl_c_within_a_step_waits_for_its_end(
    place: str, scene: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = config_for("plain"), tmp_path / "fit.npz"
    whole = run(scene, config)
    owner, name = {
        "evaluate": (loop, "evaluate"),
        "optimise": (LocalAdam, "step"),
        "relocate": (loop, "least_worth"),
        "add": (loop, "grow"),
    }[place]
    real, calls = getattr(owner, name), []

    def with_signal(*args: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **named)

    before = signal.getsignal(signal.SIGINT)
    seen: list[Progress] = []
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, with_signal)
        with pytest.raises(Interrupted):
            run(scene, config, on_step=seen.append, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(calls) == 2
    # the step was finished, its callback not called any more
    step = {"evaluate": 2, "optimise": 2, "relocate": 10, "add": 12}[place]
    assert seen[-1].step == step - 1
    later: list[Progress] = []
    assert_same(run(scene, config, on_step=later.append, resume=path), whole)
    assert later[0].step == step + 1


def test_without_a_place_for_a_checkpoint_it_is_a_plain_interruption(scene: Pixels) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(scene, config_for("plain"), on_step=stop_at(3))
    assert not isinstance(stopped.value, Interrupted)


def test_fits_run_on_other_threads(scene: Pixels) -> None:
    found: list[FitResult] = []
    thread = threading.Thread(target=lambda: found.append(run(scene, config_for("plain"))))
    thread.start()
    thread.join()
    assert_same(found[0], run(scene, config_for("plain")))


def test_an_ignored_ctrl_c_stays_ignored(scene: Pixels) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(scene, config_for("plain"), on_step=lambda now: signal.raise_signal(signal.SIGINT)).steps == STEPS
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def kept(scene: Pixels, tmp_path: Path) -> Path:
    """The checkpoint of ``config_for("bits")`` after 30 steps."""
    path = tmp_path / "fit.npz"
    with pytest.raises(Interrupted):
        run(scene, config_for("bits"), on_step=stop_at(30), checkpoint=path)
    return path


def test_a_checkpoint_of_another_fit_is_refused(scene: Pixels, kept: Path) -> None:
    config = config_for("bits")
    brighter = scene + np.float32(0.001)
    maps = np.ones((64, 80), np.float32)
    others: list[tuple[Pixels, FitConfig, dict[str, Any]]] = [
        (brighter, config, {}),
        (scene[:, :, ::-1], config, {}),
        (scene, config_for("plain"), {}),
        (scene, make_config((64, 80), gaussians=80, seed=4, steps=STEPS), {}),
        *((scene, config, {"guidance": Guidance(**{name: maps})}) for name in ("loss", "start", "growth")),
    ]
    for pixels, settings, given in others:
        with pytest.raises(ConfigError, match=r"fit\.npz: expected a checkpoint of this picture and these settings"):
            run(pixels, settings, resume=kept, **given)
    assert run(scene, config, resume=kept).steps == STEPS


def test_a_checkpoint_of_another_version_is_refused(scene: Pixels, kept: Path) -> None:
    with np.load(kept) as file:
        arrays = {name: file[name] for name in file.files}
    record = json.loads(arrays["record"].tobytes())
    arrays["record"] = np.frombuffer(json.dumps(record | {"version": 99}).encode(), np.uint8)
    np.savez(kept, **arrays)
    with pytest.raises(ConfigError, match=r"fit\.npz: expected a checkpoint of version 1, found 99"):
        run(scene, config_for("bits"), resume=kept)


def test_what_is_no_checkpoint_is_refused(scene: Pixels, kept: Path, tmp_path: Path) -> None:
    config = config_for("bits")

    def refuse(path: Path, found: str = "expected a checkpoint of a fit, found something else") -> None:
        with pytest.raises(ConfigError, match=found) as refused:
            run(scene, config, resume=path)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)

    refuse(tmp_path / "absent.npz", "expected a checkpoint, found no file")
    refuse(tmp_path)
    other = tmp_path / "other"
    whole = kept.read_bytes()
    texts = [
        b"",
        b"garbage",
        b"\x80\x04K\x01.",
        b"PK\x05\x06" + bytes(18),
        whole[:-1],
        whole[: len(whole) // 2],
        whole[9:],
    ]
    for text in texts:
        other.write_bytes(text)
        refuse(other)
    for arrays in ({"a": np.zeros(3)}, {"record": np.zeros(3)}, {"record": np.frombuffer(b"[1]", np.uint8)}):
        np.savez(tmp_path / "other.npz", **arrays)
        refuse(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    refuse(tmp_path / "array.npy")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("record.npy", "text")
    refuse(other)


def test_altered_bytes_never_leak_another_error(scene: Pixels, kept: Path, tmp_path: Path) -> None:
    config, whole, other = config_for("bits"), kept.read_bytes(), tmp_path / "other.npz"
    random = np.random.default_rng(0)
    # names, sizes and methods of the archive's members stand at its end
    places = [*random.integers(0, len(whole), 40), *range(len(whole) - 22 - 120, len(whole), 2)]
    want, refused = run(scene, config, resume=kept), 0
    for place in places:
        data = bytearray(whole)
        data[place] ^= int(random.integers(1, 256))
        other.write_bytes(data)
        try:
            found = run(scene, config, resume=other)
        except ConfigError:
            refused += 1
        else:  # a byte that means nothing
            assert_same(found, want)
    assert refused > len(places) / 2


def test_a_checkpoint_that_cannot_be_written(scene: Pixels, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        run(scene, config_for("plain"), on_step=stop_at(2), checkpoint=tmp_path / "absent" / "fit.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_kept_from_time_to_time_and_goes_on_exactly(scene, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    config = make_config(scene.shape[1:], gaussians=60, steps=30)
    file, copy = tmp_path / "kept.npz", tmp_path / "copy.npz"

    def killed(progress: Progress) -> None:
        if progress.step == 12:
            copy.write_bytes(file.read_bytes())  # what a process that is killed now leaves behind

    undisturbed = run(scene, config, checkpoint=file, on_step=killed)
    assert not file.exists()
    resumed = run(scene, config, resume=copy)
    assert resumed.steps == undisturbed.steps
    np.testing.assert_array_equal(resumed.gaussians.means, undisturbed.gaussians.means)
    np.testing.assert_array_equal(resumed.gaussians.colors, undisturbed.gaussians.colors)
