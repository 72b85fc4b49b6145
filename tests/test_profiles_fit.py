"""The published methods: their constants, their schedules, and that they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imagegs.fitting import loop, schedule
from imagegs.fitting.config import FitConfig, Loss, Rates, make_config
from imagegs.fitting.fit import run
from imagegs.fitting.initialization import Gaussians
from imagegs.fitting.loop import FitResult, Progress
from imagegs.fitting.optimizer import GaussianImageAdan, InverseScaleAdam, LocalAdam, make_optimizer
from imagegs.fitting.schedule import Plateau, rate_factor
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

Pixels = npt.NDArray[np.float32]


def go(pixels: Pixels, steps: int, **settings: Any) -> tuple[FitResult, list[Progress]]:
    seen: list[Progress] = []
    config = make_config(pixels.shape[1:], gaussians=150, steps=steps, **settings)
    return run(pixels, config, on_step=seen.append), seen


def test_constants_of_image_gs() -> None:
    config = make_config((512, 768), gaussians=5000, profile="image-gs")
    assert (config.blend, config.top_k, config.shape, config.init) == ("topk", 10, "inverse-scale", "gradient")
    assert (config.start_fraction, config.uniform_share, config.start_scale) == (0.5, 0.3, 5.0)
    assert config.add_at == (500, 1000, 1500, 2000)
    assert (config.error_power, config.grow_color, config.reset_moments, config.relocate) == (
        1.0,
        "residual",
        True,
        0.0,
    )
    assert config.loss == Loss(l1=1.0, l2=0.0, ssim=0.1)
    assert config.rates == Rates(position=5e-4, scale=2e-3, rotation=2e-3, color=5e-3)
    assert (config.betas, config.epsilon, config.schedule, config.color_solve) == ((0.9, 0.999), 1e-8, "plateau", 0)
    assert config.steps == 5000
    assert (schedule.CHECK_EVERY, schedule.CHECK_PATIENCE) == (100, 1000)
    assert (schedule.PLATEAU_PSNR, schedule.PLATEAU_SSIM) == (0.1, 0.001)


def test_constants_of_gaussianimage() -> None:
    config = make_config((512, 768), gaussians=5000, profile="gaussian-image")
    assert (config.blend, config.shape, config.init) == ("sum", "cholesky", "random")
    assert (config.start_fraction, config.add_at, config.relocate) == (1.0, (), 0.0)
    assert config.loss == Loss(l1=0.0, l2=1.0, ssim=0.0)
    assert config.rates == Rates(1e-3, 1e-3, 1e-3, 1e-3)
    assert (config.betas, GaussianImageAdan.THIRD_BETA, config.epsilon) == ((0.98, 0.92), 0.99, 1e-8)
    assert (config.steps, config.schedule, schedule.HALVE_EVERY) == (50_000, "halving", 20_000)


def test_each_shape_has_its_optimiser() -> None:
    kinds = {"local": LocalAdam, "inverse-scale": InverseScaleAdam}
    kinds |= dict.fromkeys(("cholesky", "rotation-scale"), GaussianImageAdan)
    empty = Gaussians(*(np.zeros(shape, np.float32) for shape in ((0, 2), (0, 2), 0, (0, 3))))
    for shape, kind in kinds.items():
        assert type(make_optimizer(empty, FitConfig(1, shape=shape), (8, 8))) is kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"profile": "image-gs"}, 30),
        ({"profile": "gaussian-image"}, 18),
        ({"profile": "gaussian-image", "shape": "rotation-scale"}, 18),
        ({"profile": "gaussian-image", "blend": "normalized"}, 20),
    ],
    ids=str,
)
def test_profiles_improve(scene: Pixels, settings: dict[str, Any], least: float) -> None:
    result, seen = go(scene, 250, **settings)
    assert result.psnr > max(least, seen[0].psnr + 5)
    assert seen[-1].loss < seen[0].loss / 2
    assert len(result.gaussians) == 150
    assert result.gaussians.blend == settings.get("blend", {"image-gs": "topk"}.get(settings["profile"], "sum"))


def test_image_gs_begins_with_round_gaussians_of_five_pixels(scene: Pixels) -> None:
    config = make_config((64, 80), gaussians=150, profile="image-gs", rates=Rates(0, 0, 0, 0), steps=1, add_at=())
    gaussians = run(scene, config).gaussians
    np.testing.assert_allclose(gaussians.scales, 5.0, rtol=1e-6)
    assert not gaussians.rotations.any()
    rows, columns = (gaussians.means[:, ::-1] - 0.5).astype(int).T
    np.testing.assert_array_equal(gaussians.colors, scene[:, rows, columns].T)


def test_image_gs_doubles_in_four_parts_and_forgets_its_moments(scene: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    real = InverseScaleAdam.step

    def step(self: InverseScaleAdam, *args: Any) -> None:
        times.append(float(self.moments["time"][0]))
        real(self, *args)

    monkeypatch.setattr(InverseScaleAdam, "step", step)
    result, seen = go(scene, 60, profile="image-gs")
    assert result.added_at == [6, 12, 18, 24]
    counts = [now.gaussians for now in seen]
    assert [counts[i] for i in (0, 4, 5, 11, 17, 23, 59)] == [75, 75, 94, 113, 132, 150, 150]
    assert [at for at, time in enumerate(times) if time == 0] == [0, 6, 12, 18, 24]


def test_new_gaussians_of_image_gs_have_the_colour_of_the_residual(
    scene: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = []
    real = loop.grow

    def grow(*args: Any) -> Any:
        grown.append(real(*args))
        return grown[-1]

    monkeypatch.setattr(loop, "grow", grow)
    go(scene, 30, profile="image-gs")
    colors = np.concatenate([new.colors for new in grown])
    assert colors.min() < -0.01
    assert abs(colors.mean()) < 0.3


def test_the_plateau_decays_once_and_then_stops() -> None:
    plateau, config = Plateau(), make_config((64, 64), profile="image-gs")
    for check in range(30):  # both keep getting better
        plateau.see(20 + 0.2 * check, 0.5 + 0.002 * check)
    assert (plateau.decays, plateau.since) == (0, 0)
    plateau.see(40.0, plateau.best_ssim)  # one of them alone is no gain
    plateau.see(plateau.best_psnr + 0.09, 0.9)
    assert (plateau.decays, plateau.since) == (0, 200)
    for _ in range(8):
        plateau.see(20.0, 0.5)
    assert (plateau.decays, plateau.since) == (1, 0)
    assert rate_factor(config, 3000, plateau) == pytest.approx(0.1)
    for _ in range(10):
        plateau.see(20.0, 0.5)
    assert plateau.decays == 2


def test_image_gs_stops_at_the_second_plateau(scene: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY", 5)
    monkeypatch.setattr(schedule, "CHECK_PATIENCE", 200)
    still = {"profile": "image-gs", "rates": Rates(0, 0, 0, 0)}
    # all are there after 40; the first check that finds nothing better counts 100 each time
    result, _ = go(scene, 100, **still)
    assert result.steps == 40 + 5 + 4 * 5 - 5
    # and with half the size for a while, whose pictures are not those of the whole
    assert go(scene, 100, coarse=0.6, **still)[0].steps == result.steps


def test_gaussianimage_halves_its_rate() -> None:
    config, plateau = make_config((64, 64), profile="gaussian-image"), Plateau()
    factors = [rate_factor(config, step, plateau) for step in (1, 20_000, 20_001, 40_000, 40_001, 50_000)]
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_rates_hold_and_then_fall_a_hundredfold() -> None:
    config, plateau = FitConfig(1, steps=1000, hold=0.6, decay=100.0), Plateau()
    factors = np.array([rate_factor(config, step, plateau) for step in range(1, 1001)])
    np.testing.assert_array_equal(factors[:599], 1)
    assert factors[799] == pytest.approx(0.1)
    assert factors[999] == pytest.approx(0.01)
    ratios = factors[600:] / factors[599:-1]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    assert rate_factor(FitConfig(1, steps=10, hold=1.0), 10, plateau) == 1.0
