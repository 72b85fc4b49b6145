"""Whether files of weights are what they should be."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ImageError, WeightsError
from ..files import atomic_write
from .manifest import File, Model, model
from .places import found
from .reading import check_readable, reason

Against = Literal["manifest", "record", "hub", "nothing"]

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Check:
    """What was found of one file.

    Attributes:
        file: its name.
        path: where it lies; None if it is absent.
        against: what its contents were compared with; ``record`` is the checksum noted at download where none is
            published, ``hub`` the one under which the hub's client files it.
        problem: what is wrong; empty if nothing is.
    """

    file: str
    path: Path | None
    against: Against
    problem: str = ""


def verify(name: str, folder: Path | None = None) -> list[Check]:
    """Compare the files of a model with their checksums.

    Args:
        name: the model.
        folder: of the weights; see `weights_folder`.

    Returns:
        One result per file. Where no checksum is known, the file is read as weights instead.

    Raises:
        ConfigError: there is no such model.
        DeviceError: a file needs safetensors, which is not installed.
    """
    entry = model(name)
    return [check(entry, part, found(entry, part, folder)) for part in entry.files]


def check(entry: Model, part: File, path: Path | None) -> Check:
    """Compare a file with the best checksum that there is for it."""
    if path is None:
        return Check(part.name, None, "nothing", "absent")
    against: Against = "nothing"
    try:
        against, digest, size = _expected(entry, part, path)
        if against == "nothing":
            check_readable(path)
            return Check(path.name, path, against)
        problem = difference(path, digest, size)
    except WeightsError as error:
        problem = str(error).removeprefix(f"{path}: ")
    except OSError as error:
        problem = f"cannot be read: {reason(error)}"
    return Check(path.name, path, against, problem)


def difference(path: Path, digest: str | None, size: int | None) -> str:
    """In what a file differs from its size, bytes, and its checksum; empty where it does not."""
    present = path.stat().st_size
    if size not in (None, present):
        return f"expected {size:,} bytes, found {present:,}"
    if digest is not None and (actual := _digest(path, digest)) != digest:
        return f"expected {'sha256' if len(digest) == 64 else 'git blob'} {digest}, found {actual}"
    return ""


def record(target: Path, contents: Path, url: str) -> None:
    """Note the checksum of a download beside the place that it is to have.

    Args:
        target: the file's place.
        contents: the file.
        url: where it was downloaded from.

    Raises:
        WeightsError: the note cannot be written.
    """
    note = {
        "url": url,
        "size": contents.stat().st_size,
        "sha256": _digest(contents, "0" * 64),
        "note": "recorded at download; the origin publishes no checksum",
    }
    try:
        atomic_write(_record_path(target), json.dumps(note, indent=2).encode() + b"\n")
    except ImageError as error:
        raise WeightsError(str(error)) from error


def _expected(entry: Model, part: File, path: Path) -> tuple[Against, str, int | None]:
    if part.sha256 is not None and path.name == part.name:
        return "manifest", part.sha256, part.size
    if entry.hub is not None:
        # the hub's client names what it stores by its checksum and links the file's name to it
        stored = path.resolve().name
        return ("hub", stored, None) if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stored) else ("nothing", "", None)
    recorded = _recorded(path)
    return ("record", *recorded) if recorded else ("nothing", "", None)


def _digest(path: Path, like: str) -> str:
    """The SHA-256 of a file, or, where 40 digits are wanted, git's name for its contents."""
    if len(like) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _recorded(path: Path) -> tuple[str, int] | None:
    note = _record_path(path)
    try:
        noted: Any = json.loads(note.read_text(encoding="utf-8"))
        digest, size = noted["sha256"], noted["size"]
        if not re.fullmatch("[0-9a-f]{64}", digest) or type(size) is not int:
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{note}: expected the checksum noted at download, found a damaged file; remove it"
        ) from error
    return digest, size
