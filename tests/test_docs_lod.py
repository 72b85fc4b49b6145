"""docs/progressive.md and docs/viewer.md: their command lines are run on a small picture, and their links followed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagegs.cli import app
from imagegs.kernels import native

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("progressive.md", "viewer.md", "serving.md")

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def command_lines(name: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ imagegs ") for block in blocks for line in block.splitlines()]


def run(line: str) -> None:
    done = CliRunner().invoke(app, [*shlex.split(line), *(["-e", "1"] if " export " in f" {line} " else [])])
    assert done.exit_code == 0, (line, done.output, done.exception)


def test_the_command_lines_run(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    lines = command_lines("progressive.md")
    assert len(lines) > 5
    for line in lines:
        run(line)
    assert (photo.parent / "levels.png").is_file()
    assert (photo.parent / "tiles" / "info.json").is_file()
    waits = ("lod serve", "lod view photo.gsimg --no-open")
    for line in command_lines("viewer.md"):
        if not line.startswith(waits):
            run(line)
    assert (photo.parent / "site" / "photo.gsimg").is_file()


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, link) for name in NAMES for link in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text_of(name))],
)
def test_links_lead_somewhere(name: str, target: str) -> None:
    assert (ROOT / "docs" / name).parent.joinpath(target).exists()


def test_the_viewer_has_what_its_page_says() -> None:
    text = text_of("viewer.md")
    script = (ROOT / "apps" / "lod" / "viewer" / "imagegs-image.js").read_text(encoding="utf-8")
    for method in re.findall(r"`(\w+)\(", text.split("Methods:")[1].split("`decode.js`")[0]):
        assert re.search(rf"^  {method}\(", script, re.MULTILINE), method
    for event in re.findall(r"^\| `(\w+)` \|", text.split("| event |")[1].split("Methods:")[0], re.MULTILINE):
        assert f"tell('{event}'" in script, event
