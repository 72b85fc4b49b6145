"""The computations of benchmarks/rate_distortion.py: curves, BD-rates, the ladder of qualities, the store, the page."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegs.bench import anchors, curves
from imagegs.bench.attribute_bits import order_0, steps_of
from imagegs.bench.machine import sources_digest
from imagegs.codec import Payload, write_file, write_levels
from imagegs.codec.blocks import Blocks
from imagegs.codec.entropy import BlockEncoder, place
from imagegs.codec.lattice import Lattice, LatticeSymbols, quantize_colors, quantize_shape
from imagegs.codec.storage import split_blocks
from imagegs.errors import FormatError
from imagegs.gaussians import Gaussians2D
from imagegs.kernels import native

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("rate_attributes", "rate_docs", "rate_plots", "rate_points", "rate_store")


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The scripts import each other by their plain names; both the path and the names go away again."""
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(BENCHMARKS))
    for name in NAMES:
        sys.modules.pop(name, None)


def line(offset=0.0, factor=1.0, rates=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6)):
    """6 dB for every factor of ten in rate, a straight line over the logarithm; ``factor`` times the bits."""
    return [(factor * rate, 30 + offset + 6 * math.log10(rate)) for rate in rates]


def test_front_keeps_what_no_other_point_beats():
    points = [(0.5, 30.0), (0.2, 25.0), (0.3, 24.0), (0.5, 29.0), (0.4, 31.0), (0.6, 32.0)]
    assert curves.front(points) == [(0.2, 25.0), (0.4, 31.0), (0.6, 32.0)]
    assert curves.front([]) == []


def test_interpolation_is_over_the_logarithm_and_never_beyond_the_ends():
    curve = line()
    assert curves.quality_at(curve, 0.3) == pytest.approx(30 + 6 * math.log10(0.3))
    assert curves.rate_at(curve, 30 + 6 * math.log10(0.3)) == pytest.approx(0.3)
    assert curves.quality_at(curve, 0.05) == pytest.approx(curve[0][1])
    assert curves.quality_at(curve, 0.0499) is None
    assert curves.quality_at(curve, 1.61) is None
    assert curves.rate_at(curve, 40.0) is None
    assert curves.quality_at([], 0.3) is None
    assert curves.quality_at([(0.3, 30.0)], 0.3) == 30.0


def test_a_cut_curve_ends_at_the_limits():
    found = curves.cut(line(rates=(0.07, 0.3, 1.2)), 0.1, 1.0)
    assert [rate for rate, _ in found] == [0.1, 0.3, 1.0]
    assert found[0][1] == pytest.approx(24.0)
    assert found[-1][1] == pytest.approx(30.0)
    short = curves.cut(line(rates=(0.2, 0.5)), 0.1, 1.0)
    assert [rate for rate, _ in short] == [0.2, 0.5]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25])
def test_bd_rate_of_a_known_factor(factor):
    pytest.importorskip("bjontegaard")
    assert curves.bd_rate(line(), line(factor=factor)) == pytest.approx(100 * (factor - 1), abs=1e-6)


def test_bd_rate_counts_the_range_alone():
    """Beyond 0.1 to 1.0 bpp ours is ten times as large, within it is half as large."""
    pytest.importorskip("bjontegaard")
    ours = line(factor=0.5, rates=(0.2, 0.4, 0.8, 1.6, 2.0))
    spoilt = [*ours, (10.0, 33.0)]
    rates = tuple(np.geomspace(0.05, 1.6, 40))
    assert curves.bd_rate(line(rates=rates), ours) == pytest.approx(-50, abs=0.01)
    assert curves.bd_rate(line(rates=rates), spoilt) == pytest.approx(-50, abs=0.5)


def test_bd_rate_takes_curves_with_unlike_numbers_of_points():
    pytest.importorskip("bjontegaard")
    dense = line(rates=tuple(np.geomspace(0.08, 1.3, 30)))
    assert curves.bd_rate(dense, line(factor=0.7)) == pytest.approx(-30, abs=0.01)


