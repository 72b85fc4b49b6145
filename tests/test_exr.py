import sys

import numpy as np
import pytest

from imagegs.errors import ImageError
from imagegs.image import PictureInfo, Plane, read_image, write_image

MODES = {2: "LA", 3: "RGB", 4: "RGBA"}


def numbers(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).random((channels, 12, 17), dtype=np.float32)


def test_openexr_returns_every_number(tmp_path):
    pytest.importorskip("OpenEXR", reason="the optional package OpenEXR is not installed")
    for channels in (1, 2, 3, 4):
        values = numbers(channels) * 4 - 1
        mode = "F" if channels == 1 else MODES[channels]
        info = PictureInfo((Plane("", mode, 32),), icc=bytes(200), exif=b"II*\0")
        write_image(tmp_path / "a.exr", values, info)
        picture = read_image(tmp_path / "a.exr")
        assert picture.info == PictureInfo((Plane("", mode, 32),))
        np.testing.assert_array_equal(picture.pixels, values)
    (tmp_path / "b.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:300])
    with pytest.raises(ImageError, match=r"b\.exr: cannot be decoded"):
        read_image(tmp_path / "b.exr")
    with pytest.raises(ImageError, match="expected up to 100 pixels, found 17 x 12"):
        read_image(tmp_path / "a.exr", max_pixels=100)


def test_openexr_files_of_other_programs(tmp_path):
    openexr = pytest.importorskip("OpenEXR", reason="the optional package OpenEXR is not installed")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    planes = {name: np.full((4, 5), i + 1, np.float16) for i, name in enumerate("RGBZ")}
    openexr.File(header, planes).write(str(tmp_path / "layers.exr"))
    picture = read_image(tmp_path / "layers.exr")
    assert picture.pixels[:, 0, 0].tolist() == [1, 2, 3]
    assert picture.notes == (f"{tmp_path / 'layers.exr'}: channels not used: Z",)
    openexr.File(header, {"height": planes["R"]}).write(str(tmp_path / "one.exr"))
    assert read_image(tmp_path / "one.exr").info.planes == (Plane("", "F", 32),)
    openexr.File(header, {"U": planes["R"], "V": planes["G"]}).write(str(tmp_path / "two.exr"))
    with pytest.raises(ImageError, match="or a single one, found U V"):
        read_image(tmp_path / "two.exr")


def test_without_openexr_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    message = r"a\.exr: EXR files need the OpenEXR package: pip install 'imagegs\[exr\]'"
    with pytest.raises(ImageError, match=message):
        write_image(tmp_path / "a.exr", numbers(3))
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(100))
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "a.exr")
