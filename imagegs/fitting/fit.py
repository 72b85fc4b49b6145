"""The fit: from a picture to Gaussians. ``run`` is the loop; ``fit`` is the short way in.

```
 picture ─ targets ─ start ─► evaluate ─► optimise ─► grow or move ─┐
                               ▲      (rounded, near the end)        │
                               └─────────────────────────────────────┘─► colours solved ─► Gaussians2D
```
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import devices
from ..errors import ConfigError
from ..gaussians import Gaussians2D
from ..guidance import Guidance
from ..image import as_picture
from . import checkpoints
from .config import FitConfig, make_config
from .interruption import held_back
from .levels import LevelLoop
from .loop import FitResult, Loop, Progress
from .operators import Operator
from .targets import make_target

CHECKPOINT_SECONDS = 60.0
"""Time between two checkpoints of a fit that goes on."""


class Interrupted(KeyboardInterrupt):
    """A fit that was stopped and can go on from ``checkpoint``."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(f"the fit is kept in {checkpoint}")
        self.checkpoint = checkpoint


def run(
    target: Any,
    config: FitConfig,
    *,
    guidance: Guidance | None = None,
    operator: Operator | None = None,
    guide: Any = None,
    on_step: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: Path | None = None,
    device: str = "auto",
    keep: Callable[[Gaussians2D], int] | None = None,
) -> FitResult:
    """Fit Gaussians to a picture.

    Source: Image-GS (arXiv 2407.01866) with error-guided growth; differing from it: Adam in each Gaussian's own frame
    with quickly forgetting moments, and relocation by exact removal cost.

    Args:
        target: [C, H, W]; what the render, or the operator's result, is to equal.
        config: the settings, see ``make_config``.
        guidance: where the picture matters: maps of the canvas, that of the loss of the target's pixels.
        operator: D in target = D(render), see ``operators.Operator``; then ``guide`` is needed if D changes the size.
        guide: [C, H, W]; with an operator, a first guess of the picture: its size is the canvas, its edges and colours
            set the start.
        on_step: called after every step, on a GPU after every few; may raise ``KeyboardInterrupt`` to stop the fit.
        checkpoint: where the state is kept when the fit is interrupted (Ctrl-C), and every ``CHECKPOINT_SECONDS``
            against worse; removed when the fit is through.
        resume: such a state to go on from; the picture and settings must be the same.
        device: ``auto`` (a GPU where one can be used), ``cpu``, ``cuda`` or ``cuda:N``.
        keep: asked once, when the rates begin to fall and those that overshot are about to go, how many to keep; by
            default ``config.gaussians``.

    Raises:
        ShapeError: arrays that are not as above.
        ConfigError: settings that do not fit the picture, or a checkpoint of another fit.
        DeviceError: a device that cannot be used, or has too little memory.
        Interrupted: stopped by Ctrl-C, the state is in ``checkpoint``.
    """
    device = devices.resolve(device)
    observed = make_target(target, guidance)
    canvas = observed
    if guide is not None:  # the loss's map is that of what is observed
        canvas = make_target(guide, None if guidance is None else replace(guidance, loss=None))
    if operator is None and guide is not None:
        raise ConfigError("guide: expected an operator with it, found none")
    if guidance is not None:
        guidance.check_size(canvas.size, observed.size)
    height, width = canvas.size
    if config.gaussians > height * width:
        raise ConfigError(f"gaussians: expected at most one per pixel ({height * width:,}), found {config.gaussians:,}")
    kind = _loop_for(config, operator, device)
    loop = kind(canvas, observed, config, operator, keep, device)
    state = loop.begin() if resume is None else checkpoints.read(resume, loop.fingerprint, loop.empty())
    kept_at, kept = time.monotonic(), False
    try:
        while not loop.finished(state):
            with held_back():
                progress = loop.advance(state)
            if on_step is not None:
                on_step(progress)
            if checkpoint is not None and time.monotonic() - kept_at > CHECKPOINT_SECONDS:
                loop.settle(state)
                checkpoints.write(checkpoint, loop.fingerprint, state)
                kept_at, kept = time.monotonic(), True
        result = loop.finish(state)
        if checkpoint is not None and kept:
            checkpoint.unlink(missing_ok=True)
        return result
    except KeyboardInterrupt as stop:
        if checkpoint is None:
            raise
        loop.settle(state)
        checkpoints.write(checkpoint, loop.fingerprint, state)
        raise Interrupted(checkpoint) from stop


def _loop_for(config: FitConfig, operator: Operator | None, device: str) -> type[Loop]:
    """What takes the steps of a fit; PyTorch is loaded for a GPU only."""
    if config.level_shares:
        return LevelLoop
    if device == "cpu":
        return Loop
    from .device_loop import DeviceLoop, serves

    return DeviceLoop if serves(config, operator) else Loop


def fit(
    image: Any,
    gaussians: int | None = None,
    *,
    preset: str | None = None,
    profile: str | None = None,
    importance: Any = None,
    weights: Any = None,
    operator: Operator | None = None,
    guide: Any = None,
    seed: int = 0,
    on_step: Callable[[Progress], None] | None = None,
    device: str = "auto",
    **overrides: Any,
) -> Gaussians2D:
    """Fit Gaussians to a picture, the short way.

    Args:
        image: a path, a Pillow image, a ``Picture``, or floats in [0, 1] of shape [C, H, W] or [H, W].
        gaussians: how many; by default one for every 64 pixels.
        preset: ``fast``, ``balanced`` (the default) or ``best``.
        profile: ``image-gs`` or ``gaussian-image`` to follow those methods instead.
        importance: [H, W], not negative: more of it, more Gaussians.
        weights: [H, W], not negative: of the loss at each of the picture's pixels.
        operator: see ``run``.
        guide: see ``run``; a default number of Gaussians follows its size.
        seed: of everything random; the same seed gives the same Gaussians.
        on_step: see ``run``.
        device: ``auto`` (a GPU where one can be used), ``cpu``, ``cuda`` or ``cuda:N``.
        **overrides: any attribute of ``FitConfig``.

    Raises:
        ImageGSError: the picture cannot be read, or the settings do not fit it.
    """
    picture = as_picture(image)
    observed = picture.height, picture.width
    size = observed if guide is None else np.shape(guide)[-2:]
    config = make_config(size, gaussians=gaussians, preset=preset, profile=profile, seed=seed, **overrides)
    return run(
        picture.pixels,
        config,
        guidance=Guidance.of(size, importance, weights, observed),
        operator=operator,
        guide=guide,
        on_step=on_step,
        device=device,
    ).gaussians
