"""The CUDA kernels, run on the CPU by a shim, against the C++ ones and their definition; see ``cuda_shim.h``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cuda_host import HostLauncher, needs_compiler

from imagegs.kernels import constants, cuda, native, reference

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built"),
    pytest.mark.usefixtures("one_torch_thread"),
]

HEIGHT, WIDTH = 37, 51
BLENDS = ("normalized", "topk", "sum")
VIEWPORTS = {
    "region": (11.0, 7.0, 1.0, 1.0),
    "zoomed": (12.3, 8.1, 0.37, 0.25),
    "minified": (-20.0, -10.0, 2.0, 3.3),
    "mixed": (1.0, 2.0, 0.6, 2.4),
}
CPU = torch.device("cpu")


def host(seed: int = 0) -> cuda.Device:
    return cuda.Device(CPU, HostLauncher(seed))


def scene(n: int = 40, channels: int = 3, seed: int = 0, scales: tuple[float, float] = (0.5, 9.0)) -> list[np.ndarray]:
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


def task(channels: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict:
    """A loss that uses everything: a target, weights, both norms and a gradient from elsewhere."""
    random = np.random.default_rng(1000)
    return {
        "target": random.uniform(0, 1, (channels, *size)).astype(np.float32),
        "weights": random.uniform(0, 2, size).astype(np.float32),
        "v_image": (random.normal(size=(channels, *size)) / (channels * size[0] * size[1])).astype(np.float32),
        "l1": 0.7,
        "l2": 1.3,
    }


def tensors(values):
    return [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in values]


def on_device(arrays, size=(HEIGHT, WIDTH), seed=0, **settings) -> cuda.CudaRasterizer:
    rasterizer = cuda.CudaRasterizer(host(seed))
    rasterizer.prepare(*tensors(arrays[:4]), size, **settings)
    return rasterizer


def compiled(arrays, size=(HEIGHT, WIDTH), **settings) -> native.Rasterizer:
    rasterizer = native.Rasterizer()
    rasterizer.prepare(*arrays[:4], size, **settings)
    return rasterizer


def assert_pictures_agree(image: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-3) -> None:
    """Equal but for rounding, which counts most where a support ends and the background's small weight decides."""
    error = np.abs(image - wanted)
    assert np.isfinite(error).all()
    assert error.max() < tolerance
    assert (error > tolerance / 20).mean() < 0.01


def assert_gradients_agree(found: cuda.DeviceGradients, wanted: native.Gradients, tolerance: float = 1e-3) -> None:
    """Within ``tolerance`` of the largest entry of their column."""
    assert float(found.loss) == pytest.approx(wanted.loss, rel=1e-5)
    assert float(found.squared_error) == pytest.approx(wanted.squared_error, rel=1e-5)
    for name in ("local", "colors", "background"):
        got, want = getattr(found, name).numpy(), getattr(wanted, name)
        assert got.shape == want.shape
        scale = np.maximum(np.abs(want).max(axis=0 if want.ndim > 1 else None, initial=0), 1e-12)
        assert (np.abs(got - want) / scale).max(initial=0) < tolerance, name


def compare(arrays, size=(HEIGHT, WIDTH), **settings) -> None:
    """Forward, backward after it, both in one, and removal: all against the C++ kernels."""
    ours, theirs = on_device(arrays, size, **settings), compiled(arrays, size, **settings)
    background = torch.from_numpy(arrays[4])
    loss = task(len(arrays[4]), size)
    on_tensors = dict(zip(loss, tensors(loss.values()), strict=True))
    image, wanted = ours.forward(background, keep=True), theirs.forward(arrays[4], keep=True)
    assert_pictures_agree(image.numpy(), wanted)
    gradients = theirs.backward(arrays[4], **loss)
    assert_gradients_agree(ours.backward(background, **on_tensors), gradients)
    growth = theirs.removal(arrays[4], loss["target"], loss["weights"])
    found = ours.removal(background, on_tensors["target"], on_tensors["weights"]).numpy()
    # where one Gaussian has a pixel to itself, what is left without it is the rounding of a difference
    np.testing.assert_allclose(found, growth, rtol=5e-3, atol=1e-3 * np.abs(growth).max(initial=1e-9))
    assert_gradients_agree(ours.backward(background, **on_tensors, fused=True), gradients)
    assert_pictures_agree(ours.image.numpy(), wanted)


