"""Where importance comes from: saliency models, a text prompt, a mask, boxes; one map of all that are asked.

```
 picture ─┬─ builtin | emlnet | vit | fastgaze ─┐
          ├─ prompt "the face, the sign:0.5" ───┤
          ├─ mask, boxes ───────────────────────┴─ combine ─> [H, W] in [0, 1]
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from imagegs import ConfigError, Picture, ShapeError

from .maps import Combination, FloatArray, Predictor, as_rgb, combine
from .regions import Box, check_mask, draw_boxes, read_mask

Model = Literal["builtin", "emlnet", "vit", "fastgaze", "prompt"]
MODELS: tuple[Model, ...] = get_args(Model)


@dataclass(frozen=True, eq=False)
class Sources:
    """What a map of importance is made of.

    Attributes:
        models: saliency models by name; none with a prompt, mask or boxes means these alone, else ``builtin``.
        prompt: what matters, in words: one text such as ``"the face, the sign:0.5"``, or texts and their weights.
        mask: a picture of the same size, brighter is more important; or an array [H, W].
        boxes: rectangles that matter.
        how: how maps are combined where there are several, see ``maps.combine``.
        vit: timm's name of the vision transformer; the usual one by default.
        vit_method: ``attention`` or ``features``.
        weights: folder of the models' weights; see ``imagegs.pretrained``.
        names: of the sources, in the order in which they are combined; not to be given.

    Raises:
        ConfigError: a model that is not known, or one for prompts without a prompt.
    """

    models: tuple[str, ...] = ()
    prompt: str | Mapping[str, float] | None = None
    mask: Any = None
    boxes: Sequence[Box] = ()
    how: Combination = "max"
    vit: str | None = None
    vit_method: str = "attention"
    weights: Path | None = None
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        for model in self.models:
            if model not in MODELS:
                raise ConfigError(f"model: expected one of {', '.join(MODELS)}, found {model!r}")
        if "prompt" in self.models and self.prompt is None:
            raise ConfigError('model: expected a prompt for the model prompt, such as "the face", found none')
        others = [model for model in dict.fromkeys(self.models) if model != "prompt"]
        given = [("prompt", self.prompt is not None), ("mask", self.mask is not None), ("boxes", bool(self.boxes))]
        names = (*others, *(name for name, there in given if there))
        object.__setattr__(self, "names", names or ("builtin",))

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make it, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}


def make_predictor(name: str, sources: Sources | None = None) -> Predictor:
    """A saliency model, loaded.

    Raises:
        ConfigError: there is no such model, or its options are wrong.
        DeviceError: a package that it needs is not installed.
        WeightsError: its weights are absent, damaged or of another model.
    """
    sources = sources or Sources()
    if name not in MODELS:
        raise ConfigError(f"model: expected one of {', '.join(MODELS)}, found {name!r}")
    options: dict[str, Any] = {} if name == "builtin" else {"folder": sources.weights}
    if name == "vit":
        options |= {"method": sources.vit_method} | ({} if sources.vit is None else {"name": sources.vit})
    if name == "prompt":
        if sources.prompt is None:
            raise ConfigError('model: expected a prompt for the model prompt, such as "the face", found none')
        options["prompts"] = sources.prompt
    load: Callable[..., Predictor] = import_module(f".{name}", __package__).load
    return load(**options)


def make_importance(sources: Sources) -> Callable[[Picture], FloatArray]:
    """What maps pictures to importance; models are loaded once.

    Returns:
        A function: picture -> [H, W] in [0, 1].

    Raises:
        ImageGSError: see ``make_predictor``.
    """
    models = {name: make_predictor(name, sources) for name in sources.names if name in MODELS}

    def importance(picture: Picture) -> FloatArray:
        size = picture.height, picture.width
        maps = []
        for name in sources.names:
            if name in models:
                maps.append(_checked(name, models[name](as_rgb(picture)), size))
            elif name == "boxes":
                maps.append(draw_boxes(sources.boxes, size))
            elif isinstance(sources.mask, str | Path):
                maps.append(read_mask(Path(sources.mask), size))
            else:
                maps.append(check_mask(sources.mask, size))
        return combine(maps, sources.how)

    return importance


def _checked(name: str, found: FloatArray, size: tuple[int, int]) -> FloatArray:
    if found.shape != size or not np.isfinite(found).all() or found.min() < 0 or found.max() > 1:
        raise ShapeError(f"{name}: expected a map {list(size)} in [0, 1], found {list(found.shape)}")
    return found
