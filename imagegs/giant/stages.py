"""What is done with one tile, stage by stage; every stage leaves a part, a file, which the next ones read.

```
 window ─ survey ─> errors by cell           (all tiles: how many Gaussians each gets)
 window ─ fit ────> Gaussians of the tile    (all tiles: factor of the quantiser's steps, from their sizes)
 window, Gaussians of the tiles around ─ settle ─> rounded shapes and places, level by level
 window, those of the tiles around ─ code ───────> payloads of the tile's blocks
 tile, symbols of the tiles around ─ measure ────> squared errors of each level
```

A tile is fitted with a halo, of which it keeps nothing: Gaussians belong to the tile that has their centre. From
`settle` on, a window holds the Gaussians that the tiles around have really kept, and all of them adapt, but each tile
keeps its own again. Where windows overlap they see the same picture and the same Gaussians, so that they agree: no seam
shows. (In the language of domain decomposition this is a restricted additive Schwarz method, Cai and Sarkis 1999.)
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..codec.blocks import Blocks, Box, reach
from ..codec.entropy import BlockEncoder
from ..codec.lattice import (
    DoubleArray,
    IntArray,
    Lattice,
    LatticeSymbols,
    dequantize_lattice,
    in_steps,
    quantize_shape,
    shape_values,
)
from ..codec.lattice_file import Group, Rows, place_groups
from ..codec.storage import split_blocks
from ..compression import BIT_WORTH, SOLVE_ITERATIONS, Effort, Job
from ..compression import fit as fit_window
from ..decoding import cut
from ..encoding import encode
from ..errors import ImageError
from ..files import atomic_write
from ..fitting.config import FitConfig
from ..fitting.initialization import Gaussians
from ..fitting.levels import level_ends, prefix_weights
from ..fitting.losses import evaluate, prepare, solve_colors
from ..fitting.refit import Bounds, refit
from ..fitting.targets import Target, make_target
from ..gaussians import FloatArray, Gaussians2D
from ..image import Picture
from ..kernels import native
from ..kernels.constants import RADIUS
from ..rendering import render
from .plan import Tiles, measure
from .windows import Windows

Arrays = dict[str, Any]

PILOT_SIDE = 512
"""Of the parts of a picture that tell how many Gaussians a quality takes, pixels."""
JOIN_SHARE = 0.3
"""Steps of joining, of those of a fit."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What all tiles have in common.

    Attributes:
        windows: the picture.
        tiles: of it.
        folder: of the parts.
        effort: steps.
        config: settings of the fits; the number of Gaussians is a task's.
        levels: of detail.
        threads: that each task uses.
        background: [C] colour where no Gaussian reaches.
    """

    windows: Windows
    tiles: Tiles
    folder: str
    effort: Effort
    config: FitConfig
    levels: int
    threads: int
    background: tuple[float, ...] = ()

    def lattice(self, factor: float) -> Lattice:
        """The lattice with ``factor`` times the usual steps."""
        info = self.windows.info
        return Job(Picture(np.zeros((info.channels, 1, 1), np.float32), info), self.effort, self.config).lattice(factor)

    def part(self, stage: str, tile: int, factor: float = 0.0) -> Path:
        """The file that a stage leaves of a tile."""
        name = f"{stage}-{factor:.6f}" if factor else stage
        return Path(self.folder) / f"{name}-{tile:06}.npz"


@dataclass(frozen=True, eq=False)
class TileTask:
    """A stage of a tile.

    Attributes:
        plan: of the picture.
        tile: its number.
        count: Gaussians of the window, to fit.
        factor: of the quantiser's steps.
        quality: of a pilot.
    """

    plan: Plan = field(repr=False)
    tile: int
    count: int = 0
    factor: float = 0.0
    quality: float = 0.0

    @property
    def name(self) -> str:
        """The picture, and where in it."""
        x, y, width, height = self.plan.tiles.box(self.tile)
        return f"{self.plan.windows.name}, tile {self.tile} ({width} x {height} at {x}, {y})"

    @property
    def lattice(self) -> Lattice:
        """Of the factor."""
        return self.plan.lattice(self.factor)

    @property
    def ground(self) -> FloatArray:
        """The background [C]."""
        return np.array(self.plan.background, np.float32)

    def pixels(self, box: Box) -> FloatArray:
        """Of the picture [C, H, W]."""
        return self.plan.windows.read(box)

    def part(self, stage: str, tile: int | None = None) -> Path:
        """The file that a stage leaves of a tile, by default of this one."""
        factor = 0.0 if stage in ("survey", "fit", "join") else self.factor
        return self.plan.part(stage, self.tile if tile is None else tile, factor)


def survey(task: TileTask) -> None:
    """What the tile has to show, and the sum of its colours."""
    pixels = task.pixels(task.plan.tiles.box(task.tile))
    sums = pixels.sum(axis=(1, 2), dtype=np.float64)
    write_part(task.part("survey"), errors=measure(pixels), sums=sums)


def pilot(task: TileTask) -> tuple[Box, int]:
    """The middle of the tile, and how many Gaussians it takes for a quality."""
    x, y, width, height = task.plan.tiles.box(task.tile)
    across, down = min(width, PILOT_SIDE), min(height, PILOT_SIDE)
    box = x + (width - across) // 2, y + (height - down) // 2, across, down
    picture = Picture(task.pixels(box), task.plan.windows.info)
    found = encode(picture, quality=task.quality, steps=task.plan.effort.steps, threads=task.plan.threads)
    return box, len(found.gaussians)


def fit(task: TileTask) -> None:
    """Gaussians whose centres lie in the tile, in pixels from its corner."""
    plan, box, window = task.plan, task.plan.tiles.box(task.tile), task.plan.tiles.window(task.tile)
    job = Job(Picture(task.pixels(window), plan.windows.info), plan.effort, plan.config)
    with native.threads(plan.threads):
        found = fit_window(job, min(task.count, window[2] * window[3]), plan.effort.steps).gaussians
    means = found.means + _offset(window, box)
    mine = _nearest_tile(means, box, plan.tiles)
    ends = level_ends(plan.config.level_shares, len(found))
    write_part(
        task.part("fit"),
        means=means[mine],
        scales=found.scales[mine],
        rotations=found.rotations[mine],
        colors=found.colors[mine],
        levels=np.searchsorted(ends, mine, side="right").astype(np.int32),
    )


def joined(task: TileTask) -> None:
    """The tile's Gaussians after some steps together with those around."""
    plan, window = task.plan, task.plan.tiles.window(task.tile)
    near = _gathered(task, window, "fit", _model)
    steps = math.ceil(JOIN_SHARE * plan.effort.steps)
    with native.threads(plan.threads):
        target = make_target(task.pixels(window))
        model = refit(
            near.model,
            task.lattice,
            target,
            task.ground,
            plan.config,
            steps,
            bounds=near.bounds,
            ends=near.ends,
            joining=True,
        ).take(near.own)
    model.means += _offset(window, plan.tiles.box(task.tile))
    names = ("means", "scales", "rotations", "colors")
    write_part(task.part("join"), **dict(zip(names, model.arrays(), strict=True)), levels=near.levels)


