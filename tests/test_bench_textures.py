"""`imagegs bench textures`: sets of maps are found and measured alike, and block formats code every kind of map."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagegs.bench import Outcome, blocks, decoded_cold, run_table, textures
from imagegs.bench.anchors import ANCHORS
from imagegs.bench.pictures import find_stacks
from imagegs.bench.textures import Textures, as_channels, centers, files_below, maps_of
from imagegs.cli import app
from imagegs.errors import ConfigError, ImageError
from imagegs.kernels import native

NEEDS_KERNELS = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def draw(folder: Path, size: tuple[int, int] = (50, 38), **modes: str) -> Path:
    """A map for each name, of this mode."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    for number, (name, mode) in enumerate(modes.items()):
        waves = [127 + 90 * np.sin(x / (9 + channel) + y / 11 + number) for channel in range(len(mode))]
        pixels = np.stack(waves, axis=-1).astype(np.uint8)
        Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    draw(tmp_path / "sets" / "stone", color="RGB", height="L")
    return tmp_path / "sets"


@pytest.fixture
def one_cold_decode(monkeypatch):
    monkeypatch.setattr(textures, "decoded_cold", lambda files, rounds: decoded_cold(files, 1))


@pytest.fixture
def without_packages(monkeypatch):
    find = importlib.util.find_spec
    absent = ("astc_encoder", "etcpak", "texture2ddecoder")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else find(name, *a))


def test_sets_are_folders_of_maps(folder):
    draw(folder / "deep" / "wood", color="RGB")
    draw(folder / ".hidden" / "moss", color="RGB")
    draw(folder / "out", plot="RGB")
    (folder / "empty").mkdir()
    assert [source.name for source in find_stacks(folder, without=folder / "out")] == ["wood", "stone"]
    assert [source.name for source in find_stacks(folder / "stone")] == ["stone"]
    assert [source.name for source in find_stacks(folder, limit=1)] == ["wood"]
    draw(folder / "other" / "stone", color="RGB")
    names = [source.name for source in find_stacks(folder, without=folder / "out")]
    assert names == ["wood", "other/stone", "stone"]


def test_a_set_is_all_its_channels_of_8_bits(folder):
    deep = np.arange(50 * 38, dtype=np.uint16).reshape(38, 50) * 34
    Image.fromarray(deep).save(folder / "stone" / "rough.png")
    (whole,), (part,) = find_stacks(folder), find_stacks(folder, side=20)
    assert whole.picture.info.channel_names == ("color.R", "color.G", "color.B", "height.L", "rough.L")
    assert np.allclose(whole.pixels[4], np.rint(deep / 65535 * 255) / 255)
    assert np.array_equal(part.pixels, whole.pixels[:, 9:29, 15:35])
    assert part.digest == f"{whole.digest}-20"
    assert [one.shape for one in maps_of(whole.picture)] == [(38, 50, 3), (38, 50, 1), (38, 50, 1)]
    assert np.array_equal(as_channels(maps_of(whole.picture)), whole.pixels)


def test_what_is_in_its_files_makes_a_set_another(folder):
    (first,) = find_stacks(folder)
    before = first.digest
    (folder / "stone" / "notes.txt").write_text("no map")
    assert find_stacks(folder)[0].digest == before
    (folder / "stone" / "height.png").rename(folder / "stone" / "gloss.png")
    assert find_stacks(folder)[0].digest != before


def test_folders_that_cannot_be_are_one_line(folder):
    with pytest.raises(ImageError, match="none: cannot be read: no such file or folder"):
        find_stacks(folder / "none")
    with pytest.raises(ConfigError, match=r"color\.png: expected a folder of maps, or of such folders, found a file"):
        find_stacks(folder / "stone" / "color.png")
    with pytest.raises(ConfigError, match="out: expected maps, or folders of maps, found none"):
        find_stacks(draw(folder / "out"))


def test_floating_point_maps_are_refused(folder):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(folder / "stone" / "depth.tif", np.ones((38, 50), np.float32))
    with pytest.raises(ImageError, match=r"depth\.tif: expected a map of 8 or 16 bits, found floating-point numbers"):
        _ = find_stacks(folder)[0].picture


