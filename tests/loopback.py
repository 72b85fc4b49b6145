"""A small web server on loopback whose faults a test chooses."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback(ThreadingHTTPServer):
    """Serves ``contents``; what is wrong with it is set by its attributes.

    Attributes:
        contents: bytes by path.
        headers: more headers by path.
        ranges: whether it can go on in the middle of a file.
        cut: bytes of a body after which the connection breaks; None is never.
        status: answered in place of every file; None is the files.
        requests: method, path and Range header of every request so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.ranges = True
        self.cut: int | None = None
        self.status: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        server, wanted = self.server, self.headers.get("Range")
        path = self.path.partition("?")[0]
        server.requests.append((self.command, self.path, wanted))
        if server.status is not None or path not in server.contents:
            self.send_error(server.status or 404)
            return
        data, start = server.contents[path], 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for name, value in server.headers.get(path, {"Content-Type": "application/octet-stream"}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            with contextlib.suppress(ConnectionError):  # the client may have seen enough
                self.wfile.write(data[start:] if server.cut is None else data[start : start + server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Loopback]:
    with Loopback() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
