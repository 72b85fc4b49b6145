"""A folder as a server sees it: paths that stay inside of it, files that stay the same while they are sent, a listing.

A file is opened once, and its length, its date, its ETag and its bytes all come from that handle. One that is replaced
(as `os.replace` does it, and every writer of this package) is sent to its end as it was; one that is written over in
place is noticed before the next piece, and the answer breaks off, shorter than it promised.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

MEDIA_TYPE = "image/vnd.imagegs"
"""Of ``.gsimg`` files. A picture, so ``image``; of one producer, so ``vnd`` (RFC 6838, section 3.2). No server or CDN
has a rule for it, so that none compresses or transforms it on the way."""

MEDIA_TYPES = {
    ".gsimg": MEDIA_TYPE,
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".css": "text/css; charset=utf-8",
    ".exr": "image/x-exr",
    ".gif": "image/gif",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
}
"""Written out, since what the system's own table says differs from machine to machine."""

HASHED_BYTES = 1 << 26
"""Larger files have an ETag of their inode, length and date instead of one of their contents."""
REMEMBERED = 4096
"""ETags that are kept."""
SETTLED_SECONDS = 2.0
"""The ETag of a file changed since is made anew each time: dates are too coarse to tell two changes in a row apart."""
MOST_LISTED = 5000
LAST_SECOND = 253402300799.0
"""Of the year 9999; some file systems have later dates."""

Kind = Literal["folder", "gsimg", "picture"]

_PIECE = 1 << 20
_FORBIDDEN = frozenset("/\\" + ":" * (os.name == "nt") + "".join(map(chr, (*range(32), 127))))
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)  # the path is free of links; one put there since is refused
    | getattr(os, "O_NONBLOCK", 0)  # a pipe does not hold a thread up
)

_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))

_etags: dict[tuple[int, ...], str] = {}
_etags_lock = threading.Lock()


class Changed(Exception):
    """A file that was written over while it was read."""


