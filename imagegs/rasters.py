"""One picture file <-> an array of samples: PNG, JPEG, WebP, TIFF, AVIF and EXR.

Pillow reads and writes what has 8 bits. It has no colour mode of 16 bits, so that PNG and TIFF files with more than 8
go through `imagecodecs` and `tifffile`, and EXR through the optional `OpenEXR`. The first bytes of a file decide, not
its extension; GIF and BMP are read as well. What those libraries raise leaves here as one `ImageError`.
"""

from __future__ import annotations

import logging
import re
import struct
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from .errors import ImageError, ImageGSError
from .gaussians import MAX_SIDE
from .profiles import cmyk_to_srgb

Samples = npt.NDArray[Any]

MAX_EXIF_BYTES = 60_000
"""What a JPEG file can carry, less a reserve."""
MAX_XMP_BYTES = 1 << 20
"""Longer XMP packets are not kept."""

_READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_EXR_START = b"\x76\x2f\x31\x01"
_PNG_DEPTH_AT = 24
_PNG_HEADER_BYTES = 33

_ORIENTATION = 0x0112
_TEXT_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_EXIF_FOLDERS = (0x8769, 0x8825)
# the maker's private block, whose inner offsets break when it moves; another folder; sizes, which turn with the picture
_EXIF_DROPPED = (0x927C, 0xA005, 0xA002, 0xA003)

_XMP_TAG = 700
_XMP_KEYWORD = "XML:com.adobe.xmp"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[0-9]")
_JPEG_XMP_BYTES = 65_504


@dataclass(frozen=True)
class FileFormat:
    """What a file format can hold.

    Attributes:
        name: as Pillow calls it.
        depths: bits per sample, rising; 32 are floating-point numbers.
        alpha: whether it holds transparency.
        grey: whether it holds pictures of one colour channel.
        metadata: whether it holds ICC profiles, EXIF and XMP.
        options: how Pillow writes it.
    """

    name: str
    depths: tuple[int, ...]
    alpha: bool = True
    grey: bool = True
    metadata: bool = True
    options: tuple[tuple[str, Any], ...] = ()

    def depth(self, bits: int) -> int:
        """The depth in which samples of ``bits`` are stored: at least as many bits, where there are so many."""
        return next((depth for depth in self.depths if depth >= bits), self.depths[-1])


_PNG = FileFormat("PNG", (8, 16), options=(("compress_level", 4),))  # half the time of 6, at 5 % more bytes
_JPEG = FileFormat("JPEG", (8,), alpha=False, options=(("quality", 95), ("subsampling", 0)))
_WEBP = FileFormat("WEBP", (8,), grey=False, options=(("lossless", True), ("exact", True)))
_TIFF = FileFormat("TIFF", (8, 16, 32), options=(("compression", "tiff_adobe_deflate"),))
_AVIF = FileFormat("AVIF", (8,), grey=False, options=(("quality", 90), ("subsampling", "4:4:4")))
_EXR = FileFormat("EXR", (32,), metadata=False)

FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": _AVIF,
    ".exr": _EXR,
}
"""The formats that are written, by lower-case extension."""


@dataclass(frozen=True, eq=False)
class Raster:
    """A decoded file, upright.

    Attributes:
        samples: [H, W, C] uint8, uint16 or float32; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; alpha is straight,
            but in EXR files, whose numbers stay as they are.
        icc: colour profile of the samples, or empty.
        exif: EXIF as a TIFF structure without orientation, preview and maker's block, or empty.
        notes: what the user should know.
        xmp: XMP packet in UTF-8 whose orientation, if it has one, is upright, or empty.
    """

    samples: Samples
    icc: bytes = b""
    exif: bytes = b""
    notes: tuple[str, ...] = ()
    xmp: bytes = b""


