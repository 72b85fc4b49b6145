"""``encode`` with a picture's meaning: one call from a picture to a file whose bits lie where they matter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from imagegs import Encoded, as_picture
from imagegs import encode as encode_plain

from .guide import DEFAULT_STRENGTH, FLOOR, guidance_of
from .maps import FloatArray
from .regions import check_mask
from .sources import Sources, make_importance


def importance(image: Any, sources: Sources | None = None, **options: Any) -> FloatArray:
    """Where a picture matters.

    Args:
        image: a path, a Pillow image, a ``Picture``, or floats in [0, 1] of shape [C, H, W] or [H, W].
        sources: of importance; by default the built-in model.
        **options: attributes of ``Sources`` instead.

    Returns:
        [H, W] in [0, 1].

    Raises:
        ImageGSError: the picture cannot be read, or a source fails.
    """
    return make_importance(sources or Sources(**options))(as_picture(image))


def encode(
    image: Any,
    importance: npt.ArrayLike | Sources | None = None,
    *,
    strength: float = DEFAULT_STRENGTH,
    floor: float = FLOOR,
    without: Collection[str] = (),
    **options: Any,
) -> Encoded:
    """Encode a picture so that bits follow what matters; the map is not in the file.

    Args:
        image: a path, a Pillow image, a ``Picture``, or floats in [0, 1] of shape [C, H, W] or [H, W].
        importance: [H, W], not negative; or where to take it from, by default the built-in model.
        strength: 0 (plain ``imagegs.encode``, byte for byte) to 1.
        floor: what the least important pixel counts at strength 1, against the most important one.
        without: effects to leave out: start, growth, loss, rounding, order.
        **options: of ``imagegs.encode``: targets, effort, levels and the rest.

    Raises:
        ImageGSError: see ``imagegs.encode`` and ``importance``.
    """
    picture = as_picture(image)
    if importance is None or isinstance(importance, Sources):
        found = make_importance(importance or Sources())(picture)
    else:
        found = check_mask(np.asarray(importance), (picture.height, picture.width))
    return encode_plain(picture, guidance=guidance_of(found, strength, floor, without), **options)
