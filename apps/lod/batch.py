"""What ``imagegs batch --app lod`` makes of a picture: the file of ``imagegs lod export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagegs import Picture
from imagegs.batching import Made
from imagegs.cli import arguments

from .exporting import export


def make(picture: Picture, data: bytes, settings: Mapping[str, Any]) -> Made:
    """Encode a picture in levels.

    Args:
        picture: it.
        data: bytes of its file; not used.
        settings: see ``cli.batch_settings``.
    """
    return Made.of(export(picture, first=arguments.read_map(settings["first"]), **settings["export"]))
