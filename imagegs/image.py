"""Pictures: a file or a folder <-> an array [C, H, W], and what is needed to give the same kind of file back.

A single picture is read upright, with straight alpha as its last channel, converted from its ICC profile to sRGB; the
profile, the EXIF and the XMP are kept and put into the file that is written. Integers of 8 and 16 bits become [0, 1].
Values leave [0, 1] in two cases only: colours of a wide-gamut profile that sRGB cannot hold (`imagegs.profiles`), and
floating-point files (EXR, TIFF), whose numbers stay as they are, without any curve, and are cut to [0, 1] when they are
written to a file of integers.

A folder is a texture stack: its pictures, sorted by name, become the channels of one target. They may be maps of
anything, so that their numbers stay as stored: no colour conversion, no profile, no EXIF, no XMP.

The bytes of a `PictureInfo`, as a ``.gsimg`` file carries them; integers are little-endian:

```
size  field
1     flags: bit 0 texture stack, bit 1 ICC profile present, bit 2 EXIF present, bit 3 XMP present, bits 4 to 7 zero
1     P, number of planes: 1 for a single picture, 1 to 32 for a stack
P times:
  1   mode: 0 L (grey), 1 LA (grey, alpha), 2 RGB, 3 RGBA, 4 F (one floating-point channel)
  1   bits per sample: 8, 16 or 32 (floating point): L 8 or 16; F 32; LA, RGB, RGBA 8, 16 or 32
  1   n, length of the name: 0 for a single picture, 1 to 255 in a stack
  n   name, UTF-8: a file name without folders, with the extension of a known format, unique but for case
if bit 1:
  4   n
  n   ICC profile, a zlib stream (RFC 1950) of 1 to 1,048,576 bytes when inflated
if bit 2:
  4   n
  n   EXIF as a TIFF structure (no "Exif" before it), a zlib stream of 1 to 60,000 bytes when inflated
if bit 3:
  4   n
  n   XMP packet, UTF-8 without null characters, a zlib stream of 1 to 1,048,576 bytes when inflated
```

A stack has none of the bits 1 to 3. The channels of all planes, in order, are the channels of the picture: 1 to 32.
Nothing follows the last field.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from unicodedata import category

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import FormatError, ImageError, ShapeError, TruncatedError
from .files import atomic_write, atomic_write_folder
from .gaussians import MAX_CHANNELS
from .profiles import MAX_PROFILE_BYTES, check_profile, from_srgb, to_srgb
from .rasters import (
    FORMATS,
    MAX_EXIF_BYTES,
    MAX_XMP_BYTES,
    Raster,
    encode_raster,
    format_of,
    from_pillow,
    is_xmp_text,
    read_raster,
)

FloatArray = npt.NDArray[np.float32]
Mode = Literal["L", "LA", "RGB", "RGBA", "F"]
Bits = Literal[8, 16, 32]

MAX_PIXELS = 1 << 28
"""Largest width times height that is read without asking for more."""

MAX_NAME_BYTES = 255

_LETTERS: dict[str, tuple[str, ...]] = {
    "L": ("L",),
    "LA": ("L", "A"),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "F": ("F",),
}
_MODE_IDS: dict[Mode, int] = {"L": 0, "LA": 1, "RGB": 2, "RGBA": 3, "F": 4}
_MODES: dict[int, Mode] = {number: mode for mode, number in _MODE_IDS.items()}
_STACK, _ICC, _EXIF, _XMP = 1, 2, 4, 8


@dataclass(frozen=True)
class Plane:
    """One file's share of the channels.

    Attributes:
        name: file name inside a stack; empty for a single picture.
        mode: what its channels mean.
        bits: bits per sample of the file; 32 is floating point.

    Raises:
        ImageError: mode and bits do not go together, or the name is no plain file name.
    """

    name: str
    mode: Mode
    bits: Bits

    def __post_init__(self) -> None:
        depths = {"L": (8, 16), "F": (32,)}.get(self.mode, (8, 16, 32))
        if self.mode not in get_args(Mode) or self.bits not in depths:
            raise ImageError(f"plane {self.name!r}: no picture has the mode {self.mode!r} with {self.bits!r} bits")
        if self.name:
            _check_name(self.name)

    @property
    def channels(self) -> int:
        """Number of channels, alpha included."""
        return len(_LETTERS[self.mode])

    @property
    def letters(self) -> tuple[str, ...]:
        """The channels' letters, for example R, G, B, A."""
        return _LETTERS[self.mode]

    @property
    def alpha(self) -> bool:
        """Whether the last channel is transparency."""
        return self.mode in {"LA", "RGBA"}


