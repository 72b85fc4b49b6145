"""Tables in Markdown, and how figures are worded in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

EMPTY = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """A table in Markdown; so many of the columns, the first, are text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * texts + "---:|" * (len(head) - texts)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def mean(figure: Mapping[str, float] | None, form: str = ".2f") -> str:
    """The mean of what `clocks.spread` gave."""
    if figure is None:
        return EMPTY
    text = format(figure["mean"], form)
    return text if float(text.replace(",", "")) else format(0.0, form)  # never a rounded -0


def middle(figure: Mapping[str, float] | None) -> str:
    """Median of some times, and their quartiles where there are more than one."""
    if figure is None:
        return EMPTY
    shown = number(figure["median"])
    if figure["n"] < 2:
        return shown
    return f"{shown} ({number(figure['q1'])}–{number(figure['q3'])})"


def number(value: float) -> str:
    """Three digits, however large."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def in_seconds(milliseconds: Mapping[str, float] | None) -> dict[str, float] | None:
    """The same figure a thousandth as large."""
    if milliseconds is None:
        return None
    return {key: value if key == "n" else value / 1e3 for key, value in milliseconds.items()}
