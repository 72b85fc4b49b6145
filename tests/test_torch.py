"""Data sets for PyTorch: every picture once, at the size asked for, in any number of processes."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from imagegs import decode, encode
from imagegs.errors import ConfigError, FormatError, ImageError
from imagegs.kernels import native
from imagegs.torch import GsimgDataset, GsimgStream

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def file_of(level: float) -> bytes:
    """A picture, 40 wide and 24 high, of this brightness but for its right edge."""
    pixels = np.full((3, 24, 40), level, np.float32)
    pixels[:, :, 32:] = 1
    return encode(pixels, gaussians=20, steps=20, effort=1).data


FILES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("encoded")
    data = [file_of(0.1 * number) for number in range(FILES)]
    (made / "files" / "deep").mkdir(parents=True)
    for number, one in enumerate(data):
        (made / "files" / ("deep" if number > 3 else ".") / f"{number}.gsimg").write_bytes(one)
    for shard in range(3):
        with tarfile.open(made / f"{shard}.tar", "w") as archive:
            for name in (f"{2 * shard}.gsimg", f"{2 * shard + 1}.gsimg", "label.txt"):
                content = b"label" if name == "label.txt" else data[int(name[0])]
                member = tarfile.TarInfo(f"part/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return made


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def brightness(picture: torch.Tensor) -> int:
    """The number of a file, from its pixels."""
    return round(10 * float(picture[:, 4:20, 2:20].median()))


def test_pictures_come_as_decode_draws_them(folder):
    pictures = GsimgDataset(folder / "files")
    assert len(pictures) == FILES
    for entry, picture in zip(pictures.entries, pictures, strict=True):
        assert picture.dtype == torch.float32
        assert np.array_equal(picture.numpy(), decode(entry.path).pixels)
    assert [brightness(picture) for picture in GsimgDataset(shards(folder))] == list(range(FILES))
    assert GsimgDataset(shards(folder)[0], scale=0.5)[1].shape == (3, 12, 20)
    assert GsimgDataset(shards(folder)[0], transform=brightness)[1] == 1


@pytest.mark.parametrize("size", [(16, 16), (48, 20), (7, 40), (1, 1)])
def test_every_picture_has_the_size(folder, size):
    assert GsimgDataset(folder / "files", size=size)[0].shape == (3, *size)


def test_parts_are_in_the_middle_or_anywhere(folder):
    middle = GsimgDataset(folder / "files", size=(24, 24))[2]
    assert np.allclose(middle, decode(folder / "files" / "2.gsimg", region=(8, 0, 24, 24)).pixels, atol=1e-6)
    anywhere = GsimgDataset(folder / "files", size=(24, 24), crop="random", seed=3)
    first = anywhere[2]
    assert torch.equal(first, anywhere[2])
    parts = {first.numpy().tobytes()}
    for anywhere.epoch in range(1, 4):
        parts.add(anywhere[2].numpy().tobytes())
    assert len(parts) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loaders_have_every_picture_once(folder, workers):
    context = "spawn" if workers else None
    for pictures in (
        GsimgDataset(shards(folder), size=(16, 16)),
        GsimgStream(shards(folder), size=(16, 16)),
        GsimgStream(folder / "files", size=(16, 16), shuffle=True),
        GsimgStream(shards(folder)[0], size=(16, 16)),
    ):
        loader = DataLoader(pictures, batch_size=2, num_workers=workers, multiprocessing_context=context)
        found = sorted(brightness(picture) for batch in loader for picture in batch)
        assert found == list(range(len(pictures.entries)))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_machines_share_the_pictures(folder, world):
    streams = [GsimgStream(shards(folder), rank=rank, world=world) for rank in range(world)]
    numbers = [number for stream in streams for number in stream.numbers()]
    assert sorted(numbers) == list(range(FILES))
    if world <= 3:  # archives are read by one machine each
        owners = [{stream.entries[number].path for number in stream.numbers()} for stream in streams]
        assert sum(map(len, owners)) == 3


def test_the_environment_says_which_machine_it_is(folder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert GsimgStream(shards(folder)).numbers() == [2, 3]


def test_orders_differ_by_epoch(folder):
    stream = GsimgStream(folder / "files", shuffle=True)
    orders = []
    for stream.epoch in range(4):
        orders.append(tuple(stream.numbers()))
    assert len(set(orders)) > 1
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(FILES))}


def test_data_sets_can_be_pickled(folder):
    pictures = pickle.loads(pickle.dumps(GsimgDataset(shards(folder), size=(8, 8))))
    assert pictures[3].shape == (3, 8, 8)


def test_what_cannot_be_is_one_line(folder, tmp_path):
    (tmp_path / "bad.gsimg").write_bytes(file_of(0.5)[:-9] + b"123456789")
    (tmp_path / "bad.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "empty").mkdir()
    for make, error, message in (
        (lambda: GsimgDataset(tmp_path / "none"), ImageError, "none: cannot be read"),
        (lambda: GsimgDataset(tmp_path / "empty"), ConfigError, "expected .gsimg files, found none"),
        (lambda: GsimgDataset(tmp_path / "bad.tar"), ImageError, "expected a tar archive"),
        (lambda: GsimgDataset(tmp_path / "bad.gsimg")[0], FormatError, "bad.gsimg in "),
        (lambda: GsimgDataset(folder / "files", size=(8, 0)), ConfigError, "size: expected"),
        (lambda: GsimgDataset(folder / "files", size=(8, 8), scale=2), ConfigError, "no scale"),
        (lambda: GsimgDataset(folder / "files", crop="left"), ConfigError, "crop: expected"),
        (lambda: GsimgStream(folder / "files", rank=2, world=2), ConfigError, "rank: expected"),
    ):
        with pytest.raises(error, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
