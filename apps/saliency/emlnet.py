"""EML-NET: where people look, by two ResNet-50 encoders and a small decoder.

```
            ┌ encoder "imagenet": ResNet-50 ─ five read-outs ┐
picture ────┤                                                ├─ decoder: ten 3 x 3, to one size, 10 -> 1, sigmoid ─ map
480 x 640   └ encoder "places":   ResNet-50 ─ five read-outs ┘
```

Source: Jia and Bruce, "EML-NET: An Expandable Multi-Layer NETwork for saliency prediction", arXiv 1805.01047. The
backbone is timm's ResNet-50, whose names are torchvision's, so that the published `res_imagenet.pth`, `res_places.pth`
and `res_decoder.pth` load as they are. Their repository states no licence: see `weights/README.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from imagegs.pretrained import file_of, load_state_dict

from .maps import FloatArray, Predictor, resize, stretch
from .networks import fill, required, resized_bytes, unwrapped

NAME = "emlnet"
"""Entry of the weights' manifest."""
WORKING_SIZE = (480, 640)
"""Height and width, pixels, of what the network sees."""
SIGMA = 5.0
"""Standard deviation, pixels of the working size, of the authors' last blur."""
STEPS = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")
READOUTS = {"act1": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
"""After which steps of the backbone a map is read out, and of how many channels."""


def _readout(inputs: int, last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 1, 3, padding=1), nn.BatchNorm2d(1), last)


class _Encoder(nn.Module):
    """A picture [B, 3, H, W] -> five maps [B, 1, h, w], after the stem (1/2) and after layers 1 to 4 (1/4 to 1/32)."""

    def __init__(self) -> None:
        super().__init__()
        backbone = required("timm").create_model("resnet50", pretrained=False, num_classes=0)
        for step in STEPS:
            self.add_module(step, backbone.get_submodule(step))
        for place, channels in enumerate(READOUTS.values()):
            self.add_module(f"output{place}", _readout(channels, nn.ReLU()))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        values, maps = pictures, list[Tensor]()
        for step in STEPS:
            values = self.get_submodule(step)(values)
            if step in READOUTS:
                maps.append(self.get_submodule(f"output{len(maps)}")(values))
        return maps


class _Decoder(nn.Module):
    """Ten maps of five sizes -> one [B, 1, H, W] in (0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.img_model = nn.ModuleList(_readout(1, nn.ReLU()) for _ in READOUTS)
        self.pla_model = nn.ModuleList(_readout(1, nn.ReLU()) for _ in READOUTS)
        self.combined = _readout(2 * len(READOUTS), nn.Sigmoid())

    def forward(self, imagenet: Sequence[Tensor], places: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        heads = [*self.img_model, *self.pla_model]
        maps = [head(values) for head, values in zip(heads, [*imagenet, *places], strict=True)]
        combined: Tensor = self.combined(torch.cat([F.interpolate(values, size) for values in maps], dim=1))
        return combined


class EmlNet(nn.Module):
    """The published network: pictures [B, 3, H, W] in [0, 1], no mean taken off -> maps [B, 1, H, W] in (0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        # timm fills new modules with random numbers, which the caller's seed must not notice
        with torch.random.fork_rng(devices=[]):
            self.imagenet, self.places, self.decoder = _Encoder(), _Encoder(), _Decoder()

    @classmethod
    def from_files(cls, imagenet: Path, places: Path, decoder: Path) -> EmlNet:
        """The network with its published weights, ready to predict.

        Args:
            imagenet: `res_imagenet.pth`: bare or ``{"state_dict": ...}``, names with or without ``module.``.
            places: `res_places.pth`, of the same kind.
            decoder: `res_decoder.pth`, of the same kind.

        Raises:
            DeviceError: timm is not installed.
            WeightsError: a file is damaged or of another network; it says which tensors.
        """
        network = cls()
        for part, path in ((network.imagenet, imagenet), (network.places, places), (network.decoder, decoder)):
            _load_into(part, path)
        return network.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Predict at the size of the pictures; the published weights expect 480 x 640."""
        size = (int(pictures.shape[-2]), int(pictures.shape[-1]))
        maps: Tensor = self.decoder(self.imagenet(pictures), self.places(pictures), size)
        return maps


def _load_into(part: nn.Module, path: Path) -> None:
    fill(part, unwrapped(load_state_dict(path), str(path)), str(path))


def load(folder: Path | None = None) -> Predictor:
    """EML-NET with its published weights.

    The picture is rounded to 8 bits and stretched to 480 x 640 by Pillow's bilinear filter, which is what torchvision's
    `Resize` does to a picture of Pillow. The map is processed as in the authors' script, a Gaussian of 5 pixels at that
    size (1 % of its height), then moved to [0, 1]; last it is resized to the picture. Official Image-GS resizes
    first and blurs with 20 pixels whatever the size of the picture, so there a large picture gets a sharper map.

    Args:
        folder: of the weights; by default the environment's or the user's cache.

    Returns:
        The predictor: [3, H, W] in [0, 1] -> [H, W] in [0, 1].

    Raises:
        DeviceError: timm is not installed.
        WeightsError: the files are absent, damaged or of another network.
    """
    files = [file_of(NAME, f"res_{part}.pth", folder) for part in ("imagenet", "places", "decoder")]
    network = EmlNet.from_files(*files)

    def predict(rgb: FloatArray) -> FloatArray:
        seen = resized_bytes(rgb, WORKING_SIZE).astype(np.float32) / np.float32(255)
        with torch.inference_mode():
            found = network(torch.from_numpy(np.ascontiguousarray(np.moveaxis(seen, -1, 0)))[None])[0, 0].numpy()
        blurred = stretch(gaussian_filter(found.astype(np.float64), SIGMA))
        return stretch(resize(blurred, (rgb.shape[1], rgb.shape[2])))

    return predict
