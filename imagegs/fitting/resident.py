"""The steps of a fit on a GPU, where Gaussians and moments stay from one to the next; one step is a CUDA graph.

```
 host    clocks and noise of a few steps ─┐                                  ┌─ wait once: losses, errors, pairs
 device                                   └► step ► step ► step ► ... ► step ┘
```

A step reads what differs between steps (the factor of the rates, Adam's corrections, noise) from the device, at a place
that it moves on itself. Pairs of Gaussian and tile have room of a fixed size; where that was not enough, the steps are
taken again with more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..codec.lattice import COLOR_UNIT, UNIT, Lattice
from ..gaussians import FloatArray
from ..kernels import cuda
from ..kernels.native import IDENTITY
from .config import FitConfig
from .device_growth import DeviceGrowth
from .initialization import Gaussians
from .loop import Scene
from .optimizer import scale_bounds

MOST_STEPS = 50
"""Between two waits for the device."""
FINISHED_ERROR = 1e-10
"""A mean squared error, that of 100 dB, from which on nothing moves: gradients are rounding errors there."""
ROOM, WASTE, LEAST_ROOM = 1.5, 3.0, 1 << 12
"""For pairs of Gaussian and tile: so many times those that there are, never more times than this, at least so many."""
_MOST_NOISE = 1 << 26
"""Numbers of noise that are kept at a time."""


class Taken(NamedTuple):
    """Steps that were taken: their losses and mean squared errors, before each of them."""

    losses: list[float]
    errors: list[float]


class Resident:
    """Gaussians, Adam's moments and the best state so far, on a GPU, with room for all that a fit will have.

    Rows that no Gaussian has yet hold means that are not numbers, and draw nothing: the graph of a step serves while
    Gaussians come and go.
    """

    def __init__(self, device: cuda.Device, scene: Scene, config: FitConfig, rows: int) -> None:
        """Makes room; `load` brings Gaussians.

        Args:
            device: where.
            scene: the picture at the size that is fitted.
            config: the settings.
            rows: most Gaussians that there will be.
        """
        self._device, self._config = device, config
        self._size, self._count = scene.target.size, scene.target.pixels.size
        self._growth = DeviceGrowth(device, scene, config)
        self._background = self._moved(scene.background)
        self._bounds = scale_bounds(self._size)
        self._window = cuda.taps(device.torch) if config.loss.ssim > 0 else None
        self._rasterizer = cuda.CudaRasterizer(device)
        channels = len(scene.target.pixels)
        self._live, self._rows = 0, rows
        self.most_steps = MOST_STEPS
        if config.lattice is not None:
            self.most_steps = max(1, min(MOST_STEPS, _MOST_NOISE // max(1, rows * (5 + channels))))
            self._noise = self._zeros(self.most_steps, rows, 5 + channels)
            self._color_noise = self._moved(_color_noise(config.lattice))
        shapes = ((rows, 2), (rows, 2), (rows,), (rows, channels))
        self._model, self._best = ([self._zeros(*shape) for shape in shapes] for _ in range(2))
        self._moments = [self._zeros(rows, width) for width in (5, 5, channels, channels)]
        self._best_loss = self._zeros(1, dtype=torch.float64)
        self._clocks, self._row = self._zeros(self.most_steps, 4), self._zeros(1, 4)
        self._losses, self._errors = (self._zeros(self.most_steps, dtype=torch.float64) for _ in range(2))
        self._peak, self._place = (self._zeros(1, dtype=torch.int64) for _ in range(2))
        self._capacity = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def load(self, model: Gaussians, moments: dict[str, FloatArray], best: Gaussians | None, best_loss: float) -> None:
        """Brings a state there."""
        self._live = len(model)
        self._fill(self._model, model.arrays())
        self._fill(self._moments, tuple(moments[name] for name in MOMENTS))
        self._model[0][self._live :] = torch.nan
        if best is not None:
            self._fill(self._best, best.arrays())
        self._best_loss.fill_(best_loss)
        self._prepare(self._model, counted=True)
        pairs = int(self._rasterizer.pairs)
        if not pairs <= self._capacity <= WASTE * max(LEAST_ROOM, pairs):
            self._make_room(pairs)

    def _fill(self, tensors: list[Tensor], arrays: tuple[FloatArray, ...]) -> None:
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.zero_()
            tensor[: len(array)] = self._moved(array)

    def fetch(self) -> tuple[Gaussians, dict[str, FloatArray]]:
        """The Gaussians and Adam's moments as they are now."""
        model = Gaussians(*(self._array(tensor) for tensor in self._model))
        return model, dict(zip(MOMENTS, (self._array(tensor) for tensor in self._moments), strict=True))

    def fetch_best(self) -> tuple[Gaussians, float]:
        """The best state and its loss."""
        return Gaussians(*(self._array(tensor) for tensor in self._best)), float(self._best_loss)

    def advance(self, clocks: FloatArray, seed: int, *, noisy: bool, settled: bool) -> Taken:
        """Takes steps, and waits for them.

        Args:
            clocks: [steps, 3] at most ``most_steps``: factor of the rates, 1 - beta1^time, 1 - beta2^time.
            seed: of the noise.
            noisy: whether steps see noise of the lattice.
            settled: whether the best state is kept.
        """
        steps = len(clocks)
        kept = [tensor.clone() for tensor in self._changing()]
        self._clocks[:steps, :3] = self._moved(clocks)
        self._clocks[:steps, 3] = float(settled)
        if self._config.lattice is not None:
            noise = self._noise[:steps]
            noise.zero_()
            if noisy:
                random = torch.Generator(self._device.torch).manual_seed(seed)
                noise.uniform_(-0.5, 0.5, generator=random)
        while True:
            self._place.zero_()
            self._peak.zero_()
            for _ in range(steps):
                self._one()
            found = torch.cat([self._losses[:steps], self._errors[:steps], self._peak.double()]).tolist()
            if found[-1] <= self._capacity:
                return Taken(found[:steps], found[steps:-1])
            for tensor, before in zip(self._changing(), kept, strict=True):
                tensor.copy_(before)
            self._make_room(int(found[-1]))

    def relocate(self, count: int, begun: int, seed: int) -> None:
        """Moves the ``count`` Gaussians that are worth least to where the error is high; waits for nothing.

        Args:
            count: how many.
            begun: how many Gaussians the fit began with.
            seed: of the places.
        """
        image = self._draw(self._model, keep=True)
        growth = self._rasterizer.removal(self._background, self._growth.target, self._growth.weights)
        rows = self._growth.least_worth(growth[: self._live], self._model[0][: self._live], count)
        for tensor, new in zip(self._model, self._new(image, count, begun, seed), strict=True):
            tensor.index_copy_(0, rows, new)
        for tensor in self._moments:
            tensor.index_fill_(0, rows, 0.0)

    def grown(self, count: int, begun: int, seed: int) -> Gaussians:
        """New Gaussians where the error is high; see `relocate`."""
        new = self._new(self._draw(self._model), count, begun, seed)
        return Gaussians(*(np.array(tensor.cpu().numpy()) for tensor in new))

    def _new(self, image: Tensor, count: int, begun: int, seed: int) -> list[Tensor]:
        density = self._growth.density(image)
        pixels = self._growth.draw(density, count, torch.Generator(self._device.torch).manual_seed(seed))
        return self._growth.spawn(pixels, density, len(pixels), begun)

    def _draw(self, model: list[Tensor], *, keep: bool = False) -> Tensor:
        """What Gaussians show; pairs beyond the room are left out, which the next steps notice."""
        self._prepare(model)
        return self._rasterizer.forward(self._background, keep=keep)

    def _prepare(self, model: list[Tensor], *, counted: bool = False) -> None:
        means, scales, rotations, colors = model
        blend = self._config.blend, self._config.top_k
        room = None if counted else self._capacity
        self._rasterizer.prepare(means, scales, rotations, colors, self._size, IDENTITY, *blend, room)

    def _changing(self) -> list[Tensor]:
        return [*self._model, *self._moments, *self._best, self._best_loss]

    def _make_room(self, pairs: int) -> None:
        self._capacity = max(LEAST_ROOM, int(ROOM * pairs))
        self._graph, self._warm = None, False

    def _one(self) -> None:
        """One step: the first as it comes, which loads every kernel that the graph will need, then from the graph."""
        if self._device.torch.type != "cuda":
            self._step()
        elif not self._warm:
            self._step()
            self._warm = True
        else:
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                torch.cuda.synchronize(self._device.torch)
                with self._device.current(), torch.cuda.graph(self._graph):
                    self._step()
            with self._device.current():
                self._graph.replay()

    def _step(self) -> None:
        """Loss, gradients and update; waits for nothing, and writes only into tensors that were there before."""
        config, device = self._config, self._device
        torch.index_select(self._clocks, 0, self._place, out=self._row)
        clock = self._row[0]
        model = self._model if config.lattice is None else self._perturbed(config.lattice)
        self._prepare(model)
        most = torch.maximum(self._peak, self._rasterizer.pairs)
        self._peak.copy_(torch.where(self._peak > self._capacity, self._peak, most))  # what follows too many is wrong
        loss, error, found = self._evaluate()
        self._losses.index_copy_(0, self._place, loss.reshape(1))
        self._errors.index_copy_(0, self._place, error.reshape(1))
        better = (loss < self._best_loss) & (clock[3] > 0)
        for best, tensor in zip(self._best, self._model, strict=True):
            best.copy_(torch.where(better, tensor, best))
        self._best_loss.copy_(torch.where(better, loss, self._best_loss))
        clock[:1].mul_(error > FINISHED_ERROR)
        means, scales, rotations, colors = self._model
        rates = config.rates
        first, second, color_first, color_second = self._moments
        settings = config.betas, config.epsilon
        update = cuda.adam(device, found.local, first, second, clock, *settings)
        each = (rates.position, rates.scale, rates.rotation)
        cuda.apply_local(device, update, clock, each, self._bounds, means, scales, rotations)
        update = cuda.adam(device, found.colors, color_first, color_second, clock, *settings)
        colors.sub_(update * (clock[0] * rates.color))
        if config.lattice is not None:
            height, width = self._size
            means[:, 0].clamp_(0, width - 1e-3)
            means[:, 1].clamp_(0, height - 1e-3)
        self._place.add_(1)

    def _evaluate(self) -> tuple[Tensor, Tensor, cuda.DeviceGradients]:
        """Loss and mean squared error, float64 [], and gradients of the prepared Gaussians."""
        loss, rasterizer, count = self._config.loss, self._rasterizer, self._count
        given = {"target": self._growth.target, "weights": self._growth.weights, "l1": loss.l1, "l2": loss.l2}
        if self._window is None:
            found = rasterizer.backward(self._background, fused=True, show=False, **given)  # type: ignore[arg-type]
            return found.loss / count, found.squared_error / count, found
        image = rasterizer.forward(self._background, keep=True)
        v_image = torch.zeros_like(image)
        settings = {"window": self._window, "scale": -loss.ssim / count, "v_image": v_image}
        total = cuda.ssim(self._device, image, self._growth.target, self._growth.weights, **settings)  # type: ignore[arg-type]
        found = rasterizer.backward(self._background, v_image=v_image, **given)  # type: ignore[arg-type]
        return found.loss / count + loss.ssim * (1 - total / count), found.squared_error / count, found

    def _perturbed(self, lattice: Lattice) -> list[Tensor]:
        """The Gaussians under the lattice's noise; see ``noise.perturb``."""
        means, scales, rotations, colors = self._model
        noise = torch.index_select(self._noise, 0, self._place)[0]
        area = scales.prod(dim=1)
        root = area.sqrt().sqrt()
        along, across = (noise[:, :2] * scales * (lattice.place_step / UNIT / root)[:, None]).unbind(1)
        c, s = rotations.cos(), rotations.sin()
        moved = means + torch.stack([c * along - s * across, s * along + c * across], dim=1)
        size = noise[:, 2] * (2 * lattice.root_step / UNIT) / root
        spread = noise[:, 3] * (float(np.log(2)) / 2 * lattice.ratio_step / UNIT) / root
        shaped = scales * torch.stack([size + spread, size - spread], dim=1).exp()
        ratio = scales.amax(dim=1) / scales.amin(dim=1)
        turn = (lattice.angle_step / UNIT / root / (ratio - 1 / ratio).clamp(min=1e-6)).clamp(max=float(np.pi))
        shifted = colors + (noise[:, 5:] / area.sqrt()[:, None]) @ self._color_noise
        return [moved.contiguous(), shaped.contiguous(), rotations + noise[:, 4] * turn, shifted.contiguous()]

    def _array(self, tensor: Tensor) -> FloatArray:
        return np.array(tensor[: self._live].cpu().numpy())

    def _moved(self, array: FloatArray) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self._device.torch)

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device.torch)


MOMENTS = ("local_first", "local_second", "color_first", "color_second")
"""Of ``LocalAdam``, in the order in which they lie there."""


def _color_noise(lattice: Lattice) -> FloatArray:
    """What turns noise [N, C] of a width of one into that of colours, at an area of one pixel: [C, C]."""
    steps = np.array(lattice.color_steps) / COLOR_UNIT
    return np.asarray(lattice.from_components(np.diag(steps)), dtype=np.float32)
