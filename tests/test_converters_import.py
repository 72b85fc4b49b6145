"""Checkpoints as Image-GS and GaussianImage write them, against the formulas that these projects publish."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagegs.converters import convert
from imagegs.decoding import decode, read_gsimg
from imagegs.errors import ConfigError, ImageError, ImageGSError
from imagegs.image import PictureInfo
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

WIDTH, HEIGHT = 40, 32
SIZE = (WIDTH, HEIGHT)


def random_state(names_to_shapes: dict[str, tuple[float, float, tuple[int, ...]]], seed: int = 0) -> dict[str, Any]:
    """Uniform float32 tensors, from (low, high, shape) each."""
    random = np.random.default_rng(seed)
    return OrderedDict(
        (name, torch.tensor(random.uniform(low, high, shape), dtype=torch.float32))
        for name, (low, high, shape) in names_to_shapes.items()
    )


def image_gs(n: int = 60, channels: int = 3, inverse: bool = True) -> dict[str, Any]:
    """What ``torch.save`` gets from Image-GS, with Gaussians of 2 to 8 pixels."""
    scale = (1 / 8, 1 / 2, (n, 2)) if inverse else (2.0, 8.0, (n, 2))
    state = random_state(
        {
            "xy": (0.0, 1.0, (n, 2)),
            "scale": scale,
            "rot": (-4.0, 4.0, (n, 1)),
            "feat": (0.0, 1.0, (n, channels)),
            "vis_feat": (0.0, 1.0, (n, channels)),
        }
    )
    parameters = [torch.nn.Parameter(state[name].clone()) for name in ("xy", "scale", "rot", "feat")]
    optimizer = torch.optim.Adam([{"params": p, "lr": 0.1} for p in parameters])
    sum(p.sum() for p in parameters).backward()
    optimizer.step()
    return {
        "step": 5000,
        "psnr": 33.3,
        "ssim": 0.9,
        "lpips": 0.1,
        "flip": 0.1,
        "msssim": 0.9,
        "bytes": 960.0,
        "time": 12.5,
        "state_dict": state,
        "optim_state_dict": optimizer.state_dict(),
    }


def gaussian_image(model: str, n: int = 60, seed: int = 0) -> dict[str, Any]:
    """What ``torch.save`` gets from either model of GaussianImage."""
    shape = (
        {"_cholesky": (1.0, 5.0, (n, 3))}
        if model == "cholesky"
        else {"_scaling": (1.0, 6.0, (n, 2)), "_rotation": (-3.0, 3.0, (n, 1))}
    )
    state = random_state({"_xyz": (-2.0, 2.0, (n, 2)), "_features_dc": (-0.1, 0.3, (n, 3)), **shape}, seed)
    state["_opacity"] = torch.ones(n, 1)
    state["bound"] = torch.full((1, 2), 0.5)
    if model == "cholesky":
        state["background"] = torch.ones(3)
        state["cholesky_bound"] = torch.tensor([[0.5, 0.0, 0.5]])
    return state


def quantized(state: dict[str, Any], model: str) -> dict[str, Any]:
    """The same with the quantisers of the second run."""
    pairs = {"cholesky": {"cholesky": (3, 0.08)}, "rs": {"scaling": (2, 0.09), "rotation": (1, 0.1)}}[model]
    for name, (k, scale) in pairs.items():
        state[f"{name}_quantizer.scale"] = torch.full((k,), scale) * torch.arange(1, k + 1) ** 0.1
        state[f"{name}_quantizer.beta"] = torch.full((k,), 0.3)
    random = np.random.default_rng(5)
    for stage, reach in enumerate((0.3, 0.05)):
        words = random.uniform(-reach, reach, (1, 8, 3))
        state[f"features_dc_quantizer.quantizer.layers.{stage}._codebook.embed"] = torch.tensor(words).float()
        state[f"features_dc_quantizer.quantizer.layers.{stage}._codebook.initted"] = torch.tensor([True])
    return state


def quadratic(centers: np.ndarray, covariances: np.ndarray, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """dᵀ Σ⁻¹ d [H W, N] at pixels that lie at integers, as both projects have it."""
    rows, columns = np.mgrid[0:height, 0:width]
    d = np.stack([columns.ravel(), rows.ravel()], axis=1)[:, None] - centers
    return np.einsum("pni,nij,pnj->pn", d, np.linalg.inv(covariances), d)


def turned(scales: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """R S² Rᵀ with the R of both projects' kernels, whose first axis is (cos, -sin)."""
    c, s = np.cos(angles), np.sin(angles)
    rotation = np.stack([np.stack([c, s], axis=1), np.stack([-s, c], axis=1)], axis=1)
    return rotation @ (scales[:, :, None] ** 2 * np.swapaxes(rotation, 1, 2))


