"""Coding 1, cut, altered and made up: symbols that a file may hold, or one kind of error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imagegs.codec.lattice import MAX_STEP, Lattice, LatticeSymbols
from imagegs.errors import FormatError
from imagegs.kernels import native

if not native.available():
    pytest.skip("the compiled kernels are not built", allow_module_level=True)

import coding1_reference as plain
from lattice_samples import Box, Ranges, boxes, in_range, lattices, sample

from imagegs.codec.entropy import BlockDecoder, BlockEncoder

GREY = Lattice(2048, 487, 2808, 1966, 2294, (7567,))
COLOR = Lattice(2048, 487, 2808, 1966, 2294, (7567, 9268, 8026), (0,))
BOX = (64, 128, 100, 75)
COUNTS = [5, 20, 60]


def encoded(lattice: Lattice, box: Box, counts: list[int]) -> tuple[list[bytes], list[LatticeSymbols]]:
    encoder = BlockEncoder(lattice, box)
    levels = [encoder.encode(sample(k, lattice, box, count)) for k, count in enumerate(counts)]
    return [payload for payload, _ in levels], [found for _, found in levels]


def rows(symbols: LatticeSymbols) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.concatenate([symbols.shape, symbols.colors], axis=1).tolist()]


def is_part(part: list[tuple[int, ...]], whole: list[tuple[int, ...]]) -> bool:
    """Whether the rows stand in the whole, in the same order."""
    rest = iter(whole)
    return all(row in rest for row in part)


def after(lattice: Lattice, box: Box, payloads: list[bytes], counts: list[int]) -> BlockDecoder:
    """A decoder that has decoded these levels."""
    decoder = BlockDecoder(lattice, box)
    for payload, count in zip(payloads, counts, strict=True):
        decoder.decode(payload, count)
    return decoder


@pytest.mark.parametrize("level", range(3))
@pytest.mark.parametrize("lattice", [GREY, COLOR])
def test_a_payload_cut_anywhere_yields_those_that_are_whole(lattice, level):
    payloads, levels = encoded(lattice, BOX, COUNTS)
    payload, whole = payloads[level], rows(levels[level])
    found_before = 0
    for length in range(len(payload) + 1):
        decoder = after(lattice, BOX, payloads[:level], COUNTS[:level])
        part = rows(decoder.decode(payload[:length], COUNTS[level], cut=True))
        assert is_part(part, whole)
        assert len(part) >= found_before
        found_before = len(part)
    assert found_before >= COUNTS[level] - 20  # four bytes are read ahead


def test_the_plain_decoder_cuts_alike():
    (payload,), _ = encoded(COLOR, BOX, [40])
    for length in range(0, len(payload) + 1, 3):
        found = BlockDecoder(COLOR, BOX).decode(payload[:length], 40, cut=True)
        decoder = plain.BlockDecoder(plain.Parameters(*COLOR.steps[:5], COLOR.color_steps), plain.Box(*BOX))
        by_text = decoder.decode(payload[:length], 40, cut=True)
        assert [(g.size, g.ratio, g.angle, g.x, g.y, *g.colors) for g in by_text] == rows(found)


def test_without_the_flag_a_cut_payload_is_malformed():
    payloads, _ = encoded(COLOR, BOX, COUNTS)
    for length in range(len(payloads[2]) - 8):
        with pytest.raises(FormatError, match="payload"):
            after(COLOR, BOX, payloads[:2], COUNTS[:2]).decode(payloads[2][:length], COUNTS[2])


def test_nothing_is_decoded_after_a_level_that_is_not_whole():
    payloads, _ = encoded(GREY, BOX, COUNTS)
    cut = BlockDecoder(GREY, BOX)
    cut.decode(payloads[0][:-6], COUNTS[0], cut=True)
    malformed = BlockDecoder(GREY, BOX)
    with pytest.raises(FormatError):
        malformed.decode(b"\xff" * 9, 70)
    for decoder in (cut, malformed):
        with pytest.raises(FormatError, match="not whole"):
            decoder.decode(payloads[1], COUNTS[1])


@pytest.mark.parametrize("count", [17, 1000, 2**31, 2**32 - 1, 2**62])
def test_counts_beyond_the_payload_take_no_memory(count):
    with pytest.raises(FormatError, match=r"payload|count"):
        BlockDecoder(GREY, BOX).decode(b"\x12\x34", count)
    if count < 2**31:
        assert len(BlockDecoder(GREY, BOX).decode(b"\x12\x34", count, cut=True)) == 0


def test_zeros_at_the_end_of_a_payload_are_not_missed():
    # alike in everything: hardly any bits, and a number that may end with many zero bytes
    coarse = Lattice(2048, 487, 2808, MAX_STEP, 2294, (7567,))
    symbols = sample(3, coarse, BOX, 5000, Ranges(size=0, ratio=0, color=0, spots=1))
    payload, found = BlockEncoder(coarse, BOX).encode(symbols)
    assert len(payload) == 625
    assert payload[-500:] == bytes(500)
    assert rows(BlockDecoder(coarse, BOX).decode(payload, 5000)) == rows(found)


def decoded(decoder: BlockDecoder, lattice: Lattice, box: Box, payload: bytes, count: int, cut: bool) -> bool:
    """Whether it decodes; if so, to what a file may hold."""
    try:
        found = decoder.decode(payload, count, cut=cut)
    except FormatError:
        return False
    assert len(found) == count or cut
    assert in_range(found, lattice, box)
    return True


@settings(max_examples=300, deadline=None)
@given(lattices(), boxes(), st.lists(st.binary(max_size=60), min_size=1, max_size=3), st.data())
def test_any_bytes_are_symbols_or_an_error(lattice, box, payloads, data):
    decoder = BlockDecoder(lattice, box)
    for payload in payloads:
        count = data.draw(st.integers(0, 8 * len(payload)))
        if not decoded(decoder, lattice, box, payload, count, data.draw(st.booleans())):
            break


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4))
@example(0, [(0, 255), (1, 255), (2, 255), (3, 255)])
def test_altered_payloads_are_symbols_or_an_error(level, changes):
    payloads, _ = encoded(COLOR, BOX, COUNTS)
    altered = bytearray(payloads[level])
    for at, value in changes:
        altered[at % len(altered)] = value
    decoder = after(COLOR, BOX, payloads[:level], COUNTS[:level])
    if decoded(decoder, COLOR, BOX, bytes(altered), COUNTS[level], False) and level < 2:
        decoded(decoder, COLOR, BOX, payloads[level + 1], COUNTS[level + 1], False)


@pytest.mark.parametrize("byte", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("side", [1, 100, 2**20])
def test_the_most_that_a_payload_may_ask_for_ends(byte, side):
    # eight Gaussians for each byte, on a canvas of any size: a test of memory and time, by ending at all
    payload = bytes([byte]) * 5000
    lattice = Lattice(2048, 2**20 if byte & 1 else 1, 1, 1, 1, (1,) * 4)
    decoded(BlockDecoder(lattice, (0, 0, side, side)), lattice, (0, 0, side, side), payload, 40000, False)


def test_many_levels_of_few_gaussians_end():
    decoder = BlockDecoder(COLOR, BOX)
    encoder = BlockEncoder(COLOR, BOX)
    for level in range(3000):
        payload, found = encoder.encode(sample(level, COLOR, BOX, 1))
        assert rows(decoder.decode(payload, 1)) == rows(found)