def size(task: TileTask) -> int:
    """Bytes of the tile's payloads with these steps, but for what settling changes."""
    part = read_part(task.part("join"))
    lattice, model = task.lattice, _model(part)
    shape = quantize_shape(model.scales, model.rotations, lattice)
    symbols = _placed(task, lattice, shape, model.means, part["levels"])
    return sum(len(data) for data, *_ in _coded(task, lattice, symbols, part["levels"], model.colors))


def settle(task: TileTask) -> None:
    """Rounded shapes and places; means and colours adapt to the shapes before, together with those around."""
    plan, lattice, window = task.plan, task.lattice, task.plan.tiles.window(task.tile)
    near = _gathered(task, window, "join", _model)
    model, steps = near.model, plan.effort.refit
    shape = quantize_shape(model.scales, model.rotations, lattice)
    scales, rotations = shape_values(shape, lattice)
    model.scales, model.rotations = _single(scales), _single(rotations)
    if steps:
        with native.threads(plan.threads):
            target = make_target(task.pixels(window))
            model = refit(model, lattice, target, task.ground, plan.config, steps, bounds=near.bounds, ends=near.ends)
    model = model.take(near.own)
    model.means += _offset(window, plan.tiles.box(task.tile))
    symbols = _placed(task, lattice, shape[near.own], model.means, near.levels)
    write_part(task.part("settle"), symbols=symbols, levels=near.levels, colors=model.colors)


