"""A giant picture to a file: tile by tile, on any engine, and on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..batching.engines import Engine, LocalEngine
from ..budget import (
    AIM_SHARE,
    BITS_PER_NUMBER,
    FACTOR_RANGE,
    FACTORS,
    LEAST_SHARE,
    PER_SPACING,
    TRIES,
    Window,
    find_factor,
)
from ..codec.lattice_file import LEVEL_RATIO
from ..encoding import MAX_LEVELS, chosen_effort, fit_config
from ..errors import ConfigError, ImageError
from ..files import atomic_write, check_target, read_bytes
from ..goals import Goal, make_goal
from . import assembling, stages
from .plan import Budget, Tiles, Weights, shares, usual_halo
from .stages import Plan, TileTask
from .windows import open_windows

TILE, BLOCK_SHIFT, LEVELS = 1024, 8, 2
"""Side of the squares that are fitted at once, blocks of the file (256 pixels), and levels of detail, by default."""
PLAN = "plan.json"
PILOTS = 8
"""Places where it is tried how many Gaussians a quality takes."""
SIZED = 48
"""Tiles at most whose size is tried for each factor of the steps."""
ENTRY = 17
"""Bytes of a chunk's entry in the table."""
LEAST = 16
"""Gaussians of a window."""

OnStage = Callable[[str, int, int], None]
"""Told the name of a stage, how many of its tiles are through, and of how many."""


