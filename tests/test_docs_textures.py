"""docs/textures.md is run: its command lines and its Python, on small maps."""

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

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "textures.md").read_text(encoding="utf-8")


def test_what_stands_there_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("textures").mkdir()
    y, x = np.mgrid[0:48, 0:64] / 9
    for name, shape in (("color.png", (48, 64, 3)), ("height.png", (48, 64))):
        waves = 127 + 90 * np.sin(x) * np.cos(y)
        Image.fromarray((np.broadcast_to(waves.T, shape[::-1]).T).astype(np.uint8)).save(f"textures/{name}")
    (block,) = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        done = CliRunner().invoke(app, shlex.split(line.removeprefix("$ imagegs ")))
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert sorted(path.name for path in Path("maps").iterdir()) == ["color.png", "height.png"]
    (source,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    exec(compile(source, "docs/textures.md", "exec"), {})
    assert "multiply-adds for a texel of 4 channels" in capsys.readouterr().out
