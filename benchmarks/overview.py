"""Draws up docs/results.md: every figure that was to be reached, beside the one that was measured.

python benchmarks/overview.py

Nothing is measured here: figures come from the JSON files of benchmarks/results and docs/results, each of which names
the command that made it. A figure whose file is not there is said to be missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from common import ROOT
from overview_figures import DESIGN, EARLIER, Figure, Found, Missing, record

from imagegs.bench import markdown
from imagegs.files import atomic_write

DOCUMENT = ROOT / "docs" / "results.md"
HEAD = """# Results

`python benchmarks/overview.py`, the last step of `make bench`, draws up the tables from the JSON files that its other
steps write into `benchmarks/results` and `docs/results`: no figure in them is written by hand. How things are measured
is in [benchmarks/README.md](../benchmarks/README.md). {machines}, shared with other work, without a GPU. A figure in
brackets is that of the other method.
"""
PAGES = {
    "results/representation.md": "Gaussians: quality and time by their number",
    "results/published/representation.md": "the same beside published methods with their papers' steps, one picture",
    "rate-distortion.md": "files: bytes and quality beside JPEG, WebP, AVIF, JPEG 2000 and JPEG XL",
    "results/rate-distortion.md": "the same by `imagegs bench`, beside GaussianImage's codec, one picture",
    "results/speed.md": "times of steps, fits, files and renders, and of decoders in turns",
    "results/textures.md": "texture stacks beside ASTC, BC1, BC4, BC7 and picture files",
    "results/upsampling.md": "fitted at half size, drawn at full size",
    "results/large/upsampling.md": "the same with pictures of 2K, and their renders at 4K",
    "results/ablation.md": "what each choice is worth",
    "results/progressive.md": "what beginnings of a file show",
    "results/restoration.md": "damaged and restored, beside filters",
    "results/saliency.md": "what importance moves",
    "results/gallery.md": "a picture at equal bytes, its figures",
    "results/gallery-pictures.html": "and the picture itself, with a divider and one zoom",
}
SHORT = """## Where they fall short

- **Streams** cost 0.75 dB as a whole and 1.6 to 1.9 dB at their beginnings: the places of Gaussians that make a good
  small picture are not those that a large one needs. Eleven ways that were tried, with their figures, are in
  [progressive.md](progressive.md); colours and scales of their own for each beginning would leave 0.8 to 2.2 dB.
- **Contexts** take a tenth of the file off what the symbols' own frequencies give, not an eighth. Tried: other rates of
  mixing (0.5 % of the file), other limits of the counters (0.3 %), a start from probabilities learnt elsewhere (1.2 %,
  with tables in every decoder, left out), colours predicted from larger Gaussians (0.3 to 1.1 bits each, kept).
- **A cold decode** takes three times AVIF's: one serial range coder decodes a Gaussian in 1.1 microseconds, after 2.8
  at first. Tried, and kept: counters and mixes in vectors, no logarithms, no wide divisions. With the loading of the
  decoder ([speed](results/speed.md)) it is three times as well; half of that is the import of NumPy.
- **CBM3D**, which is told the noise, leads by 1.02 dB at noise of 50. Tried, over the mean of fits: filters in equal
  shares (+0.38 dB), in chosen shares (+0.43 dB, kept), blocks of 16 besides (+0.49 dB), a second round (+0.53 dB).
- **Up-sampling.** Gaussians that were fitted to a picture and are drawn twice as large are 0.2 to 0.9 dB below bicubic
  and Lanczos, which go through every pixel: more Gaussians come nearer. `imagegs restore upscale`, which fits through
  the halving, is above both ([restoration.md](restoration.md)).
- **A texel** of 12 channels at K = 10 costs 300 multiply-adds up to 0.2 bits for each channel, and 340 at 0.3. Tried:
  cells of 8 pixels (426), cells by the density of Gaussians (340, kept), cells of one pixel (a tenth less for four
  times the memory).
