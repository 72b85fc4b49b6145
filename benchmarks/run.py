"""Runs every benchmark, one after another: python benchmarks/run.py [--quick]."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("step", "quality", "scaling", "process", "ablation", "saliency_sources", "lod_server", "lod_counts")

if __name__ == "__main__":
    unknown = [argument for argument in sys.argv[1:] if argument != "--quick"]
    if unknown:
        raise SystemExit(f"run.py: expected --quick or nothing, found {' '.join(unknown)}")
    codes = [
        subprocess.run([sys.executable, HERE / f"{name}.py", *sys.argv[1:]], check=False).returncode for name in NAMES
    ]
    raise SystemExit(max(codes))
