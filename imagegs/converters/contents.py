"""What a file is, whatever its format: the value that all readers return and all writers take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from ..gaussians import MAX_CHANNELS, Blend, Gaussians2D
from ..image import PictureInfo, Plane
from ..kernels.constants import RADIUS

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contents:
    """A picture as Gaussians, with what is known about it.

    Attributes:
        gaussians: its Gaussians.
        info: what its channels are; None where the file does not say.
        notes: what the user should know about the way it was read.
    """

    gaussians: Gaussians2D
    info: PictureInfo | None
    notes: tuple[str, ...] = ()


def drawn(
    path: str, means: Array, scales: Array, rotations: Array, colors: Array, size: tuple[int, int], blend: Blend
) -> Contents:
    """The contents of a checkpoint, without the Gaussians that draw nothing on its canvas.

    One far away would be harmless there, but here it would stretch the grid on which all positions are rounded.

    Args:
        path: the file, for messages.
        means: [N, 2] canvas pixels.
        scales: [N, 2] canvas pixels; infinite, zero or no numbers where the renderer draws nothing.
        rotations: [N] radians.
        colors: [N, C].
        size: width and height of the canvas, pixels.
        blend: how weights and colours make a pixel.

    Raises:
        ImageError: there are too many channels, or no Gaussian is left.
    """
    channels = colors.shape[1]
    if not 1 <= channels <= MAX_CHANNELS:
        raise ImageError(f"{path}: expected 1 to {MAX_CHANNELS} channels, found {channels}")
    rows = np.concatenate([means, scales, rotations[:, None], colors], axis=1)
    limit = np.finfo(np.float32).max
    seen = (np.abs(rows) <= limit).all(axis=1) & (scales >= np.finfo(np.float32).tiny).all(axis=1)
    gaussians = Gaussians2D(
        means=means[seen].astype(np.float32),
        scales=scales[seen].astype(np.float32),
        rotations=rotations[seen].astype(np.float32),
        colors=colors[seen].astype(np.float32),
        width=size[0],
        height=size[1],
        blend=blend,
    )
    gaussians = gaussians.take(touching(gaussians, RADIUS))
    if not len(gaussians):
        raise ImageError(f"{path}: expected Gaussians that draw something, found none of {len(seen):,}")
    left_out = len(seen) - len(gaussians)
    notes = (f"{path}: {left_out:,} Gaussians that draw nothing were left out",) if left_out else ()
    return Contents(gaussians, opaque_info(channels), notes)


def touching(gaussians: Gaussians2D, radius: float) -> npt.NDArray[np.bool_]:
    """Which Gaussians [N] reach into the canvas, if each ends at ``radius`` standard deviations."""
    reach = radius * half_extents(gaussians)
    size = np.array([gaussians.width, gaussians.height])
    inside = (gaussians.means + reach > 0) & (gaussians.means - reach < size)
    return np.asarray(inside.all(axis=1))


def half_extents(gaussians: Gaussians2D) -> Array:
    """Standard deviations [N, 2] along x and y, canvas pixels."""
    c, s = np.cos(gaussians.rotations, dtype=np.float64), np.sin(gaussians.rotations, dtype=np.float64)
    first, second = gaussians.scales.astype(np.float64).T
    return np.stack([np.hypot(c * first, s * second), np.hypot(s * first, c * second)], axis=1)


def opaque_info(channels: int) -> PictureInfo:
    """What pictures without transparency are: grey, RGB, or a stack of 16-bit grey pictures."""
    if channels in {1, 3}:
        return PictureInfo.of_channels(channels)
    return PictureInfo(tuple(Plane(f"channel{index:02}.png", "L", 16) for index in range(channels)), stack=True)
