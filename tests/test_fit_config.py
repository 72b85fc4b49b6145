"""The settings of a fit: presets, shares, and values that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from imagegs.errors import ConfigError
from imagegs.fitting.config import PIXELS_PER_GAUSSIAN, FitConfig, Loss, Rates, make_config, spread_additions


def test_presets_take_longer_and_longer() -> None:
    steps = [make_config((64, 64), preset=preset).steps for preset in ("fast", "balanced", "best")]
    assert steps == sorted(set(steps))
    assert make_config((64, 64)) == make_config((64, 64), preset="balanced")
    assert make_config((64, 64), preset="best", steps=7).steps == 7


def test_the_number_of_gaussians_follows_the_size() -> None:
    assert make_config((640, 640)).gaussians == 640 * 640 // PIXELS_PER_GAUSSIAN
    assert make_config((1, 1)).gaussians == 1
    assert make_config((3, 4), gaussians=12).gaussians == 12


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 137, 5000])
@pytest.mark.parametrize("profile", [None, "image-gs"])
def test_every_gaussian_is_added_within_the_steps_there_are(steps: int, profile: str | None) -> None:
    config = make_config((64, 64), profile=profile, steps=steps)
    assert config.add_at == spread_additions(steps)
    assert config.add_at
    assert 1 <= min(config.add_at) <= max(config.add_at) <= max(1, steps // 2)


def test_additions_as_asked_and_none_where_all_are_there_at_once() -> None:
    assert make_config((64, 64), steps=50, add_at=(3, 40)).add_at == (3, 40)
    assert make_config((64, 64), add_at=()).add_at == ()
    assert make_config((64, 64), start_fraction=1.0).add_at == ()
    assert make_config((64, 64), profile="gaussian-image").add_at == ()


def test_loss_and_rates_may_be_dicts() -> None:
    config = make_config((64, 64), loss={"l1": 1, "l2": 0}, rates={"color": 0.5})
    assert config.loss == Loss(1, 0, 0)
    assert config.rates == Rates(color=0.5)
    with pytest.raises(ConfigError, match=r"^loss: expected l1, l2, ssim: "):
        make_config((64, 64), loss={"l3": 1})
    with pytest.raises(ConfigError, match=r"^rates: expected position, scale, rotation, color: "):
        make_config((64, 64), rates={"speed": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gaussians", 0),
        ("gaussians", 2.5),
        ("gaussians", True),
        ("steps", 0),
        ("steps", "many"),
        ("blend", "over"),
        ("top_k", 0),
        ("top_k", 33),
        ("shape", "round"),
        ("init", "nowhere"),
        ("schedule", "never"),
        ("grow_color", "red"),
        ("relocate_every", 0),
        ("color_solve", -1),
        ("patience", -1),
        ("seed", -1),
        ("start_scale", 0.0),
        ("start_scale", float("nan")),
        ("scale_per_spacing", 0.0),
        ("add_at", (0,)),
        ("add_at", (5, 1001)),
        ("epsilon", -1.0),
        ("error_power", float("nan")),
        ("decay", 0.5),
        ("betas", (0.9, 1.0)),
        ("start_fraction", 1.5),
        ("uniform_share", -0.1),
        ("relocate", 2),
        ("hold", float("nan")),
        ("coarse", -1),
        ("quantize_from", 1.01),
    ],
)
def test_values_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected .*, found ") as refused:
        make_config((64, 64), **{name: value})
    assert "\n" not in str(refused.value)


def test_weights_of_losses_and_rates_are_checked() -> None:
    for weights in ((0, 0, 0), (-1, 1, 1), (float("nan"), 1, 0), (float("inf"), 0, 0)):
        with pytest.raises(ConfigError, match=r"^loss: expected weights"):
            Loss(*weights)
    for rate in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"^rates: expected finite numbers"):
            Rates(scale=rate)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"^preset: expected one of fast, balanced, best, found 'slow'$"):
        make_config((64, 64), preset="slow")
    with pytest.raises(ConfigError, match=r"^profile: expected one of image-gs, gaussian-image, found 'jpeg'$"):
        make_config((64, 64), profile="jpeg")
    with pytest.raises(ConfigError, match=r"^settings: expected attributes of FitConfig, found speed, taste$"):
        make_config((64, 64), taste=1, speed=2)


def test_a_config_is_a_value() -> None:
    assert FitConfig(3) == FitConfig(3)
    assert hash(FitConfig(3)) == hash(FitConfig(3))
