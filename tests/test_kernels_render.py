"""The compiled render against its definition in float64, and the properties that the definition promises."""

from __future__ import annotations

import math
from collections.abc import Iterator

import instruction_sets
import numpy as np
import pytest
import torch

from imagegs.kernels import constants, native, reference

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built"),
    pytest.mark.usefixtures("one_torch_thread"),
]

HEIGHT, WIDTH = 45, 70
BLENDS = ("normalized", "topk", "sum")
INSTRUCTION_SETS = instruction_sets.found()
VIEWPORTS = {
    "region": (11.0, 7.0, 1.0, 1.0),
    "fractional": (-3.25, 2.6, 1.0, 1.0),
    "zoomed": (12.3, 8.1, 0.37, 0.25),
    "minified": (-20.0, -10.0, 2.0, 3.3),
    "mixed": (1.0, 2.0, 0.6, 2.4),
}


@pytest.fixture(autouse=True)
def _best_instruction_set():
    yield
    if native.available():
        native._native.select_kernels("auto")


def scene(n: int = 60, channels: int = 3, seed: int = 0, scales: tuple[float, float] = (0.4, 9.0)) -> list[np.ndarray]:
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


def compiled(arrays, viewport=native.IDENTITY, blend="normalized", top_k=10, size=(HEIGHT, WIDTH)) -> np.ndarray:
    rasterizer = native.Rasterizer()
    rasterizer.prepare(*arrays[:4], size, viewport, blend, top_k)
    return rasterizer.forward(arrays[4])


def compiled_by_every_set(*arguments, **keywords) -> Iterator[np.ndarray]:
    for name in INSTRUCTION_SETS:
        assert native._native.select_kernels(name)
        yield compiled(*arguments, **keywords)


def defined(arrays, viewport=native.IDENTITY, blend="normalized", top_k=10, size=(HEIGHT, WIDTH)) -> np.ndarray:
    tensors = [torch.from_numpy(array).double() for array in arrays]
    return reference.render(*tensors, *size, reference.Viewport(*viewport), blend, top_k).numpy()


def assert_agree(image: np.ndarray, wanted: np.ndarray, *, swaps: int = 0, tolerance: float = 1e-3) -> None:
    """Equal but for rounding; where a K-th place is a near tie, ``swaps`` pixels may differ more.

    Rounding of a weight counts as much as ``EPSILON`` is small where a support ends, hence the two tolerances.
    """
    error = np.abs(image - wanted).max(axis=0)
    assert np.isfinite(error).all()
    assert np.sort(error.ravel())[: error.size - swaps].max() < tolerance
    assert (error > tolerance / 20).mean() < 0.01


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12, 32])
@pytest.mark.parametrize("blend", BLENDS)
def test_any_number_of_channels(blend, channels):
    arrays = scene(channels=channels, seed=channels)
    wanted = defined(arrays, blend=blend)
    for image in compiled_by_every_set(arrays, blend=blend):
        assert image.shape == (channels, HEIGHT, WIDTH)
        assert image.dtype == np.float32
        assert_agree(image, wanted, swaps=4)


@pytest.mark.parametrize("top_k", [1, 2, 5, 10, 31, 32])
def test_any_k(top_k):
    arrays = scene(n=150, seed=top_k, scales=(4.0, 20.0))
    for array in arrays[:3]:
        array[100:130] = array[:30]  # exact ties between different colours
    wanted = defined(arrays, blend="topk", top_k=top_k)
    for image in compiled_by_every_set(arrays, blend="topk", top_k=top_k):
        assert_agree(image, wanted, swaps=8)


@pytest.mark.parametrize("viewport", VIEWPORTS.values(), ids=VIEWPORTS)
@pytest.mark.parametrize("blend", BLENDS)
def test_any_viewport(blend, viewport):
    arrays = scene(seed=5)
    wanted = defined(arrays, viewport, blend)
    for image in compiled_by_every_set(arrays, viewport, blend):
        assert_agree(image, wanted, swaps=4)


@pytest.mark.parametrize("scales", [(0.01, 0.5), (0.05, 300.0), (30.0, 3000.0)], ids=["tiny", "thin", "huge"])
def test_any_shape_reaches_every_tile_it_should(scales):
    arrays = scene(n=80, seed=7, scales=scales)
    wanted = defined(arrays, blend="sum")
    for image in compiled_by_every_set(arrays, blend="sum"):
        assert_agree(image, wanted, tolerance=4e-3)


def test_ties_break_by_index():
    arrays = scene(n=40, seed=1, scales=(6.0, 12.0))
    for array in arrays[:3]:
        array[:] = array[0]
    arrays[0][:] = (30.2, 20.7)
    for top_k in (1, 5):
        first = [*(array[:top_k] for array in arrays[:4]), arrays[4]]
        last = [*(array[::-1].copy() for array in arrays[:4]), arrays[4]]
        every = compiled_by_every_set
        for image, wanted, other in zip(
            every(arrays, blend="topk", top_k=top_k), every(first), every(last, blend="topk", top_k=top_k), strict=True
        ):
            np.testing.assert_array_equal(image, wanted)
            assert not np.array_equal(image, other)


