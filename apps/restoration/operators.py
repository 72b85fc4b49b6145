"""What happened to a picture before it was seen: y = D(x) + n. Each operator is D, written in torch.

An operator takes a canvas [C, H, W] to what is observed of it, differentiably, and knows two things more: how large the
canvas of an observation is, and a first guess of the picture. One's own needs nothing else; see docs/restoration.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from imagegs import ConfigError, ShapeError

from .resampling import Method, resampling_matrix

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]
Size = tuple[int, int]
MAX_KERNEL = 127
"""Largest side of a blur's kernel, pixels."""


class Operator(Protocol):
    """D in y = D(x) + n."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """What is observed of a canvas [C, H, W]; differentiable."""
        ...

    def canvas_size(self, observed: Size) -> Size:
        """Height and width of the canvas of an observation of this height and width."""
        ...

    def guess(self, observed: FloatArray) -> FloatArray:
        """A first guess of the canvas [C, H, W] from the observation."""
        ...


@dataclass(frozen=True)
class Identity:
    """Nothing but noise."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The canvas."""
        return image

    def canvas_size(self, observed: Size) -> Size:
        """The same."""
        return observed

    def guess(self, observed: FloatArray) -> FloatArray:
        """The observation."""
        return observed


@dataclass(frozen=True, eq=False)
class Blur:
    """Convolution with a kernel; the picture goes on beyond its edges as in a mirror.

    Attributes:
        kernel: [h, w] with odd sides, not negative; scaled so that it sums to one.

    Raises:
        ConfigError: it has another shape, a negative number, or no positive sum.
    """

    kernel: FloatArray

    def __post_init__(self) -> None:
        kernel = np.array(self.kernel, np.float32)
        if kernel.ndim != 2 or not all(side % 2 and side <= MAX_KERNEL for side in kernel.shape):
            raise ConfigError(f"kernel: expected odd sides of up to {MAX_KERNEL}, found shape {list(kernel.shape)}")
        total = float(kernel.sum())
        if not math.isfinite(total) or kernel.min() < 0 or total <= 0:
            raise ConfigError(f"kernel: expected numbers from 0 with a positive sum, found the sum {total:g}")
        object.__setattr__(self, "kernel", kernel / total)

    @staticmethod
    def gaussian(sigma: float) -> Blur:
        """A bell of this standard deviation, pixels."""
        _positive("sigma of the blur", sigma, MAX_KERNEL / 6)
        reach = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
        row = np.exp(-(reach**2) / (2 * sigma**2))
        return Blur(np.outer(row, row).astype(np.float32))

    @staticmethod
    def disk(radius: float) -> Blur:
        """Out of focus: a disk of this radius, pixels; its edge covers pixels in part."""
        _positive("radius of the blur", radius, MAX_KERNEL / 2 - 1)
        return Blur(_area_of(lambda x, y: np.hypot(x, y) <= radius, math.ceil(radius)))

    @staticmethod
    def motion(length: float, angle: float) -> Blur:
        """A straight line of this length, pixels; its angle from +x towards +y, degrees."""
        _positive("length of the motion", length, MAX_KERNEL - 2)
        turn = math.radians(angle)

        def inside(x: FloatArray, y: FloatArray) -> npt.NDArray[np.bool_]:
            along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
            return (np.abs(along) <= length / 2) & (np.abs(across) <= 0.5)

        return Blur(_area_of(inside, math.ceil(length / 2)))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The canvas, blurred."""
        import torch

        rows, columns = (side // 2 for side in self.kernel.shape)
        if rows >= image.shape[1] or columns >= image.shape[2]:
            raise ShapeError(f"kernel: expected half sides below those of the picture, found {list(self.kernel.shape)}")
        padded = torch.nn.functional.pad(image[None], (columns, columns, rows, rows), mode="reflect")[0]
        size = self._transformed_size((padded.shape[1], padded.shape[2]))
        found = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * _transform_of(self, size), s=size)
        blurred: torch.Tensor = found[:, 2 * rows : padded.shape[1], 2 * columns : padded.shape[2]]
        return blurred

    @staticmethod
    def _transformed_size(size: Size) -> Size:
        """The next size that Fourier transforms are quick at."""
        from scipy.fft import next_fast_len

        return int(next_fast_len(size[0], real=True)), int(next_fast_len(size[1], real=True))

    def canvas_size(self, observed: Size) -> Size:
        """The same."""
        return observed

    def guess(self, observed: FloatArray) -> FloatArray:
        """The observation: its edges are in the right places."""
        return observed


@dataclass(frozen=True)
class Downsample:
    """A picture made smaller.

    Attributes:
        factor: how many canvas pixels a pixel of the observation is wide; may be a fraction.
        method: bicubic, area or lanczos, each widened by the factor, as Pillow does it.

    Raises:
        ConfigError: the factor is below 1 or above 16.
    """

    factor: float
    method: Method = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 16:
            raise ConfigError(f"factor: expected 1 to 16, found {self.factor:g}")

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The canvas, smaller."""
        size = (max(1, round(side / self.factor)) for side in image.shape[1:])
        down, across = (
            _resampling_tensor(side, to, self.method) for side, to in zip(image.shape[1:], size, strict=True)
        )
        return down @ image @ across.T

    def canvas_size(self, observed: Size) -> Size:
        """Larger by the factor."""
        return round(observed[0] * self.factor), round(observed[1] * self.factor)

    def guess(self, observed: FloatArray) -> FloatArray:
        """The observation, enlarged."""
        height, width = self.canvas_size((observed.shape[1], observed.shape[2]))
        down = resampling_matrix(observed.shape[1], height, "lanczos")
        across = resampling_matrix(observed.shape[2], width, "lanczos")
        return np.clip(down @ observed @ across.T, observed.min(), observed.max()).astype(np.float32)


