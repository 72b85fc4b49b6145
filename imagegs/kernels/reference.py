"""Every operation in plain PyTorch: the definition that the compiled kernels are tested against, in any precision.

Written for reading, not for speed; gradients come from autograd. Where no compiled module could be built,
``Rasterizer``, ``ssim``, ``adam`` and ``apply_local`` stand in for it (see ``native``), some hundred times slower.

Sources: Image-GS (arXiv 2407.01866) for the normalised and top-K blends, GaussianImage (arXiv 2403.08551) for the sum,
EWA splatting (Zwicker et al. 2001) for minification. Differing from them: support ends at ``RADIUS`` standard
deviations whatever the tiles, pixel centres are at halves, and the background has the weight ``EPSILON``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .constants import CUTOFF, EPSILON, FOOTPRINT, MAX_MEAN, MAX_SCALE, MIN_SCALE, RADIUS

FloatArray = npt.NDArray[np.float32]

BLOCK = 64
"""Side of the square of pixels that is evaluated at once, against the Gaussians that may reach it."""


class Viewport(NamedTuple):
    """Output pixel (column j, row i) looks at the canvas point (x0 + (j + 0.5) step_x, y0 + (i + 0.5) step_y)."""

    x0: float = 0.0
    y0: float = 0.0
    step_x: float = 1.0
    step_y: float = 1.0


class Splats(NamedTuple):
    """Gaussians in output pixels: centres [N, 2], covariances (xx, xy, yy) [N, 3], amplitudes [N], colours [N, C]."""

    means: Tensor
    covars: Tensor
    amplitudes: Tensor
    colors: Tensor


def project(
    means: Tensor, scales: Tensor, rotations: Tensor, colors: Tensor, viewport: Viewport
) -> tuple[Splats, Tensor]:
    """Gaussians as an output picture sees them, and which of them draw at all.

    A minifying viewport adds the pixel's footprint to the covariance and keeps the Gaussian's integral.

    Args:
        means: [N, 2] canvas pixels.
        scales: [N, 2] canvas pixels, clamped to [MIN_SCALE, MAX_SCALE].
        rotations: [N] radians.
        colors: [N, C].
        viewport: canvas point of every output pixel.

    Returns:
        The splats, those that draw nothing (not finite, or too far out) replaced by harmless ones, and the mask [N] of
        those that draw.
    """
    rows = torch.cat([means, scales, rotations[:, None], colors], dim=1)
    draws = torch.isfinite(rows).all(dim=1) & (means.detach().abs().nan_to_num(nan=math.inf) <= MAX_MEAN).all(dim=1)
    means, rotations = means.where(draws[:, None], 0), rotations.where(draws, 0)
    scales, colors = scales.where(draws[:, None], 1).clamp(MIN_SCALE, MAX_SCALE), colors.where(draws[:, None], 0)
    step = means.new_tensor([viewport.step_x, viewport.step_y])
    centers = (means - means.new_tensor([viewport.x0, viewport.y0])) / step
    c, s = rotations.cos(), rotations.sin()
    v1, v2 = scales.square().unbind(1)
    footprint = torch.where(step > 1, FOOTPRINT * (1 - 1 / step.square()), 0)
    own_xx, own_yy = (c * c * v1 + s * s * v2) / step[0] ** 2, (s * s * v1 + c * c * v2) / step[1] ** 2
    xx, yy, xy = own_xx + footprint[0], own_yy + footprint[1], c * s * (v1 - v2) / (step[0] * step[1])
    own_det = v1 * v2 / (step[0] * step[1]) ** 2
    det = own_det + footprint[0] * own_yy + footprint[1] * own_xx + footprint[0] * footprint[1]
    return Splats(centers, torch.stack([xx, xy, yy], dim=1), (own_det / det).sqrt(), colors), draws


def weigh(splats: Splats, points: Tensor) -> Tensor:
    """Weights [P, N] of N Gaussians at P points (x, y) [P, 2]: a (exp(-d²/2) - exp(-r²/2)), never below zero."""
    dx, dy = (points[:, None] - splats.means).unbind(2)
    xx, xy, yy = splats.covars.unbind(1)
    # conditional form of the quadratic: nothing cancels however thin the Gaussian
    t = dx - xy / yy * dy
    precision = yy / (xx * yy - xy * xy) if points.dtype == torch.float64 else _precision(xx, xy, yy)
    squared = precision * t.square() + dy.square() / yy
    return splats.amplitudes * ((-0.5 * squared).exp() - CUTOFF).clamp(min=0)


def _precision(xx: Tensor, xy: Tensor, yy: Tensor) -> Tensor:
    xx, xy, yy = xx.double(), xy.double(), yy.double()
    return (yy / (xx * yy - xy * xy)).float()


def blend_pixels(weights: Tensor, colors: Tensor, background: Tensor, blend: str, top_k: int) -> Tensor:
    """Pixels [P, C] from weights [P, N] and colours [N, C]; equal weights are taken in the order of their indices."""
    if blend == "sum":
        return weights @ colors
    if blend == "topk" and weights.shape[1] > top_k:
        order = weights.detach().sort(dim=1, descending=True, stable=True).indices[:, :top_k]
        weights = weights * torch.zeros_like(weights).scatter(1, order, 1)
    total = weights.sum(dim=1, keepdim=True) + EPSILON
    return (weights @ colors + EPSILON * background) / total


def render(
    means: Tensor,
    scales: Tensor,
    rotations: Tensor,
    colors: Tensor,
    background: Tensor,
    height: int,
    width: int,
    viewport: Viewport = Viewport(),  # noqa: B008 - an immutable tuple
    blend: str = "normalized",
    top_k: int = 10,
) -> Tensor:
    """Picture [C, height, width], not clamped; differentiable in every tensor but the choice of the K largest."""
    splats, draws = project(means, scales, rotations, colors, viewport)
    image = []
    for top in range(0, height, BLOCK):
        row = [
            render_block(
                splats, draws, background, top, left, min(BLOCK, height - top), min(BLOCK, width - left), blend, top_k
            )
            for left in range(0, width, BLOCK)
        ]
        image.append(torch.cat(row, dim=2))
    return torch.cat(image, dim=1)


def render_block(
    splats: Splats,
    draws: Tensor,
    background: Tensor,
    top: int,
    left: int,
    height: int,
    width: int,
    blend: str,
    top_k: int,
) -> Tensor:
    """Picture [C, height, width] of the block of pixels whose corner is (left, top)."""
    reach = RADIUS * splats.covars.detach()[:, [0, 2]].sqrt()
    centers = splats.means.detach()
    low, high = centers.new_tensor([left, top]), centers.new_tensor([left + width, top + height])
    near = (draws & (centers + reach >= low).all(dim=1) & (centers - reach <= high).all(dim=1)).nonzero()[:, 0]
    y, x = torch.meshgrid(
        torch.arange(top, top + height, dtype=centers.dtype) + 0.5,
        torch.arange(left, left + width, dtype=centers.dtype) + 0.5,
        indexing="ij",
    )
    chosen = Splats(*(tensor[near] for tensor in splats))
    weights = weigh(chosen, torch.stack([x.reshape(-1), y.reshape(-1)], dim=1))
    pixels = blend_pixels(weights, chosen.colors, background, blend, top_k)
    return pixels.T.reshape(-1, height, width)


def pointwise_loss(image: Tensor, target: Tensor, weights: Tensor | None, l1: float, l2: float) -> Tensor:
    """Mean over pixels and channels of weight (l1 |d| + l2 d²); images [C, H, W], weights [H, W]."""
    error = image - target
    loss = l1 * error.abs() + l2 * error.square()
    return (loss if weights is None else loss * weights).mean()


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity [C, H, W] (Wang et al. 2004): 11 x 11 Gaussian window of 1.5 px, zeros outside."""
    taps = torch.exp(-0.5 * (torch.arange(11, dtype=image.dtype) - 5).square() / 1.5**2)
    taps = taps / taps.sum()

    def mean(x: Tensor) -> Tensor:
        x = torch.nn.functional.conv2d(x[:, None], taps[None, None, None, :], padding=(0, 5))
        return torch.nn.functional.conv2d(x, taps[None, None, :, None], padding=(5, 0))[:, 0]

    mx, my = mean(image), mean(target)
    vxx, vyy, vxy = mean(image * image) - mx * mx, mean(target * target) - my * my, mean(image * target) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vxx + vyy + c2))


