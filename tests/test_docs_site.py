"""The documentation site: all is in it, its links lead somewhere, its commands and messages are the program's."""

from __future__ import annotations

import ast
import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from imagegs.cli import app
from imagegs.kernels import native

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "making"))
import api  # noqa: E402
import commands  # noqa: E402
import links  # noqa: E402

sys.path.remove(str(DOCS / "making"))

PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "README.md"]
NEW = ("index", "quickstart", "concepts", "coming-from", "troubleshooting", "commands", "api", "architecture")
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))


def text_of(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL)


def command_lines(name: str) -> list[str]:
    return [line.removeprefix("$ ") for block in blocks(name, "console") for line in block.splitlines()]


def parsed(path: Path) -> Any:
    return pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))


def nav_files(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for below in entry.values() if isinstance(entry, dict) else entry:
            yield from nav_files(below)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def slugs(markdown: str) -> set[str]:
    """Addresses of headings as GitHub makes them."""
    plain = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", plain, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_navigation_names_every_page():
    named = list(nav_files(parsed(ROOT / "mkdocs.yml")["nav"]))
    assert len(named) == len(set(named))
    made = {package.page for package in api.PACKAGES}
    there = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert {name for name in named if not name.startswith("tree/")} == there | made
    for name in named:
        if name.startswith("tree/"):
            assert (ROOT / name.removeprefix("tree/")).is_file()


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in links.targets(text):
        assert (path.parent / target).exists(), target
    for target, heading in re.findall(r"\]\(((?!https?:)[^)#\s]*)#([^)\s]+)\)", text):
        other = path.parent / target if target else path
        assert heading in slugs(other.read_text(encoding="utf-8")), f"{target}#{heading}"


@pytest.mark.parametrize("path", [path for path in TEXTS if path.name != "README.md"], ids=shown)
def test_links_of_the_site_are_those_of_the_tree(path):
    name = shown(path)
    here = Path(links.place(name)).parent
    before = [
        target for target in links.targets(path.read_text(encoding="utf-8")) if not (path.parent / target).is_dir()
    ]
    after = links.targets(links.relink(path.read_text(encoding="utf-8"), name))
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        meant = (path.parent / old).resolve().relative_to(ROOT).as_posix()
        assert (ROOT / here / new).resolve() == (ROOT / links.place(meant)).resolve()


def test_links_in_code_stay():
    text = "[a](../weights/README.md)\n\n```python\nx = f[a](../weights/README.md)\n```\n"
    changed = links.relink(text, "docs/saliency.md")
    assert changed == text.replace("[a](../weights", "[a](tree/weights", 1)


COMMANDS = list(commands.walk(typer.main.get_command(app)))


def test_the_reference_has_every_command():
    reference = commands.reference()
    headings = re.findall(r"^#+ `(.+)`$", reference, re.MULTILINE)
    assert headings == [" ".join(words) for words, _ in COMMANDS]
    assert {"encode", "batch", "giant", "lod", "restore", "saliency", "weights"} <= {
        heading.split()[-1] for heading in headings
    }
    assert commands.MARKER in text_of("commands")


@pytest.mark.parametrize(
    ("words", "command"), COMMANDS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_the_reference_has_every_option(words, command):
    section = commands.reference().split(f" `{' '.join(words)}`\n", 1)[1].split("\n##", 1)[0]
    cells = [html.unescape(cell) for cell in re.findall(r"^\| <code>(.*?)</code> \|", section, re.MULTILINE)]
    given = [parameter for parameter in command.params if "--help" not in parameter.opts]
    assert len(cells) == len(given)
    for parameter in given:
        if parameter.param_type_name == "option":
            words_of = {word.strip(",") for cell in cells for word in cell.split()}
            assert {*parameter.opts, *parameter.secondary_opts} <= words_of, parameter.name
    assert " ".join((command.help or "").split()[:3]) in section


def test_rows_of_the_reference_have_two_columns():
    for line in commands.reference().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3, line


@pytest.mark.parametrize("package", api.PACKAGES, ids=lambda package: package.name)
def test_the_reference_has_every_public_name(package):
    module = __import__(package.name, fromlist=["names"])
    public = getattr(module, "__all__", None)
    if public is None:
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == package.name]
        public = [
            name for name in own if not name.startswith("_") and isinstance(getattr(module, name), type | type(shown))
        ]
    assert set(package.names()) == set(public) - {"__version__"}
    page = package.markdown()
    for name in package.names():
        assert f"::: {package.sources}.{name}\n" in page
    assert f"]({package.page})" in api.overview()
    assert api.MARKER in text_of("api")


LINES = [(name, line) for name in NEW for line in command_lines(name)]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_the_command_lines_parse(name, line):
    assert line.startswith("imagegs "), name
    first, *arguments = shlex.split(line)[1:]
    command = typer.main.get_command(app).commands[first]
    if arguments and arguments[0] in getattr(command, "commands", {}):
        first, *arguments = arguments
        command = command.commands[first]
    with command.make_context(first, arguments) as context:
        assert context.params["output" if "output" in context.params else "json"] is not None


@pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
def test_the_quick_start_runs(photo, monkeypatch, capsys):
    monkeypatch.chdir(photo.parent)
    assert len(command_lines("quickstart")) > 10
    for line in command_lines("quickstart"):
        quick = ["-e", "1"] if " encode " in line else []
        done = CliRunner().invoke(app, [*shlex.split(line)[1:], *quick])
        assert done.exit_code == 0, (line, done.output, done.exception)
    for name in ("quickstart", "coming-from"):
        (source,) = blocks(name, "python")
        exec(compile(source, f"docs/{name}.md", "exec"), {})
    assert {path.name for path in photo.parent.iterdir()} >= {
        "back.png",
        "large.png",
        "coarse.png",
        "twice.png",
        "report",
    }


def test_flags_named_as_ours_are_ours():
    ours = {
        option
        for _, command in COMMANDS
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for row in re.findall(r"^\| `-.*$", text_of("coming-from"), re.MULTILINE):
        here = row.split("|")[2]
        for flag in re.findall(r"`(--?[a-z][\w-]*)", here):
            assert flag in ours, row
    for flag in re.findall(r"`(--[a-z][\w-]*)", text_of("troubleshooting") + text_of("quickstart")):
        assert flag in ours, flag


def messages() -> list[re.Pattern[str]]:
    """What the program says, as patterns: every text of its sources that is not mere form, its values left open.

    A long one may be a part of what is said.
    """
    found = []
    for folder in ("imagegs", "apps"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                parts: list[Any] = node.values if isinstance(node, ast.JoinedStr) else [node]
                values = [part.value if isinstance(part, ast.Constant) else None for part in parts]
                texts = [value if isinstance(value, str) else None for value in values]
                own = re.sub(r"expected|found|\W", "", "".join(text or "" for text in texts))
                if len(own) >= 8:
                    pattern = "".join(".*" if text is None else re.escape(text) for text in texts)
                    found.append(re.compile(f".*{pattern}.*" if len(own) >= 25 else pattern))
    return found


def test_messages_in_troubleshooting_are_those_of_the_program():
    known = messages()
    quoted = [line for block in blocks("troubleshooting", "output") for line in block.splitlines()]
    assert len(quoted) > 20
    for line in quoted:
        said = line.removeprefix("imagegs: ").removeprefix("warning: ")
        assert line.startswith("imagegs: "), line
        tails = [said, *(said.partition(": ")[2:]), said.split(": ", 2)[-1]]
        assert any(pattern.fullmatch(tail) for tail in tails for pattern in known), line


def test_the_architecture_has_the_order_of_the_tests():
    tree = ast.parse((ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8"))
    (order,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    )
    rows = [", ".join(row) for row in ast.literal_eval(order)]
    assert blocks("architecture", "text")[1].splitlines() == rows


def test_the_architecture_names_what_is_there():
    text = text_of("architecture")
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert (ROOT / "tests" / name).is_file(), name
    for name in re.findall(r"`((?:imagegs|apps|tests|docs|weights|benchmarks)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["gradient", "start", "growth", "result", "large"])
def test_pictures_of_the_stages_are_small(name):
    path = DOCS / "images" / f"stage-{name}.jpg"
    assert path.read_bytes().startswith(b"\xff\xd8")
    assert path.stat().st_size < 150_000
    assert f"images/{path.name}" in text_of("concepts")


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / ".pre-commit-config.yaml", ROOT / "mkdocs.yml"], ids=shown)
def test_settings_parse_and_name_no_machine(path):
    assert parsed(path)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|(?<![\w.{/])/(?:home|root|work|tmp|usr)\b", text)


def test_the_workflow_covers_what_is_promised():
    jobs = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert any("cibuildwheel" in step.get("run", "") for step in jobs["wheels"]["steps"])
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for job in jobs.values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
            for target in re.findall(r"^make (\S+)", step.get("run", "")):
                assert target in targets


def test_hooks_run_what_lint_runs():
    (repository,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    recipe = re.search(r"^lint:.*?\n\n", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ran = {
        line.split("$(BIN)/")[1].split(" $(")[0].removesuffix(" .")
        for line in recipe[0].splitlines()[1:]
        if line.strip()
    }
    hooks = {
        hook["entry"].removeprefix(".venv/bin/").replace(" --output-format concise", "") for hook in repository["hooks"]
    }
    assert hooks == ran


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        ROOT / "mkdocs.yml",
        "--site-dir",
        tmp_path,
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, capture_output=True, text=True, cwd=tmp_path, check=False, env=quiet)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")
    }
    assert "imagegs lod export" in pages["commands.html"]
    assert commands.MARKER not in pages["commands.html"]
    assert "gaussians" in pages["api/imagegs.html"]
    assert 'id="apps.lod.export"' in pages["api/lod.html"]
    for name, page in pages.items():
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*>", page):
            assert not re.search(r"""(?:src|href|data)=["']?(?:https?:)?//""", tag), (name, tag)
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name
