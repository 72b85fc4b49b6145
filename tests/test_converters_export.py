"""Archives, PLY and SVG files, read back by other means than the package's own."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import imagegs
from imagegs.cli import app
from imagegs.codec import write_file
from imagegs.converters import convert
from imagegs.converters.contents import Contents
from imagegs.converters.layers import OPACITY, REACH, stack_layers
from imagegs.decoding import decode, read_gsimg
from imagegs.errors import ConfigError, ImageError, ImageGSError, TruncatedError
from imagegs.gaussians import Gaussians2D
from imagegs.image import PictureInfo, Plane
from imagegs.kernels import native
from imagegs.rendering import render

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

WIDTH, HEIGHT = 96, 64
SVG = "{http://www.w3.org/2000/svg}"


def disc_and_edge() -> np.ndarray:
    """[3, H, W]: a gradient, an edge and a disc."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    planes = [x / WIDTH, np.where(y > 0.5 * x + 8, 0.8, 0.2), np.where(np.hypot(x - 60, y - 24) < 14, 0.9, y / 128)]
    return np.stack(planes).astype(np.float32)


@pytest.fixture(scope="module")
def gaussians(one_torch_thread) -> Gaussians2D:
    """A fit of 250 Gaussians, colours far outside of [0, 1] included."""
    return imagegs.fit(disc_and_edge(), gaussians=250, steps=150, seed=1)


@pytest.fixture
def source(tmp_path: Path, gaussians: Gaussians2D) -> Path:
    info = PictureInfo((Plane("", "RGB", 8),), xmp=b"<x/>")
    imagegs.save(tmp_path / "a.gsimg", gaussians, info=info)
    return tmp_path / "a.gsimg"


def decibels(picture: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((picture.clip(0, 1) - other.clip(0, 1)) ** 2)))


def refusal(source: Path, output: Path, expected: type[Exception] = ImageError, **options: Any) -> str:
    """The one line with which a conversion is refused; nothing is written."""
    before = output.read_bytes() if output.is_file() else None
    with pytest.raises(expected) as caught:
        convert(source, output, **options)
    assert (output.read_bytes() if output.is_file() else None) == before
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


# --- archives --------------------------------------------------------------------------------------------------------