@dataclass(frozen=True)
class PictureInfo:
    """What is needed, beside the channels, to give them back as files.

    Attributes:
        planes: one for each file.
        icc: profile that single pictures are written with, or empty for sRGB.
        exif: EXIF as a TIFF structure without orientation, or empty.
        stack: whether it is a texture stack, written as a folder.
        xmp: XMP packet in UTF-8, or empty.

    Raises:
        ImageError: the parts contradict each other.
    """

    planes: tuple[Plane, ...]
    icc: bytes = field(default=b"", repr=False)
    exif: bytes = field(default=b"", repr=False)
    stack: bool = False
    xmp: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        names = [plane.name for plane in self.planes]
        if self.stack:
            if "" in names or len({name.casefold() for name in names}) < len(names):
                raise ImageError("texture stack: expected a name of its own for each picture")
            if self.icc or self.exif or self.xmp:
                raise ImageError("texture stack: expected no profile, no EXIF and no XMP")
        elif names != [""]:
            raise ImageError(f"picture: expected one plane without a name, found {len(names)}: {', '.join(names)}")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ImageError(f"picture: expected 1 to {MAX_CHANNELS} channels, found {self.channels}")
        if len(self.icc) > MAX_PROFILE_BYTES or len(self.exif) > MAX_EXIF_BYTES:
            raise ImageError("picture: its profile or its EXIF is too long to be kept")
        if len(self.xmp) > MAX_XMP_BYTES or not is_xmp_text(self.xmp):
            raise ImageError(f"picture: expected XMP of up to {MAX_XMP_BYTES:,} bytes of UTF-8, found other bytes")

    @property
    def channels(self) -> int:
        """Number of channels C of all planes."""
        return sum(plane.channels for plane in self.planes)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """A name for each channel: ``R``, or ``normal.R`` in a stack (``normal.png.R`` beside ``normal.tif.R``)."""
        if not self.stack:
            return self.planes[0].letters
        stems = [Path(plane.name).stem for plane in self.planes]
        titles = [
            stem if stems.count(stem) == 1 else plane.name for stem, plane in zip(stems, self.planes, strict=True)
        ]
        return tuple(
            f"{title}.{letter}" for title, plane in zip(titles, self.planes, strict=True) for letter in plane.letters
        )

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the channels of each plane lie."""
        found, start = [], 0
        for plane in self.planes:
            found.append(slice(start, start + plane.channels))
            start += plane.channels
        return tuple(found)

    @classmethod
    def of_channels(cls, channels: int) -> PictureInfo:
        """The plainest picture of a number of channels.

        1 to 4 are grey, grey and alpha, RGB and RGBA of 8 bits; more are a stack of 16-bit grey pictures.

        Raises:
            ShapeError: there are none, or too many.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise ShapeError(f"picture: expected 1 to {MAX_CHANNELS} channels, found {channels}")
        modes: dict[int, Mode] = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
        if channels in modes:
            return cls((Plane("", modes[channels], 8),))
        return cls(tuple(Plane(f"channel{index:02}.png", "L", 16) for index in range(channels)), stack=True)

    def to_bytes(self) -> bytes:
        """The bytes that the head of this module describes."""
        flags = _STACK * self.stack | _ICC * bool(self.icc) | _EXIF * bool(self.exif) | _XMP * bool(self.xmp)
        parts = [struct.pack("<BB", flags, len(self.planes))]
        for plane in self.planes:
            name = plane.name.encode()
            parts.append(struct.pack("<BBB", _MODE_IDS[plane.mode], plane.bits, len(name)) + name)
        for block in (self.icc, self.exif, self.xmp):
            if block:
                packed = zlib.compress(block, 9)
                parts.append(struct.pack("<I", len(packed)) + packed)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> PictureInfo:
        """The inverse of `to_bytes`, for bytes of any origin.

        Memory is bounded by the bytes given and by the limits that the head of this module names.

        Raises:
            FormatError: the bytes are not a picture's description; `TruncatedError` if they end too early.
        """
        reader = _Reader(bytes(data))
        flags, count = reader.take("flags", 1)[0], reader.take("number of planes", 1)[0]
        if flags & ~(_STACK | _ICC | _EXIF | _XMP):
            raise FormatError(f"picture info: flags: expected bits 0 to 3, found {flags:#04x}")
        if not 1 <= count <= MAX_CHANNELS:
            raise FormatError(f"picture info: number of planes: expected 1 to {MAX_CHANNELS}, found {count}")
        planes = tuple(_read_plane(reader, index) for index in range(count))
        icc = reader.inflate("ICC profile", MAX_PROFILE_BYTES) if flags & _ICC else b""
        exif = reader.inflate("EXIF", MAX_EXIF_BYTES) if flags & _EXIF else b""
        xmp = reader.inflate("XMP", MAX_XMP_BYTES) if flags & _XMP else b""
        if reader.left:
            raise FormatError(f"picture info: expected its end at byte {reader.at}, found {reader.left} bytes more")
        try:
            return cls(planes, icc, exif, bool(flags & _STACK), xmp)
        except ImageError as error:
            raise FormatError(f"picture info: {error}") from error


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory.

    Attributes:
        pixels: [C, H, W] float32, C-contiguous; [0, 1] but for the cases that the head of this module names.
        info: what the channels are.
        source: where it comes from, for messages.
        notes: what the user should know about the way it was read.

    Raises:
        ShapeError: the pixels are no [C, H, W] array with the channels of ``info``.
    """

    pixels: FloatArray
    info: PictureInfo
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _check_pixels(self.pixels, self.info, self.source or "pixels"))

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.pixels.shape[0])

    @property
    def height(self) -> int:
        """Height, pixels."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Width, pixels."""
        return int(self.pixels.shape[2])


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, data: bytes | None = None) -> Picture:
    """Read a picture, or a folder of pictures as one texture stack.

    Args:
        path: a PNG, JPEG, WebP, TIFF, AVIF, EXR, GIF or BMP file, or a folder of files of the first six kinds; other
            files in it are ignored with a note, hidden ones without.
        max_pixels: largest width times height of a picture.
        data: the file's contents, where they are at hand; ``path`` is then no more than their name.

    Returns:
        The picture; animations and documents of many pages give the first, with a note.

    Raises:
        ImageError: what is there cannot be read, is no picture, is truncated or too large; in a folder also no picture
            at all, pictures of unlike size, or more than 32 channels.
    """
    if data is not None:
        return from_raster(read_raster(str(path), max_pixels, data), str(path))
    path = Path(path)
    if "\0" not in str(path) and path.is_dir():
        return _read_stack(path, max_pixels)
    return from_raster(read_raster(path, max_pixels), str(path))


