"""Measured cells, one file each, so that a table goes on where it was stopped.

A file appears whole or not at all. A cell is found again by the table, the content of its picture, its settings and the
version of what was measured; whatever changes makes another cell, and old ones stay where they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..figures import json_text
from ..files import atomic_write


class Cells:
    """The cells of a folder, which is made if it is missing.

    Raises:
        ImageError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error

    def find(self, table: str, decides: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was measured, or None.

        Args:
            table: its name.
            decides: everything that a measurement depends on.
        """
        try:
            kept = json.loads(self._path(table, decides).read_text(encoding="utf-8"))
            found: dict[str, Any] = kept["found"]
        except (OSError, ValueError, KeyError, TypeError):  # absent, or no file of this kind
            return None
        return found if isinstance(found, dict) else None

    def keep(self, table: str, decides: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Write what was measured.

        Raises:
            ImageError: it cannot be written.
        """
        text = json_text({"table": table, **decides, "found": found})
        atomic_write(self._path(table, decides), f"{text}\n".encode())

    def _path(self, table: str, decides: Mapping[str, Any]) -> Path:
        key = json.dumps([table, decides], sort_keys=True, default=str)
        return self.folder / f"{table}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
