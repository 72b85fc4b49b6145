"""The viewer in Chromium: its pixels against the CPU renderer's, and what it makes of streams that go wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("playwright", reason="playwright is not installed")

from viewer_browser import Viewer, browser, find_browser, viewer

from apps.lod.server import listen, make_app, make_server
from apps.lod.viewing import page_files
from imagegs.cli import app
from imagegs.codec import Decoder, write_file
from imagegs.errors import ImageGSError
from imagegs.gaussians import Gaussians2D
from imagegs.kernels import native
from imagegs.rendering import render

if TYPE_CHECKING:
    from playwright.sync_api import Browser

if find_browser() is None:
    pytest.skip("there is no Chromium here", allow_module_level=True)
if not native.available():
    pytest.skip("the compiled kernels are not built", allow_module_level=True)

from test_pages import in_pages
from test_stream_contexts import COUNTS, encoded, scattered

GOLDEN = Path(__file__).parent / "golden"
DATA = encoded(scattered(), COUNTS, 0)
BLOCKS = encoded(scattered(), COUNTS, 6)
SIZE = (200, 150)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def seen(chromium: Browser) -> Iterator[Viewer]:
    """A page that is loaded; its scripts may not fail."""
    with viewer(chromium) as found:
        found.start()
        yield found
        assert found.errors == []


def ends(data: bytes) -> list[int]:
    """Where the levels of a file end."""
    decoder = Decoder()
    decoder.feed(data)
    assert decoder.chunks is not None
    return [
        max(chunk.end for chunk in decoder.chunks if chunk.level == level)
        for level in range(decoder.chunks[-1].level + 1)
    ]


def gaussians_of(data: bytes) -> Gaussians2D:
    decoder = Decoder()
    decoder.feed(data)
    return decoder.gaussians(partial=True)


def as_rgba(drawn: np.ndarray) -> np.ndarray:
    """8-bit pixels [H, W, 4] of channels [C, H, W]: grey, grey and opacity, RGB or RGBA."""
    channels = len(drawn)
    color = drawn[:3] if channels > 2 else np.repeat(drawn[:1], 3, axis=0)
    opacity = drawn[-1:] if channels % 2 == 0 else np.ones_like(drawn[:1])
    return np.round(255 * np.clip(np.concatenate([color, opacity]), 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean, of 255, with colours that count as much as they are seen."""
    assert one.shape == other.shape
    one, other = one.astype(float), other.astype(float)
    for picture in (one, other):
        picture[..., :3] *= picture[..., 3:] / 255
    return float(np.abs(one - other).mean())


def picture(channels: int, blend: str = "normalized") -> Gaussians2D:
    """Gaussians of all shapes; those of the blend ``sum`` are such that their sum has a meaning."""
    random = np.random.default_rng(channels)
    n = 400
    colors = random.uniform(0, 1, (n, channels))
    return Gaussians2D(
        means=random.uniform((-5, -5), (205, 155), (n, 2)),
        scales=np.exp(random.uniform(np.log(0.6), np.log(12), (n, 2))),
        rotations=random.uniform(0, np.pi, n),
        colors=0.15 * colors if blend == "sum" else colors,
        height=150,
        width=200,
        background=np.full(channels, 0.5, np.float32),
        blend=blend,
        top_k=4,
    )


@pytest.mark.parametrize("backend", ["webgl", "cpu"])
@pytest.mark.parametrize(
    ("channels", "blend"),
    [(3, "normalized"), (3, "sum"), (3, "topk"), (1, "normalized"), (2, "sum"), (4, "normalized")],
)
def test_pixels_are_the_renderers(seen, channels, blend, backend):
    gaussians = picture(channels, blend)
    data = write_file(gaussians)
    if blend == "topk" and backend == "webgl":  # what the page says that it does
        gaussians = replace(gaussians, blend="normalized")
    seen.put("/a.gsimg", data)
    seen.show("/a.gsimg", SIZE, backend=backend)
    assert seen.wait("load", "error")["name"] == "load"
    assert seen.page.evaluate("window.image.back.kind") == {"webgl": "WebGL 2", "cpu": "CPU"}[backend]
    decoded = replace(gaussians_of(data), blend=gaussians.blend)
    assert difference(seen.pixels(), as_rgba(render(decoded))) < 0.5


