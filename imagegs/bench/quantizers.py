"""Quantisers that a fit learns while it sees what they do to its values: uniform ones, and code words.

The forward pass of such a fit takes rounded values. Backward, rounding counts as the identity (the straight-through
estimator), so that the values beneath move although the rounded ones stand still for a while.

- A uniform quantiser's scale has the gradient of LSQ (Esser et al., arXiv 1902.08153), its offset that of LSQ+ (Bhalgat
  et al., arXiv 2004.09576), which also starts both where the squared error is least.
- A residual vector quantiser (Juang and Gray 1982) takes the nearest of a few words, then of a few others for what the
  first left. Words follow their values by exponential moving averages, and values are drawn to their words by a
  commitment (van den Oord et al., arXiv 1711.00937; Zeghidour et al., arXiv 2107.03312).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from ..gaussians import FloatArray

Symbols = npt.NDArray[np.uint8]

TAILS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Shares of the values that the first range of a column may leave out at either end."""
SMALLEST_STEP = 1e-6
MEMORY = 0.99
"""What moving averages keep at every step."""
ROUNDS = 20
"""Of k-means, with which code words start."""
FADED = 1e-3
"""A word that fewer values took of late stays where it is."""


@dataclass(frozen=True, eq=False)
class LearnedGrid:
    """A uniform quantiser for each column: values are offset + step x symbol.

    Attributes:
        steps: [C], positive.
        offsets: [C].
        levels: symbols are below.
    """

    steps: FloatArray
    offsets: FloatArray
    levels: int

    @classmethod
    def of(cls, values: FloatArray, levels: int) -> LearnedGrid:
        """The one with the least squared error among ranges that leave out a few of the values [N, C]."""
        steps, offsets = zip(*(_best_range(column, levels) for column in values.T), strict=True)
        return cls(np.array(steps, np.float32), np.array(offsets, np.float32), levels)

    def symbols(self, values: FloatArray) -> Symbols:
        """The nearest symbols [N, C] of values [N, C]."""
        return np.rint(np.clip(self._places(values), 0, self.levels - 1)).astype(np.uint8)

    def values(self, symbols: Symbols) -> FloatArray:
        """What symbols [N, C] mean."""
        return self.offsets + self.steps * symbols.astype(np.float32)

    def gradients(self, values: FloatArray, v_rounded: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradients in the values [N, C], and in steps and offsets [C, 2], from that in the rounded values [N, C].

        The second is scaled as LSQ says, by the number of values and symbols.
        """
        places, most = self._places(values), self.levels - 1
        inside = (places >= 0) & (places <= most)
        by_step = np.where(inside, np.rint(places) - places, np.where(places < 0, 0, most))
        numbers = np.stack([(v_rounded * by_step).sum(axis=0), (v_rounded * ~inside).sum(axis=0)], axis=1)
        return v_rounded * inside, (numbers / math.sqrt(len(values) * most)).astype(np.float32)

    def moved(self, update: FloatArray) -> LearnedGrid:
        """Steps and offsets less an update [C, 2]."""
        steps = np.maximum(self.steps - update[:, 0], np.float32(SMALLEST_STEP))
        return LearnedGrid(steps, self.offsets - update[:, 1], self.levels)

    def _places(self, values: FloatArray) -> FloatArray:
        return np.asarray((values - self.offsets) / self.steps)


@dataclass(frozen=True, eq=False)
class Codebooks:
    """A residual vector quantiser: values are the sum of one word of each stage.

    Attributes:
        words: [S, K, C].
        taken: [S, K] moving average of how many values took a word.
    """

    words: FloatArray
    taken: FloatArray

    @classmethod
    def of(cls, values: FloatArray, stages: int, size: int, seed: int = 0) -> Codebooks:
        """``stages`` of ``size`` words each by k-means over values [N, C]."""
        rng, rest = np.random.default_rng(seed), values
        words, taken = [], []
        for _ in range(stages):
            words.append(_means(rest, size, rng))
            nearest = _nearest(rest, words[-1])
            taken.append(np.bincount(nearest, minlength=size))
            rest = rest - words[-1][nearest]
        return cls(np.stack(words), np.stack(taken).astype(np.float32))

    def symbols(self, values: FloatArray) -> Symbols:
        """The words [N, S] of values [N, C], stage by stage the nearest."""
        rest, found = values, []
        for words in self.words:
            found.append(_nearest(rest, words))
            rest = rest - words[found[-1]]
        return np.stack(found, axis=1)

    def values(self, symbols: Symbols) -> FloatArray:
        """What words [N, S] add up to."""
        return np.asarray(sum(words[column] for words, column in zip(self.words, symbols.T, strict=True)))

    def followed(self, values: FloatArray, symbols: Symbols) -> Codebooks:
        """Words a little nearer to the means of the values [N, C] that took them."""
        rest, changed, taken = values, self.words.copy(), self.taken.copy()
        for stage, (words, column) in enumerate(zip(self.words, symbols.T, strict=True)):
            now = np.bincount(column, minlength=len(words)).astype(np.float32)
            sums = np.stack([np.bincount(column, part, len(words)) for part in rest.T], axis=1)
            before = MEMORY * taken[stage]
            taken[stage] = before + (1 - MEMORY) * now
            alive = taken[stage] > FADED
            moved = before[:, None] * words + (1 - MEMORY) * sums
            changed[stage][alive] = (moved[alive] / taken[stage][alive, None]).astype(np.float32)
            rest = rest - words[column]
        return Codebooks(changed, taken)


def _best_range(column: FloatArray, levels: int) -> tuple[float, float]:
    """Step and offset of the least squared error for some values [N]."""
    best = (math.inf, SMALLEST_STEP, float(column[0]))
    lows, highs = np.quantile(column, TAILS), np.quantile(column, 1 - np.array(TAILS))
    for low, high in product(lows, highs):
        step = max(float(high - low) / (levels - 1), SMALLEST_STEP)
        rounded = low + step * np.rint(np.clip((column - low) / step, 0, levels - 1))
        best = min(best, (float(np.square(rounded - column).sum()), step, float(low)))
    return best[1:]


def _means(values: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """``size`` words [K, C] by k-means; where there are no more different values than that, these."""
    different = np.unique(values, axis=0)
    if len(different) <= size:
        return different[np.arange(size) % len(different)]
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a word that no value takes stays where it began
        found, _ = kmeans2(values.astype(np.float64), size, ROUNDS, minit="++", seed=rng)
    return np.asarray(found, dtype=np.float32)


def _nearest(values: FloatArray, words: FloatArray) -> Symbols:
    """The nearest of words [K, C] for values [N, C]."""
    # |v - w|² less |v|², which is the same for every word
    distances = np.square(words).sum(axis=1) - 2 * values @ words.T
    return np.asarray(np.argmin(distances, axis=1), np.uint8)
