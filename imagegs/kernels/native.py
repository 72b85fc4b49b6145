"""The compiled CPU kernels with NumPy arrays; where they could not be built, their PyTorch definition stands in.

Arrays are float32 and C-contiguous; callers have validated them. Each function does what its namesake in ``reference``
defines; results do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError, ImageGSWarning

if TYPE_CHECKING:
    from ..gaussians import Gaussians2D

FloatArray = npt.NDArray[np.float32]

BLEND_IDS = {"normalized": 0, "topk": 1, "sum": 2}
IDENTITY = (0.0, 0.0, 1.0, 1.0)
"""Viewport (x0, y0, step_x, step_y) of a render at the canvas's own size."""

_native: Any = None
with contextlib.suppress(ImportError):
    _native = importlib.import_module("imagegs.kernels._native")
if _native is not None:
    _wanted = os.environ.get("IMAGEGS_KERNELS")
    if _wanted and not _native.select_kernels(_wanted):
        raise DeviceError(
            f"IMAGEGS_KERNELS: expected auto, avx512, avx2 or baseline that this machine runs, found {_wanted}"
        )
    _native.set_threads(int(os.environ.get("IMAGEGS_THREADS", "0") or 0))


def available() -> bool:
    """Whether the compiled module is there."""
    return _native is not None


def instruction_set() -> str:
    """The instruction set in use: avx512, avx2, baseline, or "reference" without the compiled module."""
    return str(_native.kernels()) if available() else "reference"


@cache
def _reference() -> ModuleType:
    """The PyTorch definition as a stand-in; loaded only here and only then, so that decoding need not know torch."""
    warnings.warn(
        "the compiled kernels are missing, so the PyTorch reference runs, hundreds of times slower; "
        "install a C++ compiler (Debian: apt install g++; macOS: xcode-select --install), then reinstall imagegs",
        ImageGSWarning,
        stacklevel=4,
    )
    try:
        return importlib.import_module("imagegs.kernels.reference")
    except ImportError as error:
        raise DeviceError(
            "neither the compiled kernels nor PyTorch are there: install a C++ compiler or torch"
        ) from error


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Use ``count`` threads inside the block; None leaves the number as it is (one per core, or IMAGEGS_THREADS)."""
    if count is None or not available():
        yield
        return
    before = _native.threads()
    _native.set_threads(count)
    try:
        yield
    finally:
        _native.set_threads(before)


class Gradients(NamedTuple):
    """What a backward pass finds.

    Attributes:
        loss: the loss, summed over pixels and channels.
        squared_error: of the render clamped to [0, 1], summed over pixels and channels.
        local: [N, 5] gradient in position (units of the scales, along the axes), log scales and rotation.
        colors: [N, C].
        background: [C].
    """

    loss: float
    squared_error: float
    local: FloatArray
    colors: FloatArray
    background: FloatArray


class Rasterizer:
    """One render and its backward pass; keeps its memory from one to the next."""

    def __init__(self) -> None:
        self._kernel = _native.Renderer() if available() else _reference().Rasterizer()
        self._image: FloatArray = np.zeros((0, 0, 0), np.float32)

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
        """Takes Gaussians (shapes as in ``Gaussians2D``) for an output of (height, width) pixels.

        The arrays must stay as they are until the last use of this render.
        """
        self._arrays = (means, scales, rotations, colors)  # the kernel keeps pointers only
        self._shape = (colors.shape[1], *size)
        if available():
            self._kernel.prepare(*self._arrays, *size, viewport, BLEND_IDS[blend], top_k)
        else:
            self._kernel.prepare(*self._arrays, size, viewport, blend, top_k)

    @property
    def image(self) -> FloatArray:
        """The picture [C, H, W] last rendered; written over by the next render."""
        return self._image

    def forward(self, background: FloatArray, *, keep: bool = False) -> FloatArray:
        """Picture [C, H, W], not clamped; ``keep`` what ``backward`` and ``removal`` need."""
        if not available():
            self._image = self._kernel.forward(background, keep=keep)
            return self._image
        self._kernel.forward(background, self._canvas(), keep)
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
        """Gradients of mean(weights (l1 |d| + l2 d²)) + <v_image, image>, d = image - target.

        Args:
            background: [C].
            target: [C, H, W], or None for no loss of its own.
            weights: [H, W], or None for ones.
            v_image: [C, H, W] gradient that comes from elsewhere.
            l1: weight of the absolute error.
            l2: weight of the squared error.
            fused: render as well, tile by tile (quicker); without it ``forward(keep=True)`` must come first.
            show: with ``fused``, also write the picture into ``image``.
        """
        if not available():
            found = self._kernel.backward(
                background, target=target, weights=weights, v_image=v_image, l1=l1, l2=l2, fused=fused
            )
            self._image = self._kernel._image
            return Gradients(*found)
        image = self._image if not fused else self._canvas() if show else None
        n, channels = self._arrays[3].shape
        local, colors = np.empty((n, 5), np.float32), np.empty((n, channels), np.float32)
        v_background = np.empty(channels, np.float32)
        loss, error = self._kernel.backward(
            background, image, target, weights, v_image, l1, l2, fused, local, colors, v_background
        )
        return Gradients(loss, error, local, colors, v_background)

    def removal(self, background: FloatArray, target: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """Growth [N] of the weighted squared error if a Gaussian were taken away; after ``forward(keep=True)``."""
        if not available():
            found: FloatArray = self._kernel.removal(background, target, weights)
            return found
        growth = np.empty(len(self._arrays[0]), np.float32)
        self._kernel.removal(background, self._image, target, weights, growth)
        return growth

    def _canvas(self) -> FloatArray:
        if self._image.shape != self._shape:
            self._image = np.empty(self._shape, np.float32)
        return self._image


def ssim(
    image: FloatArray,
    target: FloatArray,
    weights: FloatArray | None = None,
    *,
    scale: float = 0.0,
    v_image: FloatArray | None = None,
) -> float:
    """Sum of weights · SSIM over channels and pixels; adds ``scale`` times its gradient to ``v_image`` if given."""
    kernel = _native.ssim if available() else _reference().ssim
    if not available():
        return float(kernel(image, target, weights, scale=scale, v_image=v_image))
    return float(kernel(image, target, weights, scale, v_image))


def adam(
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    *,
    betas: tuple[float, float],
    epsilon: float,
    step: int,
) -> FloatArray:
    """Adam's update [N, K] (to be subtracted); both moments [N, K] take in the gradient in place; ``step`` from 1."""
    if not available():
        found: FloatArray = _reference().adam(gradient, first, second, betas=betas, epsilon=epsilon, step=step)
        return found
    update = np.empty_like(gradient)
    corrections = (1 - betas[0] ** step, 1 - betas[1] ** step)
    _native.adam(gradient, first, second, *betas, epsilon, *corrections, update)
    return update


