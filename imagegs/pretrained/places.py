"""Where weights lie on this machine; no server is asked."""

from __future__ import annotations

import importlib
import os
import shlex
from pathlib import Path
from typing import Literal

from ..errors import ConfigError, WeightsError
from .manifest import File, Model, model

ENVIRONMENT = "IMAGEGS_WEIGHTS"
"""Environment variable with the folder of the weights."""

State = Literal["present", "partial", "absent"]


def weights_folder(folder: Path | None = None) -> Path:
    """Where the weights lie: the argument, else ``IMAGEGS_WEIGHTS``, else the user's cache. It need not exist yet."""
    if is_chosen(folder):
        return Path(folder or os.environ[ENVIRONMENT]).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("imagegs") / "weights"


def is_chosen(folder: Path | None) -> bool:
    """Whether the user says where the weights lie."""
    return bool(folder or os.environ.get(ENVIRONMENT))


def file_of(name: str, file: str, folder: Path | None = None) -> Path:
    """One file of a model, or another that the manifest accepts in its place.

    Args:
        name: the model.
        file: the file's name in the manifest.
        folder: of the weights; see `weights_folder`.

    Raises:
        ConfigError: there is no such model, or it has no such file.
        WeightsError: the file is absent; the text names the command that fetches it.
    """
    entry = model(name)
    part = next((part for part in entry.files if file in (part.name, *part.alternatives)), None)
    if part is None:
        raise ConfigError(f"{name}: expected one of {', '.join(part.name for part in entry.files)}, found {file!r}")
    path = found(entry, part, folder)
    if path is None:
        where = str(weights_folder(folder)) + (" or the hub's cache" if entry.hub else "")
        option = f" --folder {shlex.quote(str(folder))}" if folder else ""
        raise WeightsError(
            f"{name}: expected {part.name} in {where}, found none; run: imagegs weights fetch {entry.name}{option}"
        )
    return path


def files_of(name: str, folder: Path | None = None) -> list[Path]:
    """All files of a model.

    Raises:
        ConfigError: there is no such model.
        WeightsError: a file is absent; the text names the command that fetches it.
    """
    return [file_of(name, part.name, folder) for part in model(name).files]


def state(name: str, folder: Path | None = None) -> State:
    """Whether the files of a model are all there, some or a part of one, or none; what is in them `verify` tells.

    Raises:
        ConfigError: there is no such model.
    """
    entry = model(name)
    paths = [found(entry, part, folder) for part in entry.files]
    if all(path is not None and _has_its_size(path, part) for path, part in zip(paths, entry.files, strict=True)):
        return "present"
    left = [path for part in entry.files for path in partials(weights_folder(folder), part.name)]
    begun = any(paths) or any(path.stat().st_size for path in left)
    return "partial" if begun else "absent"


def found(entry: Model, part: File, folder: Path | None) -> Path | None:
    """Where a file of a model lies, or its alternative; None if nowhere.

    A model of the hub may lie as plain files in a sub-folder of its name, or in the folder itself if that is given, or
    in the layout of the hub's cache, in the folder or where the hub's client keeps it.
    """
    base = weights_folder(folder)
    places = [base] if entry.hub is None else [base / entry.name, *([base] if folder else [])]
    for name in (part.name, *part.alternatives):
        for place in places:
            if (place / name).is_file():
                return place / name
    return None if entry.hub is None else _cached(entry.hub, part.name, base)


def temporary_of(base: Path, name: str) -> Path:
    """The hidden name under which a file is downloaded."""
    return base / f".new-{name}"


def partials(base: Path, name: str) -> list[Path]:
    """What interrupted downloads left, largest last: gdown adds eight characters and an ending to the hidden name."""
    left = base.glob(f"{temporary_of(base, name).name}????????.part") if base.is_dir() else ()
    return sorted(left, key=lambda path: path.stat().st_size)


def _has_its_size(path: Path, part: File) -> bool:
    return part.size is None or path.name != part.name or path.stat().st_size == part.size


def _cached(hub: str, file: str, base: Path) -> Path | None:
    try:
        client = importlib.import_module("huggingface_hub")
    except ImportError:
        return None
    for folder in (base, None):
        path = client.try_to_load_from_cache(hub, file, cache_dir=folder)
        if isinstance(path, str) and Path(path).is_file():
            return Path(path)
    return None
