"""From a fit to bytes: stages of rounding, and what a code says of itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imagegs.codec import parse
from imagegs.compression import EFFORTS, Effort, Job, code, empty_size, fit, luma_triples, quality_of, shown
from imagegs.decoding import decode
from imagegs.encoding import fit_config
from imagegs.goals import Goal
from imagegs.image import Picture, PictureInfo, Plane, as_picture
from imagegs.kernels import native
from imagegs.rendering import render

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def job_of(picture: Picture, **settings: Any) -> Job:
    size = picture.height, picture.width
    return Job(picture, Effort(60, 0), fit_config(size, Goal("quality", 75), 0, {}), **settings)


@pytest.fixture
def job(scene: npt.NDArray[np.float32]) -> Job:
    return job_of(as_picture(scene))


@pytest.fixture
def fitted(job: Job) -> Any:
    return fit(job, 90, 60).gaussians


@pytest.mark.parametrize(("levels", "block_shift"), [(1, 0), (3, 0), (1, 6), (3, 6)])
def test_what_a_code_says_is_what_its_bytes_hold(job: Job, fitted: Any, levels: int, block_shift: int) -> None:
    coded = code(replace(job, levels=levels, block_shift=block_shift), fitted, 0.5)
    file = parse(coded.data)
    assert len(file.gaussians) == len(coded.gaussians) == 90
    for name in ("means", "scales", "rotations", "colors", "background"):
        np.testing.assert_array_equal(getattr(coded.gaussians, name), getattr(file.gaussians, name))
    assert {chunk.level for chunk in file.whole} == set(range(levels))
    assert len({chunk.block for chunk in file.whole}) == (2 if block_shift else 1)
    np.testing.assert_array_equal(np.clip(render(coded.gaussians), 0, 1), decode(coded.data).pixels)
    payload = sum(chunk.length for chunk in file.whole)
    assert 0 < 8 * payload - sum(coded.bits.values()) < 64 * len(file.whole)
    assert coded.bits == pytest.approx(file.attribute_bits)
    assert coded.factor == 0.5


def test_finer_steps_take_more_bytes_and_come_nearer(job: Job, fitted: Any) -> None:
    codes = [code(job, fitted, factor) for factor in (1.6, 0.8, 0.4, 0.2, 0.1)]
    sizes = [len(coded.data) for coded in codes]
    assert sizes == sorted(sizes)
    psnrs = [quality_of(job, coded, "psnr") for coded in codes]
    assert all(finer > coarser - 0.1 for coarser, finer in pairwise(psnrs))
    assert psnrs[-1] > psnrs[0] + 2


def test_colours_solved_and_means_moved_for_the_rounded_shapes_come_nearer(job: Job, fitted: Any) -> None:
    plain, solved = (quality_of(job, code(job, fitted, 1.0, solve=solve), "psnr") for solve in (False, True))
    refitted = quality_of(job, code(job, fitted, 1.0, refit_steps=40), "psnr")
    assert plain + 0.2 < solved < refitted


def test_the_same_input_gives_the_same_bytes(job: Job, fitted: Any) -> None:
    with native.threads(1):
        one = code(job, fitted, 0.6, refit_steps=10)
    with native.threads(3):
        three = code(job, fitted, 0.6, refit_steps=10)
    assert one.data == three.data


def test_a_file_without_gaussians(job: Job, fitted: Any) -> None:
    one = code(job, fitted.take(slice(0, 1)), 1.0)
    assert 1 <= len(one.data) - empty_size(job) <= 20
    info = PictureInfo((Plane("", "RGB", 8),), exif=b"II*\0" + bytes(range(200)))
    described = job_of(replace(job.picture, info=info))
    assert empty_size(described) > empty_size(job) + 150


def test_fewer_stay_where_it_is_said(job: Job) -> None:
    seen: list[int] = []

    def keep(gaussians: Any) -> int:
        seen.append(len(gaussians))
        return 33

    assert len(fit(job, 60, 50, keep).gaussians) == 33
    assert len(seen) == 1
    assert seen[0] > 60


def test_which_channels_are_coded_as_luma() -> None:
    planes = (Plane("a.png", "L", 8), Plane("b.png", "RGB", 8), Plane("c.exr", "F", 32), Plane("d.png", "RGBA", 16))
    assert luma_triples(PictureInfo(planes, stack=True)) == (1, 5)
    assert luma_triples(PictureInfo((Plane("", "LA", 8),))) == ()


def test_pictures_are_judged_as_files_of_their_kind_hold_them() -> None:
    pixels = np.array([[[0.5004, 1.7, -0.3]]], np.float32)
    byte, word, real = (
        shown(Picture(pixels, PictureInfo((Plane("", mode, bits),))))  # type: ignore[arg-type]
        for mode, bits in (("L", 8), ("L", 16), ("F", 32))
    )
    np.testing.assert_allclose(byte[0, 0], [128 / 255, 1, 0], atol=1e-7)
    np.testing.assert_allclose(word[0, 0], [32794 / 65535, 1, 0], atol=1e-7)
    np.testing.assert_array_equal(real, pixels)


def test_more_effort_takes_more_steps() -> None:
    assert list(EFFORTS) == list(range(1, 10))
    for less, more in pairwise(EFFORTS.values()):
        assert less.steps < more.steps
        assert less.refit <= more.refit