def format_of(path: Path) -> FileFormat:
    """The format that a file's extension asks for.

    Raises:
        ImageError: the extension is not known.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        found = repr(path.suffix) if path.suffix else "none"
        raise ImageError(f"{path}: expected one of the extensions {' '.join(FORMATS)}, found {found}") from None


def read_raster(path: Path | str, max_pixels: int, data: bytes | None = None) -> Raster:
    """Decode a picture file.

    Args:
        path: the file.
        max_pixels: largest width times height; checked before memory is taken.
        data: its contents, where they are at hand; ``path`` is then no more than their name.

    Returns:
        The first picture in the file.

    Raises:
        ImageError: the file is missing, unreadable, empty, not a picture, truncated or too large.
    """
    source = str(path)
    data = _read_bytes(Path(path)) if data is None else data
    if not data:
        raise ImageError(f"{path}: expected a picture, found an empty file")
    with _one_line(source, "cannot be decoded"):
        if data.startswith(_EXR_START):
            return _read_exr(data, source, max_pixels)
        if data.startswith(_TIFF_STARTS):
            deep = _read_deep_tiff(data, source, max_pixels)
            if deep is not None:
                return deep
        with _own_limit(), Image.open(BytesIO(data), formats=_READABLE) as image:
            _check_size(source, image.width, image.height, max_pixels)
            notes: tuple[str, ...] = ()
            frames = int(getattr(image, "n_frames", 1))
            if frames > 1 and image.format != "MPO":
                kind = "pages" if image.format == "TIFF" else "frames"
                notes = (f"{source}: only the first of {frames} {kind} is used",)
            return from_pillow(image, source, notes, _deep_png(data) if image.format == "PNG" else None)


def from_pillow(image: Image.Image, source: str, notes: tuple[str, ...] = (), samples: Samples | None = None) -> Raster:
    """The samples of a Pillow image, turned upright by its EXIF.

    Args:
        image: a picture of any common mode.
        source: its name in messages.
        notes: notes to carry on.
        samples: [H, W, C] samples that stand for the image's own, where those have more than 8 bits.

    Raises:
        ImageError: the picture is truncated, or its mode has no meaning here.
    """
    with _one_line(source, "cannot be decoded"), _own_limit():
        image.load()
        icc = image.info.get("icc_profile") or b""
        try:
            exif = image.getexif()
            orientation, kept = exif.get(_ORIENTATION, 1), _kept_exif(exif)
        except Exception:  # whatever a broken block makes Pillow raise: the picture itself is sound
            orientation, kept, notes = 1, b"", (*notes, f"{source}: its EXIF is broken and not kept")
        if len(kept) > MAX_EXIF_BYTES:
            kept, notes = b"", (*notes, f"{source}: its EXIF is longer than {MAX_EXIF_BYTES:,} bytes and not kept")
        if samples is None:
            samples = _pillow_samples(image, source)
        finish = _from_inks if image.mode == "CMYK" else _upright
        return _with_xmp(finish(samples, icc, kept, orientation, source, notes), image.info.get("xmp"), source)


def from_samples(samples: Samples, source: str, icc: bytes = b"", exif: bytes = b"", xmp: bytes = b"") -> Raster:
    """Samples that another reader found, upright, with what came beside them.

    Args:
        samples: [H, W, C].
        source: its name in messages.
        icc: colour profile, or empty.
        exif: EXIF with or without ``Exif`` before it, or empty.
        xmp: XMP packet, or empty.
    """
    kept = b""
    notes: tuple[str, ...] = ()
    if exif:
        try:
            block = Image.Exif()
            block.load(exif)
            kept = _kept_exif(block)
        except Exception:  # whatever a broken block makes Pillow raise: the picture itself is sound
            notes = (f"{source}: its EXIF is broken and not kept",)
    return _with_xmp(_upright(samples, icc, kept, 1, source, notes), xmp, source)


def encode_raster(raster: Raster, path: Path) -> bytes:
    """Encode samples in the format that the path's extension names.

    JPEG is written at quality 95 without chroma subsampling, AVIF at quality 90 without it, WebP without loss, PNG and
    TIFF deflated. TIFF files with EXIF are not compressed if they have 8 bits, and carry its text fields alone if more.
    XMP of more than 65,504 bytes does not fit into a JPEG file and is left out there.

    Args:
        raster: samples in a depth of the format.
        path: where the bytes will go; nothing is written.

    Raises:
        ImageError: the format cannot hold the picture.
    """
    kind = format_of(path)
    samples = np.ascontiguousarray(raster.samples)
    channels = samples.shape[2]
    if channels in {2, 4} and not kind.alpha:
        others = " ".join(suffix for suffix, other in FORMATS.items() if other.alpha)
        raise ImageError(f"{path}: {kind.name} holds no transparency, which this picture has; use one of {others}")
    icc, exif, xmp = (raster.icc, raster.exif, raster.xmp) if kind.metadata else (b"", b"", b"")
    with _one_line(str(path), f"cannot be written as {kind.name}"):
        if kind is _EXR:
            return _encode_exr(samples, path)
        if kind is _PNG and samples.dtype == np.uint16:
            return _encode_deep_png(samples, icc, exif, xmp)
        if kind is _TIFF and samples.dtype != np.uint8:
            return _encode_deep_tiff(samples, icc, exif, xmp)
        options = dict(kind.options)
        if icc:
            options["icc_profile"] = icc
        if exif:
            options["exif"] = b"Exif\0\0" + exif
            if kind is _TIFF:
                options["compression"] = "raw"  # Pillow's compressed TIFF files cannot hold the folders of EXIF
        if xmp:
            options |= _xmp_options(kind, xmp, exif)
        buffer = BytesIO()
        image = Image.fromarray(samples[..., 0] if channels == 1 else samples)
        image.save(buffer, kind.name, **options)
        return buffer.getvalue()


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{path}: expected a file, found a folder, a device or a pipe")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path}: cannot be read: {reason.lower()}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: cannot be read: it does not fit into the memory") from error
    return data


@contextmanager
def _one_line(source: str, what: str) -> Iterator[None]:
    """Whatever a library raises inside becomes one line of ours; what it merely warns of is not printed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageGSError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{source}: expected a picture ({', '.join(_READABLE)}, EXR), found other contents") from error
    except MemoryError as error:
        raise ImageError(f"{source}: {what}: it does not fit into the memory") from error
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ImageError(f"{source}: {what}: {lines[0] if lines else type(error).__name__}") from error


