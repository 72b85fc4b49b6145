"""Serves a folder of ``.gsimg`` files as a static web server does, parts of files included.

```
request ─ split_path, find ─ folder: listing ─ file: open once ─ preconditions ─ Range ─ whole, part or parts
```

Starlette routes and answers, uvicorn speaks HTTP/1.1. Files are not sent by Starlette's `FileResponse`, which (1.10)
opens a file anew after its ETag was made, refuses requests for malformed and for partly unsatisfiable ranges, and knows
no preconditions. The deadlines that uvicorn lacks are in `PatientProtocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

from imagegs import ConfigError, DeviceError
from imagegs.pages import fill_page

from .folder import (
    Changed,
    Entry,
    HeldBytes,
    Source,
    find,
    list_folder,
    media_type_of,
    open_file,
    quoted,
    shown,
    split_path,
)
from .ranges import failed_precondition, parse_range, part_head, range_counts

try:
    import uvicorn
    from anyio import to_thread
    from starlette.applications import Starlette
    from starlette.datastructures import Headers
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise DeviceError(
        "lod server: expected starlette and uvicorn, which are not installed; pip install 'imagegs[lod]'"
    ) from error

METHODS = ("GET", "HEAD", "OPTIONS")
VIEWER = "_viewer"
"""Where the viewer's files are; a folder of this name that is served as well is not seen."""
TEMPLATE = "index.html.j2"
EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag"
"""Headers that a page of another origin may read."""
ACCEPTED = "If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range"
"""Headers that it may send."""

PIECE = 1 << 16
"""Bytes in memory for each answer under way."""
CONNECTIONS = 400
"""Further ones get 503. Each takes up to two of a process's open files, of which 1,024 are usual."""
BACKLOG = 2048
HEAD_BYTES = 1 << 14
"""Of a request; a longer one gets 431, or 400 while it still comes."""
KEEP_ALIVE_SECONDS = 10


