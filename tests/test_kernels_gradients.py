"""Gradients: defined, compiled and by finite differences; and what a Gaussian's removal costs."""

from __future__ import annotations

import instruction_sets
import numpy as np
import pytest
import torch

from imagegs.kernels import native, reference

BLENDS = ("normalized", "topk", "sum")
HEIGHT, WIDTH = 45, 70
INSTRUCTION_SETS = instruction_sets.found()
VIEWPORTS = {
    "region": (11.0, 7.0, 1.0, 1.0),
    "zoomed": (12.3, 8.1, 0.37, 0.25),
    "minified": (-20.0, -10.0, 2.0, 3.3),
    "mixed": (1.0, 2.0, 0.6, 2.4),
}
pytestmark = pytest.mark.usefixtures("one_torch_thread")
compiled_only = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


@pytest.fixture(autouse=True)
def _best_instruction_set():
    yield
    if native.available():
        native._native.select_kernels("auto")


def scene(n: int = 50, channels: int = 3, seed: int = 0, scales: tuple[float, float] = (0.7, 9.0)) -> list[np.ndarray]:
    """Means, scales, rotations, colours and background of ``n`` Gaussians in and around the canvas."""
    random = np.random.default_rng(seed)
    arrays = [
        random.uniform((-8, -8), (WIDTH + 8, HEIGHT + 8), (n, 2)),
        np.exp(random.uniform(*np.log(scales), (n, 2))),
        random.uniform(-4, 4, n),
        random.uniform(0, 1, (n, channels)),
        random.uniform(0, 1, channels),
    ]
    return [array.astype(np.float32) for array in arrays]


def task(channels: int, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict:
    """A loss that uses everything: a target, weights, both norms and a gradient from elsewhere."""
    random = np.random.default_rng(1000 + seed)
    return {
        "target": random.uniform(0, 1, (channels, *size)).astype(np.float32),
        "weights": random.uniform(0, 2, size).astype(np.float32),
        "v_image": (random.normal(size=(channels, *size)) / (channels * size[0] * size[1])).astype(np.float32),
        "l1": 0.7,
        "l2": 1.3,
    }


def rasterizer_of(
    arrays, viewport=native.IDENTITY, blend="normalized", top_k=10, size=(HEIGHT, WIDTH)
) -> native.Rasterizer:
    rasterizer = native.Rasterizer()
    rasterizer.prepare(*arrays[:4], size, viewport, blend, top_k)
    return rasterizer


def compiled_by_every_set(arrays, loss, **keywords):
    for name in INSTRUCTION_SETS:
        assert native._native.select_kernels(name)
        yield rasterizer_of(arrays, **keywords).backward(arrays[4], fused=True, **loss)


def defined(
    arrays, loss, viewport=native.IDENTITY, blend="normalized", top_k=10, size=(HEIGHT, WIDTH)
) -> native.Gradients:
    means, scales, rotations, colors, background = (torch.from_numpy(array).double() for array in arrays)
    step = torch.zeros(len(means), 5, dtype=torch.float64, requires_grad=True)
    colors.requires_grad_()
    background.requires_grad_()
    moved = reference.move_local(means, scales, rotations, step)
    image = reference.render(*moved, colors, background, *size, reference.Viewport(*viewport), blend, top_k)
    target, weights, v_image = (torch.from_numpy(loss[name]).double() for name in ("target", "weights", "v_image"))
    mean = reference.pointwise_loss(image, target, weights, loss["l1"], loss["l2"])
    gradients = torch.autograd.grad(mean + (v_image * image).sum(), (step, colors, background), allow_unused=True)
    error = (image.clamp(0, 1) - target).square().sum().item()
    found = (np.zeros(len(arrays[4])) if gradient is None else gradient.numpy() for gradient in gradients)
    return native.Gradients(mean.item() * target.numel(), error, *found)


def assert_agree(found: native.Gradients, wanted: native.Gradients, tolerance: float = 2e-3, swaps: int = 0) -> None:
    """Within ``tolerance`` of its column's largest entry, but for ``swaps`` rows with near ties for a K-th place."""
    assert found.loss == pytest.approx(wanted.loss, rel=1e-4)
    assert found.squared_error == pytest.approx(wanted.squared_error, rel=1e-4)
    for name in ("local", "colors", "background"):
        got, want = np.atleast_2d(getattr(found, name)), np.atleast_2d(getattr(wanted, name))
        error = (
            np.abs(got - want) / np.maximum(np.abs(want).max(axis=0 if name != "background" else None), 1e-12)
        ).max(axis=1)
        assert np.sort(error)[: max(1, len(error) - swaps)].max() < tolerance, name


@compiled_only
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12, 32])
@pytest.mark.parametrize("blend", BLENDS)
def test_any_number_of_channels(blend, channels):
    arrays, loss = scene(channels=channels, seed=channels), task(channels)
    wanted = defined(arrays, loss, blend=blend)
    for found in compiled_by_every_set(arrays, loss, blend=blend):
        assert found.local.shape == (50, 5)
        assert found.colors.shape == (50, channels)
        assert found.background.shape == (channels,)
        assert_agree(found, wanted)


