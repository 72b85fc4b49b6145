"""The server of the lod application: clients that mean harm or are slow, and files that change while they are sent."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from imagegs.apps.lod import folder as folder_module
from imagegs.apps.lod.server import HEAD_BYTES, PatientProtocol, make_app
from lod_reading import (
    DATA,
    LOOPBACK,
    OLD,
    VIEWER,
    ask,
    fill,
    running,
    say,
    until,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def port(served: Path) -> Iterator[int]:
    with running(make_app(served, viewer=VIEWER)) as found:
        yield found


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (HEAD_BYTES + 1),
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (1 << 24) + b"\r\n\r\n",
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * (1 << 17) + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(200),
        b"nothing of the kind\r\n\r\n",
    ],
    ids=["half a header", "a long header", "a long path", "many headers", "no host", "bytes", "TLS", "no HTTP"],
)
def test_a_bad_head_is_refused(port: int, data: bytes) -> None:
    assert re.match(rb"(HTTP/1.1 400 |$)", say(port, data))  # nothing if the client still sends when it is cut off
    assert ask(port, "/photo.gsimg", "HEAD").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * HEAD_BYTES,
        b"GET /?" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX: a" * (HEAD_BYTES // 2),
    ],
    ids=["a header", "a query", "many headers"],
)
def test_a_long_head_that_comes_at_once_is_refused(port: int, head: bytes) -> None:
    assert re.match(rb"HTTP/1.1 4(31|00) ", say(port, head + b"\r\n\r\n"))
    assert ask(port, "/photo.gsimg", "HEAD").status == 200


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "head_seconds", 0.3)
    monkeypatch.setattr(PatientProtocol, "stall_seconds", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("head", [b"", b"GET /photo.gsimg HTTP/1.1\r\nHost: "], ids=["nothing", "half a head"])
def test_who_sends_no_head_is_cut_off(served: Path, head: bytes) -> None:
    with running(make_app(served)) as port:
        assert say(port, head) == b""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("first", [b"", b"GET /empty.gsimg HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["first", "second"])
def test_a_head_in_drips_is_cut_off(served: Path, first: bytes) -> None:
    def drip(connection: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            return connection.recv(1 << 16) == b""
        connection.send(b"X: a\r\n")
        return False

    with running(make_app(served)) as port, socket.create_connection((LOOPBACK, port)) as connection:
        connection.sendall(first + b"GET / HTTP/1.1\r\n")
        connection.setblocking(False)
        try:
            assert until(lambda: drip(connection))
        except ConnectionError:
            pass
        assert ask(port, "/photo.gsimg", "HEAD").status == 200


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Larger than what the buffers of a connection take."""
    path = tmp_path / "large.gsimg"
    path.write_bytes(DATA * 80)
    os.utime(path, (OLD, OLD))
    return path


def handles_of(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}") == str(path.resolve())
    return found


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
REQUEST = b"GET /large.gsimg HTTP/1.1\r\nHost: a\r\n\r\n"


@linux
@pytest.mark.usefixtures("impatient")
def test_who_does_not_read_is_cut_off(large: Path) -> None:
    with running(make_app(large.parent)) as port, socket.create_connection((LOOPBACK, port)) as connection:
        connection.sendall(REQUEST)
        assert until(lambda: handles_of(large) == 1)
        assert until(lambda: handles_of(large) == 0)


@linux
def test_who_leaves_is_not_sent_the_rest(large: Path) -> None:
    with running(make_app(large.parent)) as port:
        with socket.create_connection((LOOPBACK, port)) as connection:
            connection.sendall(REQUEST)
            assert connection.recv(10) == b"HTTP/1.1 2"
            assert until(lambda: handles_of(large) == 1)
        assert until(lambda: handles_of(large) == 0)


def test_slow_clients_do_not_hold_up_others(large: Path) -> None:
    with running(make_app(large.parent)) as port, contextlib.ExitStack() as stack:
        for _ in range(60):  # more than there are threads
            connection = stack.enter_context(socket.create_connection((LOOPBACK, port)))
            connection.sendall(REQUEST)
        for start in range(0, 50_000, 1000):
            found = ask(port, "/large.gsimg", headers={"Range": f"bytes={start}-{start + 999}"})
            assert found.body == DATA[start : start + 1000]