def test_bd_rate_agrees_with_an_integral_by_hand():
    """On curved lines: the mean of the logarithm of the ratio over the shared qualities, by the trapezium rule."""
    pytest.importorskip("bjontegaard")
    rates = np.geomspace(0.07, 1.3, 9)
    anchor = [(r, 20 + 9 * math.log(1 + 6 * r)) for r in rates]
    ours = [(r, 21 + 9.5 * math.log(1 + 6 * r)) for r in rates]
    a, b = curves.cut(anchor), curves.cut(ours)
    qualities = np.linspace(max(a[0][1], b[0][1]) + 1e-9, min(a[-1][1], b[-1][1]) - 1e-9, 4001)
    logs = [math.log(curves.rate_at(b, q) / curves.rate_at(a, q)) for q in qualities]
    expected = 100 * (math.exp(float(np.mean(logs))) - 1)
    assert curves.bd_rate(anchor, ours) == pytest.approx(expected, abs=0.02)


def test_no_shared_quality_has_no_bd_rate():
    assert curves.bd_rate(line(), line(offset=20)) is None
    assert curves.bd_rate(line(), []) is None
    assert curves.bd_rate(line(rates=(2.0, 3.0)), line()) is None


def test_mean_curve_needs_every_picture():
    found = curves.mean_curve([line(), line(offset=2, rates=(0.2, 0.8))], (0.1, 0.2, 0.4, 1.0))
    assert [rate for rate, _ in found] == [0.2, 0.4]
    assert found[1][1] == pytest.approx(31 + 6 * math.log10(0.4))
    assert curves.mean_curve([], (0.5,)) == []


def test_similarity_in_decibels():
    assert curves.similarity_decibels(0.9) == pytest.approx(10)
    assert curves.similarity_decibels(1.0) == math.inf


def test_a_sweep_covers_the_range_without_gaps():
    calls = []

    def rate(index):
        calls.append(index)
        return 0.01 * 1.1**index

    found = anchors.sweep(rate, 101, 0.08, 1.2, 1.3)
    assert sorted(calls) == found
    assert len(set(calls)) == len(calls)
    rates = [0.01 * 1.1**index for index in found]
    inside = [(a, b) for a, b in itertools.pairwise(rates) if b > 0.08 and a < 1.2]
    assert max(b / a for a, b in inside) <= 1.3
    assert rates[0] < 0.08
    assert rates[-1] > 1.2
    assert len(found) < 30


def test_a_sweep_ends_on_a_ladder_of_steps():
    """Rates that jump, or that never reach the range, end it all the same."""
    sweep = anchors.sweep
    assert {0, 49, 50, 100} <= set(sweep(lambda index: 0.05 if index < 50 else 2.0, 101, 0.1, 1.0))
    assert sweep(lambda index: 3.0 + index, 101, 0.1, 1.0) == [0, 100]


def test_anchors_give_smaller_files_at_lower_rungs():
    y, x = np.mgrid[0:64, 0:96].astype(np.float32) / 96
    pixels = np.stack([x, y, (np.sin(40 * x) * np.cos(30 * y) + 1) / 2]).astype(np.float32)
    image = anchors.to_image(pixels)
    for anchor in anchors.ANCHORS:
        if anchor.missing:
            continue
        small, large = (anchor.encode(image, anchor.ladder[i]) for i in (0, len(anchor.ladder) - 1))
        assert len(small) < len(large), anchor.key
        decoded = anchors.to_pixels(large)
        assert decoded.shape == pixels.shape
        assert float(np.mean((decoded - pixels) ** 2)) < 2e-3, anchor.key
        assert anchor.identity.endswith(f"Pillow {Image.__version__}")


def point(modules, **changes):
    values = {"picture": "p", "codec": "c", "identity": "c 1", "rung": 5, "bytes": 10, "bpp": 0.5, "psnr": 30.0}
    return modules["rate_store"].Point(**values | {"ms_ssim": None, "encode_s": 0.1, "extra": {}} | changes)


def test_the_store_goes_on_after_an_interruption(modules, tmp_path):
    store = modules["rate_store"].Store(tmp_path)
    store.add(point(modules))
    store.add(point(modules, identity="c 2", bytes=9))
    with (tmp_path / "points.jsonl").open("a") as file:
        file.write('{"picture": "p", "codec": "c", "iden')
    again = modules["rate_store"].Store(tmp_path)
    assert again.find("p", "c", "c 1", 5) == point(modules)
    again.add(point(modules, rung=6))
    again.add(point(modules, ms_ssim=0.9))
    third = modules["rate_store"].Store(tmp_path)
    assert third.find("p", "c", "c 1", 6) == point(modules, rung=6)
    assert third.find("p", "c", "c 1", 5).ms_ssim == 0.9
    assert third.find("p", "c", "c 3", 5) is None
    assert [found.rung for found in third.all("p", "c", "c 1")] == [6, 5]
    assert len(third.all("p", "c")) == 3


