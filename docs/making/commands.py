"""The command reference: the help of every command, as Markdown, from the program itself."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import typer.main

from imagegs.cli import app
from imagegs.cli.help import OTHERS

MARKER = "<!-- commands -->"
"""Stands in docs/commands.md where the reference goes."""


def walk(command: Any, words: tuple[str, ...] = ("imagegs",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of commands with the words that call it, in the order of the help."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from walk(below, (*words, name))


def reference() -> str:
    """All commands, one section each."""
    return "\n".join(_section(words, command) for words, command in walk(typer.main.get_command(app)))


def _section(words: tuple[str, ...], command: Any) -> str:
    is_group = hasattr(command, "commands")
    context = command.context_class(command, info_name=" ".join(words))
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    lines = [f"{'##' if is_group else '###'} `{' '.join(words)}`", "", *_paragraphs(command.help), ""]
    lines += ["```text", usage, "```", ""]
    for group, records in _groups(command, context).items():
        lines += [f"| {group} | |", "|---|---|"]
        lines += [f"| {_code(name)} | {_cell(text)} |" for name, text in records]
        lines += [""]
    return "\n".join(lines)


def _groups(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """The help's two columns by group, as the help page has them; ``--help`` is left out."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            is_argument = parameter.param_type_name == "argument"
            group = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OTHERS
            groups.setdefault(group, []).append(record)
    return dict(sorted(groups.items(), key=lambda group: group[0] == OTHERS))


def _paragraphs(text: str | None) -> list[str]:
    return [_escaped(line) for line in (text or "").replace("\f", "").strip().splitlines()]


def _code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def _cell(text: str) -> str:
    return " ".join(_escaped(text).replace("|", "\\|").split())


def _escaped(text: str) -> str:
    return "".join(f"\\{mark}" if mark in "*_[]`" else mark for mark in text).replace("<", "&lt;")
