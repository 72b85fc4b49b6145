"""The loss, its gradients, and the colours that minimise it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from imagegs.fitting.config import Loss
from imagegs.fitting.initialization import Gaussians
from imagegs.fitting.losses import evaluate, prepare, solve_colors, to_psnr
from imagegs.fitting.targets import Target, make_target
from imagegs.guidance import Guidance
from imagegs.kernels import native, reference

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

BACKGROUND = np.array([0.2, 0.5, 0.7], np.float32)
LOSSES = [Loss(), Loss(1, 0, 0), Loss(0, 0, 1), Loss(1, 0, 0.1), Loss(0.3, 0.5, 0.2)]


def small_target(weighted: bool, height: int = 20, width: int = 26) -> Target:
    random = np.random.default_rng(8)
    weights = random.uniform(0, 2, (height, width)) if weighted else None
    return make_target(random.uniform(0, 1, (3, height, width)), Guidance(loss=weights))


def small_model(n: int = 15) -> Gaussians:
    random = np.random.default_rng(4)
    arrays = (
        random.uniform((0, 0), (26, 20), (n, 2)),
        random.uniform(1.5, 5.0, (n, 2)),
        random.uniform(0, np.pi, n),
        random.uniform(0, 1, (n, 3)),
    )
    return Gaussians(*(np.ascontiguousarray(array, dtype=np.float32) for array in arrays))


def exact_loss(model: Gaussians, target: Target, loss: Loss, blend: str) -> tuple[Any, list[torch.Tensor]]:
    """In float64: a function of steps in the local frame and of colours; and no steps and the colours there are."""
    means, scales, rotations, colors = (torch.from_numpy(array).double() for array in model.arrays())
    wanted = torch.from_numpy(target.pixels).double()
    weights = None if target.weights is None else torch.from_numpy(target.weights).double()
    background = torch.from_numpy(BACKGROUND).double()

    def value(step: torch.Tensor, color: torch.Tensor) -> torch.Tensor:
        moved = reference.move_local(means, scales, rotations, step)
        image = reference.render(*moved, color, background, *target.size, blend=blend, top_k=4)
        similarity = reference.ssim_map(image, wanted)
        similarity = similarity if weights is None else similarity * weights
        pointwise = reference.pointwise_loss(image, wanted, weights, loss.l1, loss.l2)
        return pointwise + loss.ssim * (1 - similarity.mean())

    return value, [torch.zeros(len(means), 5, dtype=torch.float64), colors]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
def test_value_and_gradients_are_those_of_the_definition(loss: Loss, blend: str, weighted: bool) -> None:
    model, target = small_model(), small_target(weighted)
    rasterizer = native.Rasterizer()
    prepare(rasterizer, model, target.size, blend, 4)
    found = evaluate(rasterizer, BACKGROUND, target, loss)

    value, leaves = exact_loss(model, target, loss, blend)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    exact = value(*leaves)
    exact.backward()
    assert found.loss == pytest.approx(float(exact.detach()), rel=1e-5)
    for ours, leaf in zip((found.gradients.local, found.gradients.colors), leaves, strict=True):
        scale = float(leaf.grad.abs().max())
        np.testing.assert_allclose(ours, leaf.grad.numpy(), atol=2e-4 * scale)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_predict_finite_differences(loss: Loss) -> None:
    model, target = small_model(), small_target(weighted=True)
    rasterizer = native.Rasterizer()
    prepare(rasterizer, model, target.size, "normalized", 10)
    found = evaluate(rasterizer, BACKGROUND, target, loss).gradients
    value, leaves = exact_loss(model, target, loss, "normalized")
    random = np.random.default_rng(0)
    for _ in range(4):
        ways = [torch.from_numpy(random.normal(size=leaf.shape)) for leaf in leaves]
        ahead, behind = (
            value(*(leaf + h * way for leaf, way in zip(leaves, ways, strict=True))) for h in (1e-6, -1e-6)
        )
        slope = float(ahead - behind) / 2e-6
        ours = sum(float((a * way.numpy()).sum()) for a, way in zip((found.local, found.colors), ways, strict=True))
        size = math.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in (found.local, found.colors)))
        assert ours == pytest.approx(slope, abs=2e-3 * size)


def test_the_squared_error_is_of_the_render_as_shown() -> None:
    model, target = small_model(), small_target(weighted=True)
    model.colors[:] = model.colors * 3 - 1
    rasterizer = native.Rasterizer()
    for loss in LOSSES:
        prepare(rasterizer, model, target.size, "normalized", 10)
        found = evaluate(rasterizer, BACKGROUND, target, loss)
        shown = np.clip(rasterizer.image.astype(np.float64), 0, 1)
        assert found.squared_error == pytest.approx(np.mean((shown - target.pixels) ** 2), rel=1e-5)
        assert found.psnr == pytest.approx(10 * math.log10(1 / found.squared_error))


def test_psnr_of_nothing_wrong_is_infinite() -> None:
    assert to_psnr(0.0) == math.inf
    assert to_psnr(0.01) == pytest.approx(20.0)


def blend_matrix(model: Gaussians, size: tuple[int, int], blend: str) -> np.ndarray:
    """[H W, N] share of every Gaussian in every pixel, by rendering each colour's unit vector in float64."""
    means, scales, rotations = (torch.from_numpy(array).double() for array in model.arrays()[:3])
    eye = torch.eye(len(model), dtype=torch.float64)
    image = reference.render(
        means, scales, rotations, eye, torch.zeros(len(model)).double(), *size, blend=blend, top_k=4
    )
    return image.reshape(len(model), -1).T.numpy()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
def test_solved_colors_are_the_least_squares_solution(blend: str, weighted: bool) -> None:
    model, target = small_model(), small_target(weighted)
    matrix = blend_matrix(model, target.size, blend)
    # what the background shows through: the render of black Gaussians
    black = Gaussians(*model.arrays()[:3], np.zeros_like(model.colors))
    rasterizer = native.Rasterizer()
    prepare(rasterizer, black, target.size, blend, 4)
    behind = rasterizer.forward(BACKGROUND).reshape(3, -1).T
    weights = np.ones(target.size) if target.weights is None else target.weights
    root = np.sqrt(weights.ravel().astype(np.float64))[:, None]
    wanted = np.linalg.lstsq(root * matrix, root * (target.pixels.reshape(3, -1).T - behind), rcond=None)[0]

    before = model.colors.copy()
    found = solve_colors(rasterizer, model, BACKGROUND, target, blend, 4, iterations=60)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    np.testing.assert_array_equal(model.colors, before)


def test_a_few_iterations_get_most_of_the_way() -> None:
    model, target = small_model(), small_target(weighted=False)
    rasterizer = native.Rasterizer()

    def error(colors: np.ndarray) -> float:
        prepare(rasterizer, Gaussians(*model.arrays()[:3], colors), target.size, "normalized", 10)
        return evaluate(rasterizer, BACKGROUND, target, Loss()).loss

    first = error(model.colors)
    some, all_of_it = (
        error(solve_colors(rasterizer, model, BACKGROUND, target, "normalized", 10, n)) for n in (10, 80)
    )
    assert first - some > 0.95 * (first - all_of_it) > 0
