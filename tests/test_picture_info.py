import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagegs.image as module
from imagegs.errors import FormatError, ImageError, TruncatedError
from imagegs.image import PictureInfo, Plane

PROFILE = bytes(range(200)) * 3


def refusal(call: Callable[[], object], expected: type[Exception]) -> str | None:
    """The one line with which a call is refused, or None."""
    try:
        call()
    except expected as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1
    return message


# --- the description's bytes -----------------------------------------------------------------------------------------

STACK = PictureInfo((Plane("normal.png", "RGB", 16), Plane("höhe.tif", "F", 32)), stack=True)
PHOTO = PictureInfo((Plane("", "RGBA", 8),), icc=PROFILE, exif=b"II*\0" + bytes(range(60)))
TITLED = PictureInfo((Plane("", "RGB", 8),), icc=PROFILE, xmp="<x:xmpmeta>höhe</x:xmpmeta>".encode())


def test_golden_bytes():
    assert PictureInfo.of_channels(3).to_bytes() == bytes([0, 1, 2, 8, 0])
    assert STACK.to_bytes() == b"\x01\x02" + b"\x02\x10\x0anormal.png" + b"\x04\x20\x09h\xc3\xb6he.tif"
    packed = PHOTO.to_bytes()
    assert packed[:5] == bytes([6, 1, 3, 8, 0])
    (size,) = struct.unpack_from("<I", packed, 5)
    assert zlib.decompress(packed[9 : 9 + size]) == PROFILE
    (rest,) = struct.unpack_from("<I", packed, 9 + size)
    assert zlib.decompress(packed[13 + size :]) == PHOTO.exif
    assert len(packed) == 13 + size + rest


def test_xmp_is_the_last_block():
    packed = TITLED.to_bytes()
    assert packed[0] == 2 | 8
    (size,) = struct.unpack_from("<I", packed, 5)
    (rest,) = struct.unpack_from("<I", packed, 9 + size)
    assert zlib.decompress(packed[13 + size :]) == TITLED.xmp
    assert len(packed) == 13 + size + rest
    assert PictureInfo((Plane("", "L", 8),), xmp=b"<a/>").to_bytes()[0] == 8


@pytest.mark.parametrize("info", [STACK, PHOTO, TITLED, PictureInfo.of_channels(1), PictureInfo.of_channels(32)])
def test_descriptions_return(info):
    assert PictureInfo.from_bytes(info.to_bytes()) == info


@pytest.mark.parametrize("info", [STACK, PHOTO, TITLED])
def test_a_description_cut_anywhere_is_truncated(info):
    data = info.to_bytes()
    for cut in range(len(data)):
        with pytest.raises(TruncatedError, match=r"picture info: .*expected \d+ bytes at byte \d+, found \d+$"):
            PictureInfo.from_bytes(data[:cut])
    with pytest.raises(FormatError, match="found 1 bytes more"):
        PictureInfo.from_bytes(data + b"\0")


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_format_errors_alone(data):
    for candidate in (data, bytes([1, 1 + len(data) % 3]) + data):
        if refusal(partial(PictureInfo.from_bytes, candidate), FormatError) is None:
            assert PictureInfo.from_bytes(candidate).to_bytes()[:2] == candidate[:2]


