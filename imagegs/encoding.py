"""A picture to a ``.gsimg`` file: one call per stage, top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .codec import BitWidths, parse, write_file
from .decoding import decode
from .fitting.config import make_config
from .fitting.fit import FitResult, Progress, check_device, run
from .fitting.losses import to_psnr
from .gaussians import FloatArray, Gaussians2D
from .image import Picture, as_picture
from .kernels import native


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture and the file made of it.

    Attributes:
        data: the file's bytes.
        gaussians: what they decode to.
        decoded: [C, H, W], the picture as a decoder shows it.
        picture: the picture that was encoded.
        fit: how the fit went.
        psnr: of the decoded picture, dB.
    """

    data: bytes
    gaussians: Gaussians2D
    decoded: FloatArray
    picture: Picture
    fit: FitResult
    psnr: float

    @property
    def bpp(self) -> float:
        """Bits per pixel: the file's size, all of it, over the picture's."""
        return 8 * len(self.data) / (self.picture.height * self.picture.width)


def encode(
    source: Any,
    *,
    gaussians: int | None = None,
    preset: str | None = None,
    profile: str | None = None,
    bits: BitWidths | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    importance: Any = None,
    weights: Any = None,
    on_step: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: Path | None = None,
    **overrides: Any,
) -> Encoded:
    """Fit Gaussians to a picture under rounding and code them.

    Args:
        source: a path (a folder is a texture stack), a Pillow image, a ``Picture``, or floats in [0, 1] of shape
            [C, H, W] or [H, W].
        gaussians: how many; by default one for every 64 pixels.
        preset: ``fast``, ``balanced`` (the default) or ``best``.
        profile: ``image-gs`` or ``gaussian-image`` to follow those methods instead.
        bits: widths of the stored values.
        seed: of everything random; the same seed gives the same bytes.
        device: ``auto`` or ``cpu``.
        threads: how many to use; by default one per core. The bytes do not depend on it.
        importance: [H, W], not negative: more of it, more Gaussians.
        weights: [H, W], not negative: of the loss at each pixel.
        on_step: called after every step.
        checkpoint: where an interrupted fit is kept.
        resume: such a file to go on from.
        **overrides: any attribute of ``FitConfig``.

    Raises:
        ImageGSError: the picture cannot be read, or the settings do not fit it.
    """
    check_device(device)
    picture = as_picture(source)
    bits = bits or BitWidths()
    size = picture.height, picture.width
    config = make_config(size, gaussians=gaussians, preset=preset, profile=profile, seed=seed, **overrides)
    with native.threads(threads):
        fitted = run(
            picture.pixels,
            replace(config, bits=bits),
            importance=importance,
            weights=weights,
            on_step=on_step,
            checkpoint=checkpoint,
            resume=resume,
            device=device,
        )
        data = write_file(fitted.gaussians, bits=bits, info=picture.info)
        decoded = decode(data).pixels
    difference = decoded - picture.pixels
    psnr = to_psnr(float(np.mean(np.square(difference, out=difference), dtype=np.float64)))
    return Encoded(data, parse(data).gaussians, decoded, picture, fitted, psnr)
