"""A picture to a file whose every beginning, from the end of its first level on, is a good picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from imagegs import ConfigError, Encoded, Guidance, as_picture
from imagegs import encode as encode_plain

FIRST_SHARE, AUTO_LEVELS = 0.05, 4
"""Of the bytes, in the first level; and how many levels, unless told otherwise."""
MAX_LEVELS = 16
COUNT_POWER = 1.125
"""Share of the Gaussians for a share of the bytes, as a power of it: Gaussians of early levels are larger and finer
rounded. Seen from 0.5 to 1.3 bits per pixel on two pictures that no table shows."""
ORDER_FLOOR = 0.02


def shares_of(levels: int | Literal["auto"] = "auto", cuts: Sequence[float] = ()) -> tuple[float, ...]:
    """Shares of the Gaussians at which levels end, all but the last.

    Args:
        levels: how many, geometric in bytes from 5 % on; ``auto`` takes four.
        cuts: shares of the bytes, rising, at which levels end instead.

    Raises:
        ConfigError: the number or the shares are out of range.
    """
    if cuts:
        if not all(low < high for low, high in zip((0.0, *cuts), (*cuts, 1.0), strict=True)):
            raise ConfigError(f"levels: expected rising shares of the bytes between 0 and 1, found {list(cuts)}")
        return tuple(cut**COUNT_POWER for cut in cuts)
    count = AUTO_LEVELS if levels == "auto" else levels
    if not 1 <= count <= MAX_LEVELS:
        raise ConfigError(f"levels: expected auto, or 1 to {MAX_LEVELS}, found {count}")
    steps = count - 1
    return tuple(FIRST_SHARE ** (COUNT_POWER * (1 - k / steps)) for k in range(steps))


def _shares_of_counts(counts: Sequence[int], total: int | None) -> tuple[float, ...]:
    if total is None:
        raise ConfigError("levels: expected a target of Gaussians beside Gaussians of levels, found none")
    if not all(low < high for low, high in zip((0, *counts), (*counts, total), strict=True)):
        raise ConfigError(f"levels: expected rising numbers of Gaussians below {total:,}, found {list(counts)}")
    return tuple(count / total for count in counts)


def export(
    source: Any,
    *,
    levels: int | Literal["auto"] = "auto",
    level_bytes: Sequence[int] = (),
    level_gaussians: Sequence[int] = (),
    first: npt.ArrayLike | None = None,
    **options: Any,
) -> Encoded:
    """Encode a picture in levels that are fitted together.

    Args:
        source: see ``imagegs.encode``.
        levels: how many, see `shares_of`.
        level_bytes: bytes of the file at which levels end instead; with a target of ``bpp`` or ``size``; they are met
            roughly.
        level_gaussians: how many Gaussians the first level has, the first two, and so on; with a target of
            ``gaussians``; blocks round them.
        first: [H, W] in [0, 1], what is to come first: the first levels show it better and the rest worse.
        **options: of ``imagegs.encode``: targets, effort, blocks and the rest.

    Raises:
        ImageGSError: see ``imagegs.encode``.
    """
    picture = as_picture(source)
    shares = shares_of(levels)
    if level_bytes:
        size = options.get("size")
        if options.get("bpp") is not None:
            size = options["bpp"] * picture.height * picture.width / 8
        if size is None:
            raise ConfigError("levels: expected a target of bytes or bits per pixel beside bytes of levels, found none")
        shares = shares_of(cuts=[count / size for count in level_bytes])
    if level_gaussians:
        shares = _shares_of_counts(level_gaussians, options.get("gaussians"))
    if first is not None:
        order = ORDER_FLOOR + (1 - ORDER_FLOOR) * np.asarray(first, np.float32)
        options["guidance"] = Guidance(order=order)
    return encode_plain(picture, level_shares=shares, **options)