def write_image(path: str | Path, pixels: npt.ArrayLike, info: PictureInfo | None = None) -> list[Path]:
    """Write a picture, or the files of a texture stack; whole or not at all.

    The format follows from the extension: .png (8 or 16 bits), .jpg .jpeg .webp .avif (8 bits), .tif .tiff (8, 16, 32
    bits) or .exr (32 bits). Samples keep the bits of ``info`` where the format has them and take the nearest it has
    otherwise; integers are clamped and rounded to the nearest. A picture with transparency cannot become a JPEG.

    Args:
        path: the file; for a stack the folder, made if it is missing.
        pixels: [C, H, W], as `Picture` holds them.
        info: what they are; without it 1 to 4 channels become 8-bit grey, grey and alpha, RGB, RGBA.

    Returns:
        The files written.

    Raises:
        ShapeError: pixels and info disagree, or a pixel is not finite.
        ImageError: the extension is not known, the format cannot hold the picture, or the file cannot be written.
    """
    path = Path(path)
    if info is None:
        info = PictureInfo.of_channels(np.shape(pixels)[0] if np.ndim(pixels) == 3 else 1)
    values = _check_pixels(pixels, info, str(path))
    if not np.isfinite(values).all():
        raise ShapeError(f"{path}: expected finite pixels, found others")
    if not info.stack:
        atomic_write(path, _encoded(path, values, info.planes[0], info))
        return [path]
    if path.suffix.lower() in FORMATS:
        count = len(info.planes)
        raise ImageError(
            f"{path}: a texture stack of {count} pictures is written to a folder, not to a {path.suffix} file"
        )
    files: dict[str, Callable[[], bytes]] = {
        plane.name: partial(_encoded, path / plane.name, values[where], plane, info)
        for plane, where in zip(info.planes, info.slices, strict=True)
    }
    return atomic_write_folder(path, files)


