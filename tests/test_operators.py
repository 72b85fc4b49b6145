"""Fits through a forward operator: only D(render) is observed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import imagegs
from imagegs.errors import ConfigError, ShapeError
from imagegs.fitting.config import Loss, make_config
from imagegs.fitting.fit import Interrupted, run
from imagegs.fitting.initialization import Gaussians
from imagegs.fitting.loop import Progress
from imagegs.fitting.losses import evaluate, prepare
from imagegs.fitting.operators import evaluate_through
from imagegs.fitting.targets import make_target
from imagegs.gaussians import Gaussians2D
from imagegs.guidance import Guidance
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

Pixels = npt.NDArray[np.float32]


def pool(image: Any) -> Any:
    return torch.nn.functional.avg_pool2d(image[None], 4)[0]


def blur(image: Any) -> Any:
    kernel = torch.ones(len(image), 1, 5, 5) / 25
    return torch.nn.functional.conv2d(image[None], kernel, padding=2, groups=len(image))[0]


def through(operator: Any, pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(operator(torch.from_numpy(pixels)).numpy())


def enlarged(pixels: Pixels) -> Pixels:
    return np.repeat(np.repeat(pixels, 4, axis=1), 4, axis=2)


def error(a: Pixels, b: Pixels) -> float:
    return float(np.mean((a - b) ** 2, dtype=np.float64))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [Loss(), Loss(1, 0, 0), Loss(0.2, 0.3, 0.5)])
def test_doing_nothing_is_no_operator(small_gaussians: Gaussians2D, scene: Pixels, loss: Loss, weighted: bool) -> None:
    weights = np.random.default_rng(0).uniform(0, 2, (48, 64)) if weighted else None
    target = make_target(scene[:, :48, :64], Guidance(loss=weights))
    rasterizer, background = native.Rasterizer(), np.zeros(3, np.float32)
    names = ("means", "scales", "rotations", "colors")
    model = Gaussians(*(getattr(small_gaussians, name) for name in names))
    prepare(rasterizer, model, (48, 64), "normalized", 10)
    direct = evaluate(rasterizer, background, target, loss)
    prepare(rasterizer, model, (48, 64), "normalized", 10)
    found, v_image = evaluate_through(rasterizer, background, lambda image: image * 1.0, target, loss)
    assert found.loss == pytest.approx(direct.loss, rel=1e-5)
    assert found.squared_error == pytest.approx(direct.squared_error, rel=1e-5)
    assert v_image.shape == target.pixels.shape
    for a, b in zip(found.gradients[2:], direct.gradients[2:], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


def test_down_sampling_with_a_guide(scene: Pixels) -> None:
    small = through(pool, scene)
    guide = enlarged(small)
    seen: list[Progress] = []
    config = make_config((64, 80), gaussians=150, steps=80)
    result = run(small, config, operator=pool, guide=guide, on_step=seen.append)
    image = imagegs.render(result.gaussians)
    assert image.shape == scene.shape
    assert result.psnr > max(40, seen[0].psnr + 20)
    assert result.psnr == pytest.approx(-10 * np.log10(error(through(pool, np.clip(image, 0, 1)), small)), abs=0.5)
    # smooth Gaussians know better than the guide's blocks
    assert error(image, scene) < 0.5 * error(guide, scene)
    assert result.added_at == [8, 16, 24, 32]
    assert len(result.gaussians) == 150


def test_a_blur_is_undone(scene: Pixels) -> None:
    blurred = through(blur, scene)
    config = make_config((64, 80), gaussians=150, steps=25)
    result = run(blurred, config, operator=blur)
    image = imagegs.render(result.gaussians)
    assert result.psnr > 30
    assert error(image, scene) < 0.5 * error(blurred, scene)
    short = imagegs.fit(blurred, 150, operator=blur, steps=25)
    np.testing.assert_array_equal(short.means, result.gaussians.means)


def test_an_operator_may_make_fewer_channels(scene: Pixels) -> None:
    grey = scene.mean(axis=0, keepdims=True)
    config = make_config((64, 80), gaussians=60, steps=20)
    result = run(grey, config, operator=lambda image: image.mean(dim=0, keepdim=True), guide=np.repeat(grey, 3, axis=0))
    assert result.gaussians.channels == 3
    assert result.psnr > 25


def test_added_gaussians_follow_the_gradient(scene: Pixels) -> None:
    # only the right half is observed: nothing else is worth a Gaussian
    def right(image: Any) -> Any:
        return image[:, :, 40:]

    config = make_config((64, 80), gaussians=80, steps=30, init="random", start_fraction=0.25)
    result = run(scene[:, :, 40:], config, operator=right, guide=scene)
    assert np.mean(result.gaussians.means[20:, 0] > 36) > 0.9


def test_going_on_through_an_operator(scene: Pixels, tmp_path: Path) -> None:
    small = through(pool, scene)
    config = make_config((64, 80), gaussians=60, steps=20)
    settings = {"operator": pool, "guide": enlarged(small)}
    whole = run(small, config, **settings)

    def stop(now: Progress) -> None:
        if now.step == 9:
            raise KeyboardInterrupt

    path = tmp_path / "fit.npz"
    with pytest.raises(Interrupted):
        run(small, config, on_step=stop, checkpoint=path, **settings)
    with pytest.raises(ConfigError, match="one of another fit"):
        run(small, config, operator=pool, guide=enlarged(small) * np.float32(0.5), resume=path)
    resumed = run(small, config, resume=path, **settings)
    np.testing.assert_array_equal(resumed.gaussians.means, whole.gaussians.means)
    np.testing.assert_array_equal(resumed.gaussians.colors, whole.gaussians.colors)


def test_operators_and_guides_that_do_not_fit(scene: Pixels) -> None:
    config = make_config((64, 80), gaussians=10, steps=2)
    with pytest.raises(ShapeError, match=r"^operator: expected a result of shape \[3, 64, 80\], found \[3, 16, 20\]$"):
        run(scene, config, operator=pool)
    for wrong in (lambda image: image.detach(), lambda image: None, lambda image: image.detach().numpy()):
        with pytest.raises(ConfigError, match=r"^operator: expected a tensor computed from the render by torch"):
            run(scene, config, operator=wrong)
    with pytest.raises(ConfigError, match=r"^guide: expected an operator with it, found none$"):
        run(scene, config, guide=scene)
    with pytest.raises(ShapeError, match=r"^picture: expected"):
        run(scene, config, operator=blur, guide=scene[0])
    with pytest.raises(ConfigError, match=r"^gaussians: expected at most one per pixel \(320\), found 400"):
        run(scene, make_config((64, 80), gaussians=400), operator=blur, guide=through(pool, scene))
    for name, found in (("start", [16, 20]), ("growth", [16, 20]), ("loss", [64, 80])):
        guidance = Guidance(**{name: np.ones(found, np.float32)})
        with pytest.raises(
            ShapeError, match=rf"^{name}: expected the picture's size \[.*\], found \[{found[0]}, {found[1]}\]$"
        ):
            run(through(pool, scene), config, operator=pool, guide=scene, guidance=guidance)


def test_the_short_way_takes_a_guide(scene: Pixels) -> None:
    observed = pool(torch.from_numpy(scene)).numpy()
    guide = np.repeat(np.repeat(observed, 4, axis=1), 4, axis=2)
    found = imagegs.fit(observed, 60, operator=pool, guide=guide, steps=60, seed=1)
    assert (found.height, found.width) == guide.shape[1:]
    seen = pool(torch.from_numpy(imagegs.render(found))).numpy()
    assert np.mean((seen - observed) ** 2) < 0.2 * np.mean((observed - observed.mean(axis=(1, 2), keepdims=True)) ** 2)
