"""EML-NET against the published architecture, written again here from torchvision's ResNet-50."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from imagegs import DeviceError, WeightsError

pytest.importorskip("timm", reason="the optional package timm is not installed")
models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")

from imagegs.apps.saliency import emlnet  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CHANNELS = (64, 256, 512, 1024, 2048)
# of values in (0, 1); the two implementations differ in the order of a few sums
TOLERANCE = 1e-6


def readout(channels: int, last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 1, kernel_size=3, padding=1), nn.BatchNorm2d(1), last)


class PublishedEncoder(nn.Module):
    """ResNet-50 as torchvision has it, without its end, five read-outs and the unused combination of them."""

    def __init__(self) -> None:
        super().__init__()
        whole = models.resnet50(weights=None)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, name, getattr(whole, name))
        for place, channels in enumerate(CHANNELS):
            setattr(self, f"output{place}", readout(channels, nn.ReLU()))
        self.combined = readout(5, nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        found = [self.output0(x)]
        x = self.maxpool(x)
        for place in range(1, 5):
            x = getattr(self, f"layer{place}")(x)
            found.append(getattr(self, f"output{place}")(x))
        return found


class PublishedDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.img_model = nn.ModuleList([readout(1, nn.ReLU()) for _ in range(5)])
        self.pla_model = nn.ModuleList([readout(1, nn.ReLU()) for _ in range(5)])
        self.combined = readout(10, nn.Sigmoid())

    def forward(self, img: list[torch.Tensor], pla: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        maps = [self.img_model[k](img[k]) for k in range(5)] + [self.pla_model[k](pla[k]) for k in range(5)]
        return self.combined(torch.cat([F.interpolate(values, size=size, mode="nearest") for values in maps], dim=1))


class Published(nn.Module):
    """All three networks with random weights and running statistics that are not those of a new layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.img, self.pla, self.dec = PublishedEncoder(), PublishedEncoder(), PublishedDecoder()
            layers = [layer for layer in self.modules() if isinstance(layer, nn.BatchNorm2d)]
            for layer in layers:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0.2, 0.1)
                layer.momentum = 1.0
            # statistics of real activations keep all read-outs alive; then they are made to differ from those
            with torch.no_grad():
                self.train()(torch.rand(2, 3, 96, 128))
            for layer in layers:
                layer.running_mean += 0.1 * torch.randn_like(layer.running_mean)
                layer.running_var *= torch.empty_like(layer.running_var).uniform_(0.7, 1.4)
        self.eval().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dec(self.img(x), self.pla(x), (x.shape[-2], x.shape[-1]))


def saved(state: dict[str, Any], path: Path, nested: bool, prefixed: bool) -> Path:
    state = {f"module.{name}" if prefixed else name: value for name, value in state.items()}
    torch.save({"epoch": 9, "state_dict": state} if nested else state, path)
    return path


@pytest.fixture(scope="module")
def published() -> Published:
    return Published()


