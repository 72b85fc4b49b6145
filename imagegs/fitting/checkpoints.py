"""The state of an interrupted fit in a file: NumPy arrays and JSON, nothing that runs when it is read."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codec.quantization import BitWidths, Grid
from ..errors import ConfigError
from ..files import atomic_write
from .config import FitConfig
from .initialization import Gaussians

if TYPE_CHECKING:
    from .loop import State

VERSION = 1


class OtherFit(ConfigError):
    """A checkpoint of the same picture, but of a fit with other settings."""


_NUMBERS = ("step", "at", "halved", "seconds", "started_with", "best_loss", "held", "history", "added_at")


_GRID = ("position", "scale", "color")


def fingerprint(config: FitConfig, *arrays: Any) -> str:
    """What makes a fit this fit: its settings, a colon, and its pictures."""
    settings = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    pictures = hashlib.sha256()
    for array in arrays:
        pictures.update(str(None if array is None else array.shape).encode())
        if array is not None:
            pictures.update(np.ascontiguousarray(array).data)
    return f"{settings.hexdigest()}:{pictures.hexdigest()}"


def write(path: Path, identity: str, state: State) -> None:
    """Writes the state, atomically.

    Raises:
        ImageError: the file cannot be written.
    """
    arrays = {f"model.{i}": array for i, array in enumerate(state.model.arrays())}
    if state.best is not None:
        arrays |= {f"best.{i}": array for i, array in enumerate(state.best.arrays())}
    arrays |= {f"moments.{name}": array for name, array in state.optimizer.moments.items()}
    if state.grid is not None:
        arrays |= {f"grid.{name}": getattr(state.grid, name) for name in _GRID}
    values = {name: getattr(state, name) for name in _NUMBERS}
    record = {
        "version": VERSION,
        "fingerprint": identity,
        "rng": state.rng.bit_generator.state,
        "plateau": asdict(state.plateau),
        "bits": None if state.grid is None else asdict(state.grid.bits),
        "values": values,
    }
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    np.savez(buffer, **arrays, record=text)  # type: ignore[arg-type]
    atomic_write(path, buffer.getvalue())


def read(path: Path, identity: str, state: State) -> State:
    """Fills an empty state from a file.

    Raises:
        OtherFit: it is of other settings.
        ConfigError: the file is missing, is no checkpoint, or is one of another picture.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        record = json.loads(arrays.pop("record").tobytes())
        if record["version"] != VERSION:
            raise ConfigError(f"{path}: expected a checkpoint of version {VERSION}, found {record['version']}")
        if record["fingerprint"] != identity:
            same = str(record["fingerprint"]).rpartition(":")[2] == identity.rpartition(":")[2]
            raise (OtherFit if same else ConfigError)(
                f"{path}: expected a checkpoint of this picture and these settings, found one of another fit"
            )
        state.model = Gaussians(*(arrays[f"model.{i}"] for i in range(4)))
        if "best.0" in arrays:
            state.best = Gaussians(*(arrays[f"best.{i}"] for i in range(4)))
        if record["bits"] is not None:
            state.grid = Grid(BitWidths(**record["bits"]), *(arrays[f"grid.{name}"] for name in _GRID))
        state.optimizer.moments = {name: arrays[f"moments.{name}"] for name in state.optimizer.moments}
        state.rng.bit_generator.state = record["rng"]
        for name, value in record["plateau"].items():
            setattr(state.plateau, name, value)
        for name in _NUMBERS:
            setattr(state, name, record["values"][name])
        state.held = tuple(state.held)  # type: ignore[assignment]
        state.history = [tuple(row) for row in state.history]  # type: ignore[misc]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: expected a checkpoint, found no file") from error
    except ConfigError:
        raise
    except Exception as error:  # what damaged archives raise has no common base
        raise ConfigError(f"{path}: expected a checkpoint of a fit, found something else") from error
    return state
