"""Files of GaussianImage's codec, as its paper describes it (Zhang et al., arXiv 2403.08551), in real bytes.

A picture is a sum of N Gaussians: positions in half precision, Cholesky factors in 6 bits with a scale and an offset
that are learned, colours as the sum of two words of 8 each: 56 bits for each Gaussian. The paper adds up such widths
and has no file, so that this one is ours, as plain as it can be; nothing is entropy-coded, as in the paper's tests.
Little-endian:

```
 0   4 bytes   signature: GIQ1
 4   3 x u32   width, height, N
16   6 x f32   steps and offsets of the three factors: step, offset, step, ...
40  48 x f32   words of the first stage, then of the second: 8 each of red, green, blue
232 N x 7      for each Gaussian
               2 x f16   x and y of its centre, -1 to 1 across the canvas
               24 bits   from the lowest: three factors of 6 bits, two words of 3 bits
```

Standard deviations are cut to `imagegs.fitting.shapes.scale_bounds`. `gaussian_image_fit` makes the Gaussians; here is
the decoder, which loads nothing but NumPy and the renderer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from ..fitting.shapes import from_factors, scale_bounds
from ..gaussians import MAX_SIDE, FloatArray, Gaussians2D

SIGNATURE = b"GIQ1"
SHAPE_BITS, WORD_BITS, STAGES = 6, 3, 2
SHAPE_LEVELS, WORDS = 1 << SHAPE_BITS, 1 << WORD_BITS
LARGEST = 1e6
"""Of what is learned: more is no picture's."""

_HEAD = struct.Struct("<4s3I")
_LEARNED = 3 * 2 + STAGES * WORDS * 3
_START = _HEAD.size + 4 * _LEARNED
_GAUSSIAN = np.dtype([("center", "<f2", 2), ("low", "<u2"), ("high", "u1")])
_SHIFTS = (0, SHAPE_BITS, 2 * SHAPE_BITS, 3 * SHAPE_BITS, 3 * SHAPE_BITS + WORD_BITS)


@dataclass(frozen=True, eq=False)
class Coded:
    """What a file says.

    Attributes:
        size: height and width, pixels.
        centers: [N, 2] x and y, -1 to 1 across the canvas.
        steps: [3] of the factors.
        offsets: [3].
        shapes: [N, 3] symbols below ``SHAPE_LEVELS`` of the factors l11, l21, l22, pixels.
        words: [2, 8, 3] colours.
        colors: [N, 2] words of the two stages.
    """

    size: tuple[int, int]
    centers: npt.NDArray[np.float16]
    steps: FloatArray
    offsets: FloatArray
    shapes: npt.NDArray[np.uint8]
    words: FloatArray
    colors: npt.NDArray[np.uint8]

    def factors(self) -> FloatArray:
        """[N, 3]."""
        return self.offsets + self.steps * self.shapes.astype(np.float32)

    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Means, scales, rotations and colours, see ``Gaussians2D``."""
        extent = np.array(self.size[::-1], np.float32)
        means = np.asarray((self.centers.astype(np.float32) + 1) / 2 * extent, np.float32)
        scales, rotations = from_factors(self.factors())
        np.clip(scales, *scale_bounds(self.size), out=scales)
        colors: FloatArray = self.words[0][self.colors[:, 0]] + self.words[1][self.colors[:, 1]]
        return means, scales, rotations, colors

    @property
    def gaussians(self) -> Gaussians2D:
        """To be drawn."""
        return Gaussians2D(*self.arrays(), *self.size, blend="sum")


def encode_bytes(coded: Coded) -> bytes:
    """The file.

    Raises:
        ImageError: it has no Gaussians, or too many.
    """
    n, (height, width) = len(coded.centers), coded.size
    if not 1 <= n < 1 << 32:
        raise ImageError(f"GaussianImage: expected 1 to {(1 << 32) - 1:,} Gaussians, found {n:,}")
    columns = np.concatenate([coded.shapes, coded.colors], axis=1).astype(np.uint32)
    packed = sum(column << shift for column, shift in zip(columns.T, _SHIFTS, strict=True))
    rows = np.zeros(n, _GAUSSIAN)
    rows["center"], rows["low"], rows["high"] = coded.centers, packed & 0xFFFF, packed >> 16
    learned = np.concatenate([np.stack([coded.steps, coded.offsets], axis=1).ravel(), coded.words.ravel()])
    return _HEAD.pack(SIGNATURE, width, height, n) + learned.astype("<f4").tobytes() + rows.tobytes()


def decode_bytes(data: bytes) -> Coded:
    """What a file says.

    Raises:
        ImageError: it is none, or cut short, or says what cannot be.
    """
    if not data.startswith(SIGNATURE):
        raise ImageError(f"GaussianImage: expected the signature {SIGNATURE!r}, found {data[:4]!r}")
    if len(data) < _START:
        raise ImageError(f"GaussianImage: expected {_START} bytes at least, found {len(data):,}")
    _, width, height, n = _HEAD.unpack_from(data)
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE:
            raise ImageError(f"GaussianImage: {name}: expected 1 to {MAX_SIDE:,}, found {side:,}")
    if n == 0:
        raise ImageError("GaussianImage: expected Gaussians, found none")
    wanted = _START + n * _GAUSSIAN.itemsize
    if len(data) != wanted:
        raise ImageError(f"GaussianImage: expected {wanted:,} bytes of {n:,} Gaussians, found {len(data):,}")
    learned = np.frombuffer(data, "<f4", _LEARNED, _HEAD.size).astype(np.float32)
    grid, words = learned[:6].reshape(3, 2), learned[6:].reshape(STAGES, WORDS, 3)
    rows = np.frombuffer(data, _GAUSSIAN, n, _START)
    centers = rows["center"].astype(np.float16)
    for name, values, largest in (("learned numbers", learned, LARGEST), ("centres", centers, 1)):
        if not np.all(np.abs(values) <= largest):  # nor NaN
            worst = values[~(np.abs(values) <= largest)][0]
            raise ImageError(f"GaussianImage: {name}: expected -{largest:g} to {largest:g}, found {worst}")
    if not np.all(grid[:, 0] > 0):
        raise ImageError(f"GaussianImage: steps: expected numbers above 0, found {grid[:, 0].min()}")
    packed = rows["low"].astype(np.uint32) | rows["high"].astype(np.uint32) << 16
    shapes, colors = (
        np.stack([packed >> shift & most for shift in shifts], axis=1).astype(np.uint8)
        for shifts, most in ((_SHIFTS[:3], SHAPE_LEVELS - 1), (_SHIFTS[3:], WORDS - 1))
    )
    return Coded((height, width), centers, grid[:, 0].copy(), grid[:, 1].copy(), shapes, words, colors)


def decode(data: bytes) -> FloatArray:
    """The pixels [3, H, W] of a file, in [0, 1].

    Raises:
        ImageError: see `decode_bytes`.
    """
    from ..rendering import render

    return np.clip(render(decode_bytes(data).gaussians), 0, 1)
