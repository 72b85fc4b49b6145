"""What ``imagegs batch --app restore`` makes of a picture: the files of ``imagegs restore TASK``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagegs import Picture
from imagegs.batching import Made
from imagegs.cli import arguments
from imagegs.image import image_bytes

from .tasks import compress, operator_of, perform


def make(picture: Picture, data: bytes, settings: Mapping[str, Any]) -> Made:
    """Restore a picture.

    Args:
        picture: it.
        data: bytes of its file.
        settings: see ``cli.batch_settings``.
    """
    importance, missing = arguments.read_map(settings["importance"]), arguments.read_map(settings["mask"])
    operator = operator_of(picture, data, settings)
    found = perform(picture, operator, None if missing is None else missing < 0.5, settings, importance).picture
    ending = f".{settings['ending']}"
    content = image_bytes(f"{picture.source}{ending}", found.pixels, found.info)
    if not settings["compressed"]:
        return Made(content, found.width, found.height)
    encoded = compress(found, settings, importance)
    return Made(encoded.data, found.width, found.height, encoded.psnr, (ending, content))
