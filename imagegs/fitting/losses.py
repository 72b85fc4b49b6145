"""The loss of a render and its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..gaussians import FloatArray
from ..kernels import native
from .config import Loss
from .initialization import Gaussians
from .targets import Target


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One forward and backward pass.

    Attributes:
        loss: value of the loss.
        squared_error: mean over pixels and channels, the render clamped to [0, 1].
        gradients: see ``native.Gradients``.
    """

    loss: float
    squared_error: float
    gradients: native.Gradients

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio for a peak of 1, dB."""
        return to_psnr(self.squared_error)


def to_psnr(squared_error: float) -> float:
    """Peak signal-to-noise ratio of a mean squared error, dB; infinite for none."""
    return math.inf if squared_error <= 0 else -10 * math.log10(squared_error)


def prepare(rasterizer: native.Rasterizer, model: Gaussians, size: tuple[int, int], blend: str, top_k: int) -> None:
    """Hands the Gaussians to the rasteriser, for a picture of (height, width) pixels."""
    rasterizer.prepare(*model.arrays(), size, native.IDENTITY, blend, top_k)


def evaluate(
    rasterizer: native.Rasterizer, background: FloatArray, target: Target, loss: Loss, *, show: bool = True
) -> Evaluation:
    """Renders prepared Gaussians and differentiates their loss; tile by tile unless SSIM needs the whole picture.

    ``rasterizer.image`` is the render only if it is to ``show``; writing it takes a tenth of the time.
    """
    pixels, count = target.pixels, target.pixels.size
    if loss.ssim == 0:
        found = rasterizer.backward(
            background, target=pixels, weights=target.weights, l1=loss.l1, l2=loss.l2, fused=True, show=show
        )
        return Evaluation(found.loss / count, found.squared_error / count, found)
    image = rasterizer.forward(background, keep=True)
    v_image = np.zeros_like(image)
    scale = -loss.ssim / count
    similarity = native.ssim(image, pixels, target.weights, scale=scale, v_image=v_image) / count
    found = rasterizer.backward(
        background, target=pixels, weights=target.weights, v_image=v_image, l1=loss.l1, l2=loss.l2
    )
    value = found.loss / count + loss.ssim * (1 - similarity)
    return Evaluation(value, found.squared_error / count, found)


def solve_colors(
    rasterizer: native.Rasterizer,
    model: Gaussians,
    background: FloatArray,
    target: Target,
    blend: str,
    top_k: int,
    iterations: int,
    prefixes: Sequence[tuple[int, float]] = (),
) -> FloatArray:
    """Colours [N, C] that minimise the weighted squared error for fixed geometry, in which the blend is linear.

    Preconditioned conjugate gradients on the normal equations; every product with the blend's matrix is a render, every
    product with its transpose a backward pass.

    Args:
        rasterizer: to render with.
        model: N Gaussians, whose colours are the first guess.
        background: [C].
        target: what the render is to equal.
        blend: how weights and colours make a pixel.
        top_k: K of the blend ``topk``.
        iterations: of the conjugate gradients.
        prefixes: numbers of leading Gaussians, and what the squared error of each of these pictures counts; by default
            all of them alone.
    """
    size = target.size
    black = np.zeros_like(background)
    channels = len(background)
    parts = [(model if end == len(model) else model.take(np.arange(end)), weight) for end, weight in prefixes]

    def weighted(image: FloatArray, weight: float) -> FloatArray:
        scaled = image if target.weights is None else image * target.weights
        return np.ascontiguousarray(scaled if weight == 1 else scaled * np.float32(weight))

    def gather(of: Callable[[Gaussians], FloatArray]) -> FloatArray:
        """Sum over the prefixes of the transposed blend, applied to an image of each."""
        found = np.zeros_like(model.colors)
        for part, weight in parts or [(model, 1.0)]:
            v_image = weighted(of(part), weight)
            found[: len(part)] += rasterizer.backward(background, v_image=v_image).colors
        return found

    def render(part: Gaussians, colors: FloatArray, ground: FloatArray) -> FloatArray:
        probe = Gaussians(part.means, part.scales, part.rotations, np.ascontiguousarray(colors[: len(part)]))
        prepare(rasterizer, probe, size, blend, top_k)
        return rasterizer.forward(ground, keep=True)

    residual = gather(lambda part: target.pixels - render(part, model.colors, background))
    coverage = gather(lambda part: np.ones_like(render(part, model.colors, background)))[:, :1]
    least = 1e-3 * sum(weight for _, weight in parts) if parts else 1e-3
    inverse = 1 / np.maximum(coverage, least)  # the row sums bound the diagonal: weights of a pixel add up to one
    colors = model.colors.copy()
    scaled = inverse * residual
    direction = scaled.copy()
    slope = np.sum(residual * scaled, axis=0, dtype=np.float64)
    for _ in range(iterations):
        step = np.ascontiguousarray(direction, dtype=np.float32)
        product = gather(lambda part, step=step: render(part, step, black))  # type: ignore[misc]
        curvature = np.sum(direction * product, axis=0, dtype=np.float64)
        length = np.divide(slope, curvature, out=np.zeros(channels), where=curvature > 1e-30)
        colors += (length * direction).astype(np.float32)
        residual = residual - (length * product).astype(np.float32)
        scaled = inverse * residual
        before, slope = slope, np.sum(residual * scaled, axis=0, dtype=np.float64)
        direction = scaled + np.divide(slope, before, out=np.zeros(channels), where=before > 1e-30) * direction
    return np.ascontiguousarray(colors, dtype=np.float32)
