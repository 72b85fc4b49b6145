"""How far a picture is from its reference: PSNR, SSIM, MS-SSIM, LPIPS and FLIP.

- PSNR: over values as they are, peak 1.
- SSIM: Wang, Bovik, Sheikh and Simoncelli 2004, window 11 x 11 of sigma 1.5, at the places where the window lies inside
  the picture, per channel and then the mean. Own code on SciPy.
- MS-SSIM: Wang, Simoncelli and Bovik 2003, five scales, by `pytorch-msssim`.
- LPIPS: Zhang et al. 2018 (arXiv 1801.03924), version 0.1, by `lpips`.
- FLIP: Andersson et al. 2020, for displays of low dynamic range at 67 pixels per degree, mean of the map, by
  `flip-evaluator`.

All but PSNR cut values to [0, 1] first. The last three come from the optional packages ``imagegs[metrics]``; torch is
loaded by MS-SSIM and LPIPS alone.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .errors import DeviceError, ImageGSError, ShapeError
from .image import Mode, Picture, Plane

FloatArray = npt.NDArray[np.float32]
LpipsNet = Literal["alex", "vgg", "squeeze"]

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
MS_SSIM_SIDE = 161
"""Smallest side for MS-SSIM: its window must fit the picture at a sixteenth of its size."""
LPIPS_SIDE = 32
"""Smallest side for LPIPS, whose networks halve the picture up to five times."""

# per network: torchvision's name of the architecture and of its weights
_BACKBONES = {
    "alex": ("alexnet", "AlexNet_Weights"),
    "vgg": ("vgg16", "VGG16_Weights"),
    "squeeze": ("squeezenet1_1", "SqueezeNet1_1_Weights"),
}
_INSTALL = "pip install 'imagegs[metrics]'"


@dataclass(frozen=True)
class Missing:
    """A figure that cannot be had here.

    Attributes:
        reason: why, in one line.
    """

    reason: str


Score = float | Missing | None
"""A figure, why there is none, or None where it was not asked for."""


@dataclass(frozen=True)
class PlaneComparison:
    """The figures of one picture, or of one plane of a stack.

    A picture with transparency is judged as it looks: SSIM, MS-SSIM, LPIPS and FLIP are the means of two values, with
    the picture laid over black and over white. Of grey pictures LPIPS and FLIP get three equal channels.

    Attributes:
        name: file name inside a stack, empty for a single picture.
        psnr: decibels, over the colour channels as they are stored.
        psnr_composited: decibels, over the picture laid on black and on white; None without transparency.
        channels: decibels of each channel, alpha among them.
        ssim: at most 1, which is equal.
        ms_ssim: at most 1, which is equal.
        lpips: from 0, which is equal.
        flip: from 0, which is equal, to 1.
    """

    name: str
    psnr: float
    psnr_composited: float | None
    channels: Mapping[str, float]
    ssim: Score
    ms_ssim: Score
    lpips: Score
    flip: Score


@dataclass(frozen=True)
class Comparison:
    """How far a picture is from its reference.

    Attributes:
        reference: where the reference comes from.
        test: where the picture comes from.
        width: pixels.
        height: pixels.
        psnr: decibels, over all channels of all planes as they are stored.
        planes: one for a picture, one per file of a stack.
        lpips_net: the network of LPIPS, or None.
        notes: what was done so that the two can be compared.
    """

    reference: str
    test: str
    width: int
    height: int
    psnr: float
    planes: tuple[PlaneComparison, ...]
    lpips_net: LpipsNet | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: infinite decibels are "inf"; a missing figure is null, ``unavailable`` says why."""
        found = asdict(self)
        for plane, row in zip(self.planes, found["planes"], strict=True):
            unavailable = {}
            for name in ("ssim", "ms_ssim", "lpips", "flip"):
                score = getattr(plane, name)
                if isinstance(score, Missing):
                    row[name], unavailable[name] = None, score.reason
            row["unavailable"] = unavailable
        plain: dict[str, Any] = _plain(found)
        return plain


