"""docs/restoration.md is run: its command lines and its Python, on a small picture."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.cli import app
from imagegs.kernels import native

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "restoration.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(photo.parent)
    image = Image.open(photo)
    noise = 20 * np.random.default_rng(1).standard_normal((*image.size[::-1], 3))
    Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save("noisy.png")
    image.save("photo.jpg", quality=20)
    mask = np.zeros(image.size[::-1], np.uint8)
    mask[10:14] = 255
    Image.fromarray(mask).save("holes.png")
    return photo.parent


def test_the_command_lines_run(folder: Path) -> None:
    lines = [line.removeprefix("$ imagegs ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        done = CliRunner().invoke(app, [*shlex.split(line), "-n", "60", "--fits", "1", "--steps", "10"])
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert (folder / "clean.gsimg").is_file()


def test_the_python_runs(folder: Path) -> None:
    sources = blocks("python")
    assert len(sources) > 1
    for source in sources:
        exec(compile(source, "docs/restoration.md", "exec"), {})