def test_enough_places_make_topk_the_normalized_blend():
    arrays = scene(n=20)
    np.testing.assert_array_equal(compiled(arrays, blend="topk", top_k=20), compiled(arrays, blend="normalized"))


def test_background_shows_where_nothing_reaches():
    arrays = scene(n=1)
    arrays[0][:], arrays[1][:] = (10.5, 10.5), 1.0
    image = compiled(arrays)
    reached = math.floor(constants.RADIUS)
    empty = np.ones((HEIGHT, WIDTH), bool)
    empty[10 - reached : 11 + reached, 10 - reached : 11 + reached] = False
    np.testing.assert_allclose(image[:, empty], np.broadcast_to(arrays[4][:, None], (3, empty.sum())), rtol=1e-6)
    assert np.abs(image[:, 10, 10] - arrays[3][0]).max() < 1e-3
    assert not compiled(arrays, blend="sum")[:, empty].any()


def test_sum_is_additive():
    arrays = scene()
    halves = [
        compiled([array[half] for array in arrays[:4]] + arrays[4:], blend="sum")
        for half in (slice(0, 25), slice(25, None))
    ]
    np.testing.assert_allclose(halves[0] + halves[1], compiled(arrays, blend="sum"), atol=2e-6)


@pytest.mark.parametrize("blend", BLENDS)
def test_the_tile_grid_does_not_show(blend):
    """A region of the picture, whose tiles lie elsewhere, and a render whose tiles are lower, are the same picture."""
    arrays = scene(seed=9)
    whole = compiled(arrays, blend=blend)
    region = compiled(arrays, (13.0, 9.0, 1.0, 1.0), blend, size=(31, 50))
    assert_agree(region, whole[:, 9:40, 13:63].astype(float), swaps=2)
    wide = [*arrays[:3], np.concatenate([arrays[3]] * 4, axis=1), np.concatenate([arrays[4]] * 4)]
    assert_agree(compiled(wide, blend=blend)[3:6], whole.astype(float), swaps=2)


def test_tiles_that_nothing_reaches_are_background():
    """Each thread draws many tiles on the same memory: none may see what the one before left there."""
    arrays = scene(n=12, seed=4, scales=(1.0, 3.0))
    for blend in BLENDS:
        for image in compiled_by_every_set(arrays, blend=blend, size=(100, 260)):
            assert_agree(image, defined(arrays, blend=blend, size=(100, 260)))


@pytest.mark.parametrize("blend", BLENDS)
def test_bits_do_not_depend_on_the_number_of_threads(blend):
    arrays = scene(n=900, seed=2)
    images = []
    for count in (1, 2, 3, 7):
        with native.threads(count):
            images.append([*compiled_by_every_set(arrays, blend=blend, size=(150, 200))])
    for found in images[1:]:
        np.testing.assert_array_equal(found, images[0])


def test_memory_is_used_again_from_render_to_render():
    rasterizer, fresh = native.Rasterizer(), []
    for n, channels, size, blend in (
        (50, 3, (40, 40), "topk"),
        (5, 1, (90, 33), "sum"),
        (80, 5, (7, 100), "topk"),
        (0, 2, (5, 5), "sum"),
    ):
        arrays = scene(n, channels, seed=n)
        rasterizer.prepare(*arrays[:4], size, native.IDENTITY, blend, 4)
        image = rasterizer.forward(arrays[4], keep=True)
        fresh.append(np.array_equal(image, compiled(arrays, blend=blend, top_k=4, size=size)))
    assert fresh == [True] * 4


def test_constants_are_those_of_the_header():
    for name in ("RADIUS", "CUTOFF", "EPSILON", "MIN_SCALE", "MAX_SCALE", "MAX_MEAN", "FOOTPRINT"):
        assert np.float32(getattr(constants, name)) == np.float32(getattr(native._native, name)), name
    assert np.float32(math.exp(-(constants.RADIUS**2) / 2)) == pytest.approx(constants.CUTOFF, rel=1e-6)


def test_support_ends_at_the_radius():
    splats, _ = reference.project(
        torch.zeros(1, 2, dtype=torch.float64),
        torch.tensor([[2.0, 0.7]], dtype=torch.float64),
        torch.tensor([0.4], dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.float64),
        reference.Viewport(),
    )
    axis = torch.tensor([math.cos(0.4), math.sin(0.4)], dtype=torch.float64) * 2.0
    distance = torch.tensor([0.0, 0.99, 1.0 + 1e-6, 1.5], dtype=torch.float64) * constants.RADIUS
    weight = reference.weigh(splats, distance[:, None] * axis)[:, 0]
    assert weight[0] == pytest.approx(1 - constants.CUTOFF, abs=1e-9)
    assert 0 < weight[1] < 1e-3
    assert weight[2:].max() == 0


def test_an_unknown_instruction_set_is_refused():
    before = native.instruction_set()
    assert not native._native.select_kernels("abacus")
    assert native.instruction_set() == before