def apply_local(
    update: FloatArray,
    rates: tuple[float, float, float],
    bounds: tuple[float, float],
    means: FloatArray,
    scales: FloatArray,
    rotations: FloatArray,
) -> None:
    """Moves Gaussians in place by -rates · update [N, 5] in their own frames; scales stay within ``bounds``, px."""
    if available():
        _native.apply_local(update, *rates, *bounds, means, scales, rotations)
    else:
        _reference().apply_local(update, rates, bounds, means, scales, rotations)


class PointSampler:
    """Blends at single points; see ``sampler.h``."""

    def __init__(self, gaussians: Gaussians2D, cell: int) -> None:
        arrays = gaussians.means, gaussians.scales, gaussians.rotations, gaussians.colors
        size = gaussians.height, gaussians.width
        self._kernel = _native.Sampler(*arrays, *size, cell, BLEND_IDS[gaussians.blend], gaussians.top_k)
        self._background = gaussians.background
        self.pairs = int(self._kernel.pairs)
        """Gaussians in all lists."""

    def __call__(self, points: FloatArray, counted: bool) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Colours [n, C] at points [n, 2], canvas pixels; Gaussians looked at and taken [n, 2] if they are counted."""
        colors = np.empty((len(points), len(self._background)), np.float32)
        counts = np.zeros((len(points) if counted else 0, 2), np.int32)
        self._kernel.sample(points, self._background, colors, counts if counted else None)
        return colors, counts


def sampler(gaussians: Gaussians2D, cell: int) -> PointSampler:
    """A sampler of these Gaussians.

    Raises:
        DeviceError: the compiled kernels are missing.
    """
    _need_kernels()
    return PointSampler(gaussians, cell)


def block_codec(steps: list[int], box: tuple[int, int, int, int]) -> Any:
    """The range coder of one block; see ``block_codec.h``.

    Raises:
        DeviceError: the compiled kernels are missing.
    """
    _need_kernels()
    return _native.BlockCodec(steps, box)


def lattice_angles(steps: list[int], shapes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """How many directions [N] a lattice tells apart for shapes [N, 2] of size and ratio symbols.

    Raises:
        DeviceError: the compiled kernels are missing.
    """
    _need_kernels()
    found: npt.NDArray[np.int32] = _native.lattice_angles(steps, shapes)[:, 0]
    return found


def malformed() -> type[Exception]:
    """What the range coder raises for bytes that it cannot have written."""
    kind: type[Exception] = _native.Malformed
    return kind


def _need_kernels() -> None:
    if not available():
        raise DeviceError(
            "entropy coding: expected the compiled kernels, found none; install a C++ compiler, then imagegs"
        )
