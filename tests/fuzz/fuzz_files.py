"""Altered files through the decoder: python tests/fuzz/fuzz_files.py SECONDS [FOLDER] [--seed N].

Valid files are altered at random, most of them get right checksums again, and are fed in pieces. What comes out must
be Gaussians or a FormatError, within ten seconds and without much memory; anything else is a finding, whose file is
left in FOLDER. Ends with status 1 if there was one.
"""

from __future__ import annotations

import argparse
import collections
import io
import random
import resource
import signal
import struct
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from imagegs.codec import Blocks, Decoder, parse
from imagegs.codec.fields import checksum
from imagegs.codec.format import head_size, read_head
from imagegs.codec.lattice import Lattice, LatticeSymbols, quantize_colors, quantize_shape
from imagegs.codec.lattice_file import arrange, place_groups, usual_ends, write_lattice
from imagegs.codec.stream import feed_head, needed_chunks, needed_pages
from imagegs.errors import FormatError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MAX_PIXELS = 1 << 20
LIMIT_SECONDS = 10
LIMIT_GIBIBYTES = 1.5
NUMBERS = [0, 1, 2, 3, 63, 64, 127, 128, 129, 191, 254, 255]


def lattice_file(channels: int, levels: int, block_shift: int) -> bytes:
    """A valid file of quantizer 1."""
    numbers = np.random.default_rng(levels)
    count, width, height = 120, 200, 150
    means = numbers.uniform((0, 0), (width, height), (count, 2)).astype(np.float32)
    scales = numbers.uniform(1.5, 9, (count, 2)).astype(np.float32)
    colors = numbers.uniform(0, 1, (count, channels)).astype(np.float32)
    lattice = Lattice.of(0.8, channels, (0,) if channels >= 3 else ())
    blocks = Blocks(width, height, block_shift)
    shape = quantize_shape(scales, numbers.uniform(0, 3, count).astype(np.float32), lattice)
    groups = arrange(shape[:, 0], means, usual_ends(len(means), levels), blocks)
    symbols = LatticeSymbols(
        place_groups(shape, means, lattice, groups, blocks), quantize_colors(colors, shape[:, 0], lattice)
    )
    background = np.full(channels, 0.5, np.float32)
    canvas = {"height": height, "width": width, "background": background, "block_shift": block_shift}
    return write_lattice(symbols, lattice, groups, **canvas).data


def valid_files() -> list[bytes]:
    """What is altered."""
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.gsimg"))]
    return files + [lattice_file(*case) for case in ((1, 1, 0), (3, 1, 0), (3, 3, 0), (3, 3, 6), (5, 2, 7))]


def altered(chance: random.Random, data: bytes, files: list[bytes]) -> bytes:
    """One to four changes, most of them near the start, where the head is."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not out:
            break
        at = (
            min(int(chance.paretovariate(0.4)) + 9, len(out) - 1)
            if chance.random() < 0.5
            else chance.randrange(len(out))
        )
        length = chance.randint(1, 8)
        match chance.randrange(8):
            case 0:
                out[at] ^= 1 << chance.randrange(8)
            case 1 | 2:
                out[at] = chance.choice(NUMBERS)
            case 3:
                out[at : at + length] = chance.randbytes(length)
            case 4:
                del out[at : at + length]
            case 5:
                out[at:at] = out[at : at + length]
            case 6:
                other = chance.choice(files)
                start = chance.randrange(len(other))
                out[at : at + 4 * length] = other[start : start + 4 * length]
            case _:
                del out[chance.randrange(len(out)) :]
    return bytes(out)


def with_head_checksum(head: bytes) -> bytes:
    return head[:-4] + struct.pack("<I", checksum(head[:-4]))


def with_right_checksums(data: bytes) -> bytes:
    """The same with the checksums that its head and, as far as that can be read, its pages or chunks should have."""
    try:
        size = head_size(data, "file")
    except FormatError:
        return data
    if size is None or not 4 < size <= len(data):
        return data
    head, rest = with_head_checksum(data[:size]), data[size:]
    try:
        found_head = read_head(head, max_pixels=MAX_PIXELS, name="file")
    except FormatError:
        return head + rest
    for chunk in [page.entry for page in found_head.pages] or found_head.chunks:
        known, found = (
            struct.pack("<I", value) for value in (chunk.checksum, checksum(data[chunk.offset : chunk.end]))
        )
        before, _, after = head.rpartition(known)
        head = before + found + after if before else head
    return with_head_checksum(head) + rest


def try_file(chance: random.Random, data: bytes) -> str:
    """Decode it in three ways; a word for what happened."""
    region = (chance.uniform(0, 200), chance.uniform(0, 150), 30.0, 30.0)
    part = Decoder(max_pixels=MAX_PIXELS, pages=lambda head: needed_pages(head, region=region))
    decoder = Decoder(max_pixels=MAX_PIXELS)
    try:
        feed_head(io.BytesIO(data), part)
        if part.head is not None:
            part.select(needed_chunks(part.head, region=region))
            part.feed(data[part.received :])
            part.gaussians(partial=True)
        at = 0
        while at < len(data):
            piece = chance.choice([1, 7, 100, len(data)])
            decoder.feed(data[at : at + piece])
            at += piece
            if decoder.header is not None and chance.random() < 0.05:
                decoder.gaussians(partial=True)
        decoder.finish(strict=False)
        streamed = len(decoder.gaussians(partial=True))
        found = parse(data, max_pixels=MAX_PIXELS, strict=False).gaussians
    except FormatError as error:
        return type(error).__name__
    assert len(found) == streamed
    for values in (found.means, found.scales, found.rotations, found.colors):
        assert np.isfinite(values).all()
    assert (found.scales > 0).all()
    return "decoded"


def too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {LIMIT_SECONDS} s")


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("seconds", type=float)
    arguments.add_argument("folder", type=Path, nargs="?", default=Path("build/fuzz"))
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chance, files = random.Random(options.seed), valid_files()
    signal.signal(signal.SIGALRM, too_slow)
    outcomes: collections.Counter[str] = collections.Counter()
    findings, slowest, start = 0, 0.0, time.monotonic()
    while time.monotonic() - start < options.seconds:
        data = altered(chance, chance.choice(files), files)
        if chance.random() < 0.9:
            data = with_right_checksums(data)
        before = time.monotonic()
        signal.alarm(LIMIT_SECONDS)
        try:
            outcomes[try_file(chance, data)] += 1
        except Exception:
            findings += 1
            path = options.folder / f"finding-{options.seed}-{findings}.gsimg"
            path.write_bytes(data)
            print(path, file=sys.stderr)
            traceback.print_exc()
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.monotonic() - before)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    findings += memory > LIMIT_GIBIBYTES
    print(f"{sum(outcomes.values())} files in {options.seconds:.0f} s, the slowest {slowest:.2f} s, {memory:.2f} GiB")
    print(f"{findings} findings;", ", ".join(f"{name} {count}" for name, count in outcomes.most_common()))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
