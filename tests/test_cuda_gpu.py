"""The kernels on a GPU against the C++ ones: values, gradients, graphs, fits. Skipped where there is no GPU."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from cuda_gpu import open_or_skip

import imagegs
from imagegs.fitting import fit as fitting
from imagegs.fitting.config import make_config
from imagegs.kernels import cuda, native

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")]
SIZE = (301, 407)
VIEWPORTS = {"plain": native.IDENTITY, "zoomed": (12.3, 8.1, 0.37, 0.25), "minified": (-20.0, -10.0, 2.0, 3.3)}


@pytest.fixture
def gpu() -> cuda.Device:
    return open_or_skip()


def arrays_of(n: int, channels: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    height, width = SIZE
    arrays = [
        random.uniform((-8, -8), (width + 8, height + 8), (n, 2)),
        np.exp(random.uniform(np.log(0.5), np.log(20), (n, 2))),
        random.uniform(-4, 4, n),
        random.uniform(0, 1, (n, channels)),
        random.uniform(0, 1, channels),
        random.uniform(0, 1, (channels, *SIZE)),
        random.uniform(0, 2, SIZE),
    ]
    return [array.astype(np.float32) for array in arrays]


def close(found: torch.Tensor, wanted: np.ndarray, tolerance: float, swaps: float = 0.0) -> None:
    """Within ``tolerance`` of the largest value; a share of ``swaps`` may differ more, near ties for a K-th place."""
    error = np.abs(found.cpu().numpy() - wanted).ravel() / np.abs(wanted).max()
    assert np.isfinite(error).all()
    assert np.sort(error)[: len(error) - int(swaps * len(error))].max() < tolerance


@pytest.mark.parametrize("viewport", VIEWPORTS.values(), ids=VIEWPORTS)
@pytest.mark.parametrize("channels", [1, 3, 32])
@pytest.mark.parametrize(("blend", "top_k"), [("normalized", 10), ("sum", 10), ("topk", 1), ("topk", 10), ("topk", 32)])
def test_values_and_gradients(gpu, blend, top_k, channels, viewport):
    *model, background, target, weights = arrays_of(3000, channels)
    theirs, ours = native.Rasterizer(), cuda.CudaRasterizer(gpu)
    theirs.prepare(*model, SIZE, viewport, blend, top_k)
    *moved, ground, wanted, loss_weights = (
        torch.tensor(array, device=gpu.torch) for array in (*model, background, target, weights)
    )
    ours.prepare(*moved, SIZE, viewport, blend, top_k)
    swaps = 1e-4 if blend == "topk" else 0.0
    close(ours.forward(ground, keep=True), theirs.forward(background, keep=True), 1e-3, swaps)
    settings = {"l1": 0.4, "l2": 1.0}
    expected = theirs.backward(background, target=target, weights=weights, **settings)
    for fused in (False, True):
        found = ours.backward(ground, target=wanted, weights=loss_weights, **settings, fused=fused)
        assert float(found.loss) == pytest.approx(expected.loss, rel=1e-4)
        for name in ("local", "colors", "background"):
            close(getattr(found, name), getattr(expected, name), 2e-3, 10 * swaps)
    ours.forward(ground, keep=True)
    close(ours.removal(ground, wanted, loss_weights), theirs.removal(background, target, weights), 5e-3, 10 * swaps)


def test_the_same_bits_every_time(gpu):
    *model, background, target, _ = (torch.tensor(array, device=gpu.torch) for array in arrays_of(3000, 3))
    found = []
    for _ in range(3):
        rasterizer = cuda.CudaRasterizer(gpu)
        rasterizer.prepare(*model, SIZE)
        found.append((rasterizer.backward(background, target=target, l2=1.0, fused=True), rasterizer.image))
    for gradients, image in found[1:]:
        assert torch.equal(image, found[0][1])
        assert all(torch.equal(one, other) for one, other in zip(gradients, found[0][0], strict=True))


def test_ssim_on_the_gpu(gpu):
    image, target = np.random.default_rng(0).uniform(0, 1, (2, 3, *SIZE)).astype(np.float32)
    v_wanted, v_image = np.zeros_like(image), torch.zeros(image.shape, device=gpu.torch)
    wanted = native.ssim(image, target, scale=1.0, v_image=v_wanted)
    moved = (torch.tensor(array, device=gpu.torch) for array in (image, target))
    found = cuda.ssim(gpu, *moved, window=cuda.taps(gpu.torch), scale=1.0, v_image=v_image)
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    close(v_image, v_wanted, 1e-3)


def test_another_stream(gpu):
    *model, background, _, _ = (torch.tensor(array, device=gpu.torch) for array in arrays_of(500, 3))
    rasterizer = cuda.CudaRasterizer(gpu)
    rasterizer.prepare(*model, SIZE)
    wanted = rasterizer.forward(background).clone()
    stream = torch.cuda.Stream(gpu.torch)
    torch.cuda.synchronize(gpu.torch)
    with torch.cuda.stream(stream):
        rasterizer.prepare(*model, SIZE)
        found = rasterizer.forward(background)
    stream.synchronize()
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("lattice", [False, True])
def test_a_fit_ends_as_well_as_on_the_cpu(scene, lattice):
    open_or_skip()
    from imagegs.codec.lattice import Lattice

    more = {"lattice": Lattice.of(0.75, 3), "noise_from": 0.3} if lattice else {}
    config = make_config(scene.shape[1:], gaussians=250, steps=200, **more)
    ours, theirs = (fitting.run(scene, config, device=device) for device in ("cuda", "cpu"))
    assert ours.psnr > theirs.psnr - 0.5
    again = fitting.run(scene, config, device="cuda")
    np.testing.assert_array_equal(again.gaussians.means, ours.gaussians.means)


def test_a_file_on_the_gpu(scene, tmp_path):
    open_or_skip()
    encoded = imagegs.encode(scene, gaussians=200, effort=2, device="cuda")
    assert encoded.psnr > imagegs.encode(scene, gaussians=200, effort=2, device="cpu").psnr - 0.5
    ours = imagegs.decode(encoded.data, scale=2, device="cuda").pixels
    np.testing.assert_allclose(ours, imagegs.decode(encoded.data, scale=2).pixels, atol=2e-3)


def test_a_process_of_its_own(tmp_path):
    open_or_skip()
    fit = "imagegs.fit(numpy.random.rand(3, 64, 64), 100, steps=20, device='cuda')"
    script = f"import imagegs, numpy; print({fit}.means.shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "(100, 2)"
