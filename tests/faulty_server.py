"""A web server on loopback that stops, breaks off, forgets ranges or changes its mind, as a test asks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Resource:
    """One file.

    Attributes:
        data: its bytes.
        etag: of the answer; empty is none.
        ranges: whether it is sent in parts when asked to.
        pause_at: bytes of the file after which an answer with the whole of it waits for `go`; None is never.
        break_at: bytes of the file after which the first answer breaks off; None is never.
        then: takes this one's place as soon as an answer broke off, or a first range was sent.
    """

    data: bytes
    etag: str = '"one"'
    ranges: bool = True
    pause_at: int | None = None
    break_at: int | None = None
    then: Resource | None = None
    go: threading.Event = field(default_factory=threading.Event)


class FaultyServer(ThreadingHTTPServer):
    """Serves ``files``.

    Attributes:
        files: by path.
        asked: path and Range header of every request so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Resource] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges(self, path: str) -> list[tuple[int, int]]:
        """The ranges that were asked for, first and last byte; -1 for the end."""
        texts = [text.removeprefix("bytes=") for where, text in self.asked if where == path and text]
        return [(int(first), int(last or -1)) for first, _, last in (text.partition("-") for text in texts)]


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, wanted = self.path.partition("?")[0], self.headers.get("Range")
        self.server.asked.append((path, wanted))
        found = self.server.files.get(path)
        if found is None:
            self.send_error(404)
            return
        start, end = 0, len(found.data)
        partial = bool(wanted) and found.ranges and self.headers.get("If-Range", found.etag) == found.etag
        if partial:
            first, _, last = str(wanted).removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1 if last else end)
            if start >= len(found.data):
                self.send_error(416)
                return
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(found.data)}")
        kinds = {"html": "text/html", "js": "text/javascript"}
        self.send_header("Content-Type", kinds.get(path.rpartition(".")[2], "application/octet-stream"))
        self.send_header("Content-Length", str(end - start))
        self.send_header("Cache-Control", "no-store")
        if found.etag:
            self.send_header("ETag", found.etag)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have seen enough
            self._send(path, found, start, end, partial)

    def _send(self, path: str, found: Resource, start: int, end: int, partial: bool) -> None:
        if found.break_at is not None and start < found.break_at < end:
            self.wfile.write(found.data[start : found.break_at])
            self.wfile.flush()
            time.sleep(0.3)  # a browser forgets what it has not read yet when the connection breaks
            self.close_connection = True
            self._replace(path, found)
            found.break_at = None
            return
        if found.pause_at is not None and not partial:
            self.wfile.write(found.data[: found.pause_at])
            self.wfile.flush()
            found.go.wait(30)
            start = found.pause_at
        self.wfile.write(found.data[start:end])
        if partial:
            self._replace(path, found)

    def _replace(self, path: str, found: Resource) -> None:
        if found.then is not None:
            self.server.files[path] = found.then

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """A server that runs while it is needed."""
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            for resource in server.files.values():
                resource.go.set()
            server.shutdown()
            thread.join()
