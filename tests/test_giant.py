"""Giant pictures: tiles that leave no seam, budgets that are met, and nothing that is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs import decode, read_gsimg, read_image
from imagegs.batching.engines import Engine, Outcome, attempt
from imagegs.cli import app
from imagegs.codec.blocks import Blocks
from imagegs.errors import ConfigError, ImageError
from imagegs.giant import encode_giant, stages
from imagegs.giant.plan import SPACINGS, Budget, Tiles, measure, shares
from imagegs.kernels import native

pytest.importorskip("pyvips")
pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

SMALL: dict[str, Any] = {"tile": 128, "block_shift": 6, "steps": 12, "levels": 2}


class Inline(Engine):
    """Tasks in this process, one after the other; after so many of them it is interrupted."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(1, 1)
        self.stop_after = stop_after
        self.done: list[tuple[str, int]] = []

    def close(self) -> None:
        pass

    def _start(self, work: Any, task: Any) -> Any:
        if self.stop_after is not None and len(self.done) >= self.stop_after:
            raise KeyboardInterrupt
        self.done.append((work.__name__, task.tile))
        self._last = attempt(work, task)
        return len(self.done)

    def _wait(self, tickets: list[Any]) -> list[Any]:
        return tickets

    def _outcome(self, ticket: Any, task: Any) -> Outcome[Any, Any]:
        return self._outcomes.pop(ticket)

    def run(self, work: Any, tasks: Any, *, retries: int = 0) -> Any:
        for task in tasks:
            self._start(work, task)
            yield self._last


def scene(height: int, width: int) -> np.ndarray:
    """Smooth on the left, fine on the right, with edges that cross everything."""
    y, x = np.mgrid[0:height, 0:width] / 40
    fine = np.clip(x * 40 / width * 2 - 1, 0, 1)
    waves = [np.sin(x + channel) * np.cos(1.3 * y) + fine * np.sin(9 * x + 7 * y) for channel in range(3)]
    edge = (np.hypot(x - 3, y - 3) < 2.2) * 0.8
    return np.uint8(np.clip(127 + 60 * (np.stack(waves, axis=-1) + edge[..., None]), 0, 255))


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("giant") / "scene.png"
    Image.fromarray(scene(300, 330)).save(path)
    return path


# -- plan


def test_tiles_cover_the_canvas_once_and_hold_whole_blocks():
    tiles, whole = Tiles(700, 530, 256, 6, 40), Blocks(530, 700, 6)
    seen = np.zeros((700, 530), int)
    numbers = []
    for tile in range(len(tiles)):
        x, y, width, height = tiles.box(tile)
        seen[y : y + height, x : x + width] += 1
        left, top, wide, high = tiles.window(tile)
        assert left == max(0, x - 40)
        assert top + high == min(700, y + height + 40)
        assert left + wide == min(530, x + width + 40)
        mine, blocks = tiles.blocks(tile)
        numbers += blocks
        for block, number in enumerate(blocks):
            at = mine.box(block)
            assert whole.box(number) == (x + at[0], y + at[1], *at[2:])
    assert (seen == 1).all()
    assert sorted(numbers) == list(range(len(whole)))
    assert tiles.around(0) == [1, 3, 4]
    assert len(tiles.around(4)) == 8


@pytest.mark.parametrize(
    ("side", "halo", "message"), [(200, 0, "multiple of the blocks' 512"), (1024, 1025, "halo: expected 0 to 1024")]
)
def test_tiles_that_cannot_be(side, halo, message):
    with pytest.raises(ConfigError, match=message):
        Tiles(3000, 3000, side, 9, halo)


def test_shares_follow_what_there_is_to_show():
    pixels = np.zeros((3, 300, 400), np.float32)
    pixels[:, :, 256:] = np.random.default_rng(0).random((3, 300, 144), dtype=np.float32)
    errors = measure(pixels)
    assert errors.shape == (len(SPACINGS), 3, 4)
    budget = Budget(shares(errors, 300 * 400, 2000), (300, 400))
    parts = [budget.share((x, 0, 128 if x < 384 else 16, 300)) for x in (0, 128, 256, 384)]
    assert sum(parts) == pytest.approx(1)
    assert parts[2] / 128 == pytest.approx(parts[3] / 16, rel=0.1)  # by the pixel
    assert 0 < parts[0] < 0.05 * parts[2]
    assert budget.share((256, 0, 64, 300)) == pytest.approx(parts[2] / 2)
    assert budget.share((200, 37, 100, 101)) == pytest.approx(
        sum(budget.share((200 + k, 37, 1, 101)) for k in range(100))
    )


# -- the file


