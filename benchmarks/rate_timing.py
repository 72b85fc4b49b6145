"""Times and memory: decoding beside Pillow's codecs, and encoding by effort."""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rate_points import Ours, Source, eight_bits, measure_ours
from rate_store import Point, Store

from imagegs.bench.anchors import ANCHORS, to_image, to_pixels
from imagegs.bench.clocks import OURS_CALL, PILLOW_CALL, alternated
from imagegs.decoding import decode
from imagegs.metrics import psnr

EFFORTS = "efforts"
"""Key of the points of the table of efforts, which processes of their own measured."""
DECODED = ("jpeg", "webp", "avif", "avif-444", "jpeg2000", "jxl")
"""The anchors whose decoders are timed."""

PILLOW_TO_PNG = """
import sys
from PIL import Image
if sys.argv[1].endswith(".jxl"):
    import pillow_jxl
Image.open(sys.argv[1]).save(sys.argv[2])
"""

ENCODE = """
import json, resource, sys, time
from imagegs.encoding import encode
began = time.perf_counter()
found = encode(sys.argv[1], bpp=float(sys.argv[2]), effort=int(sys.argv[3]), seed=0)
seconds = time.perf_counter() - began
open(sys.argv[4], "wb").write(found.data)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"encode_s": round(seconds, 2), "gaussians": len(found.gaussians), "peak_gib": round(peak, 3)}))
"""


def decode_times(ours: Ours, source: Source, rate: float, store: Store, rounds: int = 15) -> dict[str, Any]:
    """Decoding files of about the same size: calls that are warm, the first call of a process, and whole processes."""
    point = measure_ours(ours, source, rate, store)
    files = {"imagegs": (store.files / point.extra["file"]).read_bytes()}
    for anchor in ANCHORS:
        if anchor.key in DECODED and anchor.missing is None:
            kept = store.all(source.digest, anchor.key, anchor.identity)
            if kept:
                best = min(kept, key=lambda candidate: abs(candidate.bytes - point.bytes))
                files[anchor.key] = anchor.encode(to_image(source.pixels), best.rung)
    works: dict[str, Callable[[], Any]] = {key: _pillow_call(data) for key, data in files.items() if key != "imagegs"}
    works["imagegs"] = lambda: _ours_call(files["imagegs"])
    warm = alternated(works, rounds)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        paths = {key: Path(name) / f"{key}.{'jxl' if key == 'jxl' else 'bin'}" for key in files}
        for key, data in files.items():
            paths[key].write_bytes(data)
        first, call, png = _processes(paths, Path(name), rounds)
        for key, data in files.items():
            shown = eight_bits(decode(data).pixels) if key == "imagegs" else to_pixels(data)
            rows[key] = {
                "bytes": len(data),
                "psnr": round(psnr(source.pixels, shown), 2),
                "warm": warm[key],
                "first_call": first[key],
                "process": call[key],
                "process_to_png": png[key],
            }
    labels = {"imagegs": ours.label} | {anchor.key: anchor.label for anchor in ANCHORS if anchor.key in rows}
    return {"picture": source.path.name, "rate": rate, "labels": labels, "codecs": rows}


def efforts(source: Source, rate: float, chosen: Sequence[Ours], store: Store) -> dict[str, Any]:
    """What each effort takes and gives, each in a process of its own; one that fails is told and left out."""
    rows = []
    for ours in chosen:
        point = ours.kept(source, rate, store, EFFORTS) or _encode_in_process(ours, source, rate, store)
        if point is None:
            continue
        rows.append(
            {
                "effort": ours.effort,
                "bytes": point.bytes,
                "bpp": round(point.bpp, 4),
                "psnr": round(point.psnr, 3),
                "encode_s": point.encode_s,
                "gaussians": point.extra["gaussians"],
                "peak_gib": point.extra["peak_gib"],
            }
        )
        print("effort", rows[-1], flush=True)
    return {"picture": source.path.name, "rate": rate, "rows": rows}


def _encode_in_process(ours: Ours, source: Source, rate: float, store: Store) -> Point | None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file.gsimg"
        command = [sys.executable, "-c", ENCODE, str(source.path), str(rate), str(ours.effort), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"{ours.label} at {rate:g} bpp is left out: {why}", file=sys.stderr)
            return None
        data = path.read_bytes()
    found = json.loads(done.stdout.splitlines()[-1])
    decoded = eight_bits(decode(data).pixels)
    point = Point(
        picture=source.digest,
        codec=EFFORTS,
        identity=ours.identity,
        rung=rate,
        bytes=len(data),
        bpp=8 * len(data) / source.count,
        psnr=psnr(source.pixels, decoded),
        ms_ssim=None,
        encode_s=found["encode_s"],
        extra={"gaussians": found["gaussians"], "peak_gib": found["peak_gib"]},
    )
    store.add(point)
    return point


def _ours_call(data: bytes) -> Any:
    """What Pillow's codecs do, down to bytes of eight bits."""
    return (decode(data).pixels * 255 + 0.5).astype(np.uint8)


def _pillow_call(data: bytes) -> Callable[[], Any]:
    return lambda: Image.open(io.BytesIO(data)).load()


def _processes(
    paths: dict[str, Path], folder: Path, rounds: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The first call of a fresh process, that process as a whole, and a process that writes a PNG; in turns."""
    first: dict[str, list[float]] = {key: [] for key in paths}
    call: dict[str, list[float]] = {key: [] for key in paths}
    png: dict[str, list[float]] = {key: [] for key in paths}
    for _ in range(rounds):
        for key, path in paths.items():
            code = OURS_CALL if key == "imagegs" else PILLOW_CALL
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
            call[key].append(time.perf_counter() - began)
            first[key].append(float(done.stdout.split()[0]))
            out = folder / "out.png"
            if key == "imagegs":
                command = [sys.executable, "-m", "imagegs", "decode", str(path), "-o", str(out)]
            else:
                command = [sys.executable, "-c", PILLOW_TO_PNG, str(path), str(out)]
            began = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            png[key].append(time.perf_counter() - began)
    summaries = [{key: _summary(values) for key, values in times.items()} for times in (first, call, png)]
    return summaries[0], summaries[1], summaries[2]


def _summary(seconds: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(seconds, n=4)
    return {
        "median_ms": round(1e3 * statistics.median(seconds), 2),
        "iqr_ms": round(1e3 * (high - low), 2),
        "repeats": len(seconds),
    }