@pytest.mark.parametrize("channels", [1, 3, 5, 32])
@pytest.mark.parametrize("blend", BLENDS)
def test_blends_and_channels(blend, channels):
    compare(scene(channels=channels, seed=channels), blend=blend)


@pytest.mark.parametrize("top_k", [1, 4, 32])
def test_any_k_with_ties(top_k):
    arrays = scene(n=90, seed=top_k, scales=(4.0, 15.0))
    for array in arrays[:3]:
        array[60:] = array[:30]  # exact ties between different colours
    compare(arrays, blend="topk", top_k=top_k)


def test_ties_break_by_index():
    arrays = scene(n=20, seed=1, scales=(6.0, 12.0))
    for array in arrays[:3]:
        array[:] = array[0]
    arrays[0][:] = (30.2, 20.7)
    background = torch.from_numpy(arrays[4])
    image = on_device(arrays, blend="topk", top_k=4).forward(background)
    first = on_device([*(array[:4] for array in arrays[:4]), arrays[4]], blend="topk", top_k=4).forward(background)
    reverse = [*(array[::-1].copy() for array in arrays[:4]), arrays[4]]
    assert torch.equal(image, first)
    assert not torch.equal(image, on_device(reverse, blend="topk", top_k=4).forward(background))


@pytest.mark.parametrize("viewport", VIEWPORTS.values(), ids=VIEWPORTS)
@pytest.mark.parametrize("blend", ["normalized", "topk"])
def test_any_viewport(blend, viewport):
    compare(scene(seed=5), viewport=viewport, blend=blend)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (5, 64)])
def test_pictures_that_do_not_fill_their_tiles(size):
    compare(scene(seed=3), size)


@pytest.mark.parametrize("scales", [(0.01, 0.5), (0.05, 300.0), (30.0, 3000.0)], ids=["tiny", "thin", "huge"])
def test_any_shape_reaches_every_tile_it_should(scales):
    arrays = scene(n=60, seed=7, scales=scales)
    background = torch.from_numpy(arrays[4])
    wanted = compiled(arrays, blend="sum").forward(arrays[4])
    assert_pictures_agree(on_device(arrays, blend="sum").forward(background).numpy(), wanted, 4e-3)


