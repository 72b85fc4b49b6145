"""The server of the lod application: whole files and parts of them, conditions, other origins."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagegs
from imagegs.kernels import native

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from imagegs.apps.lod import folder as folder_module
from imagegs.apps.lod.folder import MEDIA_TYPE
from imagegs.apps.lod.ranges import MAX_RANGES, failed_precondition, parse_range, range_counts
from imagegs.apps.lod.server import make_app
from lod_reading import (
    DATA,
    OLD,
    SIZE,
    VIEWER,
    ask,
    fill,
    layered_file,
    parts_of,
    read_region,
    running,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def port(served: Path) -> Iterator[int]:
    with running(make_app(served, viewer=VIEWER)) as found:
        yield found


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