@pytest.fixture(scope="module")
def encoded(picture, tmp_path_factory) -> tuple[Path, Any]:
    output = tmp_path_factory.mktemp("out") / "scene.gsimg"
    return output, encode_giant(picture, output, gaussians=1500, engine=Inline(), **SMALL)


def test_the_file_is_what_was_measured(picture, encoded):
    output, done = encoded
    file, shown = read_gsimg(output), decode(output).pixels
    truth = read_image(picture).pixels
    assert done.psnrs[-1] == pytest.approx(-10 * np.log10(np.mean((shown - truth) ** 2)), abs=1e-3)
    coarse = decode(output, level=0).pixels
    assert done.psnrs[0] == pytest.approx(-10 * np.log10(np.mean((coarse - truth) ** 2)), abs=1e-3)
    ends = [chunk.psnr for chunk in file.whole if chunk.psnr is not None]
    assert ends == pytest.approx(done.psnrs, abs=0.006)
    assert done.size == output.stat().st_size == file.size
    assert done.gaussians == len(file.gaussians)
    assert done.gaussians == pytest.approx(1500, rel=0.15)
    assert done.psnrs[-1] > 24
    assert not output.with_name("scene.gsimg.parts").exists()
    assert {chunk.level for chunk in file.whole} == {0, 1}
    assert len({chunk.block for chunk in file.whole}) > 20


def test_regions_are_as_in_the_whole(encoded):
    whole = decode(encoded[0]).pixels
    for x, y, width, height in ((100, 90, 60, 70), (0, 0, 20, 20), (310, 290, 20, 10)):
        part = decode(encoded[0], region=(x, y, width, height)).pixels
        assert np.abs(part - whole[:, y : y + height, x : x + width]).max() < 1e-5


def test_no_seam_shows(tmp_path, monkeypatch):
    path, out = tmp_path / "even.png", tmp_path / "even.gsimg"
    Image.fromarray(scene(256, 512)[:, ::-1]).save(path)

    def errors() -> tuple[float, float]:
        """At the border of the tiles, and around it."""
        encode_giant(path, out, gaussians=800, engine=Inline(), tile=256, block_shift=6, steps=60)
        error = ((decode(out).pixels - read_image(path).pixels) ** 2).mean(axis=0)
        return error[16:-16, 253:259].mean(), error[16:-16, 192:320].mean()

    near, around = errors()
    assert 10 * np.log10(near / around) < 1.5
    monkeypatch.setattr(stages, "JOIN_SHARE", 0.0)
    monkeypatch.setattr(stages, "SOLVE_ITERATIONS", 0)
    apart, _ = errors()
    assert near < 0.7 * apart


def test_the_same_bytes_in_processes(picture, encoded, tmp_path):
    pytest.importorskip("pebble")
    again = tmp_path / "again.gsimg"
    encode_giant(picture, again, gaussians=1500, **SMALL)
    assert again.read_bytes() == encoded[0].read_bytes()


@pytest.mark.parametrize("target", [{"bpp": 0.8}, {"size": 5000}])
def test_bytes_are_kept(picture, tmp_path, target):
    done = encode_giant(picture, tmp_path / "a.gsimg", engine=Inline(), **target, **SMALL)
    wanted = target.get("size") or int(target["bpp"] * 300 * 330 / 8)
    assert 0.96 * wanted < done.size <= wanted


def test_more_quality_is_more_gaussians(picture, tmp_path):
    counts = [
        encode_giant(picture, tmp_path / f"{quality}.gsimg", engine=Inline(), quality=quality, **SMALL).gaussians
        for quality in (30, 70)
    ]
    assert counts[0] * 1.3 < counts[1]


def test_too_few_bytes_are_refused(picture, tmp_path):
    with pytest.raises(ConfigError, match=r"bytes: expected at least [\d,]+ bytes for this picture, found 700 bytes"):
        encode_giant(picture, tmp_path / "a.gsimg", engine=Inline(), size=700, **SMALL)
    assert not (tmp_path / "a.gsimg").exists()


# -- going on


def test_an_interrupted_picture_goes_on_where_it_was(picture, encoded, tmp_path):
    output = tmp_path / "scene.gsimg"
    first = Inline(stop_after=14)
    with pytest.raises(KeyboardInterrupt):
        encode_giant(picture, output, gaussians=1500, engine=first, **SMALL)
    assert not output.exists()
    assert first.done[-1] == ("fit", 4)
    second = Inline()
    encode_giant(picture, output, gaussians=1500, engine=second, **SMALL)
    assert output.read_bytes() == encoded[0].read_bytes()
    assert not set(first.done) & set(second.done)


