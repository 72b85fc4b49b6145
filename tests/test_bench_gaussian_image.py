"""GaussianImage's codec: its quantisers, its file, its two fits, and its place in the table of rates."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.bench import find_sources, rate_distortion, run_table
from imagegs.bench.clocks import decode_call, decoded_cold
from imagegs.bench.gaussian_image import Coded, decode, decode_bytes, encode_bytes
from imagegs.bench.gaussian_image_fit import counts_for, fit_coded, refine
from imagegs.bench.quantizers import Codebooks, LearnedGrid
from imagegs.bench.rate_distortion import RateDistortion
from imagegs.cli import app
from imagegs.errors import ImageError
from imagegs.fitting.config import make_config
from imagegs.fitting.fit import run
from imagegs.kernels import native
from imagegs.metrics import psnr

NEEDS_KERNELS = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

HEAD = 16 + 4 * 6 + 4 * 48


def waves(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([0.5 + 0.35 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)])


def some_coded(n: int = 21, seed: int = 0) -> Coded:
    random = np.random.default_rng(seed)
    return Coded(
        (40, 56),
        random.uniform(-1, 1, (n, 2)).astype(np.float16),
        np.array([0.2, 0.1, 0.15], np.float32),
        np.array([0.5, -3, 0.5], np.float32),
        random.integers(0, 64, (n, 3), np.uint8),
        random.uniform(-1, 1, (2, 8, 3)).astype(np.float32),
        random.integers(0, 8, (n, 2), np.uint8),
    )


# --- the file


@pytest.mark.parametrize("n", [1, 2, 1001])
def test_a_file_holds_every_bit_in_56_for_each_gaussian(n):
    coded = some_coded(n)
    data = encode_bytes(coded)
    assert len(data) == HEAD + 7 * n
    found = decode_bytes(data)
    assert found.size == coded.size
    for name in (field.name for field in fields(Coded) if field.name != "size"):
        one, other = getattr(found, name), getattr(coded, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    assert encode_bytes(found) == data


def test_the_extremes_of_every_field_come_back():
    coded = replace(
        some_coded(2),
        centers=np.array([[-1, 1], [1, -1]], np.float16),
        shapes=np.array([[0, 63, 0], [63, 0, 63]], np.uint8),
        colors=np.array([[7, 0], [0, 7]], np.uint8),
    )
    found = decode_bytes(encode_bytes(coded))
    for name in ("centers", "shapes", "colors"):
        assert getattr(found, name).tolist() == getattr(coded, name).tolist()
    assert found.arrays()[0].tolist() == [[0, 40], [56, 0]]


def test_what_a_file_means_is_its_gaussians():
    coded = replace(some_coded(1), centers=np.zeros((1, 2), np.float16), shapes=np.array([[10, 40, 10]], np.uint8))
    means, scales, rotations, colors = coded.arrays()
    factors = np.array([[2.5, 0], [1, 2]])
    turn = np.array([[np.cos(rotations[0]), -np.sin(rotations[0])], [np.sin(rotations[0]), np.cos(rotations[0])]])
    assert means.tolist() == [[28, 20]]
    assert np.allclose(turn @ np.diag(scales[0] ** 2) @ turn.T, factors @ factors.T, atol=1e-4)
    assert np.allclose(colors, coded.words[0, coded.colors[0, 0]] + coded.words[1, coded.colors[0, 1]])
    assert coded.gaussians.blend == "sum"


def altered(data: bytes, place: int, code: str, value: float) -> bytes:
    changed = bytearray(data)
    struct.pack_into(code, changed, place, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", r"expected the signature b'GIQ1', found b''"),
        (lambda data: b"GSIM" + data[4:], "found b'GSIM'"),
        (lambda data: data[:100], "expected 232 bytes at least, found 100"),
        (lambda data: data[:-1], "expected 253 bytes of 3 Gaussians, found 252"),
        (lambda data: data + b"\0", "expected 253 bytes of 3 Gaussians, found 254"),
        (lambda data: altered(data, 12, "<I", 2**32 - 1), "of 4,294,967,295 Gaussians, found 253"),
        (lambda data: altered(data[:HEAD], 12, "<I", 0), "expected Gaussians, found none"),
        (lambda data: altered(data, 4, "<I", 0), "width: expected 1 to 1,048,576, found 0"),
        (lambda data: altered(data, 8, "<I", 1 << 21), "height: expected 1 to 1,048,576, found 2,097,152"),
        (lambda data: altered(data, 16, "<f", 0.0), "steps: expected numbers above 0, found 0.0"),
        (lambda data: altered(data, 20, "<f", float("nan")), "learned numbers: expected -1e.06 to 1e.06, found nan"),
        (lambda data: altered(data, 44, "<f", 1e30), "learned numbers: expected .*, found 1"),
        (lambda data: altered(data, HEAD, "<e", float("inf")), "centres: expected -1 to 1, found inf"),
    ],
)
def test_bytes_that_cannot_be_are_one_line(spoil, message):
    with pytest.raises(ImageError, match=message) as told:
        decode_bytes(spoil(encode_bytes(some_coded(3))))
    assert "\n" not in str(told.value)


def test_a_file_without_gaussians_is_not_written():
    with pytest.raises(ImageError, match="expected 1 to 4,294,967,295 Gaussians, found 0"):
        encode_bytes(some_coded(0))


@NEEDS_KERNELS
def test_the_decoder_loads_numpy_and_the_renderer_alone(tmp_path):
    (tmp_path / "file").write_bytes(encode_bytes(some_coded()))
    script = (
        "import sys; from imagegs.bench.gaussian_image import decode\n"
        "assert decode(open(sys.argv[1], 'rb').read()).shape == (3, 40, 56)\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"scipy", "PIL", "matplotlib", "typer"}


# --- the quantisers


def test_a_range_that_leaves_out_the_odd_value_is_better():
    values = np.random.default_rng(1).laplace(size=(2000, 2)).astype(np.float32)
    grid = LearnedGrid.of(values, 16)
    whole = LearnedGrid((values.max(0) - values.min(0)) / 15, values.min(0), 16)
    errors = [np.square(one.values(one.symbols(values)) - values).mean() for one in (grid, whole)]
    assert errors[0] < 0.7 * errors[1]


def test_a_column_of_one_value_is_kept():
    values = np.full((5, 1), 2.5, np.float32)
    grid = LearnedGrid.of(values, 64)
    assert np.allclose(grid.values(grid.symbols(values)), values)


def test_gradients_of_a_grid_are_those_with_rounding_as_the_identity():
    """Finite differences of the quantiser with the residue of rounding held, as the estimator has it."""
    random = np.random.default_rng(2)
    values = random.uniform(-3, 12, (50, 2)).astype(np.float32)  # below, within and above the range
    v_rounded = random.normal(size=values.shape)
    steps, offsets = np.array([0.5, 0.25]), np.array([-1.0, 0.5])
    grid = LearnedGrid(steps.astype(np.float32), offsets.astype(np.float32), 16)
    places = (values - offsets) / steps
    residue = np.rint(np.clip(places, 0, 15)) - np.clip(places, 0, 15)

    def loss(values, steps, offsets):
        return np.sum(v_rounded * (offsets + steps * (np.clip((values - offsets) / steps, 0, 15) + residue)))

    v_values, v_numbers = grid.gradients(values, v_rounded.astype(np.float32))
    small = 1e-6
    rise = [
        loss(values, steps + small * one, offsets) - loss(values, steps - small * one, offsets) for one in np.eye(2)
    ]
    lift = [
        loss(values, steps, offsets + small * one) - loss(values, steps, offsets - small * one) for one in np.eye(2)
    ]
    wanted = np.stack([rise, lift], axis=1) / (2 * small)
    np.testing.assert_allclose(v_numbers * np.sqrt(50 * 15), wanted, rtol=1e-3, atol=1e-3)
    inside = (places > 0) & (places < 15)
    assert {bool(state) for state in inside.ravel()} == {True, False}
    assert np.array_equal(v_values, v_rounded.astype(np.float32) * inside)


def test_a_learned_scale_lowers_the_error():
    values = np.random.default_rng(3).normal(size=(500, 1)).astype(np.float32)
    grid = LearnedGrid(np.array([0.02], np.float32), np.array([0.4], np.float32), 16)

    def error(one: LearnedGrid) -> float:
        return float(np.square(one.values(one.symbols(values)) - values).mean())

    before = error(grid)
    for _ in range(300):
        v_rounded = 2 * (grid.values(grid.symbols(values)) - values)
        grid = grid.moved(np.float32(0.005) * np.sign(grid.gradients(values, v_rounded)[1]))
    assert error(grid) < 0.1 * before


def test_two_stages_of_words_are_better_than_one():
    values = np.random.default_rng(4).uniform(0, 1, (800, 3)).astype(np.float32)
    errors = []
    for stages in (1, 2):
        books = Codebooks.of(values, stages, 8)
        assert books.words.shape == (stages, 8, 3)
        errors.append(float(np.square(books.values(books.symbols(values)) - values).mean()))
    assert errors[1] < 0.6 * errors[0]


def test_fewer_values_than_words_are_kept():
    values = np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7], [0.1, 0.2, 0.3]], np.float32)
    books = Codebooks.of(values, 2, 8)
    assert np.allclose(books.values(books.symbols(values)), values)


def test_words_follow_the_values_that_took_them():
    values = np.random.default_rng(5).uniform(0, 1, (400, 3)).astype(np.float32)
    books = Codebooks.of(values, 2, 8)
    moved = values + np.float32(0.3)

    def error(one: Codebooks) -> float:
        return float(np.square(one.values(one.symbols(moved)) - moved).mean())

    before = error(books)
    for _ in range(200):
        books = books.followed(moved, books.symbols(moved))
    assert error(books) < 0.5 * before
    assert books.taken.sum(axis=1) == pytest.approx([400, 400], rel=1e-3)


# --- the fits


@NEEDS_KERNELS
def test_a_fit_that_sees_the_rounding_is_better_than_rounding_afterwards():
    pixels = waves()
    config = make_config((48, 64), gaussians=60, profile="gaussian-image", shape="cholesky", steps=600)
    start = run(pixels, config, device="cpu").gaussians
    found = [decode(encode_bytes(refine(pixels, start, config, steps, "cpu"))) for steps in (0, 400)]
    assert psnr(pixels, found[1]) > psnr(pixels, found[0]) + 1


@NEEDS_KERNELS
def test_the_same_seed_makes_the_same_file():
    files = {encode_bytes(fit_coded(waves(), 12, 5, seed, "cpu").coded) for seed in (0, 0, 1)}
    assert len(files) == 2
    assert {len(data) for data in files} == {HEAD + 7 * 12}


def test_counts_are_those_of_the_paper_for_each_pixel():
    assert counts_for(768 * 512) == (800, 1000, 3000, 5000, 7000, 9000)
    assert counts_for(512 * 512, quick=True) == (667, 2000)
    assert counts_for(20) == (1,)


# --- the table


@pytest.fixture
def sources(tmp_path):
    Image.fromarray((waves() * 255).astype(np.uint8).transpose(1, 2, 0)).save(tmp_path / "one.png")
    return find_sources(tmp_path)


@NEEDS_KERNELS
def test_the_table_of_rates_has_its_codec(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_distortion, "QUICK_ANCHORS", ())
    monkeypatch.setattr(rate_distortion, "decoded_cold", lambda files, rounds: decoded_cold(files, 1))
    table = RateDistortion((1.0,), (1,), 20, quick=True)
    table.repeats = 2
    run_of = run_table(table, sources, tmp_path / "out")
    cells = [cell for cell in run_of.record["cells"] if cell["settings"]["key"] == "gaussian-image"]
    counts = counts_for(48 * 64, quick=True)
    assert [cell["settings"]["gaussians"] for cell in cells] == list(counts)
    assert [cell["points"][0]["bytes"] for cell in cells] == [HEAD + 7 * count for count in counts]
    assert all(cell["settings"]["steps"] == 20 for cell in cells)
    times = run_of.record["summary"]["times"]["gaussian-image"]
    near = min(cells, key=lambda cell: abs(cell["points"][0]["bpp"] - 0.5))
    assert times["bpp"]["mean"] == near["points"][0]["bpp"]
    assert times["frames"]["render_ms"]["median"] == pytest.approx(1e3 / near["render_ms"])
    assert times["frames"]["decode_ms"]["median"] == pytest.approx(1e3 / near["decode_ms"])
    assert times["encode_ms"]["median"] > times["fit_ms"]["median"]
    assert "| GaussianImage, its codec, 20 + 20 steps |" in run_of.markdown
    assert "frames per second, in memory" in run_of.markdown
    assert "20 steps in each of its two fits, where its paper takes 50,000" in run_of.markdown
    if table.has_bd_rate:
        assert "gaussian-image" in run_of.record["summary"]["bd_rate"]["imagegs-1"]


def test_it_is_there_where_it_is_asked_for_and_in_quick_runs(sources):
    def planned(table: RateDistortion) -> set[int]:
        cells = [cell.settings for cell in table.plan(sources)]
        return {settings["steps"] for settings in cells if settings["key"] == "gaussian-image"}

    assert planned(RateDistortion()) == planned(RateDistortion(steps=0, quick=True)) == set()
    assert sum("--gaussian-image 50000" in note for note in RateDistortion().notes) == 1
    assert planned(RateDistortion(quick=True)) == {rate_distortion.QUICK_STEPS}
    whole = RateDistortion(steps=50_000)
    assert planned(whole) == {50_000}
    assert not any("where its paper takes" in note for note in whole.notes)


@NEEDS_KERNELS
def test_the_clocks_know_its_files():
    data = encode_bytes(some_coded())
    pixels = decode_call(data)()
    assert (pixels.shape, pixels.dtype) == ((3, 40, 56), np.uint8)
    assert np.array_equal(pixels, (decode(data) * 255 + 0.5).astype(np.uint8))
    assert decoded_cold({"one": data}, 1)["one"]["cold"]["median_ms"] > 0


def test_steps_that_cannot_be_are_told(sources, tmp_path):
    command = ["bench", "rate-distortion", str(sources[0].path), "-o", str(tmp_path / "out"), "--gaussian-image", "-1"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2
    assert "--gaussian-image" in found.output
