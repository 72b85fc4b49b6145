"""Targets: what is promised of each is kept, or one line says why it cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from imagegs import metrics
from imagegs.budget import FACTOR_RANGE, Window, _Counts, best_factor, find_factor
from imagegs.compression import EFFORTS, Job, shown
from imagegs.decoding import decode
from imagegs.encoding import Encoded, encode, fit_config
from imagegs.errors import ConfigError
from imagegs.fitting.fit import Interrupted
from imagegs.fitting.loop import Progress
from imagegs.fitting.losses import to_psnr
from imagegs.goals import Goal, make_goal
from imagegs.image import Picture, PictureInfo, Plane, as_picture, read_image
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

Pixels = npt.NDArray[np.float32]
QUICK: dict[str, Any] = {"effort": 1}
TARGETS: list[dict[str, float]] = [
    {"size": 150},
    {"size": 1000},
    {"bpp": 3},
    {"psnr": 24},
    {"psnr": 36},
    {"psnr": 45},
    {"ssim": 0.8},
    {"ssim": 0.98},
]


def waves(channels: int = 3) -> Pixels:
    """[C, 64, 80] in [0, 1]."""
    y, x = np.mgrid[0:64, 0:80] + 0.5
    planes = [0.5 + 0.3 * np.sin(x / (5 + k)) * np.cos(y / (7 - k)) for k in range(channels)]
    disc, edge = np.hypot(x - 48, y - 26) < 13, y > 0.5 * x + 10
    return np.clip(np.stack(planes) + 0.2 * disc - 0.1 * edge, 0, 1).astype(np.float32)


def picture_of(kind: str) -> Picture:
    random = np.random.default_rng(0)
    scene = waves()
    planes: dict[str, tuple[Pixels, tuple[Plane, ...]]] = {
        "colour": (scene, (Plane("", "RGB", 8),)),
        "grey": (scene[:1], (Plane("", "L", 8),)),
        "alpha": (np.concatenate([scene, scene[:1] > 0.5]).astype(np.float32), (Plane("", "RGBA", 8),)),
        "stack": (waves(4), (Plane("a.png", "RGB", 8), Plane("b.png", "L", 8))),
        "16 bits": (scene[1:2], (Plane("", "L", 16),)),
        "beyond one": (scene[:1] * 3, (Plane("", "F", 32),)),
        "noise": (random.random((3, 40, 40), dtype=np.float32), (Plane("", "RGB", 8),)),
    }
    pixels, info = planes[kind]
    return Picture(pixels, PictureInfo(info, stack=len(info) > 1), kind)


def shown_psnr(picture: Picture, encoded: Encoded) -> float:
    """Of what a decoder writes into a file of the picture's kind, dB."""
    error = np.square(shown(decode(encoded.data)) - picture.pixels, dtype=np.float64)
    return to_psnr(float(error.mean()))


def check(picture: Picture, encoded: Encoded, target: dict[str, float]) -> None:
    """The promise of the target."""
    ((kind, value),) = target.items()
    size = len(encoded.data)
    if kind in ("size", "bpp"):
        most = value if kind == "size" else value * picture.height * picture.width / 8
        assert 0.97 * most <= size <= most
    elif kind == "psnr":
        assert value <= shown_psnr(picture, encoded) <= value + 0.1
    else:
        assert metrics.ssim(shown(decode(encoded.data)), picture.pixels) >= value
    assert encoded.notes == ()


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("kind", ["colour", "grey", "alpha", "stack", "16 bits"])
def test_targets_are_met(kind: str, target: dict[str, float]) -> None:
    picture = picture_of(kind)
    check(picture, encode(picture, **target, **QUICK), target)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("beyond one", {"size": 400}),
        ("beyond one", {"psnr": 28}),
        ("beyond one", {"psnr": 40}),
        ("noise", {"size": 1000}),
        ("noise", {"psnr": 20}),
        ("noise", {"psnr": 36}),
    ],
    ids=str,
)
def test_targets_are_met_by_awkward_pictures(kind: str, target: dict[str, float]) -> None:
    picture = picture_of(kind)
    check(picture, encode(picture, **target, **QUICK), target)


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_meets_its_target(effort: int) -> None:
    picture = as_picture(waves()[:, :24, :32])
    few = {} if effort < 5 else {"steps": 100}
    encoded = encode(picture, size=300, effort=effort, **few)
    check(picture, encoded, {"size": 300})
    assert encoded.fit.steps == (few or {"steps": EFFORTS[effort].steps})["steps"]


