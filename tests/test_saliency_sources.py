"""What a map is made of, and the encoding that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagegs.apps import saliency
from imagegs.apps.saliency import sources as module
from imagegs.apps.saliency.regions import Box
from imagegs.apps.saliency.sources import MODELS, Sources, make_importance, make_predictor
from PIL import Image

import imagegs
from imagegs import ConfigError, ShapeError, WeightsError, as_picture
from imagegs.codec import parse
from imagegs.kernels import native

needs_kernels = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
QUICK: dict[str, Any] = {"size": 900, "effort": 1}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ("builtin",)),
        ({"models": ("vit", "builtin", "vit")}, ("vit", "builtin")),
        ({"prompt": "the face"}, ("prompt",)),
        ({"models": ("prompt", "builtin"), "prompt": "the face"}, ("builtin", "prompt")),
        ({"mask": "mask.png", "boxes": (Box(0, 0, 1, 1),)}, ("mask", "boxes")),
        ({"models": ("builtin",), "boxes": (Box(0, 0, 1, 1),)}, ("builtin", "boxes")),
    ],
)
def test_what_is_asked_for_decides_the_sources(given: dict[str, Any], names: tuple[str, ...]) -> None:
    assert Sources(**given).names == names


def test_unknown_models_and_prompts_without_words() -> None:
    with pytest.raises(
        ConfigError, match=r"^model: expected one of builtin, emlnet, vit, fastgaze, prompt, found 'cnn'$"
    ):
        Sources(models=("cnn",))
    with pytest.raises(ConfigError, match=r"^model: expected a prompt for the model prompt"):
        Sources(models=("prompt",))
    with pytest.raises(ConfigError, match=r"^model: expected a prompt for the model prompt"):
        make_predictor("prompt")
    with pytest.raises(ConfigError, match=r"^model: expected one of builtin.*, found 'mask'$"):
        make_predictor("mask")


@pytest.mark.parametrize("name", [name for name in MODELS if name != "builtin"])
def test_absent_weights_name_the_command_that_fetches_them(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    for variable in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = Sources(models=(name,), prompt="the face" if name == "prompt" else None, weights=tmp_path)
    with pytest.raises(WeightsError, match=r"imagegs weights fetch \w+") as caught:
        make_predictor(name, asked)
    assert "\n" not in str(caught.value)


def test_maps_are_combined(monkeypatch: pytest.MonkeyPatch, scene: Any) -> None:
    asked = Sources(
        models=("builtin",), mask=np.eye(64, 80, dtype=np.float32), boxes=(Box(0, 0, 4, 4, 0.5),), how="max"
    )
    monkeypatch.setattr(module, "make_predictor", lambda name, sources: lambda rgb: np.full((64, 80), 0.25, np.float32))
    found = make_importance(asked)(as_picture(scene))
    assert found[0, 0] == 1
    assert found[0, 1] == 0.5
    assert found[20, 50] == 0.25


@pytest.mark.parametrize(
    "wrong", [np.zeros((80, 64)), np.full((64, 80), 1.5), np.full((64, 80), np.nan), np.full((64, 80), -0.1)]
)
def test_a_model_that_misbehaves_is_named(wrong: Any, monkeypatch: pytest.MonkeyPatch, scene: Any) -> None:
    monkeypatch.setattr(module, "make_predictor", lambda name, sources: lambda rgb: wrong.astype(np.float32))
    with pytest.raises(ShapeError, match=r"^builtin: expected a map \[64, 80\] in \[0, 1\], found "):
        make_importance(Sources())(as_picture(scene))


def test_the_built_in_model_needs_nothing(scene: Any, photo: Path) -> None:
    found = saliency.importance(scene)
    assert found.shape == (64, 80)
    assert found.min() >= 0
    assert found.max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(found, saliency.importance(scene, Sources(models=("builtin",))))
    assert saliency.importance(photo, mask=np.ones((48, 64))).min() == 1


# -- encoding


def left() -> Any:
    values = np.zeros((64, 80), np.float32)
    values[:, :30] = 1
    return values


@needs_kernels
def test_strength_zero_is_plain_encode_byte_for_byte(scene: Any) -> None:
    plain = imagegs.encode(scene, **QUICK)
    assert saliency.encode(scene, left(), strength=0, **QUICK).data == plain.data
    assert saliency.encode(scene, strength=0, levels=2, **QUICK).data == imagegs.encode(scene, levels=2, **QUICK).data
    assert saliency.encode(scene, left(), strength=1, **QUICK).data != plain.data


@needs_kernels
def test_quality_moves_to_where_it_matters(scene: Any) -> None:
    plain = imagegs.encode(scene, **QUICK)
    gains = []
    for strength in (0.5, 1.0):
        guided = saliency.encode(scene, left(), strength=strength, **QUICK)
        assert 0.97 * 900 <= len(guided.data) <= 900
        before, after = (saliency.score(scene, encoded.decoded, left()) for encoded in (plain, guided))
        gains.append(after.region_psnr - before.region_psnr)
        assert after.weighted_psnr == pytest.approx(after.region_psnr)
        assert after.outside_psnr < before.outside_psnr
    assert 0.5 < gains[0] < gains[1]


@needs_kernels
def test_the_map_is_not_in_the_file(scene: Any) -> None:
    guided, plain = (saliency.encode(scene, left(), strength=strength, **QUICK) for strength in (1.0, 0.0))
    files = [parse(encoded.data) for encoded in (guided, plain)]
    assert files[0].info == files[1].info
    heads = [
        len(encoded.data) - sum(chunk.length for chunk in file.whole)
        for encoded, file in zip((guided, plain), files, strict=True)
    ]
    assert abs(heads[0] - heads[1]) <= 4  # lengths of varints
    np.testing.assert_array_equal(imagegs.decode(guided.data).pixels, guided.decoded)


@needs_kernels
def test_the_first_level_holds_what_matters(scene: Any) -> None:
    shares = []
    for strength in (0.0, 1.0):
        encoded = saliency.encode(
            scene, left(), strength=strength, levels=2, without=("start", "growth", "loss", "rounding"), **QUICK
        )
        decoder = imagegs.Decoder()
        decoder.feed(encoded.data)
        count = len(decoder.gaussians()) // 4
        shares.append(float(np.mean(encoded.gaussians.means[:count, 0] < 30)))
    assert shares[1] > shares[0] + 0.2


@needs_kernels
def test_colours_alone_can_carry_alpha_and_stacks(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 48 * 64).reshape(48, 64).astype(np.uint8)
    Image.fromarray(np.stack([ramp, ramp[::-1], ramp, 255 - ramp], axis=-1)).save(tmp_path / "alpha.png")
    encoded = saliency.encode(tmp_path / "alpha.png", strength=1, gaussians=40, effort=1)
    assert encoded.decoded.shape == (4, 48, 64)
    assert len(encoded.gaussians) == 40


def test_public_names() -> None:
    assert saliency.__all__ == sorted(saliency.__all__)
    for name in saliency.__all__:
        assert getattr(saliency, name) is not None
        assert name in dir(saliency)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        saliency.nothing  # noqa: B018
