"""The manifest: which models there are, what they consist of, where they come from and under which licence."""

from __future__ import annotations

import difflib
import importlib
import json
from dataclasses import dataclass
from importlib import resources

from ..errors import ConfigError


@dataclass(frozen=True)
class File:
    """One file of a model.

    Attributes:
        name: its name, under which it lies in the folder.
        url: where it is downloaded from; None for a file of the hub.
        size: bytes, where they are known exactly.
        about_bytes: bytes, roughly, for people.
        sha256: of the contents, hexadecimal, where it is known.
        alternatives: names of other files that hold the same.
    """

    name: str
    url: str | None = None
    size: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """An entry of the manifest.

    Attributes:
        name: what commands call it.
        purpose: which option uses it.
        license: name of the licence; None where the origin states none.
        note: what a user must know before using it; may be empty.
        origin: page that publishes it.
        source: the paper; may be empty.
        hub: repository of the hub; None where the files are downloaded one by one.
        files: what it consists of.
    """

    name: str
    purpose: str
    license: str | None
    note: str
    origin: str
    source: str
    hub: str | None
    files: tuple[File, ...]

    @property
    def size(self) -> int | None:
        """Bytes of all files together; None where one is not known even roughly."""
        sizes = [file.size or file.about_bytes for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def size_is_exact(self) -> bool:
        """Whether `size` is known to the byte."""
        return all(file.size is not None for file in self.files)


def models() -> tuple[Model, ...]:
    """All models of the manifest."""
    return tuple(
        Model(
            name=entry["name"],
            purpose=entry["purpose"],
            license=entry["license"],
            note=entry["note"] or "",
            origin=entry["origin"],
            source=entry["source"],
            hub=entry["hub"],
            files=tuple(
                File(**{**file, "alternatives": tuple(file.get("alternatives", ()))}) for file in entry["files"]
            ),
        )
        for entry in json.loads(_text())["models"]
    )


def model(name: str) -> Model:
    """The model of a name: one of the manifest, else any that timm publishes on the hub.

    Raises:
        ConfigError: there is none.
    """
    known = {entry.name: entry for entry in models()}
    found = known.get(name) or _model_of_timm(name)
    if found is None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"weights: expected a name that 'imagegs weights list' shows, found {name!r}{hint}")
    return found


def _text() -> str:
    return (resources.files("imagegs.weights") / "manifest.json").read_text(encoding="utf-8")


def _model_of_timm(name: str) -> Model | None:
    """A transformer that the manifest does not list but timm knows, with the licence that timm states."""
    # no import of timm, which loads torch, for a mere typing error
    if not name.startswith("vit_") or not set("/:").isdisjoint(name):
        return None
    try:
        timm = importlib.import_module("timm")
        settings = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except (ImportError, RuntimeError):  # timm raises the second for a tag that it does not know
        return None
    hub = getattr(settings, "hf_hub_id", None) or ""
    if not hub.startswith("timm/"):
        return None
    return Model(
        name=hub.removeprefix("timm/"),
        purpose="saliency --model vit",
        license=getattr(settings, "license", None),
        note="",
        origin=f"https://huggingface.co/{hub}",
        source="",
        hub=hub,
        files=(File("model.safetensors"),),
    )
