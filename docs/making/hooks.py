"""What mkdocs asks while it builds the site: pages that are made, and texts that differ from what GitHub shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import api
import commands
import links
from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

TITLES = {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
"""Pages of the tree's root that the navigation names."""


def on_config(config: Any) -> Any:
    """Headings get the addresses that they have on GitHub."""
    config["mdx_configs"]["toc"] = {**config["mdx_configs"].get("toc", {}), "slugify": slugify(case="lower")}
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Pages of the Python packages, and what the pages link to in the tree."""
    for package in api.PACKAGES:
        files.append(File.generated(config, package.page, content=package.markdown()))
    pages = [f"{links.DOCS}{file.src_uri}" for file in files.documentation_pages() if not file.generated_by]
    for path in sorted(links.outside([*pages, *TITLES]) | TITLES):
        content: Any = links.page_of(path)
        content = (links.ROOT / path).read_bytes() if content is None else content
        files.append(File.generated(config, links.place(path), content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """The references in their places, links as the site has them, tables inside of what is folded."""
    if not page.file.generated_by:
        markdown = links.relink(markdown, f"{links.DOCS}{page.file.src_uri}")
    if Path(page.file.src_uri).name == "commands.md":
        markdown = markdown.replace(commands.MARKER, commands.reference())
    if page.file.src_uri == "api.md":
        markdown = markdown.replace(api.MARKER, api.overview())
    return markdown.replace("<details>", '<details markdown="1">')
