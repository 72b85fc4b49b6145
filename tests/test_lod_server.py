"""The server of the lod application: parts of files, conditions, listings, and requests that mean harm."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagegs
from imagegs.kernels import native

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from imagegs.apps.lod import folder as folder_module
from imagegs.apps.lod.folder import MEDIA_TYPE, split_path
from imagegs.apps.lod.ranges import MAX_RANGES, failed_precondition, parse_range, range_counts
from imagegs.apps.lod.server import CONNECTIONS, HEAD_BYTES, PIECE, PatientProtocol, listen, make_app
from lod_reading import LOOPBACK, ask, layered_file, parts_of, read_region, running, say, until

SIZE = 300_000
DATA = np.random.default_rng(1).bytes(SIZE)
SECRET = b"not to be seen by anyone"
VIEWER = {"index.html": b"<!DOCTYPE html><title>viewer</title>", "draw.js": b"export {};"}
OLD = 1_700_000_000

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files of a POSIX system")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outside = tmp_path_factory.mktemp("outside")
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


@pytest.fixture(scope="module")
def port(served: Path) -> Iterator[int]:
    with running(make_app(served, viewer=VIEWER)) as found:
        yield found


# Whole files


@pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "gzip, br, zstd"}], ids=["plain", "would take gzip"])
def test_a_file_is_sent_as_it_is(port: int, headers: dict[str, str]) -> None:
    found = ask(port, "/photo.gsimg", headers=headers)
    assert (found.status, found.body) == (200, DATA)
    assert found.headers["content-length"] == str(SIZE)
    assert found.headers["content-type"] == MEDIA_TYPE == "image/vnd.imagegs"
    assert found.headers["accept-ranges"] == "bytes"
    assert found.headers["last-modified"] == formatdate(OLD, usegmt=True)
    assert found.headers["cache-control"] == "no-cache, no-transform"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r'"[0-9a-f]{32}"', found.headers["etag"])
    assert "content-encoding" not in found.headers


def test_head_is_get_without_the_body(port: int) -> None:
    get, head = (ask(port, "/photo.gsimg", method) for method in ("GET", "HEAD"))
    assert head.body == b""
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    ranged = ask(port, "/photo.gsimg", "HEAD", {"Range": "bytes=0-9"})
    assert (ranged.status, ranged.headers["content-length"]) == (200, str(SIZE))  # RFC 9110: ranges are for GET


def test_an_empty_file(port: int) -> None:
    whole = ask(port, "/empty.gsimg")
    assert (whole.status, whole.body, whole.headers["content-length"]) == (200, b"", "0")
    part = ask(port, "/empty.gsimg", headers={"Range": "bytes=0-"})
    assert (part.status, part.headers["content-range"]) == (416, "bytes */0")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.gsimg", "image/vnd.imagegs"),
        ("a.GSIMG", "image/vnd.imagegs"),
        ("a.jpg", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.json", "application/json"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_media_types(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with running(make_app(tmp_path)) as port:
        found = ask(port, f"/{name}")
    assert found.headers["content-type"] == kind
    assert "content-encoding" not in found.headers


def test_caching_can_be_allowed(served: Path) -> None:
    with running(make_app(served, cache_seconds=3600)) as port:
        assert ask(port, "/photo.gsimg").headers["cache-control"] == "public, max-age=3600, no-transform"


# Parts


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=299999-", SIZE - 1, SIZE),
        ("bytes=5-", 5, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        ("bytes=-999999999", 0, SIZE),
        ("bytes=10-99999999999999999999999999", 10, SIZE),
        ("bytes=00000000000000000000000010-19", 10, 20),
        ("BYTES=1-2", 1, 3),
        ("bytes= 1-2 ,", 1, 3),
        ("bytes=0-9,5-19", 0, 20),
        ("bytes=5-19,0-9,8-", 0, SIZE),
        ("bytes=0-9,400000-", 0, 10),
        ("bytes=70000-200000", 70000, 200001),
    ],
)
def test_one_part(port: int, asked: str, start: int, stop: int) -> None:
    found = ask(port, "/photo.gsimg", headers={"Range": asked})
    assert found.status == 206
    assert found.body == DATA[start:stop]
    assert found.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert found.headers["content-length"] == str(stop - start)
    assert found.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9,20-29", [(0, 10), (20, 30)]),
        ("bytes=20-29,0-9", [(20, 30), (0, 10)]),
        ("bytes=0-9, 10-19", [(0, 10), (10, 20)]),
        ("bytes=0-,-1,5-6,300000-,10-20", None),
        ("bytes=100-199,0-9,150-299,-5", [(100, 300), (0, 10), (SIZE - 5, SIZE)]),
        ("bytes=0-99999,100001-299999", [(0, 100000), (100001, SIZE)]),
        ("bytes=" + ",".join(f"{k * 100}-{k * 100 + 9}" for k in range(MAX_RANGES)), "many"),
    ],
)
def test_several_parts(port: int, asked: str, expected: list[tuple[int, int]] | str | None) -> None:
    if expected == "many":
        expected = [(k * 100, k * 100 + 10) for k in range(MAX_RANGES)]
    found = ask(port, "/photo.gsimg", headers={"Range": asked})
    assert found.status == 206
    assert found.headers["content-length"] == str(len(found.body))
    if expected is None:
        assert found.body == DATA
        return
    parts = parts_of(found)
    assert [(part.start, part.start + len(part.data)) for part in parts] == expected
    for part in parts:
        assert (part.total, part.media_type) == (SIZE, MEDIA_TYPE)
        assert part.data == DATA[part.start : part.start + len(part.data)]


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=300000-300001", "bytes=-0", "bytes=400000-,-0"])
def test_no_part_can_be_had(port: int, asked: str) -> None:
    found = ask(port, "/photo.gsimg", headers={"Range": asked})
    assert (found.status, found.body) == (416, b"")
    assert found.headers["content-range"] == f"bytes */{SIZE}"
    assert found.headers["access-control-allow-origin"] == "*"


MALFORMED = [
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=,",
    "bytes=a-b",
    "bytes=9-0",
    "bytes=0-9,9-0",
    "bytes=+1-2",
    "bytes=1_0-20",
    "bytes=1 0-20",
    "bytes=0-9;10-19",
    "bytes=--5",
    "bytes=0x0-0x9",
    "bytes=1.0-2",
    "lines=0-9",
    "0-9",
    "bytes 0-9",
    "bytes=0-9/300000",
]


@pytest.mark.parametrize("asked", MALFORMED)
def test_a_malformed_range_is_ignored(port: int, asked: str) -> None:
    found = ask(port, "/photo.gsimg", headers={"Range": asked})
    assert (found.status, found.body) == (200, DATA)


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=" + ",".join(f"{k * 100}-{k * 100 + 9}" for k in range(MAX_RANGES + 1)),
        "bytes=" + ",".join("0-" for _ in range(MAX_RANGES + 1)),
    ],
    ids=["small ones", "the whole file, again and again"],
)
def test_too_many_ranges_get_the_file_once(port: int, asked: str) -> None:
    found = ask(port, "/photo.gsimg", headers={"Range": asked})
    assert (found.status, len(found.body)) == (200, SIZE)


def test_overlapping_ranges_never_make_more_than_the_file(port: int) -> None:
    asked = "bytes=" + ",".join(f"{k}-" for k in range(MAX_RANGES))
    found = ask(port, "/photo.gsimg", headers={"Range": asked})
    assert (found.status, found.body) == (206, DATA)


@given(st.text(), st.integers(0, 1 << 40))
@settings(max_examples=200, deadline=None)
def test_any_header_is_parsed(text: str, size: int) -> None:
    for header in (text, "bytes=" + text):
        found = parse_range(header, size)
        assert found is None or all(0 <= start < stop <= size for start, stop in found)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), min_size=1, max_size=8), st.integers(1, 50)
)
@settings(max_examples=300, deadline=None)
def test_ranges_hold_what_was_asked_for_and_nothing_twice(asked: list[list[int]], size: int) -> None:
    found = parse_range("bytes=" + ",".join(f"{first}-{last}" for first, last in asked), size)
    assert found is not None
    wanted = {k for first, last in asked for k in range(first, last + 1) if k < size}
    sent = [k for start, stop in found for k in range(start, stop)]
    assert len(sent) == len(set(sent))
    assert set(sent) == wanted


# Conditions


def etag(port: int) -> str:
    return ask(port, "/photo.gsimg", "HEAD").headers["etag"]


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-None-Match", "{etag}", 304),
        ("If-None-Match", "W/{etag}", 304),
        ("If-None-Match", '"other", {etag}', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"other"', 200),
        ("If-None-Match", "", 200),
        ("If-Modified-Since", "{date}", 304),
        ("If-Modified-Since", "{later}", 304),
        ("If-Modified-Since", "{earlier}", 200),
        ("If-Modified-Since", "yesterday", 200),
        ("If-Match", "{etag}", 200),
        ("If-Match", "*", 200),
        ("If-Match", "W/{etag}", 412),
        ("If-Match", '"other"', 412),
        ("If-Unmodified-Since", "{date}", 200),
        ("If-Unmodified-Since", "{earlier}", 412),
        ("If-Unmodified-Since", "never", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions(port: int, method: str, header: str, value: str, status: int) -> None:
    tag = etag(port)
    dates = {name: formatdate(OLD + shift, usegmt=True) for name, shift in DATES.items()}
    found = ask(port, "/photo.gsimg", method, {header: value.format(etag=tag, **dates), "Range": "bytes=0-9"})
    assert found.status == (206 if (status, method) == (200, "GET") else status)
    assert found.headers["etag"] == tag
    assert found.headers["access-control-allow-origin"] == "*"
    if status == 304:
        assert found.body == b""
        assert {"last-modified", "cache-control"} <= found.headers.keys()


DATES = {"date": 0, "later": 1000, "earlier": -1000}


def test_a_tag_outweighs_a_date(port: int) -> None:
    headers = {"If-None-Match": '"other"', "If-Modified-Since": formatdate(OLD, usegmt=True)}
    assert ask(port, "/photo.gsimg", headers=headers).status == 200


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("{etag}", 206),
        ("W/{etag}", 200),
        ('"other"', 200),
        ("{date}", 206),
        ("{later}", 200),
        ("{earlier}", 200),
        ("yesterday", 200),
        ("", 200),
    ],
)
def test_if_range(port: int, value: str, status: int) -> None:
    dates = {name: formatdate(OLD + shift, usegmt=True) for name, shift in DATES.items()}
    headers = {"Range": "bytes=0-9", "If-Range": value.format(etag=etag(port), **dates)}
    found = ask(port, "/photo.gsimg", headers=headers)
    assert (found.status, found.body) == (status, DATA[:10] if status == 206 else DATA)


@given(st.text(), st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]))
@settings(max_examples=200, deadline=None)
def test_any_condition_is_judged(text: str, header: str) -> None:
    assert failed_precondition({header: text}, '"tag"', OLD) in {None, 304, 412}
    assert range_counts(text, '"tag"', OLD) in {True, False}


@pytest.mark.parametrize("limit", [folder_module.HASHED_BYTES, 2], ids=["of the contents", "of inode, length and date"])
def test_the_etag_changes_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(folder_module, "HASHED_BYTES", limit)
    path, tags = tmp_path / "photo.gsimg", []
    with running(make_app(tmp_path)) as port:
        for contents in (b"old!", b"new!"):
            replacement = tmp_path / ".new"
            replacement.write_bytes(contents)
            os.utime(replacement, (OLD, OLD))
            os.replace(replacement, path)
            tags += [etag(port), etag(port)]
    assert tags[0] == tags[1] != tags[2] == tags[3]


def test_the_etag_is_that_of_the_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.gsimg").write_bytes(DATA)
    os.utime(tmp_path / "two" / "photo.gsimg", (OLD, OLD))
    found = []
    for name in ("one", "two"):  # as on two servers behind one name
        with running(make_app(tmp_path / name)) as port:
            found.append(etag(port))
    assert found[0] == found[1]


def test_the_etags_of_few_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "REMEMBERED", 3)
    monkeypatch.setattr(folder_module, "SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(folder_module, "_etags", {})
    with running(make_app(tmp_path)) as port:
        for number in range(6):
            (tmp_path / f"{number}.gsimg").write_bytes(b"x" * number)
            assert ask(port, f"/{number}.gsimg").status == 200
    assert len(folder_module._etags) == 3


# Other origins


@pytest.mark.parametrize(
    ("path", "status"), [("/photo.gsimg", 200), ("/none.gsimg", 404), ("/", 200), ("/_viewer/draw.js", 200)]
)
def test_pages_of_other_origins_may_read(port: int, path: str, status: int) -> None:
    found = ask(port, path, headers={"Origin": "https://example.org"})
    assert found.status == status
    assert found.headers["access-control-allow-origin"] == "*"
    exposed = set(found.headers["access-control-expose-headers"].split(", "))
    assert {"Content-Range", "ETag", "Accept-Ranges", "Content-Length"} <= exposed
    assert found.headers["cross-origin-resource-policy"] == "cross-origin"


def test_a_preflight_for_ranges(port: int) -> None:
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range,if-range",
    }
    found = ask(port, "/photo.gsimg", "OPTIONS", headers)
    assert (found.status, found.body) == (204, b"")
    assert {"Range", "If-Range"} <= set(found.headers["access-control-allow-headers"].split(", "))
    assert "GET" in found.headers["access-control-allow-methods"]
    assert found.headers["access-control-max-age"] == "86400"


def test_other_origins_can_be_kept_out(served: Path) -> None:
    with running(make_app(served, cors=False)) as port:
        for method in ("GET", "OPTIONS"):
            found = ask(port, "/photo.gsimg", method)
            assert not [name for name in found.headers if name.startswith(("access-control", "cross-origin"))]


# Listings and the viewer


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


# Paths


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


# Clients that mean harm, or are slow


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


# Files that change


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


# What it is for


@pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
@pytest.mark.parametrize("multipart", [True, False])
def test_a_region_is_read_by_ranges(tmp_path: Path, multipart: bool) -> None:
    data = layered_file()
    (tmp_path / "photo.gsimg").write_bytes(data)
    region = (128.0, 64.0, 64.0, 64.0)
    with running(make_app(tmp_path)) as port:
        pixels, sent = read_region(port, "/photo.gsimg", region, multipart=multipart)
    assert sent < 0.9 * len(data)
    np.testing.assert_array_equal(pixels, imagegs.decode(data, region=region).pixels)


# Starting


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


# docs/serving.md


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