def serve(
    folder: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    viewer: Mapping[str, bytes] | None = None,
    cache_seconds: int = 0,
    cors: bool = True,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve a folder until the process is interrupted.

    Args:
        folder: what to serve, with its sub-folders.
        host: address or name to listen on.
        port: 0 takes a free one.
        viewer: as for `make_app`.
        cache_seconds: as for `make_app`.
        cors: as for `make_app`.
        on_start: called with the URL once connections are accepted.

    Raises:
        ConfigError: there is no such folder, or nothing can be listened on there.
    """
    server = make_server(make_app(folder, viewer=viewer, cache_seconds=cache_seconds, cors=cors))
    with listen(host, port) as listener:
        if on_start is not None:
            name = f"[{host}]" if ":" in host else host
            on_start(f"http://{name}:{listener.getsockname()[1]}/")
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def make_app(
    folder: str | Path,
    *,
    viewer: Mapping[str, bytes] | None = None,
    cache_seconds: int = 0,
    cors: bool = True,
) -> Starlette:
    """The ASGI application that serves a folder.

    Args:
        folder: what to serve, with its sub-folders; hidden files, and what links lead out to, are not served.
        viewer: name and contents of the files of the viewer's page, which get the path ``/_viewer/``; with them a
            listing links each ``.gsimg`` file to it.
        cache_seconds: how long a cache may use an answer without asking; 0 is not at all, so that a file that was
            replaced is seen at once.
        cors: let pages of every origin read what is served.

    Returns:
        The application; it holds no state but the ETags of files.

    Raises:
        ConfigError: there is no such folder, or the time is negative.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise ConfigError(f"{folder}: expected a folder to serve, found {'a file' if root.exists() else 'nothing'}")
    if cache_seconds < 0:
        raise ConfigError(f"cache_seconds: expected 0 or more, found {cache_seconds}")
    headers = {"X-Content-Type-Options": "nosniff"}
    if cors:
        headers |= {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": EXPOSED,
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
    caching = f"public, max-age={cache_seconds}" if cache_seconds else "no-cache"
    return Starlette(
        routes=[Route("/{path:path}", _Folder(root, viewer, f"{caching}, no-transform", cors), methods=METHODS)],
        middleware=[Middleware(_MoreHeaders, headers=headers)],
    )


def make_server(app: ASGIApp, *, connections: int = CONNECTIONS) -> uvicorn.Server:
    """A server, uvicorn's, with limits on what one client may take.

    Args:
        app: what it serves.
        connections: that are open at a time; further ones get 503.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections can be made to.

    Raises:
        ConfigError: the address is not this machine's, or in use.
    """
    try:
        if not 0 <= port < 1 << 16:
            raise OSError(None, "not a number from 0 to 65535")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # not socket.create_server, whose sockets say nothing of TCP: asyncio then leaves Nagle's algorithm on, and each
        # answer waits for the client's delayed acknowledgement of its head, 40 ms
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise ConfigError(f"{host}:{port}: expected an address that is free to listen on, found: {reason}") from error


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to its patience.

    By itself it waits without limit for the rest of a request's head, and for a client that does not read what it asked
    for; either would hold a connection as long as the client likes.
    """

    head_seconds = 15.0
    """From the connection, or from the end of the answer before, to the end of a request's head."""
    stall_seconds = 60.0
    """Without the client's reading anything of what waits for it."""

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base has it
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a request is under way."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        else:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        """Wait for the next head, unless it was sent ahead and is being answered."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait_for_head()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is sent to."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._stop_stalling()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing more to wait for."""
        self._stop_waiting()
        self._stop_stalling()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._no_head)

    def _no_head(self) -> None:
        if self.transport.get_write_buffer_size():  # of a complete answer, which is to be read first
            self._head_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)
        else:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stalling(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class _MoreHeaders:
    """Adds headers to every answer."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        await self._app(scope, receive, send_more)


class _Folder:
    """Answers GET, HEAD and OPTIONS for everything in a folder."""

    def __init__(self, root: Path, viewer: Mapping[str, bytes] | None, caching: str, cors: bool) -> None:
        began = time.time()
        self._root = root
        self._caching = caching
        self._options = {"allow": ", ".join(METHODS)}
        if cors:
            self._options |= {
                "access-control-allow-methods": ", ".join(METHODS),
                "access-control-allow-headers": ACCEPTED,
                "access-control-max-age": "86400",
            }
        self._viewer: dict[str, HeldBytes] | None = None
        if viewer is not None:
            self._viewer = {name: HeldBytes(data, media_type_of(name), began) for name, data in viewer.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # h11 looks at the length of heads that are not complete only, and up to 256 KiB come at once
        if sum(map(len, (scope["query_string"], *itertools.chain(*scope["headers"])))) > HEAD_BYTES:
            raise HTTPException(431, headers={"connection": "close"})
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=self._options)(scope, receive, send)
            return
        names = split_path(_raw_path(scope))
        if names is None:
            raise HTTPException(404)
        try:
            found = await to_thread.run_sync(self._look_up, names, scope["method"], Headers(scope=scope))
        except (Changed, OSError) as error:
            raise HTTPException(503, headers={"retry-after": "1"}) from error
        if isinstance(found, Path):
            response = await self._listing(scope, names, found)
            await response(scope, receive, send)
            return
        try:
            await found.send(receive, send)
        finally:
            found.source.close()

    def _look_up(self, names: Sequence[str], method: str, headers: Headers) -> _Answer | Path:
        """An answer about a file, or the folder that is asked for; reads what is to be sent first."""
        found = self._find(names)
        if isinstance(found, Path):
            return found
        try:
            return _answer_to(found, self._caching, method, headers)
        except BaseException:
            found.close()
            raise

    def _find(self, names: Sequence[str]) -> Source | Path:
        """The file that a path leads to, open; or the folder."""
        if self._viewer is not None and names[0] == VIEWER:
            found = self._viewer.get("/".join(names[1:]) or "index.html")
            if found is None:
                raise HTTPException(404)
            return found if names[1:] else self._root
        path = find(self._root, names)
        if path is not None and os.path.isdir(path):  # unlike Path.is_dir it does not raise where a name is too long
            return path
        source = open_file(path) if path is not None and names[-1] else None
        if source is None:
            raise HTTPException(404)
        return source

    async def _listing(self, scope: Scope, names: Sequence[str], folder: Path) -> Response:
        if names[-1]:
            return RedirectResponse(scope.get("root_path", "") + quoted("/".join(["", *names, ""])), status_code=308)
        try:
            entries, count = await to_thread.run_sync(list_folder, self._root, folder)
        except OSError as error:
            raise HTTPException(404) from error
        headers = {"cache-control": "no-cache", "vary": "Accept"}
        accepted = Headers(scope=scope).get("accept", "")
        if "application/json" in accepted and "text/html" not in accepted:
            return JSONResponse(_as_json(names, entries, count), headers=headers)
        page = await to_thread.run_sync(_as_page, names, entries, count, self._viewer is not None)
        return HTMLResponse(page, headers=headers)


@dataclass
class _Answer:
    """One answer to a request for a file, ready to be sent.

    Attributes:
        source: what the pieces come from.
        status: of the answer.
        headers: all but those of every answer.
        first: the first piece of the body.
        missing: bytes of the body after it.
        pieces: they.
    """

    source: Source
    status: int
    headers: dict[str, str]
    first: bytes = b""
    missing: int = 0
    pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))

    async def send(self, receive: Receive, send: Send) -> None:
        """Send it, unless the client leaves or the file is written over."""
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.first, "more_body": self.missing > 0})
        if not self.missing:
            return
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while self.missing and not gone.done():
                try:
                    piece = await to_thread.run_sync(next, self.pieces)
                except (Changed, OSError):
                    return  # without its last bytes, which uvicorn answers by closing the connection
                self.missing -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": self.missing > 0})
        finally:
            gone.cancel()