def test_points_of_ours_belong_to_their_sources(tmp_path):
    for folder in ("codec", "cli"):
        (tmp_path / folder).mkdir()
    (tmp_path / "codec" / "a.py").write_text("1")
    first = sources_digest(tmp_path)
    for name in ("metrics.py", "cli/encode.py", "codec/a.pyc"):
        (tmp_path / name).write_text("does not decide the bytes")
    assert sources_digest(tmp_path) == first
    (tmp_path / "codec" / "a.py").write_text("2")
    changed = sources_digest(tmp_path)
    (tmp_path / "codec" / "a.py").rename(tmp_path / "codec" / "b.py")
    assert len({first, changed, sources_digest(tmp_path)}) == 3


def test_a_kept_point_of_ours_is_the_newest_of_its_target(modules, tmp_path):
    store, points = modules["rate_store"].Store(tmp_path), modules["rate_points"]
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    source = points.Source(path)
    for sources, size in (("old", 7), ("older", 8)):
        mine = points.Ours(5, sources)
        kept = point(modules, picture=source.digest, codec=mine.key, identity=mine.identity, rung=0.5, bytes=size)
        store.add(kept)
    assert points.Ours(5, "new").kept(source, 0.5, store) is None
    assert points.Ours(5, "old").kept(source, 0.5, store).bytes == 7
    assert points.Ours(5, "new", any_sources=True).kept(source, 0.5, store).bytes == 8
    assert points.Ours(5, "old").kept(source, 0.25, store) is None


