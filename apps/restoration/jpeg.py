"""JPEG files: what their quantised coefficients allow (ITU-T T.81), as an operator.

A decoded coefficient says that the picture's own lay within half a step of it. A canvas is right as far as its
coefficients lie in these intervals, and wrong by how far they lie outside of them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from imagegs import ConfigError, ImageError

from .operators import FloatArray, Size

if TYPE_CHECKING:
    import torch

BLOCK = 8
MIDDLE = 128 / 255
"""What JPEG takes off its samples."""
_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
"""JFIF; luma from 0, chroma around 0, for values in [0, 1]."""


@dataclass(frozen=True, eq=False)
class JpegIntervals:
    """The operator of a JPEG file: gives the decoded picture, changed by how far a canvas leaves the intervals.

    Attributes:
        decoded: [C, H, W] in [0, 1], the decoded picture.
        steps: for each component, [8, 8] steps of its coefficients, of values in [0, 1].
        coarse: for each component, how many pixels (down, across) one sample of it is large.
        least: for each component, [rows, columns, 8, 8] the lowest coefficients that are allowed; half a step above
            them are the decoded ones.
    """

    decoded: FloatArray
    steps: tuple[FloatArray, ...]
    coarse: tuple[tuple[int, int], ...]
    least: tuple[FloatArray, ...]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The decoded picture plus what the canvas's luma and chroma have outside of the intervals.

        Along the right and lower edge, where the picture does not show whole blocks, the canvas itself.
        """
        import torch

        whole = self._whole
        found = self._tensors[0] + self._outside(image)
        if whole == image.shape[1:]:
            return found
        inside = torch.zeros(image.shape[1:], dtype=torch.bool)
        inside[: whole[0], : whole[1]] = True
        return torch.where(inside, found, image)

    def nearest(self, canvas: FloatArray) -> FloatArray:
        """A canvas [C, H, W] with its coefficients moved into the intervals, each to the nearer end."""
        import torch

        outside = self._outside(torch.from_numpy(canvas)).numpy()
        back = np.linalg.inv(_TO_YCBCR) if len(canvas) == 3 else np.ones((1, 1))
        found: FloatArray = (canvas - np.einsum("ck,khw->chw", back, outside)).astype(np.float32)
        return found

    def _outside(self, image: torch.Tensor) -> torch.Tensor:
        """What luma and chroma [C, H, W] of a canvas have outside of the intervals; none where blocks are not whole."""
        import torch

        if len(image) != len(self.decoded):
            raise ConfigError(f"JPEG: expected {len(self.decoded)} channels as in the file, found {len(image)}")
        parts = []
        for plane, scale, (low, high) in zip(_planes(image), self.coarse, self._tensors[1], strict=True):
            coefficients = _transform(_averaged(plane, scale))
            outside = coefficients - torch.minimum(torch.maximum(coefficients, low), high)
            parts.append(_spread(_back(outside), scale, (image.shape[1], image.shape[2])))
        return torch.stack(parts)

    @property
    def _whole(self) -> Size:
        """Height and width that whole blocks of every component cover."""
        sides = [
            (BLOCK * down * low.shape[0], BLOCK * across * low.shape[1])
            for low, (down, across) in zip(self.least, self.coarse, strict=True)
        ]
        return min(height for height, _ in sides), min(width for _, width in sides)

    @property
    def coarseness(self) -> float:
        """Mean step of luma's coefficients."""
        return float(np.mean(self.steps[0]))

    @cached_property
    def _tensors(self) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """The decoded picture, and the lowest and highest coefficients of each component."""
        import torch

        bounds = zip(self.least, self.steps, strict=True)
        return torch.tensor(self.decoded), [(torch.tensor(low), torch.tensor(low + step)) for low, step in bounds]

    def canvas_size(self, observed: Size) -> Size:
        """The same."""
        return observed

    def guess(self, observed: FloatArray) -> FloatArray:
        """The decoded picture."""
        return observed


