"""Checkpoints of Image-GS (github.com/NYU-ICL/image-gs, arXiv 2407.01866) as Gaussians.

``state_dict`` holds ``xy`` [N, 2], the centre over width and height; ``scale`` [N, 2], inverse standard deviations,
1/px (a run with ``--disable_inverse_scale``: px); ``rot`` [N, 1], radians; ``feat`` [N, C]. Its renderer takes the
pixel in column j at x = j, so that centres move by half a pixel here; its rotation turns the first axis from +x towards
-y. A pixel is Σ w c / (Σ w + 1e-4) over the ten largest weights w = exp(-d²/2), with a black background.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import ImageError
from ..kernels.constants import CUTOFF, RADIUS
from .checkpoints import Checkpoint
from .contents import Contents, drawn

ImageGSBlend = Literal["topk", "sum"]
ImageGSScales = Literal["inverse", "plain"]

TENSORS = ("xy", "scale", "rot", "feat")

# Their Gaussians have no end, ours fade to zero at RADIUS. Where few Gaussians reach, a quotient of faint tails
# decides, and scales 3 % wider come closest to it (two fits of kodim07: 1 dB and 2 dB nearer to their picture).
_WIDER_TOPK = 1.03
# In a plain sum the integral decides; this factor keeps it.
_WIDER_SUM = (1 - CUTOFF * (1 + RADIUS**2 / 2)) ** -0.5


def gaussians_of(
    checkpoint: Checkpoint, size: tuple[int, int], *, blend: ImageGSBlend = "topk", scales: ImageGSScales = "inverse"
) -> Contents:
    """The Gaussians of a checkpoint that Image-GS wrote.

    Args:
        checkpoint: what the file holds.
        size: width and height of the picture, pixels.
        blend: ``sum`` for a run with ``--disable_topk_norm``.
        scales: ``plain`` for a run with ``--disable_inverse_scale``.

    Returns:
        Its contents; the scales are a little wider, so that the picture comes out closest.

    Raises:
        ImageError: tensors are missing or disagree.
    """
    xy = checkpoint.array("xy", None, 2)
    n = len(xy)
    stored = checkpoint.array("scale", n, 2)
    rotations = -checkpoint.array("rot", n, 1)[:, 0]
    colors = checkpoint.array("feat", n, None)
    if n == 0:
        raise ImageError(f"{checkpoint.path}: expected Gaussians, found none")
    with np.errstate(divide="ignore"):
        own = np.abs(1 / stored if scales == "inverse" else stored)
    wider = _WIDER_TOPK if blend == "topk" else _WIDER_SUM
    return drawn(checkpoint.path, xy * size + 0.5, own * wider, rotations, colors, size, blend)
