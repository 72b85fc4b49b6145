"""docs/saliency.md is run: its command lines and its Python, on a small picture."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from imagegs.cli import app
from imagegs.kernels import native

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "saliency.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_command_lines_run(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    lines = [line.removeprefix("$ imagegs ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        done = CliRunner().invoke(app, [*shlex.split(line), *(["-e", "1"] if " encode " in line else [])])
        assert done.exit_code == 0, (line, done.output)
    assert (photo.parent / "map.png").is_file()
    assert (photo.parent / "report" / "index.html").is_file()


def test_the_python_runs(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(photo.parent)
    for source in blocks("python"):
        exec(compile(source, "docs/saliency.md", "exec"), {})
    assert "weighted_psnr" in capsys.readouterr().out


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?:)[^)#]+)\)", TEXT))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
