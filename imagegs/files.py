"""Files that are read with one line for what goes wrong, and appear whole or not at all.

What is written goes to a temporary sibling, is flushed to the disk and then takes the target's name in one step
(`os.replace`), so that an interruption, a full disk or an error never leaves half a file and never harms the old one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import ImageError


def check_target(path: str | Path) -> None:
    """Raise the error that writing ``path`` would raise, as far as it can be known beforehand.

    Args:
        path: a file that is to be written later, for example after a long fit.

    Raises:
        ImageError: its folder is missing or not writable, or something in its place cannot be replaced.
    """
    _resolved_target(Path(path))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def atomic_write(path: str | Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file whole or not at all.

    A file that is already there is replaced and keeps its permissions; a symbolic link stays and its target is
    replaced. Only regular files are replaced, never a folder or a device.

    Args:
        path: the file.
        data: its contents.

    Raises:
        ImageError: the folder is missing, something else is in the way, permission is lacking or the disk is full.
    """
    shown = Path(path)
    target, mode = _resolved_target(shown)
    with _temporary_sibling(target, shown) as temporary:
        _write_flushed(temporary, data, mode)
        os.replace(temporary, target)


@contextmanager
def atomic_stream(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece in the body; it takes its name at the end of it, as with `atomic_write`.

    Raises:
        ImageError: as `atomic_write`.
    """
    shown = Path(path)
    target, mode = _resolved_target(shown)
    with _temporary_sibling(target, shown) as temporary:
        with _opened_new(temporary, mode) as file:
            yield file
        os.replace(temporary, target)


def atomic_write_folder(path: str | Path, files: Mapping[str, Callable[[], bytes]]) -> list[Path]:
    """Write the files of a folder, all of them or none.

    Every file is made before the first one takes its name. A new folder appears in one step; in a folder that exists,
    the files are replaced one by one and other files stay.

    Args:
        path: the folder; its parent must exist.
        files: the name of each file, and a function that makes its contents when its turn comes.

    Returns:
        The files' paths, in the order of ``files``.

    Raises:
        ImageError: as `atomic_write`; nothing was written then.
    """
    folder = Path(path)
    for name in files:
        if not name or name in {".", ".."} or any(mark in name for mark in ("/", "\\", "\0")):
            raise ImageError(f"{folder}: expected plain file names, found {name!r}")
    target = _resolved(folder)
    _check_parent(target, folder)
    if target.exists() and not target.is_dir():
        raise ImageError(f"{folder}: expected a folder, found a file of this name")
    with _temporary_sibling(target, folder) as temporary:
        os.mkdir(temporary)
        if target.is_dir():
            replaced = {name: _resolved_target(folder / name) for name in files}
            for name, contents in files.items():
                _write_flushed(temporary / name, contents(), replaced[name][1])
            for name, (old, _) in replaced.items():
                os.replace(temporary / name, old)
        else:
            for name, contents in files.items():
                _write_flushed(temporary / name, contents(), None)
            os.rename(temporary, target)
    return [folder / name for name in files]


def _write_flushed(path: Path, data: bytes | bytearray | memoryview, mode: int | None) -> None:
    with _opened_new(path, mode) as file:
        file.write(data)


@contextmanager
def _opened_new(path: Path, mode: int | None) -> Iterator[BinaryIO]:
    """A new file, which is on the disk after the body."""
    # O_CREAT gives a new file the permissions that the user's umask asks for, which mkstemp would not
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with open(handle, "wb") as file:
        if mode is not None:
            os.chmod(path, mode)
        yield file
        file.flush()
        os.fsync(file.fileno())


def _resolved(shown: Path) -> Path:
    if "\0" in str(shown):
        raise ImageError(f"{str(shown)!r}: expected a path, found a null character in it")
    return Path(os.path.realpath(shown))


def _resolved_target(shown: Path) -> tuple[Path, int | None]:
    """The file behind links, and its permissions where it exists."""
    target = _resolved(shown)
    _check_parent(target, shown)
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return target, None
    except OSError as error:
        raise ImageError(f"{shown}: cannot be written: {_reason(error)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{shown}: expected a file to write, found a folder of this name")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{shown}: expected a file to write, found a device or a pipe")
    if not os.access(target, os.W_OK):
        raise ImageError(f"{shown}: cannot be written: the file is read-only")
    return target, stat.S_IMODE(found.st_mode)


def _check_parent(target: Path, shown: Path) -> None:
    parent = target.parent
    if not os.path.exists(parent):
        raise ImageError(f"{shown}: cannot be written: the folder {shown.parent} does not exist")
    if not os.path.isdir(parent):
        raise ImageError(f"{shown}: cannot be written: {shown.parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ImageError(f"{shown}: cannot be written: no permission in the folder {shown.parent}")


@contextmanager
def _temporary_sibling(target: Path, shown: Path) -> Iterator[Path]:
    """A free name beside the target; whatever is left there afterwards is removed, however the body ends."""
    # short, so that it fits wherever the target's own name fits
    temporary = target.parent / f".{secrets.token_hex(4)}.tmp"
    try:
        yield temporary
    except OSError as error:
        raise ImageError(f"{shown}: cannot be written: {_reason(error)}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