class OpenFile:
    """A file that is being sent; by one task at a time.

    Attributes:
        size: bytes.
        modified: seconds since 1970.
        etag: strong, with its quotation marks.
        media_type: of its contents.
    """

    def __init__(self, handle: int, media_type: str) -> None:
        """Take over an open file and find out what it holds.

        Args:
            handle: of a regular file; closed by `close`, or at once if this fails.
            media_type: what it is.

        Raises:
            Changed: it is being written over.
            OSError: it cannot be read.
        """
        self._file = open(handle, "rb", buffering=0)
        self.media_type = media_type
        try:
            self._found = os.fstat(handle)
            self.size, self.modified = self._found.st_size, _modified(self._found)
            self.etag = self._make_etag()
        except BaseException:
            self.close()
            raise

    def read(self, start: int, length: int) -> bytes:
        """Bytes from a place on: as many as asked for.

        Raises:
            Changed: the file was written over since it was opened.
        """
        self._file.seek(start)
        pieces, missing = [], length
        while missing and (piece := self._file.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        now = os.fstat(self._file.fileno())
        if missing or (now.st_size, now.st_mtime_ns) != (self.size, self._found.st_mtime_ns):
            raise Changed
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._file.close()

    def _make_etag(self) -> str:
        found = self._found
        key = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if self.size > HASHED_BYTES:
            return _tag(hashlib.blake2b(repr(key[1:4]).encode(), digest_size=16))
        with _etags_lock:
            if (known := _etags.get(key)) is not None:
                return known
        settled = time.time() - max(found.st_mtime, found.st_ctime) > SETTLED_SECONDS
        digest = hashlib.blake2b(digest_size=16)
        for start in range(0, self.size, _PIECE):
            digest.update(self.read(start, min(_PIECE, self.size - start)))
        etag = _tag(digest)
        if settled:
            with _etags_lock:
                while len(_etags) >= REMEMBERED:
                    del _etags[next(iter(_etags))]
                _etags[key] = etag
        return etag


class HeldBytes:
    """Bytes that are sent as a file is; attributes as `OpenFile`."""

    def __init__(self, data: bytes, media_type: str, modified: float) -> None:
        """Stand for ``data``, which has been as it is since ``modified``, seconds since 1970."""
        self._data = data
        self.size, self.modified, self.media_type = len(data), modified, media_type
        self.etag = _tag(hashlib.blake2b(data, digest_size=16))

    def read(self, start: int, length: int) -> bytes:
        """Bytes from a place on."""
        return self._data[start : start + length]

    def close(self) -> None:
        """Nothing is to be given back."""


Source = OpenFile | HeldBytes


def quoted(path: str) -> str:
    """A path as it stands in a URL."""
    return quote(os.fsencode(path), safe="/,")


def shown(path: str) -> str:
    """A path as text: bytes that are no UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def media_type_of(name: str) -> str:
    """The media type that goes with a file's extension."""
    return MEDIA_TYPES.get(os.path.splitext(name)[1].lower(), "application/octet-stream")


def split_path(raw: bytes) -> list[str] | None:
    """The names in the path of a URL; the last is empty for a folder.

    Args:
        raw: as it was sent, percent-encoded, from its first slash on.

    Returns:
        None if no path inside of a folder can be meant: a name is empty, hidden, ``.`` or ``..``, or holds a slash, a
        backslash or a control character, encoded or not.
    """
    try:
        names = [os.fsdecode(unquote_to_bytes(name)) for name in raw.removeprefix(b"/").split(b"/")]
    except UnicodeDecodeError:
        return None
    return names if all(_allowed(name) for name in names[:-1]) and (not names[-1] or _allowed(names[-1])) else None


def find(root: Path, names: Sequence[str]) -> Path | None:
    """What has a path inside of a folder, links resolved; None if that is outside of it, or hidden.

    Args:
        root: the folder, links resolved.
        names: as `split_path` returned them.
    """
    try:
        path = Path(os.path.realpath(root.joinpath(*names)))
        inner = path.relative_to(root)
    except (ValueError, OSError):
        return None
    return None if any(part.startswith(".") for part in inner.parts) else path


def open_file(path: Path) -> OpenFile | None:
    """A regular file, opened; None if it is something else, or cannot be opened.

    Raises:
        Changed: it is being written over.
        OSError: there are too many open files.
    """
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    return OpenFile(handle, media_type_of(path.name))


@dataclass(frozen=True)
class Entry:
    """One line of a listing.

    Attributes:
        name: as shown.
        href: relative to the folder's own URL, percent-encoded.
        kind: what it is.
        size: bytes; None for a folder.
        modified: seconds since 1970.
    """

    name: str
    href: str
    kind: Kind
    size: int | None
    modified: float


def list_folder(root: Path, folder: Path) -> tuple[list[Entry], int]:
    """The folders, ``.gsimg`` files and pictures in a folder, in this order and by name.

    Args:
        root: what is served, links resolved: links that leave it are left out.
        folder: in it.

    Returns:
        At most `MOST_LISTED` of them, and how many there are.

    Raises:
        OSError: the folder cannot be read.
    """
    found: list[Entry] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if (listed := _entry(root, entry)) is not None:
                found.append(listed)
    order: tuple[Kind, ...] = ("folder", "gsimg", "picture")
    found.sort(key=lambda entry: (order.index(entry.kind), entry.name.casefold(), entry.name))
    return found[:MOST_LISTED], len(found)


def _entry(root: Path, entry: os.DirEntry[str]) -> Entry | None:
    if not _allowed(entry.name):
        return None
    try:
        if entry.is_symlink() and find(root, Path(entry.path).relative_to(root).parts) is None:
            return None
        seen = entry.stat()
    except (OSError, ValueError):
        return None
    kind: Kind
    if stat.S_ISDIR(seen.st_mode):
        kind = "folder"
    elif stat.S_ISREG(seen.st_mode) and media_type_of(entry.name).startswith("image/"):
        kind = "gsimg" if media_type_of(entry.name) == MEDIA_TYPE else "picture"
    else:
        return None
    href = quoted(entry.name) + "/" * (kind == "folder")
    return Entry(shown(entry.name), href, kind, None if kind == "folder" else seen.st_size, _modified(seen))


def _modified(found: os.stat_result) -> float:
    """When it was last changed, seconds since 1970, cut to what a date can say."""
    return min(max(0.0, found.st_mtime), LAST_SECOND)


def _allowed(name: str) -> bool:
    return bool(name) and not name.startswith(".") and _FORBIDDEN.isdisjoint(name)


def _tag(digest: hashlib.blake2b) -> str:
    return f'"{digest.hexdigest()}"'
