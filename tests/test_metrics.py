import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegs import metrics
from imagegs.errors import DeviceError, ShapeError
from imagegs.image import Picture, PictureInfo, Plane, as_picture, read_image
from imagegs.metrics import Missing, compare, flip, lpips, ms_ssim, psnr, psnr_per_channel, ssim

SHARED = Path(__file__).parents[2] / "shared"
WEIGHTS = SHARED / "weights"

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "lpips_squeeze_v0.1.npz").is_file(), reason="the folder ../shared with the weights is absent"
)


@pytest.fixture
def needs_lpips():
    pytest.importorskip("lpips", reason="the optional package lpips is not installed")
    pytest.importorskip("torchvision", reason="the optional package torchvision is not installed")
    import torch

    # on small pictures threads wait for each other far longer than they work when other processes are busy
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_models_kept():
    metrics._lpips_model.cache_clear()
    yield
    metrics._lpips_model.cache_clear()


def picture(channels: int, height: int = 40, width: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width] / 9.0
    planes = [0.5 + 0.4 * np.sin(rows * (1 + c / 3) + columns + c) for c in range(channels)]
    return np.stack(planes).astype(np.float32)


def noisy(values: np.ndarray, sigma: float = 0.1) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, values.shape)
    return np.clip(values + noise, 0, 1).astype(np.float32)


def test_psnr_is_what_its_formula_says():
    a = np.zeros((2, 4, 5), np.float32)
    b = a.copy()
    b[0] += 0.1
    assert psnr_per_channel(a, b) == (pytest.approx(20, abs=1e-5), math.inf)
    assert psnr(a, b) == pytest.approx(20 + 10 * math.log10(2), abs=1e-5)
    assert psnr(a, a) == math.inf
    assert psnr(a, b + 1) < 0  # not cut


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_ssim_agrees_with_another_implementation(channels):
    measure = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed").structural_similarity
    a, b = picture(channels), noisy(picture(channels))
    expected = measure(
        a.astype(float), b.astype(float), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a) == 1
    assert ssim(a + 5, a + 7) == 1  # cut to [0, 1]


def test_ssim_agrees_with_pytorch_msssim():
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("pytorch_msssim", reason="the optional package pytorch-msssim is not installed")
    a, b = picture(3), noisy(picture(3))
    x, y = (torch.from_numpy(values.astype(float))[None] for values in (a, b))
    assert ssim(a, b) == pytest.approx(float(package.ssim(x, y, data_range=1.0)), abs=1e-5)


def test_ms_ssim_falls_with_noise_and_is_one_for_equals():
    pytest.importorskip("pytorch_msssim", reason="the optional package pytorch-msssim is not installed")
    a = picture(2, 161, 170)
    assert ms_ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert 0.3 < ms_ssim(a, noisy(a, 0.3)) < ms_ssim(a, noisy(a, 0.05)) < 1
    with pytest.raises(ShapeError, match="MS-SSIM: expected sides of at least 161 pixels, found 170 x 160 pixels"):
        ms_ssim(a[:, :160], a[:, :160])


def test_flip_is_zero_for_equals_and_rises():
    pytest.importorskip("flip_evaluator", reason="the optional package flip-evaluator is not installed")
    a = picture(3)
    assert flip(a, a) == 0
    assert 0 < flip(a, noisy(a, 0.03)) < flip(a, noisy(a, 0.2)) < 1
    black, white = np.zeros((1, 32, 32), np.float32), np.ones((1, 32, 32), np.float32)
    assert flip(black, white) == pytest.approx(flip(np.repeat(black, 3, 0), np.repeat(white, 3, 0)))
    assert flip(black, white) > 0.9
    assert flip(black - 3, white + 3) == flip(black, white)


