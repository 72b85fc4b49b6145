"""Transformers of the DINO family: attention against timm's own softmax, the cut of the graph, sizes and weights."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.linalg import eigh
from torch import nn

from imagegs import ConfigError, DeviceError, WeightsError

pytest.importorskip("timm", reason="the optional package timm is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="the optional package safetensors is not installed")

from imagegs.apps.saliency import vit  # noqa: E402
from timm.models.eva import Eva  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TINY = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0, "dynamic_img_size": True}
DINO_V3 = {
    "patch_size": 16,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
    "use_abs_pos_emb": False,
    "use_rot_pos_emb": True,
    "rope_type": "dinov3",
    "rope_temperature": 100,
    "rope_rotate_half": True,
    "init_values": 0.1,
}
MODELS = {
    "v1": partial(VisionTransformer, **TINY, patch_size=16),
    "v1 oblong patches": partial(VisionTransformer, **TINY, patch_size=(8, 16)),
    "v2": partial(VisionTransformer, **TINY | {"img_size": 28}, patch_size=14, init_values=0.1),
    "v2 registers": partial(
        VisionTransformer, **TINY | {"img_size": 28}, patch_size=14, reg_tokens=4, no_embed_class=True, init_values=0.1
    ),
    "normed": partial(VisionTransformer, **TINY, patch_size=16, qk_norm=True, qkv_bias=False),
    "v3": partial(Eva, **TINY, **DINO_V3, qkv_bias=False),
    "v3 biases": partial(Eva, **TINY, **DINO_V3, qkv_bias=True),
    "v3 split": partial(Eva, **TINY, **DINO_V3, qkv_bias=True, qkv_fused=False),
    "v3 plain attention": partial(Eva, **TINY, **DINO_V3, attn_type="rope", scale_attn_inner=False),
}


def made(name: str) -> nn.Module:
    """A tiny model whose every parameter is random, so that nothing cancels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model: nn.Module = MODELS[name]()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def softmax_of_timm(model: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """The last block's attention [heads, N, N] as timm computes it where it does not fuse it."""
    attention: Any = model.blocks[-1].attn  # type: ignore[union-attr, index]
    seen: list[torch.Tensor] = []
    handle = attention.attn_drop.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    fused, attention.fused_attn = attention.fused_attn, False
    try:
        with torch.inference_mode():
            model(pictures)
    finally:
        attention.fused_attn = fused
        handle.remove()
    return seen[0][0]


def picture(height: int, width: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((3, height, width), dtype=np.float32)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_attention_is_timms_softmax(name, fused):
    model = made(name)
    model.blocks[-1].attn.fused_attn = fused
    pictures = vit._prepared(model, picture(190, 300), 320)
    expected = softmax_of_timm(model, pictures)
    found, keys = vit.look(model, pictures)
    rows, columns = vit._grid(model, pictures)
    prefix = expected.shape[-1] - rows * columns
    assert prefix == model.num_prefix_tokens
    assert found.shape == (3, rows * columns)
    assert keys.shape == (rows * columns, 24)
    torch.testing.assert_close(found, expected[:, 0, prefix:], rtol=1e-4, atol=1e-7)
    assert float(found.std()) > 1e-5
    assert not model.blocks[-1].attn._forward_pre_hooks
    assert not model.blocks[-1].attn.k_norm._forward_hooks


def test_keys_are_those_of_the_projection():
    model = made("v1")
    pictures = vit._prepared(model, picture(64, 80), 224)
    seen: list[torch.Tensor] = []
    model.blocks[-1].attn.qkv.register_forward_hook(lambda module, args, output: seen.append(output))
    _, keys = vit.look(model, pictures)
    torch.testing.assert_close(keys, seen[0][0, 1:, 24:48])


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((512, 768), 640, (432, 640)),
        ((768, 512), 640, (640, 432)),
        ((100, 50), 640, (224, 112)),
        ((300, 400), 640, (304, 400)),
        ((1, 1), 640, (224, 224)),
        ((1, 5000), 640, (16, 640)),
        ((900, 3), 320, (320, 16)),
    ],
)
def test_the_aspect_ratio_stays(size, side, expected):
    assert vit._prepared(made("v1"), picture(*size), side).shape == (1, 3, *expected)


