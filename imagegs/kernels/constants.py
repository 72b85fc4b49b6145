"""The constants of ``gaussian2d.h``, which is where they live, also where no compiled module is there to tell them."""

from __future__ import annotations

import re
from importlib.resources import files

_HEADER = files("imagegs").joinpath("kernels", "gaussian2d.h").read_text(encoding="utf-8")


def _value(name: str) -> float:
    match = re.search(rf"constexpr (?:float|int) {name} = ([^;]+);", _HEADER)
    if match is None:
        raise ImportError(f"gaussian2d.h does not define {name}")
    numerator, _, denominator = match[1].replace("f", "").partition("/")
    return float(numerator) / float(denominator or 1)


RADIUS = _value("kRadius")
"""Support of a Gaussian, standard deviations."""
CUTOFF = _value("kCutoff")
"""exp(-RADIUS²/2), taken off every weight so that it ends at zero."""
EPSILON = _value("kEpsilon")
"""Weight of the background in a normalising blend."""
MIN_SCALE, MAX_SCALE = _value("kMinScale"), _value("kMaxScale")
"""Scales are clamped to this range where they are used, pixels."""
MAX_MEAN = _value("kMaxMean")
"""A Gaussian whose centre is further out draws nothing, pixels."""
FOOTPRINT = _value("kFootprint")
"""Variance of a box pixel, squared output pixels."""
