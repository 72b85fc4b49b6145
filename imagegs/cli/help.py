"""Help pages whose options stand in groups: the ``rich_help_panel`` of each names its group, without Rich's boxes."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

OTHERS = "Options"


class GroupedCommand(TyperCommand):
    """A command with its options by group, in the order in which the groups first come up."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group of options, then those without a group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            is_argument = parameter.param_type_name == "argument"
            group = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OTHERS
            groups.setdefault(group, []).append(record)
        for group in sorted(groups, key=lambda name: name == OTHERS):
            with formatter.section(group):
                formatter.write_dl(groups[group])


def make_group(name: str, help: str) -> typer.Typer:
    """A group of commands, with plain help pages and tracebacks, and nothing added to a shell."""
    return typer.Typer(
        name=name,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
