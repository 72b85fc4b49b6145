"""A data set of .gsimg files beside one of JPEG files of the same bytes, as a training loop reads them.

python benchmarks/dataset.py [--quick]

The Kodak pictures at 0.5 bits per pixel as .gsimg (effort 3), and as JPEG of the highest quality that is no larger.
Both are read by PyTorch's DataLoader with two workers, as float tensors [C, H, W]: at full size, and at a quarter of
it, where JPEG is decoded at a quarter (Pillow's draft mode), and .gsimg drawn at a quarter. Pictures of an epoch of
96, per second; medians of three epochs, after one to warm up, in turns.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import generated, kodak, pixels, write
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from imagegs import encode
from imagegs.torch import GsimgDataset

BPP, EPOCHS, WORKERS, PICTURES = 0.5, 3, 2, 96


class JpegDataset(Dataset[torch.Tensor]):
    """JPEG files as floats [C, H, W], at full size or a fraction of it."""

    def __init__(self, folder: Path, reduction: int) -> None:
        self.paths, self.reduction = sorted(folder.glob("*.jpg")), reduction

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.paths[number]) as image:
            if self.reduction > 1:
                image.draft("RGB", (image.width // self.reduction, image.height // self.reduction))
            values = np.asarray(image.convert("RGB"))
        return torch.from_numpy(values.copy()).permute(2, 0, 1).float() / 255


def write_files(folder: Path, sources: list[np.ndarray], effort: int) -> dict[str, int]:
    """Both files of each picture; bytes of each kind."""
    for number, image in enumerate(sources):
        data = encode(image, bpp=BPP, effort=effort).data
        (folder / f"{number:02}.gsimg").write_bytes(data)
        picture = Image.fromarray(np.round(255 * image.transpose(1, 2, 0)).astype(np.uint8))
        for quality in range(95, 0, -1):
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= len(data):
                break
        (folder / f"{number:02}.jpg").write_bytes(buffer.getvalue())
    return {ending: sum(path.stat().st_size for path in folder.glob(f"*.{ending}")) for ending in ("gsimg", "jpg")}


def rate(data: Dataset[torch.Tensor], count: int) -> float:
    """Pictures per second of an epoch."""
    repeated = ConcatDataset([data] * max(1, count // len(data)))  # type: ignore[arg-type]
    loader = DataLoader(repeated, batch_size=None, num_workers=WORKERS, persistent_workers=True)
    for _ in loader:  # to warm up: the processes start
        pass
    began = time.perf_counter()
    for _ in loader:
        pass
    return len(repeated) / (time.perf_counter() - began)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two pictures; nothing is written")
    quick = parser.parse_args().quick
    paths = kodak(2 if quick else None)
    sources = [pixels(path) for path in paths] or [generated(512, 768, seed) for seed in range(2 if quick else 12)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_files(folder, sources, 1 if quick else 3)
        sets = {
            "gsimg": GsimgDataset(folder),
            "jpeg": JpegDataset(folder, 1),
            "gsimg, quarter": GsimgDataset(folder, scale=0.25),
            "jpeg, quarter": JpegDataset(folder, 4),
        }
        shapes = {kind: list(data[0].shape) for kind, data in sets.items()}
        epochs = [{kind: rate(data, 8 if quick else PICTURES) for kind, data in sets.items()} for _ in range(EPOCHS)]
    results = {
        "pictures": [path.stem for path in paths] or "generated",
        "bytes": sizes,
        "shapes": shapes,
        "per second": {kind: round(statistics.median(epoch[kind] for epoch in epochs), 1) for kind in sets},
        "epochs": epochs,
    }
    print({name: results[name] for name in ("bytes", "shapes", "per second")})
    if not quick:
        write("dataset", "python benchmarks/dataset.py", results)


if __name__ == "__main__":
    main()
