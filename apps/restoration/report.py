"""One HTML page: the picture before and after, what was taken away, and how the number of Gaussians was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagegs import Picture
from imagegs.figures import json_text
from imagegs.files import atomic_write_folder
from imagegs.metrics import psnr, ssim
from imagegs.pages import fill_page
from imagegs.plots import color_channels
from imagegs.report import DATA, LONGEST_SIDE, PAGE, figure_uri, picture_uri

from .operators import FloatArray, Operator
from .restoring import Restored, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAIN = 4
"""How much stronger differences are shown."""


def write_report(
    folder: Path,
    observed: Picture,
    restored: Restored,
    operator: Operator,
    figures: Mapping[str, Any],
    command: str,
    reference: Picture | None = None,
) -> Path:
    """Write the page and ``report.json`` into a folder, which is made if its parent exists.

    Args:
        folder: where to write.
        observed: the degraded picture.
        restored: what came of it.
        operator: what it was fitted through; its first guess stands for the degraded picture where sizes differ.
        figures: for ``report.json``.
        command: how to reproduce it, as one would type it.
        reference: the clean picture.

    Returns:
        The page's path.

    Raises:
        ImageError: the folder cannot be made or written.
        ShapeError: the reference has another size than the restored picture.
    """
    scores = _scores(observed, restored.picture, reference)
    page = render_page(observed, restored, operator, scores, command).encode()
    trials = [{"gaussians": trial.gaussians, "risk": trial.risk} for trial in restored.trials]
    data = json_text({"command": command, **figures, "trials": trials, "scores": scores}).encode()
    atomic_write_folder(folder, {PAGE: lambda: page, DATA: lambda: data})
    return folder / PAGE


def render_page(
    observed: Picture, restored: Restored, operator: Operator, scores: Mapping[str, Mapping[str, float]], command: str
) -> str:
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
        subtitle=f"{observed.width} × {observed.height} pixels; noise of {255 * restored.sigma:.1f} of 255",
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


def _scores(observed: Picture, restored: Picture, reference: Picture | None) -> dict[str, dict[str, float]]:
    """PSNR and SSIM against the reference: of the restored picture, and of the degraded one if it is as large."""
    if reference is None:
        return {}
    pictures: dict[str, FloatArray] = {"after": restored.pixels}
    if observed.pixels.shape == reference.pixels.shape:
        pictures["before"] = np.clip(observed.pixels, 0, 1)
    clean = reference.pixels
    return {name: {"psnr": psnr(clean, pixels), "ssim": ssim(clean, pixels)} for name, pixels in pictures.items()}


def _tiles(restored: Restored, scores: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    tiles = [
        {"name": "Gaussians of a fit", "value": f"{restored.gaussians:,}", "unit": ""},
        {"name": "fits averaged", "value": f"{restored.fits}", "unit": ""},
    ]
    if "after" in scores:
        gain = scores["after"]["psnr"] - scores["before"]["psnr"] if "before" in scores else None
        unit = "dB" if gain is None else f"dB, {gain:+.2f}"
        tiles.append({"name": "PSNR", "value": f"{scores['after']['psnr']:.2f}", "unit": unit})
    return tiles


def _rows(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, str]]:
    if not scores:
        return []
    before = scores.get("before", {})
    return [
        (name, f"{before[key]:.{digits}f}" if key in before else "", f"{scores['after'][key]:.{digits}f}")
        for name, key, digits in (("PSNR, dB", "psnr", 2), ("SSIM", "ssim", 4))
    ]