def image_bytes(path: str | Path, pixels: npt.ArrayLike, info: PictureInfo) -> bytes:
    """The bytes of the file that `write_image` would write for a single picture.

    Raises:
        ShapeError: pixels and info disagree.
        ImageError: the extension is not known, or the format cannot hold the picture.
    """
    return _encoded(Path(path), _check_pixels(pixels, info, str(path)), info.planes[0], info)


def as_picture(value: str | Path | Image.Image | Picture | npt.NDArray[Any]) -> Picture:
    """A picture of whatever stands for one.

    Args:
        value: a path (see `read_image`), a Pillow image, a picture, or an array of floats [C, H, W] or [H, W] in
            [0, 1]: 1 to 4 channels are grey, grey and alpha, RGB, RGBA, more are a stack.

    Raises:
        ImageError: a file cannot be read.
        ShapeError: it is nothing of these, or the array has another shape, kind or range.
    """
    if isinstance(value, Picture):
        return value
    if isinstance(value, str | Path):
        return read_image(value)
    if isinstance(value, Image.Image):
        return from_raster(from_pillow(value, "image"), "image")
    if not isinstance(value, np.ndarray):
        raise ShapeError(f"image: expected a path, a Pillow image or an array, found {type(value).__name__}")
    if value.ndim not in {2, 3} or value.dtype.kind != "f":
        raise ShapeError(f"image: expected floats [C, H, W] or [H, W], found {value.dtype} {list(value.shape)}")
    pixels = value if value.ndim == 3 else value[None]
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ShapeError(f"image: expected values in [0, 1], found {pixels.min():g} to {pixels.max():g}")
    return Picture(pixels.astype(np.float32), PictureInfo.of_channels(pixels.shape[0]), "array")


def _read_stack(folder: Path, max_pixels: int) -> Picture:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    files = [entry for entry in entries if entry.suffix.lower() in FORMATS and not entry.is_dir()]
    if not files:
        raise ImageError(f"{folder}: expected pictures ({' '.join(FORMATS)}) in this folder, found none")
    notes = []
    if len(files) < len(entries):
        notes.append(f"{folder}: not pictures, ignored: {', '.join(e.name for e in entries if e not in files)}")
    planes: list[Plane] = []
    arrays: list[FloatArray] = []
    for file in files:
        _check_name(file.name)
        raster = read_raster(file, max_pixels)
        array, plane = _floats(raster, file.name)
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            (h0, w0), (h1, w1) = arrays[0].shape[1:], array.shape[1:]
            raise ImageError(
                f"{folder}: expected pictures of one size, found {files[0].name} with {w0} x {h0} and {file.name} "
                f"with {w1} x {h1} pixels"
            )
        planes.append(plane)
        arrays.append(array)
        total = sum(plane.channels for plane in planes)
        if total > MAX_CHANNELS:
            raise ImageError(f"{folder}: expected up to {MAX_CHANNELS} channels, found {total} up to {file.name}")
        notes.extend(raster.notes)
        if raster.icc:
            notes.append(f"{file}: a stack keeps numbers as stored: its colour profile is ignored and not kept")
    return Picture(np.concatenate(arrays), PictureInfo(tuple(planes), stack=True), str(folder), tuple(notes))


def from_raster(raster: Raster, source: str) -> Picture:
    """A picture from the samples of a file: as floats, in sRGB if they have a profile."""
    pixels, plane = _floats(raster, "")
    icc, notes = raster.icc, raster.notes
    colors = plane.channels - plane.alpha
    if icc and plane.bits == 32:
        icc, notes = b"", (*notes, f"{source}: floating-point numbers stay as stored: its colour profile is not kept")
    elif icc:
        try:
            check_profile(icc, colors)
            pixels[:colors] = np.moveaxis(to_srgb(np.moveaxis(pixels[:colors], 0, -1), icc), -1, 0)
        except ImageError as error:
            icc, notes = b"", (*notes, f"{source}: {error}; taken as sRGB")
    if len(icc) > MAX_PROFILE_BYTES:
        icc, notes = b"", (*notes, f"{source}: its colour profile is too long to be kept; written as sRGB")
    return Picture(pixels, PictureInfo((plane,), icc, raster.exif, xmp=raster.xmp), source, notes)


