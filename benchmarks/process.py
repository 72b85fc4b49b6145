"""Whole processes: memory and time of a 2048² fit, and a cold decode to PNG.

python benchmarks/process.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import SHARED, THREADS, generated, kodak, pixels, write

from imagegs import write_image

FIT = """
import json, resource, sys, time
from imagegs.encoding import encode
began = time.perf_counter()
found = encode(sys.argv[1], gaussians=int(sys.argv[2]), preset="fast", threads=int(sys.argv[3]))
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"encode_s": round(seconds, 2), "fit_s": round(found.fit.seconds, 2), "psnr_db": round(found.psnr, 2),
                  "bytes": len(found.data), "peak_gib": round(peak, 3), "torch": "torch" in sys.modules}))
"""

DECODE = """
import sys
from imagegs.cli import app
try:
    app(["decode", sys.argv[1], "-o", sys.argv[2]])
except SystemExit as stop:
    print(stop.code, "torch" in sys.modules)
"""


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    side, count = (1024, 5000) if quick else (2048, 20000)
    large = SHARED / "data" / "stylized" / "peppercarrot_castle_2k.png"
    if quick or not large.is_file() or pixels(large).shape[1:] != (side, side):
        source = folder / "generated.png"
        write_image(source, generated(side, side))
    else:
        source = large
    done = subprocess.run(
        [sys.executable, "-c", FIT, source, str(count), str(THREADS)], capture_output=True, text=True, check=True
    )
    fit = {"picture": source.name, "side": side, "gaussians": count, "preset": "fast", **json.loads(done.stdout)}
    print(fit, flush=True)

    photo = kodak(1)[0] if kodak() else folder / "photo.png"
    if not photo.exists():
        write_image(photo, generated(512, 768))
    coded, decoded = folder / "photo.gsimg", folder / "out.png"
    imagegs = [sys.executable, "-m", "imagegs"]
    subprocess.run([*imagegs, "encode", photo, "-o", coded, "-n", "5000", "--preset", "fast", "-q"], check=True)
    seen = subprocess.run([sys.executable, "-c", DECODE, coded, decoded], capture_output=True, text=True, check=True)
    times, user = [], []
    for _ in range(3 if quick else 11):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*imagegs, "decode", coded, "-o", decoded], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    decode = {
        "picture": photo.name,
        "process_s": round(statistics.median(times), 3),
        "fastest_s": round(min(times), 3),
        "cpu_s": round(statistics.median(user), 3),
        "torch_imported": seen.stdout.split()[-1] == "True",
    }
    print(decode, flush=True)
    return {"fit": fit, "decode": decode}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1024² and 5,000 Gaussians")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), arguments.quick)
    write("process", "python benchmarks/process.py" + " --quick" * arguments.quick, found)