def test_parts_of_something_else_are_not_taken(picture, tmp_path):
    output = tmp_path / "scene.gsimg"
    with pytest.raises(KeyboardInterrupt):
        encode_giant(picture, output, gaussians=1500, engine=Inline(stop_after=3), **SMALL)
    with pytest.raises(ConfigError, match=r"scene\.gsimg\.parts: expected parts of this picture and these settings"):
        encode_giant(picture, output, gaussians=900, engine=Inline(), **SMALL)
    assert encode_giant(picture, output, gaussians=900, engine=Inline(), fresh=True, **SMALL).gaussians < 1100
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="mine: expected a folder for parts, found other files"):
        encode_giant(picture, output, gaussians=900, engine=Inline(), parts=tmp_path / "mine", fresh=True, **SMALL)
    assert (tmp_path / "mine" / "letter.txt").exists()


def test_a_damaged_part_is_named(picture, tmp_path):
    output = tmp_path / "scene.gsimg"
    with pytest.raises(KeyboardInterrupt):
        encode_giant(picture, output, gaussians=1500, engine=Inline(stop_after=14), **SMALL)
    part = tmp_path / "scene.gsimg.parts" / "fit-000001.npz"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"fit-000001\.npz: expected a part of a picture") as caught:
        encode_giant(picture, output, gaussians=1500, engine=Inline(), **SMALL)
    assert "\n" not in str(caught.value)
    part.unlink()
    encode_giant(picture, output, gaussians=1500, engine=Inline(), **SMALL)


def test_a_killed_run_goes_on(tmp_path):
    pytest.importorskip("pebble")
    path = tmp_path / "in.png"
    Image.fromarray(scene(500, 520)).save(path)
    command = [sys.executable, "-m", "imagegs", "giant", "in.png", "-o", "out.gsimg", "-n", "3000", "-e", "2"]
    command += ["--tile", "128", "--block-size", "64", "--json"]
    parts = tmp_path / "out.gsimg.parts"
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(1200):
            if len(list(parts.glob("fit-*.npz"))) >= 5:
                break
            time.sleep(0.05)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    assert not (tmp_path / "out.gsimg").exists()
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("fit-*.npz")}
    assert kept
    again = subprocess.run([*command, "--keep-parts"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert json.loads(again.stdout)["tiles"] == 20
    assert decode(tmp_path / "out.gsimg").width == 520


def test_what_cannot_be_is_one_line(picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    for arguments, status, message in (
        (["none.tif", "-o", "a.gsimg"], 1, "no such file"),
        (["text.png", "-o", "a.gsimg"], 1, "expected a picture that libvips reads"),
        ([str(picture), "-o", "none/a.gsimg"], 1, "the folder none does not exist"),
        ([str(picture), "-o", "a.gsimg", "--tile", "200"], 1, "tile: expected a multiple"),
        ([str(picture), "-o", "a.png"], 1, "expected a name ending in .gsimg"),
        ([str(picture), "-o", "a.gsimg", "--bpp", "1", "-n", "9"], 2, "target: expected one"),
        ([str(picture), "-o", "a.gsimg", "--block-size", "100"], 2, "power of two"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "imagegs", "giant", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert message in " ".join(done.stderr.replace("│", " ").split())
        assert not Path("a.gsimg").exists()


def test_the_command(picture, tmp_path, monkeypatch):
    pytest.importorskip("pebble")
    monkeypatch.chdir(tmp_path)
    command = ["giant", str(picture), "-o", "a.gsimg", "-n", "500", "-e", "1", "--tile", "128", "--block-size", "64"]
    done = CliRunner().invoke(app, [*command, "--workers", "1"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "330 x 300, in 9 tiles" in done.output


def test_a_region_at_an_address_costs_what_it_needs(encoded):
    pytest.importorskip("aiohttp")
    pytest.importorskip("starlette")
    from imagegs.apps.lod.server import make_app
    from lod_reading import running

    path, _ = encoded
    region = (200, 170, 40, 40)
    asked: list[str] = []

    class Watched:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                asked.extend(value.decode() for name, value in scope["headers"] if name == b"range")
            await self.inner(scope, receive, send)

    with running(Watched(make_app(path.parent))) as port:
        found = decode(f"http://127.0.0.1:{port}/{path.name}", region=region).pixels
        with pytest.raises(ImageError, match=r"none\.gsimg: cannot be read") as caught:
            decode(f"http://127.0.0.1:{port}/none.gsimg")
    assert np.array_equal(found, decode(path, region=region).pixels)
    ends = [value.removeprefix("bytes=").split("-") for value in asked]
    assert sum(int(last) - int(first) + 1 for first, last in ends) < 0.7 * path.stat().st_size
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="cannot be read"):
        decode(f"http://127.0.0.1:{port}/{path.name}")  # nobody listens any more