- **AVIF**, at full resolution of colour and tuned for PSNR, leads on texture stacks: on boombox at every rate, on
  rock023 from 0.1 bits for each channel on ([the table](results/textures.md)).
- **Published methods**: plain PyTorch shared the cores with other work, so that it took few steps even for what it is.
  GaussianImage's codec was given a tenth of the paper's steps: with all of them a file of 1,000 Gaussians has 22.15 dB
  instead of 21.50, and ours of no more bytes 25.38.
- **Denoising** took 69 s while three such runs shared the two cores; alone it takes 27 to 30 s.
"""
UNMEASURED = """## Not measured

No GPU was at hand: none of the figures for CUDA has been seen (46 dB at 49,152 Gaussians in 1 s, 0.6 ms a step at
2048 x 2048, 20,000 Kodak pictures drawn a second, batched fits). `pytest -m gpu` and `python benchmarks/gpu.py` measure
them where there is one; kernels compile in the tests and agree with the CPU's in an emulation ([cuda.md](cuda.md)).
3DGS by gsplat needs a GPU, too, and is left out of the tables for that.
"""
SYMBOLS = {True: "yes", False: "**no**", None: ""}


def _words(found: Found) -> Found:
    """With a minus where there is a hyphen before a digit."""
    return Found(re.sub(r"-(?=\d)", "−", found.text), found.met)


def _command(source: str, command: str) -> str:
    """Of a script; of a table its page, which has all of it."""
    if not command.startswith("imagegs bench "):
        return f"`{command.split(' --parts ')[0]}`"
    page = (ROOT / source).with_suffix(".md").relative_to(DOCUMENT.parent).as_posix()
    return f"[`{' '.join(command.split()[:3])}`]({page})"


def lines(figures: Iterable[Figure]) -> list[tuple[str, ...]]:
    """Rows of a table."""
    rows = []
    for figure in figures:
        try:
            made = record(figure.source)
            found = _words(figure.read(made))
            command = _command(figure.source, made["command"])
        except (Missing, LookupError, StopIteration, TypeError, ValueError) as error:
            found, command = Found(f"missing: {error}"), ""
        elsewhere = f"; elsewhere {figure.elsewhere}" if figure.elsewhere else ""
        rows.append((f"{figure.what}{elsewhere}", figure.asked, found.text, SYMBOLS[found.met], command))
    return rows


def machines() -> str:
    """What the figures were measured on, the most of them first."""
    found = Counter(
        (record(figure.source)["machine"]["cores"], record(figure.source)["machine"]["processor"])
        for figures in (DESIGN, *EARLIER.values())
        for figure in figures
        if (ROOT / figure.source).is_file()
    )
    return "; ".join(f"{cores} cores of an {name}" for (cores, name), _ in found.most_common()) or "Nothing is measured"


def document() -> str:
    """The page."""
    head = ("figure", "asked", "found", "met", "command")
    parts = [
        HEAD.format(machines=machines()),
        "## Figures to reach\n",
        markdown.table(head, lines(DESIGN), texts=len(head)),
    ]
    for title, figures in EARLIER.items():
        parts.append(f"### {title}\n\n{markdown.table(head, lines(figures), texts=len(head))}")
    parts += [SHORT, UNMEASURED]
    pages = [f"- [{text}]({name})" for name, text in PAGES.items() if (DOCUMENT.parent / name).is_file()]
    parts.append("\n".join(["## Tables", "", *pages]))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def missing() -> list[str]:
    """Files that a figure wants and that are not there, and figures that their file does not have."""
    found = []
    for figures in (DESIGN, *EARLIER.values()):
        for figure, row in zip(figures, lines(figures), strict=True):
            if row[2].startswith("missing"):
                found.append(f"{figure.what}: {row[2]}")
    return found


if __name__ == "__main__":
    atomic_write(DOCUMENT, document().encode())
    print("\n".join([str(DOCUMENT.relative_to(ROOT)), *missing()]))