def test_pictures_are_normalised_as_the_weights_expect():
    model, grey = made("v1"), np.full((3, 224, 224), 128 / 255, np.float32)
    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    found = vit._prepared(model, grey, 224)[0, :, 100, 100].numpy()
    assert found == pytest.approx((128 / 255 - means) / deviations, abs=1e-6)
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    assert vit._prepared(model, grey, 224)[0, :, 9, 9].numpy() == pytest.approx(np.full(3, 1 / 255), abs=1e-6)


@pytest.mark.parametrize("method", ["attention", "features"])
@pytest.mark.parametrize("name", ["v1", "v2 registers", "v3"])
def test_any_size_of_picture(name, method):
    predict = vit.predictor(made(name), method, side=256)
    for height, width in ((1, 1), (1, 90), (300, 2), (33, 47), (250, 300)):
        found = predict(picture(height, width))
        assert found.shape == (height, width)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1
        assert np.array_equal(found, predict(picture(height, width)))
    assert found.max() == 1


def test_attention_moves_with_the_picture():
    predict = vit.predictor(made("v3"), side=224)
    left, right = picture(224, 224), picture(224, 224, seed=2)
    assert not np.allclose(predict(left), predict(right), atol=0.01)


def graph_of(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    units = grid.reshape(-1, grid.shape[-1])
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    return np.where(units @ units.T > 0.2, 1.0, 1e-5)


def test_the_cut_is_the_second_eigenvector():
    rng = np.random.default_rng(8)
    keys = rng.normal(0, 1, (9, 11, 6))
    keys[2:6, 3:8] += 2 * rng.normal(0, 1, 6)
    edges = graph_of(keys)
    degrees = np.diag(edges.sum(axis=1))
    values, vectors = eigh(degrees - edges, degrees)
    assert values[0] == pytest.approx(0, abs=1e-9)
    vector = vectors[:, 1] * np.sign(vectors[np.abs(vectors[:, 1]).argmax(), 1])
    expected = (vector - vector.min()) / np.ptp(vector)
    found = vit.cut(keys)
    assert np.abs(found.ravel() - expected).max() < 1e-5
    assert np.array_equal(found, vit.cut(keys))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_smaller_part_is_the_object(sign):
    keys = np.zeros((10, 14, 4))
    keys[..., 0] = sign
    keys[3:6, 4:9] = (0, sign, 0, 0)
    found = vit.cut(keys)
    inside = np.zeros((10, 14), bool)
    inside[3:6, 4:9] = True
    assert found[inside].min() > 0.99
    assert found[~inside].max() < 0.01


def test_fine_grids_are_averaged_first():
    keys = np.zeros((70, 81, 2))
    keys[..., 0] = 1
    keys[20:40, 20:40] = (0, 1)
    found = vit.cut(keys)
    assert found.shape == (35, 41)
    assert found[12:18, 12:18].min() > 0.99
    assert found[25:, :].max() < 0.01


@pytest.mark.parametrize("keys", [np.ones((5, 6, 3)), np.ones((1, 1, 3)), np.zeros((1, 1, 3))])
def test_patches_that_are_all_alike_have_no_cut(keys):
    assert np.array_equal(vit.cut(keys), np.zeros(keys.shape[:2]))


# -- names and weights

NAME = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return vit.create(NAME)


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_224.dino", "vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"]
)
def test_the_three_families_are_made_and_look(name):
    before = torch.get_rng_state()
    model = vit.create(name)
    assert torch.equal(before, torch.get_rng_state())
    found = vit.predictor(model, side=224)(picture(70, 100))
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "expected the name of a model of timm such as vit_small_patch16_224.dino, found 'nothing'"),
        ("hf_hub:timm/resnet18", "expected the name of a model of timm"),
        ("vit_small_patch16_224.nothing", "expected a vision transformer of timm with a tag it knows"),
        ("convnext_tiny.dinov3_lvd1689m", "expected a vision transformer of timm"),
        ("vit_tiny_r_s16_p8_224", "expected a vision transformer with a class token, found VisionTransformer"),
        ("vit_pwee_patch16_reg1_gap_256", "expected a vision transformer with a class token"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        vit.create(name)


def test_wrong_options(tiny):
    with pytest.raises(ConfigError, match="vit method: expected one of attention, features, found 'colour'"):
        vit.predictor(tiny, "colour")  # type: ignore[arg-type]
    for side in (223, 5000):
        with pytest.raises(ConfigError, match=f"vit side: expected 224 to 4096 pixels, found {side}"):
            vit.predictor(tiny, side=side)
    with pytest.raises(ConfigError, match="expected a vision transformer with a class token, found Linear"):
        vit.predictor(nn.Linear(2, 2))
    # before the weights are looked for
    with pytest.raises(ConfigError, match="vit method: expected"):
        vit.load(method="colour")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_of_a_file(tiny, tmp_path, ending, wrapped):
    path = tmp_path / f"weights.{ending}"
    state = {f"module.{name}" if wrapped else name: value for name, value in tiny.state_dict().items()}
    if ending == "safetensors":
        safetensors.save_file(state, path)
    else:
        torch.save({"state_dict": state} if wrapped else state, path)
    rgb = picture(60, 90)
    found = vit.load(NAME, weights=path, side=224)(rgb)
    assert np.array_equal(found, vit.predictor(tiny, side=224)(rgb))


def test_positions_learned_on_another_grid_are_resampled(tiny, tmp_path):
    state = dict(tiny.state_dict())
    state["pos_embed"] = torch.randn(1, 1 + 24 * 24, 192, generator=torch.Generator().manual_seed(1))
    torch.save(state, tmp_path / "finer.pth")
    assert np.isfinite(vit.load(NAME, weights=tmp_path / "finer.pth", side=224)(picture(30, 50))).all()


def test_names_of_the_authors_are_understood(tmp_path):
    """DINOv2's files: registers and the token of masks under other names, positions with one for the class token."""
    name = "vit_small_patch14_reg4_dinov2.lvd142m"
    model = vit.create(name)
    state = dict(model.state_dict())
    state["register_tokens"], state["mask_token"] = state.pop("reg_token"), torch.zeros(1, 384)
    state["cls_token"] = torch.full_like(state["cls_token"], 0.25)
    state["pos_embed"] = torch.cat([torch.full((1, 1, 384), 0.5), state["pos_embed"]], dim=1)
    torch.save(state, tmp_path / "dinov2.pth")
    loaded = vit.create(name)
    path = tmp_path / "dinov2.pth"
    vit.fill(loaded, vit._renamed(vit.load_state_dict(path), loaded, path), str(path))
    assert torch.equal(loaded.reg_token, state["register_tokens"])
    # timm keeps the class token's position inside the token
    assert torch.allclose(loaded.cls_token, torch.full((1, 1, 384), 0.75))


def test_weights_of_another_network_say_which_tensors(tiny, tmp_path):
    state = dict(tiny.state_dict())
    del state["blocks.3.attn.qkv.bias"], state["norm.weight"]
    torch.save(state, tmp_path / "less.pth")
    message = r"less\.pth: expected 150 tensors by name, 2 missing: blocks\.3\.attn\.qkv\.bias, norm\.weight$"
    with pytest.raises(WeightsError, match=message):
        vit.load(NAME, weights=tmp_path / "less.pth")
    other = dict(tiny.state_dict()) | {"blocks.0.mlp.fc1.bias": torch.zeros(5)}
    torch.save(other, tmp_path / "other.pth")
    message = r"other\.pth: .* 1 differ: blocks\.0\.mlp\.fc1\.bias \[5\] in place of \[768\]$"
    with pytest.raises(WeightsError, match=message):
        vit.load(NAME, weights=tmp_path / "other.pth")
    torch.save({"pos_embed": torch.zeros(3), "patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth: expected "):
        vit.load(NAME, weights=tmp_path / "odd.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(WeightsError, match=r"broken\.safetensors: "):
        vit.load(NAME, weights=tmp_path / "broken.safetensors")


def test_a_pickle_that_wants_to_run_is_refused(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"cls_token": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match=r"trap\.pth: "):
        vit.load(NAME, weights=tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_weights_of_the_folder(tmp_path, monkeypatch):
    # the hub's own cache may well have them
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names, **options: None)
    with pytest.raises(WeightsError, match=r"imagegs weights fetch vit_small_patch16_224\.dino"):
        vit.load(folder=tmp_path)
    model = vit.create(vit.DEFAULT)
    (tmp_path / vit.DEFAULT).mkdir()
    safetensors.save_file(model.state_dict(), tmp_path / vit.DEFAULT / "model.safetensors")
    rgb = picture(40, 60)
    assert np.array_equal(vit.load(folder=tmp_path, side=224)(rgb), vit.predictor(model, side=224)(rgb))


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DeviceError, match=r"expected timm, which is not installed; pip install 'imagegs\[saliency\]'"):
        vit.load()