def _floats(raster: Raster, name: str) -> tuple[FloatArray, Plane]:
    """The samples as [C, H, W] floats, and what they are."""
    samples = raster.samples
    planar: FloatArray = np.moveaxis(samples, -1, 0).astype(np.float32, order="C")
    modes: dict[int, Mode] = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    mode = modes[samples.shape[-1]]
    if samples.dtype.kind == "f":
        return planar, Plane(name, "F" if mode == "L" else mode, 32)
    deep = samples.dtype.itemsize > 1
    planar /= np.float32(65535 if deep else 255)
    return planar, Plane(name, mode, 16 if deep else 8)


def _encoded(path: Path, pixels: FloatArray, plane: Plane, info: PictureInfo) -> bytes:
    kind = format_of(path)
    depth = kind.depth(plane.bits)
    values = np.moveaxis(pixels, 0, -1)
    colors = plane.channels - plane.alpha
    icc = info.icc if kind.metadata and (kind.grey or colors == 3) else b""
    if icc:
        try:
            own = from_srgb(np.ascontiguousarray(values[..., :colors]), icc)
            values = np.concatenate([own, values[..., colors:]], axis=-1)
        except ImageError:
            icc = b""  # a profile that cannot be used is not embedded either; the numbers are sRGB
    if depth == 32:
        samples: npt.NDArray[Any] = np.ascontiguousarray(values)
    else:
        top = (1 << depth) - 1
        samples = np.rint(np.clip(values, 0, 1) * np.float32(top)).astype(np.uint8 if depth == 8 else np.uint16)
    return encode_raster(Raster(samples, icc, info.exif, xmp=info.xmp), path)


def _check_pixels(pixels: npt.ArrayLike, info: PictureInfo, where: str) -> FloatArray:
    try:
        source = np.asarray(pixels)
        if source.dtype.kind != "f":
            raise TypeError
        values = np.ascontiguousarray(source, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{where}: expected an array of floats, found {type(pixels).__name__}") from error
    if values.ndim != 3 or values.shape[0] != info.channels or values.size == 0:
        raise ShapeError(f"{where}: expected pixels [{info.channels}, H, W], found {list(values.shape)}")
    return values


def _check_name(name: str) -> None:
    """File names that lead nowhere but into their folder, on every system."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ImageError(f"file name {name!r}: expected valid text") from error
    if size > MAX_NAME_BYTES:
        raise ImageError(f"file name {name[:20]!r}...: expected up to {MAX_NAME_BYTES} bytes, found {size}")
    if set(name) & set('/\\:*?"<>|') or any(category(letter).startswith("C") for letter in name):
        raise ImageError(f"file name {name!r}: expected no folders and no marks that some systems forbid")
    if Path(name).suffix.lower() not in FORMATS:
        raise ImageError(f"file name {name!r}: expected one of the extensions {' '.join(FORMATS)}")


class _Reader:
    """Takes fields off bytes that may be anything."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, what: str, size: int) -> bytes:
        if size > self.left:
            raise TruncatedError(f"picture info: {what}: expected {size} bytes at byte {self.at}, found {self.left}")
        self.at += size
        return self.data[self.at - size : self.at]

    def inflate(self, what: str, limit: int) -> bytes:
        (size,) = struct.unpack("<I", self.take(f"length of the {what}", 4))
        packed = self.take(what, size)
        stream = zlib.decompressobj()
        try:
            block = stream.decompress(packed, limit + 1)
        except zlib.error as error:
            raise FormatError(f"picture info: {what}: expected a zlib stream, found other bytes") from error
        if not 1 <= len(block) <= limit or not stream.eof or stream.unused_data:
            raise FormatError(f"picture info: {what}: expected one zlib stream of 1 to {limit:,} bytes, found another")
        return block


def _read_plane(reader: _Reader, index: int) -> Plane:
    where = f"plane {index}"
    mode, bits, size = reader.take(where, 3)
    raw = reader.take(f"name of {where}", size)
    try:
        return Plane(raw.decode(), _MODES[mode], bits)  # type: ignore[arg-type]  # checked by Plane itself
    except KeyError as error:
        raise FormatError(f"picture info: {where}: expected a mode from 0 to 4, found {mode}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"picture info: {where}: expected a name in UTF-8, found other bytes") from error
    except ImageError as error:
        raise FormatError(f"picture info: {error}") from error
