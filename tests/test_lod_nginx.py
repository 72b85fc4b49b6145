"""A plain web server does as well: nginx, set up as docs/serving.md says, gives what the lod server gives."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

import imagegs
from imagegs.kernels import native

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from imagegs.apps.lod.folder import MEDIA_TYPE
from imagegs.apps.lod.server import make_app
from lod_reading import LOOPBACK, ask, layered_file, parts_of, read_region, running, until

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "serving.md"
NGINX = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
OLD = 1_700_000_000
CONFIGURATION = """
{user}
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    gzip_http_version 1.0;
    {server}
}}
"""

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("photo.gsimg", ".hidden.gsimg"):
        (folder / name).write_bytes(layered_file())
        os.utime(folder / name, (OLD, OLD))
    return folder


@pytest.fixture(scope="module")
def nginx(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    prefix = tmp_path_factory.mktemp("nginx")
    with socket.create_server((LOOPBACK, 0)) as free:
        port: int = free.getsockname()[1]
    blocks = re.findall(r"^```nginx\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    server = blocks[0].replace("listen 8080", f"listen {LOOPBACK}:{port}").replace("/srv/pictures", str(pictures))
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not read what this test wrote
    (prefix / "nginx.conf").write_text(CONFIGURATION.format(user=user, prefix=prefix, server=server), encoding="utf-8")
    command = [str(NGINX), "-p", prefix, "-e", prefix / "error.log", "-c", prefix / "nginx.conf", "-g", "daemon off;"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert until(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, (
                process.stdout and process.stdout.read(),
                (prefix / "error.log").read_text(),
            )
            yield port
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def lod(pictures: Path) -> Iterator[int]:
    with running(make_app(pictures, cache_seconds=3600)) as port:
        yield port


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0


HEADERS = (
    "accept-ranges",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "content-length",
    "content-type",
    "last-modified",
    "x-content-type-options",
)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whole_files(nginx: int, lod: int, method: str) -> None:
    theirs, ours = (ask(port, "/photo.gsimg", method, {"Accept-Encoding": "gzip"}) for port in (nginx, lod))
    assert (theirs.status, theirs.body) == (ours.status, ours.body)
    assert {name: theirs.headers.get(name) for name in HEADERS} == {name: ours.headers[name] for name in HEADERS}
    assert theirs.headers["content-type"] == MEDIA_TYPE
    assert "content-encoding" not in theirs.headers
    assert re.fullmatch(r'"[^"]+"', theirs.headers["etag"])


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-0",
        "bytes=100-299",
        "bytes=500-",
        "bytes=-50",
        "bytes=0-99999999",
        "bytes=0-9,100-199",
        "bytes=100-199,0-9",
        "bytes=0-9,20-29,-10",
        "bytes=0-9,99999999-",
        "bytes=99999999-",
        "bytes=" + ",".join(f"{k * 5}-{k * 5}" for k in range(201)),
        "lines=0-9",
    ],
)
def test_parts(nginx: int, lod: int, asked: str) -> None:
    theirs, ours = (ask(port, "/photo.gsimg", headers={"Range": asked}) for port in (nginx, lod))
    assert (theirs.status, theirs.headers.get("content-range")) == (ours.status, ours.headers.get("content-range"))
    if "multipart" in ours.headers["content-type" if ours.status == 206 else "etag"]:
        assert parts_of(theirs) == parts_of(ours)
    elif ours.status < 400:
        assert theirs.body == ours.body


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-Range", "{etag}", 206),
        ("If-Range", '"other"', 200),
        ("If-Range", "{date}", 206),
        ("If-None-Match", "{etag}", 304),
        ("If-None-Match", '"other"', 206),
        ("If-Modified-Since", "{date}", 304),
        ("If-Match", '"other"', 412),
    ],
)
def test_conditions(nginx: int, lod: int, header: str, value: str, status: int) -> None:
    for port in (nginx, lod):
        etag = ask(port, "/photo.gsimg", "HEAD").headers["etag"]
        condition = value.format(etag=etag, date=formatdate(OLD, usegmt=True))
        assert ask(port, "/photo.gsimg", headers={header: condition, "Range": "bytes=0-9"}).status == status


def test_a_preflight(nginx: int, lod: int) -> None:
    for port in (nginx, lod):
        found = ask(port, "/photo.gsimg", "OPTIONS", {"Access-Control-Request-Headers": "range,if-range"})
        assert (found.status, found.headers["access-control-allow-origin"]) == (204, "*")
        assert {"Range", "If-Range"} <= set(found.headers["access-control-allow-headers"].split(", "))


def test_hidden_files(nginx: int, lod: int) -> None:
    assert [ask(port, "/.hidden.gsimg").status for port in (nginx, lod)] == [404, 404]


@pytest.mark.parametrize("multipart", [True, False])
@pytest.mark.parametrize("region", [(0.0, 0.0, 60.0, 50.0), (128.0, 64.0, 64.0, 64.0), (0.0, 0.0, 256.0, 192.0)])
def test_a_region_is_read_by_ranges(
    pictures: Path, nginx: int, lod: int, region: tuple[float, float, float, float], multipart: bool
) -> None:
    data = (pictures / "photo.gsimg").read_bytes()
    expected = imagegs.decode(data, region=region).pixels
    for port in (nginx, lod):
        pixels, sent = read_region(port, "/photo.gsimg", region, multipart=multipart)
        np.testing.assert_array_equal(pixels, expected)
        assert sent <= len(data) if region[2] == 256 else sent < len(data)