@pytest.mark.parametrize("backend", ["webgl", "cpu"])
@pytest.mark.parametrize(("step", "x", "y"), [(0.125, 60, 40), (0.5, 10.5, 3), (2.5, 0, 0), (1 / 64, 100, 70)])
def test_every_scale_is_drawn_anew(seen, backend, step, x, y):
    seen.put("/a.gsimg", DATA)
    seen.show("/a.gsimg", (60, 50), backend=backend)
    seen.wait("load")
    seen.page.evaluate("(view) => window.image.look(view)", {"step": step, "x": x, "y": y})
    view = seen.page.evaluate("window.image.view")
    assert view["step"] == step
    region = (view["x"], view["y"], 60 * step, 50 * step)
    expected = as_rgba(render(gaussians_of(DATA), 50, 60, region=region))
    inside = np.zeros((50, 60), bool)
    inside[
        np.ix_(
            *(
                (start + (np.arange(n) + 0.5) * step >= 0) & (start + (np.arange(n) + 0.5) * step <= side)
                for start, n, side in ((view["y"], 50, 150), (view["x"], 60, 200))
            )
        )
    ] = True
    expected[~inside] = 0
    assert inside.mean() > 0.5
    assert difference(seen.pixels(), expected) < 0.5


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.gsimg")), ids=lambda path: path.stem)
def test_files_of_every_kind_are_drawn(seen, path):
    data = path.read_bytes()
    seen.put("/a.gsimg", data)
    gaussians = gaussians_of(data)
    size = (gaussians.width, gaussians.height)
    seen.show("/a.gsimg", size, backend="cpu")
    assert seen.wait("load", "error")["name"] == "load", seen.message()
    first = seen.page.evaluate("window.image.planes[0].channels")
    assert difference(seen.pixels(), as_rgba(render(gaussians)[:first])) < 0.5


def test_other_pictures_of_a_stack_can_be_seen(seen):
    data = (GOLDEN / "stack_wide.gsimg").read_bytes()
    gaussians = gaussians_of(data)
    seen.put("/a.gsimg", data)
    seen.show("/a.gsimg", (gaussians.width, gaussians.height), plane="1")
    seen.wait("load")
    plane = seen.page.evaluate("window.image.planes[1]")
    drawn = render(gaussians)[plane["first"] : plane["first"] + plane["channels"]]
    assert difference(seen.pixels(), as_rgba(drawn)) < 0.5


def test_the_element_has_the_shape_of_the_picture(seen):
    seen.put("/a.gsimg", DATA)
    seen.show("/a.gsimg", alt="Blobs")
    seen.wait("load")
    box = seen.page.locator("imagegs-image").bounding_box()
    assert (box["width"], box["height"]) == SIZE
    assert seen.page.get_by_role("img", name="Blobs").count() == 1


@pytest.mark.parametrize("data", [DATA, BLOCKS], ids=["one block", "blocks"])
def test_each_level_is_drawn_as_soon_as_it_is_whole_and_not_before(seen, data):
    first, second, _ = ends(data)
    resource = seen.put("/a.gsimg", data, pause_at=(first + second) // 2)
    seen.show("/a.gsimg", SIZE)
    assert seen.wait("firstpicture")["level"] == 0
    seen.wait_for(f"window.image.received === {(first + second) // 2}")
    level = gaussians_of(data[:first])
    assert difference(seen.pixels(), as_rgba(render(level))) < 0.5
    resource.go.set()
    seen.wait("load")
    assert [event["level"] for event in seen.heard("level")][-1] == 2
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(data)))) < 0.5


def test_a_lower_level_can_be_asked_for(seen):
    seen.put("/a.gsimg", DATA)
    seen.show("/a.gsimg", SIZE)
    seen.wait("load")
    seen.page.evaluate("window.image.setAttribute('level', '1')")
    expected = as_rgba(render(gaussians_of(DATA[: ends(DATA)[1]])))
    assert difference(seen.pixels(), expected) < 0.5
    event = seen.heard("level")[-1]
    assert (event["level"], event["bytes"]) == (1, ends(DATA)[1])


