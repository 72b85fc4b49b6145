"""The server of the lod application: what it lists, what a path leads to, and how it starts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagegs

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from imagegs.apps.lod import folder as folder_module
from imagegs.apps.lod.folder import MEDIA_TYPE, split_path
from imagegs.apps.lod.ranges import MAX_RANGES
from imagegs.apps.lod.server import CONNECTIONS, HEAD_BYTES, PIECE, PatientProtocol, listen, make_app
from lod_reading import (
    DATA,
    LOOPBACK,
    OLD,
    SECRET,
    SIZE,
    VIEWER,
    ask,
    fill,
    running,
    say,
)

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files of a POSIX system")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def port(served: Path) -> Iterator[int]:
    with running(make_app(served, viewer=VIEWER)) as found:
        yield found


def test_the_listing_as_json(port: int) -> None:
    found = ask(port, "/", headers={"Accept": "application/json"})
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert found.headers["vary"] == "Accept"
    listing = json.loads(found.body)
    entries = {entry["name"]: entry for entry in listing["entries"]}
    expected = ["sub", "empty.gsimg", *["inner.gsimg"] * (os.name == "posix"), "photo.gsimg"]
    assert list(entries) == expected  # nothing hidden, nothing from outside, no pipe
    assert (listing["path"], listing["count"]) == ("/", len(expected))
    photo = entries["photo.gsimg"]
    assert (photo["kind"], photo["bytes"], photo["modified"], photo["href"]) == ("gsimg", SIZE, OLD, "photo.gsimg")
    assert (entries["sub"]["kind"], entries["sub"]["bytes"]) == ("folder", None)


@pytest.mark.parametrize("accept", ["", "*/*", "text/html,application/xhtml+xml", "text/html, application/json"])
def test_the_listing_as_a_page(port: int, accept: str) -> None:
    found = ask(port, "/sub/", headers={"Accept": accept} if accept else {})
    assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = found.body.decode()
    links = re.findall(r'href="([^"]*)"', text)
    assert links == [
        "../",
        "deep%20er/",
        f"../_viewer/index.html?src={quote('../sub/leaf,%20a.gsimg')}",
        "leaf,%20a.gsimg",
        "picture.png",
    ]
    source = parse_qs(urlsplit(links[2]).query)["src"][0]
    path = urljoin(urljoin("/sub/", links[2]), source)  # as the page that the link leads to sees it
    assert ask(port, path).body == b"leaf"
    assert SECRET.decode() not in text


def test_a_page_without_a_viewer(served: Path) -> None:
    with running(make_app(served)) as port:
        page = ask(port, "/").body.decode()
        assert "_viewer" not in page
        assert 'href="photo.gsimg"' in page
        assert ask(port, "/_viewer/").status == 404


@posix
def test_names_of_any_kind_are_listed_and_found(tmp_path: Path) -> None:
    names = [b'<script>alert("1")<script>.gsimg', b"a:b?c#d%41.gsimg", "ä ☃.gsimg".encode(), b"\xff\xfe.gsimg"]
    for name in [*names, b"a\nb.gsimg"]:  # the last is neither listed nor found
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    with running(make_app(tmp_path, viewer=VIEWER)) as port:
        listing = json.loads(ask(port, "/", headers={"Accept": "application/json"}).body)["entries"]
        page = ask(port, "/").body.decode()
        bodies = {ask(port, "/" + entry["href"]).body for entry in listing}
    assert bodies == set(names)
    assert "<script>alert" not in page


def test_markup_in_a_name_is_text(tmp_path: Path) -> None:
    (tmp_path / "a&b'c.gsimg").write_bytes(b"x")
    with running(make_app(tmp_path)) as port:
        assert "a&amp;b&#39;c.gsimg</a>" in ask(port, "/").body.decode()


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with running(make_app(tmp_path)) as port:
        assert "There are no .gsimg files" in ask(port, "/").body.decode()


def test_a_long_listing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MOST_LISTED", 2)
    for number in range(5):
        (tmp_path / f"{number}.gsimg").write_bytes(b"")
    with running(make_app(tmp_path)) as port:
        assert "3 more are not shown" in ask(port, "/").body.decode()
        listing = json.loads(ask(port, "/", headers={"Accept": "application/json"}).body)
    assert ([entry["name"] for entry in listing["entries"]], listing["count"]) == (["0.gsimg", "1.gsimg"], 5)


@pytest.mark.parametrize(
    ("path", "target"), [("/sub", "/sub/"), ("/sub/deep%20er", "/sub/deep%20er/"), ("/_viewer", "/_viewer/")]
)
def test_a_folder_ends_with_a_slash(port: int, path: str, target: str) -> None:
    found = ask(port, path)
    assert (found.status, found.headers["location"]) == (308, target)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/_viewer/", "index.html"),
        ("/_viewer/index.html?src=../photo.gsimg", "index.html"),
        ("/_viewer/draw.js", "draw.js"),
    ],
)
def test_the_viewer_is_served(port: int, path: str, name: str) -> None:
    found = ask(port, path)
    assert (found.status, found.body) == (200, VIEWER[name])
    assert found.headers["content-type"].startswith("text/html" if name.endswith("html") else "text/javascript")
    assert ask(port, path, headers={"If-None-Match": found.headers["etag"]}).status == 304
    assert ask(port, path, headers={"Range": "bytes=2-4"}).body == VIEWER[name][2:5]
    assert ask(port, "/_viewer/none.js").status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.gsimg",
        "/sub/../../secret.gsimg",
        "/%2e%2e/secret.gsimg",
        "/%2E%2E/secret.gsimg",
        "/..%2fsecret.gsimg",
        "/..%5csecret.gsimg",
        "/..\\secret.gsimg",
        "/sub/..%2f..%2fsecret.gsimg",
        "/%252e%252e/secret.gsimg",
        "/%c0%ae%c0%ae/secret.gsimg",
        "/.%00./secret.gsimg",
        "/secret.gsimg%00.png",
        "/photo.gsimg%00",
        "//secret.gsimg",
        "/./photo.gsimg",
        "/sub//leaf,%20a.gsimg",
        "/sub%2fleaf,%20a.gsimg",
        "/out.gsimg",
        "/up/secret.gsimg",
        "/up/",
        "/.hidden.gsimg",
        "/%2ehidden.gsimg",
        "/.git/config.gsimg",
        "/unhidden.gsimg",
        "/around.gsimg",
        "/pipe.gsimg",
        "/photo.gsimg/",
        "/photo.gsimg/x",
        "/" + "a" * 3000,
        "/" + "a/" * 3000,
        "/photo.gsimg%",
        "/_viewer/../photo.gsimg",
        "/_viewer/%2e%2e/photo.gsimg",
        "/_viewer/x/",
        "/%0d%0aX-Injected:%20yes",
    ],
)
def test_no_path_leaves_the_folder(port: int, target: str) -> None:
    found = say(port, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert found.startswith(b"HTTP/1.1 404 ")
    assert SECRET not in found
    assert b"\nx-injected" not in found.lower()
    assert ask(port, "/photo.gsimg", "HEAD").status == 200


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_names_in_any_path_stay_below(raw: bytes) -> None:
    names = split_path(b"/" + raw)
    assert names is None or not {"", ".", ".."} & set(names[:-1])
    assert names is None or not any("/" in name or "\\" in name or "\0" in name for name in names)


def test_an_absolute_path_is_no_file_of_ours(served: Path, port: int) -> None:
    assert ask(port, str(served / "photo.gsimg")).status == 404
    assert ask(port, quote(str(served / "photo.gsimg"), safe="")).status == 404


@posix
def test_a_link_within_the_folder_is_followed(port: int) -> None:
    assert ask(port, "/inner.gsimg", headers={"Range": "bytes=0-4"}).body == DATA[:5]


@posix
def test_a_file_without_permission_is_not_there(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "photo.gsimg"
    path.write_bytes(b"x")
    path.chmod(0)
    with running(make_app(tmp_path)) as port:
        assert ask(port, "/photo.gsimg").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(port: int, method: str) -> None:
    found = ask(port, "/photo.gsimg", method)
    assert found.status == 405
    assert {"GET", "HEAD", "OPTIONS"} == set(found.headers["allow"].split(", "))


def test_the_application_can_be_mounted(served: Path) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    with running(Starlette(routes=[Mount("/pictures", make_app(served))])) as port:
        assert ask(port, "/pictures/photo.gsimg", headers={"Range": "bytes=0-4"}).body == DATA[:5]
        assert ask(port, "/pictures/sub").headers["location"] == "/pictures/sub/"
        assert ask(port, "/pictures/../pictures/photo.gsimg").status == 404


def test_serve_says_where_and_ends_when_interrupted(served: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from imagegs.apps.lod.server import serve\n"
        "serve(Path(sys.argv[1]), port=0, on_start=lambda url: print(url, flush=True))\n"
    )
    command = [sys.executable, "-c", script, str(served)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = urlsplit(process.stdout.readline().strip())
        assert url.port is not None
        assert ask(url.port, "/photo.gsimg").body == DATA
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_what_cannot_be_served(served: Path, tmp_path: Path) -> None:
    with pytest.raises(imagegs.ConfigError, match=r"none: expected a folder to serve, found nothing"):
        make_app(tmp_path / "none")
    with pytest.raises(imagegs.ConfigError, match=r"photo\.gsimg: expected a folder to serve, found a file"):
        make_app(served / "photo.gsimg")
    with pytest.raises(imagegs.ConfigError, match="cache_seconds: expected 0 or more, found -1"):
        make_app(served, cache_seconds=-1)


def test_where_nothing_can_be_listened_on() -> None:
    with listen(LOOPBACK, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(imagegs.ConfigError, match=rf"{port}: expected an address .* found: address already in use"):
            listen(LOOPBACK, port)
    for host, bad in ((LOOPBACK, 70000), ("192.0.2.1", 0), ("no.such.host.invalid", 0), ("a" * 300, 0)):
        with pytest.raises(imagegs.ConfigError, match=f"{host}:{bad}: expected an address"):
            listen(host, bad)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen(LOOPBACK, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # what asyncio looks at before it turns Nagle's algorithm off


def test_the_python_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "photo.gsimg").write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for source in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(source, "docs/serving.md", "exec"), names)
    with running(names["app"]) as port:
        assert ask(port, "/pictures/photo.gsimg", headers={"Range": "bytes=-5"}).body == DATA[-5:]


def test_the_document_names_the_limits() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    for said in (
        f"{MAX_RANGES} ranges",
        f"{HEAD_BYTES >> 10} KiB for the head",
        f"{PatientProtocol.head_seconds:.0f} s until it is there",
        f"{PatientProtocol.stall_seconds:.0f} s for a client",
        f"{CONNECTIONS} connections",
        f"{PIECE >> 10} KiB in memory",
        f"above {folder_module.HASHED_BYTES >> 20} MiB",
        MEDIA_TYPE,
    ):
        assert said in text
