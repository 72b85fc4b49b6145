"""Coding 1: what is coded comes back, the plain decoder of the specification agrees, and golden bytes stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegs.codec.lattice import MAX_COLOR, MAX_COLOR_STEP, MAX_RATIO, MAX_STEP, MIN_ROOT, Lattice, LatticeSymbols
from imagegs.kernels import native

if not native.available():
    pytest.skip("the compiled kernels are not built", allow_module_level=True)

import coding1_reference as plain
from lattice_samples import Box, Ranges, boxes, in_range, lattices, ranges, sample

from imagegs.codec.entropy import BlockDecoder, BlockEncoder, attribute_bits, place

GOLDEN = Path(__file__).parent / "golden" / "coding1.json"
GREY = Lattice(2048, 487, 2808, 1966, 2294, (7567,))
COLOR = Lattice(2048, 487, 2808, 1966, 2294, (7567, 9268, 8026), (0,))
FINE = Lattice(MIN_ROOT, 1, 1, 1, 1, (1, MAX_COLOR_STEP))
BOX = (64, 128, 100, 75)
seeds = st.integers(0, 2**32 - 1)


def same(a: LatticeSymbols, b: LatticeSymbols) -> bool:
    return np.array_equal(a.shape, b.shape) and np.array_equal(a.colors, b.colors)


def sorted_rows(symbols: LatticeSymbols, columns: list[int]) -> list[list[int]]:
    return sorted(np.concatenate([symbols.shape[:, columns], symbols.colors], axis=1).tolist())


def round_trip(lattice: Lattice, box: Box, levels: list[LatticeSymbols]) -> list[bytes]:
    """Codes levels, and again what came out of it; gives the payloads."""
    encoder, again, decoder = BlockEncoder(lattice, box), BlockEncoder(lattice, box), BlockDecoder(lattice, box)
    payloads = []
    for level in levels:
        payload, found = encoder.encode(level)
        assert len(payload) >= len(level) / 8
        assert sorted_rows(found, [0, 1, 2]) == sorted_rows(level, [0, 1, 2])
        assert in_range(found, lattice, box)
        assert same(decoder.decode(payload, len(level)), found)
        repeated, unchanged = again.encode(found)
        assert repeated == payload
        assert same(unchanged, found)
        payloads.append(payload)
    return payloads


def plainly(lattice: Lattice, box: Box, payloads: list[bytes], counts: list[int]) -> list[LatticeSymbols]:
    """What the decoder of the specification makes of it."""
    decoder = plain.BlockDecoder(plain.Parameters(*lattice.steps[:5], lattice.color_steps), plain.Box(*box))
    return [to_symbols(decoder.decode(*level), lattice) for level in zip(payloads, counts, strict=True)]


def to_symbols(gaussians: list[plain.Gaussian], lattice: Lattice) -> LatticeSymbols:
    shape = [(one.size, one.ratio, one.angle, one.x, one.y) for one in gaussians]
    colors = [one.colors for one in gaussians]
    return LatticeSymbols(
        np.array(shape, np.int32).reshape(-1, 5), np.array(colors, np.int32).reshape(-1, lattice.channels)
    )


@settings(max_examples=200, deadline=None)
@given(st.data(), lattices(), boxes(), st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_any_symbols_come_back(data, lattice, box, counts):
    levels = [sample(data.draw(seeds), lattice, box, count, data.draw(ranges())) for count in counts]
    round_trip(lattice, box, levels)


def agrees(lattice: Lattice, box: Box, levels: list[LatticeSymbols]) -> bool:
    """Whether both decoders find the same."""
    payloads, counts = round_trip(lattice, box, levels), [len(level) for level in levels]
    decoder, by_text = BlockDecoder(lattice, box), plainly(lattice, box, payloads, counts)
    return all(same(decoder.decode(p, len(f)), f) for p, f in zip(payloads, by_text, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.data(), lattices(), boxes(), st.lists(st.integers(1, 25), min_size=1, max_size=3))
def test_decoders_agree_on_anything(data, lattice, box, counts):
    assert agrees(
        lattice, box, [sample(data.draw(seeds), lattice, box, count, data.draw(ranges())) for count in counts]
    )


@pytest.mark.parametrize("lattice", [GREY, COLOR, Lattice(2048, 487, 2808, 1966, 2294, (9000,) * 5)])
@pytest.mark.parametrize("box", [(0, 0, 64, 48), BOX, (0, 0, 3, 700)])
def test_decoders_agree_where_gaussians_are_many(lattice, box):
    counts = [120, 40, 260]  # so that squares, windows and lenders of earlier levels all have work
    assert agrees(lattice, box, [sample(k, lattice, box, count) for k, count in enumerate(counts)])


def test_decoders_agree_where_gaussians_are_long():
    assert agrees(GREY, BOX, [sample(1, GREY, BOX, 300, Ranges(size=20, ratio=90))])


@pytest.mark.parametrize("count", [3, 4])
def test_decoders_agree_on_how_far_back_earlier_levels_are_looked_at(count):
    box = (0, 0, 8192, 4)
    row, later = sample(1, GREY, box, 1300), sample(2, GREY, box, count)
    row.shape[:, 3] = 6 * 1024 * np.arange(1300)
    later.shape[:, 3] = 6 * 1024 * (1300 - 1024 - 16 * count) + 2048 * np.arange(count)
    assert agrees(GREY, box, [row, later])


def test_decoders_agree_where_visits_run_out():
    crowd = sample(5, GREY, BOX, 900, Ranges(color=30))
    crowd.shape[:, :2] = 9, 14
    crowd.shape[:, 2] = GREY.angles(crowd.shape[:, 0], crowd.shape[:, 1]) // 4  # diagonals: much is looked at in vain
    assert agrees(GREY, BOX, [crowd])


def one(lattice: Lattice, box: Box, shape: list[int], colors: list[int]) -> LatticeSymbols:
    symbols = LatticeSymbols(np.array([shape], np.int32), np.array([colors], np.int32))
    assert in_range(symbols, lattice, box)
    return symbols


@pytest.mark.parametrize("size", [0, 1, 19, 20, 21, 300, FINE.most_size - 1, FINE.most_size])
@pytest.mark.parametrize("ratio", [0, 1, 2, 255, MAX_RATIO - 1, MAX_RATIO])
def test_sizes_and_ratios_come_back(size, ratio):
    round_trip(FINE, BOX, [one(FINE, BOX, [size, ratio, 0, 70 * 1024, 130 * 1024], [0, 0])])


@pytest.mark.parametrize("ratio", [0, 300, 700, 2000])
def test_directions_come_back(ratio):
    angles = int(FINE.angles(np.array([3000], np.int32), np.array([ratio * 4], np.int32))[0])
    assert angles <= 1024
    every = [one(FINE, BOX, [3000, ratio * 4, k, 70 * 1024, 130 * 1024], [0, 0]) for k in range(angles)]
    round_trip(FINE, BOX, [LatticeSymbols.concatenate(every, 2)])


@pytest.mark.parametrize("color", [0, 1, -1, 2, 3, -4, 4095, -4096, 2**20, MAX_COLOR, -MAX_COLOR])
def test_colors_come_back(color):
    small = one(FINE, BOX, [0, 0, 0, 70 * 1024, 130 * 1024], [color, -(color // 2**20)])
    round_trip(FINE, BOX, [small, small])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 16, 100])
@pytest.mark.parametrize("left", [0, 0.3, 0.5, 1])
def test_any_share_of_gaussians_may_be_in_either_half(count, left):
    symbols = sample(1, GREY, BOX, count)
    symbols.shape[:, 3] = (64 + 100 * (np.arange(count) >= left * count) * 0.99) * 1024
    round_trip(GREY, BOX, [symbols])


def test_more_gaussians_in_one_place_than_even_numbers_tell_apart():
    everyone = sample(1, GREY, BOX, 9001, Ranges(size=3, ratio=1, color=1, spots=2))
    round_trip(GREY, BOX, [everyone])


def test_places_are_told_apart_up_to_a_quarter_of_the_unit():
    finest = Lattice(MIN_ROOT, 1, 1, 1, MAX_STEP, (60000,))
    box = (5, 7, 3, 2)
    symbols = sample(3, finest, box, 50, Ranges(size=0, ratio=0))
    _, found = BlockEncoder(finest, box).encode(symbols)
    before, after = (np.array(sorted(s.shape[:, 3:].tolist())) for s in (symbols, found))
    assert np.abs(before - after).max() <= 3


def test_a_block_of_one_pixel_and_the_largest_block():
    round_trip(GREY, (2**20 - 1, 2**20 - 1, 1, 1), [sample(2, GREY, (2**20 - 1, 2**20 - 1, 1, 1), 30)] * 2)
    round_trip(COLOR, (0, 0, 2**20, 2**20), [sample(2, COLOR, (0, 0, 2**20, 2**20), 30)] * 2)


def test_levels_without_gaussians_change_nothing():
    first, second, none = sample(1, GREY, BOX, 20), sample(2, GREY, BOX, 20), sample(3, GREY, BOX, 0)
    with_empty, without = round_trip(GREY, BOX, [first, none, second]), round_trip(GREY, BOX, [first, second])
    assert with_empty == [without[0], b"", without[1]]


def test_contexts_of_earlier_levels_are_used():
    first, second = sample(1, COLOR, BOX, 400), sample(2, COLOR, BOX, 400)
    together, alone = round_trip(COLOR, BOX, [first, second]), round_trip(COLOR, BOX, [second])
    assert len(together[1]) < len(alone[0])


def test_bits_are_those_of_the_payload():
    encoder, decoder = BlockEncoder(COLOR, BOX), BlockDecoder(COLOR, BOX)
    payload, found = encoder.encode(sample(1, COLOR, BOX, 300))
    decoder.decode(payload, len(found))
    assert list(encoder.bits[0]) == ["position", "scale", "rotation", "color"]
    assert sum(attribute_bits(encoder.bits).values()) == pytest.approx(8 * len(payload), abs=32)
    assert attribute_bits(decoder.bits) == pytest.approx(attribute_bits(encoder.bits), abs=0.5)


def test_colors_give_way_to_cheaper_ones_where_that_is_worth_it():
    symbols = sample(1, COLOR, BOX, 300)
    wanted = symbols.colors + np.random.default_rng(0).uniform(-0.5, 0.5, symbols.colors.shape)
    exact, _ = BlockEncoder(COLOR, BOX).encode(symbols, wanted, 0.0)
    cheaper, found = BlockEncoder(COLOR, BOX).encode(symbols, wanted, 0.2)
    assert len(cheaper) < len(exact)
    assert same(BlockDecoder(COLOR, BOX).decode(cheaper, 300), found)


@settings(max_examples=100, deadline=None)
@given(seeds, lattices(), boxes(), st.integers(1, 60), ranges())
def test_places_are_kept_by_the_encoder(seed, lattice, box, count, limits):
    symbols = sample(seed, lattice, box, count, limits)
    means = symbols.shape[:, 3:] / 1024
    placed = place(symbols.shape[:, :3], means, lattice, box)
    _, found = BlockEncoder(lattice, box).encode(LatticeSymbols(placed, symbols.colors))
    kept = LatticeSymbols(placed, symbols.colors)
    assert sorted_rows(found, [0, 1, 2, 3, 4]) == sorted_rows(kept, [0, 1, 2, 3, 4])


def test_what_no_file_can_hold_is_refused():
    refused: list[tuple[list[int], list[int]]] = [
        ([-1, 0, 0, 0, 0], [0]),
        ([GREY.most_size + 1, 0, 0, 0, 0], [0]),
        ([0, -1, 0, 0, 0], [0]),
        ([0, MAX_RATIO + 1, 0, 0, 0], [0]),
        ([0, 0, 1, 0, 0], [0]),
        ([0, 0, -1, 0, 0], [0]),
        ([0, 0, 0, -1, 0], [0]),
        ([0, 0, 0, 100 * 1024, 0], [0]),
        ([0, 0, 0, 0, 75 * 1024], [0]),
        ([0, 0, 0, 0, 0], [MAX_COLOR + 1]),
    ]
    for shape, colors in refused:
        with pytest.raises(ValueError, match=r"out of range|outside"):
            BlockEncoder(GREY, (0, 0, 100, 75)).encode(
                LatticeSymbols(np.array([shape], np.int32), np.array([colors], np.int32))
            )
    for box in [(-1, 0, 5, 5), (0, 0, 0, 5), (1, 0, 2**20, 5), (0, 2**20, 5, 1)]:
        with pytest.raises(ValueError, match="box"):
            BlockEncoder(GREY, box)


def golden_cases() -> list[tuple[str, dict[str, Any]]]:
    return list(json.loads(GOLDEN.read_text(encoding="utf-8")).items())


@pytest.mark.parametrize(("name", "case"), golden_cases(), ids=[name for name, _ in golden_cases()])
def test_golden_payloads(name, case):
    lattice = Lattice(*case["steps"][:5], tuple(case["steps"][5:]))
    box = tuple(case["box"])
    encoder, decoder = BlockEncoder(lattice, box), BlockDecoder(lattice, box)
    payloads = [bytes.fromhex(level["payload"]) for level in case["levels"]]
    counts = [len(level["shape"]) for level in case["levels"]]
    by_text = plainly(lattice, box, payloads, counts)
    for payload, level, plain_symbols in zip(payloads, case["levels"], by_text, strict=True):
        symbols = LatticeSymbols(np.array(level["shape"], np.int32), np.array(level["colors"], np.int32))
        found, _ = encoder.encode(symbols)
        assert found == payload
        assert same(decoder.decode(payload, len(symbols)), symbols)
        assert same(plain_symbols, symbols)