def removal(
    means: Tensor,
    scales: Tensor,
    rotations: Tensor,
    colors: Tensor,
    background: Tensor,
    target: Tensor,
    weights: Tensor,
    blend: str,
) -> Tensor:
    """Growth [N] of the weighted squared error without each Gaussian, all else equal (``normalized`` and ``sum``)."""
    height, width = target.shape[1:]

    def error(keep: Tensor) -> Tensor:
        image = render(means[keep], scales[keep], rotations[keep], colors[keep], background, height, width, blend=blend)
        return (weights * (image - target).square()).sum()

    everyone = torch.ones(len(means), dtype=torch.bool)
    growth = []
    for row in range(len(means)):
        without = everyone.clone()
        without[row] = False
        growth.append(error(without) - error(everyone))
    return torch.stack(growth) if growth else means.new_zeros(0)


def move_local(means: Tensor, scales: Tensor, rotations: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussians moved by steps [N, 5] in their own frames: position in units of their scales, log scales, rotation."""
    c, s = rotations.cos(), rotations.sin()
    along, across = step[:, 0] * scales[:, 0], step[:, 1] * scales[:, 1]
    shift = torch.stack([c * along - s * across, s * along + c * across], dim=1)
    return means + shift, scales * step[:, 2:4].exp(), rotations + step[:, 4]


class Rasterizer:
    """Stands in for the compiled ``native.Rasterizer``: the same methods, NumPy arrays in and out, block by block."""

    def prepare(
        self,
        means: FloatArray,
        scales: FloatArray,
        rotations: FloatArray,
        colors: FloatArray,
        size: tuple[int, int],
        viewport: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
        blend: str = "normalized",
        top_k: int = 10,
    ) -> None:
        """See ``native.Rasterizer.prepare``."""
        of = torch.tensor  # copies, since arrays may be read-only
        self._arrays = of(means), of(scales), of(rotations), of(colors)
        self._size, self._viewport, self._blend, self._top_k = size, Viewport(*viewport), blend, top_k

    def forward(self, background: FloatArray, *, keep: bool = False) -> FloatArray:
        """See ``native.Rasterizer.forward``."""
        del keep  # everything is computed again
        with torch.no_grad():
            back = torch.tensor(background)
            image = render(*self._arrays, back, *self._size, self._viewport, self._blend, self._top_k)
        self._image: FloatArray = np.ascontiguousarray(image.numpy(), dtype=np.float32)
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
    ) -> tuple[float, float, FloatArray, FloatArray, FloatArray]:
        """See ``native.Rasterizer.backward``."""
        if fused:
            self.forward(background)
        image = torch.tensor(self._image).requires_grad_()
        loss = image.new_zeros(())
        squared_error = 0.0
        if target is not None:
            wanted = torch.tensor(target)
            loss = pointwise_loss(image, wanted, None if weights is None else torch.tensor(weights), l1, l2)
            squared_error = float((image.detach().clamp(0, 1) - wanted).double().square().sum())
        v_pixels = torch.autograd.grad(loss, image)[0] if loss.requires_grad else torch.zeros_like(image)
        if v_image is not None:
            v_pixels = v_pixels + torch.tensor(v_image)
        means, scales, rotations, colors = self._arrays
        step = torch.zeros(len(means), 5, requires_grad=True)
        color = colors.clone().requires_grad_()
        back = torch.tensor(background, requires_grad=True)
        height, width = self._size
        for top in range(0, height, BLOCK):
            for left in range(0, width, BLOCK):
                splats, draws = project(*move_local(means, scales, rotations, step), color, self._viewport)
                h, w = min(BLOCK, height - top), min(BLOCK, width - left)
                block = render_block(splats, draws, back, top, left, h, w, self._blend, self._top_k)
                if block.requires_grad:
                    block.backward(v_pixels[:, top : top + h, left : left + w])  # type: ignore[no-untyped-call]
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in (step, color, back)]
        v_local, v_colors, v_background = (np.nan_to_num(gradient.numpy()) for gradient in gradients)
        return float(loss.detach()) * image.numel(), squared_error, v_local, v_colors, v_background

    def removal(self, background: FloatArray, target: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """See ``native.Rasterizer.removal``; one block's weights at a time, top-K as it was chosen."""
        splats, draws = project(*self._arrays, self._viewport)
        growth = torch.zeros(len(splats.means))
        height, width = self._size
        back, wanted = torch.tensor(background), torch.tensor(target)
        with torch.no_grad():
            for top in range(0, height, BLOCK):
                for left in range(0, width, BLOCK):
                    h, w = min(BLOCK, height - top), min(BLOCK, width - left)
                    window = (slice(top, top + h), slice(left, left + w))
                    y, x = torch.meshgrid(torch.arange(h) + (top + 0.5), torch.arange(w) + (left + 0.5), indexing="ij")
                    share = weigh(splats, torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)) * draws
                    if self._blend == "topk" and share.shape[1] > self._top_k:
                        order = share.sort(dim=1, descending=True, stable=True).indices[:, : self._top_k]
                        share = share * torch.zeros_like(share).scatter(1, order, 1)
                    image = blend_pixels(share, splats.colors, back, "sum" if self._blend == "sum" else "normalized", 1)
                    error = image - wanted[:, *window].reshape(len(wanted), -1).T
                    if self._blend != "sum":
                        share = share / (share.sum(dim=1, keepdim=True) - share + EPSILON)
                    change = torch.zeros_like(share)
                    for c in range(image.shape[1]):
                        rest = 0.0 if self._blend == "sum" else image[:, c, None]
                        delta = share * (rest - splats.colors[:, c])
                        change += delta * (delta + 2 * error[:, c, None])
                    weight = torch.ones(h * w) if weights is None else torch.tensor(weights)[window].reshape(-1)
                    growth += weight @ change
        return growth.numpy()