def code(task: TileTask) -> None:
    """Payloads of the tile's blocks, their colours solved together with those around."""
    plan, lattice = task.plan, task.lattice
    box, window = plan.tiles.box(task.tile), plan.tiles.window(task.tile)

    def placed(part: Arrays) -> Gaussians:
        scales, rotations = shape_values(part["symbols"], lattice)
        return Gaussians(_single(part["symbols"][:, 3:5] / 1024), _single(scales), _single(rotations), part["colors"])

    near = _gathered(task, window, "settle", placed)
    with native.threads(plan.threads):
        solved = _solved(task, near, make_target(task.pixels(window)))
    colors = solved if np.isfinite(solved).all() else near.model.colors
    symbols = read_part(task.part("settle"))["symbols"]
    table, found = [], []
    for data, part, level, block in _coded(task, lattice, symbols, near.levels, colors[near.own]):
        shifted = part.shape + np.array([0, 0, 0, box[0] * 1024, box[1] * 1024], np.int32)
        far = reach(_decoded(plan, LatticeSymbols(shifted, part.colors), lattice), _block_box(plan.tiles, block))
        table.append((level, block, len(part), far, len(data)))
        found.append((data, part))
    rows = np.array(table, np.int64).reshape(-1, 5)
    whole = LatticeSymbols.concatenate([part for _, part in found], lattice.channels)
    write_part(
        task.part("code"),
        table=rows,
        data=np.frombuffer(b"".join(data for data, _ in found), np.uint8),
        symbols=whole.shape,
        colors=whole.colors,
        levels=np.repeat(rows[:, 0], rows[:, 2]).astype(np.int32),
    )


def errors(task: TileTask) -> DoubleArray:
    """Sums of squared errors of the tile as a decoder shows it, up to each level."""
    plan, lattice, box = task.plan, task.lattice, task.plan.tiles.box(task.tile)

    def decoded(part: Arrays) -> Gaussians:
        gaussians = _decoded(plan, LatticeSymbols(part["symbols"], part["colors"]), lattice)
        return Gaussians(gaussians.means, gaussians.scales, gaussians.rotations, gaussians.colors)

    near = _gathered(task, box, "code", decoded)
    pixels, found = task.pixels(box), np.zeros(plan.levels)
    for level, end in enumerate(near.ends):
        model = near.model.take(np.arange(end))
        gaussians = Gaussians2D(*model.arrays(), box[3], box[2], task.ground, plan.config.blend, plan.config.top_k)
        image = render(gaussians, threads=plan.threads)
        cut(image, plan.windows.info)
        found[level] = np.square(image - pixels, dtype=np.float64).sum()
    return found


def write_part(path: Path, **arrays: Any) -> None:
    """Keep a part, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    atomic_write(path, buffer.getvalue())


def read_part(path: Path) -> Arrays:
    """The arrays of a part.

    Raises:
        ImageError: it is damaged or gone.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path}: expected a part of a picture, found: {error}; remove it and go on") from error


def _model(part: Arrays) -> Gaussians:
    return Gaussians(part["means"], part["scales"], part["rotations"], part["colors"])


def _nearest_tile(means: FloatArray, box: Box, tiles: Tiles) -> Rows:
    """Rows of means (pixels from a tile's corner) that belong to the tile: to it, or nearest to it off the canvas."""
    x, y, width, height = box
    low = np.array([-np.inf if x == 0 else 0, -np.inf if y == 0 else 0])
    last = x + width == tiles.width, y + height == tiles.height
    high = np.array([np.inf if end else side for end, side in zip(last, (width, height), strict=True)])
    found: Rows = np.flatnonzero(((means >= low) & (means < high)).all(axis=1))
    return found


@dataclass(frozen=True, eq=False)
class _Near:
    """A tile's Gaussians and those around, in the order of their levels, in pixels from a window's corner.

    Attributes:
        model: all of them.
        own: rows of the tile's, in its order.
        levels: of the tile's.
        bounds: where each stays: its own tile.
        ends: how many there are up to each level.
    """

    model: Gaussians
    own: Rows
    levels: IntArray
    bounds: Bounds
    ends: list[int]