def psnr(reference: npt.ArrayLike, test: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio over all values.

    Args:
        reference: [C, H, W] floats, peak 1.
        test: the same shape.

    Returns:
        Decibels; infinity where both are equal.

    Raises:
        ShapeError: the shapes disagree.
    """
    return _decibels(float(np.mean(_squared_errors(*_pair(reference, test)))))


def psnr_per_channel(reference: npt.ArrayLike, test: npt.ArrayLike) -> tuple[float, ...]:
    """The PSNR of each channel; arguments and errors as of `psnr`."""
    return tuple(_decibels(float(error)) for error in _squared_errors(*_pair(reference, test)))


def ssim(reference: npt.ArrayLike, test: npt.ArrayLike) -> float:
    """Structural similarity, the mean over the channels.

    Args:
        reference: [C, H, W] floats, cut to [0, 1].
        test: the same shape.

    Returns:
        At most 1, which is equal.

    Raises:
        ShapeError: the shapes disagree, or a side is smaller than 11 pixels.
    """
    a, b = _pair(reference, test, smallest=SSIM_WINDOW, what="SSIM")
    return float(np.mean([_ssim_of_channel(x, y) for x, y in zip(_cut(a), _cut(b), strict=True)]))


def ms_ssim(reference: npt.ArrayLike, test: npt.ArrayLike) -> float:
    """Structural similarity over five scales, the mean over the channels.

    Args:
        reference: [C, H, W] floats, cut to [0, 1].
        test: the same shape.

    Returns:
        At most 1, which is equal.

    Raises:
        ShapeError: the shapes disagree, or a side is smaller than 161 pixels.
        DeviceError: the package is not installed.
    """
    a, b = _pair(reference, test, smallest=MS_SSIM_SIDE, what="MS-SSIM")
    try:
        import torch
        from pytorch_msssim import ms_ssim as measure
    except ImportError as error:
        raise DeviceError(f"MS-SSIM needs the package pytorch-msssim: {_INSTALL}") from error
    with torch.inference_mode():
        # in double precision, so that equal pictures give 1 and not nearly 1
        x, y = (torch.from_numpy(_cut(values).astype(np.float64))[None] for values in (a, b))
        return float(measure(x, y, data_range=1.0))


def lpips(
    reference: npt.ArrayLike,
    test: npt.ArrayLike,
    *,
    net: LpipsNet = "alex",
    weights_dir: str | Path | None = None,
) -> float:
    """Learned perceptual distance.

    Args:
        reference: [1, H, W] or [3, H, W] floats, cut to [0, 1]; grey is repeated.
        test: the same shape.
        net: the network that compares.
        weights_dir: folder with the network's weights: ``lpips_<net>_v0.1.npz``, whose arrays ``net.*`` are the
            ``features`` of torchvision's network and ``lin0``, ``lin1`` ... the heads, or torchvision's own
            ``alexnet*.pth``, ``vgg16*.pth`` or ``squeezenet1_1*.pth`` with the heads that come with the package.
            Without a folder torchvision's weights are downloaded at first use. Pickles are never run.

    Returns:
        From 0, which is equal.

    Raises:
        ShapeError: the shapes disagree, are no colours, or a side is smaller than 32 pixels.
        DeviceError: the packages or the weights are absent or damaged.
    """
    a, b = (_colors(values, "LPIPS") for values in _pair(reference, test, smallest=LPIPS_SIDE, what="LPIPS"))
    if net not in get_args(LpipsNet):
        raise ShapeError(f"LPIPS: expected one of the networks {', '.join(get_args(LpipsNet))}, found {net!r}")
    model = _lpips_model(net, None if weights_dir is None else Path(weights_dir))
    import torch

    with torch.inference_mode():
        x, y = (torch.from_numpy(values.copy())[None] for values in (a, b))
        return float(model(x, y, normalize=True))


def flip(reference: npt.ArrayLike, test: npt.ArrayLike) -> float:
    """Mean difference that an observer sees when two pictures alternate.

    Args:
        reference: [1, H, W] or [3, H, W] floats in sRGB, cut to [0, 1]; grey is repeated.
        test: the same shape.

    Returns:
        From 0, which is equal, to 1.

    Raises:
        ShapeError: the shapes disagree or are no colours.
        DeviceError: the package is not installed.
    """
    a, b = (_colors(values, "FLIP") for values in _pair(reference, test))
    try:
        import flip_evaluator
    except ImportError as error:
        raise DeviceError(f"FLIP needs the package flip-evaluator: {_INSTALL}") from error
    x, y = (np.ascontiguousarray(np.moveaxis(values, 0, -1)) for values in (a, b))
    _, mean, _ = flip_evaluator.evaluate(x, y, "LDR", applyMagma=False)
    return float(mean)


def compare(
    reference: Picture,
    test: Picture,
    *,
    lpips_net: LpipsNet | None = None,
    weights_dir: str | Path | None = None,
    flip: bool = True,
) -> Comparison:
    """Compare two pictures or two stacks in every way there is.

    Single pictures of unlike kind are brought together: grey is repeated where the other has colour, and what has no
    transparency counts as opaque. Stacks need the same kinds of planes, which are compared in their order.

    Args:
        reference: what it should be.
        test: what it is.
        lpips_net: the network of LPIPS, or None to leave it out.
        weights_dir: folder with its weights, see `lpips`.
        flip: whether to compute FLIP.

    Returns:
        The figures; one that cannot be had is a `Missing` with the reason.

    Raises:
        ShapeError: the sizes disagree, or the planes of stacks do.
    """
    sides = [f"{picture.source or 'picture'} with {picture.width} x {picture.height}" for picture in (reference, test)]
    if (reference.height, reference.width) != (test.height, test.width):
        raise ShapeError(f"compare: expected pictures of one size, found {sides[0]} and {sides[1]} pixels")
    planes, first, second, notes = _brought_together(reference, test)
    rows, start = [], 0
    for plane in planes:
        where = slice(start, start + plane.channels)
        rows.append(_compare_plane(plane, first[where], second[where], lpips_net, weights_dir, flip))
        start += plane.channels
    return Comparison(
        reference=reference.source,
        test=test.source,
        width=reference.width,
        height=reference.height,
        psnr=psnr(first, second),
        planes=tuple(rows),
        lpips_net=lpips_net,
        notes=notes,
    )


def _brought_together(
    reference: Picture, test: Picture
) -> tuple[tuple[Plane, ...], FloatArray, FloatArray, tuple[str, ...]]:
    planes, others = reference.info.planes, test.info.planes
    if [plane.channels for plane in planes] == [plane.channels for plane in others]:
        return planes, reference.pixels, test.pixels, ()
    if reference.info.stack or test.info.stack:
        found = [f"{len(info.planes)} with {info.channels} channels" for info in (reference.info, test.info)]
        raise ShapeError(f"compare: expected the same planes, found {found[0]} and {found[1]}")
    color = max(plane.channels - plane.alpha for plane in (planes[0], others[0])) > 1
    alpha = planes[0].alpha or others[0].alpha
    modes: dict[tuple[bool, bool], Mode] = {
        (False, False): "L",
        (False, True): "LA",
        (True, False): "RGB",
        (True, True): "RGBA",
    }
    mode = modes[color, alpha]
    arrays = []
    for picture in (reference, test):
        plane, pixels = picture.info.planes[0], picture.pixels
        own = pixels[: plane.channels - plane.alpha]
        parts = [np.repeat(own, 3, axis=0) if color and len(own) == 1 else own]
        if alpha:
            parts.append(pixels[-1:] if plane.alpha else np.ones_like(pixels[:1]))
        arrays.append(np.concatenate(parts))
    note = f"compared as {mode}: the reference is {planes[0].mode}, the other {others[0].mode}"
    return (Plane("", mode, 8),), arrays[0], arrays[1], (note,)


def _compare_plane(
    plane: Plane,
    reference: FloatArray,
    test: FloatArray,
    lpips_net: LpipsNet | None,
    weights_dir: str | Path | None,
    with_flip: bool,
) -> PlaneComparison:
    colors = plane.channels - plane.alpha
    if plane.alpha:
        views = [tuple(_over(pixels, ground) for pixels in (reference, test)) for ground in (0, 1)]
    else:
        views = [(reference, test)]

    def score(measure: Callable[..., float], **options: Any) -> Score:
        try:
            return float(np.mean([measure(a, b, **options) for a, b in views]))
        except ImageGSError as error:
            return Missing(str(error))

    composited = float(np.mean([np.mean(_squared_errors(a, b)) for a, b in views]))
    return PlaneComparison(
        name=plane.name,
        psnr=psnr(reference[:colors], test[:colors]),
        psnr_composited=_decibels(composited) if plane.alpha else None,
        channels=dict(zip(plane.letters, psnr_per_channel(reference, test), strict=True)),
        ssim=score(ssim),
        ms_ssim=score(ms_ssim),
        lpips=None if lpips_net is None else score(lpips, net=lpips_net, weights_dir=weights_dir),
        flip=score(flip) if with_flip else None,
    )


def _over(pixels: FloatArray, ground: float) -> FloatArray:
    """A picture with straight alpha laid on a grey ground."""
    alpha = pixels[-1:]
    return pixels[:-1] * alpha + np.float32(ground) * (1 - alpha)


def _pair(
    reference: npt.ArrayLike, test: npt.ArrayLike, *, smallest: int = 1, what: str = "PSNR"
) -> tuple[FloatArray, FloatArray]:
    arrays = []
    for name, value in (("reference", reference), ("test", test)):
        array = np.asarray(value)
        if array.ndim != 3 or array.dtype.kind != "f" or array.size == 0:
            raise ShapeError(f"{name}: expected floats [C, H, W], found {array.dtype} {list(array.shape)}")
        arrays.append(array.astype(np.float32, copy=False))
    a, b = arrays
    if a.shape != b.shape:
        raise ShapeError(f"test: expected the reference's shape {list(a.shape)}, found {list(b.shape)}")
    if min(a.shape[1:]) < smallest:
        raise ShapeError(
            f"{what}: expected sides of at least {smallest} pixels, found {a.shape[2]} x {a.shape[1]} pixels"
        )
    return a, b


def _cut(values: FloatArray) -> FloatArray:
    return np.clip(values, 0, 1)


def _colors(values: FloatArray, what: str) -> FloatArray:
    if values.shape[0] not in {1, 3}:
        raise ShapeError(f"{what}: expected 1 or 3 channels, found {values.shape[0]}")
    return np.repeat(_cut(values), 3 // values.shape[0], axis=0)


def _squared_errors(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """The mean squared error of each channel."""
    return np.array([np.mean(np.square(x.astype(np.float64) - y)) for x, y in zip(a, b, strict=True)])


def _decibels(error: float) -> float:
    return -10 * math.log10(error) if error > 0 else math.inf


def _ssim_of_channel(x: FloatArray, y: FloatArray) -> float:
    """Eq. 13 of Wang et al. 2004 with their constants, K1 = 0.01, K2 = 0.03, L = 1."""
    c1, c2 = 0.01**2, 0.03**2
    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b = _blurred(a), _blurred(b)
    both = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    covariance = _blurred(a * b) - both
    variances = _blurred(a * a + b * b) - squares
    return float(np.mean((2 * both + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))))


def _blurred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weighted means where the whole window lies inside."""
    from scipy.ndimage import correlate1d

    half = SSIM_WINDOW // 2
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / SSIM_SIGMA) ** 2)
    taps /= taps.sum()
    rows = correlate1d(values, taps, axis=0)[half:-half]
    blurred: npt.NDArray[np.float64] = correlate1d(rows, taps, axis=1)[:, half:-half]
    return blurred