def ssim(
    image: FloatArray,
    target: FloatArray,
    weights: FloatArray | None = None,
    *,
    scale: float = 0.0,
    v_image: FloatArray | None = None,
) -> float:
    """See ``native.ssim``."""
    x = torch.tensor(image).requires_grad_(v_image is not None)
    values = ssim_map(x, torch.tensor(target))
    total = (values if weights is None else values * torch.tensor(weights)).sum()
    if v_image is not None:
        v_image += scale * torch.autograd.grad(total, x)[0].numpy()
    return float(total.detach())


def adam(
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    *,
    betas: tuple[float, float],
    epsilon: float,
    step: int,
) -> FloatArray:
    """See ``native.adam``."""
    first += (1 - betas[0]) * (gradient - first)
    second += (1 - betas[1]) * (gradient * gradient - second)
    update = first / (1 - betas[0] ** step) / (np.sqrt(second / (1 - betas[1] ** step)) + epsilon)
    return np.asarray(update, dtype=np.float32)


def apply_local(
    update: FloatArray,
    rates: tuple[float, float, float],
    bounds: tuple[float, float],
    means: FloatArray,
    scales: FloatArray,
    rotations: FloatArray,
) -> None:
    """See ``native.apply_local``."""
    each = np.array([rates[0], rates[0], rates[1], rates[1], rates[2]], np.float32)
    of = torch.from_numpy
    moved = move_local(of(means), of(scales), of(rotations), of(-update * each))
    means[:], rotations[:] = moved[0].numpy(), moved[2].numpy()
    scales[:] = moved[1].clamp(*bounds).numpy()