@dataclass(frozen=True)
class Chain:
    """One operator after another: what the first gives is what the second sees."""

    operators: tuple[Operator, ...] = field(default_factory=tuple)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The canvas after all of them."""
        for operator in self.operators:
            image = operator(image)
        return image

    def canvas_size(self, observed: Size) -> Size:
        """Back through all of them."""
        for operator in reversed(self.operators):
            observed = operator.canvas_size(observed)
        return observed

    def guess(self, observed: FloatArray) -> FloatArray:
        """Back through all of them."""
        for operator in reversed(self.operators):
            observed = operator.guess(observed)
        return observed


@lru_cache(16)
def _resampling_tensor(source: int, target: int, method: Method) -> torch.Tensor:
    import torch

    return torch.tensor(resampling_matrix(source, target, method))


@lru_cache(8)
def _transform_of(blur: Blur, size: Size) -> torch.Tensor:
    """Of a blur's kernel, at a size of pictures."""
    import torch

    found: torch.Tensor = torch.fft.rfft2(torch.from_numpy(blur.kernel), s=size)
    return found


def check_fits(operator: Any, channels: int, observed: Size) -> Size:
    """The size of the canvas of an observation with these channels.

    Raises:
        ConfigError: the operator takes a canvas of that size to another size than what is observed.
    """
    import torch

    canvas: Size = operator.canvas_size(observed)
    found = tuple(operator(torch.zeros((channels, *canvas))).shape[1:])
    if found != observed:
        raise ConfigError(
            f"operator: expected to make {observed[1]} x {observed[0]} pixels of {canvas[1]} x {canvas[0]}, "
            f"found {found[1]} x {found[0]}"
        )
    return canvas


def _positive(what: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise ConfigError(f"{what}: expected more than 0 and at most {most:g}, found {value:g}")


def _area_of(inside: Any, reach: int, parts: int = 16) -> FloatArray:
    """How much of each pixel lies inside of a shape around the middle, by sampling it."""
    at = (np.arange((2 * reach + 1) * parts) + 0.5) / parts - reach - 0.5
    y, x = np.meshgrid(at, at, indexing="ij")
    side = 2 * reach + 1
    found: FloatArray = inside(x, y).reshape(side, parts, side, parts).mean(axis=(1, 3)).astype(np.float32)
    return found
