"""The default source: classical models and a centre prior, without weights, training or chance.

```
picture, at   ┌ surroundedness ─ blur ─ 0 to 1 ┐
most 128 px ──┤                                ├ mean ─ times the centre prior ─ size of the picture ─ 0 to 1
long, in Lab  └ rarity ───────── blur ─ 0 to 1 ┘
```

The choice is among published models with published constants, for the nine pictures at hand are too few to tune
anything. There, under one blur and the same centre prior, the two models came before spectral residual, image
signature, quaternion phase, frequency-tuned, centre-surround, graph-based, context-aware, spatially weighted, kernel
density and covariance saliency in AUC and CC; in NSS image signature came between them. Their mean comes before all of
these in AUC and CC at any working size from 64 to 256 pixels, and is level with the best in NSS. By the sum of NSS and
twice AUC and CC it is the first of 42 means of up to three models, and at least the third when any one picture is left
out. `benchmarks/saliency_sources.py` measures what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter

from imagegs import ConfigError, ShapeError

from .classical import rarity, surroundedness, to_lab
from .maps import FloatArray, Predictor, resize, stretch

Model = Literal["surroundedness", "rarity"]

WORKING_SIDE = 128
"""Longest side, pixels, of what the models see: the blur leaves nothing finer."""
BLUR = 20 / 600
"""Standard deviation of the blur, share of the longer side: about the degree of vision that eye trackers resolve."""
CENTER_SPREAD = (0.21, 0.2345)
"""Standard deviations of the centre prior, shares of the height and of the width."""

_MODELS = {"surroundedness": surroundedness, "rarity": rarity}


def center_prior(size: tuple[int, int]) -> FloatArray:
    """Where people look whatever the picture shows: a Gaussian around the middle, 1 at its peak.

    Source: Clarke and Tatler, "Deriving an appropriate baseline for describing fixation behaviour", Vision Research
    2014: variance 0.22 across and 0.45 times that down, in halves of the width. Their pictures were mostly 4 x 3; for
    others it is stretched with the sides, as Judd et al. 2012 do.

    Args:
        size: height and width, pixels.

    Returns:
        [height, width].
    """
    rows, columns = (
        np.exp(-0.5 * (((np.arange(side) + 0.5) / side - 0.5) / spread) ** 2)
        for side, spread in zip(size, CENTER_SPREAD, strict=True)
    )
    return np.asarray(rows[:, None] * columns[None, :], dtype=np.float32)


def load(models: Sequence[Model] = get_args(Model), center: bool = True) -> Predictor:
    """The built-in source, or parts of it.

    Args:
        models: those whose mean is taken.
        center: multiply by `center_prior`.

    Returns:
        The predictor: [3, H, W] in [0, 1] -> [H, W] in [0, 1]. A picture in which nothing stands out, as one of a
        single colour, gets the centre prior; where that says nothing either, as for one pixel, 1 everywhere.

    Raises:
        ConfigError: no models, or unknown ones.
    """
    unknown = [name for name in models if name not in _MODELS]
    if unknown or not models:
        found = ", ".join(map(repr, unknown)) or "none"
        raise ConfigError(f"models: expected some of {', '.join(_MODELS)}, found {found}")

    def predict(rgb: FloatArray) -> FloatArray:
        if rgb.ndim != 3 or rgb.shape[0] != 3 or rgb.size == 0:
            raise ShapeError(f"picture: expected [3, H, W], found {list(rgb.shape)}")
        lab = to_lab(_reduced(rgb))
        found = np.mean([_blurred(_MODELS[name](lab)) for name in models], axis=0)
        if not found.any():
            found = np.ones_like(found)
        if center:
            found = found * center_prior(found.shape)
        stretched = stretch(resize(found, (rgb.shape[1], rgb.shape[2])))
        return stretched if stretched.any() else np.ones_like(stretched)

    return predict


def _reduced(rgb: FloatArray) -> FloatArray:
    height, width = rgb.shape[1:]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return np.stack([resize(channel, size) for channel in rgb])


def _blurred(values: FloatArray) -> FloatArray:
    return stretch(gaussian_filter(values, BLUR * max(values.shape), mode="nearest"))