@pytest.mark.parametrize("block", blocks.BLOCKS, ids=lambda block: block.key)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_block_format_codes_every_map(tmp_path, block, mode):
    if block.missing:
        pytest.skip(f"needs {block.missing}")
    draw(tmp_path / "set", color=mode)
    one = np.asarray(Image.open(tmp_path / "set" / "color.png")).reshape(38, 50, len(mode))
    count, found = block.code(one)
    assert found.shape == one.shape
    error = np.mean((found.astype(float) - one) ** 2, axis=(0, 1))
    assert np.all(error < (200 if block.key.startswith("astc-1") or block.key == "bc1" else 40)), error
    side = int(block.key.removeprefix("astc-")) if block.key.startswith("astc") else 4
    size = {"bc1": 8 * (1 + (mode in ("LA", "RGBA")))}.get(block.key, 16)
    assert count == -(-38 // side) * -(-50 // side) * size


def test_of_bc1_the_better_encoder_counts_block_by_block():
    etcpak, decoder = pytest.importorskip("etcpak"), pytest.importorskip("texture2ddecoder")
    one = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    four = np.concatenate([one, np.full((32, 32, 1), 255, np.uint8)], axis=2)
    back = decoder.decode_bc1(etcpak.compress_bc1(four.tobytes(), 32, 32), 32, 32)
    alone = np.frombuffer(back, np.uint8).reshape(32, 32, 4)[..., [2, 1, 0]]
    best = blocks.bc1(one)[1]
    squares = [np.square(found.astype(float) - one).reshape(8, 4, 8, 4, 3).sum((1, 3, 4)) for found in (best, alone)]
    assert np.all(squares[0] <= squares[1])
    assert squares[0].sum() < squares[1].sum()


def test_files_are_the_best_of_no_more_bytes(folder):
    (source,) = find_stacks(folder)
    jpeg = next(anchor for anchor in ANCHORS if anchor.key == "jpeg-444")
    sizes = [textures._coded("jpeg-444", source, rung)[0] for rung in range(len(jpeg.ladder))]
    found = files_below(jpeg, source, sizes[40])
    assert sizes[39] <= found["bytes"] <= sizes[40]
    assert found["bits"] == pytest.approx(8 * found["bytes"] / (4 * 38 * 50))
    assert files_below(jpeg, source, sizes[90])["psnr"] > found["psnr"]
    assert files_below(jpeg, source, 100) is None


def test_texels_have_their_centres():
    assert np.allclose(centers(2, 4)[1, 2], [2.5 / 4, 1.5 / 2])


@NEEDS_KERNELS
@pytest.mark.usefixtures("one_cold_decode")
def test_the_table(folder, tmp_path):
    pytest.importorskip("astc_encoder")
    run = run_table(Textures((1.0, 2.0), 1, quick=True), find_stacks(folder), tmp_path / "out")
    (one,) = run.record["summary"]["sets"]
    assert (one["maps"], one["channels"], one["height"], one["width"]) == (2, 4, 38, 50)
    ours = {(row["blend"], row["rate"]): row for row in one["ours"]}
    assert len(ours) == 4
    for (blend, rate), row in ours.items():
        assert row["bits"] == pytest.approx(8 * row["bytes"] / (4 * 38 * 50))
        assert row["bits"] <= rate
        assert row["multiply_adds"] == pytest.approx(8 * row["looked"] + 5 * row["taken"] + 4)
        assert row["taken"] <= (10 if blend == "topk" else row["looked"])
        assert row["texel_ns"] > 0
        assert all(found is None or found["bytes"] <= row["bytes"] for found in row.get("files", {}).values())
    assert ours["normalized", 1.0]["psnr"] < ours["normalized", 2.0]["psnr"]
    assert ours["normalized", 1.0]["resident_bits"] > ours["normalized", 1.0]["bits"]
    assert [row["key"] for row in one["blocks"]] == list(textures.QUICK_BLOCKS)
    assert "**stone**: 2 maps, 4 channels, 50 x 38 pixels" in run.markdown
    assert "Sets: stone." in run.markdown
    assert {"textures-stone.svg", "textures-stone.png"} <= {path.name for path in run.files}
    again = run_table(Textures((1.0, 2.0), 1, quick=True), find_stacks(folder), tmp_path / "out")
    assert (again.measured, again.kept) == (0, run.measured)
    settings = [[cell.settings for cell in Textures((1.0,), effort).plan(find_stacks(folder))] for effort in (1, 2)]
    assert sum(one in settings[1] for one in settings[0]) == len(Textures().blocks)  # which have no effort


def outcomes_of(table, sources):
    """Ours gains 10 dB for every factor of ten in bits, from 30 dB at 0.1; ASTC 4 x 4 takes 4 bits for 35 dB."""
    size = {"maps": 1, "channels": 1, "height": 8, "width": 8, "bytes": 1}
    costs = ("gaussians", "looked", "taken", "multiply_adds", "texel_ns", "resident_bits", "encode_ms", "cold_ms")
    found = []
    for cell in table.plan(sources):
        figures = {**size, "bits": 4.0, "psnr": 35.0 if cell.settings["method"] == "astc-4" else 60.0, "code_ms": 1.0}
        if cell.settings["method"] == "imagegs":
            rate = cell.settings["rate"]
            figures = {**size, "bits": rate, "psnr": 40 + 10 * float(np.log10(rate)), **dict.fromkeys(costs, 1)}
            if cell.settings["blend"] == "normalized":
                best = {"bytes": 1, "bits": 0.5 * rate, "psnr": figures["psnr"] + 1, "quality": 100}
                figures["files"] = {"avif-444": best, "jpeg-444": None, "webp": None}
        found.append(Outcome(cell, figures))
    return found


def test_times_ours_is_told_where_the_qualities_meet(folder):
    pytest.importorskip("astc_encoder")
    table = Textures((0.1, 0.3, 1.0))
    summary = table.summarize(outcomes_of(table, find_stacks(folder)))
    times = {row["key"]: row["times_ours"] for row in summary["sets"][0]["blocks"]}
    assert times["astc-4"] == pytest.approx(4 / 10**-0.5)
    assert times["astc-12"] is None
    page = table.write(summary)
    assert "| ASTC 4 x 4 | 4.00 | 35.00 | 12.6 |" in page
    assert "| ASTC 12 x 12 | 4.00 | 60.00 | – |" in page
    assert "| 0.1 | 30.00 | 30.00 | **31.00** at 0.05 | – | – |" in page  # a loss, with the fewer bits it takes
    (figure,) = table.draw(summary).values()
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["imagegs", "imagegs, K = 10", "AVIF", "ASTC", *([] if len(times) < 7 else ["BC1, BC4", "BC7"])]
    assert [text.get_text() for text in figure.axes[0].texts][:2] == ["4 x 4", "5 x 5"]


@pytest.mark.usefixtures("without_packages")
def test_packages_that_are_absent_are_one_line_each(folder):
    table = Textures()
    assert table.notes == [
        "Left out: ASTC 4 x 4; ASTC 5 x 5; ASTC 6 x 6; ASTC 8 x 8; ASTC 10 x 10; ASTC 12 x 12: expected the package "
        "astc-encoder-py, found none: pip install 'imagegs[bench]'.",
        "Left out: BC1, BC4; BC7: expected the package etcpak, found none: pip install 'imagegs[bench]'.",
        "Left out: BC1, BC4; BC7: expected the package texture2ddecoder, found none: pip install 'imagegs[bench]'.",
    ]
    sources = find_stacks(folder)
    assert {cell.settings["method"] for cell in table.plan(sources)} == {"imagegs"}
    summary = table.summarize(outcomes_of(table, sources))
    assert "block format" not in table.write(summary)
    assert len(table.draw(summary)) == 1


@NEEDS_KERNELS
@pytest.mark.usefixtures("without_packages", "one_cold_decode")
def test_the_command(folder, tmp_path):
    given = ["bench", "textures", str(folder), "-o", str(tmp_path / "out"), "--rates", "1", "--effort", "1"]
    shown = CliRunner().invoke(app, [*given, "--threads", "1"])
    assert shown.exit_code == 0, shown.output
    assert "2 cells measured, 0 were there" in shown.output
    assert "expected the package astc-encoder-py, found none" in shown.output
    record = json.loads(CliRunner().invoke(app, [*given, "--threads", "1", "--json"]).stdout)
    assert record["table"] == "textures"
    assert [cell["settings"]["blend"] for cell in record["cells"]] == ["normalized", "topk"]
    empty = CliRunner().invoke(app, ["bench", "textures", str(draw(tmp_path / "no")), "-o", str(tmp_path / "out")])
    assert isinstance(empty.exception, ConfigError)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--rates", "-1"], "expected numbers above 0"), (["--effort", "10"], "Input should be less than or equal to 9")],
)
def test_wrong_usage_is_told(folder, tmp_path, words, message):
    found = CliRunner().invoke(app, ["bench", "textures", str(folder), "-o", str(tmp_path / "out"), *words])
    assert found.exit_code == 2
    assert message in " ".join(found.output.split())
    with pytest.raises(ConfigError, match="effort: expected 1 to 9, found 0"):
        Textures(effort=0)
