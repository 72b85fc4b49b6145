"""What moves the Gaussians: changes of variables against float64 derivatives, and each optimiser's own step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imagegs.fitting.config import FitConfig, Rates, make_config
from imagegs.fitting.initialization import Gaussians
from imagegs.fitting.optimizer import (
    GaussianImageAdan,
    InverseScaleAdam,
    LocalAdam,
    canvas_gradient,
    make_optimizer,
)
from imagegs.fitting.shapes import factor_gradient, from_factors, scale_bounds, to_factors
from imagegs.kernels import native, reference

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

SIZE = (40, 60)


def some_gaussians(n: int = 12, channels: int = 3) -> Gaussians:
    random = np.random.default_rng(5)
    arrays = (
        random.uniform((5, 5), (55, 35), (n, 2)),
        random.uniform(1.0, 6.0, (n, 2)),
        random.uniform(-4, 4, n),
        random.uniform(0, 1, (n, channels)),
    )
    return Gaussians(*(np.ascontiguousarray(array, dtype=np.float32) for array in arrays))


def gradients_of(local: object, channels: int = 3) -> native.Gradients:
    local = np.ascontiguousarray(local, dtype=np.float32)
    colors = np.zeros((len(local), channels), np.float32)
    return native.Gradients(0.0, 0.0, local, colors, np.zeros(channels, np.float32))


def covariance(scales: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    c, s = rotations.cos(), rotations.sin()
    turn = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
    return turn @ torch.diag_embed(scales**2) @ turn.transpose(1, 2)


def some_loss(means: torch.Tensor, covars: torch.Tensor) -> torch.Tensor:
    """Anything smooth in centres and covariances."""
    weights = torch.linspace(0.5, 1.5, len(means), dtype=means.dtype)
    det = covars[:, 0, 0] * covars[:, 1, 1] - covars[:, 0, 1] ** 2
    shape = covars[:, 0, 0].sqrt() + 0.3 * covars[:, 0, 1] + 0.7 * det.log() + covars[:, 1, 1] ** 1.5 / 20
    return (weights * (shape + (means[:, 0] / 10).sin() + means[:, 1] ** 2 / 50)).sum()


def local_gradient(model: Gaussians) -> np.ndarray:
    means, scales, rotations = (torch.from_numpy(a).double() for a in model.arrays()[:3])
    step = torch.zeros(len(model), 5, dtype=torch.float64, requires_grad=True)
    moved = reference.move_local(means, scales, rotations, step)
    some_loss(moved[0], covariance(moved[1], moved[2])).backward()
    return step.grad.numpy()


def test_gradients_on_the_canvas_are_those_of_means_scales_and_rotations() -> None:
    model = some_gaussians()
    leaves = [torch.from_numpy(a).double().requires_grad_() for a in model.arrays()[:3]]
    some_loss(leaves[0], covariance(leaves[1], leaves[2])).backward()
    for found, leaf in zip(canvas_gradient(model, local_gradient(model)), leaves, strict=True):
        np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=2e-5, atol=1e-5)


def test_gradients_of_cholesky_factors() -> None:
    model = some_gaussians()
    start = to_factors(model.scales, model.rotations)
    factors = torch.from_numpy(start).requires_grad_()
    a, b, d = factors.unbind(1)
    zero = torch.zeros_like(a)
    lower = torch.stack([torch.stack([a, zero], -1), torch.stack([b, d], -1)], -2)
    some_loss(torch.from_numpy(model.means).double(), lower @ lower.transpose(1, 2)).backward()
    found = factor_gradient(model.scales, model.rotations, local_gradient(model), start)
    np.testing.assert_allclose(found, factors.grad.numpy(), rtol=1e-6)


def test_cholesky_factors_make_the_covariance_and_lead_back_to_it() -> None:
    model = some_gaussians()
    factors = to_factors(model.scales, model.rotations)
    a, b, d = factors.T
    scales, rotations = from_factors(factors)
    wanted = covariance(torch.from_numpy(model.scales).double(), torch.from_numpy(model.rotations).double()).numpy()
    back = covariance(torch.from_numpy(scales).double(), torch.from_numpy(rotations).double()).numpy()
    np.testing.assert_allclose(np.stack([a * a, a * b, b * b + d * d]), wanted[:, [0, 0, 1], [0, 1, 1]].T, rtol=1e-6)
    np.testing.assert_allclose(back, wanted, rtol=1e-4, atol=1e-4)
    assert np.all(scales[:, 0] >= scales[:, 1])


def test_round_gaussians_have_a_cholesky_gradient() -> None:
    model = some_gaussians()
    model.scales[:] = 2.0
    factors = to_factors(model.scales, model.rotations)
    found = factor_gradient(model.scales, model.rotations, local_gradient(model), factors)
    assert np.isfinite(found).all()
    assert np.abs(found[:, [0, 2]]).min() > 0


def test_a_local_step_is_measured_in_the_gaussians_own_frame() -> None:
    config = FitConfig(2, rates=Rates(position=0.1, scale=0.2, rotation=0.05, color=0.0))
    model = Gaussians(
        np.array([[10, 10], [30, 20]], np.float32),
        np.array([[2, 4], [1, 8]], np.float32),
        np.array([0, np.pi / 2], np.float32),
        np.zeros((2, 3), np.float32),
    )
    optimizer = LocalAdam(model, config, SIZE)
    # Adam's first step is the sign of the gradient, whatever its size
    optimizer.step(model, gradients_of([[1e-3, -5, 2, -1e-4, 1], [7, 1e-5, -3, 1, -2]]), factor=0.5)
    np.testing.assert_allclose(model.means, [[10 - 0.05 * 2, 10 + 0.05 * 4], [30 + 0.05 * 8, 20 - 0.05]], rtol=1e-5)
    np.testing.assert_allclose(model.scales, [[2 / np.e**0.1, 4 * np.e**0.1], [np.e**0.1, 8 / np.e**0.1]], rtol=1e-5)
    np.testing.assert_allclose(model.rotations, [-0.025, np.pi / 2 + 0.025], rtol=1e-5)


def test_inverse_scales_and_positions_in_units_of_the_picture() -> None:
    config = make_config(SIZE, gaussians=1, profile="image-gs")
    model = Gaussians(*(np.array(a, np.float32) for a in ([[30, 20]], [[5, 4]], [0.3], [[0.5, 0.5, 0.5]])))
    colors = np.array([[2, -2, 0]], np.float32)
    local = gradients_of([[1, -1, 1, -1, 1]])._replace(colors=colors)
    c, s = np.cos(0.3), np.sin(0.3)
    v = np.array([c / 5 + s / 4, s / 5 - c / 4])
    InverseScaleAdam(model, config, SIZE).step(model, local, factor=1.0)
    np.testing.assert_allclose(model.means[0], [30, 20] - np.sign(v) * 5e-4 * np.array([60, 40]), rtol=1e-6)
    np.testing.assert_allclose(1 / model.scales[0], [1 / 5 + 2e-3, 1 / 4 - 2e-3], rtol=1e-5)
    np.testing.assert_allclose(model.rotations, 0.3 - 2e-3, rtol=1e-5)
    np.testing.assert_allclose(model.colors[0], [0.495, 0.505, 0.5], rtol=1e-5)


def test_inverse_scales_follow_adam_of_pytorch() -> None:
    model, config = some_gaussians(), make_config(SIZE, gaussians=12, profile="image-gs")
    inverse = torch.from_numpy(1 / model.scales).double().requires_grad_()
    judge = torch.optim.Adam([inverse], lr=2e-3, betas=(0.9, 0.999), eps=1e-8)
    optimizer = make_optimizer(model, config, SIZE)
    random = np.random.default_rng(1)
    for _ in range(10):
        local = np.zeros((12, 5))
        local[:, 2:4] = random.normal(size=(12, 2))
        # d/d(1/s) = -s d/d(log s)
        inverse.grad = torch.from_numpy(-local[:, 2:4] * model.scales)
        judge.step()
        optimizer.step(model, gradients_of(local), 1.0)
        np.testing.assert_allclose(1 / model.scales, inverse.detach().numpy(), rtol=1e-4)


def test_adan_follows_its_published_recursion() -> None:
    config = make_config(SIZE, gaussians=4, profile="gaussian-image")
    optimizer = GaussianImageAdan(some_gaussians(4), config, SIZE)
    keep1, keep2, keep3, epsilon = 0.98, 0.92, 0.99, 1e-8
    random = np.random.default_rng(2)
    m, v, n, before = np.zeros((4, 8)), np.zeros((4, 8)), np.zeros((4, 8)), None
    for t in range(1, 8):
        g = random.normal(size=(4, 8)).astype(np.float32)
        change = np.zeros_like(g) if before is None else g - before
        m = keep1 * m + (1 - keep1) * g
        v = keep2 * v + (1 - keep2) * change
        n = keep3 * n + (1 - keep3) * (g + keep2 * change) ** 2
        size = np.sqrt(n / (1 - keep3**t)) + epsilon
        wanted = (m / (1 - keep1**t) + keep2 * v / (1 - keep2**t)) / size
        np.testing.assert_allclose(optimizer.direction(g), wanted, rtol=1e-4, atol=1e-5)
        before = g


@pytest.mark.parametrize("shape", ["cholesky", "rotation-scale"])
def test_gaussianimage_goes_downhill_in_every_variable(shape: str) -> None:
    config = make_config(SIZE, gaussians=12, profile="gaussian-image", shape=shape)
    model = some_gaussians()
    model.rotations[:3] = 0.0  # as every Gaussian starts there
    optimizer = make_optimizer(model, config, SIZE)
    means, rotations = model.means.copy(), model.rotations.copy()

    def loss() -> float:
        at = [torch.from_numpy(a).double() for a in model.arrays()[:3]]
        return float(some_loss(at[0], covariance(at[1], at[2])))

    values = [loss()]
    for _ in range(40):
        optimizer.step(model, gradients_of(local_gradient(model)), 1.0)
        values.append(loss())
    assert np.all(np.diff(values) < 0)
    assert np.abs(model.means - means).min() > 1e-3
    # whichever axis is called the first
    assert np.abs(np.sin(2 * (model.rotations - rotations))[:3]).min() > 4e-3


@pytest.mark.parametrize(
    "settings", [{}, {"profile": "image-gs"}, {"profile": "gaussian-image"}, {"shape": "rotation-scale"}]
)
def test_scales_stay_within_their_bounds(settings: dict[str, str]) -> None:
    model = some_gaussians()
    rates = Rates(1.0, 1.0, 1.0, 1.0)
    config = make_config(SIZE, gaussians=12, rates=rates, **settings)
    optimizer = make_optimizer(model, config, SIZE)
    low, high = scale_bounds(SIZE)
    for sign in (1, -1):
        for _ in range(30):
            local = np.zeros((12, 5))
            local[:, 2:4] = sign
            optimizer.step(model, gradients_of(local), 1.0)
            assert low * 0.999 <= model.scales.min() <= model.scales.max() <= high * 1.001
            assert all(np.isfinite(array).all() for array in model.arrays())


@pytest.mark.parametrize("settings", [{}, {"profile": "image-gs"}, {"profile": "gaussian-image"}])
def test_moments_are_extended_and_forgotten_row_by_row(settings: dict[str, str]) -> None:
    model, config = some_gaussians(4), make_config(SIZE, gaussians=4, **settings)
    optimizer = make_optimizer(model, config, SIZE)
    optimizer.step(model, gradients_of(np.ones((4, 5))), 1.0)
    kept = {name: array.copy() for name, array in optimizer.moments.items()}
    optimizer.extend(2)
    optimizer.forget(np.array([1]))
    for name, array in optimizer.moments.items():
        if name == "time":
            assert array == 1
            continue
        assert array.shape == (6, kept[name].shape[1])
        np.testing.assert_array_equal(array[[0, 2, 3]], kept[name][[0, 2, 3]])
        assert not array[[1, 4, 5]].any()
    optimizer.forget(slice(None))
    assert not any(array.any() for array in optimizer.moments.values())
