"""Payloads that an encoder wrote, as inputs of fuzz_block: python tests/fuzz/seeds.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lattice_samples import Ranges, sample

from imagegs.codec.entropy import BlockEncoder
from imagegs.codec.lattice import MIN_ROOT, Lattice

CASES = [
    (Lattice(2048, 487, 2808, 1966, 2294, (7567,)), (0, 0, 64, 48), [12]),
    (Lattice(2048, 487, 2808, 1966, 2294, (7567, 9268, 8026)), (64, 128, 100, 75), [5, 10, 20]),
    (Lattice(1900, 300, 2000, 1500, 1700, (4000, 5000, 6000, 7000, 9000)), (0, 0, 30, 200), [12, 1]),
    (Lattice(MIN_ROOT, 1, 1, 1, 1, (1, 60000)), (3, 3, 500, 2), [9]),
]
RANGES = [Ranges(), Ranges(spots=2), Ranges(size=9, ratio=90), Ranges(size=5000, ratio=2**20, color=2**24)]


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def seed(lattice: Lattice, box: tuple[int, int, int, int], counts: list[int], limits: Ranges) -> bytes:
    """The input that fuzz_block reads as this lattice, this block and these levels."""
    x, y, width, height = box
    steps = [lattice.root - MIN_ROOT, *(step - 1 for step in lattice.steps[1:])]
    parts = [number(0, 1), number(lattice.channels - 1, 1), *(number(step, 3) for step in steps)]
    parts += [number(0, 1), number(x, 2), number(y, 2), number(width - 1, 2), number(height - 1, 2)]
    encoder = BlockEncoder(lattice, box)
    for k, count in enumerate(counts):
        payload, _ = encoder.encode(sample(k, lattice, box, count, limits))
        parts += [number(0, 1), number(len(payload), 2), payload, number(count, 2)]
    return b"".join(parts)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for case, (lattice, box, counts) in enumerate(CASES):
        for kind, limits in enumerate(RANGES):
            (folder / f"seed-{case}-{kind}").write_bytes(seed(lattice, box, counts, limits))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
