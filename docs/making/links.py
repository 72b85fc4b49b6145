"""Links that lead out of docs/ into the tree: their targets become files of the site, and the links follow."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS, MAKING = "docs/", "docs/making/"
SHOWN = {".cpp": "cpp", ".h": "cpp", ".js": "js", ".py": "python", ".toml": "toml", ".yml": "yaml"}
"""Sources that get a page of their own, and the language of it."""
ALONE = {"LICENSE", "Makefile"}
"""Sources without an ending that do."""

_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_ADDRESS = re.compile(r"[a-z][a-z+.-]*:")


def targets(markdown: str) -> list[str]:
    """Where the links and pictures of a text lead, addresses and its own headings left out."""
    plain = "".join(_FENCE.split(markdown)[::2])
    found = [match[3].partition("#")[0] for match in _LINK.finditer(plain) if not _ADDRESS.match(match[3])]
    found += [target for target in re.findall(r'<img[^>]* src="([^"]+)"', plain) if not _ADDRESS.match(target)]
    return [target for target in found if target]


def in_docs(path: str) -> bool:
    """Whether mkdocs finds a file of the tree by itself."""
    return path.startswith(DOCS) and not path.startswith(MAKING)


def place(path: str) -> str:
    """Where a file of the tree stands in the site, from its root; the path is from the root of the tree."""
    if in_docs(path):
        return path.removeprefix(DOCS)
    ending = posixpath.splitext(path)[1]
    return f"tree/{path}.md" if ending in SHOWN or posixpath.basename(path) in ALONE else f"tree/{path}"


def relink(markdown: str, path: str) -> str:
    """The text of a file with its links as they are in the site.

    Args:
        markdown: the text.
        path: of its file, from the root of the tree. A link to a folder becomes plain text.
    """
    here = posixpath.dirname(place(path))

    def changed(match: re.Match[str]) -> str:
        mark, text, link = match.groups()
        target, hash_, heading = link.partition("#")
        if _ADDRESS.match(link) or not target:
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if (ROOT / found).is_dir():
            return text
        return f"{mark}[{text}]({posixpath.relpath(place(found), here or '.')}{hash_}{heading})"

    return _outside_code(markdown, lambda plain: _LINK.sub(changed, plain))


def outside(pages: Iterable[str]) -> set[str]:
    """Files of the tree beside docs/ that these pages, and pages that they lead to, link to.

    Args:
        pages: Markdown files, from the root of the tree.
    """
    found: set[str] = set()
    waiting = list(pages)
    while waiting:
        path = waiting.pop()
        for target in targets((ROOT / path).read_text(encoding="utf-8")):
            link = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if link not in found and not in_docs(link) and (ROOT / link).is_file():
                found.add(link)
                waiting += [link] if link.endswith(".md") else []
    return found


def page_of(path: str) -> str | None:
    """A file of the tree as a page; None if it stays a file."""
    if path.endswith(".md"):
        return relink((ROOT / path).read_text(encoding="utf-8"), path)
    if not place(path).endswith(".md"):
        return None
    source = (ROOT / path).read_text(encoding="utf-8")
    language = SHOWN.get(posixpath.splitext(path)[1], "text")
    head = "---\nsearch:\n  exclude: true\n---\n\n"
    return f"{head}# {posixpath.basename(path)}\n\n`{path}`\n\n````{language}\n{source}````\n"


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts = _FENCE.split(markdown)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))
