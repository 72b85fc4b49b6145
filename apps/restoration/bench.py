"""``imagegs bench restoration``: pictures damaged on purpose, restored by ours and by classical methods beside it.

Each cell damages a picture in one way, and restores it by every method in the same run. What is told to ours is the
operator alone, never the noise; filters of scikit-image get its own estimate. PSNR is against the clean picture,
restored ones cut to [0, 1].
"""

from __future__ import annotations

import importlib.util
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagegs import Picture, PictureInfo
from imagegs.bench import Cell, Outcome, Source, Table, markdown, spread
from imagegs.bench.anchors import to_image
from imagegs.image import FloatArray
from imagegs.metrics import psnr

from .jpeg import read_jpeg
from .operators import Blur, Downsample
from .restoring import restore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = {
    "noise 15": "Gaussian noise of 15 of 255",
    "noise 25": "Gaussian noise of 25 of 255",
    "noise 50": "Gaussian noise of 50 of 255",
    "inpaint": "half of the pixels missing",
    "upscale": "half the size, from bicubic",
    "deblur": "a bell of 2 px and 1 % noise",
    "dejpeg": "JPEG of quality 10",
}
QUICK_TASKS, QUICK_SIDE, QUICK_STEPS = ("noise 25", "inpaint", "upscale"), 256, 100
LABELS = {
    "observed": "degraded",
    "ours": "imagegs",
    "nlm": "non-local means",
    "wavelet": "BayesShrink wavelets",
    "tv": "total variation",
    "bilateral": "bilateral filter",
    "biharmonic": "biharmonic inpainting",
    "bicubic": "bicubic",
    "lanczos": "Lanczos",
    "richardson-lucy": "Richardson-Lucy",
}
QUALITY, FACTOR, BLUR_SIGMA, BLUR_NOISE = 10, 2, 2.0, 0.01
NEEDED = {"skimage": "scikit-image", "pywt": "PyWavelets"}


