"""The viewer's decoder, in JavaScript, against the one in C++: every symbol of every file, whole, in pieces and cut."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lattice_samples import Ranges, sample

import apps.lod
from imagegs.codec import Decoder, Payload, write_levels
from imagegs.codec.codings import find
from imagegs.codec.fields import checksum
from imagegs.errors import FormatError
from imagegs.gaussians import Gaussians2D
from imagegs.kernels import native

if not native.available():
    pytest.skip("the compiled kernels are not built", allow_module_level=True)
if shutil.which("node") is None:
    pytest.skip("there is no node here; the tests of the browser decode as well", allow_module_level=True)

from test_pages import WRONG, in_pages, paged
from test_stream_contexts import COUNTS, encoded, scattered

from imagegs.codec.entropy import BlockEncoder
from imagegs.codec.lattice import Lattice, LatticeSymbols

VIEWER = Path(apps.lod.__file__).parent / "viewer"
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.gsimg"))
MANY = 1 << 41
"""Pixels: no limit."""


def by_script(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the script finds in each file."""
    command = ["node", str(Path(__file__).with_name("viewer_symbols.mjs")), str(VIEWER / "decode.js")]
    done = subprocess.run(command, input=json.dumps(tasks), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def numbers(found: dict[str, Any], name: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(found[name]), np.float32)


def symbols_of(data: bytes) -> np.ndarray:
    """Rows of symbols, from C++, in the order of the table."""
    decoder = Decoder(max_pixels=MANY)
    decoder.feed(data)
    assert decoder.chunks is not None
    assert decoder.header is not None
    coding, blocks, found = find(decoder.header.quantizer), {}, []
    for chunk in decoder.chunks:
        if chunk.kind != 1 or not chunk.count:
            continue
        if chunk.block not in blocks:
            blocks[chunk.block] = coding.decoder(decoder.quantizer, decoder.header.blocks.box(chunk.block))
        part = blocks[chunk.block].decode(data[chunk.offset : chunk.end], chunk.count)
        if isinstance(part, LatticeSymbols):
            columns = [part.shape, part.colors]
        else:
            columns = [part.positions, part.scales, part.rotations[:, None], part.colors]
        found.append(np.concatenate(columns, axis=1).astype(np.int64))
    return np.concatenate(found) if found else np.zeros((0, 0), np.int64)


def assert_same_numbers(found: dict[str, Any], gaussians: Gaussians2D) -> None:
    assert found["count"] == len(gaussians)
    for name in ("means", "rotations", "background"):
        assert numbers(found, name).tobytes() == getattr(gaussians, name).tobytes(), name
    for name in ("scales", "colors"):  # the last bit of the double is not specified
        np.testing.assert_allclose(numbers(found, name), getattr(gaussians, name).ravel(), rtol=2e-7, atol=1e-7)


def assert_same_file(found: dict[str, Any], data: bytes) -> None:
    decoder = Decoder(max_pixels=MANY)
    decoder.feed(data)
    assert (found.get("error"), found["missing"], found["size"]) == (None, "", len(data))
    assert found["level"] == decoder.level
    expected = symbols_of(data)
    assert np.array(found["symbols"], np.int64).reshape(expected.shape).tolist() == expected.tolist()
    assert_same_numbers(found, decoder.gaussians())
    header, chunks = decoder.header, decoder.chunks
    assert header is not None
    assert chunks is not None
    assert (found["width"], found["height"], found["blend"]) == (header.width, header.height, header.blend)
    for one, other in zip(found["chunks"], chunks, strict=True):
        assert one == {name: getattr(other, name) for name in one}


def random_file(seed: int) -> bytes:
    """One of up to three levels, with any steps, on any canvas."""
    random = np.random.default_rng(seed)

    def wide(low: int, high: int) -> int:
        return int(np.exp(random.uniform(np.log(low), np.log(high))))

    channels = int(random.integers(1, 6))
    triples = (int(random.integers(0, channels - 2)),) if channels > 2 and seed % 2 else ()
    steps = [wide(1, 1 << 20) for _ in range(4)]
    lattice = Lattice(wide(512, 1 << 19), *steps, tuple(wide(1, 1 << 24) for _ in range(channels)), triples)
    box = (0, 0, wide(1, 1 << 20), wide(1, 1 << 20))
    encoder, payloads = BlockEncoder(lattice, box), []
    for level in range(seed % 3 + 1):
        limits = Ranges(wide(1, 1 << 19), wide(1, 1 << 20), wide(1, 1 << 24), int(random.choice([0, 0, 1, 5])))
        symbols = sample(seed + level, lattice, box, wide(1, 300), limits)
        payloads.append(Payload(encoder.encode(symbols)[0], len(symbols), level))
    canvas = {"width": box[2], "height": box[3], "background": np.zeros(channels, np.float32)}
    return write_levels(payloads, quantizer=lattice, **canvas)


def crowded_file() -> bytes:
    """One with so many Gaussians in one place that lending ends early, and a level that looks back at some only."""
    lattice, box = Lattice(4096, 300, 1500, 1500, 1500, (9000,) * 3, (0,)), (0, 0, 200, 150)
    crowd = sample(5, lattice, box, 3000, Ranges(color=30))
    crowd.shape[:, :2] = 9, 14
    crowd.shape[:, 2] = lattice.angles(crowd.shape[:, 0], crowd.shape[:, 1]) // 4
    encoder = BlockEncoder(lattice, box)
    levels = [crowd, sample(6, lattice, box, 3), sample(7, lattice, box, 900)]
    payloads = [Payload(encoder.encode(level)[0], len(level), k) for k, level in enumerate(levels)]
    return write_levels(payloads, quantizer=lattice, width=200, height=150, background=np.zeros(3, np.float32))


def written(folder: Path, files: list[bytes]) -> list[dict[str, Any]]:
    """A task for each."""
    tasks = []
    for k, data in enumerate(files):
        path = folder / f"{k}.gsimg"
        path.write_bytes(data)
        tasks.append({"file": str(path), "maxPixels": MANY})
    return tasks


def test_decoders_agree_on_files_of_every_kind(tmp_path):
    files = [path.read_bytes() for path in GOLDEN]
    files += [encoded(scattered(), COUNTS, shift) for shift in (0, 6)]
    files += [in_pages(files[-1], page_entries) for page_entries in (1, 3, 4096)]
    files += [crowded_file(), *(random_file(seed) for seed in range(90))]
    for found, data in zip(by_script(written(tmp_path, files)), files, strict=True):
        assert_same_file(found, data)


@pytest.mark.parametrize("page_entries", [None, 3])
def test_pieces_of_any_size_give_the_same(tmp_path, page_entries):
    data = encoded(scattered(), COUNTS, 6)
    data = data if page_entries is None else in_pages(data, page_entries)
    (task,) = written(tmp_path, [data])
    random = np.random.default_rng(1)
    cuts = [[*sorted(random.integers(0, len(data), 40).tolist()), len(data)] for _ in range(4)]
    cuts.append([*range(1, len(data)), len(data)])
    for found in by_script([{**task, "cuts": cut} for cut in cuts]):
        assert_same_file(found, data)
        assert found["news"] > len(COUNTS)


@pytest.mark.parametrize(("shift", "page_entries"), [(0, None), (6, None), (6, 2)])
def test_cut_files_show_the_same_and_say_so(tmp_path, shift, page_entries):
    data = encoded(scattered(), COUNTS, shift)
    data = data if page_entries is None else in_pages(data, page_entries)
    (task,) = written(tmp_path, [data])
    lengths = [*range(0, len(data), 37 if page_entries is None else 5), len(data) - 1]
    for length, found in zip(lengths, by_script([{**task, "cuts": [n]} for n in lengths]), strict=True):
        decoder = Decoder()
        decoder.feed(data[:length])
        if decoder.level < 0:
            assert found["kind"] == "truncated", found
            assert f"found {length}" in found["error"]
            continue
        assert f"expected {len(data)} bytes, found {length}" in found["missing"]
        assert f"up to {decoder.level} are whole" in found["missing"]
        assert_same_numbers(found, decoder.gaussians(partial=True))


def refused(data: bytes) -> str:
    """How Python refuses a file, or nothing."""
    try:
        decoder = Decoder()
        decoder.feed(data)
        decoder.gaussians()
        decoder.finish()
    except FormatError as error:
        return type(error).__name__
    return ""


def test_damaged_files_are_refused_alike(tmp_path):
    grey = (Path(__file__).parent / "golden" / "grey.gsimg").read_bytes()
    assert int.from_bytes(grey[73:77], "little") == checksum(grey[:73])
    random = np.random.default_rng(2)
    files = [b"", b"\x89PNG\r\n\x1a\n" + bytes(20), grey + b"x", grey[:8] + b"\1\0" + grey[10:], grey[:-1] + b"\x81"]
    for at in range(10, 73):  # heads with right checksums whose fields are wrong
        for value in {0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256))}:
            head = bytearray(grey[:73])
            head[at] = value
            files.append(bytes(head) + checksum(bytes(head)).to_bytes(4, "little") + grey[77:])
    contexts = encoded(scattered(), COUNTS, 6)
    for at in random.integers(0, len(contexts), 60):
        damaged = bytearray(contexts)
        damaged[at] ^= 1 << int(random.integers(8))
        files.append(bytes(damaged))
    files += [paged(), paged(minor=2), *(paged(**changes) for changes, _ in WRONG)]
    files += [
        paged(inner={"extra": b"new", "after": b"more"}, first={"extra": b"new"}, minor=minor) for minor in (1, 2)
    ]
    contexts = in_pages(contexts, 3)
    for at in random.integers(0, len(contexts), 90):
        damaged = bytearray(contexts)
        damaged[at] ^= 1 << int(random.integers(8))
        files.append(bytes(damaged))
    kinds = {kind: f"{kind.capitalize()}Error" for kind in ("format", "version", "checksum", "truncated")}
    tasks = [{**task, "maxPixels": 1 << 28} for task in written(tmp_path, files)]
    for data, found in zip(files, by_script(tasks), strict=True):
        assert kinds.get(found.get("kind", ""), "") == refused(data), (data, found)
        assert "\n" not in found.get("error", "")


def test_payloads_of_noise_are_refused_or_decoded_alike(tmp_path):
    lattice, random = Lattice(4096, 300, 1500, 1500, 1500, (9000,) * 3, (0,)), np.random.default_rng(4)
    canvas = {"width": 64, "height": 48, "background": np.zeros(3, np.float32)}
    files = [
        write_levels([Payload(random.bytes(int(n)), count)], quantizer=lattice, **canvas)
        for count in (1, 2, 5, 20)
        for n in random.integers(8, 120, 30)
    ]
    outcomes = set()
    for data, found in zip(files, by_script(written(tmp_path, files)), strict=True):
        outcomes.add(refused(data))
        assert ("error" in found) == bool(refused(data)), (found.get("error"), refused(data))
        if "error" not in found:
            assert_same_file(found, data)
    assert outcomes == {"", "FormatError"}