@dataclass(frozen=True)
class Giant:
    """What came of a giant picture.

    Attributes:
        size: of the file, bytes.
        gaussians: in it.
        height: of the picture, pixels.
        width: of the picture, pixels.
        psnrs: of its levels, dB; the last is that of the whole file.
        tiles: that it was fitted in.
        seconds: of this run.
        notes: what the user should know.
    """

    size: int
    gaussians: int
    height: int
    width: int
    psnrs: tuple[float, ...]
    tiles: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel."""
        return 8 * self.size / (self.height * self.width)


def encode_giant(
    source: str | Path,
    output: str | Path,
    *,
    gaussians: int | None = None,
    bpp: float | None = None,
    size: int | None = None,
    quality: float | None = None,
    effort: int | None = None,
    preset: str | None = None,
    levels: int = LEVELS,
    block_shift: int = BLOCK_SHIFT,
    tile: int = TILE,
    halo: int | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    parts: str | Path | None = None,
    fresh: bool = False,
    keep_parts: bool = False,
    retries: int = 1,
    on_stage: OnStage | None = None,
    **overrides: Any,
) -> Giant:
    """Fit a picture of any size in tiles, and write one file in blocks and levels.

    Memory follows the tiles that are in work, not the picture. Each tile that is through leaves a file in the folder
    ``parts``, by which the same call goes on after an interruption.

    At most one target is given: ``gaussians``, ``bpp``, ``size`` or ``quality``.

    Args:
        source: see `windows.open_windows`.
        output: the file.
        gaussians: about how many; what tiles of their windows keep is known afterwards only.
        bpp: bits of the whole file per pixel; never more, seldom 3 % less.
        size: bytes of the whole file; likewise.
        quality: 0 to 100, by default 75; how many Gaussians it takes is tried in some places.
        effort: 1 (fastest) to 9 (smallest file); 5 by default.
        preset: ``fast``, ``balanced`` or ``best``.
        levels: of detail.
        block_shift: the file's blocks are squares of 2 to this pixels, 6 to 16.
        tile: side of the squares that are fitted at once, pixels.
        halo: what is fitted beyond each of them, pixels; by default some distances between Gaussians.
        seed: of everything random. The same seed gives the same bytes, on any engine.
        engine: where tiles are fitted, open; by default processes of this machine. Other machines must reach the
            picture and the parts by the same paths.
        parts: folder of the finished parts; by default beside the output.
        fresh: forget the parts of an earlier run.
        keep_parts: do not remove the parts in the end.
        retries: how often a tile that failed is tried again.
        on_stage: told of each tile that is through.
        **overrides: attributes of ``FitConfig``, and ``steps``.

    Raises:
        ImageGSError: the picture cannot be read, the settings do not fit it, a tile failed for good, or a target cannot
            be met. Finished parts stay.
    """
    began = time.perf_counter()
    source, output = str(source), Path(output)
    if not 1 <= levels <= MAX_LEVELS:
        raise ConfigError(f"levels: expected 1 to {MAX_LEVELS}, found {levels}")
    pace = chosen_effort(effort, preset, overrides.pop("steps", None))
    check_target(output)
    folder = parts_of(output) if parts is None else Path(parts)
    targets = {"gaussians": gaussians, "bpp": bpp, "size": size, "quality": quality}
    settings = {
        **targets,
        "levels": levels,
        "block": block_shift,
        "tile": tile,
        "halo": halo,
        "seed": seed,
        **overrides,
    }
    new = _prepare_folder(folder, _key(source, {**settings, "effort": (pace.steps, pace.refit)}), fresh=fresh)
    try:
        windows = open_windows(source, folder)
        shape = windows.height, windows.width
        goal = make_goal(shape, bpp=bpp, bytes=size, quality=quality, gaussians=gaussians)
        fractions = tuple(LEVEL_RATIO ** (k + 1.0 - levels) for k in range(levels - 1))
        config = fit_config(shape, Goal("gaussians", 1), seed, {"level_shares": fractions, **overrides})
        tiles = Tiles(*shape, tile, block_shift, 0)
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    with nullcontext(engine) if engine is not None else LocalEngine(most=len(tiles)) as running:
        plan = Plan(windows, tiles, str(folder), pace, config, levels, running.threads)
        run = _Run(plan, running, retries, on_stage)
        factor, notes = run.to_goal(goal, halo)
        sums = run.errors(factor)
    psnrs = assembling.psnrs_of(sums, windows.info.channels * shape[0] * shape[1])
    total, count = assembling.write(run.plan, factor, psnrs, output)
    if not keep_parts:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - began
    return Giant(total, count, *shape, tuple(psnrs), len(tiles), seconds, (*windows.notes, *notes))


class _Run:
    """The stages of one picture; finished parts are passed over."""

    def __init__(self, plan: Plan, engine: Engine, retries: int, on_stage: OnStage | None) -> None:
        self.plan = plan
        self._engine = engine
        self._retries = retries
        self._on_stage = on_stage

    def to_goal(self, goal: Goal, halo: int | None) -> tuple[float, tuple[str, ...]]:
        """Everything up to payloads that meet a target; the factor of the steps that does, and why if none does."""
        windows = self.plan.windows
        budget_of, background = self._surveyed()
        self.plan = replace(self.plan, background=background)
        count = self._count(goal, budget_of)
        pixels = windows.height * windows.width
        halo = min(usual_halo(pixels, count), self.plan.tiles.side) if halo is None else halo
        self.plan = replace(self.plan, tiles=replace(self.plan.tiles, halo=halo))
        low, high = FACTOR_RANGE
        factor = min(max(PER_SPACING * math.sqrt(pixels / count), low), high)
        self._fit(budget_of(count), count, factor)
        if goal.kind != "bytes":
            self._code(factor)
            return factor, ()
        return self._reach_bytes(goal, factor)

    def errors(self, factor: float) -> Weights:
        """Sums of squared errors of the levels, over all tiles."""
        found = np.zeros(self.plan.levels)
        for result in self._each("measure", stages.errors, self._tasks(factor=factor)):
            found += result
        return found

    def _surveyed(self) -> tuple[Callable[[int], Budget], tuple[float, ...]]:
        """The budget for a number of Gaussians, and the mean colour."""
        self._stage("survey", stages.survey, self._tasks())
        tiles, found, sums = self.plan.tiles, [], np.zeros(self.plan.windows.info.channels)
        for row in range(tiles.rows):
            line = [
                stages.read_part(self.plan.part("survey", row * tiles.columns + column))
                for column in range(tiles.columns)
            ]
            found.append(np.concatenate([part["errors"] for part in line], axis=2))
            sums += sum(part["sums"] for part in line)
        errors, size = np.concatenate(found, axis=1), (tiles.height, tiles.width)
        pixels = size[0] * size[1]
        background = tuple(float(value) for value in sums / pixels)
        return lambda count: Budget(shares(errors, pixels, count), size), background

    def _count(self, goal: Goal, budget_of: Callable[[int], Budget]) -> int:
        """About how many Gaussians a target takes."""
        tiles, channels = self.plan.tiles, self.plan.windows.info.channels
        pixels = tiles.height * tiles.width
        if goal.kind == "gaussians":
            count = int(goal.value)
        elif goal.kind == "bytes":
            count = int(8 * goal.value / (BITS_PER_NUMBER * (5 + channels)))
        else:
            count = self._for_quality(goal.value, budget_of)
        return min(max(1, count), pixels)

    def _for_quality(self, quality: float, budget_of: Callable[[int], Budget]) -> int:
        tiles = self.plan.tiles
        budget = budget_of(tiles.height * tiles.width // 64)
        order = sorted(range(len(tiles)), key=lambda tile: budget.share(tiles.box(tile)))
        places = np.unique(np.floor((np.arange(PILOTS) + 0.5) / PILOTS * len(order)).astype(int))
        tasks = [TileTask(self.plan, order[place], quality=quality) for place in places]
        found = list(self._each("pilots", stages.pilot, tasks))
        worth = sum(budget.share(box) for box, _ in found)
        return round(int(sum(count for _, count in found)) / worth)

    def _fit(self, budget: Budget, count: int, factor: float) -> None:
        tiles = self.plan.tiles
        plan = replace(self.plan, config=replace(self.plan.config, lattice=self.plan.lattice(factor)))
        tasks = []
        for tile in range(len(tiles)):
            share = budget.share(tiles.window(tile))
            tasks.append(TileTask(plan, tile, count=max(LEAST, round(count * share))))
        self._stage("fit", stages.fit, tasks)
        self._stage("join", stages.joined, self._tasks(factor=factor))

    def _code(self, factor: float) -> None:
        """Settle and code all tiles."""
        self._stage("settle", stages.settle, self._tasks(factor=factor))
        self._stage("code", stages.code, self._tasks(factor=factor))

    def _reach_bytes(self, goal: Goal, factor: float) -> tuple[float, tuple[str, ...]]:
        """Steps with which the file is as large as allowed, and no larger."""
        wanted, under, used = int(goal.value), 0.0, 0
        correction = 1.0  # by how much settled tiles are larger than those that are not
        for _ in range(TRIES):
            factor = self._sized_factor(factor, wanted * AIM_SHARE / correction)
            self._code(factor)
            found = assembling.total_size(self.plan, factor)
            if found <= wanted:
                under, used = factor, found
                if found >= LEAST_SHARE * wanted:
                    return factor, ()
            correction *= found / (wanted * AIM_SHARE)
        if not under:
            raise ConfigError(f"{goal.name}: expected at least {found:,} bytes for this picture, found {goal.text}")
        return under, (f"{goal.name}: {wanted:,} bytes allowed, {used:,} used; no steps came nearer",)

    def _sized_factor(self, factor: float, wanted: float) -> float:
        """A factor with which files of unsettled tiles have so many bytes."""
        tiles = len(self.plan.tiles)
        some = np.unique(np.linspace(0, tiles - 1, min(tiles, SIZED)).astype(int))
        table = ENTRY * tiles * len(self.plan.tiles.blocks(0)[1]) * self.plan.levels

        def size_with(at: float) -> float:
            tasks = [TileTask(self.plan, int(tile), factor=at) for tile in some]
            return table + float(sum(self._each("sizes", stages.size, tasks))) * tiles / len(some)

        bounds = factor * FACTORS[0], max(factor * FACTORS[1], FACTOR_RANGE[1])
        return find_factor(size_with, factor, Window(0.997 * wanted, 1.003 * wanted, wanted), -0.5 * wanted, bounds)

    def _tasks(self, **more: Any) -> list[TileTask]:
        return [TileTask(self.plan, tile, **more) for tile in range(len(self.plan.tiles))]

    def _stage(self, name: str, work: Callable[[TileTask], None], tasks: Sequence[TileTask]) -> None:
        """Leave the parts of a stage that are not there yet."""
        missing = [task for task in tasks if not task.part(name).exists()]
        for _ in self._each(name, work, missing, len(tasks) - len(missing)):
            pass

    def _each(
        self, name: str, work: Callable[[TileTask], Any], tasks: Sequence[TileTask], done: int = 0
    ) -> Iterator[Any]:
        """Results, as they come.

        Raises:
            ImageError: one failed for good.
        """
        total = done + len(tasks)
        for outcome in self._engine.run(work, tasks, retries=self._retries):
            if outcome.error is not None:
                where = "" if self.plan.windows.name in outcome.error else f"{outcome.task.name}: "
                raise ImageError(f"{where}{outcome.error}")
            done += 1
            if self._on_stage is not None:
                self._on_stage(name, done, total)
            yield outcome.result


def parts_of(output: Path) -> Path:
    """Where the parts of a file lie unless told otherwise."""
    return output.with_name(f"{output.name}.parts")


def _key(source: str, settings: dict[str, Any]) -> str:
    """A name of the picture and the settings, equal where the parts would be equal."""
    path = Path(source)
    state: tuple[Any, ...] = ()
    if path.is_file():
        found = path.stat()
        state = found.st_size, found.st_mtime_ns
    text = json.dumps([os.path.basename(source), state, settings], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _prepare_folder(folder: Path, key: str, *, fresh: bool) -> bool:
    """A folder for parts of these settings; whether it has none yet.

    Raises:
        ConfigError: it has parts of others, or something else.
        ImageError: it cannot be made.
    """
    mark = folder / PLAN
    try:
        if folder.is_dir() and any(folder.iterdir()):
            if not mark.exists():
                raise ConfigError(f"{folder}: expected a folder for parts, found other files in it")
            if fresh:
                shutil.rmtree(folder)
            elif json.loads(read_bytes(mark)).get("key") != key:
                raise ConfigError(
                    f"{folder}: expected parts of this picture and these settings, found others; --fresh forgets them"
                )
        folder.mkdir(parents=True, exist_ok=True)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{mark}: expected what an earlier run wrote, found something else; --fresh forgets it"
        ) from error
    except OSError as error:
        raise ImageError(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error
    new = not mark.exists()
    if new:
        atomic_write(mark, json.dumps({"key": key}).encode())
    return new