def test_a_cut_file_is_drawn_as_far_as_it_goes(seen):
    length = (ends(DATA)[1] + len(DATA)) // 2
    seen.put("/a.gsimg", DATA[:length])
    seen.show("/a.gsimg", SIZE)
    note = seen.wait("load")["note"]
    assert f"expected {len(DATA)} bytes, found {length}" in note
    assert note == seen.message()
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(DATA[:length])))) < 0.5
    assert [path for path, _ in seen.server.asked].count("/a.gsimg") == 1
    assert (seen.heard("level")[-1]["level"], seen.heard("level")[-1]["bytes"]) == (1, ends(DATA)[1])


def test_a_connection_that_breaks_is_taken_up_again(seen):
    length = (ends(DATA)[1] + len(DATA)) // 2
    seen.put("/a.gsimg", DATA, break_at=length)
    seen.show("/a.gsimg", SIZE)
    seen.wait("load")
    assert seen.message() == ""
    ((first, _),) = seen.server.ranges("/a.gsimg")
    assert 0 < first <= length
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(DATA)))) < 0.5


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_is_read_anew(seen, ranges):
    other = encoded(replace(scattered(), colors=1 - scattered().colors), COUNTS, 0)
    seen.put("/a.gsimg", DATA, break_at=ends(DATA)[1] + 9)
    seen.server.files["/a.gsimg"].then = replace(seen.server.files["/a.gsimg"], data=other, etag='"two"', break_at=None)
    seen.server.files["/a.gsimg"].then.ranges = ranges
    seen.show("/a.gsimg", SIZE)
    seen.wait("load")
    assert seen.message() == ""
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(other)))) < 0.5


def test_what_came_before_a_damaged_level_is_drawn(seen):
    damaged = bytearray(DATA)
    damaged[ends(DATA)[1] + 20] ^= 1
    seen.put("/a.gsimg", bytes(damaged))
    seen.show("/a.gsimg", SIZE)
    event = seen.wait("error")
    assert event["kind"] == "checksum"
    assert event["message"].startswith("chunk 2: CRC-32C: expected")
    assert seen.message() == event["message"]
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(DATA[: ends(DATA)[1]])))) < 0.5


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b"", "truncated", "found 0"),
        (b"\x89PNG\r\n\x1a\n and more of it", "format", "a .gsimg file"),
        (DATA[: ends(DATA)[0] - 1], "truncated", f"found {ends(DATA)[0] - 1}"),
        (DATA[:8] + b"\3\0" + DATA[10:], "version", "expected 2.x, found 3.0"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line(seen, data, kind, text):
    seen.put("/a.gsimg", data)
    seen.show("/a.gsimg", SIZE)
    event = seen.wait("error")
    assert event["kind"] == kind
    assert text in event["message"]
    assert seen.message() == event["message"]


def test_a_missing_file_is_said(seen):
    seen.show("/none.gsimg", SIZE)
    assert "HTTP 404" in seen.wait("error")["message"]


def needed(data: bytes, region: tuple[float, float, float, float]) -> tuple[set[int], list]:
    from imagegs.codec.stream import needed_chunks

    decoder = Decoder()
    decoder.feed(data)
    assert decoder.head is not None
    return set(needed_chunks(decoder.head, region=region)), list(decoder.head.chunks)


@pytest.mark.parametrize("data", [BLOCKS, in_pages(BLOCKS, 3)], ids=["one table", "pages"])
def test_blocks_of_a_region_come_first(seen, data):
    region = (0, 0, 30, 30)
    seen.put("/a.gsimg", data, pause_at=ends(data)[0] - 40)
    seen.show("/a.gsimg", SIZE, region="0,0,30,30")
    seen.wait("load")
    assert seen.message() == ""
    numbers, chunks = needed(data, region)
    order = [
        k
        for first, last in seen.server.ranges("/a.gsimg")
        for k, chunk in enumerate(chunks)
        if chunk.length and first <= chunk.offset and chunk.end <= last + 1
    ]
    blocks = {chunks[k].block for k in numbers}
    wanted = [chunks[k].block in blocks for k in order]
    assert 0 < sum(wanted) < len(wanted)
    assert wanted == sorted(wanted, reverse=True)
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(BLOCKS)))) < 0.5


