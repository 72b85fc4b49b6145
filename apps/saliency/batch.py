"""What ``imagegs batch --app saliency`` makes of a picture: the file of ``imagegs saliency encode``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from imagegs import Picture, encode
from imagegs.batching import Made

from .guide import guidance_of
from .maps import FloatArray
from .sources import Sources, make_importance


def make(picture: Picture, data: bytes, settings: Mapping[str, Any]) -> Made:
    """Encode a picture as its importance asks.

    Args:
        picture: it.
        data: bytes of its file; not used.
        settings: see ``cli.batch_settings``.
    """
    importance = _importance(*settings["sources"].items())(picture)
    guidance = guidance_of(importance, settings["strength"], settings["floor"], settings["without"])
    return Made.of(encode(picture, guidance=guidance, **settings["encode"]))


@lru_cache(maxsize=1)
def _importance(*sources: tuple[str, Any]) -> Callable[[Picture], FloatArray]:
    """Models are loaded once in each process."""
    return make_importance(Sources(**dict(sources)))
