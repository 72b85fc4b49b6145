"""Batches whose pictures or files lie elsewhere: URLs behave as paths do, and what goes wrong there is one line."""

from __future__ import annotations

import errno
import json
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from loopback import serving
from PIL import Image
from typer.testing import CliRunner

from imagegs import encode, read_image
from imagegs.batching import BatchJob, Manifest, Record, find_jobs, places, records, run_batch
from imagegs.batching.making import EncodeTask, encode_one
from imagegs.batching.places import Url, place_of
from imagegs.cli import app
from imagegs.errors import ConfigError, DeviceError, ImageError
from imagegs.kernels import native

fsspec = pytest.importorskip("fsspec")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

needs_kernels = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

QUICK = {"gaussians": 20, "steps": 5}


class Faulty(MemoryFileSystem):
    """Moves files as a disk does; writing fails after half of the bytes once there is an error to raise."""

    protocol = "faulty"
    store: dict[str, object] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    error: Exception | None = None
    names: tuple[str, ...] = ()
    replaces = True

    def mv(self, path1, path2, **kwargs):
        if not self.replaces and self.exists(path2):
            raise FileExistsError(errno.EEXIST, "File exists")
        super().mv(path1, path2, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value if self.error is None else value[: len(value) // 2], mode=mode)
        if self.error is not None:
            raise self.error

    def info(self, path, **kwargs):
        if self.error is not None:
            raise self.error
        return super().info(path, **kwargs)

    def find(self, path, **kwargs):
        return {name: {"size": 1} for name in self.names} or super().find(path, **kwargs)


@pytest.fixture
def memory():
    """An empty folder in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield Url("memory://pictures")
    system.store.clear()


@pytest.fixture
def faulty(monkeypatch):
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.store.clear()
    monkeypatch.setattr(Faulty, "error", None)
    monkeypatch.setattr(Faulty, "names", ())
    monkeypatch.setattr(Faulty, "replaces", True)
    return Faulty


def draw(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((24, 16)).point(lambda value: (value + 40 * shade) % 256).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("s3://bucket/a/b.png", "b.png", "s3://bucket/a/b.png"),
        ("https://host/a/b%20c.png?size=2", "b c.png", "https://host/a/b%20c.png?size=2"),
        ("ftp://me:secret@host/b.png", "b.png", "ftp://host/b.png"),
        ("zip://a/b.png::s3://bucket/all.zip", "b.png", "zip://a/b.png::s3://bucket/all.zip"),
    ],
)
def test_urls_are_told_from_paths_and_have_names(text, name, shown):
    url = place_of(text)
    assert isinstance(url, Url)
    assert (url.name, str(url), url.suffix) == (name, shown, ".png")
    assert (url.parent / "x" / "y.png").relative_to(url.parent) == PurePosixPath("x/y.png")
    assert place_of("C:/a.png") == Path("C:/a.png")
    assert place_of("a/b.png") == Path("a/b.png")


def test_a_file_elsewhere_is_written_found_read_and_removed(memory):
    file = memory / "deep" / "a.bin"
    assert places.read_if_there(file) is None
    assert places.files_below(memory) == {}
    places.write(file, b"one")
    places.write(file, b"three")
    assert places.read(file) == places.read_if_there(file) == b"three"
    assert places.files_below(memory) == {PurePosixPath("deep/a.bin"): 5}
    assert [found.name for found in places.matches(memory / "**" / "*.bin")] == ["a.bin"]
    assert places.is_folder(memory)
    assert not places.is_folder(file)
    places.remove(file)
    places.remove(file)
    assert places.files_below(memory) == {}
    assert places.digest_of(file) == ""


def test_jobs_of_urls(memory):
    for name in ("b.png", "a.jpg", "deep/a.png", ".hidden/c.png", "notes.md"):
        places.write(memory / name, b"not looked at")
    places.write(memory / "some.txt", b"b.png\n\nhttps://host/c.png?x=1\n")
    found = find_jobs([str(memory)], "out")
    assert [job.output for job in found] == [Path("out/a.gsimg"), Path("out/b.gsimg"), Path("out/deep/a.gsimg")]
    listed = find_jobs([memory / "some.txt"], "memory://out")
    assert [str(job.source) for job in listed] == ["memory://pictures/b.png", "https://host/c.png?x=1"]
    assert [str(job.output) for job in listed] == ["memory://out/b.gsimg", "memory://out/c.gsimg"]
    matched = find_jobs(["memory://pictures/*.png"], Path("out"))
    assert [job.source.name for job in matched] == ["b.png"]
    assert places.read(matched[0].source) == b"not looked at"
    assert len(find_jobs([memory / "b.png"], "out")) == 1


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("memory://nothing/a.png", ImageError, "cannot be read: no such file or folder"),
        ("memory://pictures", ConfigError, "memory://pictures: expected pictures, found none"),
        ("memory://pictures/*.png", ConfigError, "expected pictures, found none"),
        ("http://127.0.0.1:9/a.png", ImageError, "cannot be read: .*127.0.0.1:9"),
        ("http://127.0.0.1:9/list.txt", ImageError, "cannot be read: .*127.0.0.1:9"),
        ("nowhere://a/b.png", ConfigError, "expected a URL that fsspec knows, found another: Protocol not known"),
        ("absent://a/b.png", DeviceError, "expected the package of its protocol, found none: install absentfs"),
        ("zip://a.png::file:///none.zip", ImageError, "no such file"),
    ],
)
def test_sources_elsewhere_that_cannot_be_are_one_line(memory, source, error, message):
    pytest.importorskip("aiohttp")
    fsspec.register_implementation("absent", "no_such_module.System", clobber=True, errtxt="install absentfs")
    places.write(memory / "notes.md", b"no picture")
    with pytest.raises(error, match=message) as caught:
        find_jobs([source], "out")
    assert "\n" not in str(caught.value)


def test_jobs_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.png", "deep/b.png", "deep/notes.md"):
            archive.writestr(name, name)
    for source, outputs in (
        ("zip://", ["a.gsimg", "deep/b.gsimg"]),
        ("zip://deep", ["b.gsimg"]),
        ("zip://deep/*.png", ["b.gsimg"]),
        ("zip://deep/b.png", ["b.gsimg"]),
    ):
        found = find_jobs([f"{source}::file://{tmp_path}/all.zip"], "out")
        assert [job.output.relative_to("out").as_posix() for job in found] == outputs
        assert places.read(found[-1].source) == b"deep/b.png"


def test_two_urls_of_one_output_are_one_line(memory):
    places.write(memory / "a.png", b"")
    places.write(memory / "deep/a.png", b"")
    with pytest.raises(
        ConfigError, match=r"out/a.gsimg: expected one picture for it, found memory://pictures/a.png and"
    ):
        find_jobs([memory / "a.png", memory / "deep/a.png"], "out")


def test_an_output_never_replaces_a_picture(tmp_path, memory):
    draw(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"a.png: expected an output beside the pictures"):
        find_jobs([tmp_path], tmp_path, [".png"])
    places.write(memory / "a.png", b"")
    with pytest.raises(ConfigError, match=r"memory://pictures/a.png: expected an output beside"):
        find_jobs([memory], memory, [".gsimg", ".png"])
    assert len(find_jobs([tmp_path], tmp_path)) == 1


def test_without_fsspec_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DeviceError, match=r"s3://bucket/a.png: URLs need .* pip install 'imagegs\[batch\]'"):
        find_jobs(["s3://bucket/a.png"], "out")


def test_names_that_lead_out_of_a_folder_are_refused(faulty):
    faulty.names = ("/pictures/a.png", "/pictures/../../a.png")
    with pytest.raises(ConfigError, match="expected names below it"):
        places.files_below(Url("faulty://pictures"))


def test_a_full_disk_elsewhere_leaves_what_was_there(faulty):
    file = Url("faulty://out/a.gsimg")
    places.write(file, b"before")
    faulty.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ImageError, match=r"faulty://out/a.gsimg: cannot be written: no space left on device"):
        places.write(file, b"afterwards")
    faulty.error = None
    assert places.read(file) == b"before"
    assert list(places.files_below(Url("faulty://out"))) == [PurePosixPath("a.gsimg")]  # and no half of a file


def test_a_file_is_replaced_where_names_cannot_be_taken_over(faulty):
    faulty.replaces = False
    file = Url("faulty://out/a.gsimg")
    places.write(file, b"before")
    places.write(file, b"afterwards")
    assert places.read(file) == b"afterwards"
    assert list(places.files_below(Url("faulty://out"))) == [PurePosixPath("a.gsimg")]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("Access Denied"), "cannot be written: access denied|cannot be written: Access Denied"),
        (RuntimeError("no answer from ftp://me:secret@host/a"), "cannot be written: no answer from ftp://host/a$"),
        (RuntimeError("Unable to locate\n credentials"), "cannot be written: Unable to locate credentials"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "cannot be written: connection refused"),
    ],
)
def test_a_target_elsewhere_that_cannot_be_written_is_said_before_the_work(tmp_path, faulty, error, message):
    job = BatchJob(draw(tmp_path / "a.png"), Url("faulty://out/a.gsimg"))
    faulty.error = error
    with pytest.raises(ImageError, match=f"faulty://out/manifest.jsonl: {message}") as caught:
        run_batch([job], "faulty://out", QUICK)
    assert "\n" not in str(caught.value)


def test_an_archive_is_no_target(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("x", "")
    job = BatchJob(draw(tmp_path / "a.png"), Url("zip://a.gsimg"))
    with pytest.raises(ImageError, match=r"zip://manifest.jsonl.*: cannot be written") as caught:
        run_batch([job], f"zip://::file://{tmp_path}/all.zip", QUICK)
    assert "\n" not in str(caught.value)


def test_a_manifest_elsewhere_is_sent_now_and_then_and_at_the_end(memory, monkeypatch):
    sent = []
    write = places.write

    def counted(place, data):
        if place.name == records.NAME:
            sent.append(data.count(b"\n"))
        write(place, data)

    monkeypatch.setattr(places, "write", counted)
    with Manifest(memory, "k") as manifest:
        manifest.add(Record("a", "a.gsimg", "k", size=3))
        assert sent == [0]
        manifest._send_at = 0
        manifest.add(Record("b", "b.gsimg", "k", size=3))
        manifest.add(Record("c", "c.gsimg", "k", size=3))
        assert sent == [0, 2]
    assert sent == [0, 2, 3]
    places.write(memory / "a.gsimg", b"one")
    with Manifest(memory, "k") as again:
        assert len(again.records) == 3
        assert again.done("a.gsimg").source == "a"
        assert again.done("b.gsimg") is None  # there is no such file
    with pytest.raises(ConfigError, match=r"memory://pictures/manifest.jsonl: expected records of these settings"):
        Manifest(memory, "other")


def test_a_manifest_that_cannot_be_sent_once_is_sent_later(faulty):
    with Manifest(Url("faulty://out"), "k") as manifest:
        faulty.error = TimeoutError("slow")
        manifest._send_at = 0
        manifest.add(Record("a", "a.gsimg", "k"))
        assert manifest._send_at > 0
        faulty.error = None
    assert places.read(Url("faulty://out") / records.NAME).count(b"\n") == 1


@needs_kernels
def test_work_reads_and_writes_elsewhere(tmp_path, memory):
    picture = draw(tmp_path / "a.png")
    places.write(memory / "a.png", picture.read_bytes())
    record = encode_one(EncodeTask(BatchJob(memory / "a.png", memory / "x" / "a.gsimg"), "x/a.gsimg", QUICK, "k"))
    data = places.read(memory / "x" / "a.gsimg")
    assert data == encode(picture, **QUICK).data
    assert (record.source, record.size, record.width) == ("memory://pictures/a.png", len(data), 24)
    assert record.digest == places.digest_of(picture) == places.digest_of(memory / "a.png")


def test_a_picture_is_read_from_its_bytes(tmp_path):
    picture = draw(tmp_path / "a.png")
    found = read_image("https://host/a.png", data=picture.read_bytes())
    assert (found.pixels == read_image(picture).pixels).all()
    assert found.source == "https://host/a.png"
    with pytest.raises(ImageError, match=r"https://host/a.png: expected a picture, found an empty file"):
        read_image("https://host/a.png", data=b"")


@needs_kernels
def test_a_batch_of_urls_into_a_url_goes_on(tmp_path):
    pytest.importorskip("pebble")
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "in" / "deep" / "b.png", 1)
    target = Url(f"file://{tmp_path}/out")

    def again(**more) -> tuple[int, int]:
        summary = run_batch(find_jobs([f"file://{tmp_path}/in"], target), target, QUICK, workers=1, **more)
        assert not summary.failed
        return len(summary.done), summary.skipped

    assert again() == (2, 0)
    assert again() == (0, 2)
    file = tmp_path / "out" / "deep" / "b.gsimg"
    assert file.read_bytes() == encode(tmp_path / "in" / "deep" / "b.png", **QUICK).data
    manifest = tmp_path / "out" / "manifest.jsonl"
    first, second = manifest.read_text().splitlines()
    assert json.loads(second)["source"] == f"file://{tmp_path}/in/deep/b.png"
    manifest.write_text(first + "\n")  # what a process that was killed leaves
    (tmp_path / "out" / "a.gsimg").unlink()
    draw(tmp_path / "in" / "c.png", 2)
    assert again() == (3, 0)
    assert again(overwrite=True) == (3, 0)
    assert not list(tmp_path.rglob("*.tmp"))


@needs_kernels
def test_the_command_takes_pictures_of_the_web_and_of_archives(tmp_path, monkeypatch):
    pytest.importorskip("pebble")
    pytest.importorskip("aiohttp")
    monkeypatch.chdir(tmp_path)
    names = [draw(tmp_path / f"{name}.png", shade).name for shade, name in enumerate("ab")]
    with zipfile.ZipFile("all.zip", "w") as archive:
        archive.write("b.png", "deep/c.png")
    with serving() as server:
        server.contents = {f"/{name}": Path(name).read_bytes() for name in names}
        Path("list.txt").write_text(f"{server.url}/b.png\n{server.url}/gone.png\n")
        sources = [f"{server.url}/a.png", "list.txt", "zip://::all.zip"]
        options = ["-n", "20", "--steps", "5", "--retries", "0", "--workers", "1", "--json"]
        done = CliRunner().invoke(app, ["batch", *sources, "out", *options])
    assert done.exit_code == 1, (done.output, done.exception)
    assert json.loads(done.stdout)["encoded"] == 3
    assert done.stderr.strip() == f"imagegs: {server.url}/gone.png: cannot be read: no such file or folder"
    for name, made in (("a.png", "a.gsimg"), ("b.png", "b.gsimg"), ("b.png", "deep/c.gsimg")):
        assert (tmp_path / "out" / made).read_bytes() == encode(tmp_path / name, **QUICK).data
