"""The report: one page that needs nothing else, with the figures of the file."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import imagegs
from imagegs.errors import ImageError
from imagegs.figures import json_text, measure, rows
from imagegs.report import LONGEST_SIDE, render_page, write_report


@pytest.fixture
def encoded(photo):
    return imagegs.encode(photo, gaussians=40, steps=20, preset="fast")


class Page(HTMLParser):
    """Every reference, and whether every element that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.references += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "input", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def picture_of(reference: str) -> np.ndarray:
    kind, _, data = reference.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_page_holds_everything_in_itself(encoded, tmp_path):
    page = write_report(tmp_path / "report", encoded, measure(encoded), "imagegs encode photo.png")
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.references) == 5
    assert all(reference.startswith("data:image/") for reference in parsed.references)
    assert not re.search(r"url\(|@import|<link|https?://", text)
    assert sorted(path.name for path in page.parent.iterdir()) == ["index.html", "report.json"]


def test_the_pictures_are_the_picture_and_what_the_file_decodes_to(encoded, photo):
    original, result, *_ = Page(render_page(encoded, measure(encoded), "")).references
    np.testing.assert_array_equal(picture_of(original), np.asarray(Image.open(photo)))
    decoded = np.round(255 * np.clip(imagegs.decode(encoded.data).pixels, 0, 1)).transpose(1, 2, 0)
    assert np.abs(picture_of(result) - decoded).max() <= 1


def test_the_figures_are_those_of_the_file(encoded):
    figures = measure(encoded)
    assert figures["bytes"] == len(encoded.data)
    assert figures["bpp"] == 8 * len(encoded.data) / (64 * 48)
    assert 0 < figures["ssim"] < 1
    assert figures["ms_ssim"] is None  # 48 rows are too few for its five scales
    assert figures["unavailable"]["ms_ssim"]
    table = dict(rows(figures))
    assert table["size of the file"] == f"{len(encoded.data):,} bytes"
    assert table["MS-SSIM"].startswith("not measured: ")
    texts = Page(render_page(encoded, figures, "")).texts
    assert set(table) | set(table.values()) <= set(texts)


def test_the_settings_are_shown_and_nothing_is_markup(encoded):
    picture = dataclasses.replace(encoded.picture, source="<b>&.png", notes=("a <script> note",))
    hostile = dataclasses.replace(encoded, picture=picture)
    text = render_page(hostile, measure(hostile), "imagegs encode '<b>&.png' -o \"x\"")
    parsed = Page(text)
    assert "<b>&.png" in parsed.texts
    assert "Note: a <script> note." in parsed.texts
    assert "imagegs encode '<b>&.png' -o \"x\"" in parsed.texts
    assert text.count("<script") == 1  # the page's own
    assert "seed" in parsed.texts


def test_a_large_picture_is_shown_smaller(encoded):
    wide = np.zeros((3, 2, LONGEST_SIDE + 100), np.float32)
    large = dataclasses.replace(
        encoded, picture=dataclasses.replace(encoded.picture, pixels=wide), decoded=wide + np.float32(0.5)
    )
    text = render_page(large, measure(encoded), "")
    assert picture_of(Page(text).references[0]).shape[:2] == (2, LONGEST_SIDE)
    assert "Original, shown at 95 % of its size" in text


def test_a_stack_shows_each_of_its_pictures(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    for name, mode in (("ao.png", "L"), ("base.png", "RGBA")):
        Image.linear_gradient("L").resize((40, 30)).convert(mode).save(folder / name)
    encoded = imagegs.encode(folder, gaussians=20, steps=5, preset="fast")
    parsed = Page(render_page(encoded, measure(encoded), ""))
    assert {"ao.png", "base.png"} <= set(parsed.texts)
    assert [picture_of(parsed.references[index]).ndim for index in (0, 4)] == [2, 3]


def test_json_holds_the_same_and_is_json(encoded, tmp_path):
    figures = measure(encoded)
    write_report(tmp_path / "report", encoded, figures, "command")
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert data["command"] == "command"
    assert data["history"] == json.loads(json_text({"rows": figures["history"]}))["rows"]
    assert json.loads(json_text({"a": [float("inf"), -float("inf")], "b": (1, None)})) == {
        "a": ["inf", "-inf"],
        "b": [1, None],
    }


def test_a_folder_that_cannot_be_made(encoded, tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        write_report(tmp_path / "missing" / "report", encoded, measure(encoded), "")
    assert list(tmp_path.glob("missing*")) == []