def _answer_to(source: Source, caching: str, method: str, asked: Headers) -> _Answer:
    """What a request for a file comes to (RFC 9110, sections 13.2.2 and 14.2)."""
    headers = {
        "accept-ranges": "bytes",
        "cache-control": caching,
        "etag": source.etag,
        "last-modified": formatdate(source.modified, usegmt=True),
    }
    failed = failed_precondition(asked, source.etag, source.modified)
    if failed is not None:
        return _Answer(source, failed, headers if failed == 304 else {**headers, "content-length": "0"})
    ranges = None
    if method == "GET" and range_counts(asked.get("if-range"), source.etag, source.modified):
        ranges = parse_range(asked.get("range"), source.size)
    if ranges is not None and not ranges:
        return _Answer(source, 416, {**headers, "content-range": f"bytes */{source.size}", "content-length": "0"})
    headers["content-type"] = source.media_type
    parts, tail = [(b"", 0, source.size)], b""
    if ranges is not None and len(ranges) > 1:
        boundary = token_hex(16)
        headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
        parts = [(part_head(*part, source.size, source.media_type, boundary), *part) for part in ranges]
        tail = f"\r\n--{boundary}--\r\n".encode()
    elif ranges:
        start, stop = ranges[0]
        headers["content-range"] = f"bytes {start}-{stop - 1}/{source.size}"
        parts = [(b"", start, stop)]
    length = sum(len(head) + stop - start for head, start, stop in parts) + len(tail)
    headers["content-length"] = str(length)
    answer = _Answer(source, 200 if ranges is None else 206, headers)
    if method == "GET" and length:
        answer.pieces = _pieces(source, parts, tail)
        answer.first = next(answer.pieces)
        answer.missing = length - len(answer.first)
    return answer


async def _gone(receive: Receive) -> None:
    """Returns when the client has left, which sending does not tell."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _pieces(source: Source, parts: Sequence[tuple[bytes, int, int]], tail: bytes) -> Iterator[bytes]:
    """The body in pieces of up to about `PIECE` bytes; small parts go together, large ones are not copied."""
    waiting: list[bytes] = []
    length = 0
    for head, start, stop in parts:
        waiting.append(head)
        length += len(head)
        while start < stop:
            data = source.read(start, min(PIECE, stop - start))
            start += len(data)
            if length and length + len(data) > PIECE:
                yield b"".join(waiting)
                waiting, length = [], 0
            waiting.append(data)
            length += len(data)
    yield b"".join([*waiting, tail])


def _raw_path(scope: Scope) -> bytes:
    """The path as it was sent, from where the application is mounted on."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.removeprefix(quote(scope.get("root_path", "")).encode())


def _as_json(names: Sequence[str], entries: Sequence[Entry], count: int) -> dict[str, object]:
    listed = [
        {
            "name": entry.name,
            "href": entry.href,
            "kind": entry.kind,
            "bytes": entry.size,
            "modified": int(entry.modified),
        }
        for entry in entries
    ]
    return {"path": shown("/".join(["", *names])), "entries": listed, "count": count}


def _as_page(names: Sequence[str], entries: Sequence[Entry], count: int, viewer: bool) -> str:
    here = "/".join(names)
    home = "../" * (len(names) - 1)
    rows = [
        {
            "name": entry.name + "/" * (entry.kind == "folder"),
            "href": entry.href,
            "kind": _KINDS[entry.kind],
            "size": "" if entry.size is None else f"{entry.size:,}",
            "modified": time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.modified)),
            "view": f"{home}{VIEWER}/index.html?src={quote(f'../{quoted(here)}{entry.href}')}"
            if viewer and entry.kind == "gsimg"
            else "",
        }
        for entry in entries
    ]
    return fill_page(
        __package__, TEMPLATE, title=shown(f"/{here}"), up=len(names) > 1, rows=rows, left=count - len(entries)
    )


_KINDS = {"folder": "folder", "gsimg": "Gaussians", "picture": "picture"}