def test_an_archive_holds_every_parameter(tmp_path, source):
    done = convert(source, tmp_path / "a.npz")
    file = read_gsimg(source)
    assert done.size == (tmp_path / "a.npz").stat().st_size
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        for name in ("means", "scales", "rotations", "colors", "background"):
            np.testing.assert_array_equal(arrays[name], getattr(file.gaussians, name))
            assert arrays[name].dtype == np.float32
        assert arrays["size"].tolist() == [WIDTH, HEIGHT]
        assert arrays["blend"].item() == "normalized"
        assert arrays["top_k"].item() == 10
        assert PictureInfo.from_bytes(arrays["info"].tobytes()) == file.info
    first = (tmp_path / "a.npz").read_bytes()
    convert(source, tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == first


@pytest.mark.parametrize(("bits", "least"), [(None, 60), (32, 100), (8, 20)])
def test_an_archive_becomes_a_file_again(tmp_path, source, bits, least):
    convert(source, tmp_path / "a.npz")
    convert(tmp_path / "a.npz", tmp_path / "b.gsimg", bits=bits)
    before, after = decode(source), decode(tmp_path / "b.gsimg")
    assert after.info == before.info
    assert decibels(before.pixels, after.pixels) > least


@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_blends_and_stacks_return(tmp_path, small_gaussians, blend):
    info = PictureInfo((Plane("a.png", "L", 8), Plane("b.png", "LA", 8)), stack=True)
    stack = small_gaussians.replace(blend=blend, top_k=7, background=np.array([0.1, 0.2, 0.3], np.float32))
    imagegs.save(tmp_path / "a.gsimg", stack, info=info)
    convert(tmp_path / "a.gsimg", tmp_path / "a.npz")
    convert(tmp_path / "a.npz", tmp_path / "b.gsimg")
    file = read_gsimg(tmp_path / "b.gsimg")
    assert (file.gaussians.blend, file.info) == (blend, info)
    assert file.gaussians.top_k == 7 or blend == "sum"
    np.testing.assert_allclose(file.gaussians.background, [0.1, 0.2, 0.3], atol=1e-3)


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    values = {
        "means": random.uniform(0, 20, (5, 2)),
        "scales": random.uniform(1, 3, (5, 2)),
        "rotations": random.uniform(0, 3, 5),
        "colors": random.uniform(0, 1, (5, 3)),
        "size": np.array([30, 20]),
    } | changes
    return {name: value for name, value in values.items() if value is not None}


def test_the_five_arrays_are_enough(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **arrays(), more=np.ones(3))
    convert(tmp_path / "a.npz", tmp_path / "a.gsimg")
    file = read_gsimg(tmp_path / "a.gsimg")
    assert (file.gaussians.blend, file.gaussians.width, file.gaussians.height, file.info) == (
        "normalized",
        30,
        20,
        None,
    )
    assert not file.gaussians.background.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": None, "size": None}, "found no means, size"),
        ({"means": np.ones((4, 2))}, "colors: expected shape [4, any], found [5, 3]"),
        ({"scales": np.zeros((5, 2))}, "scales: expected positive numbers"),
        ({"colors": np.full((5, 3), np.nan)}, "colors: expected finite numbers"),
        ({"size": np.array([30])}, "expected size, blend and top_k as documented"),
        ({"size": np.array([30.5, 20])}, "expected an integer from 1 to 1048576, found"),
        ({"size": np.array([1 << 20, 1 << 20])}, "expected up to 268,435,456 pixels"),
        ({"blend": np.array("mean")}, "blend: expected one of"),
        ({"blend": np.array(["sum", "sum"])}, "expected size, blend and top_k as documented"),
        ({"top_k": np.array(99)}, "top_k: expected an integer from 1 to 32"),
        ({"info": np.frombuffer(b"nothing", np.uint8)}, "picture info"),
        ({"info": np.frombuffer(PictureInfo.of_channels(1).to_bytes(), np.uint8)}, "expected 3 channels as in colors"),
        ({"means": np.array([object()])}, "expected an array that the file holds"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, changes, message):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    found = refusal(tmp_path / "a.npz", tmp_path / "a.gsimg", ImageGSError)
    assert message in found
    assert str(tmp_path / "a.npz") in found


def test_archives_that_are_none(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "folder.npz").mkdir()
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name, message in (
        ("missing.npz", "cannot be read: no such file or directory"),
        ("text.npz", "expected a NumPy archive"),
        ("folder.npz", "cannot be read: is a directory"),
        ("array.npz", "expected a NumPy archive"),
    ):
        assert message in refusal(tmp_path / name, tmp_path / "a.gsimg")


def test_archives_that_inflate_or_lie_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", **arrays(colors=np.zeros((5 << 20, 3), np.float32)))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    assert "expected arrays of up to 100 times the file" in refusal(tmp_path / "bomb.npz", tmp_path / "a.gsimg")
    header = io.BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 2)}
    np.lib.format.write_array_header_1_0(header, description)
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("means.npy", header.getvalue() + bytes(80))
    assert "means.npy: expected an array that the file holds" in refusal(tmp_path / "lie.npz", tmp_path / "a.gsimg")


def test_members_under_other_names_are_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("means", "scales", "rotations", "colors", "size"):
            archive.writestr(name, b"bytes")
    message = refusal(tmp_path / "a.npz", tmp_path / "a.gsimg")
    assert "found no means, scales, rotations, colors, size" in message


