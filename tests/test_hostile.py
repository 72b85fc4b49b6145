"""Values, shapes and kinds of arrays that nobody should pass: no crash, no harm to what is sound."""

from __future__ import annotations

import instruction_sets
import numpy as np
import pytest

from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

BLENDS = ("normalized", "topk", "sum")
HEIGHT, WIDTH = 40, 52
NAMES = ("means", "scales", "rotations", "colors")
UNDRAWABLE = [float("nan"), float("inf"), float("-inf")]
EXTREME = [0.0, -1.0, 1e-40, -1e-40, 1e30, -1e30, 3e38]


@pytest.fixture(autouse=True, params=instruction_sets.found())
def _kernels(request):
    assert native._native.select_kernels(request.param)
    yield
    native._native.select_kernels("auto")


def scene(n: int = 30, channels: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[np.ndarray]:
    random = np.random.default_rng(n)
    arrays = [
        random.uniform((0, 0), size[::-1], (n, 2)),
        random.uniform(0.5, 8.0, (n, 2)),
        random.uniform(-4, 4, n),
        random.uniform(0, 1, (n, channels)),
        random.uniform(0, 1, channels),
    ]
    return [array.astype(np.float32) for array in arrays]


def everything(arrays, blend="normalized", size=(HEIGHT, WIDTH), viewport=native.IDENTITY, top_k=4):
    """Picture, gradients and prices of removal, each computed the way a fit does."""
    channels = arrays[3].shape[1]
    target = np.full((channels, *size), 0.5, np.float32)
    rasterizer = native.Rasterizer()
    rasterizer.prepare(*arrays[:4], size, viewport, blend, top_k)
    image = rasterizer.forward(arrays[4], keep=True).copy()
    growth = rasterizer.removal(arrays[4], target)
    gradients = rasterizer.backward(arrays[4], target=target, l1=1.0, l2=1.0)
    np.testing.assert_array_equal(
        rasterizer.backward(arrays[4], target=target, l1=1.0, l2=1.0, fused=True).local, gradients.local
    )
    return image, gradients, growth


@pytest.mark.parametrize("value", UNDRAWABLE)
@pytest.mark.parametrize("name", NAMES)
def test_a_gaussian_that_is_not_finite_draws_nothing(name, value):
    arrays = scene()
    array = arrays[NAMES.index(name)]
    array.reshape(30, -1)[17, -1] = value
    sound = [*(np.delete(other, 17, axis=0) for other in arrays[:4]), arrays[4]]
    for blend in BLENDS:
        image, gradients, growth = everything(arrays, blend)
        wanted_image, wanted, wanted_growth = everything(sound, blend)
        np.testing.assert_array_equal(image, wanted_image)
        np.testing.assert_array_equal(np.delete(gradients.local, 17, axis=0), wanted.local)
        np.testing.assert_array_equal(np.delete(gradients.colors, 17, axis=0), wanted.colors)
        np.testing.assert_array_equal(np.delete(growth, 17), wanted_growth)
        assert not gradients.local[17].any()
        assert not gradients.colors[17].any()
        assert growth[17] == 0
        assert (gradients.loss, gradients.squared_error) == (wanted.loss, wanted.squared_error)


@pytest.mark.parametrize("value", [1.1e7, -1.1e7, 1e30, -3e38])
def test_a_centre_far_out_draws_nothing(value):
    arrays = scene()
    arrays[0][3, 0], arrays[1][3] = value, 1e6
    sound = [*(np.delete(other, 3, axis=0) for other in arrays[:4]), arrays[4]]
    for blend in BLENDS:
        np.testing.assert_array_equal(everything(arrays, blend)[0], everything(sound, blend)[0])


@pytest.mark.parametrize("value", EXTREME)
@pytest.mark.parametrize("name", ["means", "scales", "rotations"])
def test_extreme_geometry_gives_finite_pictures_and_gradients(name, value):
    arrays = scene()
    for row, column in ((5, 0), (6, -1)):
        arrays[NAMES.index(name)].reshape(30, -1)[row, column] = value
    for blend in BLENDS:
        image, gradients, growth = everything(arrays, blend)
        assert np.isfinite(image).all()
        assert np.isfinite(growth).all()
        assert all(np.isfinite(found).all() for found in gradients)
        assert np.abs(gradients.local[:5]).max() > 0


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e-40])
def test_a_scale_too_small_touches_no_more_than_its_own_pixel(value):
    arrays = scene()
    arrays[0][8], arrays[1][8] = (20.5, 10.5), value
    sound = [*(np.delete(other, 8, axis=0) for other in arrays[:4]), arrays[4]]
    changed = (everything(arrays)[0] != everything(sound)[0]).any(axis=0)
    assert changed.sum() == 1
    assert changed[10, 20]