def test_a_server_without_ranges_serves_regions_too(seen):
    seen.put("/a.gsimg", BLOCKS, ranges=False, pause_at=ends(BLOCKS)[0] - 40)
    seen.server.files["/a.gsimg"].go.set()
    seen.show("/a.gsimg", SIZE, region="0,0,30,30")
    seen.wait("load")
    assert seen.message() == ""
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(BLOCKS)))) < 0.5


def test_a_file_that_changes_between_ranges_is_read_anew(seen):
    other = encoded(replace(scattered(), colors=1 - scattered().colors), COUNTS, 6)
    resource = seen.put("/a.gsimg", BLOCKS, pause_at=ends(BLOCKS)[0] - 40)
    resource.then = replace(resource, data=other, etag='"two"', pause_at=None)
    seen.show("/a.gsimg", SIZE, region="0,0,30,30")
    seen.wait("load")
    assert seen.message() == ""
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(other)))) < 0.5


IN_SOFTWARE = """const get = WebGL2RenderingContext.prototype.getParameter;
WebGL2RenderingContext.prototype.getParameter = function (name) {
  return name === 37446 ? 'Google SwiftShader' : get.call(this, name);
};"""
WITHOUT_WEBGL = """const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === 'webgl2' ? null : get.call(this, kind, ...rest);
};"""


@pytest.mark.parametrize(
    ("script", "backend"),
    [(WITHOUT_WEBGL, "CPU"), ("delete window.Worker;", "WebGL 2"), (IN_SOFTWARE, "CPU")],
    ids=["no WebGL", "no Worker", "WebGL in software"],
)
def test_what_a_browser_lacks_is_done_without(chromium, script, backend):
    with viewer(chromium) as seen:
        seen.start(script)
        seen.put("/a.gsimg", DATA)
        seen.show("/a.gsimg", SIZE, backend="auto" if script == IN_SOFTWARE else "webgl")
        seen.wait("load")
        assert seen.page.evaluate("window.image.back.kind") == backend
        assert difference(seen.pixels(), as_rgba(render(gaussians_of(DATA)))) < 0.5


def test_a_lost_context_is_made_up_for(seen):
    seen.put("/a.gsimg", DATA)
    seen.show("/a.gsimg", SIZE, backend="webgl")
    seen.wait("load")
    seen.page.evaluate("window.image.back.gl.getExtension('WEBGL_lose_context').loseContext()")
    seen.wait_for("window.image.back.kind === 'CPU'")
    assert difference(seen.pixels(), as_rgba(render(gaussians_of(DATA)))) < 0.5


def test_hands_move_the_view(seen):
    seen.put("/a.gsimg", DATA)
    seen.show("/a.gsimg", SIZE, zoomable="")
    seen.wait("load")

    def view() -> dict[str, float]:
        found: dict[str, float] = seen.page.evaluate("window.image.view")
        return found

    mouse, keys = seen.page.mouse, seen.page.keyboard
    mouse.move(50, 40)
    mouse.wheel(0, -300)
    seen.wait_for("window.image.view.step === 0.5")
    assert (view()["x"], view()["y"]) == (25, 20)  # the point below the mouse stays
    mouse.down()
    mouse.move(30, 30)
    mouse.up()
    assert (view()["x"], view()["y"]) == (35, 25)
    seen.page.locator("imagegs-image").focus()
    keys.press("ArrowRight")
    assert view()["x"] == 45
    keys.press("+")
    assert view()["step"] == pytest.approx(0.4)
    keys.press("0")
    assert view() == {"step": 1, "x": 0, "y": 0}
    mouse.dblclick(100, 75)
    assert view() == {"step": 0.5, "x": 50, "y": 37.5}