def image_gs_picture(checkpoint: dict[str, Any], *, inverse: bool = True, top_k: int | None = 10) -> np.ndarray:
    """The picture [C, H, W] of a checkpoint by the formula of Image-GS."""
    xy, scale, rot, feat = (checkpoint["state_dict"][k].double().numpy() for k in ("xy", "scale", "rot", "feat"))
    sigma = 1 / scale if inverse else scale
    weights = np.exp(-0.5 * quadratic(xy * SIZE, turned(sigma, rot[:, 0])))
    if top_k is None:
        return (weights @ feat).T.reshape(-1, HEIGHT, WIDTH)
    smallest = np.sort(weights, axis=1)[:, -top_k][:, None]
    weights = np.where(weights >= smallest, weights, 0)
    return ((weights @ feat) / (weights.sum(axis=1, keepdims=True) + 1e-4)).T.reshape(-1, HEIGHT, WIDTH)


def gaussian_image_picture(state: dict[str, Any], model: str) -> np.ndarray:
    """The picture [3, H, W] of a checkpoint by the formula of GaussianImage, its second run's if it has quantisers."""
    arrays = {name: tensor.double().numpy() for name, tensor in state.items()}

    def codes(name: str, values: np.ndarray) -> np.ndarray:
        if f"{name}_quantizer.scale" not in arrays:
            return values
        scale, beta = arrays[f"{name}_quantizer.scale"], arrays[f"{name}_quantizer.beta"]
        return np.round(((values - beta) / scale).clip(0, 63)) * scale + beta

    xyz, colors = arrays["_xyz"], arrays["_features_dc"]
    if any("embed" in name for name in arrays):
        xyz = xyz.astype(np.float16).astype(float)
        left = colors.copy()
        for stage in range(2):
            words = arrays[f"features_dc_quantizer.quantizer.layers.{stage}._codebook.embed"][0]
            for row in left:
                row -= words[np.argmin([np.sum((row - word) ** 2) for word in words])]
        colors = colors - left
    if model == "cholesky":
        l1, l2, l3 = (codes("cholesky", arrays["_cholesky"]) + np.array([0.5, 0, 0.5])).T
        lower = np.stack([np.stack([l1, 0 * l1], 1), np.stack([l2, l3], 1)], 1)
        covariances = lower @ np.swapaxes(lower, 1, 2)
    else:
        angles = codes("rotation", 2 * np.pi / (1 + np.exp(-arrays["_rotation"])))
        covariances = turned(np.abs(codes("scaling", arrays["_scaling"]) + 0.5), angles[:, 0])
    centers = 0.5 * np.array(SIZE) * np.tanh(xyz) + 0.5 * np.array(SIZE)
    weights = np.exp(-0.5 * quadratic(centers, covariances))
    return (np.where(weights < 1 / 255, 0, weights) @ colors).T.reshape(3, HEIGHT, WIDTH)


def decibels(picture: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((picture.clip(0, 1) - other.clip(0, 1)) ** 2)))


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def refusal(source: Path, output: Path, expected: type[Exception] = ImageError, **options: Any) -> str:
    """The one line with which a conversion is refused; nothing is written."""
    with pytest.raises(expected) as caught:
        convert(source, output, **({"size": SIZE} | options))
    assert not output.exists()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(source) in message or str(output) in message or "expected none" in message
    return message


# --- Image-GS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inverse", [True, False])
def test_an_image_gs_checkpoint_draws_as_its_formula_says(tmp_path, inverse):
    checkpoint = image_gs(inverse=inverse)
    options = {} if inverse else {"scales": "plain"}
    done = convert(saved(tmp_path / "ckpt.pt", checkpoint), tmp_path / "a.gsimg", size=SIZE, **options)
    assert (done.gaussians, done.written, done.width, done.height, done.channels) == (60, 60, WIDTH, HEIGHT, 3)
    picture = decode(tmp_path / "a.gsimg")
    assert picture.info == PictureInfo.of_channels(3)
    gaussians = read_gsimg(tmp_path / "a.gsimg").gaussians
    assert (gaussians.blend, gaussians.top_k) == ("topk", 10)
    assert not gaussians.background.any()
    assert decibels(picture.pixels, image_gs_picture(checkpoint, inverse=inverse)) > 42


