"""docs/scale.md is run: its command lines and its Python, on small pictures."""

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

pytest.importorskip("pebble")
pytest.importorskip("pyvips")
pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_what_stands_there_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    y, x = np.mgrid[0:130, 0:160] / 12
    waves = np.stack([127 + 90 * np.sin(x + channel) * np.cos(y) for channel in range(3)], axis=-1).astype(np.uint8)
    Image.fromarray(waves).save("scan.tif")
    for number in range(2):
        Image.fromarray(waves[number : number + 24, :32]).save(f"photos/{number}.png")
    lines = [line.removeprefix("$ imagegs ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        quick = ["--effort", "1"] if line.startswith(("batch", "giant")) else []
        done = CliRunner().invoke(app, [*shlex.split(line), *quick])
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert Path("gallery/index.html").exists()
    assert Image.open("part.png").size == (100, 80)
    (source,) = blocks("python")
    exec(compile(source, "docs/scale.md", "exec"), {})
