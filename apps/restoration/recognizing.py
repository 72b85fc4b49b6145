"""What happened to a picture, as far as it shows."""

from __future__ import annotations

from dataclasses import dataclass

from imagegs import ConfigError, ImageError, Picture

from .impulses import salt_and_pepper
from .jpeg import JpegIntervals, read_jpeg
from .noise import recognize_noise
from .restoring import LEAST_SIGMA, colors_of

COARSE = 40 / 255
"""Mean step of luma in a JPEG file, from which its artefacts show: quality 65 or so."""


@dataclass(frozen=True, eq=False)
class Damage:
    """What was found.

    Attributes:
        kind: ``jpeg``, ``impulses`` or ``noise``: what the picture is restored from.
        text: the same with figures, for people.
        operator: of a JPEG file.
    """

    kind: str
    text: str
    operator: JpegIntervals | None = None


def recognize_damage(picture: Picture, data: bytes = b"") -> Damage:
    """The damage of a picture: coarse JPEG, impulses or noise, the first of them that there is.

    Blur and pictures that were made smaller are not told from those that are so.

    Args:
        picture: what is seen.
        data: the file that it was read from.

    Raises:
        ConfigError: there is none of them.
    """
    try:
        operator = read_jpeg(data, picture.source)
    except ImageError:  # no JPEG file, or of a kind that cannot be taken apart
        operator = None
    if operator is not None and operator.decoded.shape == picture.pixels.shape:
        if operator.coarseness >= COARSE:
            return Damage("jpeg", f"a JPEG file with steps of {255 * operator.coarseness:.0f} of 255", operator)
    colors = picture.pixels[colors_of(picture)]
    impulses = salt_and_pepper(colors)
    if impulses is not None:
        return Damage("impulses", f"black or white impulses in {100 * impulses.mean():.0f} % of the pixels")
    noise = recognize_noise(colors)
    if noise.sigma < LEAST_SIGMA:
        raise ConfigError(
            f"{picture.source or 'picture'}: expected coarse JPEG, impulses or noise, found none; "
            "say deblur or upscale if it is that"
        )
    return Damage("noise", f"noise of {255 * noise.sigma:.1f} of 255")
