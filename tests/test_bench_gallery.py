"""`imagegs bench gallery`: one page that needs nothing else, whose pictures are those that its figures are of."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.bench import find_sources, run_table
from imagegs.bench import gallery as module
from imagegs.bench.anchors import to_pixels
from imagegs.bench.gallery import Gallery
from imagegs.cli import app
from imagegs.errors import ConfigError, ImageError
from imagegs.kernels import native
from imagegs.metrics import psnr, ssim

pytestmark = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")

SIZES = {"<b>wide": (96, 64), "tall": (48, 72)}
RATES = (0.6, 2.5)
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """Elements that stay open, every reference, and pictures with what is said of them by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.named: dict[str, dict[str, str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.references += [value for name, value in attrs if name in {"src", "href", "srcset"}]
        if "id" in values:
            assert values["id"] not in self.named
            self.named[values["id"]] = values
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery of two pictures at two rates, of which the smaller is below what some codecs can do."""
    folder = tmp_path_factory.mktemp("gallery")
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        y, x = np.mgrid[0:height, 0:width] + 3 * number
        waves = [127 + 90 * np.sin(x / (4 + channel) + y / 6) for channel in range(3)]
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(folder / f"{name}.png")
    sources = find_sources(folder)
    run = run_table(Gallery(RATES, 1), sources, folder / "out")
    text = (folder / "out" / "gallery-pictures.html").read_text(encoding="utf-8")
    return SimpleNamespace(folder=folder, sources=sources, run=run, text=text, page=Page(text))


def data_of(uri: str) -> bytes:
    kind, _, data = uri.partition(",")
    assert re.fullmatch(r"data:image/(webp|jpeg|avif);base64", kind)
    return base64.b64decode(data)


def test_the_page_holds_everything_in_itself(made):
    assert made.page.open == []
    assert made.page.references
    assert all(reference.startswith("data:image/") for reference in made.page.references)
    namespaces = "http://www.w3.org/2000/svg"
    assert not re.findall(r"https?:|//[a-z]+\.|@import|fetch\(|import ", made.text.replace(namespaces, ""))
    assert "<b>wide" not in made.text
    assert "&lt;b&gt;wide" in made.text


def test_every_picture_is_what_its_figures_say(made):
    cells = made.run.record["cells"]
    assert [(cell["picture"], cell["settings"]["bpp"]) for cell in cells] == [
        (source.name, rate) for source in made.sources for rate in RATES
    ]
    seen = 0
    for number, source in enumerate(made.sources, 1):
        original = to_pixels(data_of(made.page.named[f"{number}-original"]["src"]))
        assert np.array_equal(original, source.pixels)
        for cell in cells[2 * number - 2 : 2 * number]:
            limit = cell["codecs"]["ours"]["bytes"]
            for key, found in cell["codecs"].items():
                shown = made.page.named[f"{number}-{cell['settings']['bpp']:g}-{key}"]
                if "smallest" in found:
                    assert found["smallest"] > limit
                    assert f"its smallest has {found['smallest']:,}" in shown["data-none"]
                    continue
                data = data_of(shown["src"])
                pixels = to_pixels(data)
                assert pixels.shape == source.pixels.shape
                assert psnr(source.pixels, pixels) == pytest.approx(found["psnr"])
                assert ssim(source.pixels, pixels) == pytest.approx(found["ssim"])
                assert found["bytes"] <= limit
                assert found["bpp"] == pytest.approx(8 * found["bytes"] / source.count)
                assert shown["data-text"].startswith(f"{found['bytes']:,} bytes")
                if key in ("jpeg", "webp", "avif"):
                    assert len(data) == found["bytes"]
                seen += 1
    assert 8 < seen < 4 * len(made.run.record["summary"]["labels"])  # one at least is too small for JPEG


def test_the_record_and_the_words(made):
    folder = made.folder / "out"
    text = (folder / "gallery.json").read_text(encoding="utf-8")
    assert json.loads(text) == made.run.record
    assert "files" not in made.run.record["cells"][0]
    assert len(text) < 20_000
    assert [path.name for path in made.run.files] == ["gallery.json", "gallery.md", "gallery-pictures.html"]
    (low, high) = made.run.record["summary"]["rates"]
    assert low["means"]["ours"]["bytes"]["n"] == 2
    assert low["means"]["ours"]["psnr"]["mean"] < high["means"]["ours"]["psnr"]["mean"]
    ours = high["pictures"]["tall"]["ours"]
    figures = f"{ours['bytes']:,}, {ours['psnr']:.2f}, {ours['ssim']:.4f}"
    assert re.search(rf"^\| tall \| {figures} \| \d", made.run.markdown, re.MULTILINE)
    assert "none below" in made.run.markdown
    assert made.run.markdown.count("| **mean** |") == 2


def test_it_goes_on_where_it_was_stopped(made, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "encode", None)  # nothing is encoded anew
    again = run_table(Gallery(RATES, 1), made.sources, made.folder / "out")
    assert (again.measured, again.kept) == (0, 4)
    assert (made.folder / "out" / "gallery-pictures.html").read_text(encoding="utf-8") == made.text


def test_what_cannot_be_is_told(made, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="effort: expected 1 to 9, found 10"):
        Gallery(effort=10)
    monkeypatch.setattr(module, "LONGEST_SIDE", 80)
    run = run_table(Gallery((0.6,), 1), made.sources, tmp_path / "out")
    assert run.left_out == [
        "<b>wide, bpp 0.6, effort 1, seed 0: left out: expected sides of at most 80 pixels, WebP's limit, found 96"
    ]
    assert "found 96</p>" in (tmp_path / "out" / "gallery-pictures.html").read_text(encoding="utf-8")
    monkeypatch.setattr(module, "LONGEST_SIDE", 8)
    with pytest.raises(ImageError, match="gallery: expected figures of one cell at least, found none"):
        run_table(Gallery((0.6,), 1), made.sources, tmp_path / "none")


def test_the_command(made, tmp_path):
    words = ["bench", "gallery", str(made.sources[1].path), "-o", str(tmp_path / "out"), "--effort", "1"]
    done = CliRunner().invoke(app, [*words, "--bpp", "2", "--json"])
    record = json.loads(done.stdout)
    assert [cell["settings"]["bpp"] for cell in record["cells"]] == [2]
    assert record["files"][2].endswith("gallery-pictures.html")
    wrong = CliRunner().invoke(app, [*words, "--bpp", "0"])
    assert wrong.exit_code == 2
    assert "--bpp" in wrong.output


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright", reason="playwright is not installed")
    from viewer_browser import browser, find_browser

    if find_browser() is None:
        pytest.skip("there is no Chromium here")
    with browser() as found:
        yield found


@pytest.fixture
def opened(made, browser):
    """Opens the page as a file, with an address and options of the browser; its script may not fail."""
    errors, contexts = [], []

    def open_page(address: str = "", **options):
        context = browser.new_context(viewport={"width": 1000, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda asked: errors.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(f"{(made.folder / 'out' / 'gallery-pictures.html').as_uri()}{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def views(page) -> set[str]:
    """Where the pictures that are seen lie, and how large."""
    found = page.eval_on_selector_all(
        ".layer img", "(all) => all.filter((one) => one.offsetParent).map((one) => one.style.transform)"
    )
    return set(found)


def box_of(page, place: str) -> dict[str, float]:
    return page.locator(place).first.bounding_box()


def test_all_panes_show_the_same_part(opened):
    page = opened("#view=beside&rate=2.5")
    page.wait_for_function("[...document.querySelectorAll('#beside img')].every((one) => one.naturalWidth === 96)")
    (fitted,) = views(page)
    box = box_of(page, "#beside .frame")
    page.mouse.move(box["x"] + 40, box["y"] + 30)
    page.mouse.wheel(0, -700)
    page.wait_for_function("document.getElementById('panes').classList.contains('zoomed')")
    (zoomed,) = views(page)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 25, steps=2)
    page.mouse.up()
    (dragged,) = views(page)
    numbers = [[float(text) for text in re.findall(r"-?[\d.]+", view)] for view in (zoomed, dragged)]
    assert numbers[1] == pytest.approx(np.add(numbers[0], [-20, -5, 0]), abs=1)
    assert page.evaluate("getComputedStyle(document.querySelector('.layer img')).imageRendering") == "pixelated"
    page.keyboard.press("0")
    assert views(page) == {fitted}
    page.locator("#panes").focus()
    page.keyboard.press("+")
    (nearer,) = views(page)
    page.keyboard.press("ArrowRight")
    assert views(page) != {nearer}
    assert len(views(page)) == 1


def test_the_point_under_the_wheel_stays(opened):
    page = opened("#rate=2.5")
    box = box_of(page, "#divided .frame")
    before = page.locator("#divided img").first.bounding_box()
    point = (box["x"] + 0.45 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.move(*point)
    page.mouse.wheel(0, -300)
    page.wait_for_function("document.getElementById('panes').classList.contains('zoomed')")
    after = page.locator("#divided img").first.bounding_box()
    for axis, side, place in (("x", "width", point[0]), ("y", "height", point[1])):
        shares = [(place - found[axis]) / found[side] for found in (before, after)]
        assert shares[0] == pytest.approx(shares[1], abs=0.005)


def test_the_divider_takes_drags_and_keys(opened):
    page = opened("#left=original&right=webp&rate=2.5&at=25")
    (fitted,) = views(page)
    assert page.locator(".tag").all_inner_texts() == ["Original", "WebP"]
    box = box_of(page, "#divided .frame")
    line = box["x"] + box["width"] / 4
    assert box_of(page, ".line")["x"] == pytest.approx(line, abs=2)
    page.mouse.move(line, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(line + box["width"] / 4, box["y"] + 60, steps=3)
    page.mouse.up()
    assert box_of(page, ".line")["x"] == pytest.approx(line + box["width"] / 4, abs=3)
    value = float(page.locator("#divider").input_value())
    page.locator("#divider").press("ArrowRight")
    assert float(page.locator("#divider").input_value()) > value
    assert views(page) == {fitted}
    page.locator("#swap").click()
    assert page.locator(".tag").all_inner_texts() == ["WebP", "Original"]


def test_the_address_keeps_what_is_shown(opened):
    page = opened("#picture=2&rate=9&view=none&left=x&zoom=8&x=10&y=10&at=-4")
    page.locator("#rates button").last.click()
    page.wait_for_function("location.hash.includes('rate=2.5')")
    address = page.evaluate("location.hash")
    assert address.startswith("#picture=2&rate=2.5&view=divider&left=ours&right=jpeg&at=0&zoom=")
    assert page.locator("#pictures button[aria-pressed=true]").inner_text() == "tall"
    assert page.locator(".rate:visible h3").inner_text() == "tall, 2.5 bits per pixel"
    again = opened(address)
    assert views(again) == views(page)


def test_a_codec_without_a_file_says_so(opened):
    page = opened("#picture=2&rate=0.6&view=beside")
    shown = page.locator("#beside figure[data-codec=jpeg]")
    assert re.match(r"No file of \d+ bytes or fewer: its smallest has \d+", shown.locator("p").inner_text())
    assert not shown.locator("img").is_visible()


def test_nothing_is_wider_than_the_window_and_dark_is_dark(opened):
    page = opened("#view=beside", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        for button in page.locator("#views button").all():
            button.click()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_the_pictures_stand_below_one_another(opened, made):
    page = opened(java_script_enabled=False)
    assert not page.locator("#viewer").is_visible()
    pictures = page.locator(".plain img")
    assert pictures.count() == made.text.count("data-text=")
    assert all(picture.is_visible() for picture in pictures.all())
