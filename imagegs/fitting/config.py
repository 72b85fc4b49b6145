"""What a fit does, in one frozen value; the presets and the published profiles are such values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from ..codec.lattice import Lattice
from ..codec.quantization import BitWidths
from ..errors import ConfigError
from ..gaussians import BLENDS, MAX_TOP_K, Blend

Init = Literal["structure", "gradient", "random", "importance"]
Shape = Literal["local", "inverse-scale", "cholesky", "rotation-scale"]
Schedule = Literal["hold", "plateau", "halving"]
Preset = Literal["fast", "balanced", "best"]
Profile = Literal["image-gs", "gaussian-image"]
PRESETS: tuple[str, ...] = get_args(Preset)
PROFILES: tuple[str, ...] = get_args(Profile)

LEVELS_UNTIL = 0.4
"""Share of the steps after which all levels of a fit are there."""
PIXELS_PER_GAUSSIAN = 64
"""Of the default number of Gaussians."""


@dataclass(frozen=True)
class Loss:
    """Weights of the mean absolute error, the mean squared error and 1 - SSIM."""

    l1: float = 0.0
    l2: float = 1.0
    ssim: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.l1, self.l2, self.ssim)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) <= 0:
            raise ConfigError(f"loss: expected weights that are not negative and not all zero, found {weights}")


@dataclass(frozen=True)
class Rates:
    """Step sizes of Adam; for the shape ``local`` in units of the scales, of log scales, in radians and of colour."""

    position: float = 0.1
    scale: float = 0.1
    rotation: float = 0.06
    color: float = 0.02

    def __post_init__(self) -> None:
        rates = (self.position, self.scale, self.rotation, self.color)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise ConfigError(f"rates: expected finite numbers, none negative, found {rates}")


@dataclass(frozen=True)
class FitConfig:
    """Every choice of a fit.

    Attributes:
        gaussians: how many there are in the end.
        steps: optimisation steps.
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.
        shape: what the optimiser moves: the Gaussian's own frame; inverse scales (Image-GS); the Cholesky factor or
            scales and rotation (GaussianImage).
        init: where the first Gaussians go: along edges with their direction and elongation, along edges, anywhere, or
            by the importance map alone.
        start_fraction: share of the Gaussians that is there from the start.
        uniform_share: share of the start density that is uniform.
        start_scale: first standard deviation in pixels; None takes it from the local density.
        scale_per_spacing: first standard deviation in units of the local spacing of Gaussians.
        add_at: steps after which equal shares of the missing Gaussians are added.
        relocate: share of the Gaussians that moves at a time, from where they are worth least to where the error is
            high.
        relocate_every: steps between that.
        relocate_until: share of the steps after which nothing moves any more.
        error_power: new Gaussians go where the squared error to this power is high.
        grow_color: colour of a new Gaussian: the target's, or the residual (official Image-GS).
        reset_moments: forget Adam's moments when Gaussians are added (official Image-GS).
        loss: what is minimised.
        rates: step sizes.
        betas: of Adam.
        epsilon: of Adam.
        schedule: ``hold`` the rates, then let them fall; ``plateau`` divides them when nothing improves (Image-GS);
            ``halving`` halves them every 20,000 steps (GaussianImage).
        hold: share of the steps at full rates.
        decay: by how much the rates fall in the end.
        coarse: share of the steps on the picture at half size.
        color_solve: iterations of the final linear solve for the colours.
        bits: widths the result is to survive; None fits without rounding.
        quantize_from: share of the steps after which the forward pass sees rounded values (straight-through).
        lattice: whose rounding the result is to survive: the fit sees noise of its steps, and no Gaussian leaves the
            canvas; excludes ``bits``.
        noise_from: share of the steps after which it does.
        overshoot: share of Gaussians that are fitted beyond ``gaussians`` while the rates are held; those worth least
            go when the rates begin to fall.
        level_shares: shares of the Gaussians at which levels end, rising, all but the last; then every prefix of
            levels is fitted to be a good picture, and levels take the place of ``start_fraction`` and ``add_at``.
        level_decay: what the PSNR of a prefix counts against that of the next longer one.
        patience: with ``hold``, steps without ``patience_gain`` dB that end the holding phase early; 0 never does.
        patience_gain: see there, dB.
        seed: of everything random.
    """

    gaussians: int
    steps: int = 1000
    blend: Blend = "normalized"
    top_k: int = 10
    shape: Shape = "local"
    init: Init = "structure"
    start_fraction: float = 0.5
    uniform_share: float = 0.3
    start_scale: float | None = None
    scale_per_spacing: float = 0.35
    add_at: tuple[int, ...] = ()
    relocate: float = 0.05
    relocate_every: int = 30
    relocate_until: float = 0.7
    error_power: float = 2.0
    grow_color: Literal["target", "residual"] = "target"
    reset_moments: bool = False
    loss: Loss = Loss()
    rates: Rates = Rates()
    betas: tuple[float, float] = (0.9, 0.9)
    epsilon: float = 1e-15
    schedule: Schedule = "hold"
    hold: float = 0.7
    decay: float = 100.0
    coarse: float = 0.0
    color_solve: int = 10
    bits: BitWidths | None = None
    quantize_from: float = 0.85
    lattice: Lattice | None = None
    noise_from: float = 0.35
    overshoot: float = 0.0
    level_shares: tuple[float, ...] = ()
    level_decay: float = 0.6
    patience: int = 0
    patience_gain: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "gaussians": (_whole(self.gaussians, 1), "an integer of at least 1"),
            "steps": (_whole(self.steps, 1), "an integer of at least 1"),
            "blend": (self.blend in BLENDS, f"one of {', '.join(BLENDS)}"),
            "top_k": (_whole(self.top_k, 1) and self.top_k <= MAX_TOP_K, f"an integer from 1 to {MAX_TOP_K}"),
            "shape": (self.shape in get_args(Shape), f"one of {', '.join(get_args(Shape))}"),
            "init": (self.init in get_args(Init), f"one of {', '.join(get_args(Init))}"),
            "schedule": (self.schedule in get_args(Schedule), f"one of {', '.join(get_args(Schedule))}"),
            "grow_color": (self.grow_color in ("target", "residual"), "target or residual"),
            "relocate_every": (_whole(self.relocate_every, 1), "an integer of at least 1"),
            "color_solve": (_whole(self.color_solve, 0), "an integer of at least 0"),
            "patience": (_whole(self.patience, 0), "an integer of at least 0"),
            "seed": (_whole(self.seed, 0), "an integer of at least 0"),
            "start_scale": (self.start_scale is None or 0 < self.start_scale < 1e6, "a positive number of pixels"),
            "scale_per_spacing": (0 < self.scale_per_spacing < 1e6, "a positive number"),
            "add_at": (all(_whole(at, 1) and at <= self.steps for at in self.add_at), f"steps from 1 to {self.steps}"),
            "epsilon": (0 <= self.epsilon < math.inf, "a number of at least 0"),
            "error_power": (0 <= self.error_power <= 10, "a number from 0 to 10"),
            "decay": (1 <= self.decay < math.inf, "a number of at least 1"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            "overshoot": (0 <= self.overshoot <= 10, "a number from 0 to 10"),
            "lattice": (self.lattice is None or self.bits is None, "none beside bits"),
            "level_shares": (_rising(self.level_shares), "rising numbers between 0 and 1"),
            "level_decay": (0 < self.level_decay <= 1, "a number above 0, at most 1"),
        }
        shares = (
            "start_fraction",
            "uniform_share",
            "relocate",
            "relocate_until",
            "hold",
            "coarse",
            "quantize_from",
            "noise_from",
        )
        checks |= {name: (0 <= getattr(self, name) <= 1, "a number from 0 to 1") for name in shares}
        for name, (valid, expected) in checks.items():
            if not valid:
                raise ConfigError(f"{name}: expected {expected}, found {getattr(self, name)!r}")


def _rising(shares: Any) -> bool:
    values = (0.0, *shares, 1.0)
    return all(low < high for low, high in pairwise(values))


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def make_config(
    size: tuple[int, int],
    *,
    gaussians: int | None = None,
    preset: str | None = None,
    profile: str | None = None,
    **overrides: Any,
) -> FitConfig:
    """The settings of a fit.

    Args:
        size: height and width of the picture, pixels.
        gaussians: how many; by default one for every ``PIXELS_PER_GAUSSIAN`` pixels.
        preset: ``fast``, ``balanced`` (the default) or ``best``: how long to take.
        profile: a published method to follow instead, with its own number of steps: ``image-gs`` or ``gaussian-image``.
        **overrides: any other attribute of ``FitConfig``; ``loss`` and ``rates`` also as a dict.

    Raises:
        ConfigError: an unknown name, a value out of range, a preset beside a profile, or more Gaussians than pixels.
    """
    height, width = size
    gaussians, overrides = _plain(gaussians), {name: _plain(value) for name, value in overrides.items()}
    if gaussians is None:
        gaussians = max(1, round(height * width / PIXELS_PER_GAUSSIAN))
    if _whole(gaussians, 1) and gaussians > height * width:
        raise ConfigError(f"gaussians: expected at most one per pixel ({height * width:,}), found {gaussians:,}")
    unknown = set(overrides) - {field.name for field in fields(FitConfig)}
    if unknown:
        raise ConfigError(f"settings: expected attributes of FitConfig, found {', '.join(sorted(unknown))}")
    for name, kind in (("loss", Loss), ("rates", Rates)):
        if isinstance(overrides.get(name), dict):
            try:
                overrides[name] = kind(**overrides[name])
            except TypeError as error:
                raise ConfigError(f"{name}: expected {', '.join(f.name for f in fields(kind))}: {error}") from error
    if preset is not None and profile is not None:
        raise ConfigError(f"preset: expected none beside a profile, found {preset!r} and {profile!r}")
    steps = {None: 1000, "fast": 400, "balanced": 1000, "best": 3000}.get(preset)
    if steps is None:
        raise ConfigError(f"preset: expected one of {', '.join(PRESETS)}, found {preset!r}")
    if profile is None:
        config = FitConfig(gaussians, steps=steps)
    elif profile == "image-gs":
        config = _image_gs(gaussians)
    elif profile == "gaussian-image":
        config = _gaussian_image(gaussians)
    else:
        raise ConfigError(f"profile: expected one of {', '.join(PROFILES)}, found {profile!r}")
    config = replace(config, **overrides)
    return replace(config, add_at=additions(config)) if "add_at" not in overrides else config


def additions(config: FitConfig) -> tuple[int, ...]:
    """The usual steps after which a fit with these settings adds Gaussians."""
    if config.level_shares:
        levels = len(config.level_shares) + 1
        return tuple(max(k, int(config.steps * LEVELS_UNTIL * k / levels)) for k in range(1, levels))
    return spread_additions(config.steps) if config.start_fraction < 1 else ()


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def spread_additions(steps: int, count: int = 4, until: float = 0.5) -> tuple[int, ...]:
    """Steps after which Gaussians are added: ``count`` of them, evenly over the first ``until`` of the fit."""
    return tuple(sorted({max(1, int(steps * until * (k + 1) / (count + 1))) for k in range(count)}))


def _image_gs(gaussians: int) -> FitConfig:
    # arXiv 2407.01866 and the released defaults; right gradients and centred pixels are kept. Gaussians are added after
    # 500, 1000, 1500 and 2000 of the 5000 steps, earlier if there are fewer
    return FitConfig(
        gaussians,
        steps=5000,
        blend="topk",
        top_k=10,
        shape="inverse-scale",
        init="gradient",
        start_scale=5.0,
        relocate=0.0,
        error_power=1.0,
        grow_color="residual",
        reset_moments=True,
        loss=Loss(l1=1.0, l2=0.0, ssim=0.1),
        rates=Rates(5e-4, 2e-3, 2e-3, 5e-3),
        betas=(0.9, 0.999),
        epsilon=1e-8,
        schedule="plateau",
        color_solve=0,
    )


def _gaussian_image(gaussians: int) -> FitConfig:
    # arXiv 2403.08551: every Gaussian from the start, squared error, one rate for everything, halved every 20,000 steps
    return FitConfig(
        gaussians,
        steps=50_000,
        blend="sum",
        shape="cholesky",
        init="random",
        start_fraction=1.0,
        uniform_share=1.0,
        relocate=0.0,
        rates=Rates(1e-3, 1e-3, 1e-3, 1e-3),
        betas=(0.98, 0.92),
        epsilon=1e-8,
        schedule="halving",
        color_solve=0,
    )