def test_two_fingers_zoom(chromium):
    with viewer(chromium, has_touch=True) as seen:
        seen.start()
        seen.put("/a.gsimg", DATA)
        seen.show("/a.gsimg", SIZE, zoomable="")
        seen.wait("load")
        session = seen.page.context.new_cdp_session(seen.page)
        for kind, spread in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", None)):
            points = [] if spread is None else [{"x": 100 - spread, "y": 75}, {"x": 100 + spread, "y": 75}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert seen.page.evaluate("window.image.view.step") == pytest.approx(1 / 3, rel=0.02)
        assert seen.page.evaluate("window.image.view.x") == pytest.approx(100 - 100 / 3, abs=2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_a_file(chromium, scheme):
    with viewer(chromium, color_scheme=scheme) as seen:
        seen.put("/a.gsimg", DATA)
        seen.page.goto(f"{seen.server.url}/index.html?src=a.gsimg")
        seen.wait_for("document.getElementById('which').textContent === '3 of 3'")
        facts = seen.page.inner_text("#facts")
        assert facts.startswith(f"{len(DATA):,} bytes")
        assert "200 × 150" in facts
        seen.page.locator("#level").fill("1")
        seen.wait_for("document.getElementById('which').textContent === '1 of 3'")
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(ground.split("(")[1].split(",")[0]) < 128) == (scheme == "dark")
        with seen.page.expect_download() as download:
            seen.page.click("#save")
        assert download.value.suggested_filename == "a.png"
        assert seen.errors == []


def test_the_page_takes_a_file_of_the_users(chromium, tmp_path):
    path = tmp_path / "mine.gsimg"
    path.write_bytes(DATA)
    with viewer(chromium) as seen:
        seen.page.goto(f"{seen.server.url}/index.html")
        assert not seen.page.is_visible("footer")
        seen.page.set_input_files("#file", path)
        seen.wait_for("document.getElementById('which').textContent === '3 of 3'")
        assert seen.page.inner_text("#name") == "mine.gsimg"
        assert seen.errors == []


def test_one_file_is_shown_by_its_command(chromium, tmp_path):
    path = tmp_path / "a b.gsimg"
    path.write_bytes(DATA)
    program = "import sys; from imagegs.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "lod", "view", str(path), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line.startswith(f"{path} at http://127.0.0.1:")
            page = chromium.new_page()
            page.goto(line.rpartition(" at ")[2])
            page.wait_for_function("document.getElementById('which').textContent === '3 of 3'")
            assert page.inner_text("#name") == "a b.gsimg"
            page.close()
        finally:
            process.terminate()


def test_a_page_with_a_file_can_be_written_for_any_server(chromium, tmp_path):
    path = tmp_path / "it's.gsimg"
    path.write_bytes(DATA)
    done = CliRunner().invoke(app, ["lod", "view", str(path), "-o", str(tmp_path / "site")])
    assert (done.exit_code, done.output.strip()) == (0, str(tmp_path / "site" / "index.html"))
    with viewer(chromium) as seen:
        for item in (tmp_path / "site").iterdir():
            seen.put(f"/{quote(item.name)}", item.read_bytes())
        seen.page.goto(f"{seen.server.url}/index.html")
        seen.wait_for("document.getElementById('which').textContent === '3 of 3'")
        assert seen.page.inner_text("#name") == "it's.gsimg"


@pytest.mark.parametrize("data", [None, b"", DATA[:100], b"no such file at all"])
def test_what_cannot_be_shown_is_not_served(tmp_path, data):
    path = tmp_path / "a.gsimg"
    if data is not None:
        path.write_bytes(data)
    done = CliRunner().invoke(app, ["lod", "view", str(path), "-o", str(tmp_path / "site")])
    assert isinstance(done.exception, ImageGSError)
    assert str(done.exception).startswith(f"{path}: ")
    assert not (tmp_path / "site").exists()


def test_a_folder_that_is_served_links_to_the_viewer(chromium, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a b.gsimg").write_bytes(DATA)
    server = make_server(make_app(tmp_path, viewer=page_files()))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            page = chromium.new_page()
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/more/")
            page.click("text=a b.gsimg")
            page.wait_for_function("document.getElementById('which')?.textContent === '3 of 3'")
            page.close()
        finally:
            server.should_exit = True
            thread.join()


def test_the_scripts_are_small():
    pytest.importorskip("minify", reason="tdewolff-minify, which shortens them, is not installed")
    scripts = {name: data for name, data in page_files().items() if name.endswith(".js")}
    assert set(scripts) == {"coding.js", "decode.js", "draw.js", "imagegs-image.js", "load.js"}
    assert sum(map(len, scripts.values())) < 40_000