@pytest.mark.parametrize("kind", ["psnr", "ssim"])
def test_targets_hold_after_a_refit(kind: str) -> None:
    picture, target = picture_of("colour"), {kind: {"psnr": 34.0, "ssim": 0.97}[kind]}
    check(picture, encode(picture, **target, effort=3), target)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 120, 1), (3, 1, 120), (3, 40, 40)], ids=str)
@pytest.mark.parametrize(
    "target", [{"size": 120}, {"size": 4000}, {"psnr": 30}, {"psnr": 60}, {"quality": 80}], ids=str
)
def test_tiny_and_flat_pictures_meet_targets_or_say_why_not(
    shape: tuple[int, int, int], target: dict[str, float]
) -> None:
    flat = shape == (3, 40, 40)
    pixels = np.full(shape, 0.4) if flat else np.random.default_rng(0).uniform(0, 1, shape)
    picture = as_picture(pixels.astype(np.float32))
    encoded, refusal = None, ""
    try:
        encoded = encode(picture, **target, **QUICK)
    except ConfigError as error:
        refusal = str(error)
    if encoded is None:
        assert refusal.startswith(f"{next(iter(target))}: expected at most ")
        return
    if "size" in target:
        assert len(encoded.data) <= target["size"]
    if "psnr" in target:
        assert shown_psnr(picture, encoded) >= target["psnr"]
    if encoded.notes:
        (note,) = encoded.notes
        assert "\n" not in note
    elif "quality" not in target:
        check(picture, encoded, target)


def test_what_cannot_be_met_is_said_in_one_line() -> None:
    picture = as_picture(waves()[:, :16, :20])
    with pytest.raises(
        ConfigError, match=r"^psnr: expected at most \d\d\.\d\d for this picture at this effort, found 95$"
    ):
        encode(picture, psnr=95, **QUICK)
    with pytest.raises(ConfigError, match=r"^ssim: expected a picture with sides of at least 11 pixels, found 20 x 9$"):
        encode(picture.pixels[:, :9], ssim=0.9, **QUICK)
    with pytest.raises(ConfigError, match=r"^bytes: expected at least \d+ bytes .* found 50 bytes$"):
        encode(picture, size=50, **QUICK)
    with pytest.raises(ConfigError, match=r"^bpp: expected at least \d+ bytes .* found 0\.01 bits per pixel, 1 byte$"):
        encode(picture, bpp=0.01, **QUICK)
    encoded = encode(picture, size=10**6, **QUICK)
    (note,) = encoded.notes
    assert note == f"bytes: 1,000,000 bytes allowed, {len(encoded.data):,} used; more would change nothing"


def test_the_smallest_file_that_is_promised_can_be_had() -> None:
    picture = as_picture(waves()[:, :16, :20])
    with pytest.raises(ConfigError) as stop:
        encode(picture, size=1, **QUICK)
    least = int(str(stop.value).split()[4])
    assert least - 6 <= len(encode(picture, size=least + 6, **QUICK).data) <= least + 6