def test_flipped_bits_raise_format_errors_alone():
    for info in (STACK, PHOTO, TITLED):
        data = info.to_bytes()
        for bit in range(min(len(data), 60) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            if refusal(partial(PictureInfo.from_bytes, changed), FormatError) is None:
                assert PictureInfo.from_bytes(changed) != info


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/a.png", "a/b.png", "a\\b.png", "..", ".", "", ".png", "C:a.png", "a\0.png", "a\n.png", "a.sh", "a"],
)
def test_names_that_lead_out_of_the_folder_are_refused(name):
    raw = name.encode()
    data = bytes([1, 1, 0, 8, len(raw)]) + raw
    with pytest.raises(FormatError):
        PictureInfo.from_bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([16, 1, 2, 8, 0]), "flags: expected bits 0 to 3"),
        (bytes([0, 0]), "number of planes: expected 1 to 32, found 0"),
        (bytes([0, 33]), "number of planes: expected 1 to 32, found 33"),
        (bytes([0, 1, 5, 8, 0]), "expected a mode from 0 to 4, found 5"),
        (bytes([0, 1, 0, 32, 0]), "no picture has the mode 'L' with 32 bits"),
        (bytes([0, 1, 2, 9, 0]), "no picture has the mode 'RGB' with 9 bits"),
        (bytes([0, 1, 2, 8, 5]) + b"a.png", "expected one plane without a name"),
        (bytes([0, 2, 2, 8, 0, 2, 8, 0]), "expected one plane without a name"),
        (bytes([1, 1, 2, 8, 5]) + b"\xff.png", "expected a name in UTF-8"),
        (bytes([1, 2, 0, 8, 5]) + b"a.png" + bytes([0, 8, 5]) + b"A.PNG", "a name of its own"),
        (bytes([1, 1, 2, 8, 0]), "a name of its own"),
        (bytes([3, 1, 2, 8, 5]) + b"a.png\x09\0\0\0" + zlib.compress(b"a"), "expected no profile, no EXIF and no XMP"),
        (bytes([1, 9]) + b"".join(bytes([3, 8, 5]) + b"%d.png" % i for i in range(9)), "1 to 32 channels, found 36"),
        (bytes([2, 1, 2, 8, 0, 4, 0, 0, 0]) + b"junk", "expected a zlib stream"),
        (bytes([2, 1, 2, 8, 0, 8, 0, 0, 0]) + zlib.compress(b""), "1 to 1,048,576 bytes"),
        (bytes([9, 1, 2, 8, 5]) + b"a.png\x09\0\0\0" + zlib.compress(b"a"), "expected no profile, no EXIF and no XMP"),
        (bytes([8, 1, 2, 8, 0, 4, 0, 0, 0]) + b"junk", "XMP: expected a zlib stream"),
        (bytes([8, 1, 2, 8, 0, 8, 0, 0, 0]) + zlib.compress(b""), "1 to 1,048,576 bytes"),
        (bytes([8, 1, 2, 8, 0, 9, 0, 0, 0]) + zlib.compress(b"\xff"), "expected XMP of up to 1,048,576 bytes of UTF-8"),
        (bytes([8, 1, 2, 8, 0, 9, 0, 0, 0]) + zlib.compress(b"\0"), "expected XMP of up to 1,048,576 bytes of UTF-8"),
    ],
)
def test_each_contradiction_has_its_message(data, message):
    with pytest.raises(FormatError, match=message):
        PictureInfo.from_bytes(data)


@pytest.mark.parametrize("flag", [2, 4, 8])
def test_a_bomb_in_a_block_takes_no_memory(flag):
    bomb = zlib.compress(bytes(200 << 20), 9)
    data = bytes([flag, 1, 2, 8, 0]) + struct.pack("<I", len(bomb)) + bomb
    code = (
        "import resource, sys; from imagegs.image import PictureInfo; from imagegs.errors import FormatError\n"
        "data = sys.stdin.buffer.read(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: PictureInfo.from_bytes(data)\n"
        "except FormatError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    pytest.importorskip("resource", reason="memory is measured on POSIX systems")
    root = str(Path(module.__file__).parents[1])
    run = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, cwd=root, check=True)
    assert int(run.stdout) < 20_000  # kB


def test_what_contradicts_itself_cannot_be_made():
    with pytest.raises(ImageError, match="too long to be kept"):
        PictureInfo((Plane("", "L", 8),), icc=bytes(1 << 21))
    with pytest.raises(ImageError, match="expected XMP of up to 1,048,576 bytes"):
        PictureInfo((Plane("", "L", 8),), xmp=b"x" * ((1 << 20) + 1))
    with pytest.raises(ImageError, match="no picture has the mode 'CMYK'"):
        Plane("", "CMYK", 8)
    with pytest.raises(ImageError, match="expected up to 255 bytes"):
        Plane("a" * 260 + ".png", "L", 8)
    with pytest.raises(ImageError, match="expected valid text"):
        Plane("\udcff.png", "L", 8)