def test_damaged_archives_leak_no_other_error(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    data = (tmp_path / "a.npz").read_bytes()
    random = np.random.default_rng(0)
    for trial in range(120):
        broken = bytearray(data)
        if trial < 30:
            broken = broken[: random.integers(len(data))]
        else:
            for at in random.integers(0, len(data), 4):
                broken[at] ^= 1 << random.integers(8)
        (tmp_path / "b.npz").write_bytes(broken)
        with suppress(ImageGSError):
            convert(tmp_path / "b.npz", tmp_path / "b.gsimg")


# --- PLY -------------------------------------------------------------------------------------------------------------


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """The vertices of a PLY file, and nothing else in it."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    words = [line.split() for line in lines[2:]]
    assert words[0][:2] == ["element", "vertex"]
    assert all(word[:2] == ["property", "float"] for word in words[1:])
    table = np.frombuffer(body, "<f4").reshape(int(words[0][2]), len(words) - 1)
    return {word[2]: table[:, column].astype(float) for column, word in enumerate(words[1:])}


def splat(vertices: dict[str, np.ndarray], width: int, height: int) -> np.ndarray:
    """What a camera that looks along +z from far away sees of 3D Gaussians, [3, H, W] (Kerbl et al. 2023)."""
    unit = max(width, height) / 2
    w, x, y, z = (vertices[f"rot_{k}"] for k in range(4))
    rotation = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * y + w * z), 1 - 2 * (x * x + z * z)], 1)
    rotation = rotation.reshape(-1, 2, 2)
    scales = np.exp(np.stack([vertices["scale_0"], vertices["scale_1"]], axis=1)) * unit
    inverse = np.linalg.inv(rotation @ (scales[:, :, None] ** 2 * np.swapaxes(rotation, 1, 2)))
    colors = np.stack([vertices[f"f_dc_{k}"] for k in range(3)], axis=1) * 0.28209479177387814 + 0.5
    centers = np.stack([vertices["x"] * unit + width / 2, vertices["y"] * unit + height / 2], axis=1)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    picture = np.zeros((height, width, 3))
    for k in np.argsort(-vertices["z"], kind="stable"):
        d = np.stack([columns - centers[k, 0], rows - centers[k, 1]], axis=-1)
        alpha = np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, inverse[k], d)) / (1 + np.exp(-vertices["opacity"][k]))
        alpha = np.where(alpha < 1 / 255, 0, np.minimum(alpha, 0.99))[..., None]
        picture = picture * (1 - alpha) + alpha * np.maximum(colors[k], 0)
    return np.moveaxis(picture, -1, 0)


def test_a_ply_file_draws_the_picture(tmp_path, source):
    done = convert(source, tmp_path / "a.ply")
    vertices = read_ply(tmp_path / "a.ply")
    assert tuple(vertices) == (
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"),
        *("rot_0", "rot_1", "rot_2", "rot_3"),
    )
    assert len(vertices["x"]) == done.written
    assert 250 < done.written <= 250 + 40  # a grid behind the Gaussians
    picture, plain = decode(source).pixels, tmp_path / "plain.ply"
    reached = decibels(splat(vertices, WIDTH, HEIGHT), picture)
    assert reached > 30
    assert convert(source, plain, refit=False).written == 250
    assert decibels(splat(read_ply(plain), WIDTH, HEIGHT), picture) < reached - 4  # what solving is for


def test_a_ply_vertex_is_its_gaussian(tmp_path):
    one = Gaussians2D(
        means=np.array([[30.0, 20.0], [50.0, 60.0]]),
        scales=np.array([[6.0, 2.0], [9.0, 8.0]]),
        rotations=np.array([0.5, -0.2]),
        colors=np.array([[0.25, 0.5, 1.5], [0.0, -0.5, 1.0]]),
        height=80,
        width=100,
    )
    imagegs.save(tmp_path / "a.gsimg", one, bits=imagegs.BitWidths(32, 32, 32, 32))
    convert(tmp_path / "a.gsimg", tmp_path / "a.ply", refit=False)
    v = read_ply(tmp_path / "a.ply")
    expected = {
        "x": [0.0, -0.4],  # the larger one first, behind the smaller one
        "y": [0.4, -0.4],
        "z": [0.001, -0.001],
        "opacity": [np.log(99)] * 2,
        "scale_0": np.log([0.18, 0.12]),
        "scale_1": np.log([0.16, 0.04]),
        "scale_2": [np.log(1e-6)] * 2,
        "f_dc_0": (np.array([0.0, 0.25]) - 0.5) * np.sqrt(4 * np.pi),
        "f_dc_1": (np.array([-0.5, 0.5]) - 0.5) * np.sqrt(4 * np.pi),
        "f_dc_2": (np.array([1.0, 1.5]) - 0.5) * np.sqrt(4 * np.pi),
        **{name: [0.0, 0.0] for name in ("nx", "ny", "nz", "rot_1", "rot_2")},
    }
    for name, values in expected.items():
        np.testing.assert_allclose(v[name], values, atol=2e-6, err_msg=name)
    turn = 2 * np.arctan2(v["rot_3"], v["rot_0"])
    np.testing.assert_allclose(np.sin(2 * turn), np.sin([-0.4, 1.0]), atol=1e-5)
    np.testing.assert_allclose(np.cos(2 * turn), np.cos([-0.4, 1.0]), atol=1e-5)


# --- SVG -------------------------------------------------------------------------------------------------------------


def test_an_svg_is_what_its_layers_are(tmp_path, source):
    source = source.rename(tmp_path / "a & <b>.gsimg")
    done = convert(source, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    assert (root.get("width"), root.get("height")) == (str(WIDTH), str(HEIGHT))
    assert root.find(f"{SVG}title").text == "a & <b>"
    gradients = {gradient.get("id"): gradient for gradient in root.iter(f"{SVG}radialGradient")}
    ellipses = root.findall(f"{SVG}ellipse")
    assert len(gradients) == len(ellipses) == done.written
    file = read_gsimg(source)
    layers = stack_layers(Contents(file.gaussians, file.info), "a.svg")
    for k, ellipse in enumerate(ellipses):
        x, y, *turn = (float(number) for number in re.findall(r"-?[\d.]+", ellipse.get("transform")))
        np.testing.assert_allclose([x, y], layers.means[k], atol=0.006)
        np.testing.assert_allclose(
            [float(ellipse.get("rx")), float(ellipse.get("ry"))], REACH * layers.scales[k], atol=0.006
        )
        angle = np.radians(turn[0] if turn else 0) - layers.rotations[k]
        assert abs(np.sin(angle)) < 2e-4
        gradient = gradients[ellipse.get("fill")[5:-1]]
        color = [int(gradient.get("color")[at : at + 2], 16) for at in (1, 3, 5)]
        np.testing.assert_allclose(color, layers.colors[k] * 255, atol=0.51)
        stops = gradient.findall(f"{SVG}stop")
        offsets = np.array([float(stop.get("offset")) for stop in stops])
        opacities = np.array([float(stop.get("stop-opacity")) for stop in stops])
        assert (offsets[0], offsets[-1], opacities[-1]) == (0, 1, 0)
        np.testing.assert_allclose(opacities[:-1], OPACITY * np.exp(-0.5 * (offsets[:-1] * REACH) ** 2), atol=1e-3)
        at = np.linspace(0, 1, 200)
        curve = OPACITY * np.exp(-0.5 * (at * REACH) ** 2)
        assert abs(np.interp(at, offsets, opacities) - curve).max() < 0.035


def test_names_that_are_no_text_make_a_title(tmp_path, source):
    name = os.fsdecode(b"a\xff\x01.gsimg")
    try:
        source.rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system has names of text alone")
    convert(tmp_path / name, tmp_path / "a.svg")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().find(f"{SVG}title").text == "a??"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw SVG files with")
def test_a_browser_draws_the_picture(tmp_path, source):
    convert(source, tmp_path / "a.svg")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,400"]
    command += [f"--screenshot={tmp_path / 'a.png'}", (tmp_path / "a.svg").as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True, cwd=tmp_path)
    shot = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))[:HEIGHT, :WIDTH]
    assert decibels(np.moveaxis(shot, -1, 0) / 255, decode(source).pixels) > 30


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_layers_draw_other_blends_too(tmp_path, gaussians, blend):
    colors = gaussians.colors if blend == "topk" else gaussians.colors * np.float32(0.3)
    imagegs.save(tmp_path / "a.gsimg", gaussians.replace(blend=blend, colors=colors))
    convert(tmp_path / "a.gsimg", tmp_path / "a.ply")
    seen = splat(read_ply(tmp_path / "a.ply"), WIDTH, HEIGHT)
    assert decibels(seen, decode(tmp_path / "a.gsimg").pixels) > 26


def test_grey_is_drawn_in_grey(tmp_path, gaussians):
    imagegs.save(tmp_path / "a.gsimg", gaussians.replace(colors=gaussians.colors[:, :1], background=None))
    convert(tmp_path / "a.gsimg", tmp_path / "a.ply")
    seen = splat(read_ply(tmp_path / "a.ply"), WIDTH, HEIGHT)
    np.testing.assert_allclose(seen[0], seen[2], atol=1e-6)
    assert decibels(seen[:1], decode(tmp_path / "a.gsimg").pixels) > 28


def test_large_pictures_are_solved_for_at_a_smaller_size(tmp_path, gaussians, monkeypatch):
    monkeypatch.setattr("imagegs.converters.layers._SOLVED_PIXELS", WIDTH * HEIGHT // 4)
    imagegs.save(tmp_path / "a.gsimg", gaussians)
    convert(tmp_path / "a.gsimg", tmp_path / "a.ply")
    assert decibels(splat(read_ply(tmp_path / "a.ply"), WIDTH, HEIGHT), render(gaussians)) > 22


def test_a_limit_keeps_the_largest(tmp_path, source, gaussians):
    assert convert(source, tmp_path / "a.ply", limit=20, refit=False).written == 20
    areas = np.exp(read_ply(tmp_path / "a.ply")["scale_0"] + read_ply(tmp_path / "a.ply")["scale_1"])
    largest = np.sort(gaussians.scales.prod(axis=1))[::-1][:20] * (2 / WIDTH) ** 2
    np.testing.assert_allclose(areas, largest, rtol=0.05)
    assert convert(source, tmp_path / "b.ply", limit=20).written < 20 + 10


def test_far_gaussians_and_none_at_all_make_layers(tmp_path, gaussians):
    far = gaussians.replace(means=gaussians.means + 5000)
    for name, scene in (("far", far), ("none", gaussians.take(slice(0, 0)))):
        imagegs.save(tmp_path / f"{name}.gsimg", scene)
        for ending in ("ply", "svg"):
            assert convert(tmp_path / f"{name}.gsimg", tmp_path / f"{name}.{ending}").written >= 1
            assert convert(tmp_path / f"{name}.gsimg", tmp_path / f"{name}.{ending}", refit=False).written == len(scene)


@pytest.mark.parametrize("ending", ["ply", "svg"])
def test_transparency_and_stacks_have_no_layers(tmp_path, gaussians, ending):
    four = gaussians.replace(colors=gaussians.colors[:, [0, 1, 2, 0]], background=None)
    imagegs.save(tmp_path / "alpha.gsimg", four)
    message = refusal(tmp_path / "alpha.gsimg", tmp_path / f"a.{ending}", ConfigError)
    assert message == f"{tmp_path / f'a.{ending}'}: expected grey or RGB, found transparency, which layers cannot keep"
    stack = PictureInfo((Plane("a.png", "RGB", 8), Plane("b.png", "L", 8)), stack=True)
    imagegs.save(tmp_path / "stack.gsimg", four, info=stack)
    message = refusal(tmp_path / "stack.gsimg", tmp_path / f"a.{ending}", ConfigError)
    assert "expected one picture to draw, found a texture stack of 4 channels" in message


# --- the command -----------------------------------------------------------------------------------------------------


def test_options_that_mean_nothing_are_refused(tmp_path, source):
    for name, options in (
        ("a.npz", {"size": (4, 4)}),
        ("a.npz", {"blend": "topk"}),
        ("a.npz", {"scales": "plain"}),
        ("a.npz", {"bits": 8}),
        ("a.npz", {"refit": True}),
        ("a.npz", {"limit": 3}),
        ("a.svg", {"bits": 8}),
    ):
        assert "expected none, since it means nothing for" in refusal(source, tmp_path / name, ConfigError, **options)


def test_endings_choose_the_way(tmp_path, source):
    assert "expected another kind of file" in refusal(source, tmp_path / "b.gsimg", ConfigError)
    assert "to be written, found another" in refusal(source, tmp_path / "b.png", ConfigError)
    assert "to be converted, found another" in refusal(tmp_path / "b.png", tmp_path / "b.gsimg", ConfigError)
    assert convert(source.rename(tmp_path / "A.GSIMG"), tmp_path / "b.NPZ").written == 250


def test_what_stood_there_stays_when_a_conversion_fails(tmp_path, source):
    (tmp_path / "b.npz").write_text("mine")
    (tmp_path / "broken.gsimg").write_bytes(source.read_bytes()[:-5])
    refusal(tmp_path / "broken.gsimg", tmp_path / "b.npz", ImageGSError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gsimg", "b.npz", "broken.gsimg"]


def test_a_cut_file_is_refused_though_it_could_be_drawn(tmp_path, gaussians):
    """What a converted file lacks would not be noticed any more."""
    (tmp_path / "cut.gsimg").write_bytes(write_file(gaussians, levels=[100, 150])[:-200])
    assert "found the end at" in refusal(tmp_path / "cut.gsimg", tmp_path / "a.npz", TruncatedError)


def run(*words: object) -> tuple[int, str, str]:
    """Status, output and error lines of a command in a process of its own."""
    command = [sys.executable, "-m", "imagegs", "convert", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_command_converts(tmp_path, source):
    status, out, err = run(source, "-o", tmp_path / "a.npz")
    size = (tmp_path / "a.npz").stat().st_size
    assert (status, out, err) == (0, f"{tmp_path / 'a.npz'}: 96 x 64, 250 Gaussians, {size:,} bytes\n", "")
    result = CliRunner().invoke(app, ["convert", str(source), "-o", str(tmp_path / "a.svg"), "--no-refit", "--json"])
    assert result.exit_code == 0
    assert f'"bytes": {(tmp_path / "a.svg").stat().st_size}' in result.stdout
    assert '"written": 250' in result.stdout


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, source):
    status, out, err = run(source, "-o", tmp_path / "a.npz", "--bits", 8)
    assert (status, out) == (1, "")
    assert err.startswith("imagegs: bits: expected none")
    assert len(err.splitlines()) == 1
    assert run(source, "-o", tmp_path / "no" / "a.npz")[0] == 1
    for size in ("12", "12x", "ax4", "-4x4", "4x4x4", "1e3x4"):
        result = CliRunner().invoke(app, ["convert", "a.pt", "-o", str(tmp_path / "a.gsimg"), "--size", size])
        assert result.exit_code == 2, size
        assert "expected WxH" in result.output
