"""Importance that a person gives: a picture as a mask, and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imagegs import ConfigError, ImageError, ShapeError, read_image

from .maps import FloatArray


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture.

    Attributes:
        x: left edge, pixels.
        y: upper edge.
        width: pixels, above 0.
        height: pixels, above 0.
        weight: importance within, above 0 up to 1.

    Raises:
        ConfigError: it is empty, or the weight is out of range.
    """

    x: float
    y: float
    width: float
    height: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.width, self.height, self.weight)
        if not all(np.isfinite(number) for number in numbers) or self.width <= 0 or self.height <= 0:
            raise ConfigError(f"roi: expected a width and height above 0, found {_text(numbers)}")
        if not 0 < self.weight <= 1:
            raise ConfigError(f"roi: expected a weight above 0, at most 1, found {self.weight:g}")


def parse_box(text: str) -> Box:
    """The box of ``x,y,w,h`` or ``x,y,w,h,weight``.

    Raises:
        ConfigError: it is none.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"roi: expected x,y,w,h or x,y,w,h,weight, found {text!r}") from error
    if len(numbers) not in (4, 5):
        raise ConfigError(f"roi: expected x,y,w,h or x,y,w,h,weight, found {text!r}")
    return Box(*numbers)


def draw_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> FloatArray:
    """[H, W]: the largest weight of the boxes that hold a pixel's centre, 0 outside of all.

    Raises:
        ConfigError: a box holds no pixel of the picture.
    """
    found = np.zeros(size, np.float32)
    for box in boxes:
        rows, columns = (
            slice(max(0, int(np.ceil(start - 0.5))), max(0, int(np.ceil(start + length - 0.5))))
            for start, length in ((box.y, box.height), (box.x, box.width))
        )
        inside = found[rows, columns]
        if inside.size == 0:
            shown = _text((box.x, box.y, box.width, box.height))
            raise ConfigError(f"roi: expected pixels of the picture ({size[1]} x {size[0]}) in the box, found {shown}")
        np.maximum(inside, np.float32(box.weight), out=inside)
    return found


def read_mask(path: Path, size: tuple[int, int]) -> FloatArray:
    """A picture as importance [H, W]: the mean of its colours; 0 is black, 1 white.

    Raises:
        ImageError: it cannot be read, has another size than (height, width) pixels, or is black.
    """
    picture = read_image(path)
    if (picture.height, picture.width) != tuple(size):
        found = f"{picture.width} x {picture.height}"
        raise ImageError(f"{path}: expected a mask of the picture's size, {size[1]} x {size[0]}, found {found}")
    names = picture.info.channel_names
    colors = [index for index, name in enumerate(names) if name.rpartition(".")[2] != "A"]
    values = np.clip(picture.pixels[colors].mean(axis=0), 0, 1)
    if not values.max() > 0:
        raise ImageError(f"{path}: expected a mask with some pixel brighter than black, found none")
    return np.ascontiguousarray(values, dtype=np.float32)


def check_mask(values: npt.ArrayLike, size: tuple[int, int]) -> FloatArray:
    """An array as importance: [H, W], not negative, divided by its maximum if that is above 1.

    Raises:
        ShapeError: it is none, has another size, or is zero everywhere.
    """
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"mask: expected an array of numbers, found {type(values).__name__}") from error
    if array.shape != tuple(size):
        raise ShapeError(f"mask: expected the picture's size {list(size)}, found {list(array.shape)}")
    if not np.isfinite(array).all() or array.min() < 0 or not array.max() > 0:
        raise ShapeError("mask: expected finite numbers, none negative and some positive")
    return np.ascontiguousarray(array / max(1.0, float(array.max())))


def _text(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
