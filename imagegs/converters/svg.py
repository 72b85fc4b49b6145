"""Layers as an SVG picture: an ellipse with a radial gradient for each, in the order of drawing.

The gradient follows OPACITY · exp(-d²/2) with straight lines between seven points, and ends at REACH standard
deviations. Places are rounded to a hundredth of a pixel and colours to 8 bits. A layer takes about 450 bytes.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

import numpy as np

from .layers import OPACITY, REACH, Layers

_KNOTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, REACH)


def encode_svg(layers: Layers, *, title: str = "") -> bytes:
    """The text of an SVG file, UTF-8.

    Args:
        layers: from back to front.
        title: what viewers show as the picture's name.
    """
    width, height = layers.width, layers.height
    gradients = [_gradient(number, color) for number, color in enumerate(_hex(layers))]
    ellipses = [_ellipse(layers, number) for number in range(len(layers))]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">',
            f"<title>{escape(_printable(title))}</title>",
            "<style>stop{stop-color:currentColor}</style>",
            *("<defs>", *gradients, "</defs>"),
            *ellipses,
            "</svg>\n",
        ]
    ).encode()


def _printable(text: str) -> str:
    """The text without what XML cannot hold: control characters, and bytes of file names that are no text."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _hex(layers: Layers) -> list[str]:
    bytes_ = np.rint(np.clip(layers.colors, 0, 1) * 255).astype(int)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in bytes_]


def _gradient(number: int, color: str) -> str:
    return f'<radialGradient id="g{number}" color="{color}">{_STOPS}</radialGradient>'


def _ellipse(layers: Layers, number: int) -> str:
    x, y = layers.means[number]
    rx, ry = REACH * layers.scales[number]
    turn = math.degrees(layers.rotations[number]) % 180
    place = f"translate({_number(x)} {_number(y)})" + (f"rotate({_number(turn)})" if _number(turn) != "0" else "")
    return f'<ellipse transform="{place}" rx="{_number(rx)}" ry="{_number(ry)}" fill="url(#g{number})"/>'


def _number(value: float, digits: int = 2) -> str:
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text


def _stop(knot: float) -> str:
    opacity = 0.0 if knot == REACH else OPACITY * math.exp(-(knot**2) / 2)
    return f'<stop offset="{_number(knot / REACH, 4)}" stop-opacity="{_number(opacity, 3)}"/>'


_STOPS = "".join(_stop(knot) for knot in _KNOTS)