def test_more_connections_than_allowed_get_503(served: Path) -> None:
    with running(make_app(served), connections=3) as port, contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((LOOPBACK, port))) for _ in range(2)]
        assert until(lambda: ask(port, "/photo.gsimg", "HEAD").status == 503)
        for connection in held:
            connection.close()
        assert until(lambda: ask(port, "/photo.gsimg", "HEAD").status == 200)


def test_requests_sent_ahead_are_answered_in_order(port: int) -> None:
    asked = b"".join(b"GET /photo.gsimg HTTP/1.1\r\nHost: a\r\nRange: bytes=%d-%d\r\n\r\n" % (k, k) for k in range(20))
    last = b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    found = say(port, asked + last)
    assert re.findall(rb"content-range: bytes (\d+)-", found) == [b"%d" % k for k in range(20)]
    assert b"HTTP/1.1 404" in found


def begin(port: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    connection.request("GET", "/large.gsimg")
    return connection, connection.getresponse()


def test_a_file_that_is_replaced_is_sent_to_its_end(large: Path) -> None:
    old, new = large.read_bytes(), bytes(len(DATA * 80))
    with running(make_app(large.parent)) as port:
        connection, response = begin(port)
        start = response.read(1000)
        replacement = large.with_name(".new")
        replacement.write_bytes(new)
        os.utime(replacement, (OLD, OLD))
        os.replace(replacement, large)
        assert start + response.read() == old
        connection.close()
        resumed = ask(port, "/large.gsimg", headers={"Range": "bytes=1000-", "If-Range": response.headers["etag"]})
        assert (resumed.status, resumed.body) == (200, new)  # not the rest of another file
        assert ask(port, "/large.gsimg", headers={"If-Match": response.headers["etag"]}).status == 412


@pytest.mark.parametrize("change", ["over", "shorter", "longer"])
def test_a_file_that_is_written_over_is_never_mixed(large: Path, change: str) -> None:
    old = large.read_bytes()
    with running(make_app(large.parent)) as port:
        connection, response = begin(port)
        found = response.read(1000)
        if change == "over":
            with large.open("r+b") as file:
                file.write(bytes(len(old)))
        elif change == "shorter":
            os.truncate(large, len(old) // 2)
        else:
            with large.open("ab") as file:
                file.write(b"more")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as raised:
            response.read()
        if isinstance(raised.value, http.client.IncompleteRead):
            found += raised.value.partial
        connection.close()
        assert found == old[: len(found)]
        assert ask(port, "/large.gsimg").body == large.read_bytes()


def test_a_file_being_written_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.gsimg"
    path.write_bytes(b"old")
    os.utime(path, (OLD, OLD))
    read = folder_module.OpenFile.read

    def write_first(self: folder_module.OpenFile, start: int, length: int) -> bytes:
        path.write_bytes(b"new")
        return read(self, start, length)

    monkeypatch.setattr(folder_module.OpenFile, "read", write_first)
    with running(make_app(tmp_path)) as port:
        found = ask(port, "/photo.gsimg")
    assert (found.status, found.headers["retry-after"]) == (503, "1")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "photo.gsimg"
    path.write_bytes(b"x")
    with running(make_app(tmp_path)) as port:
        assert ask(port, "/photo.gsimg").status == 200
        path.unlink()
        assert ask(port, "/photo.gsimg").status == 404


@pytest.mark.parametrize("seconds", [-(10**9), 2**31, 2**39])
def test_dates_of_any_kind(tmp_path: Path, seconds: int) -> None:
    path = tmp_path / "photo.gsimg"
    path.write_bytes(b"x")
    try:
        os.utime(path, (seconds, seconds))
    except OSError:
        pytest.skip("the file system has no such dates")
    with running(make_app(tmp_path)) as port:
        found = ask(port, "/photo.gsimg", headers={"Range": "bytes=0-"})
        assert (found.status, found.body) == (206, b"x")
        again = {"If-Modified-Since": found.headers["last-modified"]}
        assert ask(port, "/photo.gsimg", headers=again).status == 304
        assert ask(port, "/").status == 200


def test_without_a_free_handle_it_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.gsimg").write_bytes(b"x")

    def none_left(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with running(make_app(tmp_path)) as port:
        with monkeypatch.context() as patched:
            patched.setattr(folder_module.os, "open", none_left)
            assert ask(port, "/photo.gsimg").status == 503
        assert ask(port, "/photo.gsimg").status == 200