class _PillowLimit:
    """Pillow's limit on pixels belongs to the whole process; it rests while any thread is in here, where ours holds."""

    lock = threading.Lock()
    users = 0
    saved: int | None = None


@contextmanager
def _own_limit() -> Iterator[None]:
    with _PillowLimit.lock:
        if _PillowLimit.users == 0:
            _PillowLimit.saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _PillowLimit.users += 1
    try:
        yield
    finally:
        with _PillowLimit.lock:
            _PillowLimit.users -= 1
            if _PillowLimit.users == 0:
                Image.MAX_IMAGE_PIXELS = _PillowLimit.saved


def _check_size(source: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{source}: expected at least one pixel, found {width} x {height}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{source}: expected sides up to {MAX_SIDE:,} pixels, found {width:,} x {height:,}")
    if width * height > max_pixels:
        raise ImageError(f"{source}: expected up to {max_pixels:,} pixels, found {width:,} x {height:,}")


def _pillow_samples(image: Image.Image, source: str) -> Samples:
    mode = image.mode
    keyed = "transparency" in image.info
    if mode in {"P", "PA"}:
        image = image.convert("RGBA" if keyed or mode == "PA" else "RGB")
    elif mode in {"1", "L", "RGB"} and keyed:
        image = image.convert("RGBA" if mode == "RGB" else "LA")
    elif mode in {"1", "La", "RGBa", "RGBX", "YCbCr", "HSV"}:
        image = image.convert({"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))
    elif mode not in {"L", "LA", "RGB", "RGBA", "CMYK", "F", "I"} and not mode.startswith("I;16"):
        raise ImageError(f"{source}: expected grey, RGB, CMYK or a palette, found the mode {mode}")
    samples: Samples = np.asarray(image)
    if mode == "I" and (samples.min() < 0 or samples.max() > 65535):
        raise ImageError(f"{source}: expected samples of up to 16 bits, found integers of 32 bits")
    if mode.startswith("I"):
        samples = samples.astype(np.uint16)
    return samples if samples.ndim == 3 else samples[..., None]


def _deep_png(data: bytes) -> Samples | None:
    if data[_PNG_DEPTH_AT] != 16:
        return None
    import imagecodecs

    samples: Samples = imagecodecs.png_decode(data)
    return samples if samples.ndim == 3 else samples[..., None]


def _read_deep_tiff(data: bytes, source: str, max_pixels: int) -> Raster | None:
    """A TIFF file with more than 8 bits per sample; None leaves all others to Pillow."""
    import tifffile

    # without any handler Python prints the library's log to the terminal
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        file = tifffile.TiffFile(BytesIO(data))
        page: Any = file.pages[0]
        dtype = page.dtype
    except Exception:  # not for tifffile: Pillow reads it or says what is wrong
        return None
    with file:
        if dtype is None or dtype.itemsize == 1:
            return None
        _check_size(source, page.imagewidth, page.imagelength, max_pixels)
        inks = page.photometric == tifffile.PHOTOMETRIC.SEPARATED
        known = page.photometric in {
            tifffile.PHOTOMETRIC.MINISWHITE,
            tifffile.PHOTOMETRIC.MINISBLACK,
            tifffile.PHOTOMETRIC.RGB,
        }
        channels = page.samplesperpixel
        if page.axes not in {"YX", "YXS", "SYX"} or not 1 <= channels <= 4 or not (known or (inks and channels == 4)):
            raise ImageError(f"{source}: expected grey, RGB or CMYK, found {channels} channels, axes {page.axes}")
        if dtype.kind not in "uf" or (dtype.kind == "u" and dtype.itemsize > 2):
            raise ImageError(f"{source}: expected 8 or 16 bits or floating point, found {dtype.name}")
        samples: Samples = page.asarray(maxworkers=1)
        samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples.reshape(*samples.shape[:2], channels)
        pages = len(file.pages)
        notes = (f"{source}: only the first of {pages} pages is used",) if pages > 1 else ()
        if dtype.kind == "f":
            samples = samples.astype(np.float32)
        else:
            top = (1 << page.bitspersample) - 1
            samples = samples if top == 65535 else np.rint(samples * (65535 / top)).astype(np.uint16)
            if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                samples = 65535 - samples
        if channels in {2, 4} and not inks and page.extrasamples[:1] == (tifffile.EXTRASAMPLE.ASSOCALPHA,):
            samples = _straight(samples)
        text = Image.Exif()
        for tag in _TEXT_TAGS:
            value = page.tags.valueof(tag)
            if isinstance(value, str):
                text[tag] = value
        icc = bytes(page.tags.valueof(34675) or b"")
        orientation = page.tags.valueof(274, default=1)
        xmp = page.tags.valueof(_XMP_TAG)
    finish = _from_inks if inks else _upright
    return _with_xmp(finish(samples, icc, _kept_exif(text), orientation, source, notes), xmp, source)


def _read_exr(data: bytes, source: str, max_pixels: int) -> Raster:
    with tempfile.TemporaryDirectory() as folder:  # the library reads no bytes
        file = Path(folder) / "picture.exr"
        file.write_bytes(data)
        return _read_exr_file(file, source, max_pixels)


def _read_exr_file(path: Path, source: str, max_pixels: int) -> Raster:
    module = _openexr(source)
    with module.File(str(path), header_only=True) as file:
        header = file.header()
        parts = len(file.parts)
        low, high = ([int(value) for value in corner] for corner in header["dataWindow"])
        names = [channel.name for channel in header["channels"]]
    _check_size(source, high[0] - low[0] + 1, high[1] - low[1] + 1, max_pixels)
    for wanted in (("R", "G", "B", "A"), ("R", "G", "B"), ("Y", "A"), ("Y",), tuple(names[:1])):
        if set(wanted) <= set(names) and (len(wanted) > 1 or len(names) == 1):
            break
    else:
        raise ImageError(
            f"{source}: expected the channels R G B, R G B A, Y, Y A or a single one, found {' '.join(names)}"
        )
    with module.File(str(path), separate_channels=True) as file:
        planes = [file.channels()[name].pixels for name in wanted]
    if len({plane.shape for plane in planes}) > 1 or any(plane.dtype.kind != "f" for plane in planes):
        raise ImageError(f"{source}: expected floating-point channels of one size, found others")
    notes = []
    if parts > 1:
        notes.append(f"{source}: only the first of {parts} parts is used")
    if len(names) > len(wanted):
        notes.append(f"{source}: channels not used: {' '.join(name for name in names if name not in wanted)}")
    return _upright(np.stack(planes, axis=-1).astype(np.float32), b"", b"", 1, source, tuple(notes))


def _openexr(path: Path | str) -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        raise ImageError(f"{path}: EXR files need the OpenEXR package: pip install 'imagegs[exr]'") from error
    return OpenEXR


def _from_inks(inks: Samples, icc: bytes, exif: bytes, orientation: int, source: str, notes: tuple[str, ...]) -> Raster:
    """CMYK becomes RGB in sRGB: a picture of light cannot be given back as one of ink."""
    top = np.iinfo(inks.dtype).max if inks.dtype.kind == "u" else 1
    notes = (*notes, f"{source}: CMYK, becomes RGB and stays so")
    shares = inks.astype(np.float32) / np.float32(top)
    try:
        colors = cmyk_to_srgb(shares, icc)
    except ImageError as error:
        notes = (*notes, f"{source}: {error}; a plain conversion is used")
        colors = cmyk_to_srgb(shares, b"")
    samples = colors if inks.dtype.kind == "f" else np.rint(colors * top).astype(inks.dtype)
    return _upright(samples, b"", exif, orientation, source, notes)


def _upright(
    samples: Samples, icc: bytes, exif: bytes, orientation: Any, source: str, notes: tuple[str, ...]
) -> Raster:
    """Turn and mirror as the EXIF orientation says (EXIF 2.32, tag 274), and replace numbers that are none."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if samples.dtype.kind == "f":
        finite = np.isfinite(samples)
        if not finite.all():
            known = samples[finite]
            low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
            count = samples.size - int(np.count_nonzero(finite))
            samples = np.nan_to_num(samples, nan=0.0, posinf=high, neginf=low)
            notes = (
                *notes,
                f"{source}: {count:,} samples are infinite or no numbers; the limits of the rest or 0 stand in",
            )
    return Raster(np.ascontiguousarray(samples), icc, exif, notes)


def _straight(samples: Samples) -> Samples:
    """Colours that were multiplied by alpha, divided by it."""
    top = 65535 if samples.dtype.kind == "u" else 1
    alpha = samples[..., -1:].astype(np.float32) / top
    colors = samples[..., :-1] / np.where(alpha > 0, alpha, 1)
    if samples.dtype.kind == "u":
        colors = np.rint(np.minimum(colors, top))
    return np.concatenate([colors.astype(samples.dtype), samples[..., -1:]], axis=-1)


def _kept_exif(exif: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag in _TEXT_TAGS:
        if tag in exif:
            kept[tag] = exif[tag]
    for folder in _EXIF_FOLDERS:
        entries = {tag: value for tag, value in exif.get_ifd(folder).items() if tag not in _EXIF_DROPPED}
        if entries:
            kept[folder] = entries
    return bytes(kept.tobytes())[len(b"Exif\0\0") :] if len(kept) else b""


def _with_xmp(raster: Raster, packet: Any, source: str) -> Raster:
    """The raster with the XMP that came with it, as far as it can be kept; its orientation becomes upright."""
    xmp = packet.encode() if isinstance(packet, str) else packet if isinstance(packet, bytes) else b""
    xmp = xmp.rstrip(b"\0")
    if len(xmp) > MAX_XMP_BYTES:
        reason = f"is longer than {MAX_XMP_BYTES:,} bytes"
    elif not is_xmp_text(xmp):
        reason = "is no text in UTF-8"
    else:
        return replace(raster, xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", xmp))
    return replace(raster, notes=(*raster.notes, f"{source}: its XMP {reason} and not kept"))


def is_xmp_text(xmp: bytes) -> bool:
    """Whether the bytes are what every format can hold: UTF-8 without null characters."""
    try:
        return "\0" not in xmp.decode()
    except UnicodeDecodeError:
        return False


def _xmp_options(kind: FileFormat, xmp: bytes, exif: bytes) -> dict[str, Any]:
    """What Pillow has to be told so that the packet is written."""
    if kind is _PNG:
        text = PngImagePlugin.PngInfo()
        text.add_itxt(_XMP_KEYWORD, xmp.decode())
        return {"pnginfo": text}
    if kind is _TIFF:
        fields = Image.Exif()
        if exif:
            fields.load(b"Exif\0\0" + exif)
        fields[_XMP_TAG] = xmp
        return {"exif": fields}
    return {} if kind is _JPEG and len(xmp) > _JPEG_XMP_BYTES else {"xmp": xmp}


def _encode_deep_png(samples: Samples, icc: bytes, exif: bytes, xmp: bytes) -> bytes:
    import imagecodecs

    plain = bytes(imagecodecs.png_encode(samples[..., 0] if samples.shape[2] == 1 else samples))
    profile = _chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc)) if icc else b""
    fields = _chunk(b"eXIf", exif) if exif else b""
    packet = _chunk(b"iTXt", _XMP_KEYWORD.encode() + bytes(5) + xmp) if xmp else b""
    return plain[:_PNG_HEADER_BYTES] + profile + fields + packet + plain[_PNG_HEADER_BYTES:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _encode_deep_tiff(samples: Samples, icc: bytes, exif: bytes, xmp: bytes) -> bytes:
    import tifffile

    channels = samples.shape[2]
    fields = Image.Exif()
    if exif:
        fields.load(b"Exif\0\0" + exif)
    tags: list[Any] = [(tag, "s", 0, str(fields[tag]), True) for tag in _TEXT_TAGS if tag in fields]
    if xmp:
        tags.append((_XMP_TAG, "B", len(xmp), xmp, True))
    buffer = BytesIO()
    tifffile.imwrite(
        buffer,
        samples[..., 0] if channels == 1 else samples,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in {2, 4} else None,
        compression="zlib",
        predictor=samples.dtype == np.uint16,
        iccprofile=icc or None,
        extratags=tags,
        metadata=None,
        software=False,
    )
    return buffer.getvalue()


def _encode_exr(samples: Samples, path: Path) -> bytes:
    module = _openexr(path)
    names = {1: "Y", 2: "YA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    header = {"compression": module.ZIP_COMPRESSION, "type": module.scanlineimage}
    planes = {name: np.ascontiguousarray(samples[..., index]) for index, name in enumerate(names)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.exr"
        module.File(header, planes).write(str(file))
        return file.read_bytes()