def test_a_colour_too_large_harms_no_other_place():
    arrays = scene()
    arrays[0][4], arrays[1][4] = (6.0, 6.0), 1.0
    for value in (1e30, 3e38):
        arrays[3][4] = value
        sound = [*(np.delete(other, 4, axis=0) for other in arrays[:4]), arrays[4]]
        for blend in BLENDS:
            image, gradients, _ = everything(arrays, blend)
            np.testing.assert_array_equal(image[:, 12:, 12:], everything(sound, blend)[0][:, 12:, 12:])
            assert all(np.isfinite(found).all() for found in gradients[2:])


@pytest.mark.parametrize("seed", range(6))
def test_values_of_every_kind_at_once(seed):
    random = np.random.default_rng(seed)
    values = np.float32([*UNDRAWABLE, *EXTREME, 1e-3, 1e6, 1e7, 40.0, 7.5])
    arrays = scene(200, channels=int(random.integers(1, 7)))
    for array in arrays[:3]:
        array[random.random(array.shape) < 0.5] = np.nan
        array[np.isnan(array)] = random.choice(values, np.isnan(array).sum())
    sums = np.abs(arrays[3]).sum(axis=1)
    viewport = [
        native.IDENTITY,
        (3.0, -4.0, 0.01, 7.0),
        (0.0, 0.0, 1e-30, 1e-30),
        (1e30, 0.0, 1e-300, 1e300),
        (-1e9, 5.0, 1e4, 1e-4),
        (0.0, 0.0, 1e200, 1e-200),
    ][seed]
    for blend in BLENDS:
        image, gradients, _ = everything(arrays, blend, viewport=viewport, top_k=1 + seed)
        assert np.isfinite(image).all()
        assert all(np.isfinite(found).all() for found in gradients)
        assert np.abs(image).max() <= sums.sum()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (33, 31)], ids=str)
@pytest.mark.parametrize("n", [0, 1, 50])
def test_small_and_thin_pictures(n, size):
    arrays = scene(n, channels=2, size=size)
    for blend in BLENDS:
        image, gradients, growth = everything(arrays, blend, size)
        assert image.shape == (2, *size)
        assert np.isfinite(image).all()
        assert gradients.local.shape == (n, 5)
        assert growth.shape == (n,)
        if n == 0:
            background = 0 if blend == "sum" else arrays[4][:, None, None]
            np.testing.assert_allclose(image, np.broadcast_to(background, image.shape), rtol=1e-6)


def good() -> dict:
    arrays = scene(6)
    return {
        "prepare": [*arrays[:4], HEIGHT, WIDTH, native.IDENTITY, 0, 10],
        "forward": [arrays[4], np.zeros((3, HEIGHT, WIDTH), np.float32), True],
        "backward": [
            arrays[4], np.zeros((3, HEIGHT, WIDTH), np.float32), np.zeros((3, HEIGHT, WIDTH), np.float32),
            np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((3, HEIGHT, WIDTH), np.float32), 1.0, 1.0, False,
            np.zeros((6, 5), np.float32), np.zeros((6, 3), np.float32), np.zeros(3, np.float32),
        ],
        "removal": [
            arrays[4], np.zeros((3, HEIGHT, WIDTH), np.float32), np.zeros((3, HEIGHT, WIDTH), np.float32),
            np.zeros((HEIGHT, WIDTH), np.float32), np.zeros(6, np.float32),
        ],
    }  # fmt: skip


ARRAYS = [
    (name, index)
    for name, values in good().items()
    for index, value in enumerate(values)
    if isinstance(value, np.ndarray)
]


@pytest.mark.parametrize("spoil", ["kind", "rank", "length", "stride", "none", "list"])
@pytest.mark.parametrize(("name", "index"), ARRAYS)
def test_arrays_of_the_wrong_kind_are_refused(name, index, spoil):
    renderer, calls = native._native.Renderer(), good()
    if name != "prepare":
        renderer.prepare(*calls["prepare"])
        renderer.forward(*calls["forward"])
    arguments = calls[name]
    array = arguments[index]
    spoiled = {
        "kind": array.astype(np.float64),
        "rank": array[..., None],
        "length": np.concatenate([array, array]),
        "stride": np.repeat(array, 2, axis=-1)[..., ::2],
        "none": None,
        "list": array.tolist(),
    }[spoil]
    may_be_left_out = spoil == "none" and (name, index) in {
        ("backward", 2),
        ("backward", 3),
        ("backward", 4),
        ("removal", 3),
    }
    arguments[index] = spoiled
    if may_be_left_out:
        getattr(renderer, name)(*arguments)
        return
    with pytest.raises((TypeError, ValueError)):
        getattr(renderer, name)(*arguments)
    arguments[index] = array
    getattr(renderer, name)(*arguments)  # and nothing has been broken by trying


