"""Where pictures lie and files go: paths of this machine, and URLs of whatever fsspec reaches, one like the other.

A file appears whole or not at all. On this machine `files.atomic_write` sees to that. An object store shows an object
once all of it is there, so that it is sent in one call; everywhere else the bytes go to a sibling, which is moved.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote

from ..errors import ConfigError, DeviceError, ImageError, ImageGSError, one_line, without_user
from ..files import atomic_write, read_bytes

STORES = {"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "obs", "hf", "http", "https"}
"""Protocols of which a file is there once all of it was sent."""
_WEB = ("http", "https")
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z][A-Za-z0-9+.-]+::")


@dataclass(frozen=True)
class Url:
    """A file or a folder that fsspec reaches; it has of a path's interface what this package needs.

    Attributes:
        text: as fsspec takes it, such as ``s3://bucket/folder/picture.png`` or ``zip://picture.png::s3://bucket/a.zip``.
    """

    text: str

    def __str__(self) -> str:
        """The URL without the user's name and password."""
        return without_user(self.text)

    def __truediv__(self, below: str | PurePosixPath) -> Url:
        first, chain = self._parts
        return Url(f"{first}{'' if first.endswith('/') else '/'}{below}{chain}")

    @property
    def name(self) -> str:
        """Its last part; on the web without what asks for it."""
        path = self._parts[0].partition("://")[2]
        if self.protocol in _WEB:
            path = unquote(re.split("[?#]", path, maxsplit=1)[0])
        return PurePosixPath(path).name

    @property
    def suffix(self) -> str:
        """The ending of its name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder that it is in."""
        first, chain = self._parts
        return Url(first.rstrip("/").rpartition("/")[0] + chain)

    @property
    def protocol(self) -> str:
        """What stands before ``://``."""
        return self.text.partition("::")[0].partition("://")[0].lower()

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for several files; on the web a question mark does not."""
        first = self._parts[0]
        return "*" in first if self.protocol in _WEB else glob.has_magic(first)

    def with_suffix(self, suffix: str) -> Url:
        """The same with another ending."""
        return self.parent / PurePosixPath(self.name).with_suffix(suffix)

    def relative_to(self, folder: Url) -> PurePosixPath:
        """Where it lies below a folder that it was made from."""
        above = folder._parts[0].rstrip("/")
        return PurePosixPath(self._parts[0].removeprefix(above).lstrip("/"))

    def opened(self) -> tuple[Any, str]:
        """Its file system, and its path there.

        Raises:
            DeviceError: fsspec, or what it needs for this protocol, is absent.
            ConfigError: there is no such protocol.
            ImageError: it cannot be reached.
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise DeviceError(f"{self}: URLs need the package fsspec: pip install 'imagegs[batch]'") from error
        with _one_line(self, "cannot be reached"):
            try:
                system, path = url_to_fs(self.text)
            except ImportError as error:
                raise DeviceError(f"{self}: expected the package of its protocol, found none: {error}") from error
            except ValueError as error:
                raise ConfigError(f"{self}: expected a URL that fsspec knows, found another: {error}") from error
        return system, path

    @property
    def _parts(self) -> tuple[str, str]:
        """The URL itself, and what it is inside of, from ``::`` on."""
        first, mark, rest = self.text.partition("::")
        return first, mark + rest


Place: TypeAlias = Path | Url


def place_of(text: str | Place) -> Place:
    """A URL where it looks like one, else a path."""
    if isinstance(text, Url):
        return text
    return Url(text) if isinstance(text, str) and _PROTOCOL.match(text) else Path(text)


def read(place: Place) -> bytes:
    """The bytes of a file.

    Raises:
        ImageGSError: they cannot be read.
    """
    if isinstance(place, Path):
        return read_bytes(place)
    system, path = place.opened()
    with _one_line(place, "cannot be read"):
        return bytes(system.cat_file(path))


