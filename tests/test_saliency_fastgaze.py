"""FastGaze: the published file and its twin, against recorded outputs and the network written with torch's layers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from imagegs.apps.saliency import fastgaze
from PIL import Image
from torch import nn

from imagegs import WeightsError

SHARED = Path(__file__).parents[2] / "shared"
REFERENCE = SHARED / "weights" / "fastgaze_reference.npz"
PICTURES = SHARED / "data" / "saliency"

pytestmark = pytest.mark.usefixtures("one_torch_thread")
needs_weights = pytest.mark.skipif(not REFERENCE.is_file(), reason="the folder ../shared with the weights is absent")

# channels after each convolution of a small network of the same kind; "max" halves
SMALL = [5, 4, "max", 6, "max", 4, "max", 5, "max", 3, 2, 1]


def small_layers() -> list[dict[str, object]]:
    """Random layers as plain data: 3 x 3 with ReLU, then 1 x 1 with a slope, then the blur."""
    rng, inputs, layers = np.random.default_rng(5), 3, list[dict[str, object]]()
    for place, outputs in enumerate(SMALL):
        if outputs == "max":
            layers.append({"type": "maxpool", "k": 2})
            continue
        k, slope = (3, None) if place < 9 else (1, np.float32(0.2 + place / 40))
        weight = rng.normal(0, 1 / np.sqrt(inputs * k * k), (outputs, inputs, k, k)).astype(np.float32)
        bias = rng.normal(0, 0.3, outputs).astype(np.float32)
        layers.append({"type": "conv", "k": k, "w": weight, "b": bias, "alpha": slope})
        inputs = outputs
    return [*layers, {"type": "gaussian", "k": 19, "sigma": 3}]


def write_npz(path: Path, layers: list[dict[str, object]]) -> Path:
    arrays, rows = {}, []
    for place, layer in enumerate(layers):
        row = {key: value for key, value in layer.items() if key in ("type", "k", "sigma")}
        if layer["type"] == "conv":
            arrays |= {f"{place}.w": layer["w"], f"{place}.b": layer["b"]}
            row["act"] = "relu" if layer["alpha"] is None else "prelu"
            if layer["alpha"] is not None:
                arrays[f"{place}.alpha"] = layer["alpha"]
        rows.append(row)
    np.savez(path, layers_json=json.dumps(rows), **arrays)
    return path


def array_entries(name: str, values: npt.ArrayLike) -> dict[str, bytes]:
    array = np.asarray(values, "<f4")
    array = array.reshape(array.shape or (1,))
    return {
        name: array.tobytes(),
        f"{name}.dtype": b"float32",
        f"{name}.ndims": struct.pack("<i", array.ndim),
        f"{name}.shape": struct.pack(f"<{array.ndim}i", *array.shape),
    }


def entries_of(layers: list[dict[str, object]]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for place, layer in enumerate(layers):
        if layer["type"] == "conv":
            act = 1 if layer["alpha"] is None else 4
            found |= {f"{place}Act": struct.pack("<i", act), f"{place}Type": struct.pack("<i", 0)}
            found |= array_entries(f"{place}w", layer["w"]) | array_entries(f"{place}b", layer["b"])
            if layer["alpha"] is not None:
                found |= array_entries(f"{place}alpha", layer["alpha"])
        elif layer["type"] == "maxpool":
            found |= {f"{place}Pool": struct.pack("<i", layer["k"]), f"{place}Type": struct.pack("<i", 2)}
        else:
            found |= {f"{place}KernelSize": struct.pack("<i", layer["k"]), f"{place}Type": struct.pack("<i", 3)}
            found |= {f"{place}Std": struct.pack("<i", layer["sigma"])}
    return found | {"layerCount": struct.pack("<i", len(layers)), "modelType": struct.pack("<i", 2)}


def packed(entries: dict[str, bytes], count: int | None = None) -> bytes:
    parts = [b"\x01tPM", struct.pack("<I", len(entries) if count is None else count)]
    for name, value in sorted(entries.items()):
        named = name.encode() + b"\0"
        parts += [struct.pack("<I", len(named)), named, struct.pack("<I", len(value)), value]
    return b"".join(parts)


def independent(layers: list[dict[str, object]], pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The network by torch's own modules in double precision, the blur as a matrix product over mirrored edges."""
    steps: list[nn.Module] = []
    for layer in layers[:-1]:
        if layer["type"] == "maxpool":
            steps.append(nn.MaxPool2d(2))
            continue
        outputs, inputs, k, _ = np.shape(layer["w"])
        convolution = nn.Conv2d(inputs, outputs, k, padding=k // 2)
        convolution.load_state_dict({"weight": torch.from_numpy(layer["w"]), "bias": torch.from_numpy(layer["b"])})
        steps += [convolution, nn.ReLU() if layer["alpha"] is None else nn.PReLU(init=float(layer["alpha"]))]
    with torch.inference_mode():
        values = nn.Sequential(*steps).double()(torch.from_numpy(pixels.astype(np.float64))[None])[0, 0].numpy()
    for axis in (0, 1):
        length = values.shape[axis]
        matrix = np.zeros((length, length))
        window = np.exp(-(np.arange(-9, 10) ** 2) / 18)
        mirrored = [*range(length), *reversed(range(length))]
        for row in range(length):
            for step, share in zip(range(-9, 10), window / window.sum(), strict=True):
                matrix[row, mirrored[(row + step) % (2 * length)]] += share
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values


@needs_weights
@pytest.mark.parametrize("ending", ["vxm", "npz"])
@pytest.mark.parametrize("name", ["mit1003_i1031604161", "salicon_123891"])
def test_the_recorded_outputs_are_reproduced(ending, name):
    with np.load(REFERENCE) as arrays:
        expected = arrays[name]
    rgb = np.moveaxis(np.asarray(Image.open(PICTURES / "images" / f"{name}.png").convert("RGB")), -1, 0)
    layers = fastgaze.read_layers(SHARED / "weights" / f"fastgaze.{ending}")
    found = fastgaze.log_density(rgb.astype(np.float32) / 255, layers)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-6


@needs_weights
def test_maps_agree_with_where_people_looked():
    predict, scores = fastgaze.load(SHARED / "weights"), []
    for path in sorted((PICTURES / "fixations").glob("*_density.png")):
        name = path.name.removesuffix("_density.png")
        rgb = np.moveaxis(np.asarray(Image.open(PICTURES / "images" / f"{name}.png").convert("RGB")), -1, 0) / 255
        density = np.asarray(Image.open(path), float).ravel()
        scores.append(float(np.corrcoef(density, predict(rgb.astype(np.float32)).ravel())[0, 1]))
    assert len(scores) >= 9
    assert np.mean(scores) > 0.55


@pytest.mark.parametrize("ending", ["vxm", "npz"])
@pytest.mark.parametrize(("height", "width", "seen"), [(30, 60, (320, 640)), (61, 40, (640, 416))])
def test_the_network_is_what_its_layers_say(tmp_path, ending, height, width, seen):
    layers = small_layers()
    path = tmp_path / f"fastgaze.{ending}"
    if ending == "npz":
        write_npz(path, layers)
    else:
        path.write_bytes(packed(entries_of(layers)))
    image = Image.fromarray(np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8))
    resized = np.asarray(image.resize(seen[::-1], Image.Resampling.BICUBIC), np.float32)
    blue_green_red = resized[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    expected = independent(layers, np.ascontiguousarray(np.moveaxis(blue_green_red, -1, 0)))
    rgb = np.moveaxis(np.asarray(image), -1, 0).astype(np.float32) / np.float32(255)
    found = fastgaze.log_density(rgb, fastgaze.read_layers(path))
    assert found.shape == (seen[0] // 16, seen[1] // 16)
    assert np.std(expected) > 0.1
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("center", [True, False])
def test_any_size_of_picture(tmp_path, center):
    (tmp_path / "fastgaze.vxm").write_bytes(packed(entries_of(small_layers())))
    predict = fastgaze.load(tmp_path, center=center)
    for height, width in ((1, 1), (1, 90), (700, 3), (33, 47), (400, 900)):
        rgb = np.random.default_rng(4).random((3, height, width), dtype=np.float32)
        found = predict(rgb)
        assert found.shape == (height, width)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1
        assert np.array_equal(found, predict(rgb))


def test_the_centre_prior_is_a_quarter_of_each_side_wide(tmp_path):
    layers = small_layers()
    for layer in layers:
        if layer["type"] == "conv":
            layer["w"] = np.zeros_like(layer["w"])
    (tmp_path / "fastgaze.vxm").write_bytes(packed(entries_of(layers)))
    found = fastgaze.load(tmp_path)(np.zeros((3, 480, 640), np.float32))
    y, x = ((np.arange(side) + 0.5 - side / 2) / (side / 4) for side in (480, 640))
    expected = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    expected = (expected - expected.min()) / np.ptp(expected)
    assert np.abs(found - expected).max() < 0.03
    assert np.ptp(fastgaze.load(tmp_path, center=False)(np.zeros((3, 480, 640), np.float32))) == 0


def test_the_twin_is_taken_where_the_published_file_is_absent(tmp_path):
    with pytest.raises(WeightsError, match="imagegs weights fetch fastgaze"):
        fastgaze.load(tmp_path)
    write_npz(tmp_path / "fastgaze.npz", small_layers())
    assert fastgaze.load(tmp_path)(np.zeros((3, 5, 6), np.float32)).shape == (5, 6)


@pytest.mark.parametrize("step", [1, 997])
def test_a_file_cut_anywhere_is_refused(tmp_path, step):
    whole = packed(entries_of(small_layers()))
    path = tmp_path / "fastgaze.vxm"
    lengths = range(0, 400) if step == 1 else range(400, len(whole), step)
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"fastgaze\.vxm: "):
            fastgaze.read_layers(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(WeightsError, match=r"expected \d+ entries, found \d+ names and 1 bytes more$"):
        fastgaze.read_layers(path)


def test_damaged_files_say_where(tmp_path):
    path = tmp_path / "fastgaze.vxm"
    good = entries_of(small_layers())

    def refused(message: str, changes: dict[str, bytes | None]) -> None:
        entries = {name: value for name, value in (good | changes).items() if value is not None}
        path.write_bytes(packed(entries))
        with pytest.raises(WeightsError, match=message):
            fastgaze.read_layers(path)

    refused("expected an entry '3b', found none", {"3b": None})
    refused("0w: expected 4 bytes for each of .*, found 8", {"0w": b"12345678"})
    refused(r"0w: expected float32 with 4 dimensions, found \(b'float64', 4, 16\)", {"0w.dtype": b"float64"})
    refused("0Type: expected 0, 2 or 3, found 9", {"0Type": struct.pack("<i", 9)})
    refused("0Act: expected 1 or 4, found 0", {"0Act": struct.pack("<i", 0)})
    refused("0Act: expected 4 bytes, found 2", {"0Act": b"\1\0"})
    refused("layer 2: expected a window, found -2 pixels", {"2Pool": struct.pack("<i", -2)})
    refused("layer 12: expected a window, found 2147483647 pixels", {"12KernelSize": struct.pack("<i", 2**31 - 1)})
    refused("layer 12: expected a window, found 19 pixels with sigma 0", {"12Std": struct.pack("<i", 0)})
    refused("expected 1 channel at 1/16 at the end, found 1 at 1/24", {"2Pool": struct.pack("<i", 3)})
    refused("expected 1 channel at 1/16 at the end, found 3 at 1/1", {"layerCount": struct.pack("<i", -4)})
    refused("expected an entry '13Type', found none", {"layerCount": struct.pack("<i", 2**31 - 1)})
    refused("layer 0: expected finite weights", array_entries("0b", np.full(5, np.nan)))
    refused(
        r"layer 1: expected weights \[n, 5, k, k\], k odd, .*found \[4, 6, 3, 3\]",
        array_entries("1w", np.ones((4, 6, 3, 3))),
    )
    refused("10alpha: expected 1 number, found 2", array_entries("10alpha", [0.1, 0.2]))
    path.write_bytes(b"PK\3\4 and so on")
    with pytest.raises(WeightsError, match=r"expected a file that begins with b'\\x01tPM', found b'PK"):
        fastgaze.read_layers(path)
    path.write_bytes(packed(good, count=2**32 - 1))
    with pytest.raises(WeightsError, match=r"the length of the name of entry .* claims 4 bytes, 0 remain"):
        fastgaze.read_layers(path)
    with pytest.raises(WeightsError, match="cannot be read: no such file"):
        fastgaze.read_layers(tmp_path / "absent.vxm")


def test_an_archive_with_pickles_is_refused(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    path = tmp_path / "fastgaze.npz"
    np.savez(path, **{"0.w": np.array([Trap()], dtype=object)}, allow_pickle=True)
    with pytest.raises(WeightsError, match=r"fastgaze\.npz: "):
        fastgaze.read_layers(path)
    assert not (tmp_path / "sprung").exists()
    for contents in (b"", b"PK\3\4broken", b"nothing of the kind"):
        path.write_bytes(contents)
        with pytest.raises(WeightsError, match=r"fastgaze\.npz: "):
            fastgaze.read_layers(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"900.w": np.zeros((1, 1, 1, 1))}, r"expected arrays 0\.w, 0\.b and so on, found 9 of 901 places"),
        ({"3.b": None}, r"expected 3\.w with 4 dimensions, 3\.b and one slope at most"),
        ({"3.w": np.zeros((6, 4))}, r"expected 3\.w with 4 dimensions"),
        ({"11.alpha": np.zeros(3)}, r"expected 11\.w with 4 dimensions, 11\.b and one slope at most"),
        ({"5.w": None, "5.b": None}, r"layer 7: expected weights \[n, 6, k, k\]"),
    ],
)
def test_a_damaged_twin_says_where(tmp_path, changes, message):
    path = write_npz(tmp_path / "fastgaze.npz", small_layers())
    with np.load(path) as arrays:
        changed = {name: value for name, value in (dict(arrays) | changes).items() if value is not None}
    np.savez(path, **changed)
    with pytest.raises(WeightsError, match=message):
        fastgaze.read_layers(path)