def test_metadata_counts(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x010E] = random.bytes(600).hex()
    path = tmp_path / "full.png"
    pixels = np.round(255 * waves()).astype(np.uint8)
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(
        path, exif=exif, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    picture = read_image(path)
    assert picture.info.exif
    plain = len(encode(replace(picture, info=PictureInfo(picture.info.planes)), gaussians=1, **QUICK).data)
    extra = len(encode(picture, gaussians=1, **QUICK).data) - plain
    assert extra > 600
    with pytest.raises(ConfigError, match=r"^bytes: expected at least [\d,]+ bytes for this picture and its metadata"):
        encode(picture, size=extra, **QUICK)
    check(picture, encode(picture, size=extra + 400, **QUICK), {"size": extra + 400})


def test_quality_orders_bytes() -> None:
    picture = as_picture(waves())
    sizes = [len(encode(picture, quality=quality, **QUICK).data) for quality in (0, 25, 50, 75, 100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 10 * sizes[0]
    assert encode(picture, **QUICK).data == encode(picture, quality=75, **QUICK).data


def test_finer_steps_for_more_gaussians() -> None:
    picture = as_picture(waves())
    job = Job(picture, EFFORTS[1], fit_config((64, 80), Goal("quality", 75), 0, {}))
    factors = [best_factor(job, count) for count in (1, 20, 100, 1000, 5120)]
    assert factors == sorted(factors, reverse=True)
    assert FACTOR_RANGE[0] <= factors[-1] < 0.06
    assert factors[0] == FACTOR_RANGE[1]


@pytest.mark.parametrize("target", [{"size": 500}, {"psnr": 32}, {"ssim": 0.95}, {"quality": 60}], ids=str)
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(target: dict[str, Any]) -> None:
    one, three = (encode(waves(), **target, **QUICK, seed=5, threads=threads) for threads in (1, 3))
    assert one.data == three.data


# -- which target


def test_one_target_at_most() -> None:
    with pytest.raises(ConfigError, match=r"^target: expected one of bpp, .*, found psnr and bytes$"):
        encode(waves(), psnr=30, size=500)
    with pytest.raises(ConfigError, match=r"found gaussians and bpp$"):
        encode(waves(), gaussians=30, bpp=1)


@pytest.mark.parametrize(
    "target",
    [
        {"gaussians": 0},
        {"gaussians": 10.5},
        {"bytes": 0},
        {"bytes": 99.5},
        {"psnr": 0.5},
        {"psnr": float("nan")},
        {"psnr": 101},
        {"ssim": 1},
        {"ssim": 0},
        {"quality": -1},
        {"quality": 100.5},
        {"bpp": 0},
        {"bpp": float("inf")},
        {"bpp": float("nan")},
    ],
    ids=str,
)
def test_values_out_of_range(target: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(target))}: expected "):
        make_goal((10, 10), **target)


def test_goals_in_words() -> None:
    size = (100, 80)
    texts = {
        make_goal(size).text: "quality 75",
        make_goal(size, bpp=1.5).text: "1.5 bits per pixel, 1,500 bytes",
        make_goal(size, bytes=3000).text: "3,000 bytes",
        make_goal(size, gaussians=1).text: "1 Gaussian",
        make_goal(size, psnr=30).text: "PSNR 30 dB",
        make_goal(size, ssim=0.9).text: "SSIM 0.9",
    }
    assert all(found == expected for found, expected in texts.items())
    assert make_goal(size, bpp=1.5).name == "bpp"


@pytest.mark.parametrize("target", [{"bpp": 1}, {"size": 900}, {"psnr": 30}, {"ssim": 0.9}, {"quality": 50}], ids=str)
@pytest.mark.parametrize("way", [{"profile": "image-gs"}, {"bits": "default"}], ids=str)
def test_fixed_widths_take_a_number_of_gaussians(target: dict[str, Any], way: dict[str, Any]) -> None:
    from imagegs.codec import BitWidths

    if "bits" in way:
        way = {"bits": BitWidths()}
    with pytest.raises(ConfigError, match=r"^target: expected a number of Gaussians beside fixed widths or a profile"):
        encode(waves(), **target, **way)
    with pytest.raises(ConfigError, match=r"^levels: expected one, and no blocks, beside fixed widths"):
        encode(waves(), **way, levels=2)


# -- interrupted and resumed


def stop_in(fit: int, step: int) -> Any:
    """A callback that interrupts the so-manieth fit at a step."""
    fits = 0

    def stop(now: Progress) -> None:
        nonlocal fits
        fits += now.step == 1
        if fits == fit and now.step == step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize(
    ("target", "fit", "step"),
    [
        ({"gaussians": 60}, 1, 80),
        ({"size": 500}, 1, 40),
        ({"size": 500}, 1, 85),  # Gaussians that overshot are gone by then
        ({"quality": 60}, 1, 20),
        ({"quality": 60}, 2, 50),
        ({"psnr": 32}, 1, 30),
        ({"psnr": 32}, 3, 50),
        ({"psnr": 32}, 3, 90),
        ({"ssim": 0.97}, 3, 90),
    ],
    ids=str,
)
def test_an_interrupted_search_goes_on_to_the_same_bytes(
    target: dict[str, Any], fit: int, step: int, tmp_path: Path
) -> None:
    path, picture = tmp_path / "fit.npz", as_picture(waves())
    steps: list[int] = []
    whole = encode(picture, **target, **QUICK, on_step=lambda now: steps.append(now.step))
    with pytest.raises(Interrupted):
        encode(picture, **target, **QUICK, on_step=stop_in(fit, step), checkpoint=path)
    rest: list[int] = []
    again = encode(picture, **target, **QUICK, resume=path, checkpoint=path, on_step=lambda now: rest.append(now.step))
    assert again.data == whole.data
    assert again.notes == whole.notes == ()
    assert len(rest) == len(steps) - step  # what the interrupted fit had done is not done again


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    path, picture = tmp_path / "fit.npz", as_picture(waves())
    with pytest.raises(Interrupted):
        encode(picture, gaussians=50, **QUICK, on_step=stop_in(1, 30), checkpoint=path)
    with pytest.raises(ConfigError, match="one of another fit"):
        encode(picture, gaussians=51, **QUICK, resume=path)
    with pytest.raises(ConfigError, match="one of another fit"):
        encode(picture.pixels[:, ::-1], psnr=30, **QUICK, resume=path)
    encoded = encode(picture, psnr=30, **QUICK, resume=path)
    assert encoded.notes == (f"resume: {path} is of other settings; everything was fitted anew",)
    assert encoded.data == encode(picture, psnr=30, **QUICK).data


# -- the parts of a search


@pytest.mark.parametrize("start", [0.1, 0.5, 3.9])
def test_a_factor_is_found_on_jumpy_curves(start: float) -> None:
    tried: list[float] = []

    def value_of(factor: float) -> float:
        tried.append(factor)
        return round(1000 - 200 * float(np.log2(factor)) + 5 * np.sin(300 * factor))

    window = Window(900, 930, 920)
    assert value_of(find_factor(value_of, start, window, -50, (0.1, 4))) in window
    assert len(tried) <= 13
    assert all(0.1 <= factor <= 4 * 1.0001 for factor in tried)


def test_the_nearest_factor_where_none_will_do() -> None:
    assert find_factor(lambda factor: 10 / factor, 1, Window(100, 101, 100), -1, (0.5, 2)) == pytest.approx(0.5)
    assert find_factor(lambda factor: 5.0, 1, Window(100, 101, 100), -1, (0.5, 2)) <= 1


def test_numbers_to_try_next() -> None:
    counts = _Counts(wanted=30, most=1000)
    counts.add(100, 28)
    assert 100 < (counts.following(30) or 0) <= 200
    counts.add(400, 34)
    assert counts.slope == pytest.approx(3)
    following = counts.following(30)
    assert following is not None
    assert 100 < following < 400
    counts.add(101, 31)
    assert counts.following(30) is None
    low = _Counts(wanted=50, most=1000)
    low.add(1000, 40)
    assert low.following(50) is None
