"""The CUDA kernels with torch tensors: one render and its backward pass, SSIM, Adam. Loaded where a GPU is asked for.

Everything is launched in torch's current stream and nothing waits for the device, but `CudaRasterizer.prepare` without
a capacity. Tensors are float32, contiguous and on the launcher's device; callers have validated them. Results are the
same in every run: nothing is added atomically. Each operation does what its namesake in ``native`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import DeviceError
from . import cuda_program
from .native import BLEND_IDS, IDENTITY, FloatArray, Gradients, Rasterizer

TILE = 16
"""Side of the square of pixels that a block draws."""
MOMENTS = 6
"""Sums of a pair of Gaussian and tile, besides those of the colours."""
TAPS = 11
"""Of the window of SSIM."""
Macros = tuple[tuple[str, int], ...]


class Launch(Protocol):
    """What starts kernels: `cuda_program.Launcher`, or what stands in for it."""

    def launch(
        self, name: str, kernel: str, blocks: int, arguments: Sequence[np.generic], *, macros: Macros, stream: int
    ) -> None:
        """See `cuda_program.Launcher.launch`."""


class Device:
    """A GPU and its kernels.

    Attributes:
        torch: the device as PyTorch names it.
        graphs: whether work can be captured in CUDA graphs.
    """

    def __init__(self, device: torch.device, launcher: Launch) -> None:
        self.torch, self._launcher = device, launcher
        self.graphs = device.type == "cuda"

    def run(
        self,
        name: str,
        kernel: str,
        blocks: int,
        *arguments: Tensor | np.generic | int | float | None,
        macros: Macros = (),
    ) -> None:
        """Starts a kernel; integers are ``int``, floats ``float``, other parameters come as NumPy scalars."""
        scalars = [_scalar(argument) for argument in arguments]
        with self.current():
            stream = torch.cuda.current_stream(self.torch).cuda_stream if self.torch.type == "cuda" else 0
            self._launcher.launch(name, kernel, blocks, scalars, macros=macros, stream=stream)

    def current(self) -> AbstractContextManager[object]:
        """Makes it the current one of several GPUs, inside the block."""
        return torch.cuda.device(self.torch) if self.torch.type == "cuda" else nullcontext()

    def each(self, name: str, kernel: str, count: int, *arguments: Tensor | np.generic | int | float | None) -> None:
        """Starts a kernel with a thread for each of ``count`` items, its first parameter."""
        self.run(name, kernel, _blocks(count), np.int64(count), *arguments)


def _scalar(argument: Tensor | np.generic | int | float | None) -> np.generic:
    if argument is None:
        return np.uintp(0)
    if isinstance(argument, Tensor):
        return np.uintp(argument.data_ptr())
    if isinstance(argument, np.generic):
        return argument
    return np.int32(argument) if isinstance(argument, int) else np.float32(argument)


def _blocks(threads: int) -> int:
    return -(-threads // cuda_program.BLOCK)


@cache
def open_device(ordinal: int) -> Device:
    """The GPU of a number; it must be there.

    Raises:
        DeviceError: there are no kernels for its architecture, or no compiler.
    """
    capability = torch.cuda.get_device_capability(ordinal)
    return Device(torch.device("cuda", ordinal), cuda_program.Launcher(ordinal, capability))


def tiles_of(size: tuple[int, int]) -> int:
    """How many tiles a picture of (height, width) pixels has."""
    return -(-size[0] // TILE) * -(-size[1] // TILE)


class Batch:
    """Pictures of any sizes that are drawn at once, each with Gaussians of its own.

    Attributes:
        sizes: (height, width) of each, pixels.
        starts: its first pixel in a plane.
        pixels: of all of them.
        tiles: of all of them.
        frames: what the kernels know of each.
        tile_frames: int32 [tiles], the picture of each tile.
        last_tiles: int64 [pictures], the last tile of each.
        frame_of: int32 [N], the picture of each Gaussian.
    """

    _FRAME = np.dtype([("height", "i4"), ("width", "i4"), ("tile", "i4"), ("index", "i4"), ("pixel", "i8")])

    def __init__(self, device: Device, sizes: Sequence[tuple[int, int]], counts: Sequence[int]) -> None:
        """Lays the pictures out; ``counts`` says how many Gaussians each has, one after the other."""
        tiles = np.cumsum([0, *(tiles_of(size) for size in sizes)])
        pixels = np.cumsum([0, *(height * width for height, width in sizes)])
        self.sizes, self.starts = list(sizes), pixels[:-1].tolist()
        self.pixels, self.tiles = int(pixels[-1]), int(tiles[-1])
        rows = [(*size, tiles[k], k, pixels[k]) for k, size in enumerate(sizes)]
        frames = np.array(rows, self._FRAME).view(np.uint8)
        self.frames = torch.tensor(frames, device=device.torch)
        each = np.arange(len(sizes), dtype=np.int32)
        self.tile_frames = torch.tensor(np.repeat(each, np.diff(tiles)), device=device.torch)
        self.last_tiles = torch.tensor(tiles[1:] - 1, device=device.torch)
        self.frame_of = torch.tensor(np.repeat(each, counts), device=device.torch)


class DeviceGradients(NamedTuple):
    """What a backward pass finds, on the device; see ``native.Gradients``. Loss and error are float64 scalars."""

    loss: Tensor
    squared_error: Tensor
    local: Tensor
    colors: Tensor
    background: Tensor


class CudaRasterizer:
    """One render and its backward pass, as ``native.Rasterizer``; tensors in and out."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._image: Tensor | None = None
        self._kept: tuple[Tensor | None, ...] | None = None

    def prepare(
        self,
        means: Tensor,
        scales: Tensor,
        rotations: Tensor,
        colors: Tensor,
        size: tuple[int, int],
        viewport: tuple[float, float, float, float] = IDENTITY,
        blend: str = "normalized",
        top_k: int = 10,
        capacity: int | None = None,
        batch: Batch | None = None,
    ) -> None:
        """Takes Gaussians (shapes as in ``Gaussians2D``) for an output of (height, width) pixels.

        The tensors must stay as they are until the last use of this render.

        Args:
            means: [N, 2] canvas pixels.
            scales: [N, 2].
            rotations: [N].
            colors: [N, C].
            size: height and width of the output, pixels.
            viewport: canvas point of every output pixel.
            blend: how weights and colours make a pixel.
            top_k: K of the blend ``topk``.
            capacity: room for so many pairs of Gaussian and tile, so that nothing waits for their number (see `pairs`);
                those beyond it are left out. By default all of them get room, which waits for the device.
            batch: several pictures, instead of one of ``size``; planes [H, W] are then [pixels] of all of them.
        """
        self._kept = None
        self._arrays = (means, scales, rotations, colors)
        self._size, self._view = size, tuple(np.float64(value) for value in viewport)
        self._macros: Macros = (
            ("IMAGEGS_CHANNELS", colors.shape[1]),
            ("IMAGEGS_BLEND", BLEND_IDS[blend]),
            ("IMAGEGS_TOP_K", top_k if blend == "topk" else 1),
        )
        run, n = self.device, len(means)
        self._batch, self._plane = batch, size if batch is None else (batch.pixels,)
        self._tiles = tiles_of(size) if batch is None else batch.tiles
        where = (*size, None, None) if batch is None else (*size, batch.frames, batch.frame_of)
        self._splats = self._empty((n, 10))
        counts = self._empty((n,), torch.int64)
        run.each("tiles", "project", n, colors.shape[1], *self._arrays, *self._view, *where, self._splats, counts)
        self._first_slot = torch.zeros(n + 1, dtype=torch.int64, device=self.device.torch)
        torch.cumsum(counts, 0, out=self._first_slot[1:])
        self._capacity = int(self._first_slot[-1]) if capacity is None else capacity
        with self._enough_memory():
            tiles = torch.full((self._capacity,), self._tiles, dtype=torch.int32, device=self.device.torch)
            self._owners = self._empty((self._capacity,), torch.int32)
            slots = np.int64(self._capacity)
            run.each("tiles", "scatter", n, *where, self._splats, self._first_slot, slots, tiles, self._owners)
            tiles, self._slots = torch.sort(tiles, stable=True)
            every = torch.arange(self._tiles + 1, dtype=torch.int32, device=self.device.torch)
            self._first_entry = torch.searchsorted(tiles, every)

    def recolor(self, colors: Tensor) -> None:
        """The same Gaussians in other colours [N, C], which are finite; they stay in their tiles."""
        self._arrays, self._kept = (*self._arrays[:3], colors), None

    @property
    def pairs(self) -> Tensor:
        """How many pairs of Gaussian and tile there are: int64 [], on the device; see the capacity of `prepare`."""
        return self._first_slot[-1]

    @property
    def image(self) -> Tensor:
        """The picture [C, H, W] last rendered."""
        assert self._image is not None
        return self._image

    def forward(self, background: Tensor, *, keep: bool = False) -> Tensor:
        """Picture [C, H, W], not clamped; ``keep`` what ``backward`` and ``removal`` need."""
        with self._enough_memory():
            image = self._empty((self._channels, *self._plane))
            top_k = keep and dict(self._macros)["IMAGEGS_BLEND"] == BLEND_IDS["topk"]
            total = self._empty(self._plane) if keep else None
            threshold = self._empty(self._plane) if top_k else None
            last = self._empty(self._plane, torch.int32) if top_k else None
        self._draw("forward", background, image, total, threshold, last)
        self._image, self._kept = image, (image, total, threshold, last) if keep else None
        return image

    def backward(
        self,
        background: Tensor,
        *,
        target: Tensor | None = None,
        weights: Tensor | None = None,
        v_image: Tensor | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        fused: bool = False,
        show: bool = True,
    ) -> DeviceGradients:
        """See ``native.Rasterizer.backward``."""
        (means, scales, rotations, _), channels = self._arrays, self._channels
        n, columns = len(means), MOMENTS + channels
        with self._enough_memory():
            partials = self._empty((self._capacity, columns))
            tile_sums = self._empty((self._tiles, 2 + channels))
            sums = self._empty((n, columns))
            local, colors = self._empty((n, 5)), self._empty((n, channels))
            if fused and show:
                self._image = self._empty((channels, *self._plane))
        loss = (target, weights, v_image, l1, l2)
        if fused:
            self._draw("fused", background, *loss, self._image if show else None, partials, tile_sums)
        else:
            self._draw("backward", background, *self._saved(), *loss, partials, tile_sums)
        self._sum_slots(columns, partials, sums)
        self.device.each(
            "gradients", "finish", n, channels, self._splats, scales, rotations, *self._view, sums, local, colors
        )
        totals = tile_sums.sum(0, dtype=torch.float64)
        self._tile_sums = tile_sums
        v_background = totals[2:].float().nan_to_num(0.0, 0.0, 0.0)
        return DeviceGradients(totals[0], totals[1], local, colors, v_background)

    def errors(self) -> Tensor:
        """Loss and squared error of each picture of a batch, summed: float64 [pictures, 2]; after ``backward``."""
        assert self._batch is not None
        sums = torch.cumsum(self._tile_sums[:, :2].double(), 0)[self._batch.last_tiles]
        return torch.cat([sums[:1], sums[1:] - sums[:-1]])

    def removal(self, background: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Growth [N] of the weighted squared error if a Gaussian were taken away; after ``forward(keep=True)``."""
        with self._enough_memory():
            partials, growth = self._empty((self._capacity,)), self._empty((len(self._arrays[0]),))
        self._draw("removal", background, *self._saved(), target, weights, partials)
        self._sum_slots(1, partials, growth)
        return growth

    @property
    def _channels(self) -> int:
        return int(self._arrays[3].shape[1])

    def _saved(self) -> tuple[Tensor | None, ...]:
        if self._kept is None:
            raise ValueError("forward(keep=True) must come first")
        return self._kept

    def _draw(self, kernel: str, background: Tensor, *arguments: Tensor | float | None) -> None:
        """A kernel of the renderer, with a block for each tile."""
        frames = (None, None) if self._batch is None else (self._batch.frames, self._batch.tile_frames)
        lists = (self._splats, self._arrays[3], background, self._owners, self._slots, self._first_entry)
        scene = (*self._size, *frames, np.int64(math.prod(self._plane)), *lists)
        self.device.run("render", kernel, self._tiles, *scene, *arguments, macros=self._macros)

    def _sum_slots(self, columns: int, partials: Tensor, sums: Tensor) -> None:
        """Adds up what the pairs of every Gaussian have left; a warp for each."""
        n = len(self._arrays[0])
        slots = (self._first_slot, np.int64(self._capacity))
        self.device.run("gradients", "sum_slots", _blocks(32 * n), np.int64(n), columns, *slots, partials, sums)

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device.torch)

    def needed(self) -> int:
        """Bytes that a forward and backward pass takes, about."""
        pixels, channels = math.prod(self._plane), self._channels
        sorting = 40 * self._capacity  # keys and values, twice, and the sort's own
        return 4 * (pixels * (3 * channels + 4) + self._capacity * (MOMENTS + channels)) + sorting

    def _enough_memory(self) -> AbstractContextManager[None]:
        shape = " x ".join(f"{side:,}" for side in self._plane)
        return enough_memory(self.device, self.needed, f"{len(self._arrays[0]):,} Gaussians on {shape} pixels")


@contextmanager
def enough_memory(device: Device, needed: Callable[[], int], what: str) -> Iterator[None]:
    """Says how much memory ``what`` takes, about, where there is too little."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"device: {device.torch} needs about {_gigabytes(needed())} for {what}, "
            f"found {_gigabytes(free_memory(device.torch))} free; take the picture block by block, or the device cpu"
        ) from error


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that nobody uses."""
    return int(torch.cuda.mem_get_info(device)[0])


def taps(device: torch.device) -> Tensor:
    """The window of SSIM [11]: a Gaussian of 1.5 px, summing to 1."""
    values = np.exp(-0.5 * (np.arange(TAPS) - TAPS // 2) ** 2 / 1.5**2)
    return torch.tensor(values / values.sum(), dtype=torch.float32, device=device)


def ssim(
    device: Device,
    image: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    *,
    window: Tensor,
    scale: float = 0.0,
    v_image: Tensor | None = None,
) -> Tensor:
    """See ``native.ssim``; float64 [] on the device. ``window`` is that of `taps`."""
    channels, height, width = image.shape
    tiles = math.ceil(height / TILE) * math.ceil(width / TILE)
    sums = torch.empty(channels, tiles, device=device.torch)
    derivatives = None if v_image is None else torch.empty(3, height, width, device=device.torch)
    for plane in range(channels):
        x, y = image[plane], target[plane]
        size = (height, width, x, y)
        device.run("ssim", "ssim_forward", tiles, *size, weights, window, derivatives, sums[plane])
        if v_image is not None:
            device.run("ssim", "ssim_backward", tiles, *size, derivatives, window, float(scale), v_image[plane])
    return sums.sum(dtype=torch.float64)


def adam(
    device: Device,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    clock: Tensor,
    betas: tuple[float, float],
    epsilon: float,
) -> Tensor:
    """Adam's update [N, K] (to be subtracted); both moments [N, K] take in the gradient in place.

    ``clock`` [3] holds the factor of the rates, 1 - beta1^step and 1 - beta2^step.
    """
    update = torch.empty_like(gradient)
    device.each(
        "adam", "adam", gradient.numel(), gradient, clock, *map(float, (*betas, epsilon)), first, second, update
    )
    return update


def apply_local(
    device: Device,
    update: Tensor,
    clock: Tensor,
    rates: tuple[float, float, float],
    bounds: tuple[float, float],
    means: Tensor,
    scales: Tensor,
    rotations: Tensor,
) -> None:
    """Moves Gaussians in place by -rates · factor · update [N, 5] in their own frames; see ``native.apply_local``."""
    numbers = map(float, (*rates, *bounds))
    device.each("adam", "apply_local", len(means), update, clock, *numbers, means, scales, rotations)


class ArrayRasterizer(Rasterizer):
    """``native.Rasterizer`` on a GPU: NumPy arrays in and out, copied at every call. Waits for the device."""

    def __init__(self, device: Device) -> None:
        self._device, self._rasterizer = device, CudaRasterizer(device)
        self._image: FloatArray = np.zeros((0, 0, 0), np.float32)
        self._seen: dict[str, tuple[FloatArray, Tensor]] = {}

    def prepare(
        self,
        means: FloatArray,
        scales: FloatArray,
        rotations: FloatArray,
        colors: FloatArray,
        size: tuple[int, int],
        viewport: tuple[float, float, float, float] = IDENTITY,
        blend: str = "normalized",
        top_k: int = 10,
    ) -> None:
        """See ``native.Rasterizer``."""
        moved = [self._moved(array) for array in (means, scales, rotations, colors)]
        self._rasterizer.prepare(moved[0], moved[1], moved[2], moved[3], size, viewport, blend, top_k)

    def forward(self, background: FloatArray, *, keep: bool = False) -> FloatArray:
        """See ``native.Rasterizer``."""
        self._image = self._rasterizer.forward(self._moved(background), keep=keep).cpu().numpy()
        return self._image

    def backward(
        self,
        background: FloatArray,
        *,
        target: FloatArray | None = None,
        weights: FloatArray | None = None,
        v_image: FloatArray | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        fused: bool = False,
        show: bool = True,
    ) -> Gradients:
        """See ``native.Rasterizer``."""
        found = self._rasterizer.backward(
            self._moved(background),
            target=self._kept("target", target),
            weights=self._kept("weights", weights),
            v_image=None if v_image is None else self._moved(v_image),
            l1=l1,
            l2=l2,
            fused=fused,
            show=show,
        )
        if fused and show:
            self._image = self._rasterizer.image.cpu().numpy()
        loss, error, *gradients = (part.cpu().numpy() for part in found)
        return Gradients(float(loss), float(error), *gradients)

    def removal(self, background: FloatArray, target: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """See ``native.Rasterizer``."""
        wanted = self._kept("target", target)
        assert wanted is not None
        found = self._rasterizer.removal(self._moved(background), wanted, self._kept("weights", weights))
        growth: FloatArray = found.cpu().numpy()
        return growth

    def _moved(self, array: FloatArray) -> Tensor:
        shape = " x ".join(f"{side:,}" for side in array.shape)
        with enough_memory(self._device, lambda: array.nbytes, f"an array of {shape}"):
            return torch.tensor(array, device=self._device.torch)  # a copy, since arrays may be read-only

    def _kept(self, name: str, array: FloatArray | None) -> Tensor | None:
        """The same array, which nobody changes, is copied once."""
        if array is None:
            return None
        if name not in self._seen or self._seen[name][0] is not array:
            self._seen[name] = array, self._moved(array)
        return self._seen[name][1]
