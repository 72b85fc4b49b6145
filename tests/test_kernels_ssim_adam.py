"""Structural similarity, Adam and moves in a Gaussian's own frame, compiled against defined against other people's."""

from __future__ import annotations

import instruction_sets
import numpy as np
import pytest
import torch

from imagegs.kernels import native, reference

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built"),
    pytest.mark.usefixtures("one_torch_thread"),
]
INSTRUCTION_SETS = instruction_sets.found()
SHAPES = [(1, 1, 1), (2, 5, 3), (3, 33, 257), (1, 70, 300), (1, 1, 600), (1, 600, 1), (2, 64, 512), (1, 13, 17)]


@pytest.fixture(params=INSTRUCTION_SETS)
def kernels(request):
    assert native._native.select_kernels(request.param)
    yield request.param
    native._native.select_kernels("auto")


def images(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture and what it should be."""
    random = np.random.default_rng(seed)
    target = random.uniform(0, 1, shape)
    return np.float32(target + random.normal(0, 0.1, shape)), np.float32(target)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ssim_is_as_defined(kernels, shape, weighted):
    image, target = images(shape)
    weights = np.random.default_rng(1).uniform(0, 2, shape[1:]).astype(np.float32) if weighted else None
    x = torch.from_numpy(image).double().requires_grad_()
    wanted = reference.ssim_map(x, torch.from_numpy(target).double())
    wanted = (wanted if weights is None else wanted * torch.from_numpy(weights)).sum()
    gradient = torch.autograd.grad(wanted, x)[0].numpy()
    v_image = np.full(shape, 3.0, np.float32)
    value = native.ssim(image, target, weights, scale=-0.5, v_image=v_image)
    assert value == pytest.approx(wanted.item(), rel=1e-5)
    assert value == native.ssim(image, target, weights)
    np.testing.assert_allclose(v_image, 3 - 0.5 * gradient, atol=1e-5 * max(1, np.abs(gradient).max()))


def test_ssim_of_equal_pictures_is_one(kernels):
    image, target = images((3, 40, 50))
    v_image = np.zeros_like(image)
    assert native.ssim(target, target, scale=1.0, v_image=v_image) == pytest.approx(target.size, rel=1e-6)
    assert np.abs(v_image).max() < 1e-3
    assert native.ssim(image, target) < 0.99 * target.size


def test_ssim_in_the_interior_is_that_of_others():
    metrics = pytest.importorskip("skimage.metrics")
    image, target = images((2, 40, 60))
    _, wanted = metrics.structural_similarity(
        image.astype(float), target.astype(float), channel_axis=0, data_range=1.0, gaussian_weights=True,
        sigma=1.5, truncate=3.4, use_sample_covariance=False, full=True,
    )  # fmt: skip
    inside = np.zeros((40, 60), np.float32)
    inside[5:-5, 5:-5] = 1
    assert native.ssim(image, target, inside) == pytest.approx((wanted * inside).sum(), rel=1e-5)


def test_ssim_bits_do_not_depend_on_the_number_of_threads(kernels):
    image, target = images((3, 150, 700))
    results = []
    for count in (1, 2, 3, 7):
        v_image = np.zeros_like(image)
        with native.threads(count):
            results.append((native.ssim(image, target, scale=1.0, v_image=v_image), v_image))
    assert len({value for value, _ in results}) == 1
    for _, v_image in results[1:]:
        np.testing.assert_array_equal(v_image, results[0][1])


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (4001, 5), (3, 32)], ids=str)
def test_adam_is_that_of_torch(kernels, shape):
    random = np.random.default_rng(0)
    parameter = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=1.0, betas=(0.85, 0.99), eps=1e-6)
    first, second, moved = (np.zeros(shape, np.float32) for _ in range(3))
    for step in range(1, 6):
        gradient = (random.normal(size=shape) * 10.0 ** random.integers(-6, 4, shape)).astype(np.float32)
        moved -= native.adam(gradient, first, second, betas=(0.85, 0.99), epsilon=1e-6, step=step)
        parameter.grad = torch.from_numpy(gradient).double()
        optimizer.step()
    np.testing.assert_allclose(moved, parameter.detach().numpy(), atol=2e-5)
    state = optimizer.state[parameter]
    np.testing.assert_allclose(first, state["exp_avg"].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second, state["exp_avg_sq"].numpy(), rtol=1e-4, atol=1e-18)


def test_adam_bits_do_not_depend_on_the_number_of_threads(kernels):
    gradient = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32)
    results = []
    for count in (1, 2, 3, 7):
        first, second = np.full_like(gradient, 0.1), np.full_like(gradient, 0.2)
        with native.threads(count):
            update = native.adam(gradient, first, second, betas=(0.9, 0.999), epsilon=1e-8, step=3)
        results.append(np.stack([update, first, second]))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_apply_local_moves_as_defined():
    random = np.random.default_rng(2)
    n = 3000
    means, scales = random.uniform(0, 90, (n, 2)).astype(np.float32), random.uniform(0.5, 9, (n, 2)).astype(np.float32)
    rotations, update = random.uniform(-4, 4, n).astype(np.float32), random.normal(size=(n, 5)).astype(np.float32)
    rates, bounds = (0.1, 0.4, 0.06), (0.7, 8.0)
    step = -torch.from_numpy(update).double() * torch.tensor([0.1, 0.1, 0.4, 0.4, 0.06], dtype=torch.float64)
    wanted = reference.move_local(*(torch.from_numpy(array).double() for array in (means, scales, rotations)), step)
    native.apply_local(update, rates, bounds, means, scales, rotations)
    np.testing.assert_allclose(means, wanted[0].numpy(), atol=2e-5)
    np.testing.assert_allclose(scales, wanted[1].clamp(*bounds).numpy(), rtol=1e-5)
    np.testing.assert_allclose(rotations, wanted[2].numpy(), atol=1e-6)
    assert (scales == np.float32(0.7)).any()
    assert (scales == np.float32(8.0)).any()


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (700, 5)], ids=str)
def test_apply_local_and_adam_of_any_count(shape):
    update = native.adam(*(np.ones(shape, np.float32) for _ in range(3)), betas=(0.9, 0.999), epsilon=0.0, step=1)
    assert update.shape == shape
    means, scales, rotations = (
        np.zeros((shape[0], 2), np.float32),
        np.ones((shape[0], 2), np.float32),
        np.zeros(shape[0], np.float32),
    )
    native.apply_local(np.ones(shape, np.float32), (1.0, 0.0, 0.5), (0.1, 9.0), means, scales, rotations)
    assert (means == -1).all()
    assert (scales == 1).all()
    assert (rotations == -0.5).all()
