"""The compiled operations inside torch's autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imagegs.errors import ShapeError
from imagegs.fitting.rasterization import rasterize, ssim
from imagegs.kernels import native, reference

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

VIEWPORTS = [(0.0, 0.0, 1.0, 1.0), (3.0, -2.0, 0.5, 0.75), (-4.0, 1.0, 2.5, 1.5)]


def leaves(n: int = 14, channels: int = 3) -> list[torch.Tensor]:
    random = np.random.default_rng(6)
    arrays = (
        random.uniform((2, 2), (30, 22), (n, 2)),
        random.uniform(1.0, 5.0, (n, 2)),
        random.uniform(-3, 3, n),
        random.uniform(-0.5, 1.5, (n, channels)),
        random.uniform(0, 1, channels),
    )
    return [torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in arrays]


@pytest.mark.parametrize("viewport", VIEWPORTS)
@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
def test_render_and_gradients_equal_the_reference(blend: str, viewport: tuple[float, float, float, float]) -> None:
    ours = leaves()
    exact = [leaf.detach().double().requires_grad_() for leaf in ours]
    image = rasterize(*ours, (24, 32), viewport, blend, 4)  # type: ignore[arg-type]
    wanted = reference.render(*exact, 24, 32, reference.Viewport(*viewport), blend, 4)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.double(), wanted, atol=3e-5, rtol=1e-4)
    pull = torch.linspace(-1, 1, image.numel(), dtype=torch.float64).reshape(image.shape).sin()
    (image * pull.float()).sum().backward()
    (wanted * pull).sum().backward()
    for found, leaf in zip(ours, exact, strict=True):
        if leaf.grad is None:  # the sum has no background
            assert found.grad is None or not found.grad.any()
            continue
        torch.testing.assert_close(found.grad.double(), leaf.grad, atol=5e-4 * float(leaf.grad.abs().max()), rtol=1e-3)


def test_renders_of_one_graph_do_not_disturb_each_other() -> None:
    first, second = leaves(), leaves(n=9, channels=2)
    one = rasterize(*first, (24, 32))
    kept = one.detach().clone()
    two = rasterize(*second, (10, 40))
    (one.square().sum() + two.square().sum()).backward()
    assert torch.equal(one, kept)
    alone = leaves()
    rasterize(*alone, (24, 32)).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(first, alone, strict=True))


def test_inputs_may_be_views_in_any_precision() -> None:
    ours = leaves()
    plain = rasterize(*ours, (24, 32))
    odd = [torch.stack([leaf.detach().double(), leaf.detach().double()], dim=-1)[..., 0] for leaf in ours]
    assert torch.equal(rasterize(*odd, (24, 32)), plain)


@pytest.mark.parametrize("place", range(5))
def test_shapes_that_disagree_are_named(place: int) -> None:
    names = ("means", "scales", "rotations", "colors", "background")
    tensors = leaves()
    tensors[place] = tensors[place][..., :-1] if place != 3 else tensors[3][:-1]
    with pytest.raises(ShapeError, match=rf"^{names[place]}: expected shape \[.*\], found \["):
        rasterize(*tensors, (24, 32))


@pytest.mark.parametrize("weighted", [False, True])
def test_similarity_and_its_gradient_equal_the_reference(weighted: bool) -> None:
    random = np.random.default_rng(3)
    image = torch.tensor(random.uniform(0, 1, (2, 17, 23)), dtype=torch.float32, requires_grad=True)
    target = torch.tensor(random.uniform(0, 1, (2, 17, 23)), dtype=torch.float32)
    weights = torch.tensor(random.uniform(0, 2, (17, 23)), dtype=torch.float32) if weighted else None
    exact = image.detach().double().requires_grad_()
    wanted = reference.ssim_map(exact, target.double())
    wanted = (wanted if weights is None else wanted * weights.double()).mean()
    found = ssim(image, target, weights)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-6)
    (3 * found).backward()
    (3 * wanted).backward()
    torch.testing.assert_close(image.grad.double(), exact.grad, atol=2e-4 * float(exact.grad.abs().max()), rtol=1e-3)


def test_similarity_names_shapes_that_disagree() -> None:
    image = torch.zeros(3, 12, 12)
    with pytest.raises(ShapeError, match="target: expected the image's shape"):
        ssim(image, torch.zeros(3, 12, 13))
    with pytest.raises(ShapeError, match="target: expected"):
        ssim(image[0], image[0])
    with pytest.raises(ShapeError, match=r"weights: expected the image's size \[12, 12\], found \[12, 13\]"):
        ssim(image, image, torch.zeros(12, 13))