class Restoration(Table):
    """The table.

    Args:
        quick: some damages, the middle 256 x 256 pixels, and fits of few steps.
    """

    name: ClassVar[str] = "restoration"
    title: ClassVar[str] = "Restoration: damaged on purpose, and beside classical methods"

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.tasks = QUICK_TASKS if quick else tuple(TASKS)
        self.side = QUICK_SIDE if quick else None
        self.steps = QUICK_STEPS if quick else None
        absent = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
        self.classical = not absent
        if absent:
            packages = " and ".join(absent)
            self.notes.append(
                f"Filters of scikit-image are left out: they need {packages}: pip install 'imagegs[bench]'."
            )
        if quick:
            self.notes.append(f"Quick: the middle {QUICK_SIDE} x {QUICK_SIDE} pixels, fits of {QUICK_STEPS} steps.")

    def plan(self, sources: Sequence[Source]) -> list[Cell]:
        """Every damage of every picture."""
        return [
            Cell(
                source if self.side is None else replace(source, side=self.side),
                {"task": task, "classical": self.classical, "steps": self.steps, "seed": 0},
            )
            for source in sources
            for task in self.tasks
        ]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """PSNR and seconds of each method."""
        picture, task = cell.source.picture, cell.settings["task"]
        if task.startswith("noise"):
            return self._denoise(picture, float(task.split()[1]) / 255, cell.source.digest)
        return {"inpaint": self._inpaint, "upscale": self._upscale, "deblur": self._deblur, "dejpeg": self._dejpeg}[
            task
        ](picture, cell.source.digest)

    def summarize(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """By damage and method, over pictures."""
        tasks: dict[str, Any] = {}
        for task in self.tasks:
            found = [outcome.found for outcome in outcomes if outcome.cell.settings["task"] == task]
            if found:
                tasks[task] = {
                    method: {key: spread([figures[method][key] for figures in found]) for key in found[0][method]}
                    for method in found[0]
                }
        return {"tasks": tasks}

    def write(self, summary: Mapping[str, Any]) -> str:
        """One table for each damage, the best first."""
        parts = []
        for task, methods in summary["tasks"].items():
            rows = [
                (LABELS[method], markdown.mean(row["psnr"]), markdown.middle(row.get("seconds")))
                for method, row in sorted(methods.items(), key=lambda item: -float(item[1]["psnr"]["mean"]))
            ]
            parts.append(f"{TASKS[task]}:\n\n" + markdown.table(("method", "PSNR, dB", "time, s"), rows))
        return "Means of PSNR and medians of times over pictures, the best first.\n\n" + "\n\n".join(parts)

    def draw(self, summary: Mapping[str, Any]) -> dict[str, Figure]:
        """PSNR by damage and method."""
        from imagegs.bench.drawing import draw_bars

        figures = {}
        for task, methods in summary["tasks"].items():
            bars = {"PSNR": [row["psnr"]["mean"] for row in methods.values()]}
            names = [LABELS[method] for method in methods]
            figures[task.replace(" ", "-")] = draw_bars(
                names, bars, f"PSNR, dB: {TASKS[task]}", ours=[LABELS["ours"]], log=False
            )
        return figures

    def _denoise(self, picture: Picture, sigma: float, name: str) -> dict[str, Any]:
        clean = picture.pixels
        noisy = (clean + sigma * noise_of(clean.shape, name)).astype(np.float32)
        rows = {"observed": {"psnr": psnr_cut(noisy, clean)}, "ours": self._ours(noisy, clean)}
        if self.classical:
            rows |= {method: timed(work, clean) for method, work in blindly(noisy, estimated(noisy)).items()}
        return rows

    def _inpaint(self, picture: Picture, name: str) -> dict[str, Any]:
        clean = picture.pixels
        known = np.random.default_rng(list(name.encode())).random(clean.shape[1:]) < 0.5
        seen = np.where(known, clean, 0).astype(np.float32)
        rows = {"ours": self._ours(seen, clean, known=known, noise=0.0)}
        if self.classical:
            from skimage.restoration import inpaint_biharmonic

            rows["biharmonic"] = timed(lambda: inpaint_biharmonic(seen, ~known, channel_axis=0), clean)
        return rows

    def _upscale(self, picture: Picture, name: str) -> dict[str, Any]:
        import torch

        operator = Downsample(FACTOR)
        clean = picture.pixels[:, : picture.height // FACTOR * FACTOR, : picture.width // FACTOR * FACTOR]
        clean = np.ascontiguousarray(clean)
        seen = np.round(255 * np.clip(operator(torch.from_numpy(clean)).numpy(), 0, 1)) / 255
        rows = {"ours": self._ours(seen, clean, operator)}
        for method, kind in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
            rows[method] = timed(lambda kind=kind: _resized(seen, clean.shape[1:], kind), clean)  # type: ignore[misc]
        return rows

    def _deblur(self, picture: Picture, name: str) -> dict[str, Any]:
        import torch

        clean, operator = picture.pixels, Blur.gaussian(BLUR_SIGMA)
        blurred = operator(torch.from_numpy(clean)).numpy() + BLUR_NOISE * noise_of(clean.shape, name)
        seen = np.clip(blurred, 0, 1).astype(np.float32)
        rows = {"observed": {"psnr": psnr_cut(seen, clean)}, "ours": self._ours(seen, clean, operator)}
        if self.classical:
            rows["richardson-lucy"] = timed(lambda: richardson_lucy(seen, operator.kernel, 10), clean)
        return rows

    def _dejpeg(self, picture: Picture, name: str) -> dict[str, Any]:
        clean, buffer = picture.pixels, io.BytesIO()
        to_image(clean).save(buffer, "JPEG", quality=QUALITY)
        seen = np.asarray(Image.open(buffer).convert("RGB"), np.float32).transpose(2, 0, 1) / np.float32(255)
        mine = self._ours(np.ascontiguousarray(seen), clean, read_jpeg(buffer.getvalue()), noise=0.0)
        return {"observed": {"psnr": psnr_cut(seen, clean)}, "ours": mine}

    def _ours(self, seen: npt.NDArray[Any], clean: FloatArray, *arguments: Any, **options: Any) -> dict[str, float]:
        observed = Picture(seen.astype(np.float32), PictureInfo.of_channels(3))  # which may leave [0, 1], as noise does
        return timed(lambda: restore(observed, *arguments, steps=self.steps, **options).picture.pixels, clean)


def make_table(name: str, quick: bool) -> Table:
    """The table of this name."""
    return {"restoration": Restoration}[name](quick=quick)


def timed(work: Callable[[], npt.NDArray[Any]], clean: FloatArray) -> dict[str, float]:
    """PSNR of what a call gives, and its seconds."""
    began = time.perf_counter()
    found = work()
    return {"psnr": psnr_cut(found, clean), "seconds": time.perf_counter() - began}


def psnr_cut(found: npt.NDArray[Any], clean: FloatArray) -> float:
    """PSNR of a picture, cut to [0, 1]."""
    return psnr(clean, np.clip(found, 0, 1))


def noise_of(shape: tuple[int, ...], name: str) -> npt.NDArray[np.float64]:
    """Noise of deviation 1, always the same for a name."""
    return np.random.default_rng(list(name.encode())).standard_normal(shape)


def blindly(noisy: npt.NDArray[Any], estimate: float) -> dict[str, Callable[[], npt.NDArray[Any]]]:
    """Filters of scikit-image with this estimate of the noise."""
    from skimage import restoration

    means = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": 0}
    wavelets = {"channel_axis": 0, "convert2ycbcr": True, "method": "BayesShrink", "rescale_sigma": True}
    return {
        "nlm": lambda: restoration.denoise_nl_means(noisy, h=0.8 * estimate, sigma=estimate, **means),
        "wavelet": lambda: restoration.denoise_wavelet(noisy, **wavelets),
        "tv": lambda: restoration.denoise_tv_chambolle(noisy, weight=1.2 * estimate, channel_axis=0),
        "bilateral": lambda: restoration.denoise_bilateral(
            np.clip(noisy, 0, 1), sigma_color=2 * estimate, sigma_spatial=2, channel_axis=0
        ),
    }


def estimated(noisy: npt.NDArray[Any]) -> float:
    """The deviation of the noise, by scikit-image."""
    from skimage.restoration import estimate_sigma

    return float(np.mean(estimate_sigma(noisy, channel_axis=0)))


def richardson_lucy(seen: npt.NDArray[Any], kernel: npt.NDArray[Any], rounds: int) -> npt.NDArray[Any]:
    """Richardson-Lucy by scikit-image, which takes what lies outside for zeros: a mirrored margin does better."""
    from skimage import restoration

    margin = min(32, *(side - 1 for side in seen.shape[1:]))
    wide = np.pad(seen, ((0, 0), (margin, margin), (margin, margin)), "reflect")
    found = [restoration.richardson_lucy(channel, kernel, num_iter=rounds) for channel in wide]
    return np.stack(found)[:, margin:-margin, margin:-margin]


def _resized(pixels: npt.NDArray[Any], size: tuple[int, ...], kind: Image.Resampling) -> npt.NDArray[Any]:
    planes = [Image.fromarray(channel.astype(np.float32)).resize((size[1], size[0]), kind) for channel in pixels]
    return np.stack([np.asarray(plane) for plane in planes])