@lru_cache(maxsize=2)
def _lpips_model(net: LpipsNet, folder: Path | None) -> Any:
    """The network with its weights; it is made empty and filled here, so that no pickle is ever run."""
    try:
        import lpips as package
        import torch
    except ImportError as error:
        raise DeviceError(f"LPIPS needs the packages lpips and torchvision: {_INSTALL}") from error
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        model = package.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    source, features, heads = _lpips_weights(net, folder)
    wanted: dict[str, Any] = {}
    for name, value in model.net.named_parameters():
        _, _, name_in_features = name.partition(".")  # slice3.7.expand1x1.weight: the layer 7 of ``features``
        wanted[name_in_features] = value, features.get(name_in_features)
    for index, layer in enumerate(model.lins):
        value = layer.model[-1].weight
        head = heads.get(f"lin{index}")
        wanted[f"lin{index}"] = value, None if head is None else head.reshape(1, -1, 1, 1)
    with torch.no_grad():
        for name, (value, given) in wanted.items():
            if given is None or given.shape != value.shape:
                found = "none" if given is None else list(given.shape)
                raise DeviceError(f"{source}: {name}: expected weights {list(value.shape)}, found {found}")
            value.copy_(given)
    return model.requires_grad_(False).eval()


def _lpips_weights(net: LpipsNet, folder: Path | None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Where the weights come from, those of ``features`` by torchvision's names, and those of the heads."""
    import torch

    stem, weights = _BACKBONES[net]
    if folder is not None:
        whole = folder / f"lpips_{net}_v0.1.npz"
        if whole.is_file():
            arrays = _load_npz(whole)
            features = {name.removeprefix("net."): value for name, value in arrays.items() if name.startswith("net.")}
            return str(whole), features, arrays
        found = sorted(folder.glob(f"{stem}*.pth")) if folder.is_dir() else []
        if not found:
            raise DeviceError(f"LPIPS: expected {whole.name} or {stem}*.pth in {folder}, found neither")
        source, state = str(found[0]), _load_state(found[0])
    else:
        url = getattr(import_module("torchvision.models"), weights).IMAGENET1K_V1.url
        try:
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except Exception as error:  # of the network, the disk or the hash: all mean that there are no weights
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"LPIPS: its weights cannot be downloaded from {url}: {reason}") from error
        source = url
    with_package = Path(str(files("lpips") / "weights" / "v0.1" / f"{net}.pth"))
    heads = {name.split(".")[0]: value for name, value in _load_state(with_package).items()}
    features = {name.removeprefix("features."): value for name, value in state.items()}
    return source, features, heads


def _load_npz(path: Path) -> dict[str, Any]:
    import torch

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DeviceError(f"{path}: expected NumPy arrays without pickles, found other contents") from error


def _load_state(path: Path) -> dict[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    except Exception as error:  # torch names no common class for what damaged files make it raise
        raise DeviceError(f"{path}: expected a file of weights, found other contents") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