def _gathered(task: TileTask, window: Box, stage: str, model_of: Callable[[Arrays], Gaussians]) -> _Near:
    """Of the tiles around, the Gaussians whose centres the window has, and those that reach into the tile."""
    tiles, box = task.plan.tiles, task.plan.tiles.box(task.tile)
    corner, end = _edges(box, window)
    parts, levels, lows, highs = [], [], [], []
    for tile in (task.tile, *tiles.around(task.tile)):
        part = read_part(task.part(stage, tile))
        model, rows = model_of(part), np.arange(len(part["levels"]))
        low, high = _edges(tiles.box(tile), window)
        model.means = model.means + low
        if tile != task.tile:
            within = ((model.means >= 0) & (model.means < np.array(window[2:]))).all(axis=1)
            far = RADIUS * model.scales.max(axis=1, keepdims=True)
            touching = ((model.means + far > corner) & (model.means - far < end)).all(axis=1)
            rows = np.flatnonzero(within | touching)
        parts.append(model.take(rows))
        levels.append(part["levels"][rows])
        lows.append(np.broadcast_to(low, (len(rows), 2)))
        highs.append(np.broadcast_to(high - np.float32(1e-3), (len(rows), 2)))
    all_levels = np.concatenate(levels)
    order = np.argsort(all_levels, kind="stable")
    arrays = zip(*(part.arrays() for part in parts), strict=True)
    return _Near(
        Gaussians(*(_single(np.concatenate(some)[order]) for some in arrays)),
        np.argsort(order, kind="stable")[: len(levels[0])],
        levels[0],
        (np.concatenate(lows)[order], np.concatenate(highs)[order]),
        np.searchsorted(all_levels[order], np.arange(task.plan.levels), side="right").tolist(),
    )


def _solved(task: TileTask, near: _Near, target: Target) -> FloatArray:
    """Colours [N, C] for geometry that stays, good for every level."""
    rasterizer, config, ground = native.Rasterizer(), task.plan.config, task.ground
    prefixes: list[tuple[int, float]] = []
    if len(near.ends) > 1:
        found = []
        for end in near.ends:
            prepare(rasterizer, near.model.take(np.arange(end)), target.size, config.blend, config.top_k)
            found.append(evaluate(rasterizer, ground, target, config.loss, show=False).squared_error)
        weights = prefix_weights(found, config.level_decay)
        prefixes = [(end, weight / weights[-1]) for end, weight in zip(near.ends, weights, strict=True)]
    return solve_colors(rasterizer, near.model, ground, target, config.blend, config.top_k, SOLVE_ITERATIONS, prefixes)


def _edges(box: Box, window: Box) -> tuple[FloatArray, FloatArray]:
    """The corners of a box, in pixels from the window's."""
    low = _offset(box, window)
    return low, low + np.array(box[2:], np.float32)


def _offset(box: Box, window: Box) -> FloatArray:
    """What to add to pixels from the corner of one to have them from the corner of the other."""
    return np.array([box[0] - window[0], box[1] - window[1]], np.float32)


def _placed(task: TileTask, lattice: Lattice, shape: IntArray, means: FloatArray, levels: IntArray) -> IntArray:
    """Symbols [N, 5] with places that the trees of their blocks have."""
    blocks, _ = task.plan.tiles.blocks(task.tile)
    groups = []
    for level in range(task.plan.levels):
        rows = np.flatnonzero(levels == level)
        groups += [Group(level, block, rows[part]) for block, part in split_blocks(means[rows], blocks)]
    return place_groups(shape, means, lattice, groups, blocks)


def _coded(
    task: TileTask, lattice: Lattice, symbols: IntArray, levels: IntArray, colors: FloatArray
) -> list[tuple[bytes, LatticeSymbols, int, int]]:
    """Payload, symbols as decoded, level and block of the canvas, of each chunk of the tile."""
    blocks, numbers = task.plan.tiles.blocks(task.tile)
    of = blocks.of(symbols[:, 3:5] / 1024)
    wanted = in_steps(colors, symbols[:, 0], lattice)
    rounded = np.rint(wanted).astype(np.int32)
    found = []
    for block, number in enumerate(numbers):
        encoder = BlockEncoder(lattice, blocks.box(block))
        for level in range(task.plan.levels):
            rows = np.flatnonzero((of == block) & (levels == level))
            if len(rows):
                chosen = LatticeSymbols(symbols[rows], rounded[rows])
                found.append((*encoder.encode(chosen, wanted[rows], BIT_WORTH), level, number))
    return found


def _decoded(plan: Plan, symbols: LatticeSymbols, lattice: Lattice) -> Gaussians2D:
    ground = np.array(plan.background, np.float32)
    return dequantize_lattice(symbols, lattice, height=plan.tiles.height, width=plan.tiles.width, background=ground)


def _block_box(tiles: Tiles, block: int) -> Box:
    return Blocks(tiles.width, tiles.height, tiles.shift).box(block)


def _single(values: Any) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)
