import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from imagegs import rasters
from imagegs.image import MAX_PIXELS, PictureInfo, Plane, read_image, write_image

HEIGHT, WIDTH = 12, 17


def samples(channels: int, dtype: type = np.uint8) -> np.ndarray:
    """[H, W, C], or [H, W] for one channel: every kind of value, and smooth enough for lossy formats."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] / 20.0
    planes = [0.5 + 0.5 * np.sin(2 * rows + (2 + c) * columns + c) for c in range(channels)]
    values = np.stack(planes, axis=-1)
    found = np.rint(values * np.iinfo(dtype).max).astype(dtype)
    return found[..., 0] if channels == 1 else found


def floats(values: np.ndarray) -> np.ndarray:
    """[C, H, W] in [0, 1]."""
    top = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return planes.astype(np.float32) / np.float32(top)


def icc_profile(space: bytes = b"RGB ", gamma: float = 2.2) -> bytes:
    """A minimal ICC v2 display profile: the primaries of Display P3 and a gamma curve, or grey with a gamma curve."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1, (1 - x - y) / y])

    def numbers(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    white, d50 = xyz(0.3127, 0.3290), np.array([0.9642, 1, 0.8249])
    primaries = np.array([xyz(0.680, 0.320), xyz(0.265, 0.690), xyz(0.150, 0.060)]).T
    primaries = primaries * np.linalg.solve(primaries, white)
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    primaries = np.linalg.inv(cone) @ np.diag((cone @ d50) / (cone @ white)) @ cone @ primaries
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 79),
        (b"cprt", b"text\0\0\0\0none\0\0\0\0"),
        (b"wtpt", b"XYZ \0\0\0\0" + numbers(*d50)),
    ]
    if space == b"RGB ":
        tags += [(f"{c}XYZ".encode(), b"XYZ \0\0\0\0" + numbers(*primaries[:, i])) for i, c in enumerate("rgb")]
        tags += [(f"{c}TRC".encode(), curve) for c in "rgb"]
    else:
        tags += [(b"kTRC", curve)]
    return icc_bytes(tags, b"mntr", space, b"XYZ ")


def cmyk_profile() -> bytes:
    """A minimal ICC v2 printer profile: a table of two steps per ink, after ICC.1:2001-04, 6.5.8."""
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b""
    for cell in np.ndindex(2, 2, 2, 2):
        c, m, y, k = cell
        light = (1 - k) * (1 - 0.3 * c) * (1 - 0.4 * m) * (1 - 0.1 * y)
        a, b = (1 - k) * (60 * m - 40 * c), (1 - k) * (70 * y - 40 * c)
        table += bytes([round(255 * light), round(a + 128), round(b + 128)])
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return icc_bytes([(b"A2B0", lut), (b"wtpt", white)], b"prtr", b"CMYK", b"Lab ")


def icc_bytes(tags: list[tuple[bytes, bytes]], kind: bytes, space: bytes, connection: bytes) -> bytes:
    start = 132 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags:
        tag += b"\0" * (-len(tag) % 4)
        index += name + struct.pack(">II", start + len(body), len(tag))
        body += tag
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02100000, kind, space, connection, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + index + body