@needs_weights
@pytest.mark.usefixtures("needs_lpips")
def test_lpips_gives_the_documented_values():
    kodak = SHARED / "data" / "kodak"
    if not (kodak / "kodim05.png").is_file():
        pytest.skip("the Kodak pictures are absent")
    third, fifth = (read_image(kodak / f"kodim{number}.png").pixels for number in ("03", "05"))
    steps = (np.rint(third * 255) // 32 * 32 + 16).astype(np.float32) / np.float32(255)
    options = {"net": "squeeze", "weights_dir": WEIGHTS}
    assert lpips(third, steps, **options) == pytest.approx(0.2450, abs=1e-4)
    assert lpips(fifth, fifth[:, :, ::-1], **options) == pytest.approx(0.4590, abs=1e-4)
    assert lpips(third, fifth, **options) == pytest.approx(0.6417, abs=1e-4)


@needs_weights
@pytest.mark.usefixtures("needs_lpips")
def test_lpips_gives_the_value_torchmetrics_documents():
    import torch

    torch.manual_seed(123)
    a, b = (torch.rand(10, 3, 100, 100).numpy() for _ in range(2))
    found = [lpips(x, y, net="squeeze", weights_dir=WEIGHTS) for x, y in zip(a, b, strict=True)]
    assert np.mean(found) == pytest.approx(0.1008, abs=5e-5)


@needs_weights
@pytest.mark.usefixtures("needs_lpips")
def test_lpips_repeats_grey_and_leaves_the_random_numbers_of_torch_alone():
    import torch

    grey = picture(1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    value = lpips(grey, noisy(grey), net="squeeze", weights_dir=WEIGHTS)
    assert torch.equal(before, torch.get_rng_state())
    color = [np.repeat(values, 3, axis=0) for values in (grey, noisy(grey))]
    assert value == lpips(*color, net="squeeze", weights_dir=str(WEIGHTS)) > 0.01
    assert lpips(grey, grey, net="squeeze", weights_dir=WEIGHTS) == 0


@needs_weights
@pytest.mark.usefixtures("needs_lpips")
def test_lpips_takes_torchvision_files(tmp_path):
    import torch

    with np.load(WEIGHTS / "lpips_squeeze_v0.1.npz") as arrays:
        state = {
            name.replace("net.", "features.", 1): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("net.")
        }
    torch.save(state, tmp_path / "squeezenet1_1-b8a52dc0.pth")
    a, b = picture(3), noisy(picture(3))
    expected = lpips(a, b, net="squeeze", weights_dir=WEIGHTS)
    assert lpips(a, b, net="squeeze", weights_dir=tmp_path) == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("needs_lpips")
def test_weights_that_cannot_be_used_are_named(tmp_path, monkeypatch):
    import torch

    a = picture(3)
    with pytest.raises(
        DeviceError, match=r"expected lpips_alex_v0\.1\.npz or alexnet\*\.pth in .*absent, found neither"
    ):
        lpips(a, a, net="alex", weights_dir=tmp_path / "absent")

    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"features.0.weight": Trap()}, tmp_path / "alexnet-0.pth")
    with pytest.raises(DeviceError, match=r"alexnet-0\.pth: expected a file of weights"):
        lpips(a, a, net="alex", weights_dir=tmp_path)
    np.savez(tmp_path / "lpips_vgg_v0.1.npz", lin0=np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DeviceError, match=r"lpips_vgg_v0\.1\.npz: expected NumPy arrays without pickles"):
        lpips(a, a, net="vgg", weights_dir=tmp_path)
    assert not (tmp_path / "sprung").exists()
    np.savez(tmp_path / "lpips_squeeze_v0.1.npz", **{"net.0.weight": np.zeros((64, 3, 3, 2), np.float32)})
    with pytest.raises(DeviceError, match=r"0\.weight: expected weights \[64, 3, 3, 3\], found \[64, 3, 3, 2\]"):
        lpips(a, a, net="squeeze", weights_dir=tmp_path)

    def offline(url: str, **options: object) -> None:
        assert options["weights_only"] is options["check_hash"] is True
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(DeviceError, match=r"cannot be downloaded from https://.*alexnet.*: no route to host$"):
        lpips(a, a, net="alex")
    found = compare(as_picture(a), as_picture(a), lpips_net="alex", flip=False).planes[0].lpips
    assert isinstance(found, Missing)
    assert found.reason.startswith("LPIPS: its weights cannot be downloaded")


def test_absent_packages_are_named_and_stop_nothing(monkeypatch):
    for name in ("lpips", "pytorch_msssim", "flip_evaluator"):
        monkeypatch.setitem(sys.modules, name, None)
    a = as_picture(picture(3, 161, 161))
    found = compare(a, a, lpips_net="squeeze", weights_dir=WEIGHTS)
    row = found.planes[0]
    assert row.ssim == 1
    for score, package in ((row.ms_ssim, "pytorch-msssim"), (row.lpips, "lpips"), (row.flip, "flip-evaluator")):
        assert isinstance(score, Missing)
        assert package in score.reason
        assert score.reason.endswith("pip install 'imagegs[metrics]'")
    unavailable = found.to_dict()["planes"][0]["unavailable"]
    assert sorted(unavailable) == ["flip", "lpips", "ms_ssim"]


