"""The instruction sets that the kernels can use on this machine."""

from __future__ import annotations

import os

from imagegs.kernels import native


def found() -> list[str]:
    """Their names; the choice stays what it was, for the tests of other files."""
    if not native.available():
        return []
    names = [name for name in ("avx512", "avx2", "baseline") if native._native.select_kernels(name)]
    native._native.select_kernels(os.environ.get("IMAGEGS_KERNELS") or "auto")
    return names
