"""What moves the Gaussians: Adam in their own frames, and the published methods' optimisers on their own parameters.

Gradients come in the local frame (``native.Gradients.local``): u, v, log s1, log s2, rotation. ``LocalAdam`` steps
there, so that a step means the same for every Gaussian, whatever its size and shape. The other two change variables
first.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..gaussians import FloatArray
from ..kernels import native
from .config import FitConfig
from .initialization import Gaussians
from .shapes import factor_gradient, from_factors, scale_bounds, to_factors


class Optimizer(Protocol):
    """Moves Gaussians down their gradient, in place."""

    moments: dict[str, FloatArray]

    def step(self, model: Gaussians, gradients: native.Gradients, factor: float) -> None:
        """One step at ``factor`` times the rates."""

    def extend(self, count: int) -> None:
        """Makes room for ``count`` new Gaussians at the end."""

    def take(self, rows: npt.NDArray[np.intp]) -> None:
        """Keeps these Gaussians only."""

    def forget(self, rows: npt.NDArray[np.intp] | slice) -> None:
        """Starts the moments of these Gaussians afresh."""


class _Moments:
    """Per-Gaussian moments by name, and the number of steps so far."""

    def __init__(self, **moments: FloatArray) -> None:
        self.moments = {**moments, "time": np.zeros(1, np.float32)}

    def extend(self, count: int) -> None:
        """See ``Optimizer``."""
        for name, array in self.moments.items():
            if name != "time":
                self.moments[name] = np.concatenate([array, np.zeros((count, array.shape[1]), np.float32)])

    def take(self, rows: npt.NDArray[np.intp]) -> None:
        """See ``Optimizer``."""
        for name, array in self.moments.items():
            if name != "time":
                self.moments[name] = np.ascontiguousarray(array[rows])

    def forget(self, rows: npt.NDArray[np.intp] | slice) -> None:
        """See ``Optimizer``."""
        for name, array in self.moments.items():
            if name != "time":
                array[rows] = 0
        if isinstance(rows, slice):
            self.moments["time"][:] = 0

    def tick(self) -> int:
        """Number of this step, from 1."""
        self.moments["time"] += 1
        return int(self.moments["time"][0])


class LocalAdam(_Moments):
    """Adam in the Gaussian's own frame."""

    def __init__(self, model: Gaussians, config: FitConfig, size: tuple[int, int]) -> None:
        n, channels = model.colors.shape
        shapes = {"local_first": 5, "local_second": 5, "color_first": channels, "color_second": channels}
        super().__init__(**{name: np.zeros((n, width), np.float32) for name, width in shapes.items()})
        self._config, self._bounds = config, scale_bounds(size)

    def step(self, model: Gaussians, gradients: native.Gradients, factor: float) -> None:
        """See ``Optimizer``."""
        config, m, time = self._config, self.moments, self.tick()
        settings = {"betas": config.betas, "epsilon": config.epsilon, "step": time}
        update = native.adam(gradients.local, m["local_first"], m["local_second"], **settings)  # type: ignore[arg-type]
        color = native.adam(gradients.colors, m["color_first"], m["color_second"], **settings)  # type: ignore[arg-type]
        rates = config.rates
        steps = (rates.position * factor, rates.scale * factor, rates.rotation * factor)
        native.apply_local(update, steps, self._bounds, model.means, model.scales, model.rotations)
        model.colors -= np.float32(rates.color * factor) * color


