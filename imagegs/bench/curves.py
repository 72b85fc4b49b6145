"""Rate-distortion curves of one picture, and what is computed from them.

A curve is a list of points (bits per pixel, quality), the quality in decibels: PSNR, or MS-SSIM as -10 log10(1 - x). Of
what a codec gave, the Pareto front is kept: each point has more bits and a higher quality than the one before. Between
points the quality is interpolated over the logarithm of the rate by a monotone cubic (PCHIP), never beyond the first
and the last.

The BD-rate (Bjøntegaard, VCEG-M33) of a codec against an anchor is the mean difference of the logarithm of the rate at
equal quality, as a percentage: below 0, fewer bits than the anchor. Here:

1. both curves are cut to 0.1 to 1.0 bits per pixel; where points lie on both sides of an end, the curve is given a
   point at that end, so that cutting loses nothing of the range;
2. `bjontegaard.bd_rate` interpolates the logarithm of the rate over the quality (PCHIP) and integrates exactly, over
   the qualities that both cut curves reach;
3. a set's BD-rate is the mean over its pictures. A picture where the two share no quality within the range has none:
   it is counted, and told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

Curve = list[tuple[float, float]]
"""(bits per pixel, decibels), both ascending."""

LOW, HIGH = 0.1, 1.0
"""Range of the comparison, bits per pixel."""


def similarity_decibels(value: float) -> float:
    """An index of similarity, at most 1, as decibels."""
    return math.inf if value >= 1 else -10 * math.log10(1 - value)


def front(points: Iterable[tuple[float, float]]) -> Curve:
    """The points that no other point beats with as few or fewer bits."""
    curve: Curve = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not curve or quality > curve[-1][1]:
            curve.append((rate, quality))
    return curve


def quality_at(curve: Curve, rate: float) -> float | None:
    """The quality at a rate, dB; None outside the curve."""
    if not curve or not curve[0][0] <= rate <= curve[-1][0]:
        return None
    return _interpolated([math.log(r) for r, _ in curve], [q for _, q in curve], math.log(rate))


def rate_at(curve: Curve, quality: float) -> float | None:
    """The rate at a quality, bits per pixel; None outside the curve."""
    if not curve or not curve[0][1] <= quality <= curve[-1][1]:
        return None
    return math.exp(_interpolated([q for _, q in curve], [math.log(r) for r, _ in curve], quality))


def cut(curve: Curve, low: float = LOW, high: float = HIGH) -> Curve:
    """The part of a curve between two rates, with a point at either end that it encloses."""
    inside = [point for point in curve if low < point[0] < high]
    ends = [(rate, quality_at(curve, rate)) for rate in (low, high)]
    return front(inside + [(rate, quality) for rate, quality in ends if quality is not None])


def bd_rate(anchor: Curve, ours: Curve, low: float = LOW, high: float = HIGH) -> float | None:
    """Bits of ours beyond the anchor's at equal quality, percent; None where the cut curves share no quality."""
    import bjontegaard  # type: ignore[import-untyped]

    a, b = cut(anchor, low, high), cut(ours, low, high)
    if min(len(a), len(b)) < 2:
        return None
    if min(a[-1][1], b[-1][1]) <= max(a[0][1], b[0][1]):
        return None
    rates_a, qualities_a = zip(*a, strict=True)
    rates_b, qualities_b = zip(*b, strict=True)
    found = bjontegaard.bd_rate(
        rates_a, qualities_a, rates_b, qualities_b, method="pchip", require_matching_points=False, min_overlap=0
    )
    return float(found)


def mean_curve(curves: Sequence[Curve], rates: Sequence[float]) -> Curve:
    """The mean quality of several pictures at the rates that all of their curves reach."""
    means: Curve = []
    for rate in rates:
        found = [quality_at(curve, rate) for curve in curves]
        reached = [quality for quality in found if quality is not None]
        if reached and len(reached) == len(found):
            means.append((rate, float(np.mean(reached))))
    return means


def _interpolated(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    if len(xs) == 1:
        return ys[0]
    return float(PchipInterpolator(xs, ys)(x))