@pytest.fixture(scope="module")
def folder(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three files, the encoders in the two extreme ways they are found."""
    base = tmp_path_factory.mktemp("weights")

    old = {name: value for name, value in published.img.state_dict().items() if "num_batches_tracked" not in name}
    old["fc.weight"], old["fc.bias"] = torch.zeros(1000, 2048), torch.zeros(1000)
    saved(old, base / "res_imagenet.pth", nested=False, prefixed=False)
    saved(published.pla.state_dict(), base / "res_places.pth", nested=True, prefixed=True)
    saved(published.dec.state_dict(), base / "res_decoder.pth", nested=True, prefixed=False)
    return base


@pytest.fixture(scope="module")
def network(folder: Path) -> emlnet.EmlNet:

    return emlnet.EmlNet.from_files(*(folder / f"res_{part}.pth" for part in ("imagenet", "places", "decoder")))


@pytest.mark.parametrize("size", [(96, 128), (65, 97)])
def test_the_network_is_the_published_one(published, network, size):
    pictures = torch.from_numpy(np.random.default_rng(1).random((2, 3, *size), dtype=np.float32))
    with torch.inference_mode():
        expected, found = published(pictures), network(pictures)
        encoded = [
            (theirs, ours)
            for one, other in ((published.img, network.imagenet), (published.pla, network.places))
            for theirs, ours in zip(one(pictures), other(pictures), strict=True)
        ]
    assert found.shape == (2, 1, *size)
    assert float(expected.std()) > 0.01
    assert float((found - expected).abs().max()) < TOLERANCE
    for theirs, ours in encoded:
        assert float(theirs.std()) > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_map_is_processed_as_published(published, folder):
    torchvision = pytest.importorskip("torchvision.transforms", reason="torchvision is not installed")
    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 256, (30, 47, 3), dtype=np.uint8)).resize(
        (470, 300), Image.Resampling.BICUBIC
    )
    steps = torchvision.Compose([torchvision.Resize((480, 640)), torchvision.ToTensor()])
    with torch.inference_mode():
        raw = published(steps(image)[None])[0, 0].numpy().astype(np.float64)
    blurred = gaussian_filter(raw, 5)
    expected = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    predict = emlnet.load(folder)
    rgb = np.moveaxis(np.asarray(image), -1, 0).astype(np.float32) / np.float32(255)
    found = predict(rgb)
    assert found.shape == (300, 470)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)
    small = np.asarray(Image.fromarray(expected.astype(np.float32)).resize((470, 300), Image.Resampling.BILINEAR))
    assert np.abs(found - (small - small.min()) / np.ptp(small)).max() < 1e-4
    assert np.array_equal(found, predict(rgb))


def test_any_size_of_picture(network, monkeypatch):
    monkeypatch.setattr(emlnet, "WORKING_SIZE", (48, 64))
    monkeypatch.setattr(emlnet.EmlNet, "from_files", lambda *files: network)
    monkeypatch.setattr(emlnet, "file_of", lambda *names: Path("unused"))
    predict = emlnet.load()
    for height, width in ((1, 1), (1, 90), (70, 2), (5, 7), (120, 64)):
        found = predict(np.random.default_rng(4).random((3, height, width), dtype=np.float32))
        assert found.shape == (height, width)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1


def test_making_the_network_leaves_the_random_numbers_of_torch_alone():
    before = torch.get_rng_state()
    emlnet.EmlNet()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefixed", [False, True])
def test_every_way_a_checkpoint_is_wrapped(published, tmp_path, nested, prefixed):
    path = saved(published.dec.state_dict(), tmp_path / "res_decoder.pth", nested, prefixed)
    decoder = emlnet._Decoder()
    emlnet._load_into(decoder, path)
    for name, value in published.dec.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(decoder.state_dict()[name], value), name


def test_wrong_checkpoints_say_which_tensors(published, folder, tmp_path):
    decoder = emlnet._Decoder()
    state = published.dec.state_dict()
    missing = {name: value for name, value in state.items() if not name.startswith("pla_model.0.0")}
    path = saved(missing, tmp_path / "a.pth", nested=True, prefixed=False)
    with pytest.raises(
        WeightsError,
        match=r"a\.pth: expected \d+ tensors by name, 2 missing: pla_model\.0\.0\.weight, pla_model\.0\.0\.bias$",
    ):
        emlnet._load_into(decoder, path)
    path = saved(
        {**state, "combined.0.weight": torch.zeros(1, 5, 3, 3)}, tmp_path / "b.pth", nested=False, prefixed=True
    )
    with pytest.raises(
        WeightsError, match=r"b\.pth: .* 1 differ: combined\.0\.weight \[1, 5, 3, 3\] in place of \[1, 10, 3, 3\]$"
    ):
        emlnet._load_into(decoder, path)
    path = saved({**state, "combined.1.bias": torch.tensor([np.nan])}, tmp_path / "c.pth", nested=False, prefixed=False)
    with pytest.raises(
        WeightsError, match=r"c\.pth: expected finite numbers, 1 tensors hold others: combined\.1\.bias$"
    ):
        emlnet._load_into(decoder, path)
    torch.save({"state_dict": {}}, tmp_path / "d.pth")
    with pytest.raises(WeightsError, match=r"d\.pth: expected tensors by name, found none$"):
        emlnet._load_into(decoder, tmp_path / "d.pth")
    files = [folder / f"res_{part}.pth" for part in ("decoder", "places", "decoder")]
    message = (
        r"res_decoder\.pth: expected \d+ tensors by name, \d+ missing: conv1\.weight, bn1\.weight, bn1\.bias, \.\.\.$"
    )
    with pytest.raises(WeightsError, match=message):
        emlnet.EmlNet.from_files(*files)


def test_absent_weights_name_the_command(tmp_path):
    with pytest.raises(WeightsError, match="imagegs weights fetch emlnet"):
        emlnet.load(tmp_path)


def test_a_pickle_that_wants_to_run_is_refused(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"state_dict": {"combined.0.weight": Trap()}}, tmp_path / "res_decoder.pth")
    with pytest.raises(WeightsError, match=r"res_decoder\.pth"):
        emlnet._load_into(emlnet._Decoder(), tmp_path / "res_decoder.pth")
    assert not (tmp_path / "sprung").exists()


def test_without_timm(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DeviceError, match=r"expected timm, which is not installed; pip install 'imagegs\[saliency\]'"):
        emlnet.EmlNet()
