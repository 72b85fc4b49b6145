"""For PyTorch: pictures drawn into tensors, on a GPU too, and data sets of ``.gsimg`` files, alone or in tar shards.

```python
from imagegs.torch import GsimgDataset, GsimgStream, render

pictures = GsimgDataset("encoded", size=(224, 224), crop="random")
stream = GsimgStream(sorted(Path("shards").glob("*.tar")), size=(224, 224))
```
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from . import devices
from .decoding import decode, read_gsimg
from .errors import ConfigError, ImageError, ImageGSError
from .files import read_bytes
from .gaussians import Gaussians2D
from .rendering import output_of
from .rendering import render as draw

Crop = Literal["center", "random"]
Sources = str | Path | Sequence[str | Path]
ENDING, SHARD = ".gsimg", ".tar"


def render(
    gaussians: Gaussians2D,
    height: int | None = None,
    width: int | None = None,
    *,
    region: tuple[float, float, float, float] | None = None,
    device: str = "auto",
) -> torch.Tensor:
    """Draw Gaussians into a tensor; on a GPU the picture never leaves it, and nothing waits for it to be drawn.

    Args:
        gaussians: what to draw.
        height: see ``imagegs.render``.
        width: see ``imagegs.render``.
        region: see ``imagegs.render``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        float32 [C, height, width] on the device, not clamped.

    Raises:
        ShapeError: see ``imagegs.render``.
        DeviceError: the device cannot be used, or has too little memory.
    """
    where = devices.resolve(device)
    if where == "cpu":
        return torch.from_numpy(draw(gaussians, height, width, region=region))
    from .kernels.cuda import CudaRasterizer

    rows, columns, viewport = output_of(gaussians, height, width, region)
    gpu = devices.open_gpu(int(where.partition(":")[2]))
    arrays = gaussians.means, gaussians.scales, gaussians.rotations, gaussians.colors, gaussians.background
    means, scales, rotations, colors, background = (torch.tensor(array, device=gpu.torch) for array in arrays)
    rasterizer = CudaRasterizer(gpu)
    size = rows, columns
    rasterizer.prepare(means, scales, rotations, colors, size, viewport, gaussians.blend, gaussians.top_k)
    return rasterizer.forward(background)


@dataclass(frozen=True)
class Entry:
    """Where the bytes of a file are.

    Attributes:
        path: a ``.gsimg`` file, or a tar archive that is not compressed.
        name: of the file, inside of an archive.
        offset: of its first byte in an archive.
        length: of it, bytes; None for a file of its own.
    """

    path: Path
    name: str
    offset: int = 0
    length: int | None = None

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: they cannot be read.
        """
        if self.length is None:
            return read_bytes(self.path)
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                return file.read(self.length)
        except OSError as error:
            raise ImageError(f"{self.path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


@dataclass(frozen=True)
class Drawing:
    """How files become tensors.

    Attributes:
        size: height and width of every picture: of each, a part of this shape is drawn; None draws all of it.
        scale: without a size, pixels for each pixel of the canvas; 1 by default.
        crop: which part: in the middle, or anywhere.
        level: the highest level of detail; None is all.
        max_bytes: use only so many bytes of each file; None is all.
        seed: of the parts that are anywhere.

    Raises:
        ConfigError: size and scale are both given, or a number is out of range.
    """

    size: tuple[int, int] | None = None
    scale: float | None = None
    crop: Crop = "center"
    level: int | None = None
    max_bytes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size is not None and (self.scale is not None or len(self.size) != 2 or min(self.size) < 1):
            raise ConfigError(
                f"size: expected height and width from 1, and no scale, found {self.size} and {self.scale}"
            )
        if self.crop not in get_args(Crop):
            raise ConfigError(f"crop: expected one of {', '.join(get_args(Crop))}, found {self.crop!r}")

    def draw(self, entry: Entry, number: int, epoch: int) -> torch.Tensor:
        """A file as floats [C, H, W] in [0, 1].

        Raises:
            ImageGSError: the file is damaged; its name is in the text.
        """
        data = entry.read()
        asked: dict[str, Any] = {"scale": self.scale}
        try:
            if self.size is not None:
                header = read_gsimg(data, strict=False).header
                asked = {"region": self._part(header.width, header.height, number, epoch), "height": self.size[0]}
            threads = None if get_worker_info() is None else 1  # data loaders have processes enough
            picture = decode(data, level=self.level, max_bytes=self.max_bytes, threads=threads, **asked)
        except ImageGSError as error:
            raise type(error)(f"{entry.name} in {entry.path}: {error}") from error
        return torch.from_numpy(picture.pixels)

    def _part(self, width: int, height: int, number: int, epoch: int) -> tuple[float, float, float, float]:
        """The largest part of a canvas with the shape of the size."""
        assert self.size is not None
        rows, columns = self.size
        part = min(width / columns, height / rows)
        across, down = part * columns, part * rows
        at = (0.5, 0.5)
        if self.crop == "random":
            left, top = np.random.default_rng([self.seed, epoch, number]).random(2)
            at = float(left), float(top)
        return at[0] * max(width - across, 0.0), at[1] * max(height - down, 0.0), across, down


class GsimgDataset(Dataset[Any]):
    """Pictures by their number, in the order of their names.

    It holds paths only: it can be pickled, and every process opens files of its own.

    Args:
        source: a folder, whose ``.gsimg`` files are found at any depth; a file or tar archive, or several.
        transform: what becomes of each tensor [C, H, W].
        **drawing: see `Drawing`.

    Raises:
        ImageError: a source cannot be read.
        ConfigError: there are no files, or the drawing is out of range.
    """

    def __init__(self, source: Sources, *, transform: Callable[[torch.Tensor], Any] | None = None, **drawing: Any):
        self.entries = find_entries(source)
        self.drawing = Drawing(**drawing)
        self.transform = transform
        self.epoch = 0
        """Other random parts in each."""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> Any:
        picture = self.drawing.draw(self.entries[number], number, self.epoch)
        return picture if self.transform is None else self.transform(picture)


class GsimgStream(IterableDataset[Any]):
    """Pictures one after another, each in one process only: shared over the processes of data loaders and of machines.

    Sources are shared out whole where there are enough of them, so that each is read by one process; else every
    process takes its share of the files.

    Args:
        source: as of `GsimgDataset`, for example tar shards.
        transform: what becomes of each tensor [C, H, W].
        rank: number of this machine's process; by default of the environment's ``RANK``, else 0.
        world: how many there are; by default of ``WORLD_SIZE``, else 1.
        shuffle: whether files come in another order in each epoch.
        **drawing: see `Drawing`.

    Raises:
        ImageError: a source cannot be read.
        ConfigError: there are no files, or a number is out of range.
    """

    def __init__(
        self,
        source: Sources,
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
        rank: int | None = None,
        world: int | None = None,
        shuffle: bool = False,
        **drawing: Any,
    ):
        self.entries = find_entries(source)
        self.drawing = Drawing(**drawing)
        self.transform = transform
        self.rank = int(os.environ.get("RANK", 0)) if rank is None else rank
        self.world = int(os.environ.get("WORLD_SIZE", 1)) if world is None else world
        if not 0 <= self.rank < self.world:
            raise ConfigError(f"rank: expected 0 to world - 1, found {self.rank} of {self.world}")
        self.shuffle = shuffle
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        for number in self.numbers():
            picture = self.drawing.draw(self.entries[number], number, self.epoch)
            yield picture if self.transform is None else self.transform(picture)

    def numbers(self) -> list[int]:
        """Which files come in this process, in their order."""
        info = get_worker_info()
        share, shares = (0, 1) if info is None else (info.id, info.num_workers)
        me, all_of_us = self.rank * shares + share, self.world * shares
        paths = list(dict.fromkeys(entry.path for entry in self.entries))
        if len(paths) >= all_of_us:
            own = set(paths[me::all_of_us])
            numbers = [number for number, entry in enumerate(self.entries) if entry.path in own]
        else:
            numbers = list(range(me, len(self.entries), all_of_us))
        if self.shuffle:
            np.random.default_rng([self.drawing.seed, self.epoch, me]).shuffle(numbers)
        return numbers


def find_entries(source: Sources) -> tuple[Entry, ...]:
    """The files of a source.

    Raises:
        ImageError: a source is absent, or an archive cannot be read or is compressed.
        ConfigError: there are no files.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    found = tuple(entry for path in paths for entry in _entries(path))
    if not found:
        raise ConfigError(f"{', '.join(map(str, paths)) or 'source'}: expected {ENDING} files, found none")
    return found


def _entries(path: Path) -> Iterator[Entry]:
    if path.is_dir():
        for file in sorted(path.rglob(f"*{ENDING}")):
            yield Entry(file, file.name)
    elif path.suffix.lower() == SHARD:
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isfile() and member.name.endswith(ENDING):
                        yield Entry(path, member.name, member.offset_data, member.size)
        except (OSError, tarfile.TarError) as error:
            raise ImageError(f"{path}: expected a tar archive that is not compressed, found: {error}") from error
    elif path.is_file():
        yield Entry(path, path.name)
    else:
        raise ImageError(f"{path}: cannot be read: no such file or folder")
