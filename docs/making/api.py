"""The reference of the Python packages: a page for each, with what is public in it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARKER = "<!-- packages -->"
"""Stands in docs/api.md where the list of the pages goes."""


@dataclass(frozen=True)
class Package:
    """A package or module with public names.

    Attributes:
        name: as one imports it.
        source: its file, from the root of the tree.
        sources: its name by where its sources lie: apps stand beside the core and are installed below it.
    """

    name: str
    source: str
    sources: str

    @property
    def page(self) -> str:
        """Its page, from docs/."""
        return f"api/{self.name.rpartition('.')[2]}.md"

    def tree(self) -> ast.Module:
        """Its source, parsed."""
        return ast.parse((ROOT / self.source).read_text(encoding="utf-8"))

    def title(self) -> str:
        """First line of its docstring."""
        return (ast.get_docstring(self.tree()) or "").splitlines()[0]

    def names(self) -> list[str]:
        """What its ``__all__`` lists, or else its public classes and functions."""
        tree = self.tree()
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return [name for name in ast.literal_eval(node.value) if not name.startswith("_")]
        kinds = (ast.ClassDef, ast.FunctionDef)
        return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]

    def markdown(self) -> str:
        """Its page: the docstring, then every name, for mkdocstrings to fill in."""
        parts = [f"# {self.name}", ast.get_docstring(self.tree()) or ""]
        for name in self.names():
            options = [f"heading: {self.name}.{name}", f"toc_label: {name}"]
            parts.append("\n".join([f"::: {self.sources}.{name}", "    options:", *(f"      {o}" for o in options)]))
        return "\n\n".join(parts) + "\n"


def _app(name: str) -> Package:
    return Package(f"imagegs.apps.{name}", f"apps/{name}/__init__.py", f"apps.{name}")


PACKAGES = (
    Package("imagegs", "imagegs/__init__.py", "imagegs"),
    Package("imagegs.batching", "imagegs/batching/__init__.py", "imagegs.batching"),
    Package("imagegs.giant", "imagegs/giant/__init__.py", "imagegs.giant"),
    Package("imagegs.torch", "imagegs/torch.py", "imagegs.torch"),
    _app("saliency"),
    _app("restoration"),
    _app("lod"),
)


def overview() -> str:
    """A table of the pages."""
    rows = [f"| [`{package.name}`]({package.page}) | {package.title()} |" for package in PACKAGES]
    return "\n".join(["| | |", "|---|---|", *rows])
