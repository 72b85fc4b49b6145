"""What a vision transformer trained without labels looks at: the DINO family of timm.

```
picture ─ long side scaled, sides to multiples of the patch ─ transformer ─ last block: queries q, keys k of every patch
                                              attention: softmax(q_class k^T), mean of the heads, blurred by a patch
                                              features:  patches alike by their keys ─ graph ─ second eigenvector
```

Sources: DINO (Caron et al., arXiv 2104.14294), whose class token attends to objects; DINOv2 (arXiv 2304.07193) with
registers (arXiv 2309.16588), which take over what else stands out in single patches; DINOv3 (arXiv 2508.10104). That
the heads of DINO resemble human gaze: Yamamoto, Akahoshi and Kitazawa, arXiv 2410.22768. The cut of the graph: TokenCut
(Wang et al., arXiv 2202.11539).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from imagegs import ConfigError, WeightsError
from imagegs.pretrained import file_of, load_state_dict

from .maps import FloatArray, Predictor, resize, stretch
from .networks import fill, required, resized_bytes, unwrapped

Method = Literal["attention", "features"]
DEFAULT = "vit_small_patch16_224.dino"
FILE = "model.safetensors"
SIDE = 640
"""Pixels of a picture's long side at most, as the network sees it, before it is rounded to patches."""
SMALLEST_SIDE = 224
"""Smaller pictures are enlarged to it: the transformers were trained at 224 pixels or more."""
LARGEST_SIDE = 4096
ALIKE = 0.2
"""Patches whose keys have a larger cosine are joined in the graph (TokenCut's threshold)."""
UNLIKE = 1e-5
"""Weight of the other edges, which keeps the graph in one piece."""
LARGEST_GRAPH = 2048
"""Patches of the graph; a finer grid is averaged by halves, since the time rises with the third power."""


def load(
    name: str = DEFAULT,
    method: Method = "attention",
    folder: Path | None = None,
    weights: Path | None = None,
    side: int = SIDE,
) -> Predictor:
    """A transformer of timm with its weights.

    Args:
        name: one of timm's vision transformers with a class token, with the tag of its weights:
            ``vit_small_patch16_224.dino``, ``vit_small_patch14_reg4_dinov2.lvd142m``,
            ``vit_small_patch16_dinov3.lvd1689m`` and their larger relatives.
        method: ``attention`` of the class token, or the cut of a graph of ``features``.
        folder: of the weights; by default the environment's or the user's, then the hub's own cache.
        weights: a file of the weights instead, with timm's or the authors' names.
        side: pixels of the long side at most; the aspect ratio stays.

    Returns:
        The predictor: [3, H, W] in [0, 1] -> [H, W] in [0, 1]; for one thread at a time.

    Raises:
        ConfigError: the name, the method or the side is not known.
        DeviceError: timm is not installed.
        WeightsError: the weights are absent, damaged or of another network; it says which tensors.
    """
    _check_options(method, side)
    model = create(name)
    path = file_of(name, FILE, folder) if weights is None else Path(weights)
    fill(model, _renamed(load_state_dict(path), model, path), str(path))
    return predictor(model, method, side)


def create(name: str) -> nn.Module:
    """The transformer without its weights, for pictures of any size.

    Raises:
        ConfigError: timm knows no such model, or it is no transformer with a class token.
        DeviceError: timm is not installed.
    """
    timm = required("timm")
    # a name with a slash or a colon would make timm ask a server for it
    if not set("/:").isdisjoint(name) or not timm.is_model(name):
        raise ConfigError(f"vit: expected the name of a model of timm such as {DEFAULT}, found {name!r}")
    try:
        # timm fills new modules with random numbers, which the caller's seed must not notice
        with torch.random.fork_rng(devices=[]):
            model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    except (RuntimeError, TypeError) as error:  # an unknown tag; an architecture without this option
        raise ConfigError(f"vit: expected a vision transformer of timm with a tag it knows, found {name!r}") from error
    _last_attention(model)
    return model


def predictor(model: nn.Module, method: Method = "attention", side: int = SIDE) -> Predictor:
    """A transformer of timm, its weights loaded, as a source of importance.

    Args:
        model: made for pictures of any size (``dynamic_img_size=True``).
        method: see `load`.
        side: see `load`.

    Raises:
        ConfigError: the method is not known, the side is out of range or the model has no class token.
    """
    _check_options(method, side)
    _last_attention(model)
    model.eval().requires_grad_(False)

    def predict(rgb: FloatArray) -> FloatArray:
        pictures = _prepared(model, rgb, side)
        attention, keys = look(model, pictures)
        rows, columns = _grid(model, pictures)
        if method == "attention":
            grid = gaussian_filter(attention.mean(0).reshape(rows, columns).numpy().astype(np.float64), 1.0)
        else:
            grid = cut(keys.reshape(rows, columns, -1).numpy())
        return stretch(resize(stretch(grid), (rgb.shape[1], rgb.shape[2])))

    return predict


def _check_options(method: str, side: int) -> None:
    if method not in get_args(Method):
        raise ConfigError(f"vit method: expected one of {', '.join(get_args(Method))}, found {method!r}")
    if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise ConfigError(f"vit side: expected {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, found {side}")


