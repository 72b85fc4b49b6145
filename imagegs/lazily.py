"""Names of a package that load their modules on first use, so that importing the package costs nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def exports(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package has as ``__getattr__`` and ``__dir__`` (PEP 562).

    Args:
        package: its ``__name__``; it has an ``__all__``.
        homes: names by the module below it that has them.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{modules[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        found = vars(sys.modules[package])
        return sorted(set(found) | set(found["__all__"]))

    return load, listed