def canvas_gradient(model: Gaussians, local: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients in means [N, 2], scales [N, 2] and rotations [N], from those in the local frame [N, 5]."""
    c, s = np.cos(model.rotations), np.sin(model.rotations)
    along, across = (local[:, :2] / model.scales).T
    means = np.stack([c * along - s * across, s * along + c * across], axis=1)
    return means, local[:, 2:4] / model.scales, local[:, 4]


class InverseScaleAdam(_Moments):
    """Image-GS: Adam on positions in units of the picture, inverse scales, rotations and colours."""

    def __init__(self, model: Gaussians, config: FitConfig, size: tuple[int, int]) -> None:
        n, channels = model.colors.shape
        super().__init__(first=np.zeros((n, 5 + channels), np.float32), second=np.zeros((n, 5 + channels), np.float32))
        self._config = config
        self._unit = np.array([size[1], size[0]], np.float32)
        low, high = scale_bounds(size)
        self._bounds = 1 / high, 1 / low

    def step(self, model: Gaussians, gradients: native.Gradients, factor: float) -> None:
        """See ``Optimizer``."""
        config, rates = self._config, self._config.rates
        means, scales, rotations = canvas_gradient(model, gradients.local)
        parts = [means * self._unit, -scales * model.scales**2, rotations[:, None], gradients.colors]
        gradient = np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)
        update = factor * native.adam(
            gradient,
            self.moments["first"],
            self.moments["second"],
            betas=config.betas,
            epsilon=config.epsilon,
            step=self.tick(),
        )
        model.means -= rates.position * update[:, :2] * self._unit
        model.scales[:] = 1 / np.clip(1 / model.scales - rates.scale * update[:, 2:4], *self._bounds)
        model.rotations -= rates.rotation * update[:, 4]
        model.colors -= rates.color * update[:, 5:]


class Adan(_Moments):
    """Adan (Xie et al., arXiv 2208.06677), the direction alone, for rows of numbers [N, K]."""

    THIRD_BETA = 0.99

    def __init__(self, rows: int, width: int, config: FitConfig) -> None:
        names = ("first", "difference", "second", "previous")
        super().__init__(**{name: np.zeros((rows, width), np.float32) for name in names})
        self._config = config

    def direction(self, gradient: FloatArray) -> FloatArray:
        """What is to be subtracted, at a rate of one; takes the gradient [N, K] in."""
        m, time = self.moments, self.tick()
        keep1, keep2 = self._config.betas
        change = np.zeros_like(gradient) if time == 1 else gradient - m["previous"]
        ahead = gradient + keep2 * change
        m["first"] += (1 - keep1) * (gradient - m["first"])
        m["difference"] += (1 - keep2) * (change - m["difference"])
        m["second"] += (1 - self.THIRD_BETA) * (ahead * ahead - m["second"])
        m["previous"][:] = gradient
        size = np.sqrt(m["second"] / (1 - self.THIRD_BETA**time)) + self._config.epsilon
        direction = m["first"] / (1 - keep1**time) + keep2 * m["difference"] / (1 - keep2**time)
        return np.asarray(direction / size, dtype=np.float32)


class GaussianImageAdan(Adan):
    """GaussianImage: Adan on tanh positions, shape and colours at one rate.

    The shape is a lower-triangular factor, or two scales and an angle that is 2π sigmoid of its value. GaussianImage
    adds an offset of 0.5 to scales and diagonals, which changes where a fit starts, not how it moves: it is left out.
    """

    def __init__(self, model: Gaussians, config: FitConfig, size: tuple[int, int]) -> None:
        n, channels = model.colors.shape
        super().__init__(n, 5 + channels, config)
        self._bounds = scale_bounds(size)
        self._unit = np.array([size[1], size[0]], np.float32)

    def step(self, model: Gaussians, gradients: native.Gradients, factor: float) -> None:
        """See ``Optimizer``."""
        inside = np.clip(2 * model.means / self._unit - 1, -0.9999, 0.9999)
        latent = np.arctanh(inside)
        v_means, v_scales, v_rotations = canvas_gradient(model, gradients.local)
        v_latent = v_means * (1 - inside**2) * self._unit / 2
        if self._config.shape == "cholesky":
            shape = to_factors(model.scales, model.rotations)
            v_shape = factor_gradient(model.scales, model.rotations, gradients.local, shape)
        else:
            # of the angles that mean the same ellipse, the one for which the sigmoid is steep
            turn = (np.mod(model.rotations - np.pi / 2, np.pi) + np.pi / 2) / (2 * np.pi)
            shape = np.column_stack([model.scales, np.log(turn / (1 - turn))])
            v_shape = np.column_stack([v_scales, v_rotations * 2 * np.pi * turn * (1 - turn)])
        gradient = np.concatenate([v_latent, v_shape, gradients.colors], axis=1).astype(np.float32)
        update = np.float32(self._config.rates.position * factor) * self.direction(gradient)
        model.means[:] = (np.tanh(latent - update[:, :2]) + 1) / 2 * self._unit
        shape = shape - update[:, 2:5]
        if self._config.shape == "cholesky":
            model.scales[:], model.rotations[:] = from_factors(shape)
        else:
            model.scales[:] = np.abs(shape[:, :2])
            model.rotations[:] = 2 * np.pi / (1 + np.exp(-shape[:, 2]))
        np.clip(model.scales, *self._bounds, out=model.scales)
        model.colors -= update[:, 5:]


def make_optimizer(model: Gaussians, config: FitConfig, size: tuple[int, int]) -> Optimizer:
    """The optimiser for a shape, for Gaussians on a picture of (height, width) pixels."""
    if config.shape == "local":
        return LocalAdam(model, config, size)
    if config.shape == "inverse-scale":
        return InverseScaleAdam(model, config, size)
    return GaussianImageAdan(model, config, size)
