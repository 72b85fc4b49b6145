"""One HTML page: the picture before and after, what was taken away, and how the number of Gaussians was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagegs import Picture
from imagegs.figures import json_text
from imagegs.files import atomic_write_folder
from imagegs.metrics import LpipsNet, lpips, psnr, ssim
from imagegs.pages import fill_page
from imagegs.plots import color_channels
from imagegs.report import DATA, LONGEST_SIDE, PAGE, figure_uri, picture_uri

from .operators import FloatArray, Operator
from .restoring import Restored, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = Mapping[str, Mapping[str, float]]
"""By measure and ``before`` or ``after``."""
GAIN = 4
"""How much stronger differences are shown."""


def scores_of(
    observed: Picture,
    restored: Picture,
    reference: Picture,
    lpips_net: LpipsNet | None = None,
    weights_dir: Path | None = None,
) -> dict[str, dict[str, float]]:
    """PSNR, SSIM and, with a network, LPIPS against a reference, ``after`` and, if it is as large, ``before``.

    Args:
        observed: the degraded picture.
        restored: what came of it.
        reference: the clean picture.
        lpips_net: the network of LPIPS.
        weights_dir: folder with its weights, see `imagegs.metrics.lpips`.

    Raises:
        ShapeError: sizes or channels disagree.
        DeviceError: LPIPS is asked for, and its packages or weights are absent.
    """
    pictures: dict[str, FloatArray] = {"after": restored.pixels}
    if observed.pixels.shape == reference.pixels.shape:
        pictures["before"] = np.clip(observed.pixels, 0, 1)
    measures: dict[str, Callable[[FloatArray, FloatArray], float]] = {"psnr": psnr, "ssim": ssim}
    if lpips_net is not None:
        measures["lpips"] = partial(lpips, net=lpips_net, weights_dir=weights_dir)
    return {
        name: {when: measure(reference.pixels, pixels) for when, pixels in pictures.items()}
        for name, measure in measures.items()
    }


def write_report(
    folder: Path,
    observed: Picture,
    restored: Restored,
    operator: Operator,
    figures: Mapping[str, Any],
    command: str,
    scores: Scores,
) -> Path:
    """Write the page and ``report.json`` into a folder, which is made if its parent exists.

    Args:
        folder: where to write.
        observed: the degraded picture.
        restored: what came of it.
        operator: what it was fitted through; its first guess stands for the degraded picture where sizes differ.
        figures: for ``report.json``.
        command: how to reproduce it, as one would type it.
        scores: of `scores_of`; none without a reference.

    Returns:
        The page's path.

    Raises:
        ImageError: the folder cannot be made or written.
    """
    page = render_page(observed, restored, operator, scores, command).encode()
    trials = [{"gaussians": trial.gaussians, "risk": trial.risk} for trial in restored.trials]
    data = json_text({"command": command, **figures, "trials": trials}).encode()
    atomic_write_folder(folder, {PAGE: lambda: page, DATA: lambda: data})
    return folder / PAGE


def render_page(observed: Picture, restored: Restored, operator: Operator, scores: Scores, command: str) -> str:
    """The page of ``write_report``, as text."""
    channels = list(color_channels(observed.info))
    after = restored.picture.pixels
    before = observed.pixels if observed.pixels.shape == after.shape else operator.guess(observed.pixels)
    scale = min(1.0, LONGEST_SIDE / max(after.shape[1:]))
    taken = np.clip(0.5 + GAIN * (before - after), 0, 1).astype(np.float32)
    return fill_page(
        __package__,
        "report.html.j2",
        title=Path(observed.source).name or "picture",
        subtitle=f"{observed.width} × {observed.height} pixels; noise of {255 * restored.noise.sigma:.1f} of 255",
        tiles=_tiles(restored, scores),
        width=after.shape[2],
        height=after.shape[1],
        before=picture_uri(before[channels], scale),
        after=picture_uri(after[channels], scale),
        taken=picture_uri(taken[channels], scale),
        gain=GAIN,
        choice=figure_uri(draw_choice(restored.trials, restored.gaussians)) if restored.trials else "",
        rows=_rows(scores),
        command=command,
    )


def draw_choice(trials: tuple[Trial, ...], chosen: int) -> Figure:
    """The expected error of each number of Gaussians that was tried, over the least."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    least = min(trial.risk for trial in trials)
    axes.plot([trial.gaussians for trial in trials], [1e4 * (trial.risk - least) for trial in trials], "o-")
    axes.axvline(chosen, linestyle=":", color="gray")
    axes.annotate(f"{chosen:,}", (chosen, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    axes.set_xscale("log")
    axes.set(xlabel="Gaussians", ylabel="expected squared error\nabove the least, 1e-4")
    axes.grid(alpha=0.3)
    return figure


def _tiles(restored: Restored, scores: Scores) -> list[dict[str, str]]:
    tiles = [
        {"name": "Gaussians of a fit", "value": f"{restored.gaussians:,}", "unit": ""},
        {"name": "fits averaged", "value": f"{restored.fits}", "unit": ""},
    ]
    if restored.impulses:
        tiles.append({"name": "impulses", "value": f"{100 * restored.impulses:.1f}", "unit": "%"})
    if scores:
        decibels = scores["psnr"]
        unit = f"dB, {decibels['after'] - decibels['before']:+.2f}" if "before" in decibels else "dB"
        tiles.append({"name": "PSNR", "value": f"{decibels['after']:.2f}", "unit": unit})
    return tiles


def _rows(scores: Scores) -> list[tuple[str, str, str]]:
    return [
        (
            title,
            f"{scores[name]['before']:.{digits}f}" if "before" in scores[name] else "",
            f"{scores[name]['after']:.{digits}f}",
        )
        for name, title, digits in (("psnr", "PSNR, dB", 2), ("ssim", "SSIM", 4), ("lpips", "LPIPS", 4))
        if name in scores
    ]
