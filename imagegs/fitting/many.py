"""Many pictures fitted at once: on a GPU every step serves all of them, so that small ones keep it busy too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import devices
from ..errors import ConfigError
from ..gaussians import Gaussians2D
from ..image import as_picture
from .config import FitConfig, make_config
from .fit import run
from .growth import relocation_count
from .loop import Loop, State
from .targets import make_target


def fit_many(
    images: Sequence[Any],
    gaussians: int | Sequence[int] | None = None,
    *,
    preset: str | None = None,
    seed: int = 0,
    device: str = "auto",
    **overrides: Any,
) -> list[Gaussians2D]:
    """Fit Gaussians to pictures of any sizes.

    On a GPU they are fitted together, all of them in every step; on a CPU one after the other. Each fit ends as well as
    it would alone, not at the same numbers.

    Args:
        images: of one number of channels; each as in ``fit``.
        gaussians: how many of each picture, or of all; by default one for every 64 pixels.
        preset: see ``fit``.
        seed: of everything random; the same seed gives the same Gaussians.
        device: see ``fit``.
        **overrides: any attribute of ``FitConfig`` but those that several pictures cannot share on a GPU: SSIM,
            rounding, levels, a start at half size, Gaussians in excess, patience, the ways of published methods.

    Raises:
        ImageGSError: a picture cannot be read, or the settings do not fit it.
        DeviceError: the device cannot be used, or has too little memory: fewer pictures at a time take less.
    """
    where = devices.resolve(device)
    pictures = [as_picture(image) for image in images]
    counts = [gaussians] * len(pictures) if gaussians is None or isinstance(gaussians, int) else list(gaussians)
    if len(counts) != len(pictures):
        raise ConfigError(f"gaussians: expected {len(pictures)} numbers, found {len(counts)}")
    given = {"color_solve": 0, **overrides}
    configs = [
        make_config((picture.height, picture.width), gaussians=count, preset=preset, seed=seed, **given)
        for picture, count in zip(pictures, counts, strict=True)
    ]
    for config in configs:
        _check(config)
    channels = {picture.pixels.shape[0] for picture in pictures}
    if len(channels) > 1:
        raise ConfigError(f"images: expected one number of channels, found {' and '.join(map(str, sorted(channels)))}")
    if where == "cpu":
        return [
            run(picture.pixels, config, device=where).gaussians
            for picture, config in zip(pictures, configs, strict=True)
        ]
    targets = [make_target(picture.pixels) for picture in pictures]
    return _together(
        [Loop(target, target, config, None) for target, config in zip(targets, configs, strict=True)], where
    )


_SHARED = {
    "shape": "local",
    "schedule": "hold",
    "grow_color": "target",
    "bits": None,
    "lattice": None,
    "level_shares": (),
    "coarse": 0.0,
    "overshoot": 0.0,
    "patience": 0,
    "color_solve": 0,
}
"""What many pictures are fitted with."""


def _check(config: FitConfig) -> None:
    """Refuses what several pictures cannot share."""
    for name, wanted in _SHARED.items():
        if getattr(config, name) != wanted:
            raise ConfigError(f"{name}: expected {wanted!r} for many pictures, found {getattr(config, name)!r}")
    if config.loss.ssim > 0:
        raise ConfigError(f"loss: expected no SSIM for many pictures, found {config.loss.ssim:g}")


def _together(loops: list[Loop], device: str) -> list[Gaussians2D]:
    """The fits, step by step, all pictures in each."""
    if not loops:
        return []
    from .device_loop import enough_memory

    gpu = devices.open_gpu(int(device.partition(":")[2]))
    with enough_memory(gpu, [loop.scene for loop in loops], [loop.goal for loop in loops]):
        return _on_device(gpu, loops)


def _on_device(gpu: Any, loops: list[Loop]) -> list[Gaussians2D]:
    from .device_loop import clocks_of, steps_ahead
    from .resident import MOMENTS, Resident

    states = [loop.begin() for loop in loops]
    config = loops[0].config  # all but the number of Gaussians is the same
    resident = Resident(gpu, [loop.scene for loop in loops], config, [loop.goal for loop in loops])

    def load() -> None:
        moments = [{name: state.optimizer.moments[name] for name in MOMENTS} for state in states]
        resident.load([state.model for state in states], moments, [None] * len(states), [np.inf] * len(states))

    load()
    step, begun = 0, [state.started_with for state in states]
    seed = 1_000_003 * config.seed
    while step < config.steps:
        count = min(resident.most_steps, steps_ahead(config, step, step))
        settled = step >= config.hold * config.steps and step >= max(config.add_at, default=0)
        resident.advance(clocks_of(config, step, step, count), 0, noisy=False, settled=settled)
        step += count
        if step in config.add_at:
            for state in states:
                state.step = step
            new = resident.grown(
                [max(0, loop.missing(state)) for loop, state in zip(loops, states, strict=True)], begun, seed + step
            )
            _join(states, resident.fetch(), new)
            load()
        elif config.relocate > 0 and step % config.relocate_every == 0 and step < config.relocate_until * config.steps:
            resident.relocate([relocation_count(state.model, config) for state in states], begun, seed + step)
    resident.advance(np.array([[0, 1, 1]], np.float32), 0, noisy=False, settled=True)  # is the last state the best?
    models, _ = resident.fetch_best()
    return [
        Gaussians2D(*model.arrays(), *loop.scene.target.size, loop.scene.background, config.blend, config.top_k)
        for model, loop in zip(models, loops, strict=True)
    ]


def _join(states: list[State], fetched: Any, new: list[Any]) -> None:
    """Takes in what the device has, and new Gaussians after it."""
    for state, model, moments, more in zip(states, *fetched, new, strict=True):
        state.model = model.joined(more)
        state.optimizer.moments |= moments
        state.optimizer.extend(len(more))
