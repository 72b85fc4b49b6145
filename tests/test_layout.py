"""The tree is the pipeline: what each part may import, and what the commands that must start fast may load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import imagegs
from imagegs.kernels import native

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "imagegs"

# Import only what stands in an earlier row, or in the same part.
ORDER = (
    ("errors", "lazily"),
    ("files", "gaussians", "goals"),
    ("pretrained",),
    ("guidance",),
    ("profiles",),
    ("rasters",),
    ("image",),
    ("kernels",),
    ("devices",),
    ("rendering", "sampling"),
    ("codec",),
    ("fitting",),
    ("arranging", "decoding"),
    ("metrics",),
    ("compression",),
    ("budget",),
    ("encoding",),
    ("batching", "torch"),
    ("giant",),
    ("converters",),
    ("figures",),
    ("plots",),
    ("pages",),
    ("report",),
    ("gallery",),
    ("bench",),
    ("cli",),
    ("__main__",),
)
RANK = {part: rank for rank, row in enumerate(ORDER) for part in row}
MAY_NAME_TORCH = {
    "imagegs.bench.dense",
    "imagegs.bench.splatting",
    "imagegs.converters.checkpoints",
    "imagegs.kernels.cuda",
    "imagegs.kernels.reference",
    "imagegs.metrics",
    "imagegs.pretrained.reading",
    "imagegs.torch",
}


def module_name(path: Path) -> str:
    parts = ("imagegs", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str, *, runtime_only: bool = False) -> set[str]:
    """Modules that a module's source imports anywhere, as absolute names; a package's module where one is meant."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(node) for guard in ast.walk(tree) if is_type_checking(guard) for node in ast.walk(guard)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if runtime_only and id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*prefix, *(node.module or "").split(".")]).rstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in MODULES else base)
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in MODULES if part(name)])
def test_a_module_imports_only_what_stands_before_it(module):
    assert part(module) in RANK, f"{module} has no place in the order"
    for target in imported(module):
        if not target.startswith("imagegs.") or part(target) == part(module):
            continue
        assert RANK[part(target)] < RANK[part(module)], f"{module} imports {target}, which stands above it"


def test_no_cycles():
    graph = {
        module: {target for target in imported(module, runtime_only=True) if target in MODULES and part(target)}
        for module in MODULES
        if part(module)
    }
    order = tuple(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(graph)


def test_the_wings_do_not_import_each_other_the_wrong_way():
    for module in MODULES:
        if part(module) in {"codec", "decoding"}:
            assert not {name for name in imported(module) if part(name) in {"fitting", "encoding"}}, module


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_named_by_the_fitting_wing_alone(module):
    if part(module) != "fitting" and module not in MAY_NAME_TORCH:
        assert not {name for name in imported(module) if name.split(".")[0] in {"torch", "torchvision"}}


@pytest.mark.parametrize("module", MODULES)
def test_click_is_never_imported(module):
    assert "click" not in {name.split(".")[0] for name in imported(module)}


def test_no_file_is_longer_than_600_lines():
    long = [str(path) for path in PACKAGE.rglob("*.py") if len(path.read_text(encoding="utf-8").splitlines()) > 600]
    assert long == []


def test_public_names_are_sorted_and_exist():
    assert imagegs.__all__ == sorted(imagegs.__all__)
    for name in imagegs.__all__:
        assert getattr(imagegs, name) is not None
        assert name in dir(imagegs)


def test_public_names_are_those_that_type_checkers_see():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert seen | {"__version__"} == set(imagegs.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        imagegs.nothing  # noqa: B018


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules that a command line loads, in a process of its own; it must leave with status 0."""
    script = (
        "import json, sys\n"
        "sys.argv = ['imagegs', *json.loads(sys.argv[1])]\n"
        "from imagegs.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('LOADED', json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    command = [sys.executable, "-c", script, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(json.loads(done.stdout.rpartition("LOADED ")[2]))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("encode", "--help"),
        ("decode", "--help"),
        ("info", "--help"),
        ("convert", "--help"),
        ("bench", "representation", "--help"),
        ("batch", "--app", "restore", "--help"),
    ],
)
def test_help_loads_nothing_heavy(arguments):
    assert not loaded_by(*arguments) & {"numpy", "PIL", "torch", "scipy", "matplotlib", "jinja2"}


def test_import_loads_nothing_heavy():
    script = "import sys, imagegs; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert not set(done.stdout.split()) & {"numpy", "PIL", "torch", "scipy", "matplotlib", "typer"}


HEAVY = {"torch", "scipy", "matplotlib", "jinja2", "torchvision", "skimage"}


def test_info_runs_without_torch(tmp_path, small_gaussians):
    imagegs.save(tmp_path / "small.gsimg", small_gaussians)
    assert not loaded_by("info", str(tmp_path / "small.gsimg")) & HEAVY


@pytest.mark.skipif(not native.available(), reason="without the compiled kernels torch draws")
def test_decode_runs_without_torch(tmp_path, small_gaussians):
    imagegs.save(tmp_path / "small.gsimg", small_gaussians)
    assert not loaded_by("decode", str(tmp_path / "small.gsimg"), "-o", str(tmp_path / "small.png")) & HEAVY
    assert (tmp_path / "small.png").stat().st_size > 0
