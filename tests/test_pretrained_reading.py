"""Weights are read without running anything, and what is no file of weights is refused in words."""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from weights_samples import TENSORS, as_safetensors, same, saved, written

from imagegs import DeviceError, WeightsError, pretrained


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def as_npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


KINDS: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], bytes]]] = {
    "zip": ("w.pth", saved),
    "old": ("w.pth", lambda tensors: saved(tensors, zipped=False)),
    "safetensors": ("w.safetensors", as_safetensors),
    "npz": ("w.npz", lambda tensors: as_npz(**{name: value.numpy() for name, value in tensors.items()})),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_its_tensors(tmp_path, kind):
    name, write = KINDS[kind]
    found = pretrained.load_state_dict(written(tmp_path / name, write(TENSORS)))
    assert same(found, TENSORS)


def test_a_dictionary_within_the_dictionary_stays(tmp_path):
    path = written(tmp_path / "w.pth", saved({"state_dict": TENSORS, "epoch": 3, "arch": "resnet50"}))
    found = pretrained.load_state_dict(path)
    assert (found["epoch"], found["arch"]) == (3, "resnet50")
    assert same(found["state_dict"], TENSORS)


def test_text_of_an_npz_is_left_out_and_byte_order_does_not_matter(tmp_path):
    data = as_npz(a=np.arange(3, dtype=">f4"), layers=np.array("[]"))
    found = pretrained.load_state_dict(written(tmp_path / "w.npz", data))
    assert same(found, {"a": torch.arange(3.0)})


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.pth", saved),
        ("w.pth", lambda attack: saved(attack, zipped=False)),
        ("w.pth", lambda attack: saved({"state_dict": TENSORS, "extra": [attack]})),
        ("w.pth", pickle.dumps),
        ("w.bin", lambda attack: pickle.dumps({"a": attack}, protocol=2)),
        ("w.npz", lambda attack: as_npz(a=np.array([attack], dtype=object))),
    ],
    ids=["zip", "old", "nested", "pickle", "pickle 2", "npz"],
)
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, name, wrap):
    victim = tmp_path / "victim"
    path = written(tmp_path / name, wrap(Attack(victim)))
    with pytest.raises(WeightsError, match=r"expected tensors and plain values alone, found .*nothing of it was run$"):
        pretrained.load_state_dict(path)
    assert not victim.exists()
    if name != "w.npz":
        with open(path, "rb") as file, zipfile.ZipFile(file) if zipfile.is_zipfile(path) else file as opened:
            inner = opened.read("archive/data.pkl") if isinstance(opened, zipfile.ZipFile) else opened.read()
        assert b"open" in inner, "the test must be about a file that calls open"


def test_the_refusal_names_what_would_have_been_called(tmp_path):
    path = written(tmp_path / "w.pth", pickle.dumps(os.system, protocol=2))
    with pytest.raises(WeightsError, match=r"found (posix|nt|os)\.system, which could run code"):
        pretrained.load_state_dict(path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cut_of_a_file_is_taken_for_weights(tmp_path, kind):
    name, write = KINDS[kind]
    whole = write(TENSORS)
    for length in sorted({0, 1, 2, 7, 8, 9, 64, 300, len(whole) // 2, len(whole) - 1}):
        with pytest.raises(
            WeightsError, match=r"w\.\w+: expected (a file of weights|tensors and plain values alone), found "
        ):
            pretrained.load_state_dict(written(tmp_path / name, whole[:length]))


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("w.pth", b"", "found an empty one"),
        ("w.pth", b"\n<!DOCTYPE html><html>sign in</html>", "found a web page"),
        ("w.safetensors", b"<html></html>", "found a web page"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\n", "found a pointer of Git LFS"),
        ("w.pth", b"these are no weights at all", "found a damaged one or another kind"),
        ("w.npz", b"these are no weights at all", "found a damaged one or another kind"),
        ("w.safetensors", b"\xff" * 64, "found a damaged one or another kind"),
        ("w.safetensors", b"\x08" + bytes(7) + b"no json!", "found a damaged one or another kind"),
        ("w.pth", saved(torch.zeros(3)), "expected a dictionary of tensors by name, found Tensor"),
        ("w.pth", saved({3: torch.zeros(3)}), "expected a dictionary of tensors by name, found dict"),
    ],
)
def test_what_is_no_file_of_weights_is_named(tmp_path, name, data, text):
    path = written(tmp_path / name, data)
    with pytest.raises(WeightsError, match=text) as failed:
        pretrained.load_state_dict(path)
    assert str(failed.value).startswith(f"{path}: ")
    assert "\n" not in str(failed.value)


def test_damaged_bytes_of_a_safetensors_header_are_refused(tmp_path):
    whole = bytearray(as_safetensors(TENSORS))
    whole[20] ^= 0xFF
    with pytest.raises(WeightsError, match="found a damaged one"):
        pretrained.load_state_dict(written(tmp_path / "w.safetensors", bytes(whole)))


def test_archives_that_inflate_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(1 << 23))
    with pytest.raises(WeightsError, match="expected arrays of up to 100 times the file"):
        pretrained.load_state_dict(written(tmp_path / "w.npz", buffer.getvalue()))
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(WeightsError, match="found a compressed archive"):
        pretrained.load_state_dict(tmp_path / "w.pth")


def test_wrong_paths(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be read: no such file"):
        pretrained.load_state_dict(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="found a folder"):
        pretrained.load_state_dict(tmp_path)


def test_an_absent_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    path = written(tmp_path / "w.safetensors", b"x")
    with pytest.raises(
        DeviceError, match=r"expected safetensors, which is not installed; pip install 'imagegs\[saliency\]'"
    ):
        pretrained.load_state_dict(path)
