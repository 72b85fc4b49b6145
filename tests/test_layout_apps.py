"""Applications stand on the public core: what each of their modules may import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import imagegs

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "apps").rglob("*.py"))
PUBLIC = {
    "imagegs",
    "imagegs.arranging",
    "imagegs.batching",
    "imagegs.bench",
    "imagegs.cli",
    "imagegs.errors",
    "imagegs.figures",
    "imagegs.files",
    "imagegs.guidance",
    "imagegs.image",
    "imagegs.lazily",
    "imagegs.metrics",
    "imagegs.pages",
    "imagegs.plots",
    "imagegs.pretrained",
    "imagegs.report",
}
HEAVY = {"matplotlib", "scipy", "timm", "torch", "torchvision", "transformers"}


def imports_of(path: Path) -> list[tuple[int, str, list[str]]]:
    """(level, module, names) of every import of a file."""
    found: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return found


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_an_app_imports_the_public_core_and_its_own_modules(path):
    for level, module, names in imports_of(path):
        assert level <= 1, f"{shown(path)} reaches out of its application"
        if level or module.split(".")[0] != "imagegs":
            continue
        base = ".".join(module.split(".")[:2])
        assert base in PUBLIC, f"{shown(path)} imports {module}"
        if module == "imagegs":
            assert set(names) <= set(imagegs.__all__) | {name.partition(".")[2] for name in PUBLIC}, shown(path)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name in ("cli.py", "__init__.py")], ids=shown)
def test_a_command_line_imports_nothing_heavy_at_once(path):
    top = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom) and not node.level}
    assert not {name.split(".")[0] for name in names} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_no_file_is_longer_than_600_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
