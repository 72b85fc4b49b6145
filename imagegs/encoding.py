"""A picture to a ``.gsimg`` file: one call per stage, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import devices
from .budget import reach_goal
from .codec import BitWidths, parse, with_psnrs, write_file
from .codec.blocks import Blocks
from .compression import DEFAULT_EFFORT, EFFORTS, UNDER_NOISE, Effort, Job
from .decoding import cut, decode
from .errors import ConfigError
from .fitting.config import FitConfig, make_config
from .fitting.fit import run
from .fitting.loop import FitResult, Progress
from .fitting.losses import to_psnr
from .gaussians import FloatArray, Gaussians2D
from .goals import Goal, make_goal
from .guidance import Guidance
from .image import Picture, as_picture
from .kernels import native
from .rendering import render

PRESET_EFFORTS = {"fast": 3, "balanced": 5, "best": 8}
MAX_LEVELS = 16
MOST_PREFIXES = 16
"""Files of more chunks say how good a prefix is at the ends of their levels only."""
_NO_KERNELS = "where there are no compiled kernels"


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture and the file made of it.

    Attributes:
        data: the file's bytes.
        gaussians: what they decode to.
        decoded: [C, H, W], the picture as a decoder shows it.
        picture: the picture that was encoded.
        fit: how the fit went.
        psnr: of the decoded picture, dB; before its values are rounded to the bits of a picture file.
        bits: of the payload, by attribute.
        seconds: that everything took, the fits of a search for the target counted in.
        goal: what the file was to come to; None for files of fixed widths without one.
        notes: why a target was not met, if it was not.
    """

    data: bytes
    gaussians: Gaussians2D
    decoded: FloatArray
    picture: Picture
    fit: FitResult
    psnr: float
    bits: dict[str, float]
    seconds: float
    goal: Goal | None = None
    notes: tuple[str, ...] = ()

    @property
    def bpp(self) -> float:
        """Bits per pixel: the file's size, all of it, over the picture's."""
        return 8 * len(self.data) / (self.picture.height * self.picture.width)


def encode(
    source: Any,
    *,
    gaussians: int | None = None,
    bpp: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    ssim: float | None = None,
    quality: float | None = None,
    effort: int | None = None,
    preset: str | None = None,
    profile: str | None = None,
    bits: BitWidths | None = None,
    levels: int = 1,
    block_shift: int = 0,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    importance: Any = None,
    weights: Any = None,
    guidance: Guidance | None = None,
    on_step: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: Path | None = None,
    **overrides: Any,
) -> Encoded:
    """Fit Gaussians to a picture under rounding and code them.

    At most one target is given: ``gaussians``, ``bpp``, ``size``, ``psnr``, ``ssim`` or ``quality``.

    Args:
        source: a path (a folder is a texture stack), a Pillow image, a ``Picture``, or floats in [0, 1] of shape
            [C, H, W] or [H, W].
        gaussians: how many.
        bpp: bits of the whole file per pixel; never more, at most 3 % less.
        size: bytes of the whole file; likewise.
        psnr: of the decoded picture, dB; never less, at most 0.1 dB more.
        ssim: of the decoded picture; never less.
        quality: 0 to 100, the default is 75: what a bit must save in squared error, so that bytes follow the content.
        effort: 1 (fastest) to 9 (smallest file); 5 by default.
        preset: ``fast``, ``balanced`` or ``best``: efforts 3, 5 and 8.
        profile: ``image-gs`` or ``gaussian-image`` to follow those methods instead, in a file of fixed widths.
        bits: code with symbols of these fixed widths, which takes two to three times the bytes.
        levels: of detail, each four times the Gaussians of those before it.
        block_shift: code squares of 2 to this pixels on their own, 6 to 16, so that regions decode alone; 0 does not.
        seed: of everything random; the same seed gives the same bytes.
        device: where fits run: ``auto`` (a GPU where one can be used), ``cpu``, ``cuda`` or ``cuda:N``.
        threads: how many to use; by default one per core. The bytes do not depend on it.
        importance: [H, W], not negative: more of it, more Gaussians.
        weights: [H, W], not negative: of the loss at each pixel.
        guidance: instead of these two, a map for everything that can follow one.
        on_step: called after every step.
        checkpoint: where an interrupted fit is kept.
        resume: such a file to go on from.
        **overrides: any attribute of ``FitConfig``.

    Raises:
        ImageGSError: the picture cannot be read, the settings do not fit it, or a target cannot be met.
    """
    began = time.perf_counter()
    device = devices.resolve(device)
    picture = as_picture(source)
    Blocks(picture.width, picture.height, block_shift)  # refuses what it must before the fit
    if not 1 <= levels <= MAX_LEVELS:
        raise ConfigError(f"levels: expected 1 to {MAX_LEVELS}, found {levels}")
    if levels > 1 and overrides.get("level_shares"):
        raise ConfigError(f"levels: expected none beside level_shares, found {levels}")
    shape = picture.height, picture.width
    targets = {"psnr": psnr, "ssim": ssim, "bytes": size, "quality": quality, "gaussians": gaussians}
    goal = make_goal(shape, bpp=bpp, **targets)
    if guidance is not None and (importance is not None or weights is not None):
        raise ConfigError("guidance: expected none beside importance or weights, found both")
    guidance = Guidance.of(shape, importance, weights) if guidance is None else guidance
    guidance.check_size(shape)
    common: dict[str, Any] = {"guidance": guidance, "on_step": on_step}
    kept: dict[str, Any] = {"checkpoint": checkpoint, "resume": resume}
    with native.threads(threads):
        if bits is not None or profile is not None or not native.available():
            why = "beside fixed widths or a profile" if bits is not None or profile is not None else _NO_KERNELS
            if any(value is not None for name, value in {**targets, "bpp": bpp}.items() if name != "gaussians"):
                raise ConfigError(f"target: expected a number of Gaussians {why}, found {goal.text}")
            if (levels, block_shift) != (1, 0) or overrides.get("level_shares"):
                raise ConfigError(f"levels: expected one, and no blocks, {why}, found {levels} and {block_shift}")
            if effort is not None:
                preset = _preset_of(effort, preset)
            config = make_config(shape, gaussians=gaussians, preset=preset, profile=profile, seed=seed, **overrides)
            config = replace(config, bits=bits or BitWidths())
            fitted = run(picture.pixels, config, device=device, **common, **kept)
            data = write_file(fitted.gaussians, bits=config.bits, info=picture.info)
            notes: tuple[str, ...] = ()
            reached_for = goal if gaussians is not None else None
        else:
            job = Job(
                picture,
                effort=chosen_effort(effort, preset, overrides.pop("steps", None)),
                config=fit_config(shape, goal, seed, overrides),
                levels=levels,
                block_shift=block_shift,
                device=device,
                **common,
                **kept,
            )
            reached = reach_goal(job, goal)
            fitted, data, notes = reached.fitted.result, reached.coded.data, reached.notes
            reached_for = goal
        encoded = _finish(data, picture, fitted)
    return replace(encoded, seconds=time.perf_counter() - began, goal=reached_for, notes=notes)


