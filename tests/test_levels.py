"""Levels that are fitted together: where they end, their gradients, and that every prefix is a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imagegs import BitWidths, ConfigError, encode
from imagegs.codec import parse
from imagegs.fitting.config import FitConfig, make_config
from imagegs.fitting.fit import Interrupted, run
from imagegs.fitting.initialization import Gaussians
from imagegs.fitting.levels import evaluate_prefixes, level_ends, prefix_weights
from imagegs.fitting.losses import evaluate, prepare, solve_colors, to_psnr
from imagegs.fitting.targets import make_target
from imagegs.guidance import Guidance
from imagegs.kernels import native
from imagegs.rendering import render

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
Pixels = npt.NDArray[np.float32]
SHARES = (0.1, 0.4)


@pytest.mark.parametrize(
    ("shares", "count", "ends"),
    [
        ((), 10, [10]),
        ((0.1, 0.4), 100, [10, 40, 100]),
        ((0.1, 0.4), 3, [1, 3]),
        ((0.001, 0.002), 100, [1, 100]),
        ((0.1, 0.999), 10, [1, 10]),
        ((0.5,), 1, [1]),
    ],
)
def test_where_levels_end(shares: tuple[float, ...], count: int, ends: list[int]) -> None:
    assert level_ends(shares, count) == ends


def test_prefixes_count_by_their_psnr() -> None:
    weights = prefix_weights([0.1, 0.01, 0.001], 0.5)
    np.testing.assert_allclose(weights, [0.25 / 0.1, 0.5 / 0.01, 1 / 0.001])
    assert np.isfinite(prefix_weights([0.0], 1.0)).all()


def some_gaussians(count: int = 30) -> Gaussians:
    random = np.random.default_rng(0)
    arrays = (
        random.uniform((0, 0), (80, 64), (count, 2)),
        random.uniform(2, 9, (count, 2)),
        random.uniform(0, np.pi, count),
        random.uniform(0, 1, (count, 3)),
    )
    return Gaussians(*(np.ascontiguousarray(array, dtype=np.float32) for array in arrays))


@pytest.mark.parametrize("order", [None, np.linspace(0.1, 2, 64 * 80, dtype=np.float32).reshape(64, 80)])
def test_gradients_are_the_weighted_sum_of_those_of_the_prefixes(scene: Pixels, order: Any) -> None:
    model, config = some_gaussians(), FitConfig(30, level_shares=SHARES, level_decay=0.5)
    guidance = Guidance(order=order)
    target, background = make_target(scene, guidance), np.full(3, 0.4, np.float32)
    rasterizer = native.Rasterizer()
    found = evaluate_prefixes(rasterizer, model, [3, 12, 30], background, target, config, show=True)
    np.testing.assert_array_equal(rasterizer.image.shape, scene.shape)
    errors, gradients = [], []
    for end in (3, 12, 30):
        prepare(rasterizer, model.take(np.arange(end)), target.size, "normalized", 10)
        one = evaluate(rasterizer, background, target if end == 30 else target.of_prefix(), config.loss)
        errors.append(one.squared_error)
        gradients.append(one.gradients)
    assert found.squared_error == pytest.approx(errors[-1])
    weights = np.array(prefix_weights(errors, 0.5)) / prefix_weights(errors, 0.5)[-1]
    for name in ("local", "colors"):
        expected = np.zeros_like(getattr(found.gradients, name))
        for end, weight, one in zip((3, 12, 30), weights, gradients, strict=True):
            expected[:end] += np.float32(weight) * getattr(one, name)
        np.testing.assert_allclose(getattr(found.gradients, name), expected, rtol=1e-4, atol=1e-7)


def test_colours_are_solved_for_all_prefixes(scene: Pixels) -> None:
    model, target = some_gaussians(40), make_target(scene)
    background, rasterizer = np.full(3, 0.4, np.float32), native.Rasterizer()
    prefixes = [(10, 3.0), (40, 1.0)]

    def errors(colors: Pixels) -> list[float]:
        found = []
        for end, _ in prefixes:
            part = Gaussians(model.means, model.scales, model.rotations, colors).take(np.arange(end))
            prepare(rasterizer, part, target.size, "normalized", 10)
            found.append(float(np.mean((rasterizer.forward(background) - scene) ** 2)))
        return found

    alone = solve_colors(rasterizer, model, background, target, "normalized", 10, 60)
    both = solve_colors(rasterizer, model, background, target, "normalized", 10, 60, prefixes)
    total = [3 * first + whole for first, whole in (errors(alone), errors(both))]
    assert total[1] < 0.95 * total[0]
    assert errors(both)[0] < errors(alone)[0]
    assert errors(both)[1] > errors(alone)[1]
    # at the minimum no small change lowers the sum
    for seed in range(5):
        change = 0.01 * np.random.default_rng(seed).standard_normal(both.shape).astype(np.float32)
        changed = errors(both + change)
        assert 3 * changed[0] + changed[1] > total[1]


def prefix_psnrs(result: Any, scene: Pixels, ends: list[int]) -> list[float]:
    pixels = [render(result.gaussians.take(slice(0, end))) for end in ends]
    return [to_psnr(float(np.mean((np.clip(image, 0, 1) - scene) ** 2))) for image in pixels]


def test_a_fit_makes_every_prefix_good(scene: Pixels) -> None:
    config = make_config((64, 80), gaussians=150, steps=120, level_shares=SHARES, color_solve=0)
    assert config.add_at == (16, 32)
    result = run(scene, config)
    assert len(result.gaussians) == 150
    assert result.added_at == [16, 32]
    ends = level_ends(SHARES, 150)
    found = prefix_psnrs(result, scene, ends)
    assert found == sorted(found)
    plain = run(scene, make_config((64, 80), gaussians=150, steps=120, color_solve=0))
    largest = np.argsort(-plain.gaussians.scales.prod(axis=1))
    cut = prefix_psnrs(replace(plain, gaussians=plain.gaussians.take(largest)), scene, ends)
    assert found[0] > cut[0] + 2
    assert found[1] > cut[1] + 2
    assert found[2] > found[1] + 2


@pytest.mark.parametrize("settings", [{}, {"overshoot": 0.3}, {"level_shares": (0.01, 0.02, 0.03)}])
def test_odd_settings_keep_the_count(scene: Pixels, settings: dict[str, Any]) -> None:
    config = make_config((64, 80), **({"gaussians": 41, "steps": 60, "level_shares": SHARES} | settings))
    assert len(run(scene, config).gaussians) == 41


def test_few_gaussians_and_a_hook_that_keeps_fewer(scene: Pixels) -> None:
    config = make_config((64, 80), gaussians=40, steps=60, level_shares=SHARES, overshoot=0.2)
    for kept in (1, 2, 7, 40, 48, 100):
        result = run(scene, config, keep=lambda gaussians, kept=kept: kept)
        assert len(result.gaussians) == min(kept, 48)
    assert len(run(scene, make_config((64, 80), gaussians=1, steps=5, level_shares=SHARES)).gaussians) == 1


def test_a_fit_with_levels_goes_on_after_an_interruption(scene: Pixels, tmp_path: Path) -> None:
    config = make_config((64, 80), gaussians=60, steps=50, level_shares=SHARES, overshoot=0.2)
    whole = run(scene, config)

    def stop(now: Any) -> None:
        if now.step == 25:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(scene, config, on_step=stop, checkpoint=tmp_path / "fit.npz")
    again = run(scene, config, resume=tmp_path / "fit.npz")
    assert again.gaussians.means.tobytes() == whole.gaussians.means.tobytes()


def test_what_levels_cannot_be(scene: Pixels) -> None:
    for shares in ((0.0,), (1.0,), (0.5, 0.5), (0.5, 0.2), (-0.1,)):
        with pytest.raises(ConfigError, match=r"^level_shares: expected rising numbers between 0 and 1, found "):
            make_config((64, 80), gaussians=10, level_shares=shares)
    for decay in (0.0, 1.5):
        with pytest.raises(ConfigError, match=r"^level_decay: expected a number above 0, at most 1, found "):
            make_config((64, 80), gaussians=10, level_decay=decay)
    with pytest.raises(ConfigError, match=r"^level_shares: expected none with an operator, found some$"):
        run(scene, make_config((64, 80), gaussians=10, level_shares=SHARES), operator=lambda image: image)
    with pytest.raises(ConfigError, match=r"^levels: expected none beside level_shares, found 3$"):
        encode(scene, levels=3, level_shares=SHARES)
    with pytest.raises(ConfigError, match=r"^levels: expected one, and no blocks, beside fixed widths"):
        encode(scene, gaussians=10, bits=BitWidths(), level_shares=SHARES)


@pytest.mark.parametrize("target", [{"size": 1500}, {"gaussians": 120}, {"psnr": 30.0}, {"quality": 60}])
@pytest.mark.parametrize("block_shift", [0, 6])
def test_files_hold_the_levels(scene: Pixels, target: dict[str, Any], block_shift: int) -> None:
    encoded = encode(scene, effort=1, level_shares=SHARES, block_shift=block_shift, **target)
    file = parse(encoded.data)
    counts = [sum(chunk.count for chunk in file.whole if chunk.level == level) for level in range(3)]
    assert np.cumsum(counts).tolist() == level_ends(SHARES, len(encoded.gaussians))
    if "size" in target:
        assert 0.97 * 1500 <= len(encoded.data) <= 1500
    psnrs = [[chunk.psnr for chunk in file.whole if chunk.level == level][-1] for level in range(3)]
    assert psnrs == sorted(psnrs)
    if "size" in target and not block_shift:
        cut = encode(scene, effort=1, levels=3, **target)
        plain = [chunk.psnr for chunk in parse(cut.data).whole]
        assert psnrs[0] > plain[0] + 1


def test_what_comes_first_can_be_asked_for(scene: Pixels) -> None:
    order = np.full((64, 80), 0.02, np.float32)
    order[:, :30] = 1
    errors = []
    for guidance in (None, Guidance(order=order)):
        encoded = encode(scene, gaussians=120, effort=2, level_shares=(0.15,), guidance=guidance)
        image = render(encoded.gaussians.take(slice(0, 18)))
        errors.append(float(np.mean((image - scene)[:, :, :30] ** 2)))
    assert errors[1] < 0.9 * errors[0]
