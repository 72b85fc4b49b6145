"""Small weights, and files of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

TENSORS = {"layer.weight": torch.arange(6000.0).reshape(60, 100), "layer.steps": torch.tensor(7)}


def saved(value: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def same(found: dict[str, Any], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def as_safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    data: bytes = pytest.importorskip("safetensors.torch").save(tensors)
    return data
