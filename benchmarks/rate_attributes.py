"""Bits per Gaussian by attribute, by step of the entropy coder: a table {step: {attribute: bits per Gaussian}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rate_points import Ours, Source
from rate_store import Store

from imagegs.bench.attribute_bits import Steps, steps_of


def per_gaussian(files: Sequence[tuple[int, Steps]]) -> dict[str, dict[str, float]]:
    """The mean over all Gaussians of all files, with the sum of each step under ``total``.

    Args:
        files: of each file, its number of Gaussians and its bits.
    """
    count = sum(number for number, _ in files)
    table: dict[str, dict[str, float]] = {}
    for _, steps in files:
        for step, bits in steps.items():
            row = table.setdefault(step, {})
            for name, value in bits.items():
                row[name] = row.get(name, 0.0) + value / count
    return {
        step: {name: round(value, 3) for name, value in row.items()} | {"total": round(sum(row.values()), 3)}
        for step, row in table.items()
    }


def attributes(ours: Ours, sets: Mapping[str, Sequence[Source]], rate: float, store: Store) -> dict[str, Any]:
    """The table of each set, over the files of ours at one rate that are kept."""
    found: dict[str, Any] = {}
    for name, sources in sets.items():
        files = []
        for source in sources:
            point = ours.kept(source, rate, store)
            if point is not None:
                files.append((point.extra["gaussians"], steps_of((store.files / point.extra["file"]).read_bytes())))
        if files:
            found[name] = {"pictures": len(files), "steps": per_gaussian(files)}
    return {"effort": ours.effort, "rate": rate, "sets": found}