def test_what_the_conversion_takes_account_of_shows(tmp_path):
    """Another sign of the rotation, no half pixel or swapped axes in the formula: the picture is far from it."""
    checkpoint = image_gs()
    convert(saved(tmp_path / "ckpt.pt", checkpoint), tmp_path / "a.gsimg", size=SIZE)
    picture = decode(tmp_path / "a.gsimg").pixels
    state = checkpoint["state_dict"]
    rot, xy = state["rot"].clone(), state["xy"].clone()
    state["rot"] = -rot
    assert decibels(picture, image_gs_picture(checkpoint)) < 30
    state["rot"] = rot
    state["xy"] = xy + 0.5 / torch.tensor([WIDTH, HEIGHT])
    assert decibels(picture, image_gs_picture(checkpoint)) < 36
    state["xy"] = xy.flip(1)
    assert decibels(picture, image_gs_picture(checkpoint)) < 25


def test_an_image_gs_run_without_top_k_is_a_sum(tmp_path):
    checkpoint = image_gs()
    checkpoint["state_dict"]["feat"] *= 0.1
    convert(saved(tmp_path / "ckpt.pt", checkpoint), tmp_path / "a.gsimg", size=SIZE, blend="sum")
    assert read_gsimg(tmp_path / "a.gsimg").gaussians.blend == "sum"
    assert decibels(decode(tmp_path / "a.gsimg").pixels, image_gs_picture(checkpoint, top_k=None)) > 50


@pytest.mark.parametrize(
    ("channels", "modes"), [(1, ["L"]), (3, ["RGB"]), (2, ["L", "L"]), (4, ["L"] * 4), (9, ["L"] * 9)]
)
def test_image_gs_stacks_have_no_transparency(tmp_path, channels, modes):
    checkpoint = image_gs(channels=channels)
    convert(saved(tmp_path / "ckpt.pt", checkpoint), tmp_path / "a.gsimg", size=SIZE)
    picture = decode(tmp_path / "a.gsimg")
    assert [plane.mode for plane in picture.info.planes] == modes
    assert decibels(picture.pixels, image_gs_picture(checkpoint)) > 42


def test_gaussians_that_image_gs_does_not_draw_are_left_out(tmp_path):
    checkpoint = image_gs()
    state = checkpoint["state_dict"]
    state["scale"][3, 0], state["scale"][8] = 0.0, -state["scale"][8]
    state["xy"][5, 1], state["feat"][6, 0], state["xy"][7] = float("nan"), float("inf"), 1e6
    done = convert(saved(tmp_path / "ckpt.pt", checkpoint), tmp_path / "a.gsimg", size=SIZE)
    assert done.written == 56
    assert done.notes == (f"{tmp_path / 'ckpt.pt'}: 4 Gaussians that draw nothing were left out",)
    keep = [row for row in range(60) if row not in {3, 5, 6, 7}]
    for name in ("xy", "scale", "rot", "feat"):
        state[name] = state[name][keep]
    assert decibels(decode(tmp_path / "a.gsimg").pixels, image_gs_picture(checkpoint)) > 42
    state["scale"][:] = 0
    assert "that draw something" in refusal(saved(tmp_path / "b.pt", checkpoint), tmp_path / "b.gsimg")


# --- GaussianImage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["cholesky", "rs"])
@pytest.mark.parametrize("ending", [".pth.tar", ".pth"])
def test_a_gaussian_image_checkpoint_draws_as_its_formula_says(tmp_path, model, ending):
    state = gaussian_image(model)
    source = saved(tmp_path / f"gaussian_model{ending}", state)
    convert(source, tmp_path / "a.gsimg", size=SIZE)
    gaussians = read_gsimg(tmp_path / "a.gsimg").gaussians
    assert gaussians.blend == "sum"
    picture, formula = decode(tmp_path / "a.gsimg").pixels, gaussian_image_picture(state, model)
    assert decibels(picture, formula) > 52
    assert 0.1 < formula.clip(0, 1).std()  # it is not flat, so that agreement means something
    shifted = gaussian_image(model)
    shifted["_xyz"] = torch.atanh(torch.tanh(shifted["_xyz"]) + 1 / torch.tensor([WIDTH, HEIGHT])).nan_to_num(9)
    assert decibels(picture, gaussian_image_picture(shifted, model)) < 40


