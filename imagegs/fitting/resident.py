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

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..codec.lattice import COLOR_UNIT, UNIT, Lattice
from ..errors import DeviceError, ImageGSWarning, one_line
from ..gaussians import FloatArray
from ..kernels import cuda
from ..kernels.native import IDENTITY
from .config import FitConfig
from .device_growth import DeviceGrowth
from .initialization import Gaussians
from .loop import Scene
from .shapes import scale_bounds

MOST_STEPS = 50
"""Between two waits for the device."""
FINISHED_ERROR = 1e-10
"""A mean squared error, that of 100 dB, from which on nothing moves: gradients are rounding errors there."""
ROOM, WASTE, LEAST_ROOM = 1.5, 3.0, 1 << 12
"""For pairs of Gaussian and tile: so many times those that there are, never more times than this, at least so many."""
_MOST_NOISE = 1 << 26
"""Numbers of noise that are kept at a time."""


class Taken(NamedTuple):
    """Steps that were taken: losses and mean squared errors before each of them, float64 [steps, pictures]."""

    losses: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]


class Resident:
    """Gaussians, Adam's moments and the best state so far, on a GPU, with room for all that a fit will have.

    Rows that no Gaussian has yet hold means that are not numbers, and draw nothing: the graph of a step serves while
    Gaussians come and go. There may be several pictures, which are fitted at once, each with rows of its own.
    """

    def __init__(self, device: cuda.Device, scenes: Sequence[Scene], config: FitConfig, rows: Sequence[int]) -> None:
        """Makes room; `load` brings Gaussians.

        Args:
            device: where.
            scenes: the pictures at the size that is fitted, of the same number of channels.
            config: the settings; several pictures go without SSIM and without a lattice.
            rows: most Gaussians that there will be, of each picture.
        """
        self._device, self._config = device, config
        self._sizes = [scene.target.size for scene in scenes]
        self._batch = None if len(scenes) == 1 else cuda.Batch(device, self._sizes, rows)
        self._growth = [DeviceGrowth(device, scene, config) for scene in scenes]
        channels, every = len(scenes[0].target.pixels), sum(rows)
        self._target, self._weights = self._growth[0].target, self._growth[0].weights
        if self._batch is not None:
            self._target = torch.cat([one.target.flatten(1) for one in self._growth], dim=1)
            self._weights = None  # the pictures of a batch have none
        self._background = self._moved(np.stack([scene.background for scene in scenes]))
        self._values = self._moved(np.array([scene.target.pixels.size for scene in scenes])).double()
        bounds = np.array([scale_bounds(size) for size in self._sizes])
        self._bounds = float(bounds[:, 0].min()), float(bounds[:, 1].max())
        self._window = cuda.taps(device.torch) if config.loss.ssim > 0 else None
        self._rasterizer = cuda.CudaRasterizer(device)
        self._first = [0, *np.cumsum(rows).tolist()]
        self._live = [0] * len(scenes)
        self.most_steps = MOST_STEPS
        if config.lattice is not None:
            self.most_steps = max(1, min(MOST_STEPS, _MOST_NOISE // max(1, every * (5 + channels))))
            self._noise = self._zeros(self.most_steps, every, 5 + channels)
            self._color_noise = self._moved(_color_noise(config.lattice))
        shapes = ((every, 2), (every, 2), (every,), (every, channels))
        self._model, self._best = ([self._zeros(*shape) for shape in shapes] for _ in range(2))
        self._moments = [self._zeros(every, width) for width in (5, 5, channels, channels)]
        self._best_loss = self._zeros(len(scenes), dtype=torch.float64)
        self._clocks, self._row = self._zeros(self.most_steps, 4), self._zeros(1, 4)
        recorded = (self.most_steps, len(scenes))
        self._losses, self._errors = (self._zeros(*recorded, dtype=torch.float64) for _ in range(2))
        self._peak, self._place = (self._zeros(1, dtype=torch.int64) for _ in range(2))
        self._capacity = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    @staticmethod
    def needed(scenes: Sequence[Scene], rows: Sequence[int]) -> int:
        """Bytes that the steps take, about, besides the lists of tiles."""
        channels = len(scenes[0].target.pixels)
        pixels = sum(math.prod(scene.target.size) for scene in scenes)
        return pixels * (4 * (4 * channels + 8) + 40) + sum(rows) * 4 * (5 + channels) * 8

    def load(
        self,
        models: Sequence[Gaussians],
        moments: Sequence[dict[str, FloatArray]],
        bests: Sequence[Gaussians | None],
        best_losses: Sequence[float],
    ) -> None:
        """Brings the state of each picture there."""
        for tensor in (*self._model, *self._moments, *self._best):
            tensor.zero_()
        self._model[0].fill_(torch.nan)
        for k, (model, own, best) in enumerate(zip(models, moments, bests, strict=True)):
            self._live[k] = len(model)
            self._fill(self._model, model.arrays(), k)
            self._fill(self._moments, tuple(own[name] for name in MOMENTS), k)
            if best is not None:
                self._fill(self._best, best.arrays(), k)
        self._best_loss.copy_(torch.tensor(best_losses, dtype=torch.float64))
        self._prepare(self._model, counted=True)
        pairs = int(self._rasterizer.pairs)
        if not pairs <= self._capacity <= WASTE * max(LEAST_ROOM, pairs):
            self._make_room(pairs)

    def _fill(self, tensors: list[Tensor], arrays: tuple[FloatArray, ...], picture: int) -> None:
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor[self._rows(picture)] = self._moved(array)

    def _rows(self, picture: int) -> slice:
        """Rows of a picture's Gaussians."""
        return slice(self._first[picture], self._first[picture] + self._live[picture])

    def fetch(self) -> tuple[list[Gaussians], list[dict[str, FloatArray]]]:
        """The Gaussians and Adam's moments of each picture as they are now."""
        moments = [dict(zip(MOMENTS, arrays, strict=True)) for arrays in self._fetched(self._moments)]
        return [Gaussians(*arrays) for arrays in self._fetched(self._model)], moments

    def fetch_best(self) -> tuple[list[Gaussians], list[float]]:
        """The best state of each picture, and its loss."""
        return [Gaussians(*arrays) for arrays in self._fetched(self._best)], self._best_loss.tolist()

    def _fetched(self, tensors: list[Tensor]) -> list[list[FloatArray]]:
        whole = [tensor.cpu().numpy() for tensor in tensors]
        return [[array[self._rows(k)].copy() for array in whole] for k in range(len(self._live))]

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
            measured = torch.cat([self._losses[:steps].flatten(), self._errors[:steps].flatten(), self._peak.double()])
            found = measured.cpu().numpy()
            if found[-1] <= self._capacity:
                losses, errors = found[:-1].reshape(2, steps, -1)
                return Taken(losses, errors)
            for tensor, before in zip(self._changing(), kept, strict=True):
                tensor.copy_(before)
            self._make_room(int(found[-1]))

    def relocate(self, counts: Sequence[int], begun: Sequence[int], seed: int) -> None:
        """Moves Gaussians that are worth least to where the error is high; waits for nothing.

        Args:
            counts: how many of each picture.
            begun: how many Gaussians its fit began with.
            seed: of the places.
        """
        image = self._draw(self._model, keep=True)
        growth = self._rasterizer.removal(self._background, self._target, self._weights)
        random = torch.Generator(self._device.torch).manual_seed(seed)
        for k, count in enumerate(counts):
            if count <= 0:
                continue
            own = self._rows(k)
            rows = own.start + self._growth[k].least_worth(growth[own], self._model[0][own], count)
            for tensor, new in zip(self._model, self._new(image, k, count, begun[k], random), strict=True):
                tensor.index_copy_(0, rows, new)
            for tensor in self._moments:
                tensor.index_fill_(0, rows, 0.0)

    def grown(self, counts: Sequence[int], begun: Sequence[int], seed: int) -> list[Gaussians]:
        """New Gaussians of each picture where its error is high; see `relocate`."""
        image = self._draw(self._model)
        random = torch.Generator(self._device.torch).manual_seed(seed)
        made = [self._new(image, k, count, begun[k], random) for k, count in enumerate(counts)]
        return [Gaussians(*(np.array(tensor.cpu().numpy()) for tensor in new)) for new in made]

    def _new(self, image: Tensor, picture: int, count: int, begun: int, random: torch.Generator) -> list[Tensor]:
        growth = self._growth[picture]
        if self._batch is not None:
            height, width = self._sizes[picture]
            start = self._batch.starts[picture]
            image = image[:, start : start + height * width].reshape(-1, height, width)
        density = growth.density(image)
        pixels = growth.draw(density, count, random)
        return growth.spawn(pixels, density, len(pixels), begun)

    def _draw(self, model: list[Tensor], *, keep: bool = False) -> Tensor:
        """What Gaussians show; pairs beyond the room are left out, which the next steps notice."""
        self._prepare(model)
        return self._rasterizer.forward(self._background, keep=keep)

    def _prepare(self, model: list[Tensor], *, counted: bool = False) -> None:
        means, scales, rotations, colors = model
        blend = self._config.blend, self._config.top_k
        room = None if counted else self._capacity
        size = self._sizes[0] if self._batch is None else (0, 0)
        self._rasterizer.prepare(means, scales, rotations, colors, size, IDENTITY, *blend, room, self._batch)

    def _changing(self) -> list[Tensor]:
        return [*self._model, *self._moments, *self._best, self._best_loss]

    def _make_room(self, pairs: int) -> None:
        self._capacity = max(LEAST_ROOM, int(ROOM * pairs))
        self._graph, self._warm = None, False

    def _one(self) -> None:
        """One step: the first as it comes, which loads every kernel that the graph will need, then from the graph."""
        if self._device.graphs and self._warm and self._graph is None:
            self._graph = self._captured()
        if self._graph is None:
            self._step()
            self._warm = True
        else:
            with self._device.current():
                self._graph.replay()

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        """A step as a graph; None where none can be captured, which is said once: then steps are started one by one."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device.torch)
        try:
            with self._device.current(), torch.cuda.graph(graph):
                self._step()
        except DeviceError:  # too little memory
            raise
        except RuntimeError as error:
            self._device.graphs = False
            reason = one_line(error)[:200]
            warnings.warn(f"steps take longer, no CUDA graph could be captured: {reason}", ImageGSWarning, stacklevel=2)
            return None
        return graph

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
        self._losses.index_copy_(0, self._place, loss[None])
        self._errors.index_copy_(0, self._place, error[None])
        better = (loss < self._best_loss) & (clock[3] > 0)
        self._best_loss.copy_(torch.where(better, loss, self._best_loss))
        rows = better if self._batch is None else better.index_select(0, self._batch.frame_of)
        for best, tensor in zip(self._best, self._model, strict=True):
            best.copy_(torch.where(rows.reshape(-1, *[1] * (tensor.dim() - 1)), tensor, best))
        clock[:1].mul_((error > FINISHED_ERROR).any())
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
            height, width = self._sizes[0]
            means[:, 0].clamp_(0, width - 1e-3)
            means[:, 1].clamp_(0, height - 1e-3)
        self._place.add_(1)

    def _evaluate(self) -> tuple[Tensor, Tensor, cuda.DeviceGradients]:
        """Loss and mean squared error of each picture, float64, and gradients of the prepared Gaussians."""
        loss, rasterizer, values = self._config.loss, self._rasterizer, self._values
        given = {"target": self._target, "weights": self._weights, "l1": loss.l1, "l2": loss.l2}
        if self._window is None:
            found = rasterizer.backward(self._background, fused=True, show=False, **given)  # type: ignore[arg-type]
            sums = torch.stack(found[:2])[None] if self._batch is None else rasterizer.errors()
            return sums[:, 0] / values, sums[:, 1] / values, found
        image = rasterizer.forward(self._background, keep=True)
        v_image = torch.zeros_like(image)
        scale = -loss.ssim / self._target.numel()
        settings = {"window": self._window, "scale": scale, "v_image": v_image}
        total = cuda.ssim(self._device, image, self._target, self._weights, **settings)  # type: ignore[arg-type]
        found = rasterizer.backward(self._background, v_image=v_image, **given)  # type: ignore[arg-type]
        return found.loss / values + loss.ssim * (1 - total / values), found.squared_error / values, found

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

    def _moved(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self._device.torch)

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device.torch)


MOMENTS = ("local_first", "local_second", "color_first", "color_second")
"""Of ``LocalAdam``, in the order in which they lie there."""


def _color_noise(lattice: Lattice) -> FloatArray:
    """What turns noise [N, C] of a width of one into that of colours, at an area of one pixel: [C, C]."""
    steps = np.array(lattice.color_steps) / COLOR_UNIT
    return np.asarray(lattice.from_components(np.diag(steps)), dtype=np.float32)