def test_tiles_have_the_gaussians_of_the_exact_test_in_order():
    arrays = scene(n=200, seed=9, scales=(0.3, 12.0))
    ours = on_device(arrays)
    first, owners, slots = ours._first_entry.tolist(), ours._owners, ours._slots
    points = torch.from_numpy(np.stack(np.mgrid[0:HEIGHT, 0:WIDTH][::-1], axis=-1).reshape(-1, 2) + 0.5).double()
    splats, draws = reference.project(*(torch.from_numpy(array).double() for array in arrays[:4]), reference.Viewport())
    seen = (reference.weigh(splats, points) * draws > 1e-7).T.reshape(200, HEIGHT, WIDTH).numpy()
    columns = -(-WIDTH // cuda.TILE)
    for tile in range(len(first) - 1):
        listed = owners[slots[first[tile] : first[tile + 1]]].tolist()
        assert listed == sorted(set(listed))
        top, left = tile // columns * cuda.TILE, tile % columns * cuda.TILE
        reached = seen[:, top : top + cuda.TILE, left : left + cuda.TILE].any(axis=(1, 2))
        assert set(np.flatnonzero(reached)) <= set(listed)
        assert len(listed) <= reached.sum() + 3  # those that the margin for rounding lets in


def test_gaussians_that_are_not_finite_draw_nothing():
    arrays = scene(n=12, seed=2)
    for row, (array, value) in enumerate(zip(arrays[:4], (np.nan, np.inf, np.nan, np.inf), strict=True)):
        array[row] = value
    arrays[0][4] = 1e8
    kept = [*(array[5:] for array in arrays[:4]), arrays[4]]
    background = torch.from_numpy(arrays[4])
    found, wanted = on_device(arrays), on_device(kept)
    assert torch.equal(found.forward(background), wanted.forward(background))
    target = torch.zeros(3, HEIGHT, WIDTH)
    gradients = found.backward(background, target=target, l2=1.0, fused=True)
    assert not gradients.local[:5].any()
    assert torch.equal(gradients.local[5:], wanted.backward(background, target=target, l2=1.0, fused=True).local)


def test_no_gaussians_show_the_background():
    arrays = scene(n=0)
    ours = on_device(arrays)
    background = torch.from_numpy(arrays[4])
    torch.testing.assert_close(ours.forward(background, keep=True), background[:, None, None].expand(3, HEIGHT, WIDTH))
    target = torch.rand(3, HEIGHT, WIDTH)
    gradients = ours.backward(background, target=target, l2=1.0)
    assert gradients.local.shape == (0, 5)
    difference = background[:, None, None] - target
    torch.testing.assert_close(gradients.loss, difference.double().square().sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients.background, 2 * difference.mean(dim=(1, 2)) / 3, rtol=1e-4, atol=1e-7)
    assert ours.removal(background, target).shape == (0,)


@pytest.mark.parametrize("blend", BLENDS)
def test_the_order_of_threads_and_blocks_does_not_matter(blend):
    arrays, loss = scene(n=200, seed=4), task(3)  # some tiles' lists take more than one batch
    on_tensors = dict(zip(loss, tensors(loss.values()), strict=True))
    background = torch.from_numpy(arrays[4])
    results = []
    for seed in (0, 1, 2):
        ours = on_device(arrays, seed=seed, blend=blend)
        image = ours.forward(background, keep=True)
        parts = (*ours.backward(background, **on_tensors), ours.removal(background, on_tensors["target"]))
        similarity = torch.zeros_like(image)
        total = cuda.ssim(
            ours.device, image, on_tensors["target"], window=cuda.taps(CPU), scale=1.0, v_image=similarity
        )
        results.append((image, *parts, similarity, total, *ours.backward(background, **on_tensors, fused=True)))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("blend", BLENDS)
def test_a_batch_is_its_pictures(blend):
    sizes, counts = [(37, 51), (16, 16), (5, 90), (33, 17)], [30, 9, 0, 21]
    parts = [scene(n=count, seed=seed) for seed, count in enumerate(counts)]
    losses = [task(3, size) for size in sizes]
    together = tensors([np.concatenate([part[k] for part in parts]) for k in range(4)])
    background = torch.from_numpy(np.stack([part[4] for part in parts]))
    loss = {
        name: torch.from_numpy(
            np.concatenate([one[name].reshape(*one[name].shape[:-2], -1) for one in losses], axis=-1)
        )
        for name in ("target", "weights")
    }
    rasterizer = cuda.CudaRasterizer(host())
    batch = cuda.Batch(rasterizer.device, sizes, counts)
    rasterizer.prepare(*together, (0, 0), blend=blend, top_k=4, batch=batch)
    image = rasterizer.forward(background, keep=True)
    growth = rasterizer.removal(background, loss["target"])
    unfused = rasterizer.backward(background, **loss, l2=1.0)
    fused = rasterizer.backward(background, **loss, l2=1.0, fused=True)
    assert torch.equal(image, rasterizer.image)
    assert torch.equal(unfused.local, fused.local)
    errors, first = rasterizer.errors(), 0
    for k, (part, size, count) in enumerate(zip(parts, sizes, counts, strict=True)):
        alone, own = on_device(part, size, blend=blend, top_k=4), background[k]
        target, weights = torch.from_numpy(losses[k]["target"]), torch.from_numpy(losses[k]["weights"])
        start, stop = batch.starts[k], batch.starts[k] + size[0] * size[1]
        assert torch.equal(image[:, start:stop].reshape(3, *size), alone.forward(own, keep=True))
        rows = slice(first, first + count)
        assert torch.equal(growth[rows], alone.removal(own, target))
        gradients = alone.backward(own, target=target, weights=weights, l2=1.0)
        share = size[0] * size[1] / batch.pixels  # the loss is the mean over all pixels
        torch.testing.assert_close(fused.local[rows], gradients.local * share, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(fused.colors[rows], gradients.colors * share, rtol=1e-4, atol=1e-7)
        wanted = torch.stack([gradients.loss, gradients.squared_error])
        torch.testing.assert_close(errors[k], wanted, rtol=1e-6, atol=1e-9)
        first += count


def test_pairs_beyond_the_capacity_are_left_out_and_counted():
    arrays = scene(n=50, seed=6)
    background = torch.from_numpy(arrays[4])
    pairs = int(on_device(arrays).pairs)
    roomy, tight = on_device(arrays, capacity=pairs + 100), on_device(arrays, capacity=pairs // 2)
    assert int(roomy.pairs) == int(tight.pairs) == pairs
    assert torch.equal(roomy.forward(background), on_device(arrays).forward(background))
    gradients = [
        one.backward(background, target=torch.zeros(3, HEIGHT, WIDTH), l2=1.0, fused=True)
        for one in (roomy, tight, on_device(arrays))
    ]
    assert torch.equal(gradients[0].local, gradients[2].local)
    assert all(torch.isfinite(part).all() for part in gradients[1])
    assert not gradients[1].local[-1].any()


def test_backward_needs_what_forward_keeps():
    ours = on_device(scene(n=3))
    ours.forward(torch.zeros(3))
    with pytest.raises(ValueError, match="must come first"):
        ours.backward(torch.zeros(3), v_image=torch.zeros(3, HEIGHT, WIDTH))


@pytest.mark.parametrize("size", [(1, 1), (9, 40), (HEIGHT, WIDTH)])
@pytest.mark.parametrize("weighted", [False, True])
def test_ssim(size, weighted):
    random = np.random.default_rng(0)
    image, target = random.uniform(0, 1, (2, 2, *size)).astype(np.float32)
    weights = random.uniform(0, 2, size).astype(np.float32) if weighted else None
    v_wanted = np.full((2, *size), 0.5, np.float32)
    wanted = native.ssim(image, target, weights, scale=-0.3, v_image=v_wanted)
    v_image = torch.full((2, *size), 0.5)
    on_tensors = tensors([image, target, weights])
    found = cuda.ssim(host(), *on_tensors, window=cuda.taps(CPU), scale=-0.3, v_image=v_image)
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(v_image.numpy(), v_wanted, rtol=1e-3, atol=2e-5)
    assert float(cuda.ssim(host(), *on_tensors, window=cuda.taps(CPU))) == pytest.approx(wanted, rel=1e-5)


def test_adam_and_steps_in_local_frames():
    random = np.random.default_rng(0)
    means, scales, rotations = scene(n=300, seed=8)[:3]
    ours = [torch.from_numpy(array.copy()) for array in (means, scales, rotations)]
    moments = np.zeros((2, 300, 5), np.float32)
    on_tensors = torch.zeros(2, 300, 5)
    betas, epsilon, rates, bounds = (0.7, 0.9), 1e-15, (0.1, 0.1, 0.06), (0.3, 25.0)
    for step in range(1, 4):
        gradient = random.normal(size=(300, 5)).astype(np.float32)
        wanted = native.adam(gradient, *moments, betas=betas, epsilon=epsilon, step=step)
        clock = torch.tensor([0.5, 1 - betas[0] ** step, 1 - betas[1] ** step])
        update = cuda.adam(host(), torch.from_numpy(gradient), *on_tensors, clock, betas=betas, epsilon=epsilon)
        np.testing.assert_allclose(update.numpy(), wanted, rtol=1e-5, atol=1e-7)
        native.apply_local(wanted, tuple(0.5 * rate for rate in rates), bounds, means, scales, rotations)
        cuda.apply_local(host(), update, clock, rates, bounds, *ours)
    for found, array in zip(ours, (means, scales, rotations), strict=True):
        np.testing.assert_allclose(found.numpy(), array, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(on_tensors.numpy(), moments, rtol=1e-5, atol=1e-7)
    assert scales.min() >= 0.3


def test_gradients_are_those_of_the_definition_in_float64():
    arrays = scene(n=25, seed=11)
    means, scales, rotations, colors, background = (torch.from_numpy(array).double() for array in arrays)
    step = torch.zeros(25, 5, dtype=torch.float64, requires_grad=True)
    moved = reference.move_local(means, scales, rotations, step)
    image = reference.render(*moved, colors, background, HEIGHT, WIDTH)
    v_image = torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    wanted = torch.autograd.grad((v_image * image).sum(), step)[0]
    found = on_device(arrays).backward(torch.from_numpy(arrays[4]), v_image=v_image, fused=True).local
    assert float(((found - wanted).abs() / wanted.abs().amax(dim=0)).max()) < 2e-3


def test_the_constants_are_those_of_the_sources():
    from imagegs.kernels import cuda_program

    source = cuda_program.source_of("render")
    assert f"constexpr int kTileSide = {cuda.TILE};" in source
    assert f"constexpr int kMomentCount = {cuda.MOMENTS};" in source
    assert cuda.TILE**2 == cuda_program.BLOCK
    assert constants.EPSILON == pytest.approx(1e-4)
