"""From an importance map to what an encoding follows.

```
 map ─ floor ─ strength ─> weights ─┬─ loss, rounding, level order
                                    └─ root ─> density of Gaussians: start, growth
```
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import numpy as np

from imagegs import ConfigError, Guidance, ShapeError

from .maps import FloatArray

Effect = Literal["start", "growth", "loss", "rounding", "order"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)

DEFAULT_STRENGTH = 0.5
"""Half of the way, in decibels: models of attention err."""
FLOOR = 0.02
"""What the least important pixel counts at full strength, against the most important one. From 0.05 to 0.01 the
weighted PSNR of six pictures with human fixations gains 0.7 dB and the rest of the picture loses 0.8 dB."""
DENSITY_POWER = 0.5
"""Of the weights, for the density of Gaussians: 1 gains 0.2 dB inside and costs 0.6 dB outside, 0 loses 0.4 inside."""


def weights_of(importance: FloatArray, strength: float = DEFAULT_STRENGTH, floor: float = FLOOR) -> FloatArray:
    """Weights [H, W] of a map: (floor + (1 - floor) map) ^ strength.

    The exponent makes equal steps of strength equal steps of the trade: each is the same ratio of weights.

    Args:
        importance: [H, W] in [0, 1].
        strength: 0 (all alike) to 1.
        floor: of the least important pixel at strength 1, above 0 up to 1.

    Raises:
        ConfigError: a number is out of range.
        ShapeError: the map is.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength: expected 0 to 1, found {strength:g}")
    if not 0 < floor <= 1:
        raise ConfigError(f"floor: expected a number above 0, at most 1, found {floor:g}")
    values = np.asarray(importance, dtype=np.float32)
    if values.ndim != 2 or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ShapeError("importance: expected [H, W] of numbers from 0 to 1")
    found: FloatArray = (np.float32(floor) + np.float32(1 - floor) * values) ** np.float32(strength)
    return found


def guidance_of(
    importance: FloatArray,
    strength: float = DEFAULT_STRENGTH,
    floor: float = FLOOR,
    without: Collection[str] = (),
) -> Guidance:
    """What an encoding follows.

    Args:
        importance: [H, W] in [0, 1].
        strength: 0 to 1; at 0 the encoding is the plain one, byte for byte.
        floor: see ``weights_of``.
        without: effects to leave out.

    Raises:
        ConfigError: a number is out of range, or there is no such effect.
        ShapeError: the map is out of range.
    """
    unknown = sorted(set(without) - set(EFFECTS))
    if unknown:
        raise ConfigError(f"without: expected some of {', '.join(EFFECTS)}, found {', '.join(unknown)}")
    weights = weights_of(importance, strength, floor)
    if strength == 0 or float(weights.min()) == float(weights.max()):
        return Guidance()
    density = weights**DENSITY_POWER
    maps = {"start": density, "growth": density, "loss": weights, "rounding": weights, "order": weights}
    return Guidance(**{name: values for name, values in maps.items() if name not in without})
