"""What several test files share: a small picture with some structure, and a few Gaussians."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imagegs.gaussians import Gaussians2D

os.environ.setdefault("IMAGEGS_DEVICE", "cpu")  # what no test says otherwise is the same with a GPU and without


@pytest.fixture
def small_gaussians() -> Gaussians2D:
    """Sixty RGB Gaussians on a canvas of 64 x 48 pixels."""
    random = np.random.default_rng(3)
    return Gaussians2D(
        means=random.uniform((0, 0), (64, 48), (60, 2)),
        scales=random.uniform(1.5, 7.0, (60, 2)),
        rotations=random.uniform(0, np.pi, 60),
        colors=random.uniform(0, 1, (60, 3)),
        height=48,
        width=64,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An RGB picture of 64 x 48 pixels with a gradient, an edge and a disc."""
    y, x = np.mgrid[0:48, 0:64] + 0.5
    red, green = x / 64, np.where(y > 0.5 * x + 8, 0.8, 0.2)
    blue = np.where(np.hypot(x - 40, y - 20) < 9, 0.9, y / 96)
    path = tmp_path / "photo.png"
    Image.fromarray(np.round(255 * np.stack([red, green, blue], axis=-1)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def scene() -> npt.NDArray[np.float32]:
    """[3, 64, 80] in [0, 1]: waves, a disc and an edge."""
    y, x = np.mgrid[0:64, 0:80] + 0.5
    waves = [0.5 + 0.3 * np.sin(x / (5 + k)) * np.cos(y / (7 - k)) for k in range(3)]
    disc, edge = np.hypot(x - 48, y - 26) < 13, y > 0.5 * x + 10
    return np.clip(np.stack(waves) + 0.2 * disc - 0.1 * edge, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """For small problems, which are not worth sharing out."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
