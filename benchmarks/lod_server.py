"""200 clients at once that read parts of a served file: errors, requests a second, latency, the server's memory.

Each client asks for one chunk or several of a file with levels and blocks, checks every byte that it gets, and asks
again at once on the same connection. Clients and server share the machine, so latency is what 200 requests in a queue
take. nginx serves the same file beside it where it is installed.

python benchmarks/lod_server.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from common import write

from imagegs import Gaussians2D
from imagegs.codec import parse, write_file

CLIENTS, ROUNDS = 200, 4
KINDS = ("one chunk", "eight chunks", "new connections", "the whole file")
SERVE = """
import sys
from imagegs.apps.lod.server import serve
serve(sys.argv[1], port=0, on_start=lambda url: print(url, flush=True))
"""
NGINX = """
{user} worker_processes 1; pid {folder}/pid; error_log {folder}/log; events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; root {root}; default_type image/vnd.imagegs; }}
}}
"""


def layered(count: int = 20_000) -> bytes:
    """A file of three levels and 96 blocks."""
    rng = np.random.default_rng(0)
    gaussians = Gaussians2D(
        means=rng.uniform((0, 0), (768, 512), (count, 2)),
        scales=rng.uniform(0.6, 4, (count, 2)),
        rotations=rng.uniform(0, np.pi, count),
        colors=rng.uniform(0, 1, (count, 3)),
        height=512,
        width=768,
    )
    return write_file(gaussians, levels=[count // 16, count // 4, count - count // 16 - count // 4], block_shift=6)


class Reader:
    """One client."""

    def __init__(self, port: int, data: bytes, kind: str, seed: int) -> None:
        self.port, self.data, self.kind = port, data, kind
        self.chunks = [(chunk.offset, chunk.end) for chunk in parse(data).chunks if chunk.length]
        self.random = random.Random(seed)
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.bytes = 0

    async def run(self, requests: int) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for _ in range(requests):
            began = time.perf_counter()
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                await self.ask(*streams)
            except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
                self.errors.append(repr(error))
                streams = None
            self.seconds.append(time.perf_counter() - began)
            if self.kind == "new connections" and streams:
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole, several = self.kind == "the whole file", self.kind == "eight chunks"
        wanted = [(0, len(self.data))] if whole else self.random.sample(self.chunks, 8 if several else 1)
        asked = "" if whole else f"Range: bytes={','.join(f'{start}-{stop - 1}' for start, stop in wanted)}\r\n"
        writer.write(f"GET /file.gsimg HTTP/1.1\r\nHost: localhost\r\n{asked}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.bytes += len(body)
        assert head[0].split()[1] == ("200" if whole else "206"), head[0]
        if several:
            assert all(self.data[start:stop] in body for start, stop in wanted), "other bytes"
        else:
            start, stop = wanted[0]
            assert body == self.data[start:stop], "other bytes"


async def load(port: int, pid: int, data: bytes, kind: str, requests: int) -> dict[str, Any]:
    """Figures of so many requests by all clients together, in four rounds."""
    readers = [Reader(port, data, kind, seed) for seed in range(CLIENTS)]
    seconds, memory = 0.0, [resident_mib(pid)]
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await asyncio.gather(*(reader.run(requests // CLIENTS // ROUNDS) for reader in readers))
        seconds += time.perf_counter() - began
        memory.append(resident_mib(pid))
    times = sorted(1e3 * taken for reader in readers for taken in reader.seconds)
    errors = [error for reader in readers for error in reader.errors]
    for error in sorted(set(errors))[:5]:
        print(f"error: {error}", file=sys.stderr)
    return {
        "clients": CLIENTS,
        "requests": len(times),
        "errors": len(errors),
        "requests_per_s": round(len(times) / seconds),
        "mib_per_s": round(sum(reader.bytes for reader in readers) / seconds / 2**20, 1),
        "p50_ms": round(statistics.median(times), 1),
        "p99_ms": round(times[int(0.99 * len(times))], 1),
        "max_ms": round(times[-1], 1),
        "resident_mib_before_and_after_each_quarter": memory,
    }


def resident_mib(pid: int) -> float | None:
    """Memory of a process that is in use; None where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return round(int(lines["VmRSS"].split()[0]) / 1024, 1)


def open_files(pid: int) -> int | None:
    folder = Path(f"/proc/{pid}/fd")
    return len(os.listdir(folder)) if folder.is_dir() else None


@contextlib.contextmanager
def lod(root: Path) -> Iterator[tuple[int, int]]:
    """(port, process) of this package's server."""
    command = [sys.executable, "-c", SERVE, root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().strip().strip("/").rpartition(":")[2]), process.pid
        process.terminate()


@contextlib.contextmanager
def nginx(root: Path, program: str) -> Iterator[tuple[int, int]]:
    """The same of nginx."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = Path(name, "nginx.conf")
        configuration.write_text(NGINX.format(user=user, folder=name, port=port, root=root), encoding="utf-8")
        command = [program, "-p", name, "-e", f"{name}/log", "-c", configuration, "-g", "daemon off;"]
        with subprocess.Popen(command) as process:
            time.sleep(0.5)
            yield port, process.pid
            process.terminate()


def measure(requests: int) -> dict[str, Any]:
    data = layered()
    found: dict[str, Any] = {
        "file": {"bytes": len(data), "chunks": len(parse(data).chunks)},
        "versions": {name: version(name) for name in ("starlette", "uvicorn", "h11")},
    }
    with tempfile.TemporaryDirectory() as name:
        Path(name, "file.gsimg").write_bytes(data)
        with lod(Path(name)) as (port, pid):
            for kind in KINDS:  # until everything is loaded and each thread has its memory
                asyncio.run(load(port, pid, data, kind, requests // 2))
            files = open_files(pid)
            for kind in KINDS:
                found[kind] = asyncio.run(load(port, pid, data, kind, requests))
                print(kind, found[kind], flush=True)
            time.sleep(1)
            found["open_files"] = {"before": files, "after": open_files(pid)}
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is not None:
            with nginx(Path(name), program) as (port, pid):
                found["nginx"] = {kind: asyncio.run(load(port, pid, data, kind, requests)) for kind in KINDS}
                print("nginx", found["nginx"], flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 requests of each kind instead of 20,000")
    arguments = parser.parse_args()
    results = measure(2_000 if arguments.quick else 20_000)
    write("lod_server", "python benchmarks/lod_server.py" + " --quick" * arguments.quick, results)
