"""The clocks: what is called again and again in one process, in turns or alone, and what a fresh process takes.

- **fit**: wall time from the pixels to the finished Gaussians; reading the picture and importing are not in it.
- **encode**: from there to the bytes of a file; or, where a search for a size fits more than once, all of it.
- **cold decode**: in a fresh process, from the bytes of the file to pixels of 8 bits, loading of the decoder included.
- **warm decode** and **warm render**: calls in a process that has done the same before, the median of several.

Every call ends with its result in memory, so that there is nothing to wait for; what runs on a GPU is waited for.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Times = dict[str, float]
"""``median_ms``, ``iqr_ms`` and ``repeats``."""

OURS_CALL = """
import sys, time
data = open(sys.argv[1], "rb").read()
began = time.perf_counter()
import numpy
from imagegs.decoding import decode
loaded = time.perf_counter()
pixels = decode(data).pixels
eight = (pixels * 255 + 0.5).astype(numpy.uint8)
print(time.perf_counter() - loaded, time.perf_counter() - began)
"""

GAUSSIAN_IMAGE_CALL = OURS_CALL.replace("imagegs.decoding", "imagegs.bench.gaussian_image").replace(
    "decode(data).pixels", "decode(data)"
)

PILLOW_CALL = """
import io, sys, time
data = open(sys.argv[1], "rb").read()
began = time.perf_counter()
from PIL import Image
if sys.argv[1].endswith(".jxl"):
    import pillow_jxl
Image.init()
loaded = time.perf_counter()
Image.open(io.BytesIO(data)).load()
print(time.perf_counter() - loaded, time.perf_counter() - began)
"""

CALLS = {".gsimg": OURS_CALL, ".giq": GAUSSIAN_IMAGE_CALL}


def timed(work: Callable[[], Any], repeats: int = 15, warm_up: int = 2) -> Times:
    """Median and spread of a call, milliseconds."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return _summary(times, 3)


def alternated(works: Mapping[str, Callable[[], Any]], rounds: int = 15) -> dict[str, Times]:
    """The same for several calls that take turns, so that a busy moment of the machine meets them all.

    A turn waits until the threads of the one before have gone to sleep (OpenMP's spin on for milliseconds and would
    hold a core against the next), calls once to warm up, and takes the mean of the next few calls.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    calls = 4
    for _ in range(rounds):
        for name, work in works.items():
            time.sleep(0.03)
            work()
            began = time.perf_counter()
            for _ in range(calls):
                work()
            times[name].append(1e3 * (time.perf_counter() - began) / calls)
    return {name: _summary(values, 3) for name, values in times.items()}


def decoded_cold(files: Mapping[str, bytes], rounds: int = 5) -> dict[str, dict[str, Times]]:
    """Decoding in fresh processes, file by file in turns.

    Args:
        files: bytes by a name; `.gsimg` files and GaussianImage's are told by their signatures, others go to Pillow.
        rounds: processes for each file.

    Returns:
        For each file ``cold``, from its bytes to pixels with the loading of the decoder; ``first``, the call alone; and
        ``process``, the whole process from its start to its end.
    """
    seconds: dict[str, dict[str, list[float]]] = {name: {"cold": [], "first": [], "process": []} for name in files}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{place}{_ending(data)}" for place, (name, data) in enumerate(files.items())}
        for name, data in files.items():
            paths[name].write_bytes(data)
        for turn in range(rounds + 1):
            for name, path in paths.items():
                code = CALLS.get(path.suffix, PILLOW_CALL)
                began = time.perf_counter()
                done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
                process = time.perf_counter() - began
                if turn:  # the first fills the cache of the disk
                    first, cold = (float(word) for word in done.stdout.split())
                    for clock, value in (("cold", cold), ("first", first), ("process", process)):
                        seconds[name][clock].append(1e3 * value)
    return {name: {clock: _summary(values, 2) for clock, values in clocks.items()} for name, clocks in seconds.items()}


def decode_call(data: bytes) -> Callable[[], Any]:
    """A call that decodes a file to pixels of 8 bits, by ours, by that of GaussianImage's codec or by Pillow."""
    ending = _ending(data)
    if ending not in CALLS:
        return lambda: Image.open(io.BytesIO(data)).load()
    from ..decoding import decode
    from . import gaussian_image

    if ending == ".giq":
        return lambda: (gaussian_image.decode(data) * 255 + 0.5).astype(np.uint8)
    return lambda: (decode(data).pixels * 255 + 0.5).astype(np.uint8)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Mean, median, quartiles and number of some figures."""
    found = sorted(values)
    with np.errstate(invalid="ignore"):  # the PSNR of equal pictures is infinite
        low, middle, high = (float(value) for value in np.quantile(found, (0.25, 0.5, 0.75)))
    return {"mean": float(np.mean(found)), "median": middle, "q1": low, "q3": high, "n": len(found)}


def _ending(data: bytes) -> str:
    from ..codec.format import SIGNATURE
    from . import gaussian_image

    if data.startswith(SIGNATURE):
        return ".gsimg"
    if data.startswith(gaussian_image.SIGNATURE):
        return ".giq"
    # JPEG XL, as a codestream and in a container, which Pillow knows by a plug-in alone
    return ".jxl" if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL " else ".bin"


def _summary(milliseconds: list[float], digits: int) -> Times:
    if len(milliseconds) == 1:
        return {"median_ms": round(milliseconds[0], digits), "iqr_ms": 0.0, "repeats": 1}
    low, _, high = statistics.quantiles(milliseconds, n=4)
    return {
        "median_ms": round(statistics.median(milliseconds), digits),
        "iqr_ms": round(high - low, digits),
        "repeats": len(milliseconds),
    }
