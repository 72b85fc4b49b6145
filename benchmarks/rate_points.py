"""Measures points: one file of one picture by one codec, its size and its qualities."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from rate_store import Point, Store, digest

from imagegs.bench.anchors import Anchor, FloatArray, sweep, to_image, to_pixels
from imagegs.bench.curves import HIGH, LOW, Curve, front, similarity_decibels
from imagegs.bench.pictures import eight_bits
from imagegs.decoding import decode
from imagegs.metrics import ms_ssim, psnr

MARGIN = 1.25
"""Anchors are measured this factor beyond the range of rates, so that its ends lie between points."""


@dataclass(frozen=True)
class Source:
    """A picture to be coded."""

    path: Path

    @cached_property
    def pixels(self) -> FloatArray:
        """[3, H, W] in [0, 1]."""
        return to_pixels(self.path.read_bytes())

    @cached_property
    def digest(self) -> str:
        return digest(self.path)

    @property
    def count(self) -> int:
        """Pixels."""
        return int(np.prod(self.pixels.shape[1:]))


@dataclass(frozen=True)
class Ours:
    """`imagegs` at one effort.

    Attributes:
        effort: 1 to 9.
        sources: a digest of the sources, which stands for the version.
        any_sources: whether points of other sources count, the newest first, where they are kept.
    """

    effort: int
    sources: str
    any_sources: bool = False

    @property
    def key(self) -> str:
        return f"imagegs-{self.effort}"

    @property
    def label(self) -> str:
        return f"imagegs, effort {self.effort}"

    @property
    def identity(self) -> str:
        return f"imagegs(effort={self.effort}) {self.sources}"

    def kept(self, source: Source, rate: float, store: Store, key: str = "") -> Point | None:
        """The point at a target rate that need not be measured again; ``key`` if it is not its own."""
        identity = None if self.any_sources else self.identity
        found = [point for point in store.all(source.digest, key or self.key, identity) if point.rung == rate]
        return found[-1] if found else None


def sweep_anchor(anchor: Anchor, source: Source, store: Store, similarity: bool = True) -> list[Point]:
    """An anchor's points over the range of rates; those already in the store are not measured again."""
    image = to_image(source.pixels)
    low, high = LOW / MARGIN, HIGH * MARGIN

    def near(bpp: float) -> bool:
        return low / 1.05 <= bpp <= high * 1.05

    def rate(index: int) -> float:
        rung = anchor.ladder[index]
        point = store.find(source.digest, anchor.key, anchor.identity, rung)
        if point is None or (similarity and point.ms_ssim is None and near(point.bpp)):
            began = time.perf_counter()
            data = anchor.encode(image, rung)
            seconds = time.perf_counter() - began
            decoded = to_pixels(data)
            point = _measure(data, decoded, source, anchor.key, anchor.identity, rung, seconds)
            if similarity and near(point.bpp):
                point = replace(point, ms_ssim=ms_ssim(source.pixels, decoded))
            store.add(point)
        return point.bpp

    rungs = [anchor.ladder[index] for index in sweep(rate, len(anchor.ladder), low, high)]
    found = [store.find(source.digest, anchor.key, anchor.identity, rung) for rung in rungs]
    return [point for point in found if point is not None]


def measure_ours(ours: Ours, source: Source, rate: float, store: Store) -> Point:
    """The point of ours at a target rate; one in the store whose file is there is not measured again.

    Raises:
        ImageGSError: the target cannot be met, or the picture cannot be coded.
    """
    from imagegs.encoding import encode

    kept = ours.kept(source, rate, store)
    if kept is not None:
        return kept
    began = time.perf_counter()
    encoded = encode(source.path, bpp=rate, effort=ours.effort, seed=0)
    seconds = time.perf_counter() - began
    name = f"{source.digest}-{ours.key}-{rate:g}-{ours.sources}.gsimg"
    (store.files / name).write_bytes(encoded.data)
    decoded = eight_bits(decode(encoded.data).pixels)
    point = _measure(encoded.data, decoded, source, ours.key, ours.identity, rate, seconds)
    point = replace(
        point,
        ms_ssim=ms_ssim(source.pixels, decoded),
        extra={"file": name, "gaussians": len(encoded.gaussians)},
    )
    store.add(point)
    return point


def psnr_curve(points: list[Point]) -> Curve:
    return front((point.bpp, point.psnr) for point in points)


def ms_ssim_curve(points: list[Point]) -> Curve:
    return front((point.bpp, similarity_decibels(point.ms_ssim)) for point in points if point.ms_ssim is not None)


def _measure(
    data: bytes, decoded: FloatArray, source: Source, codec: str, identity: str, rung: float, seconds: float
) -> Point:
    return Point(
        picture=source.digest,
        codec=codec,
        identity=identity,
        rung=rung,
        bytes=len(data),
        bpp=8 * len(data) / source.count,
        psnr=psnr(source.pixels, decoded),
        ms_ssim=None,
        encode_s=round(seconds, 3),
        extra={},
    )