@pytest.mark.parametrize(("index", "value"), [(4, 0), (4, -3), (5, 0), (7, 3), (7, -1), (8, 0), (8, 33)])
def test_numbers_out_of_range_are_refused(index, value):
    arguments = good()["prepare"]
    arguments[index] = value
    with pytest.raises(ValueError, match=r"out of range|positive"):
        native._native.Renderer().prepare(*arguments)


@pytest.mark.parametrize(
    "viewport",
    [(0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, -1.0), (float("nan"), 0.0, 1.0, 1.0), (0.0, 0.0, float("inf"), 1.0)],
)
def test_viewports_that_are_none_are_refused(viewport):
    arguments = good()["prepare"]
    arguments[6] = viewport
    with pytest.raises(ValueError, match=r"positive|finite"):
        native._native.Renderer().prepare(*arguments)


def test_outputs_that_cannot_be_numbered_are_refused_and_leave_nothing_to_draw():
    renderer, calls = native._native.Renderer(), good()
    renderer.prepare(*calls["prepare"])
    for height, width in ((2**31 - 1, 2**31 - 1), (1 << 24, 1 << 24), (1, (1 << 24) + 1)):
        with pytest.raises(ValueError, match="too large"):
            renderer.prepare(*calls["prepare"][:4], height, width, native.IDENTITY, 0, 10)
        with pytest.raises(ValueError, match="image must be"):
            renderer.forward(*calls["forward"])


def test_the_renderer_keeps_its_arrays_alive():
    renderer, calls = native._native.Renderer(), good()
    renderer.prepare(*(np.array(value) if isinstance(value, np.ndarray) else value for value in calls["prepare"]))
    image, again = calls["forward"][1], np.zeros((3, HEIGHT, WIDTH), np.float32)
    renderer.forward(*calls["forward"])
    with pytest.raises(TypeError):
        renderer.prepare(*calls["prepare"][:3], None, *calls["prepare"][4:])
    litter = [np.full((6, 3), 9.0, np.float32) for _ in range(50)]
    renderer.forward(calls["forward"][0], again, True)
    np.testing.assert_array_equal(image, again)
    assert len(litter) == 50


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e-40, -1e30])
def test_ssim_and_adam_take_any_value(value):
    image, target = np.zeros((2, 9, 300), np.float32), np.full((2, 9, 300), 0.5, np.float32)
    image[0, 4, 100] = value
    v_image = np.zeros_like(image)
    native.ssim(image, target, scale=1.0, v_image=v_image)
    assert np.isfinite(v_image[1]).all()
    assert np.isfinite(v_image[0, :, 150:]).all()
    assert np.isfinite(v_image[0, :, :50]).all()
    gradient, first, second = (
        np.ones((100, 5), np.float32),
        np.zeros((100, 5), np.float32),
        np.zeros((100, 5), np.float32),
    )
    gradient[50, 3] = value
    update = native.adam(gradient, first, second, betas=(0.9, 0.999), epsilon=1e-8, step=1)
    sound = np.ones((100, 5), bool)
    sound[50, 3] = False
    np.testing.assert_allclose(update[sound], 1, rtol=1e-4)
    means, scales, rotations = np.zeros((100, 2), np.float32), np.ones((100, 2), np.float32), np.zeros(100, np.float32)
    native.apply_local(gradient, (1.0, 1.0, 1.0), (0.5, 2.0), means, scales, rotations)
    assert (means == -1).all()
    assert (np.delete(scales, 50, axis=0) == 0.5).all()


def test_ssim_and_adam_refuse_arrays_that_disagree():
    image = np.zeros((2, 9, 30), np.float32)
    for arguments in (
        (image, image[:, :8].copy(), None, 0.0, None),
        (image, image, image[0, :8].copy(), 0.0, None),
        (image, image, None, 0.0, image[:1]),
    ):
        with pytest.raises(ValueError, match=r"shape|weights"):
            native._native.ssim(*arguments)
    rows = np.zeros((9, 5), np.float32)
    with pytest.raises(ValueError, match="one shape"):
        native._native.adam(rows, rows, rows[:8], 0.9, 0.999, 1e-8, 0.1, 0.1, rows)
    with pytest.raises(ValueError, match="disagree on N"):
        native._native.apply_local(
            rows, 0.1, 0.1, 0.1, 0.1, 1.0, rows[:8, :2].copy(), rows[:, :2].copy(), rows[:, 0].copy()
        )
    with pytest.raises(ValueError, match="low"):
        native._native.apply_local(
            rows, 0.1, 0.1, 0.1, 2.0, 1.0, rows[:, :2].copy(), rows[:, :2].copy(), rows[:, 0].copy()
        )


def test_an_output_that_cannot_be_written_is_refused():
    calls = good()
    renderer = native._native.Renderer()
    renderer.prepare(*calls["prepare"])
    calls["forward"][1].setflags(write=False)
    with pytest.raises(TypeError):
        renderer.forward(*calls["forward"])