def read_jpeg(data: bytes, name: str = "bytes") -> JpegIntervals:
    """The operator of a JPEG file.

    Args:
        data: the file.
        name: what an error calls it.

    Raises:
        ImageError: it is no JPEG file of one or three components, or cannot be decoded.
    """
    import torch

    try:
        image = Image.open(io.BytesIO(data))
        if image.format != "JPEG" or image.mode not in ("L", "RGB"):
            raise ImageError(f"{name}: expected a JPEG file in grey or colour, found {image.format} {image.mode}")
        tables, layers = image.quantization, image.layer  # type: ignore[attr-defined]  # of Pillow's JpegImageFile
        decoded = _samples_of(image)
        raw = Image.open(io.BytesIO(data))
        raw.draft("YCbCr" if image.mode == "RGB" else "L", image.size)
        samples = _samples_of(raw)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: expected a JPEG file, found no picture") from error
    except (OSError, SyntaxError) as error:
        raise ImageError(f"{name}: expected a JPEG file, found: {error}") from error
    most = max(layer[1] for layer in layers), max(layer[2] for layer in layers)
    steps: list[FloatArray] = []
    coarse: list[tuple[int, int]] = []
    least: list[FloatArray] = []
    for plane, layer in zip(samples, layers, strict=True):
        step = (np.array(tables[layer[3]], np.float32).reshape(BLOCK, BLOCK) / 255).astype(np.float32)
        scale = most[1] // layer[2], most[0] // layer[1]
        coefficients = _transform(_averaged(torch.from_numpy(plane - np.float32(MIDDLE)), scale)).numpy()
        steps.append(step)
        coarse.append(scale)
        least.append(((np.round(coefficients / step) - 0.5) * step).astype(np.float32))
    return JpegIntervals(decoded, tuple(steps), tuple(coarse), tuple(least))


def _samples_of(image: Image.Image) -> FloatArray:
    values = np.asarray(image, np.float32).reshape(*image.size[::-1], -1).transpose(2, 0, 1)
    return np.ascontiguousarray(values / 255, dtype=np.float32)


@cache
def _cosines() -> FloatArray:
    """The orthonormal DCT-II of eight samples."""
    k, n = np.mgrid[:BLOCK, :BLOCK]
    found = np.cos(np.pi * (2 * n + 1) * k / (2 * BLOCK)) * np.where(k, np.sqrt(2 / BLOCK), np.sqrt(1 / BLOCK))
    cosines: FloatArray = found.astype(np.float32)
    return cosines


def _planes(image: torch.Tensor) -> list[torch.Tensor]:
    """Luma, less the middle that JPEG takes off, and chroma."""
    import torch

    if len(image) == 1:
        return [image[0] - MIDDLE]
    found = torch.einsum("kc,chw->khw", torch.tensor(_TO_YCBCR), image)
    return [found[0] - MIDDLE, found[1], found[2]]


def _averaged(plane: torch.Tensor, scale: tuple[int, int]) -> torch.Tensor:
    """Samples of a component: means over so many pixels (down, across)."""
    down, across = scale
    height, width = plane.shape[0] // down * down, plane.shape[1] // across * across
    return plane[:height, :width].reshape(height // down, down, width // across, across).mean(dim=(1, 3))


def _transform(plane: torch.Tensor) -> torch.Tensor:
    """Coefficients [rows, columns, 8, 8] of the whole blocks of a plane."""
    import torch

    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    blocks = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).permute(0, 2, 1, 3)
    cosines = torch.tensor(_cosines())
    return cosines @ blocks @ cosines.T


def _back(coefficients: torch.Tensor) -> torch.Tensor:
    """The plane that has these coefficients."""
    import torch

    cosines = torch.tensor(_cosines())
    blocks = cosines.T @ coefficients @ cosines
    rows, columns = blocks.shape[:2]
    return blocks.permute(0, 2, 1, 3).reshape(rows * BLOCK, columns * BLOCK)


def _spread(plane: torch.Tensor, scale: tuple[int, int], size: Size) -> torch.Tensor:
    """A plane at the size of the picture; zeros where no whole block was."""
    import torch

    large = plane.repeat_interleave(scale[0], 0).repeat_interleave(scale[1], 1)[: size[0], : size[1]]
    return torch.nn.functional.pad(large, (0, size[1] - large.shape[1], 0, size[0] - large.shape[0]))
