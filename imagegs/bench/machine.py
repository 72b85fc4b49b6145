"""What a figure was measured on and with."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = (
    "imagegs",
    "numpy",
    "scipy",
    "torch",
    "pillow",
    "pytorch-msssim",
    "bjontegaard",
    "pillow-jxl-plugin",
    "astc-encoder-py",
    "etcpak",
    "texture2ddecoder",
    "scikit-image",
    "PyWavelets",
    "gsplat",
)

NOT_MEASURED = ("cli", "viewer")
"""Parts of the package that no table goes through."""
NOT_IN_BYTES = ("bench", "cli", "figures.py", "gallery.py", "metrics.py", "plots.py", "report.py", "viewer")
"""Parts of the package that decide nothing about the bytes that ours writes."""


def record() -> dict[str, Any]:
    """Machine, kernels, commit and versions, for the head of a result."""
    from ..kernels import native

    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "kernels": native.instruction_set(),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def identity(home: Path) -> str:
    """What decides a measurement besides its settings: the sources of the package and the processor.

    Args:
        home: folder of the sources that measure, which count too where they are not the package's.
    """
    digests = " ".join([_sources(PACKAGE, NOT_MEASURED), *([] if PACKAGE in home.parents else [_sources(home, ())])])
    return f"{_versions().get('imagegs', 'unknown')} {digests} on {processor()}"


def sources_digest(root: Path, without: Sequence[str] = NOT_IN_BYTES) -> str:
    """A digest of sources, 12 digits; as it stands, of those of the package that decide the bytes that ours writes.

    Args:
        root: their folder.
        without: files and folders of it that do not count.
    """
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.suffix in (".py", ".cpp", ".h", ".cu") and name.parts[0] not in without:
            found.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def commit() -> str | None:
    """The commit of the package's sources, and whether they differ from it; None where they are in no repository."""
    # an environment may lie in a repository that it is no part of
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    found = _git("rev-parse", "--short", "HEAD")
    return None if found is None else found + ("+changes" if _git("status", "--porcelain", ".") else "")


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@lru_cache(maxsize=8)
def _sources(root: Path, without: tuple[str, ...]) -> str:
    return sources_digest(root, without)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()
