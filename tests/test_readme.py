"""The README is run: its Python blocks one after another in one folder, its command lines through the parser."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from imagegs import fit, save
from imagegs.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


LINES = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("imagegs ")]


def test_the_python_blocks_run(photo, monkeypatch, capsys):
    monkeypatch.chdir(photo.parent)
    (photo.parent / "encoded").mkdir()  # as `imagegs batch` leaves it
    save(photo.parent / "encoded" / "photo.gsimg", fit(photo, 20, steps=2))
    assert len(blocks("python")) >= 3
    for number, source in enumerate(blocks("python"), start=1):
        exec(compile(source, f"README.md, Python block {number}", "exec"), {})
    assert {path.name for path in photo.parent.iterdir()} >= {"photo.gsimg", "detail.png", "twice.png"}
    assert "bits per pixel" in capsys.readouterr().out


def test_the_first_python_block_takes_six_lines():
    lines = [line for line in blocks("python")[0].splitlines() if line and not line.startswith("import")]
    assert len(lines) == 6


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_lines_parse(line):
    name, *arguments = shlex.split(line)[1:]
    command = typer.main.get_command(app).commands[name]
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    with command.make_context(name, arguments) as context:
        assert context.params["output" if "output" in context.params else "json"] is not None


def test_there_are_command_lines():
    named = {
        "encode",
        "decode",
        "info",
        "convert",
        "compare",
        "plot",
        "saliency",
        "weights",
        "lod",
        "restore",
        "batch",
        "giant",
    }
    assert {shlex.split(line)[1] for line in COMMANDS} == named


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()