def look(model: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """What the last block attends to, computed from its own queries and keys, whether it fuses its attention or not.

    Args:
        model: a transformer of timm with a class token.
        pictures: [1, 3, H, W], normalised, sides multiples of the patch.

    Returns:
        The share that each patch has of each head's attention of the class token [heads, patches], which is less than
        1 together because the class token and registers have theirs; and the keys of the patches, before any rotary
        embedding [patches, heads x dimensions].
    """
    attention, seen = _last_attention(model), _Seen()
    handles = [
        attention.register_forward_pre_hook(seen.note_rope, with_kwargs=True),
        # these two modules see queries and keys whatever the projections and biases before them
        attention.get_submodule("q_norm").register_forward_hook(seen.note_queries),
        attention.get_submodule("k_norm").register_forward_hook(seen.note_keys),
    ]
    try:
        with torch.inference_mode():
            model(pictures)
    finally:
        for handle in handles:
            handle.remove()
    prefix = int(model.num_prefix_tokens)  # type: ignore[arg-type]
    keys = seen.keys[0]
    turned = keys if seen.rope is None else _turned(attention, keys, seen.rope)
    # the class token comes first and is never rotated
    logits = seen.queries[0, :, :1] @ turned.transpose(-2, -1) * float(attention.scale)  # type: ignore[arg-type]
    return logits.softmax(-1)[:, 0, prefix:], keys[:, prefix:].transpose(0, 1).flatten(1)


def cut(keys: npt.NDArray[Any]) -> FloatArray:
    """Objects as the smaller part of a normalised cut through the graph of patches.

    Source: TokenCut, arXiv 2202.11539: edges of 1 between patches whose keys have a cosine above 0.2, of 1e-5 between
    the others; the eigenvector of the second smallest eigenvalue of the normalised Laplacian; the patch of largest
    magnitude belongs to the object, which settles the sign without labels. Here the eigenvector itself is the map, not
    its halves.

    Args:
        keys: [rows, columns, D].

    Returns:
        [rows, columns] at most, in [0, 1]; zeros where all patches are alike. A grid of more than 2,048 patches is
        halved until it has fewer.
    """
    grid = torch.from_numpy(np.ascontiguousarray(np.moveaxis(keys.astype(np.float64), -1, 0)))[None]
    while grid.shape[2] * grid.shape[3] > LARGEST_GRAPH:
        grid = F.avg_pool2d(grid, 2, ceil_mode=True, count_include_pad=False)
    rows, columns = grid.shape[2:]
    units = F.normalize(grid[0].flatten(1), dim=0).numpy()
    alike = units.T @ units > ALIKE
    if len(alike) < 2 or alike.all():
        return np.zeros((rows, columns), np.float32)
    edges = np.where(alike, 1.0, UNLIKE)
    root = np.sqrt(edges.sum(axis=1))
    count = len(root)
    # the smallest eigenvalues of the Laplacian are the largest of the normalised graph
    _, vectors = eigh(edges / np.outer(root, root), subset_by_index=[count - 2, count - 2])
    vector = vectors[:, 0] / root
    return stretch((vector * np.sign(vector[np.abs(vector).argmax()])).reshape(rows, columns))


class _Seen:
    """What the hooks of one forward pass note."""

    def __init__(self) -> None:
        self.queries, self.keys = torch.empty(0), torch.empty(0)
        self.rope: Tensor | None = None

    def note_rope(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.rope = kwargs.get("rope")

    def note_queries(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.queries = output

    def note_keys(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.keys = output


def _turned(attention: nn.Module, keys: Tensor, rope: Tensor) -> Tensor:
    """Keys [heads, N, D] with the rotary embedding of the patches, as timm applies it."""
    rotate = required("timm.layers").apply_rot_embed_cat
    first = int(attention.num_prefix_tokens)  # type: ignore[arg-type]
    patches = rotate(keys[None, :, first:], rope, half=getattr(attention, "rotate_half", False))[0]
    return torch.cat([keys[:, :first], patches.type_as(keys)], dim=1)


def _last_attention(model: nn.Module) -> nn.Module:
    blocks, token = getattr(model, "blocks", None), getattr(model, "cls_token", None)
    attention = getattr(blocks[-1], "attn", None) if isinstance(blocks, nn.Sequential | nn.ModuleList) else None
    plain = isinstance(getattr(model, "patch_embed", None), required("timm.layers").PatchEmbed)
    if token is None or not plain or not hasattr(attention, "k_norm"):
        raise ConfigError(f"vit: expected a vision transformer with a class token, found {type(model).__name__}")
    assert isinstance(attention, nn.Module)
    return attention


def _settings(model: nn.Module) -> Mapping[str, Any]:
    """What timm knows of the weights: where they are, how pictures are normalised."""
    return getattr(model, "pretrained_cfg", None) or {}


def _patch(model: nn.Module) -> tuple[int, int]:
    height, width = model.patch_embed.patch_size  # type: ignore[union-attr, misc]
    return int(height), int(width)


def _grid(model: nn.Module, pictures: Tensor) -> tuple[int, int]:
    height, width = _patch(model)
    return pictures.shape[2] // height, pictures.shape[3] // width


def _prepared(model: nn.Module, rgb: FloatArray, side: int) -> Tensor:
    """The picture [1, 3, h, w] as the model expects it."""
    height, width = rgb.shape[1:]
    scale = min(max(height, width, SMALLEST_SIDE), side) / max(height, width)
    sides = zip((height, width), _patch(model), strict=True)
    rows, columns = (max(1, round(length * scale / patch)) * patch for length, patch in sides)
    seen = resized_bytes(rgb, (rows, columns), Image.Resampling.BICUBIC).astype(np.float32) / np.float32(255)
    settings = _settings(model)
    mean, deviation = (
        np.array(settings.get(key) or default, np.float32)
        for key, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225)))
    )
    values = (seen - mean) / deviation
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))[None]


def _renamed(loaded: Mapping[str, Any], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Tensors under timm's names; it knows those of the authors' files."""
    state = unwrapped(loaded, str(path))
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        renamed: dict[str, Tensor] = convert(state, model)
    except Exception as error:  # timm checks nothing here, so a file of another network may make it raise anything
        raise WeightsError(f"{path}: expected weights of {type(model).__name__}, found those of another") from error
    return renamed
