"""The fit as a whole: it improves, every part of it matters, and awkward pictures do not stop it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import imagegs
from imagegs import metrics
from imagegs.errors import ConfigError, DeviceError, ImageError, ShapeError
from imagegs.fitting.config import Rates, make_config
from imagegs.fitting.fit import run
from imagegs.fitting.loop import FitResult, Progress
from imagegs.guidance import Guidance
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

Pixels = npt.NDArray[np.float32]
ARRAYS = ("means", "scales", "rotations", "colors", "background")


def go(pixels: Pixels, gaussians: int = 150, **settings: Any) -> tuple[FitResult, list[Progress]]:
    """A fit and what its callback was told; maps go to ``run``, the rest to the settings."""
    maps = {name: settings.pop(name) for name in ("importance", "weights") if name in settings}
    seen: list[Progress] = []
    config = make_config(pixels.shape[1:], gaussians=gaussians, **settings)
    guidance = Guidance.of((pixels.shape[1], pixels.shape[2]), **maps)
    return run(pixels, config, on_step=seen.append, guidance=guidance), seen


def error_of(result: FitResult, pixels: Pixels) -> npt.NDArray[np.float64]:
    """Squared error [H, W]."""
    return np.mean((imagegs.render(result.gaussians) - pixels) ** 2, axis=0, dtype=np.float64)


def shown_psnr(result: FitResult, pixels: Pixels) -> float:
    """PSNR of the render cut to [0, 1], dB."""
    return metrics.psnr(pixels, np.clip(imagegs.render(result.gaussians), 0, 1))


def corner() -> Pixels:
    """[3, 64, 80], grey with a chequered corner."""
    y, x = np.mgrid[0:64, 0:80]
    pixels = np.full((3, 64, 80), 0.5, np.float32)
    pixels[:, 36:60, 50:74] = ((x // 4 + y // 4) % 2)[36:60, 50:74]
    return pixels


def in_corner(result: FitResult) -> float:
    means = result.gaussians.means
    return float(np.mean((means[:, 0] > 48) & (means[:, 1] > 34)))


def test_a_fit_gets_good_and_says_how_good(scene: Pixels) -> None:
    result, seen = go(scene, steps=150)
    gaussians = result.gaussians
    assert len(gaussians) == 150
    assert (gaussians.height, gaussians.width, gaussians.channels) == (64, 80, 3)
    assert seen[0].psnr < 22
    assert result.psnr > 40
    assert result.psnr == pytest.approx(shown_psnr(result, scene), abs=1e-3)
    assert [step.step for step in seen] == list(range(1, 151))
    assert {step.steps for step in seen} == {150}
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(seen))
    assert seen[-1].loss < 0.02 * seen[0].loss
    assert [seen[0].gaussians, seen[-1].gaussians] == [75, 150]
    assert result.added_at == [15, 30, 45, 60]
    assert result.history[0][0] == 1
    assert result.history[-1] == (150, result.seconds, result.psnr, 150)
    assert result.steps == 150


@pytest.mark.parametrize("settings", [{}, {"blend": "topk", "top_k": 5}, {"blend": "sum"}, {"init": "gradient"}])
def test_the_same_seed_gives_the_same_gaussians_on_any_number_of_threads(scene: Pixels, settings: Any) -> None:
    results = []
    for threads in (1, 3):
        with native.threads(threads):
            results.append(go(scene, steps=50, seed=7, relocate_every=10, **settings)[0].gaussians)
    other = go(scene, steps=50, seed=8, relocate_every=10, **settings)[0].gaussians
    for name in ARRAYS:
        assert getattr(results[0], name).tobytes() == getattr(results[1], name).tobytes()
    assert not np.array_equal(results[0].means, other.means)


def test_relocation_lowers_the_error_where_the_start_was_poor() -> None:
    pixels, settings = corner(), {"init": "random", "add_at": (), "relocate_every": 10, "color_solve": 0}
    still, moving = (go(pixels, steps=120, relocate=share, **settings)[0] for share in (0.0, 0.05))
    assert moving.psnr > still.psnr + 5
    assert in_corner(moving) > in_corner(still) + 0.15
    assert len(moving.gaussians) == len(still.gaussians) == 150


def test_gaussians_are_added_where_the_error_is() -> None:
    pixels, settings = corner(), {"init": "random", "relocate": 0.0, "color_solve": 0}
    anywhere, guided = (go(pixels, steps=120, error_power=power, **settings)[0] for power in (0.0, 2.0))
    assert guided.psnr > anywhere.psnr + 5
    assert in_corner(guided) > in_corner(anywhere) + 0.15


def test_a_start_by_structure_beats_a_random_one(scene: Pixels) -> None:
    # judged after one step without growth: by the start itself
    psnr = {init: go(corner(), steps=1, init=init, add_at=())[1][0].psnr for init in ("structure", "random")}
    assert psnr["structure"] > psnr["random"] + 0.5


def test_the_colour_solve_helps(scene: Pixels) -> None:
    without, solved = (go(scene, steps=40, color_solve=n)[0] for n in (0, 10))
    assert solved.psnr > without.psnr + 0.2
    np.testing.assert_array_equal(solved.gaussians.means, without.gaussians.means)
    assert not np.array_equal(solved.gaussians.colors, without.gaussians.colors)


def test_importance_draws_gaussians(scene: Pixels) -> None:
    importance = np.ones((64, 80))
    importance[:, :40] = 20
    plain, shaped = go(scene, steps=60)[0], go(scene, steps=60, importance=importance)[0]
    left = [float(np.mean(result.gaussians.means[:, 0] < 40)) for result in (plain, shaped)]
    assert left[1] > left[0] + 0.05
    assert error_of(shaped, scene)[:, :40].mean() < error_of(plain, scene)[:, :40].mean()
    alone = go(scene, steps=1, add_at=(), init="importance", uniform_share=0.0, importance=importance)[0]
    assert np.mean(alone.gaussians.means[:, 0] < 40) > 0.9


def test_weights_move_the_error_elsewhere(scene: Pixels) -> None:
    weights = np.ones((64, 80))
    weights[:, :40] = 20
    plain, weighted = (error_of(go(scene, 100, steps=80, **given)[0], scene) for given in ({}, {"weights": weights}))
    assert weighted[:, :40].mean() < 0.7 * plain[:, :40].mean()
    assert weighted[:, 40:].mean() > plain[:, 40:].mean()
    # only their proportions count
    scaled = error_of(go(scene, 100, steps=80, weights=weights * 5)[0], scene)
    np.testing.assert_array_equal(scaled, weighted)


@pytest.mark.parametrize(
    "loss", [{"l1": 1.0, "l2": 0.0}, {"l2": 0.0, "ssim": 1.0}, {"l1": 1.0, "l2": 0.0, "ssim": 0.1}]
)
def test_other_losses_fit_as_well(scene: Pixels, loss: dict[str, float]) -> None:
    result, seen = go(scene, steps=100, loss=loss)
    assert result.psnr > max(33.0, seen[0].psnr + 12)
    assert seen[-1].loss < 0.15 * seen[0].loss


def test_a_loss_as_asked_beats_another_by_its_own_measure(scene: Pixels) -> None:
    l1, l2 = (go(scene, 80, steps=150, loss=loss)[0] for loss in ({"l1": 1.0, "l2": 0.0}, {"l2": 1.0}))
    images = [imagegs.render(result.gaussians) for result in (l1, l2)]
    absolute = [float(np.abs(image - scene).mean()) for image in images]
    assert absolute[0] < absolute[1]
    assert l2.psnr > l1.psnr


def test_coarse_to_fine(scene: Pixels) -> None:
    result, seen = go(scene, steps=100, coarse=0.3)
    assert (result.gaussians.height, result.gaussians.width) == (64, 80)
    assert result.psnr > 40
    assert result.psnr == pytest.approx(shown_psnr(result, scene), abs=1e-3)
    fine = go(scene, steps=100)[1]
    # half the size is half as hard: averages of four pixels
    assert seen[0].psnr != fine[0].psnr
    assert seen[-1].psnr > 38
    # all of it at half size: what is returned still lies on the whole canvas
    halves = go(scene, steps=60, coarse=1.0)[0]
    assert halves.psnr > 30
    assert halves.gaussians.means.max() > 64
    # small pictures, and Gaussians that half the size has no room for, are fitted as they are
    small = scene[:, :63]
    for pixels, count in ((small, 100), (scene, 1500)):
        a, b = (go(pixels, count, steps=3, coarse=share)[0].gaussians for share in (0.0, 0.5))
        assert len(b) == count
        np.testing.assert_array_equal(a.means, b.means)


def test_the_best_state_is_kept(scene: Pixels) -> None:
    wild = {"hold": 0.0, "decay": 1.0, "rates": Rates(0.3, 0.3, 0.3, 0.1), "add_at": (), "relocate": 0.0}
    lost = []
    for seed in range(4):
        result, seen = go(scene, 100, steps=80, color_solve=0, seed=seed, **wild)
        best = max(step.psnr for step in seen)
        assert result.psnr >= best - 1e-6
        lost.append(best - seen[-1].psnr)
    assert max(lost) > 0.2  # which the last state would have cost


def test_without_gain_the_rates_fall_early(scene: Pixels) -> None:
    still = {"rates": Rates(0, 0, 0, 0), "add_at": (), "relocate": 0.0, "hold": 0.7}
    result, seen = go(scene, 100, steps=100, patience=20, **still)
    assert result.steps == 21 + 30
    assert seen[-1].step == seen[-1].steps == 51
    assert go(scene, 100, steps=100, **still)[0].steps == 100


def test_half_size_does_not_set_the_mark_for_full_size(scene: Pixels) -> None:
    # PSNR falls when the picture grows; that is no reason to stop
    result, _ = go(scene, 60, steps=200, coarse=0.3, add_at=(), relocate=0.0, patience=25, patience_gain=0.0)
    assert result.steps > 0.3 * 200 + 25 + 60 + 5


def test_a_perfect_fit_stops() -> None:
    pixels = np.full((3, 40, 40), 0.3, np.float32)
    result, _ = go(pixels, 30, steps=100, add_at=())
    assert result.steps == 1
    assert result.psnr > 100
    grown, _ = go(pixels, 30, steps=100)
    assert len(grown.gaussians) == 30
    assert grown.steps == 40  # when the last ones have come
    assert grown.psnr > 100


def test_a_perfect_half_size_is_no_end() -> None:
    # chequers of one pixel: plain grey at half size
    pixels = np.repeat((np.indices((64, 64)).sum(axis=0) % 2)[None], 3, axis=0).astype(np.float32)
    result, seen = go(pixels, 600, steps=40, coarse=0.5, add_at=())
    assert seen[0].psnr > 100
    assert result.steps == 40


@pytest.mark.parametrize(
    "shape",
    [(3, 1, 1), (3, 1, 200), (3, 200, 1), (1, 32, 32), (4, 32, 32), (12, 24, 24), (32, 24, 24), (3, 2, 3)],
    ids=str,
)
@pytest.mark.parametrize("settings", [{}, {"profile": "image-gs"}, {"profile": "gaussian-image"}], ids=str)
def test_awkward_sizes_and_channels(shape: tuple[int, int, int], settings: dict[str, str]) -> None:
    pixels = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    count = max(1, shape[1] * shape[2] // 10)
    result, seen = go(pixels, count, steps=20, **settings)
    assert len(result.gaussians) == count
    assert result.gaussians.channels == shape[0]
    # 20 steps are few for the published methods, and noise is hard
    assert result.psnr > 5 if settings else result.psnr >= max(8, seen[0].psnr)
    if shape[1:] == (1, 1) and not settings:
        assert result.psnr > 100


def test_from_one_gaussian_to_one_per_pixel() -> None:
    pixels = np.random.default_rng(0).uniform(0, 1, (3, 12, 12)).astype(np.float32)
    psnr = {n: go(pixels, n, steps=60, relocate_every=5)[0].psnr for n in (1, 12, 72, 144)}
    assert list(psnr.values()) == sorted(psnr.values())
    assert psnr[144] > 35
    with pytest.raises(ConfigError, match=r"^gaussians: expected at most one per pixel \(144\), found 145$"):
        make_config((12, 12), gaussians=145)
    with pytest.raises(ConfigError, match=r"^gaussians: expected at most one per pixel \(144\), found 200$"):
        run(pixels, make_config((20, 20), gaussians=200))


@pytest.mark.parametrize("settings", [{}, {"init": "gradient", "uniform_share": 0.0}], ids=str)
def test_flat_art_of_two_tones_with_more_gaussians_than_edge_pixels(settings: dict[str, Any]) -> None:
    pixels = np.zeros((3, 48, 48), np.float32)
    pixels[:, 10:30, 12:40] = 1
    result, _ = go(pixels, 400, steps=50, **settings)
    assert len(result.gaussians) == 400
    assert result.psnr > 40


def test_values_beyond_the_unit_range_are_fitted(scene: Pixels) -> None:
    pixels = (scene * 2 - 0.5).astype(np.float32)
    result, _ = go(pixels, steps=100)
    image = imagegs.render(result.gaussians)
    assert error_of(result, pixels).mean() < 1e-3
    assert image.min() < -0.2
    assert image.max() > 1.3
    bright, _ = go(scene * 1000, steps=100, patience=20)
    assert error_of(bright, scene * 1000).mean() < 1e3  # 0.1 % of the squared range
    assert bright.steps > 50


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.full((3, 8, 8), np.nan), "found NaN or infinity"),
        (np.full((3, 8, 8), np.inf), "found NaN or infinity"),
        (np.zeros((8, 8)), r"found \[8, 8\]"),
        (np.zeros((3, 0, 8)), r"found \[3, 0, 8\]"),
        (np.zeros((33, 8, 8)), r"with 1 to 32 channels, found \[33, 8, 8\]"),
        ("a picture", "expected an array of numbers, found str"),
    ],
)
def test_what_is_no_picture(pixels: Any, found: str) -> None:
    with pytest.raises(ShapeError, match=f"^picture: expected .*{found}|^picture: {found}"):
        run(pixels, make_config((8, 8), gaussians=4, steps=2))


def test_a_device_that_is_not_there(scene: Pixels) -> None:
    with pytest.raises(DeviceError, match=r"^device: expected auto, cpu, cuda or cuda:N, found 'abacus'"):
        imagegs.fit(scene, 10, device="abacus")
    with pytest.raises(DeviceError, match=r"^device: expected .*, found "):
        imagegs.fit(scene, 10, device="cuda:4444")


def test_the_short_way_takes_whatever_stands_for_a_picture(photo: Any) -> None:
    by_path, by_image = imagegs.fit(photo, 40, steps=10), imagegs.fit(Image.open(photo), gaussians=40, steps=10)
    assert (by_path.height, by_path.width, by_path.channels, len(by_path)) == (48, 64, 3, 40)
    np.testing.assert_array_equal(by_path.means, by_image.means)
    grey = imagegs.fit(np.zeros((16, 16)), steps=2)
    assert (grey.channels, len(grey)) == (1, 4)
    seen: list[Progress] = []
    imagegs.fit(photo, 10, preset="fast", seed=3, steps=4, blend="sum", on_step=seen.append)
    assert [step.gaussians for step in seen][-1] == 10
    with pytest.raises(ImageError):
        imagegs.fit(photo.with_name("absent.png"))
    with pytest.raises(ShapeError, match=r"NaN|nan"):
        imagegs.fit(np.full((8, 8), np.nan))


@pytest.mark.parametrize("coarse", [0.0, 0.5])
def test_a_callback_can_take_snapshots(scene: Pixels, coarse: float) -> None:
    taken: dict[int, imagegs.Gaussians2D] = {}

    def keep(progress: Progress) -> None:
        if progress.step in (5, 40):
            taken[progress.step] = progress.snapshot()

    result = run(scene, make_config(scene.shape[1:], gaussians=80, steps=40, coarse=coarse), on_step=keep)
    early, late = (np.clip(imagegs.render(taken[step]), 0, 1) for step in (5, 40))
    assert early.shape == late.shape == scene.shape
    assert len(taken[5]) < len(taken[40]) == 80
    assert metrics.psnr(scene, early) + 2 < metrics.psnr(scene, late) <= result.psnr + 0.01


def test_a_preset_beside_a_profile_is_refused(scene: Pixels) -> None:
    with pytest.raises(ConfigError, match="preset: expected none beside a profile, found 'fast' and 'image-gs'"):
        imagegs.fit(scene, 20, preset="fast", profile="image-gs")


def test_numbers_of_numpy_are_numbers(scene: Pixels) -> None:
    found = imagegs.fit(scene, np.int64(30), steps=np.int32(3))
    assert len(found) == 30
