import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from imagegs import files
from imagegs.errors import ImageError
from imagegs.files import atomic_write, atomic_write_folder, check_target

windows = sys.platform == "win32"
as_root = not windows and os.geteuid() == 0


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_new_file_has_its_contents_and_the_permissions_of_the_umask(tmp_path):
    target = tmp_path / "out.bin"
    old = os.umask(0o027)
    try:
        atomic_write(target, b"abc")
    finally:
        os.umask(old)
    assert target.read_bytes() == b"abc"
    assert names(tmp_path) == {"out.bin"}
    if not windows:
        assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.skipif(windows, reason="POSIX permissions and links")
def test_a_replaced_file_keeps_its_permissions_and_its_link(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    target.chmod(0o604)
    link = tmp_path / "link"
    link.symlink_to(target)
    atomic_write(link, memoryview(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_a_missing_folder_is_named(tmp_path):
    target = tmp_path / "absent" / "out.bin"
    for write in (check_target, lambda path: atomic_write(path, b"")):
        with pytest.raises(ImageError, match=r"out\.bin: cannot be written: the folder .*absent does not exist$"):
            write(target)


def test_a_file_as_folder_and_a_folder_as_file_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="file is not a folder"):
        check_target(tmp_path / "file" / "out.bin")
    with pytest.raises(ImageError, match="found a folder of this name"):
        atomic_write(tmp_path, b"")
    with pytest.raises(ImageError, match="null character"):
        check_target("a\0b")
    with pytest.raises(ImageError, match=r"cannot be written: .*too long"):
        check_target(tmp_path / ("n" * 300))


@pytest.mark.skipif(windows, reason="POSIX devices")
def test_a_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="found a device or a pipe"):
        atomic_write(pipe, b"abc")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(windows or as_root, reason="needs a user whom permissions hold back")
def test_lacking_permission_is_one_line(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    target.chmod(0o444)
    with pytest.raises(ImageError, match="read-only"):
        atomic_write(target, b"new")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ImageError, match="no permission in the folder"):
            atomic_write(tmp_path / "other", b"new")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, existing):
    target = tmp_path / "out.bin"
    if existing:
        target.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ImageError, match=r"out\.bin: cannot be written: no space left on device$") as caught:
        atomic_write(target, b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == ({"out.bin"} if existing else set())
    assert not existing or target.read_bytes() == b"old"


def test_an_interruption_passes_through_and_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "out.bin", b"new")
    assert names(tmp_path) == set()


def test_a_folder_appears_whole(tmp_path):
    folder = tmp_path / "stack"
    seen = []

    def second() -> bytes:
        seen.append(folder.exists())
        return b"two"

    written = atomic_write_folder(folder, {"a": lambda: b"one", "b": second})
    assert seen == [False]
    assert written == [folder / "a", folder / "b"]
    assert [path.read_bytes() for path in written] == [b"one", b"two"]
    assert names(tmp_path) == {"stack"}


def test_a_folder_that_exists_keeps_its_other_files(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    (folder / "other").write_bytes(b"kept")
    atomic_write_folder(folder, {"a": lambda: b"new", "b": lambda: b"two"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"new", "b": b"two", "other": b"kept"}
    assert names(tmp_path) == {"stack"}


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_that_fails_changes_nothing(tmp_path, failure, existing):
    folder = tmp_path / "stack"
    if existing:
        folder.mkdir()
        (folder / "a").write_bytes(b"old")

    def fail() -> bytes:
        raise failure

    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else ImageError):
        atomic_write_folder(folder, {"a": lambda: b"new", "b": fail})
    assert names(tmp_path) == ({"stack"} if existing else set())
    assert not existing or (folder / "a").read_bytes() == b"old"
    assert not existing or names(folder) == {"a"}


def test_a_folder_refuses_names_that_lead_elsewhere(tmp_path):
    for name in ("../a", "a/b", "a\\b", "..", ".", "", "a\0"):
        with pytest.raises(ImageError, match="expected plain file names"):
            atomic_write_folder(tmp_path / "stack", {name: lambda: b""})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="expected a folder, found a file"):
        atomic_write_folder(tmp_path / "file", {"a": lambda: b""})
    assert names(tmp_path) == {"file"}
