"""From a picture to the bytes of a file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imagegs import metrics
from imagegs.codec import BitWidths, parse, with_psnrs, write_file
from imagegs.decoding import decode
from imagegs.encoding import encode
from imagegs.errors import ConfigError, DeviceError, ImageError, ShapeError
from imagegs.fitting.config import make_config
from imagegs.fitting.fit import Interrupted, run
from imagegs.fitting.loop import Progress
from imagegs.image import Picture, PictureInfo, Plane, as_picture
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

Pixels = npt.NDArray[np.float32]
QUICK: dict[str, Any] = {"gaussians": 100, "steps": 60, "relocate_every": 10}


def test_what_is_reported_is_what_the_file_shows(scene: Pixels) -> None:
    encoded = encode(scene, **QUICK)
    decoded = decode(encoded.data).pixels
    np.testing.assert_array_equal(encoded.decoded, decoded)
    assert encoded.psnr == pytest.approx(metrics.psnr(scene, decoded), abs=1e-6)
    assert encoded.psnr > 33
    assert encoded.bpp == 8 * len(encoded.data) / (64 * 80)
    file = parse(encoded.data)
    assert len(file.gaussians) == len(encoded.gaussians) == 100
    np.testing.assert_array_equal(encoded.gaussians.means, file.gaussians.means)
    assert file.whole[-1].psnr == pytest.approx(encoded.psnr, abs=0.006)


def test_what_is_reported_is_what_a_file_of_fixed_widths_shows(scene: Pixels) -> None:
    encoded = encode(scene, **QUICK, bits=BitWidths())
    decoded = decode(encoded.data).pixels
    np.testing.assert_array_equal(encoded.decoded, decoded)
    assert encoded.psnr == pytest.approx(metrics.psnr(scene, decoded), abs=1e-6)
    assert encoded.fit.psnr == pytest.approx(encoded.psnr, abs=1e-6)
    assert encoded.fit.history[-1][2] == encoded.fit.psnr
    assert encoded.psnr > 33
    assert encoded.bpp == 8 * len(encoded.data) / (64 * 80)
    file = parse(encoded.data)
    assert len(file.gaussians) == len(encoded.gaussians) == 100
    np.testing.assert_array_equal(encoded.gaussians.means, file.gaussians.means)
    written = write_file(encoded.fit.gaussians, bits=BitWidths(), info=encoded.picture.info)
    assert encoded.data == with_psnrs(written, [encoded.psnr])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"blend": "topk", "top_k": 6},
        {"loss": {"l1": 1, "l2": 0, "ssim": 0.2}},
        {"coarse": 0.3},
        {"profile": "image-gs"},
    ],
    ids=str,
)
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(scene: Pixels, settings: Any) -> None:
    one, three = (encode(scene, **QUICK, seed=5, threads=threads, **settings) for threads in (1, 3))
    assert one.data == three.data
    assert one.fit.psnr == three.fit.psnr
    assert encode(scene, **QUICK, seed=6, **settings).data != one.data


def test_the_number_of_threads_is_given_back(scene: Pixels) -> None:
    before = native._native.threads()
    with pytest.raises(ShapeError):
        encode(scene, **QUICK, threads=before + 2, importance=np.ones((3, 3)))
    assert native._native.threads() == before


def test_a_fit_that_knows_of_the_rounding_survives_it_better(scene: Pixels) -> None:
    bits = BitWidths(position=9, scale=5, rotation=6, color=5)
    aware = encode(scene, gaussians=150, steps=150, bits=bits)
    blind = run(scene, make_config((64, 80), gaussians=150, steps=150))
    rounded = metrics.psnr(scene, decode(write_file(blind.gaussians, bits=bits)).pixels)
    assert blind.psnr > aware.psnr > rounded + 0.5
    assert aware.fit.psnr == pytest.approx(aware.psnr, abs=1e-6)


def test_fewer_bits_make_a_smaller_and_worse_file(scene: Pixels) -> None:
    coarse, fine = (encode(scene, **QUICK, bits=bits) for bits in (BitWidths(7, 4, 4, 4), BitWidths(16, 12, 12, 12)))
    assert len(coarse.data) < 0.7 * len(fine.data)
    assert coarse.psnr < fine.psnr - 3
    assert parse(coarse.data).gaussians.means.shape == (100, 2)


def test_pictures_with_alpha_and_of_one_channel_come_back_as_they_were(tmp_path: Path, photo: Path) -> None:
    with Image.open(photo) as image:
        colour = image.convert("RGB")
    alpha = colour.convert("L").point(lambda v: 255 if v > 100 else 30)
    colour.putalpha(alpha)
    colour.save(tmp_path / "rgba.png")
    colour.convert("L").save(tmp_path / "grey.png")
    for name, channels in (("rgba.png", 4), ("grey.png", 1)):
        encoded = encode(tmp_path / name, **QUICK)
        picture = decode(encoded.data)
        assert picture.pixels.shape == (channels, 48, 64)
        assert picture.info.planes[0].mode == {4: "RGBA", 1: "L"}[channels]
        assert metrics.psnr(as_picture(tmp_path / name).pixels, picture.pixels) == pytest.approx(encoded.psnr, abs=1e-6)
        assert encoded.psnr > 22


def test_a_stack_shares_its_gaussians(tmp_path: Path, scene: Pixels) -> None:
    folder = tmp_path / "stack"
    folder.mkdir()
    eight = np.round(scene * 255).astype(np.uint8)
    Image.fromarray(np.moveaxis(eight, 0, -1)).save(folder / "basecolor.png")
    Image.fromarray(eight[1]).save(folder / "roughness.png")
    encoded = encode(folder, **QUICK)
    assert encoded.gaussians.channels == 4
    picture = decode(encoded.data)
    assert [plane.name for plane in picture.info.planes] == ["basecolor.png", "roughness.png"]
    assert encoded.psnr > 30


def test_floating_point_pictures_keep_what_lies_beyond_one(scene: Pixels) -> None:
    picture = Picture(scene[:1] * 3, PictureInfo((Plane("", "F", 32),)), "hdr")
    encoded = encode(picture, **QUICK)
    assert encoded.decoded.max() > 2
    assert encoded.psnr == pytest.approx(metrics.psnr(picture.pixels, decode(encoded.data).pixels), abs=1e-6)
    assert encoded.psnr > 25


def test_importance_and_weights_reach_the_fit(scene: Pixels) -> None:
    left = np.ones((64, 80), np.float32)
    left[:, :40] = 20
    plain = encode(scene, **QUICK)
    drawn, weighted = encode(scene, **QUICK, importance=left), encode(scene, **QUICK, weights=left)
    share = [float(np.mean(encoded.gaussians.means[:, 0] < 40)) for encoded in (plain, drawn)]
    assert share[1] > share[0] + 0.05
    errors = [float(np.mean((encoded.decoded - scene)[:, :, :40] ** 2)) for encoded in (plain, weighted)]
    assert errors[1] < 0.8 * errors[0]


def test_an_interrupted_encode_goes_on_to_the_same_bytes(scene: Pixels, tmp_path: Path) -> None:
    whole, path = encode(scene, **QUICK), tmp_path / "fit.npz"

    def stop(now: Progress) -> None:
        if now.step == 55:  # while rounding
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        encode(scene, **QUICK, on_step=stop, checkpoint=path)
    assert encode(scene, **QUICK, resume=path).data == whole.data
    with pytest.raises(ConfigError, match="one of another fit"):
        encode(scene, **QUICK, resume=path, bits=BitWidths(color=8))


@pytest.mark.parametrize(
    "shape", [(3, 1, 1), (3, 1, 120), (3, 120, 1), (1, 16, 16), (12, 16, 16), (32, 16, 16)], ids=str
)
def test_awkward_pictures_make_valid_files(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    for pixels in (random.uniform(0, 1, shape), np.full(shape, 0.4), np.zeros(shape), np.ones(shape)):
        encoded = encode(pixels, steps=8)
        decoded = decode(encoded.data).pixels
        assert decoded.shape == shape
        assert np.isfinite(decoded).all()
        assert encoded.psnr > (8 if pixels.std() > 0 else 45)


def test_bad_input_is_refused_before_any_work(scene: Pixels, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^device: "):
        encode(tmp_path / "absent.png", device="cuda")
    with pytest.raises(ImageError, match=r"absent\.png"):
        encode(tmp_path / "absent.png")
    with pytest.raises(ConfigError, match=r"^gaussians: expected at most one per pixel \(5,120\), found 5,121$"):
        encode(scene, gaussians=5121)
    with pytest.raises(ShapeError, match=r"^importance: "):
        encode(scene, importance=np.ones((80, 64)))
    with pytest.raises(ConfigError, match=r"^settings: expected attributes of FitConfig, found speed$"):
        encode(scene, speed=3)
    with pytest.raises(ConfigError, match=r"expected a checkpoint, found no file"):
        encode(scene, resume=tmp_path / "absent.npz")