def _preset_of(effort: int, preset: str | None) -> str:
    if preset is not None:
        raise ConfigError(f"effort: expected none beside a preset, found {effort} and {preset!r}")
    return min(PRESET_EFFORTS, key=lambda name: abs(PRESET_EFFORTS[name] - effort))


def chosen_effort(effort: int | None, preset: str | None, steps: int | None) -> Effort:
    """The effort that is asked for, one way or another.

    Raises:
        ConfigError: in two ways, or there is no such effort.
    """
    if effort is not None and preset is not None:
        raise ConfigError(f"effort: expected none beside a preset, found {effort} and {preset!r}")
    if preset is not None and preset not in PRESET_EFFORTS:
        raise ConfigError(f"preset: expected one of {', '.join(PRESET_EFFORTS)}, found {preset!r}")
    number = effort if effort is not None else PRESET_EFFORTS.get(str(preset), DEFAULT_EFFORT)
    if number not in EFFORTS:
        raise ConfigError(f"effort: expected {min(EFFORTS)} to {max(EFFORTS)}, found {effort!r}")
    return EFFORTS[number] if steps is None else Effort(steps, steps // 10)


def fit_config(shape: tuple[int, int], goal: Goal, seed: int, overrides: dict[str, Any]) -> FitConfig:
    """Settings of a fit under noise for a picture of (height, width) pixels; see ``Job``."""
    count = int(goal.value) if goal.kind == "gaussians" else 1
    settings: dict[str, Any] = UNDER_NOISE | overrides
    return make_config(shape, gaussians=count, seed=seed, **settings)


def _finish(data: bytes, picture: Picture, fitted: FitResult) -> Encoded:
    file = parse(data)
    psnrs: list[float | None] = []
    ends = np.cumsum([chunk.count for chunk in file.whole])
    last = [chunk.level != following.level for chunk, following in zip(file.whole, file.whole[1:], strict=False)]
    for end, at_level_end in zip(ends[:-1], last, strict=True):
        measured = len(ends) <= MOST_PREFIXES or at_level_end
        if measured:
            prefix = replace(picture, pixels=render(file.gaussians.take(slice(0, int(end)))))
            cut(prefix.pixels, picture.info)
            psnrs.append(_psnr(prefix, picture))
        else:
            psnrs.append(None)
    decoded = decode(data)
    found = _psnr(decoded, picture)
    data = with_psnrs(data, [*psnrs, found])
    return Encoded(data, file.gaussians, decoded.pixels, picture, fitted, found, file.attribute_bits, 0.0)


def _psnr(found: Picture, picture: Picture) -> float:
    difference = found.pixels - picture.pixels
    return to_psnr(float(np.mean(np.square(difference, out=difference), dtype=np.float64)))
