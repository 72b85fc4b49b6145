"""docs/cuda.md is run, on a GPU that the CPU makes believe; its table is that of the benchmark."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from cuda_host import needs_compiler, pretended_gpu
from typer.testing import CliRunner

from imagegs.cli import app
from imagegs.kernels import native

gpu = pretended_gpu
ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@needs_compiler
@pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
@pytest.mark.usefixtures("gpu", "one_torch_thread")
def test_it_runs(photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    lines = [line.removeprefix("$ imagegs ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) > 1
    for line in lines:
        more = ["-n", "60", "--steps", "10"] if line.startswith("encode") else []
        done = CliRunner().invoke(app, [*shlex.split(line), *more])
        assert done.exit_code == 0, (line, done.output, done.exception)
    names: dict = {}
    assert len(blocks("python")) > 1
    for source in blocks("python"):
        source = source.replace("gaussians=200", "gaussians=50").replace('preset="fast"', "steps=10")
        exec(compile(source, "docs/cuda.md", "exec"), names)
    assert names["picture"].shape == (3, 48, 64)
    assert (len(names["left"]), len(names["right"])) == (30, 40)


def test_its_numbers_are_the_benchmarks():
    found = json.loads((ROOT / "benchmarks" / "results" / "cuda_resources.json").read_text(encoding="utf-8"))
    kernels = found["results"]["units"]["render: normalized, 3 channels"]["sm_90"]["kernels"]
    rows = re.findall(r"^\|[^|]*`(\w+)` \| (\d+) \| ([\d,]+) bytes \|$", TEXT, re.MULTILINE)
    assert len(rows) == 3
    for kernel, registers, shared in rows:
        assert kernels[kernel]["registers"] == int(registers)
        assert kernels[kernel]["shared"] == int(shared.replace(",", ""))
    for unit in found["results"]["units"].values():
        for architecture in unit.values():
            assert not any(taken["spilled"] for taken in architecture["kernels"].values())
