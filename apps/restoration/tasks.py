"""What the options of a task mean, for one picture and for many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imagegs import Encoded, Picture, encode, read_image

from .jpeg import JpegIntervals, read_jpeg
from .noise import Noise
from .operators import Blur, Downsample, Operator
from .recognizing import recognize_damage
from .restoring import Restored, restore


def operator_of(picture: Picture, data: bytes, given: Mapping[str, Any]) -> Operator | None:
    """What happened to a picture, by the options of ``cli.batch_options``; None where that is noise or holes.

    Raises:
        ImageGSError: the task is dejpeg, and the bytes of the file are no JPEG; or the kernel cannot be read.
    """
    task = given["task"]
    if task == "upscale":
        return Downsample(given["factor"] or 2, given["method"] or "bicubic")
    if task == "deblur":
        return blur_of(given)
    if task == "dejpeg":
        return read_jpeg(data, picture.source)
    return recognize_damage(picture, data).operator if task == "auto" and given["mask"] is None else None


def blur_of(given: Mapping[str, Any]) -> Blur:
    """The one blur that is given: bell or disk in pixels, motion as length and angle, or kernel, a picture."""
    if given["bell"] is not None:
        return Blur.gaussian(given["bell"])
    if given["disk"] is not None:
        return Blur.disk(given["disk"])
    if given["motion"] is not None:
        return Blur.motion(*given["motion"])
    return Blur(read_image(given["kernel"]).pixels[:3].mean(axis=0))


def perform(
    picture: Picture,
    operator: Operator | None,
    known: Any,
    given: Mapping[str, Any],
    importance: Any,
    on_fit: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restore as the options of ``cli.options`` say; the rest is as in ``restore``."""
    return restore(
        picture,
        operator,
        known=known,
        noise=_noise(given, no_noise=isinstance(operator, JpegIntervals)),
        importance=importance,
        on_fit=on_fit,
        **{name: given[name] for name in ("impulses", "guided", "gaussians", "fits", "steps", "seed")},
    )


def compress(restored: Picture, given: Mapping[str, Any], importance: Any) -> Encoded:
    """The restored picture as a file of the size that the options ask for."""
    target = {name: given[name] for name in ("bpp", "size") if given[name] is not None}
    return encode(restored, importance=importance, **target)


def _noise(given: Mapping[str, Any], no_noise: bool) -> Noise | float | None:
    """As it is told; None where it is to be estimated."""
    sigma, spread, gain = given["sigma"], given["spread"], given["gain"]
    if sigma is None:
        return 0.0 if no_noise else None
    noise = Noise.poisson_gaussian(gain / 255, sigma / 255) if gain else Noise(sigma / 255)
    return Noise(noise.sigma, spread, noise.curve)