@pytest.mark.parametrize("model", ["cholesky", "rs"])
def test_a_quantised_gaussian_image_checkpoint_means_its_codes(tmp_path, model):
    state = quantized(gaussian_image(model), model)
    convert(saved(tmp_path / "gaussian_model.best.pth.tar", state), tmp_path / "a.gsimg", size=SIZE)
    picture = decode(tmp_path / "a.gsimg").pixels
    assert decibels(picture, gaussian_image_picture(state, model)) > 50
    assert decibels(picture, gaussian_image_picture(gaussian_image(model), model)) < 40


def test_a_thin_covariance_keeps_its_smaller_scale(tmp_path):
    state = gaussian_image("cholesky", n=2)
    state["_cholesky"] = torch.tensor([[300.0, 200.0, -0.4], [-0.5, 0.0, 3.0]])
    done = convert(saved(tmp_path / "a.pth", state), tmp_path / "a.npz", size=SIZE)
    assert done.written == 1  # the second has no width
    with np.load(tmp_path / "a.npz") as file:
        scales = np.sort(file["scales"][0]) / 1.00590662
    l1, l2, l3 = 300.5, 200.0, 0.1
    singular = np.linalg.svd(np.array([[l1, 0], [l2, l3]]), compute_uv=False)
    np.testing.assert_allclose(scales, singular[::-1], rtol=1e-5)


def test_opacities_are_part_of_the_colours(tmp_path):
    state = gaussian_image("rs")
    state["_opacity"] = torch.rand(60, 1)
    convert(saved(tmp_path / "a.pth", state), tmp_path / "a.npz", size=SIZE)
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_allclose(file["colors"], (state["_opacity"] * state["_features_dc"]).numpy(), rtol=1e-6)
    state["_opacity"][0] = 1.5
    assert "_opacity: expected numbers in [0, 1]" in refusal(saved(tmp_path / "b.pth", state), tmp_path / "b.npz")


# --- the size of the picture -----------------------------------------------------------------------------------------


def test_the_size_must_be_given_where_the_checkpoint_does_not_say_it(tmp_path):
    source = saved(tmp_path / "ckpt.pt", image_gs())
    assert refusal(source, tmp_path / "a.gsimg", ConfigError, size=None) == (
        f"{source}: expected the size of its picture, which the checkpoint does not say; add --size WxH"
    )
    for size in ((0, 5), (5, -1), (1 << 21, 1)):
        assert "expected sides from 1 to 1,048,576" in refusal(source, tmp_path / "a.gsimg", ConfigError, size=size)
    assert "expected up to 99 pixels" in refusal(source, tmp_path / "a.gsimg", ConfigError, max_pixels=99)


def test_a_size_in_the_checkpoint_is_used(tmp_path):
    source = saved(tmp_path / "ckpt.pt", image_gs() | {"img_w": WIDTH, "img_h": HEIGHT})
    assert convert(source, tmp_path / "a.gsimg").height == HEIGHT
    assert convert(source, tmp_path / "a.gsimg", size=SIZE).height == HEIGHT
    message = refusal(source, tmp_path / "b.gsimg", ConfigError, size=(HEIGHT, WIDTH))
    assert "expected its own size, 40 x 32, found 32 x 40" in message


# --- files that are none ---------------------------------------------------------------------------------------------