def read_if_there(place: Place) -> bytes | None:
    """The bytes of a file, or None where there is no such file.

    Raises:
        ImageGSError: it is there, or may be, but cannot be read.
    """
    try:
        return read(place) if isinstance(place, Url) or place.exists() else None
    except ImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def write(place: Place, data: bytes) -> None:
    """Write a file whole or not at all; folders above it are made.

    Raises:
        ImageGSError: it cannot be written; what was there before is as it was.
    """
    if isinstance(place, Path):
        with _one_line(place, "cannot be written"):
            place.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(place, data)
        return
    system, path = place.opened()
    with _one_line(place, "cannot be written"):
        if STORES & set(_protocols(system)):
            system.pipe_file(path, data)
        else:
            _write_and_move(system, path, data)


def _write_and_move(system: Any, path: str, data: bytes) -> None:
    folder = path.rpartition("/")[0]
    system.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/.{secrets.token_hex(4)}.tmp"
    try:
        system.pipe_file(temporary, data)
        try:
            system.mv(temporary, path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            system.rm_file(path)  # where a file cannot take another's name there is none for a moment
            system.mv(temporary, path)
    except BaseException:
        with suppress(Exception):
            system.rm_file(temporary)
        raise


def remove(place: Place) -> None:
    """Take a file away, if it is there.

    Raises:
        ImageGSError: it cannot be taken away.
    """
    with _one_line(place, "cannot be removed"):
        if isinstance(place, Path):
            place.unlink(missing_ok=True)
            return
        system, path = place.opened()
        with suppress(FileNotFoundError):
            system.rm_file(path)


def check(place: Url) -> None:
    """Refuse a file that is not there, or cannot be reached.

    Raises:
        ImageGSError: with the reason.
    """
    system, path = place.opened()
    with _one_line(place, "cannot be read"):
        system.info(path)


def is_folder(place: Url) -> bool:
    """Whether files lie below it; what is on the web is a folder if it ends in a slash.

    Raises:
        ImageGSError: it cannot be reached.
    """
    if place.protocol in _WEB:
        return place.text.endswith("/")
    system, path = place.opened()
    with _one_line(place, "cannot be read"):
        return bool(system.info(path)["type"] == "directory")


def files_below(folder: Url) -> dict[PurePosixPath, int | None]:
    """Every file below a folder, by its place there, with its bytes where they are known; none where it is absent.

    Raises:
        ImageGSError: it cannot be listed, or a name leads out of it.
    """
    system, path = folder.opened()
    root = path.rstrip("/") + "/" if path else ""
    found = {}
    with _one_line(folder, "cannot be listed"), suppress(FileNotFoundError):
        system.invalidate_cache()
        for name, about in system.find(path, detail=True).items():
            below = PurePosixPath(name.removeprefix(root))
            if ".." in below.parts or below.is_absolute():
                raise ConfigError(f"{folder}: expected names below it, found {name!r}")
            found[below] = about.get("size")
    return dict(sorted(found.items()))


def matches(pattern: Url) -> Iterator[Url]:
    """The files that a pattern stands for, by name.

    Raises:
        ImageGSError: they cannot be listed.
    """
    system, path = pattern.opened()
    with _one_line(pattern, "cannot be listed"):
        found = sorted(name for name, about in system.glob(path, detail=True).items() if about["type"] == "file")
    for name in found:
        yield Url(system.unstrip_protocol(name) + pattern._parts[1])


def digest_of(place: Place) -> str:
    """SHA-256 of a file, hexadecimal; empty where it cannot be read, which the work on it will say."""
    try:
        if isinstance(place, Url):
            return hashlib.sha256(read(place)).hexdigest()
        with open(place, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ImageGSError):
        return ""


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


@contextmanager
def _one_line(place: Place, what: str) -> Iterator[None]:
    """Whatever a file system raises inside becomes one line of ours."""
    try:
        yield
    except ImageGSError:
        raise
    except Exception as error:
        raise ImageError(f"{place}: {what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):  # which the web says of a server that does not answer, too
        return "no such file or folder" if error.__cause__ is None else _reason(error.__cause__)
    if isinstance(error, OSError) and error.strerror and type(error).__module__ == "builtins":
        return error.strerror.lower()
    return without_user(one_line(error))
