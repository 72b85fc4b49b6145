import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from imagegs import rasters
from imagegs.errors import ImageError, ShapeError
from imagegs.image import MAX_PIXELS, Picture, PictureInfo, Plane, as_picture, read_image, write_image

HEIGHT, WIDTH = 12, 17
ORIENTATION = 0x0112
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def samples(channels: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """[H, W, C], or [H, W] for one channel: every kind of value, and smooth enough for lossy formats."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] / 20.0
    planes = [0.5 + 0.5 * np.sin(2 * rows + (2 + c) * columns + c + seed) for c in range(channels)]
    values = np.stack(planes, axis=-1)
    found = values.astype(dtype) if dtype == np.float32 else np.rint(values * np.iinfo(dtype).max).astype(dtype)
    return found[..., 0] if channels == 1 else found


def floats(values: np.ndarray) -> np.ndarray:
    """[C, H, W] in [0, 1]."""
    top = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return planes.astype(np.float32) / np.float32(top)


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


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_eight_bits_are_read_exactly(tmp_path, channels, suffix):
    values = samples(channels)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.info == PictureInfo((Plane("", MODES[channels], 8),))
    assert picture.pixels.dtype == np.float32
    assert picture.pixels.flags.c_contiguous
    np.testing.assert_array_equal(picture.pixels, floats(values))
    assert (picture.channels, picture.height, picture.width) == (channels, HEIGHT, WIDTH)
    assert picture.source == str(tmp_path / f"a{suffix}")
    assert picture.notes == ()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".gif", ".bmp"])
def test_the_other_formats_are_read(tmp_path, suffix):
    values = samples(3)
    options = {".webp": {"lossless": True}, ".avif": {"quality": 95, "subsampling": "4:4:4"}, ".jpg": {"quality": 97}}
    Image.fromarray(values).save(tmp_path / f"a{suffix}", **options.get(suffix, {}))
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.info.planes == (Plane("", "RGB", 8),)
    assert abs(picture.pixels - floats(values)).mean() < (1e-6 if suffix in {".webp", ".bmp"} else 0.02)


def test_one_bit_becomes_grey(tmp_path):
    bits = samples(1) > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "1"
    picture = read_image(tmp_path / "a.png")
    assert picture.info.planes == (Plane("", "L", 8),)
    np.testing.assert_array_equal(picture.pixels[0], bits)


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_colours(tmp_path, transparent):
    index = (samples(1) // 86).astype(np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    alphas = np.array([0, 255, 128])
    image.save(tmp_path / "a.png", **({"transparency": bytes(alphas.tolist())} if transparent else {}))
    picture = read_image(tmp_path / "a.png")
    colors = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]])[index]
    assert picture.info.planes == (Plane("", "RGBA" if transparent else "RGB", 8),)
    np.testing.assert_allclose(picture.pixels[:3], np.moveaxis(colors, -1, 0) / 255, atol=1e-7)
    if transparent:
        np.testing.assert_allclose(picture.pixels[3], alphas[index] / 255, atol=1e-7)


def test_a_transparent_colour_becomes_alpha(tmp_path):
    values = samples(3)
    key = tuple(int(value) for value in values[3, 4])
    Image.fromarray(values).save(tmp_path / "a.png", transparency=key)
    picture = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels[3], (values != np.array(key)).any(-1))


def test_sixteen_bits_are_read_from_files_that_others_wrote(tmp_path):
    for channels in (1, 2, 3, 4):
        values = samples(channels, np.uint16)
        extra = {"extrasamples": ["unassalpha"]} if channels in {2, 4} else {}
        kind = "rgb" if channels > 2 else "minisblack"
        for name, options in {
            "plain.tif": {},
            "lzw.tif": {"compression": "lzw", "predictor": True},
            "big.tif": {"byteorder": ">", "bigtiff": True},
        }.items():
            tifffile.imwrite(tmp_path / name, values, photometric=kind, **extra, **options)
            picture = read_image(tmp_path / name)
            assert picture.info.planes == (Plane("", MODES[channels], 16),), name
            np.testing.assert_array_equal(picture.pixels, floats(values), err_msg=name)
    planar = np.moveaxis(samples(3, np.uint16), -1, 0)
    tifffile.imwrite(tmp_path / "planar.tif", planar, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif").pixels, planar / np.float32(65535))
    tifffile.imwrite(tmp_path / "inverse.tif", samples(1, np.uint16), photometric="miniswhite")
    np.testing.assert_allclose(
        read_image(tmp_path / "inverse.tif").pixels, 1 - floats(samples(1, np.uint16)), atol=1e-6
    )
    Image.fromarray(samples(1, np.uint16)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").pixels, floats(samples(1, np.uint16)))


def test_premultiplied_colours_become_straight(tmp_path):
    values = samples(4, np.uint16)
    values[..., 3] = np.maximum(values[..., 3], 20000)
    alpha = values[..., 3:] / 65535
    stored = np.concatenate([np.rint(values[..., :3] * alpha).astype(np.uint16), values[..., 3:]], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixels, floats(values), atol=1e-4)


def test_floating_point_numbers_stay_as_they_are(tmp_path):
    values = samples(1, np.float32) * 5 - 1
    Image.fromarray(values).save(tmp_path / "grey.tif")
    picture = read_image(tmp_path / "grey.tif")
    assert picture.info.planes == (Plane("", "F", 32),)
    np.testing.assert_array_equal(picture.pixels[0], values)
    colors = samples(3, np.float32) * 3
    plain = {"photometric": "rgb", "metadata": None, "software": False}
    tifffile.imwrite(tmp_path / "color.tif", colors.astype(np.float16), iccprofile=SRGB, **plain)
    picture = read_image(tmp_path / "color.tif")
    assert picture.info == PictureInfo((Plane("", "RGB", 32),))
    np.testing.assert_array_equal(picture.pixels, floats(colors.astype(np.float16).astype(np.float32)))
    assert "profile is not kept" in picture.notes[0]


def test_numbers_that_are_none_are_replaced_and_told(tmp_path):
    values = samples(1, np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    values[1, 0], values[1, 1] = -3, 7
    Image.fromarray(values).save(tmp_path / "a.tif")
    picture = read_image(tmp_path / "a.tif")
    assert picture.pixels[0, 0, :3].tolist() == [0, 7, -3]
    assert "3 samples" in picture.notes[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_upright(tmp_path, suffix, orientation):
    upright = samples(3)
    turned = {  # what a camera held so stores, per EXIF 2.32: row 0 and column 0 of the file
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "Maker"
    options = {".webp": {"lossless": True}, ".avif": {"quality": 95, "subsampling": "4:4:4"}, ".jpg": {"quality": 97}}
    file = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(turned)).save(file, exif=exif, **options.get(suffix, {}))
    picture = read_image(file)
    assert (picture.height, picture.width) == (HEIGHT, WIDTH)
    assert abs(picture.pixels - floats(upright)).mean() < 0.02
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + picture.info.exif)
    assert dict(kept) == {0x010F: "Maker"}
    write_image(file, picture.pixels, picture.info)
    again = read_image(file)
    assert abs(again.pixels - floats(upright)).mean() < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_upright_too(tmp_path, orientation):
    upright = samples(3, np.uint16)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    turned = np.ascontiguousarray(turned)
    extra = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", turned, photometric="rgb", extratags=extra)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, floats(upright))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    raw = rasters.encode_raster(rasters.Raster(turned, exif=bytes(exif.tobytes())[6:]), tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(raw)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, floats(upright))


def test_animations_and_documents_give_their_first_picture(tmp_path):
    first, second = Image.fromarray(samples(3)), Image.fromarray(255 - samples(3))
    for name, options in {"a.png": {}, "a.webp": {"lossless": True}, "a.tif": {}, "a.gif": {}, "a.avif": {}}.items():
        first.save(tmp_path / name, save_all=True, append_images=[second], **options)
        picture = read_image(tmp_path / name)
        assert abs(picture.pixels - floats(samples(3))).mean() < 0.03, name
        what = "pages" if name == "a.tif" else "frames"
        assert picture.notes == (f"{tmp_path / name}: only the first of 2 {what} is used",)
    deep = samples(3, np.uint16)
    with tifffile.TiffWriter(tmp_path / "deep.tif") as file:
        file.write(deep, photometric="rgb")
        file.write(deep[::-1], photometric="rgb")
    assert "first of 2 pages" in read_image(tmp_path / "deep.tif").notes[0]


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8),
                                               (".tiff", np.uint16), (".tif", np.float32)])  # fmt: skip
def test_lossless_formats_return_every_bit(tmp_path, channels, suffix, dtype):
    values = floats(samples(channels, dtype))
    bits = np.dtype(dtype).itemsize * 8
    mode = "F" if (channels, bits) == (1, 32) else MODES[channels]
    info = PictureInfo((Plane("", mode, bits),))
    assert write_image(tmp_path / f"a{suffix}", values, info) == [tmp_path / f"a{suffix}"]
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.info == info
    np.testing.assert_array_equal(picture.pixels, values)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("suffix", "tolerance"), [(".jpg", 0.03), (".webp", 0.002), (".avif", 0.05)])
def test_the_other_formats_return_the_picture(tmp_path, channels, suffix, tolerance):
    values = floats(samples(channels))
    file = tmp_path / f"a{suffix.upper()}"
    if suffix == ".jpg" and channels in {2, 4}:
        with pytest.raises(ImageError, match=r"JPEG holds no transparency.*\.png"):
            write_image(file, values)
        assert list(tmp_path.iterdir()) == []
        return
    write_image(file, values)
    picture = read_image(file)
    own = floats(np.asarray(Image.open(file)))
    np.testing.assert_array_equal(picture.pixels, own)
    expected = values
    if suffix != ".jpg" and channels < 3:
        expected = np.concatenate([np.repeat(values[:1], 3, axis=0), values[1:]])
    assert abs(picture.pixels - expected).max() <= tolerance


def test_integers_are_clamped_and_rounded(tmp_path):
    values = np.array([-0.5, 0.0, 1.49 / 255, 1.51 / 255, 1.0, 2.0], np.float32).reshape(1, 1, 6)
    write_image(tmp_path / "a.png", values)
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 0, 1, 2, 255, 255]]
    write_image(tmp_path / "b.png", values, PictureInfo((Plane("", "F", 32),)))
    assert read_image(tmp_path / "b.png").info.planes[0].bits == 16


def test_exif_is_kept_without_preview_and_makers_block(tmp_path):
    exif = Image.Exif()
    exif[0x0110], exif[ORIENTATION] = "Camera", 6
    exif[0x8769] = {0x829A: 0.01, 0x9003: "2024:05:06 07:08:09", 0x927C: b"secret" * 100}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    Image.fromarray(samples(3)).save(tmp_path / "a.jpg", exif=exif)
    picture = read_image(tmp_path / "a.jpg")
    assert b"secret" not in picture.info.exif
    for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
        write_image(tmp_path / f"b{suffix}", picture.pixels, picture.info)
        found = Image.open(tmp_path / f"b{suffix}").getexif()
        assert found[0x0110] == "Camera", suffix
        assert found.get(ORIENTATION, 1) == 1
        assert found.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09", suffix
        assert found.get_ifd(0x8825)[1] == "N", suffix
    deep = PictureInfo((Plane("", "RGB", 16),), exif=picture.info.exif)
    for suffix, folder in ((".png", 0x8769), (".tif", None)):
        write_image(tmp_path / f"c{suffix}", picture.pixels, deep)
        again = read_image(tmp_path / f"c{suffix}").info
        kept = Image.Exif()
        kept.load(b"Exif\0\0" + again.exif)
        assert kept[0x0110] == "Camera"
        assert folder is None or kept.get_ifd(folder)[0x9003] == "2024:05:06 07:08:09"


def test_broken_exif_is_a_note(tmp_path, monkeypatch):
    Image.fromarray(samples(3)).save(tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff")
    picture = read_image(tmp_path / "a.webp")
    np.testing.assert_array_equal(picture.pixels, floats(samples(3)))
    assert picture.info.exif == b""

    def fail(image: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    picture = read_image(tmp_path / "a.webp")
    np.testing.assert_array_equal(picture.pixels, floats(samples(3)))
    assert picture.notes == (f"{tmp_path / 'a.webp'}: its EXIF is broken and not kept",)


XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" {orientation}'
    'xmp:Label="Zürich"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
TITLED = XMP.format(orientation="").encode()


def xmp_in(path: Path) -> bytes:
    """The packet as Pillow, or for deep TIFF files tifffile, finds it in a file."""
    if path.name.startswith("deep") and path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            return file.pages[0].tags.valueof(700) or b""
    with Image.open(path) as image:
        image.load()
        return image.info.get("xmp", b"")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif", "deep.png", "deep.tif"])
@pytest.mark.parametrize("exif", [b"", b"II*\0" + bytes([8, 0, 0, 0]) + bytes(6)])
def test_xmp_returns(tmp_path, name, exif):
    info = PictureInfo((Plane("", "RGB", 16 if name.startswith("deep") else 8),), icc=SRGB, exif=exif, xmp=TITLED)
    write_image(tmp_path / name, floats(samples(3)), info)
    assert xmp_in(tmp_path / name) == TITLED
    picture = read_image(tmp_path / name)
    assert picture.info.xmp == TITLED
    assert picture.info.icc == SRGB
    assert picture.notes == ()
    assert abs(picture.pixels - floats(samples(3))).mean() < 0.02


def test_xmp_stands_beside_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0110], exif[0x8769] = "Camera", {0x9003: "2024:05:06 07:08:09"}
    info = PictureInfo((Plane("", "RGB", 8),), exif=exif.tobytes()[6:], xmp=TITLED)
    for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
        write_image(tmp_path / f"a{suffix}", floats(samples(3)), info)
        found = Image.open(tmp_path / f"a{suffix}").getexif()
        assert (found[0x0110], found.get_ifd(0x8769)[0x9003]) == ("Camera", "2024:05:06 07:08:09"), suffix
        assert read_image(tmp_path / f"a{suffix}").info.xmp == TITLED, suffix


@pytest.mark.parametrize(
    ("form", "in_exif"),
    [('tiff:Orientation="{}" ', True), ("tiff:Orientation = '{}' ", True), ('tiff:Orientation="{}" ', False)],
)
def test_the_orientation_in_xmp_is_used_once(tmp_path, form, in_exif):
    exif = Image.Exif()
    if in_exif:
        exif[ORIENTATION] = 6
    for suffix in (".jpg", ".webp"):
        packet = XMP.format(orientation=form.format(6)).encode()
        Image.fromarray(samples(3)).save(tmp_path / f"a{suffix}", exif=exif, xmp=packet, quality=95)
        picture = read_image(tmp_path / f"a{suffix}")
        assert (picture.height, picture.width) == (WIDTH, HEIGHT)
        assert picture.info.xmp == XMP.format(orientation=form.format(1)).encode()
        write_image(tmp_path / f"b{suffix}", picture.pixels, picture.info)
        again = read_image(tmp_path / f"b{suffix}")
        assert (again.height, again.width) == (WIDTH, HEIGHT)
        assert again.info.xmp == picture.info.xmp


def test_xmp_that_cannot_be_kept_is_a_note(tmp_path):
    for packet, reason in (
        ("<x/>".encode("utf-16"), "is no text in UTF-8"),
        (b"<x>\xff</x>", "is no text in UTF-8"),
        (b"x" * (rasters.MAX_XMP_BYTES + 1), "is longer than 1,048,576 bytes"),
    ):
        Image.fromarray(samples(3)).save(tmp_path / "a.webp", lossless=True, xmp=packet)
        picture = read_image(tmp_path / "a.webp")
        np.testing.assert_array_equal(picture.pixels, floats(samples(3)))
        assert picture.info.xmp == b""
        assert picture.notes == (f"{tmp_path / 'a.webp'}: its XMP {reason} and not kept",)


def test_long_xmp_is_left_out_of_jpeg_files_alone(tmp_path):
    for size, kept in ((65_504, True), (65_505, False)):
        info = PictureInfo((Plane("", "RGB", 8),), xmp=b"x" * size)
        for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
            write_image(tmp_path / f"a{suffix}", floats(samples(3)), info)
            found = read_image(tmp_path / f"a{suffix}").info.xmp
            assert found == (b"" if suffix == ".jpg" and not kept else info.xmp), (size, suffix)


# --- texture stacks --------------------------------------------------------------------------------------------------


def make_stack(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    files = {
        "albedo.png": samples(4, seed=1),
        "height.tif": samples(1, np.float32, seed=2) * 3,
        "normal.PNG": samples(3, np.uint16, seed=3),
        "rough.tiff": samples(1, np.uint16, seed=4),
        "tint.webp": samples(3, seed=5),
    }
    for name, values in files.items():
        (folder / name).write_bytes(
            rasters.encode_raster(rasters.Raster(values if values.ndim == 3 else values[..., None]), Path(name))
        )
    return files


def test_a_stack_returns_as_the_same_files(tmp_path):
    files = make_stack(tmp_path / "in")
    (tmp_path / "in" / "readme.txt").write_text("x")
    (tmp_path / "in" / "deeper").mkdir()
    (tmp_path / "in" / ".hidden").write_text("x")
    picture = read_image(tmp_path / "in")
    assert [(plane.name, plane.mode, plane.bits) for plane in picture.info.planes] == [
        ("albedo.png", "RGBA", 8),
        ("height.tif", "F", 32),
        ("normal.PNG", "RGB", 16),
        ("rough.tiff", "L", 16),
        ("tint.webp", "RGB", 8),
    ]
    assert picture.info.stack
    assert picture.pixels.shape == (12, HEIGHT, WIDTH)
    assert picture.info.channel_names[:6] == ("albedo.R", "albedo.G", "albedo.B", "albedo.A", "height.F", "normal.R")
    assert picture.notes == (f"{tmp_path / 'in'}: not pictures, ignored: deeper, readme.txt",)
    np.testing.assert_array_equal(picture.pixels[4], files["height.tif"])

    info = PictureInfo.from_bytes(picture.info.to_bytes())
    written = write_image(tmp_path / "out", picture.pixels, info)
    assert written == [tmp_path / "out" / name for name in sorted(files)]
    for name in files:
        old = rasters.read_raster(tmp_path / "in" / name, MAX_PIXELS).samples
        new = rasters.read_raster(tmp_path / "out" / name, MAX_PIXELS).samples
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(old, new, err_msg=name)


def test_a_stack_ignores_profiles(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(samples(3)).save(tmp_path / "in" / "a.png", icc_profile=SRGB)
    picture = read_image(tmp_path / "in")
    np.testing.assert_array_equal(picture.pixels, floats(samples(3)))
    assert "colour profile is ignored" in picture.notes[0]


def test_titles_in_a_stack_stay_distinct():
    info = PictureInfo((Plane("a.png", "L", 8), Plane("a.tif", "LA", 8)), stack=True)
    assert info.channel_names == ("a.png.L", "a.tif.L", "a.tif.A")
    assert info.slices == (slice(0, 1), slice(1, 3))


def test_stacks_that_make_no_target(tmp_path):
    with pytest.raises(ImageError, match=r"expected pictures \(\.png .*\) in this folder, found none"):
        read_image(tmp_path)
    Image.fromarray(samples(3)).save(tmp_path / "a.png")
    Image.fromarray(samples(3)[:5]).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match=r"one size, found a\.png with 17 x 12 and b\.png with 17 x 5 pixels$"):
        read_image(tmp_path)
    for index in range(11):
        Image.fromarray(samples(3)).save(tmp_path / f"b{index:02}.png")
    (tmp_path / "b.png").unlink()
    with pytest.raises(ImageError, match=r"expected up to 32 channels, found 33 up to b09\.png"):
        read_image(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.png: expected a picture, found an empty file"):
        read_image(tmp_path)


def test_a_stack_goes_to_a_folder(tmp_path):
    info = PictureInfo.of_channels(6)
    pixels = np.zeros((6, 3, 4), np.float32)
    with pytest.raises(ImageError, match=r"out\.png: a texture stack of 6 pictures is written to a folder"):
        write_image(tmp_path / "out.png", pixels, info)
    with pytest.raises(ImageError, match=r"the folder .*absent does not exist"):
        write_image(tmp_path / "absent" / "out", pixels, info)
    assert [path.name for path in write_image(tmp_path / "out", pixels, info)][::5] == [
        "channel00.png",
        "channel05.png",
    ]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("This is not a picture.\n" * 20)
    for name, message in {
        "absent.png": "cannot be read: no such file or directory$",
        "empty.png": "expected a picture, found an empty file$",
        "text.png": r"expected a picture \(PNG, .*\), found other contents$",
        "a\0b": "cannot be read: ",
    }.items():
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif", "deep.png", "deep.tif", "float.tif"])
def test_truncation_and_noise_leak_no_other_error(tmp_path, name):
    file = tmp_path / name
    bits = {"deep": 16, "floa": 32}.get(name[:4], 8)
    write_image(file, floats(samples(3)), PictureInfo((Plane("", "RGB", bits),), icc=SRGB))
    data = file.read_bytes()
    refused = 0
    for cut in sorted({*range(1, min(len(data), 120), 7), *range(120, len(data), max(len(data) // 40, 1))}):
        file.write_bytes(data[:cut])
        refused += refusal(lambda: read_image(file), ImageError) is not None
    assert refused > 20
    write_image(file, floats(samples(3)), PictureInfo((Plane("", "RGB", bits),)))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(ImageError):
        read_image(file)
    rng = np.random.default_rng(0)
    for _ in range(60):
        noisy = bytearray(data)
        for at in rng.integers(0, len(data), 4):
            noisy[at] = rng.integers(0, 256)
        file.write_bytes(noisy)
        if refusal(lambda: read_image(file, max_pixels=1 << 20), ImageError) is None:
            assert np.isfinite(read_image(file, max_pixels=1 << 20).pixels).all()


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def png(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")

    (tmp_path / "a.png").write_bytes(png(20_000, 20_000))
    with pytest.raises(ImageError, match=r"expected up to 268,435,456 pixels, found 20,000 x 20,000$"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(png(2_000_000, 1))
    with pytest.raises(ImageError, match="expected sides up to 1,048,576 pixels"):
        read_image(tmp_path / "a.png")
    # Pillow's own limit is neither in the way nor left changed
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write_image(tmp_path / "b.tif", floats(samples(3)))
    write_image(tmp_path / "deep.tif", floats(samples(3)), PictureInfo((Plane("", "RGB", 16),)))
    assert read_image(tmp_path / "b.tif").width == WIDTH
    assert Image.MAX_IMAGE_PIXELS == 10
    for name in ("b.tif", "deep.tif"):
        with pytest.raises(ImageError, match="expected up to 203 pixels, found 17 x 12"):
            read_image(tmp_path / name, max_pixels=HEIGHT * WIDTH - 1)
        assert read_image(tmp_path / name, max_pixels=HEIGHT * WIDTH).height == HEIGHT


def test_samples_without_meaning_here_are_refused(tmp_path):
    cases = {
        "signed.tif": (samples(1, np.uint16).astype(np.int16), {}),
        "long.tif": (samples(1, np.uint16).astype(np.uint32), {}),
        "complex.tif": (samples(1, np.float32).astype(np.complex64), {}),
        "five.tif": (np.zeros((6, 7, 5), np.uint16), {"photometric": "minisblack", "planarconfig": "contig"}),
    }
    for name, (values, options) in cases.items():
        tifffile.imwrite(tmp_path / name, values, **options)
        with pytest.raises(ImageError, match=f"{name}: expected"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="integers of 32 bits"):
        as_picture(Image.fromarray(np.full((3, 4), 70_000, np.int32)))
    with pytest.raises(ImageError, match="found the mode LAB"):
        as_picture(Image.new("LAB", (3, 4)))


def test_targets_that_cannot_be_written(tmp_path):
    pixels = floats(samples(3))
    for name, message in {
        "a.xyz": r"expected one of the extensions \.png \.jpg .*, found '\.xyz'",
        "a": "found none",
        "absent/a.png": "the folder .*absent does not exist",
    }.items():
        with pytest.raises(ImageError, match=message):
            write_image(tmp_path / name, pixels)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="found a folder of this name"):
        write_image(tmp_path / "folder.png", pixels)
    with pytest.raises(ImageError, match=r"a\.webp: cannot be written as WEBP: "):
        write_image(tmp_path / "a.webp", np.zeros((3, 1, 20_000), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    for wrong in (np.zeros((5, 4)), np.zeros((3, 0, 4)), np.zeros((3, 4, 4), np.uint8), [["x"]]):
        with pytest.raises(ShapeError):
            write_image(tmp_path / "a.png", wrong)
    with pytest.raises(ShapeError, match=r"expected pixels \[3, H, W\], found \[4, 2, 2\]"):
        write_image(tmp_path / "a.png", np.zeros((4, 2, 2)), PictureInfo.of_channels(3))
    with pytest.raises(ShapeError, match="expected finite pixels"):
        write_image(tmp_path / "a.png", np.full((1, 2, 2), np.nan))


# --- as_picture ------------------------------------------------------------------------------------------------------


def test_as_picture_takes_what_stands_for_a_picture(tmp_path):
    values = floats(samples(3))
    write_image(tmp_path / "a.png", values)
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    turned = Image.fromarray(samples(3)[::-1, ::-1].copy())
    turned.info["exif"] = exif.tobytes()
    for value in (
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        Image.fromarray(samples(3)),
        turned,
        values.astype("f8"),
    ):
        picture = as_picture(value)
        np.testing.assert_array_equal(picture.pixels, values)
        assert picture.info.planes == (Plane("", "RGB", 8),)
    assert as_picture(picture) is picture
    assert as_picture(values[0]).info.planes == (Plane("", "L", 8),)
    assert as_picture(Image.fromarray(samples(1, np.uint16))).info.planes == (Plane("", "L", 16),)
    assert as_picture(Image.fromarray(samples(1, np.float32))).info.planes == (Plane("", "F", 32),)
    assert as_picture(np.zeros((7, 2, 2))).info.stack


def test_as_picture_refuses_the_rest():
    for wrong, message in (
        (3, "expected a path, a Pillow image or an array, found int"),
        (np.zeros(3), "expected floats"),
        (np.zeros((3, 4, 4), np.uint8), "found uint8"),
        (np.full((3, 4, 4), 255.0), r"expected values in \[0, 1\], found 255 to 255"),
        (np.full((3, 4, 4), np.nan), r"expected values in \[0, 1\]"),
        (np.zeros((33, 2, 2)), "expected 1 to 32 channels, found 33"),
        (np.zeros((3, 0, 2)), r"expected pixels \[3, H, W\], found \[3, 0, 2\]"),
    ):
        with pytest.raises(ShapeError, match=message):
            as_picture(wrong)


def test_a_picture_checks_its_pixels():
    with pytest.raises(ShapeError, match=r"photo\.png: expected pixels \[3, H, W\], found \[4, 2, 2\]"):
        Picture(np.zeros((4, 2, 2), np.float32), PictureInfo.of_channels(3), "photo.png")