def test_psnr_and_ssim_do_not_load_torch():
    code = (
        "import sys, numpy as np; from imagegs import metrics; from imagegs.image import as_picture\n"
        "a = np.zeros((3, 20, 20), np.float32); metrics.psnr(a, a); metrics.ssim(a, a)\n"
        "metrics.compare(as_picture(a), as_picture(a)); assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(metrics.__file__).parents[1])


def test_comparing_colours():
    a = picture(3)
    b = noisy(a)
    found = compare(as_picture(a), as_picture(b), flip=False)
    row = found.planes[0]
    assert (found.width, found.height, found.psnr) == (48, 40, psnr(a, b))
    assert row.channels == dict(zip("RGB", psnr_per_channel(a, b), strict=True))
    assert (row.psnr, row.psnr_composited, row.ssim) == (psnr(a, b), None, ssim(a, b))
    assert row.ms_ssim == Missing("MS-SSIM: expected sides of at least 161 pixels, found 48 x 40 pixels")
    assert row.lpips is row.flip is None
    assert found.notes == ()


def test_comparing_transparency():
    a = picture(4)
    a[3] = 0.25
    b = a.copy()
    b[0] += 0.08
    b[3, :, 20:] = 0.5
    row = compare(as_picture(a), as_picture(b), flip=False).planes[0]
    assert list(row.channels) == ["R", "G", "B", "A"]
    assert row.channels["A"] == psnr(a[3:], b[3:])
    assert row.channels["G"] == math.inf
    assert row.psnr == psnr(a[:3], b[:3])
    errors, similar = [], []
    for ground in (0, 1):
        x, y = (v[:3] * v[3:] + ground * (1 - v[3:]) for v in (a, b))
        errors.append(np.mean((x.astype(float) - y) ** 2))
        similar.append(ssim(x, y))
    assert row.psnr_composited == pytest.approx(-10 * math.log10(np.mean(errors)), abs=1e-4)
    assert row.ssim == pytest.approx(np.mean(similar), abs=1e-6)
    hidden = a.copy()
    hidden[3] = 0
    other = hidden.copy()
    other[:3] = 0
    row = compare(as_picture(hidden), as_picture(other), flip=False).planes[0]
    assert row.psnr < 20
    assert (row.psnr_composited, row.ssim) == (math.inf, 1)


def test_unlike_pictures_are_brought_together():
    grey = picture(1)
    color = np.repeat(grey, 3, axis=0)
    found = compare(as_picture(grey), as_picture(color), flip=False)
    assert found.psnr == math.inf
    assert list(found.planes[0].channels) == ["R", "G", "B"]
    assert found.notes == ("compared as RGB: the reference is L, the other RGB",)
    opaque = np.concatenate([color, np.ones_like(grey)])
    found = compare(as_picture(opaque), as_picture(color), flip=False)
    assert found.psnr == math.inf
    assert list(found.planes[0].channels) == ["R", "G", "B", "A"]
    half = np.concatenate([grey, np.full_like(grey, 0.5)])
    found = compare(as_picture(color), as_picture(half), flip=False)
    assert found.planes[0].channels == {"R": math.inf, "G": math.inf, "B": math.inf, "A": pytest.approx(6.0206)}


def test_stacks_are_compared_plane_by_plane(tmp_path):
    info = PictureInfo((Plane("a.png", "RGB", 8), Plane("b.png", "L", 16)), stack=True)
    a = picture(4)
    b = a.copy()
    b[3] += 0.1
    found = compare(Picture(a, info, "one"), Picture(b, info, "two"), flip=False)
    assert [row.name for row in found.planes] == ["a.png", "b.png"]
    assert [row.psnr for row in found.planes] == [math.inf, pytest.approx(20, abs=1e-4)]
    assert found.psnr == pytest.approx(20 + 10 * math.log10(4), abs=1e-4)
    assert (found.reference, found.test) == ("one", "two")
    with pytest.raises(ShapeError, match="expected the same planes, found 2 with 4 channels and 1 with 3 channels"):
        compare(Picture(a, info), as_picture(a[:3]))


def test_unlike_sizes_are_one_line(tmp_path):
    Image.new("RGB", (5, 6)).save(tmp_path / "a.png")
    Image.new("RGB", (5, 7)).save(tmp_path / "b.png")
    message = r"expected pictures of one size, found .*a\.png with 5 x 6 and .*b\.png with 5 x 7 pixels$"
    with pytest.raises(ShapeError, match=message):
        compare(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


def test_the_dictionary_is_plain_json():
    a = picture(4)
    found = compare(as_picture(a), as_picture(a), flip=False)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    row = plain["planes"][0]
    assert plain["psnr"] == row["psnr"] == row["channels"]["A"] == "inf"
    assert row["ssim"] == 1
    assert row["ms_ssim"] is None
    assert row["unavailable"]["ms_ssim"].startswith("MS-SSIM: expected sides")


def test_arrays_that_cannot_be_compared():
    a = picture(3)
    for measure in (psnr, psnr_per_channel, ssim, ms_ssim, lpips, flip):
        with pytest.raises(ShapeError, match=r"expected the reference's shape \[3, 40, 48\], found \[3, 40, 47\]"):
            measure(a, a[:, :, 1:])
        with pytest.raises(ShapeError, match=r"expected floats \[C, H, W\]"):
            measure(a, a[0])
    with pytest.raises(ShapeError, match="expected floats"):
        psnr((a * 255).astype(np.uint8), a)
    with pytest.raises(ShapeError, match="SSIM: expected sides of at least 11 pixels, found 48 x 10"):
        ssim(a[:, :10], a[:, :10])
    with pytest.raises(ShapeError, match="LPIPS: expected sides of at least 32 pixels"):
        lpips(a[:, :10], a[:, :10])
    for measure in (lpips, flip):
        with pytest.raises(ShapeError, match="expected 1 or 3 channels, found 2"):
            measure(a[:2], a[:2])
    with pytest.raises(ShapeError, match="expected one of the networks alex, vgg, squeeze, found 'resnet'"):
        lpips(a, a, net="resnet")
