"""What one picture, one tile and one record cost: the numbers that docs/scale.md counts with.

python benchmarks/costs.py [--quick]

- encoding and decoding in core seconds (user and system time of one thread) for each megapixel: Kodak pictures at 0.5
  and 1 bits per pixel, efforts 1, 3 and 5;
- tasks that do nothing per second, by two processes of this machine and by two CPUs of a Ray that is started here;
- bytes of a record in the manifest, and in memory; bytes per second that are hashed when a batch goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

from common import generated, kodak, pixels, write

from imagegs import decode, encode
from imagegs.batching import Record, open_engine

EFFORTS, RATES, REPEATS = (1, 3, 5), (0.5, 1.0), 5


class Nothing(NamedTuple):
    """A task."""

    name: str


def nothing(task: Nothing) -> None:
    """Work."""


def core_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Of this process, and what the work returns."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


def coding(quick: bool) -> dict[str, Any]:
    """Core seconds for each megapixel."""
    paths = kodak()[4 : 5 if quick else 12 : 3]
    pictures = [pixels(path) for path in paths] or [generated(512, 768)]
    found: dict[str, Any] = {}
    for effort in EFFORTS[: 1 if quick else None]:
        for bpp in RATES:
            encoding, decoding = [], []
            for picture in pictures:
                million = picture[0].size / 1e6
                spent, made = core_seconds(lambda p=picture, b=bpp, e=effort: encode(p, bpp=b, effort=e, threads=1))
                encoding.append(spent / million)
                decode(made.data, threads=1)
                spent, _ = core_seconds(lambda d=made.data: [decode(d, threads=1) for _ in range(REPEATS)])
                decoding.append(spent / million / REPEATS)
            found[f"effort {effort}, {bpp} bpp"] = {
                "encode": round(statistics.median(encoding), 2),
                "decode": round(statistics.median(decoding), 4),
            }
            print(effort, bpp, found[f"effort {effort}, {bpp} bpp"], flush=True)
    return found


def tasks_per_second(engine: str, count: int) -> float:
    """Of tasks that do nothing."""
    with open_engine(engine, workers=2) as opened:
        for _ in opened.run(nothing, [Nothing(str(number)) for number in range(8)]):
            pass  # the processes start
        began = time.perf_counter()
        for _ in opened.run(nothing, [Nothing(str(number)) for number in range(count)]):
            pass
        return count / (time.perf_counter() - began)


def records(count: int) -> dict[str, float]:
    """Bytes of a record."""
    tracemalloc.start()
    made = {
        f"a/folder/picture-{number:07}.gsimg": Record(
            f"/some/where/a/folder/picture-{number:07}.png",
            f"a/folder/picture-{number:07}.gsimg",
            "0123456789abcdef",
            f"{number:064x}",
            768,
            512,
            20_000 + number,
            0.5,
            30.0,
            10.0,
        )
        for number in range(count)
    }
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"in memory": memory / count, "in JSON": len(json.dumps(asdict(next(iter(made.values())))))}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one picture, one effort; nothing is written")
    quick = parser.parse_args().quick
    data = bytes(1 << 28)
    spent, _ = core_seconds(lambda: hashlib.sha256(data).digest())
    results = {
        "core seconds per megapixel": coding(quick),
        "tasks per second": {name: round(tasks_per_second(name, 200 if quick else 1000)) for name in ("local", "ray")},
        "bytes of a record": records(20_000),
        "bytes hashed per core second": len(data) / spent,
    }
    print(results)
    if not quick:
        write("costs", "python benchmarks/costs.py", results)


if __name__ == "__main__":
    main()
