"""The Gaussians of a file in other levels and blocks, and what its beginnings show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imagegs import BitWidths, ConfigError, FormatError, ShapeError, decode, encode
from imagegs.arranging import prefixes, rearrange
from imagegs.codec import parse
from imagegs.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
Pixels = npt.NDArray[np.float32]


@pytest.fixture
def file(scene: Pixels) -> Any:
    return encode(scene, gaussians=120, effort=2)


@pytest.mark.parametrize(("levels", "block_shift"), [(1, 0), (3, 0), (1, 6), (4, 6)])
def test_the_same_gaussians_stand_in_other_levels_and_blocks(file: Any, levels: int, block_shift: int) -> None:
    found = rearrange(file.data, levels, block_shift)
    before, after = parse(file.data), parse(found.data)
    assert {chunk.level for chunk in after.whole} == set(range(levels))
    assert after.header.block_shift == block_shift
    assert after.info == before.info
    for name in ("scales", "rotations", "colors"):
        old, new = (np.sort(getattr(one.gaussians, name).ravel()) for one in (before, after))
        np.testing.assert_allclose(new, old, rtol=1e-6)
    assert found.change > 35
    error = np.mean((decode(found.data).pixels - decode(file.data).pixels) ** 2)
    assert error <= 10 ** (-found.change / 10) * 1.5
    if levels > 1:
        areas = after.gaussians.scales.prod(axis=1)
        first = after.whole[0].count
        assert areas[:first].mean() > 2 * areas[first:].mean()


def test_putting_one_level_into_one_level_changes_nothing(file: Any) -> None:
    found = rearrange(file.data)
    assert found.change == float("inf")
    np.testing.assert_array_equal(decode(found.data).pixels, decode(file.data).pixels)


def test_what_matters_comes_first(file: Any) -> None:
    worth = np.full((64, 80), 1e-3, np.float32)
    worth[:, :40] = 1
    shares = []
    for given in (None, worth):
        found = rearrange(file.data, 2, worth=given)
        count = parse(found.data).whole[0].count
        shares.append(np.mean(found.gaussians.means[:count, 0] < 40))
    assert shares[1] > shares[0] + 0.2


def test_what_cannot_be_rearranged(scene: Pixels, file: Any) -> None:
    for levels in (0, 17):
        with pytest.raises(ConfigError, match=f"^levels: expected 1 to 16, found {levels}$"):
            rearrange(file.data, levels)
    fixed = encode(scene, gaussians=20, steps=2, bits=BitWidths())
    with pytest.raises(ConfigError, match=r"^bytes: expected a file with entropy coding, found one of fixed widths$"):
        rearrange(fixed.data, 2)
    with pytest.raises(FormatError):
        rearrange(b"no such file", 2)


def test_what_every_beginning_shows(scene: Pixels) -> None:
    encoded = encode(scene, gaussians=120, effort=2, level_shares=(0.1, 0.4), block_shift=6)
    said, measured = prefixes(encoded.data), prefixes(encoded.data, scene)
    assert [row["level"] for row in said] == [0, 1, 2]
    assert [row["gaussians"] for row in said] == [12, 48, 120]
    assert said[-1]["bytes"] == len(encoded.data)
    assert said[-1]["share"] == 1
    for row, other in zip(said, measured, strict=True):
        assert row["psnr"] == pytest.approx(other["psnr"], abs=0.01)
        part = decode(encoded.data, max_bytes=row["bytes"]).pixels
        error = -10 * np.log10(np.mean((np.clip(part, 0, 1) - scene) ** 2))
        assert error == pytest.approx(other["psnr"], abs=0.01)
    with pytest.raises(ShapeError, match=r"^bytes: expected a reference of shape \[3, 64, 80\], found \[1, 64, 80\]$"):
        prefixes(encoded.data, scene[:1])
    empty = rearrange(encoded.data, 2)
    assert [row["psnr"] for row in prefixes(empty.data)] == [None, None]
