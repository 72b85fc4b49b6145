"""What the tests of servers share: requests, multipart bodies taken apart, and a region of a file read by ranges."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import imagegs
from imagegs.codec.blocks import footprint
from imagegs.codec.format import START_BYTES
from imagegs.codec.stream import Decoder, needed_chunks

LOOPBACK = "127.0.0.1"
SIZE = 300_000
DATA = np.random.default_rng(1).bytes(SIZE)
SECRET = b"not to be seen by anyone"
VIEWER = {"index.html": b"<!DOCTYPE html><title>viewer</title>", "draw.js": b"export {};"}
OLD = 1_700_000_000


@dataclass(frozen=True)
class Answer:
    """Of a server; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Part:
    """Of a multipart body: the bytes from ``start`` on, of ``total``."""

    start: int
    total: int
    media_type: str
    data: bytes


def ask(port: int, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    """One request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=20)) as connection:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def say(port: int, data: bytes, seconds: float = 20) -> bytes:
    """What a server answers to any bytes, until it closes the connection."""
    with socket.create_connection((LOOPBACK, port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                found += piece
        return found


def parts_of(answer: Answer) -> list[Part]:
    """A ``multipart/byteranges`` body taken apart by what each part says of its length (RFC 9110, section 14.6)."""
    boundary = re.fullmatch(r"multipart/byteranges; *boundary=([0-9A-Za-z]+)", answer.headers["content-type"])
    assert boundary is not None
    mark = b"--" + boundary[1].encode()
    rest, found = answer.body.removeprefix(b"\r\n"), []
    while not rest.startswith(mark + b"--"):
        assert rest.startswith(mark + b"\r\n")
        head, _, rest = rest[len(mark) + 2 :].partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n"))
        where = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", fields["content-range"])
        assert where is not None
        start, last, total = map(int, where.groups())
        found.append(Part(start, total, fields["content-type"], rest[: last + 1 - start]))
        rest = rest[last + 1 - start :]
        assert rest.startswith(b"\r\n")
        rest = rest[2:]
    return found


def fill(outside: Path) -> Path:
    """Makes a folder to serve inside of one that is not: with files to be found and ones that must not be."""
    (outside / "secret.gsimg").write_bytes(SECRET)
    folder = outside / "served"
    (folder / "sub" / "deep er").mkdir(parents=True)
    (folder / "photo.gsimg").write_bytes(DATA)
    (folder / "empty.gsimg").write_bytes(b"")
    (folder / "sub" / "leaf, a.gsimg").write_bytes(b"leaf")
    (folder / "sub" / "picture.png").write_bytes(b"png")
    (folder / "info.json").write_bytes(b"{}")
    (folder / ".hidden.gsimg").write_bytes(SECRET)
    (folder / ".git").mkdir()
    (folder / ".git" / "config.gsimg").write_bytes(SECRET)
    os.utime(folder / "photo.gsimg", (OLD, OLD))
    if os.name == "posix":
        (folder / "out.gsimg").symlink_to(outside / "secret.gsimg")
        (folder / "up").symlink_to(outside)
        (folder / "unhidden.gsimg").symlink_to(folder / ".hidden.gsimg")
        (folder / "inner.gsimg").symlink_to(folder / "photo.gsimg")
        (folder / "around.gsimg").symlink_to("around.gsimg")
        os.mkfifo(folder / "pipe.gsimg")
    return folder


@contextlib.contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:
    """An application of the lod server on a free port, in a thread; ends when its connections do."""
    from imagegs.apps.lod.server import listen, make_server

    server = make_server(app, **options)
    with listen(LOOPBACK, 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def until(true: Any, seconds: float = 20) -> bool:
    """Whether something becomes true soon enough."""
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(found)


def layered_file() -> bytes:
    """A small picture in three levels and blocks of 64 pixels."""
    y, x = np.mgrid[0:192, 0:256] / 256
    pixels = np.stack([0.5 + 0.5 * np.sin(9 * x), 0.5 + 0.5 * np.cos(7 * y), np.hypot(x - 0.5, y - 0.4) < 0.2])
    coded = imagegs.encode(
        pixels.astype(np.float32), gaussians=400, levels=3, block_shift=6, effort=1, steps=40, threads=1
    )
    return coded.data


def read_region(
    port: int, path: str, region: tuple[float, float, float, float], *, multipart: bool
) -> tuple[np.ndarray[Any, Any], int]:
    """Draws a region of a served file with no more of its bytes than that takes.

    Args:
        port: of the server.
        path: of the file.
        region: x, y, width, height.
        multipart: ask for all chunks at once, not for one after another.

    Returns:
        The pixels, and how many bytes of the file were sent.
    """
    decoder = Decoder()
    etag = ""

    def fetch(ranges: list[tuple[int, int]]) -> dict[int, bytes]:
        nonlocal etag
        text = "bytes=" + ",".join(f"{start}-{stop - 1}" for start, stop in ranges)
        answer = ask(port, path, headers={"Range": text} | ({"If-Range": etag} if etag else {}))
        assert answer.status == 206
        etag = answer.headers["etag"]
        if len(ranges) == 1:
            return {ranges[0][0]: answer.body}
        return {part.start: part.data for part in parts_of(answer)}

    decoder.feed(fetch([(0, START_BYTES)])[0])
    while decoder.head is None:
        decoder.feed(fetch([(decoder.received, decoder.received + decoder.needed)])[decoder.received])
    _, _, width, height = region
    margin = footprint(1.0)
    needed = needed_chunks(decoder.head, region=region, margin=margin)
    decoder.select(needed)
    ranges = [(chunk.offset, chunk.end) for k, chunk in enumerate(decoder.head.chunks) if k in needed and chunk.length]
    chunks: dict[int, bytes] = {}
    for group in [ranges] if multipart else [[part] for part in ranges]:
        chunks |= fetch(group)
    sent = decoder.received + sum(map(len, chunks.values()))
    while not decoder.complete:
        if decoder.passable:
            decoder.skip()
        else:
            decoder.feed(chunks[decoder.received])
    gaussians = decoder.gaussians()
    return np.clip(imagegs.render(gaussians, int(height), int(width), region=region), 0, 1), sent