class Harm:
    """An object whose pickle runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    harmed = tmp_path / "harmed"
    sources = [
        saved(tmp_path / "a.pt", {"state_dict": Harm(harmed)}),
        saved(tmp_path / "b.pt", image_gs() | {"extra": Harm(harmed)}),
        saved(tmp_path / "c.pth.tar", Harm(harmed)),
    ]
    for source in sources:
        assert refusal(source, tmp_path / "a.gsimg") == (
            f"{source}: expected tensors and plain values alone, found other objects, which could run code; not loaded"
        )
    (tmp_path / "d.pt").write_bytes(pickle.dumps(Harm(harmed)))
    torch.save(Harm(harmed), tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    for name in ("d.pt", "e.pt"):
        assert "expected a checkpoint of torch 1.6 or newer" in refusal(tmp_path / name, tmp_path / "a.gsimg")
    assert not harmed.exists()
    torch.load(sources[0], weights_only=False)  # the harm is real
    assert harmed.exists()


def test_a_small_file_asks_for_little_memory(tmp_path):
    wide = image_gs()
    wide["state_dict"]["xy"] = torch.zeros(1, 2).expand(1 << 40, 2)
    assert "expected no more numbers than the file holds" in refusal(saved(tmp_path / "a.pt", wide), tmp_path / "a.npz")
    source, packed = saved(tmp_path / "b.pt", image_gs()), tmp_path / "c.pt"
    with zipfile.ZipFile(source) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in plain.infolist():
            archive.writestr(member.filename, plain.read(member))
    assert "found a compressed archive" in refusal(packed, tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xy": None}, "expected the tensors xy scale rot feat"),
        ({"xy": torch.rand(60, 3)}, "xy: expected N x 2, found 60 x 3"),
        ({"scale": torch.rand(59, 2)}, "scale: expected 60 x 2, found 59 x 2"),
        ({"rot": torch.rand(60)}, "rot: expected 60 x 1, found 60"),
        ({"rot": torch.tensor(1.0)}, "rot: expected 60 x 1, found a number"),
        ({"feat": torch.rand(60, 33)}, "expected 1 to 32 channels, found 33"),
        ({"feat": torch.ones(60, 3, dtype=torch.int64)}, "feat: expected floating-point numbers, found torch.int64"),
        ({"feat": torch.ones(60, 3, dtype=torch.complex64)}, "expected floating-point numbers"),
        ({"feat": torch.rand(60, 3).to_sparse()}, "expected floating-point numbers"),
        ({"feat": torch.rand(60, 3, device="meta")}, "expected"),
        ({k: torch.zeros(0, n) for k, n in (("xy", 2), ("scale", 2), ("rot", 1), ("feat", 3))}, "expected Gaussians"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, changes, message):
    checkpoint = image_gs()
    checkpoint["state_dict"] |= changes
    assert message in refusal(saved(tmp_path / "a.pt", checkpoint), tmp_path / "a.gsimg")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "expected a dictionary of tensors, found list"),
        ({"state_dict": 5}, "state_dict: expected a dictionary of tensors, found int"),
        ({}, "found none"),
        ({"a\nb": torch.ones(1)} | {f"w{i}": torch.ones(1) for i in range(9)}, r"found a\nb, w0, w1, w2, w3, w4, ..."),
        ({"_xyz": torch.zeros(0, 2), "_features_dc": torch.zeros(0, 3)}, "expected Gaussians, found none"),
        ({"_xyz": torch.zeros(5, 2), "_features_dc": torch.zeros(5, 3)}, "expected a tensor '_scaling'"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, value, message):
    assert message in refusal(saved(tmp_path / "a.pth", value), tmp_path / "a.gsimg")


def test_large_codebooks_are_refused(tmp_path):
    state = quantized(gaussian_image("rs"), "rs")
    state["features_dc_quantizer.quantizer.layers.0._codebook.embed"] = torch.rand(1, 257, 3)
    assert "expected 1 to 256 code words, found 257" in refusal(saved(tmp_path / "a.pth", state), tmp_path / "a.npz")


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "folder.pt").mkdir()
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    for name, message in (
        ("missing.pt", "cannot be read: no such file or directory"),
        ("empty.pt", "expected a checkpoint of torch 1.6 or newer"),
        ("text.pt", "expected a checkpoint of torch 1.6 or newer"),
        ("folder.pt", "expected a file, found a folder"),
        ("zip.pt", "expected a checkpoint, found a damaged one"),
    ):
        assert message in refusal(tmp_path / name, tmp_path / "a.gsimg")


def test_damage_leaks_no_other_error(tmp_path):
    buffer = io.BytesIO()
    torch.save(image_gs(n=5), buffer)
    data = buffer.getvalue()
    random = np.random.default_rng(0)
    for trial in range(60):
        broken = bytearray(data)
        if trial < 20:
            broken = broken[: random.integers(len(data))]
        else:
            for at in random.integers(0, len(data), 8):
                broken[at] ^= 1 << random.integers(8)
        (tmp_path / "a.pt").write_bytes(broken)
        with suppress(ImageGSError):
            convert(tmp_path / "a.pt", tmp_path / "a.npz", size=SIZE)


def test_torch_is_loaded_for_checkpoints_alone(tmp_path, small_gaussians):
    import imagegs

    imagegs.save(tmp_path / "a.gsimg", small_gaussians)
    script = (
        "import sys\nfrom imagegs.converters import convert\n"
        "convert(sys.argv[1], sys.argv[1] + '.npz')\nconvert(sys.argv[1] + '.npz', sys.argv[1] + '.new.gsimg')\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.gsimg")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
