"""Where Gaussians begin and which ones move, on a GPU: as ``growth`` and ``initialization`` say, in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import cuda
from .config import FitConfig
from .initialization import SMALLEST_START, SPARSEST
from .loop import Scene


class DeviceGrowth:
    """What growth looks at, on the device; waits for nothing."""

    def __init__(self, device: cuda.Device, scene: Scene, config: FitConfig) -> None:
        def moved(values: object, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device.torch)

        target, structure = scene.target, scene.structure
        self._config, self.size = config, target.size
        self.target = moved(target.pixels)
        self.weights = None if target.weights is None else moved(target.weights)
        self._start = moved(scene.start, torch.float64)
        self._growth = None if target.growth is None else moved(target.growth, torch.float64)
        self._shape: tuple[Tensor, Tensor] | None = None
        if config.init == "structure":
            self._shape = moved(structure.elongation).flatten(), moved(structure.direction).flatten()

    def density(self, image: Tensor) -> Tensor:
        """See ``growth.error_density``."""
        error = (image - self.target).double().square().mean(dim=0)
        if self.weights is not None:
            error = error * self.weights
        values = error**self._config.error_power
        if self._growth is not None:
            values = values * self._growth
        total = values.sum()
        return torch.where(total > 0, values / total, 1 / values.numel())

    def draw(self, density: Tensor, count: int, random: torch.Generator) -> Tensor:
        """See ``initialization.draw_pixels``."""
        if count >= density.numel():
            return torch.arange(density.numel(), device=density.device)
        likely = density.flatten() + 1e-12 / density.numel()  # so that there are always enough of them
        keys = torch.empty_like(likely).exponential_(generator=random) / likely
        return torch.topk(keys, count, largest=False).indices.sort().values

    def spawn(self, pixels: Tensor, density: Tensor, count: int, begun: int) -> list[Tensor]:
        """See ``initialization.spawn``; means, scales, rotations and colours.

        Args:
            pixels: [N] flat indices.
            density: [H, W] of the new Gaussians.
            count: how many they are.
            begun: how many the fit began with.
        """
        config, (height, width) = self._config, self.size
        means = torch.stack([pixels % width + 0.5, pixels // width + 0.5], dim=1).float()
        if config.start_scale is not None:
            scale = torch.full((len(pixels),), config.start_scale, dtype=torch.float64, device=pixels.device)
        else:
            expected = (self._start * begun + density * count).flatten()[pixels]
            scale = config.scale_per_spacing / expected.clamp(min=SPARSEST / (height * width)).sqrt()
            scale = scale.clamp(min=SMALLEST_START)
        elongation, direction = torch.ones_like(scale), torch.zeros(len(pixels), device=pixels.device)
        if self._shape is not None:
            elongation, direction = self._shape[0][pixels].double(), self._shape[1][pixels]
        scales = torch.stack([scale / elongation, scale * elongation], dim=1).float()
        colors = self.target.flatten(1)[:, pixels].T.contiguous()
        return [means, scales, direction, colors]

    def least_worth(self, growth: Tensor, means: Tensor, count: int) -> Tensor:
        """See ``growth.least_worth``; ``growth`` [N] is what each Gaussian's removal costs."""
        worth = growth.double().nan_to_num()
        if self._growth is not None:
            height, width = self.size
            columns, rows = means.nan_to_num().floor().long().unbind(1)
            worth = worth * self._growth[rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        return torch.topk(worth, count, largest=False).indices.sort().values