@compiled_only
@pytest.mark.parametrize("top_k", [1, 2, 5, 10, 32])
def test_any_k_with_ties(top_k):
    arrays, loss = scene(n=80, seed=top_k, scales=(3.0, 15.0)), task(3)
    for array in arrays[:3]:
        array[60:] = array[:20]
    wanted = defined(arrays, loss, blend="topk", top_k=top_k)
    for found in compiled_by_every_set(arrays, loss, blend="topk", top_k=top_k):
        assert_agree(found, wanted, swaps=4)


@compiled_only
@pytest.mark.parametrize("viewport", VIEWPORTS.values(), ids=VIEWPORTS)
@pytest.mark.parametrize("blend", BLENDS)
def test_any_viewport(blend, viewport):
    arrays, loss = scene(seed=5), task(3)
    wanted = defined(arrays, loss, blend=blend, viewport=viewport)
    for found in compiled_by_every_set(arrays, loss, blend=blend, viewport=viewport):
        assert_agree(found, wanted, swaps=2)


@compiled_only
@pytest.mark.parametrize("n", [100, 2000])  # few and many Gaussians in a tile
@pytest.mark.parametrize("blend", BLENDS)
def test_fused_and_apart_give_the_same_bits(blend, n):
    arrays, loss = scene(n=n, seed=6), task(3)
    for name in INSTRUCTION_SETS:
        assert native._native.select_kernels(name)
        apart, fused = rasterizer_of(arrays, blend=blend, top_k=5), rasterizer_of(arrays, blend=blend, top_k=5)
        apart.forward(arrays[4], keep=True)
        for one, other in zip(
            apart.backward(arrays[4], **loss), fused.backward(arrays[4], fused=True, **loss), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(apart.image, fused.image)


@compiled_only
@pytest.mark.parametrize("blend", BLENDS)
def test_bits_do_not_depend_on_the_number_of_threads(blend):
    size = (150, 200)
    arrays, loss = scene(n=900, seed=2, scales=(1.0, 40.0)), task(3, size=size)
    results = []
    for count in (1, 2, 3, 7):
        with native.threads(count):
            rasterizer = rasterizer_of(arrays, blend=blend, size=size)
            rasterizer.forward(arrays[4], keep=True)
            growth = rasterizer.removal(arrays[4], loss["target"], loss["weights"])
            results.append((*rasterizer.backward(arrays[4], **loss), growth))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


@compiled_only
@pytest.mark.parametrize(
    "viewport", [native.IDENTITY, VIEWPORTS["zoomed"], VIEWPORTS["minified"]], ids=["plain", "zoomed", "minified"]
)
@pytest.mark.parametrize("blend", BLENDS)
def test_finite_differences_of_the_render(blend, viewport):
    """What a small move in a Gaussian's own frame does to the picture, without any help from the definition.

    Looked at only where the weights are well above ``EPSILON``: a normalising blend turns sharply where a support ends.
    """
    arrays = scene(n=6, seed=3, scales=(3.0, 8.0))
    arrays[0] = np.float32([[12, 12], [20, 22], [30, 16], [41, 30], [50, 20], [33, 31]])
    v_image = np.random.default_rng(8).normal(size=(3, HEIGHT, WIDTH)).astype(np.float32)
    background = arrays[4]
    white = [*arrays[:3], np.ones((6, 1), np.float32), np.zeros(1, np.float32)]
    v_image *= rasterizer_of(white, blend="sum", viewport=viewport).forward(white[4]) > 0.1

    def value(index: int, amount: float) -> float:
        step = np.zeros((6, 5))
        colors, back = arrays[3].astype(float), background.astype(float)
        if index < 30:
            step.flat[index] = amount
        elif index < 48:
            colors.flat[index - 30] += amount
        else:
            back[index - 48] += amount
        means, scales, angles = (array.astype(float) for array in arrays[:3])
        c, s = np.cos(angles), np.sin(angles)
        along, across = step[:, 0] * scales[:, 0], step[:, 1] * scales[:, 1]
        means += np.stack([c * along - s * across, s * along + c * across], axis=1)
        moved = [means, scales * np.exp(step[:, 2:4]), angles + step[:, 4], colors, back]
        moved = [np.ascontiguousarray(array, dtype=np.float32) for array in moved]
        image = rasterizer_of(moved, blend=blend, viewport=viewport, top_k=6).forward(moved[4])
        return float((image.astype(float) * v_image).sum())

    found = rasterizer_of(arrays, blend=blend, viewport=viewport, top_k=6).backward(
        background, v_image=v_image, fused=True
    )
    gradient = np.concatenate([found.local.ravel(), found.colors.ravel(), found.background])
    h = 5e-3
    differences = np.array([(value(index, h) - value(index, -h)) / (2 * h) for index in range(51)])
    for part in (slice(0, 30), slice(30, 48), slice(48, 51)):
        limit = 0.01 * np.abs(differences[part]).max() + 0.01  # the differences' own curvature and rounding
        assert np.abs(gradient[part] - differences[part]).max() < limit
    assert np.abs(gradient[:30]).max() > 1


@pytest.mark.parametrize("viewport", [native.IDENTITY, (1.0, 0.5, 1.6, 0.7)], ids=["plain", "mixed"])
@pytest.mark.parametrize("blend", BLENDS)
def test_gradcheck_of_the_definition(blend, viewport):
    random = torch.Generator().manual_seed(4)
    means = torch.tensor([[2.3, 2.1], [5.2, 3.3], [4.1, 1.2]], dtype=torch.float64)
    scales = torch.tensor(
        [[3.1, 2.2], [2.5, 4.0], [2.8, 3.4]], dtype=torch.float64
    )  # every pixel lies within the support
    rotations = torch.tensor([0.3, -1.1, 2.0], dtype=torch.float64)
    colors, background = (torch.rand(shape, generator=random, dtype=torch.float64) for shape in ((3, 2), (2,)))
    inputs = [tensor.requires_grad_() for tensor in (means, scales, rotations, colors, background)]
    if blend == "sum":
        inputs, constant = inputs[:4], background.detach()
        render = lambda *tensors: reference.render(*tensors, constant, 4, 6, reference.Viewport(*viewport), blend, 2)
    else:
        render = lambda *tensors: reference.render(*tensors, 4, 6, reference.Viewport(*viewport), blend, 2)
    assert torch.autograd.gradcheck(render, inputs)


def test_gradcheck_of_ssim():
    random = torch.Generator().manual_seed(4)
    image, target = (torch.rand(2, 5, 6, generator=random, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: reference.ssim_map(x, target), image.requires_grad_())


def test_a_clamped_scale_has_no_gradient():
    arrays, loss = scene(n=4, seed=1), task(3)
    arrays[0][:] = (20.5, 20.5)
    arrays[1][1], arrays[2][1] = (1e-5, 3.0), 0.0
    rasterizer = rasterizer_of(arrays)
    found = rasterizer.backward(arrays[4], fused=True, **loss)
    assert found.local[1, 2] == 0
    assert found.local[1, 3] != 0
    assert (found.local[[0, 2, 3], 2:4] != 0).all()


@compiled_only
@pytest.mark.parametrize("blend", ["normalized", "sum"])
def test_what_a_removal_costs(blend):
    arrays, loss = scene(n=14, seed=12), task(3)
    tensors = [torch.from_numpy(array).double() for array in arrays]
    target, weights = (torch.from_numpy(loss[name]).double() for name in ("target", "weights"))
    wanted = reference.removal(*tensors, target, weights, blend).numpy()
    for name in INSTRUCTION_SETS:
        assert native._native.select_kernels(name)
        rasterizer = rasterizer_of(arrays, blend=blend)
        rasterizer.forward(arrays[4], keep=True)
        growth = rasterizer.removal(arrays[4], loss["target"], loss["weights"])
        np.testing.assert_allclose(growth, wanted, atol=2e-3 * np.abs(wanted).max())
        plain = rasterizer.removal(arrays[4], loss["target"])
        ones = rasterizer.removal(arrays[4], loss["target"], np.ones_like(loss["weights"]))
        np.testing.assert_array_equal(plain, ones)
        assert not np.array_equal(plain, growth)


@compiled_only
def test_what_a_removal_costs_among_the_k_largest():
    """The others of the K stay as chosen, so the price is that of the ``normalized`` blend of those K."""
    arrays, loss = scene(n=12, seed=13, scales=(15.0, 30.0)), task(3)
    rasterizer = rasterizer_of(arrays, blend="topk", top_k=4)
    rasterizer.forward(arrays[4], keep=True)
    growth = rasterizer.removal(arrays[4], loss["target"], loss["weights"])
    stand_in = reference.Rasterizer()
    stand_in.prepare(*arrays[:4], (HEIGHT, WIDTH), native.IDENTITY, "topk", 4)
    wanted = stand_in.removal(arrays[4], loss["target"], loss["weights"])
    np.testing.assert_allclose(growth, wanted, atol=2e-3 * np.abs(wanted).max())
    assert np.ptp(wanted) > 0


@compiled_only
def test_backward_needs_a_kept_render():
    arrays, loss = scene(), task(3)
    rasterizer = rasterizer_of(arrays)
    rasterizer.forward(arrays[4])
    with pytest.raises(ValueError, match="keep=True"):
        rasterizer.backward(arrays[4], **loss)
    with pytest.raises(ValueError, match="keep=True"):
        rasterizer.removal(arrays[4], loss["target"])


def test_a_fused_pass_need_not_write_the_picture():
    gaussians = [np.float32([[9.0, 7.0]]), np.float32([[3.0, 2.0]]), np.float32([0.4]), np.float32([[0.8, 0.1, 0.3]])]
    target, background = np.full((3, 15, 21), 0.25, np.float32), np.zeros(3, np.float32)
    found = []
    for show in (True, False):
        rasterizer = native.Rasterizer()
        rasterizer.prepare(*gaussians, (15, 21))
        found.append(rasterizer.backward(background, target=target, l2=1.0, fused=True, show=show))
        assert rasterizer.image.shape == ((3, 15, 21) if show else (0, 0, 0))
    for shown, hidden in zip(*found, strict=True):
        np.testing.assert_array_equal(shown, hidden)