def test_an_anchor_is_measured_once(modules, tmp_path, monkeypatch):
    points, store = modules["rate_points"], modules["rate_store"].Store(tmp_path)
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.png"
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).resize((96, 64)).save(path)
    jpeg = anchors.ANCHORS[0]
    first = points.sweep_anchor(jpeg, points.Source(path), store, similarity=False)
    assert all(found.bpp == pytest.approx(8 * found.bytes / (96 * 64)) for found in first)
    assert first[0].psnr < first[-1].psnr < 60

    def refused(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(anchors.Anchor, "encode", refused)
    assert points.sweep_anchor(jpeg, points.Source(path), store, similarity=False) == first


def test_order_0_entropy_and_bits_per_gaussian(modules):
    attributes = modules["rate_attributes"]
    assert order_0(np.array([0, 0, 1, 1])) == pytest.approx(4)
    assert order_0(np.array([7] * 9)) == 0
    assert order_0(np.arange(16)) == pytest.approx(64)
    files = [(10, {"order-0": {"position": 100.0, "color": 50.0}}), (30, {"order-0": {"position": 260.0}})]
    assert attributes.per_gaussian(files) == {"order-0": {"position": 9.0, "color": 1.25, "total": 10.25}}


def record():
    """Results of two codecs on two pictures, one of which has no BD-rate."""
    rate = {"psnr": {"a": -20.0, "b": -40.0}, "ms_ssim": {"a": 10.0, "b": None}}
    picture = {
        "imagegs-5": {"psnr": [20.0, 30.0], "ms_ssim": [9.0, 12.0]},
        "jpeg": {"psnr": [None, 28.0], "ms_ssim": [None, 11.0]},
    }
    curves = {
        "date": "2000-01-01",
        "commit": "abc",
        "rates": [0.1, 0.5],
        "codecs": {
            "imagegs-5": {"label": "imagegs, effort 5", "identity": "x", "main": True},
            "jpeg": {"label": "JPEG", "identity": "y", "main": True},
        },
        "sets": {"kodak": {"bd_rate": {"imagegs-5": {"jpeg": rate}}, "at_rates": {"a": picture, "b": picture}}},
    }
    machine = {"processor": "P", "cores": 2, "system": "Linux"}
    return {
        "machine": machine,
        "kernels": "k",
        "threads": 2,
        "versions": {"python": "3"},
        "results": {"curves": curves},
    }


def test_the_page_shows_means_and_what_is_missing(modules):
    page = modules["rate_docs"].document(json.loads(json.dumps(record())))
    assert "| JPEG | −30.0 % | +10.0 % (1 of 2) |" in page
    assert "| b | −40.0 % |" in page
    assert "| imagegs, effort 5 | 20.00 | 30.00 |" in page
    assert "| JPEG | – | 28.00 |" in page
    assert "commit abc" in page
    assert "## Decoding" not in page


def test_curves_and_the_comparison_are_drawn(modules, tmp_path):
    plots = modules["rate_plots"]
    figure = plots.draw_curves(
        {"imagegs-5": ("imagegs", line()), "jpeg": ("JPEG", []), "webp": ("WebP", line(1))}, "y", "t"
    )
    paths = plots.write_curves(figure, tmp_path / "rate")
    assert [path.name for path in paths] == ["rate.svg", "rate.png"]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["imagegs", "WebP"]
    noise = np.random.default_rng(0).random((3, 40, 60), np.float32)
    panels = [plots.Panel(f"codec {index}", "9 bytes", noise) for index in range(4)]
    sheet = plots.draw_comparison(panels, (10, 5, 30, 20))
    assert sheet.size == (3 * 38 + 8, 2 * 68 + 8)
    part = np.asarray(sheet)[8 + 40 : 8 + 40 + 20, 8 : 8 + 30]
    assert np.array_equal(part, np.rint(noise[:, 5:25, 10:40] * 255).astype(np.uint8).transpose(1, 2, 0))
    whole = plots.write_comparison(sheet, tmp_path / "whole.jpg").stat().st_size
    least = plots.write_comparison(sheet, tmp_path / "least.jpg", whole - 1).stat().st_size
    assert least < whole


@pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")
@pytest.mark.parametrize("block_shift", [0, 6])
def test_bits_of_a_file_by_step(modules, block_shift):
    """Against a count by hand: one size and ratio, random directions, places and colours."""
    rng = np.random.default_rng(5)
    count, height, width = 600, 96, 128
    lattice, blocks = Lattice.of(1.0, 3, (0,)), Blocks(width, height, block_shift)
    means = (rng.random((count, 2)) * [width, height]).astype(np.float32)
    scales = np.tile(np.float32([4.0, 2.0]), (count, 1))
    shape = quantize_shape(scales, rng.uniform(0, np.pi, count).astype(np.float32), lattice)
    colors = quantize_colors(rng.random((count, 3)).astype(np.float32), shape[:, 0], lattice)
    payloads, position = [], 0.0
    for block, rows in split_blocks(means, blocks):
        encoder = BlockEncoder(lattice, blocks.box(block))
        placed = place(shape[rows], means[rows], lattice, blocks.box(block))
        payloads.append(Payload(encoder.encode(LatticeSymbols(placed, colors[rows]))[0], len(rows), 0, block, 9))
        position += encoder.bits[0]["position"]
    data = write_levels(
        payloads,
        quantizer=lattice,
        height=height,
        width=width,
        background=np.zeros(3, np.float32),
        block_shift=block_shift,
    )
    steps = steps_of(data)
    plain, contexts = steps["order-0"], steps["contexts"]
    assert plain["scale"] == pytest.approx(0, abs=1e-9)
    directions = int(lattice.angles(shape[:1, 0], shape[:1, 1])[0])
    assert plain["rotation"] == pytest.approx(count * math.log2(directions))
    shares = [np.unique(channel, return_counts=True)[1] / count for channel in colors.T]
    assert plain["color"] == pytest.approx(count * -sum(float(np.sum(p * np.log2(p))) for p in shares))
    # places are random, so the coder cannot do with much less than the count by hand says
    assert 0.93 < contexts["position"] / plain["position"] < 1.25
    assert contexts["position"] == pytest.approx(position)


def test_a_file_of_fixed_width_has_no_steps():
    gaussians = Gaussians2D(
        means=np.ones((1, 2)),
        scales=np.ones((1, 2)),
        rotations=np.zeros(1),
        colors=np.zeros((1, 3)),
        height=4,
        width=4,
    )
    with pytest.raises(FormatError, match="expected 1, with entropy coding, found fixed widths"):
        steps_of(write_file(gaussians))