P3 = icc_profile()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_inks_become_light(tmp_path):
    inks = samples(4)
    inks[0, 0], inks[0, 1] = (0, 0, 0, 0), (0, 0, 0, 255)
    image = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
    image.save(tmp_path / "plain.tif")
    plain = read_image(tmp_path / "plain.tif")
    share = floats(inks)
    np.testing.assert_allclose(plain.pixels, (1 - share[:3]) * (1 - share[3]), atol=0.51 / 255)
    assert plain.info.planes == (Plane("", "RGB", 8),)
    assert "CMYK" in plain.notes[0]

    image.save(tmp_path / "managed.tif", icc_profile=cmyk_profile())
    managed = read_image(tmp_path / "managed.tif")
    expected = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert managed.info.icc == b""
    np.testing.assert_allclose(managed.pixels, floats(np.asarray(expected)), atol=5 / 255)
    assert abs(managed.pixels - plain.pixels).max() > 0.1

    deep = (inks.astype(np.uint16) * 257).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="separated")
    np.testing.assert_allclose(read_image(tmp_path / "deep.tif").pixels, plain.pixels, atol=0.51 / 255)

    image.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").pixels, plain.pixels, atol=0.1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_profile_is_converted_kept_and_embedded(tmp_path, suffix, channels):
    if suffix == ".jpg" and channels == 4:
        pytest.skip("JPEG holds no transparency")
    values = samples(channels)
    source = tmp_path / "a.png"
    Image.fromarray(values).save(source, icc_profile=P3)
    picture = read_image(source)
    assert picture.info.icc == P3
    assert picture.notes == ()
    expected = ImageCms.profileToProfile(
        Image.fromarray(values[..., :3]),
        ImageCms.ImageCmsProfile(io.BytesIO(P3)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    inside = (picture.pixels[:3] > 0.1).all(0) & (picture.pixels[:3] < 1).all(0)
    assert inside.sum() > 40
    assert abs(picture.pixels[:3] - floats(np.asarray(expected)))[:, inside].max() < 1.5 / 255
    assert abs(picture.pixels[:3] - floats(values)[:3]).max() > 0.05

    file = tmp_path / f"b{suffix}"
    write_image(file, picture.pixels, picture.info)
    stored = Image.open(file)
    assert stored.info["icc_profile"] == P3
    difference = abs(np.asarray(stored).astype(int) - values)
    assert difference.max() <= (0 if suffix in {".png", ".webp", ".tif"} else 12)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_survive_a_profile(tmp_path, suffix):
    values = samples(3, np.uint16)
    encoded = rasters.encode_raster(rasters.Raster(values, icc=P3), tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").write_bytes(encoded)
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.info.icc == P3
    assert picture.info.planes[0].bits == 16
    assert picture.pixels.min() < -0.05
    write_image(tmp_path / f"b{suffix}", picture.pixels, picture.info)
    raster = rasters.read_raster(tmp_path / f"b{suffix}", MAX_PIXELS)
    assert raster.icc == P3
    assert abs(raster.samples.astype(int) - values).max() <= 40  # 0.06 %, where the curve starts flat; 8 bits: 128
    assert np.median(abs(raster.samples.astype(int) - values)) <= 1


def test_a_profile_that_is_srgb_changes_no_number_and_is_kept(tmp_path):
    Image.fromarray(samples(3)).save(tmp_path / "a.png", icc_profile=SRGB)
    picture = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, floats(samples(3)))
    assert picture.info.icc == SRGB


def test_a_grey_profile_is_converted_and_kept(tmp_path):
    grey = icc_profile(b"GRAY", 1.0)
    Image.fromarray(samples(1)).save(tmp_path / "a.png", icc_profile=grey)
    picture = read_image(tmp_path / "a.png")
    linear = floats(samples(1))
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(picture.pixels, curved, atol=2e-3)
    write_image(tmp_path / "b.png", picture.pixels, picture.info)
    stored = Image.open(tmp_path / "b.png")
    assert stored.info["icc_profile"] == grey
    np.testing.assert_array_equal(np.asarray(stored), samples(1))
    # formats that store grey as colours get plain sRGB
    write_image(tmp_path / "b.webp", picture.pixels, picture.info)
    stored = Image.open(tmp_path / "b.webp")
    assert "icc_profile" not in stored.info
    assert abs(floats(np.asarray(stored)) - picture.pixels).max() < 0.6 / 255


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (b"junk" * 60, "found other bytes"),
        (P3[:300], "cannot be used"),
        (icc_profile(b"GRAY"), "expected one for RGB, found one for GRAY"),
        (cmyk_profile(), "expected one for RGB, found one for CMYK"),
    ],
)
def test_a_profile_that_does_not_fit_is_a_note(tmp_path, profile, reason):
    Image.fromarray(samples(3)).save(tmp_path / "a.png", icc_profile=profile)
    picture = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, floats(samples(3)))
    assert picture.info.icc == b""
    assert reason in picture.notes[0]
    assert picture.notes[0].endswith("taken as sRGB")
    # one that came with hostile bytes is not embedded either
    write_image(tmp_path / "b.png", picture.pixels, PictureInfo(picture.info.planes, icc=profile))
    assert "icc_profile" not in Image.open(tmp_path / "b.png").info
