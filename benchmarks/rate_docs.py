"""Draws up docs/rate-distortion.md from results/rate_distortion.json. Nothing is measured here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

TITLES = {"kodak": "Kodak", "stylized": "Stylised"}
METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
EMPTY = "–"

CREDITS = {
    "game_kenney_city.png": "Picture: screenshot of the Starter Kit City Builder by Kenney (MIT; its assets are CC0)."
}

HEAD = """# Rate and distortion

Drawn up by `python benchmarks/rate_distortion.py --write-docs` from
[benchmarks/results/rate_distortion.json](../benchmarks/results/rate_distortion.json), which
`python benchmarks/rate_distortion.py` measures. Not written by hand.
"""

METHOD = """## Method

- Pictures: twelve of the Kodak set (kodim01 to kodim12, 768 x 512) and seven stylised ones: game screenshots and
  painted backgrounds, a comic of 2048 x 1152, an anime scene, a frame of an animated film, a painting. An eighth, a
  wallpaper of 2048 x 1152, was not run for this table.
- Sizes are those of whole files, headers included: bits per pixel (bpp) = 8 x bytes / pixels. Every codec is given the
  pixels alone, without a colour profile or other metadata.
- PSNR is over all three channels of the RGB pixels. MS-SSIM is `pytorch-msssim` on RGB; in decibels it is
  -10 log10(1 - x). Both compare 8-bit pixels with 8-bit pixels: what our decoder draws is rounded first.
- BD-rate is the mean difference in bits at equal quality, over 0.1 to 1.0 bpp and the qualities that both codecs reach
  there, by the `bjontegaard` package (PCHIP), per picture, then averaged over the pictures of a set. Below 0: fewer
  bits than the other codec. Curves keep their Pareto front; the ends of the range are interpolated.
- A codec has no entry where its smallest file is above the rate, for one picture of the set at least.
"""


def document(record: Mapping[str, Any]) -> str:
    """The page, from the record that `common.write` wrote."""
    results = record["results"]
    parts = [HEAD]
    makers = {
        "curves": _curves,
        "comparison": _comparison,
        "before": _before,
        "attributes": _attributes,
        "decode": _decode,
        "efforts": _efforts,
    }
    parts += [make(results[name]) for name, make in makers.items() if name in results]
    parts.append(METHOD)
    parts.append(_circumstances(record))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def mean_of(values: Mapping[str, float | None]) -> str:
    """The mean of the pictures that have a value, as a signed percentage; in brackets how many, if not all."""
    found = [value for value in values.values() if value is not None]
    if not found:
        return EMPTY
    short = "" if len(found) == len(values) else f" ({len(found)} of {len(values)})"
    return f"{_signed(mean(found))} %{short}"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n\n"


def _curves(found: Mapping[str, Any]) -> str:
    codecs, sets = found["codecs"], found["sets"]
    ours = [key for key in codecs if key.startswith("imagegs")]
    lines = []
    for key in ours:
        rows = [(_name(codecs, anchor), *_means(sets, key, anchor)) for anchor in codecs if anchor not in ours]
        head = [f"{codecs[key]['label']}, against"]
        head += [f"{TITLES.get(name, name)}, {METRICS[metric]}" for name in sets for metric in METRICS]
        lines.append("## BD-rate, 0.1 to 1.0 bpp\n\n" if key == ours[0] else "")
        lines.append(table(head, rows) + "\n")
    if ours:
        lines.append(_per_picture(found, ours[0]))
    lines.append("## Quality at a rate\n\nMean over the pictures of a set; dB.\n\n")
    for name, entry in sets.items():
        title = TITLES.get(name, name)
        for metric, label in METRICS.items():
            stem = f"rate-{name}-{metric.replace('_', '-')}"
            lines.append(f"![{label} of {title}, mean over the pictures, by bits per pixel](images/{stem}.svg)\n\n")
            lines.append(_at_rates(found, entry, metric, f"{title}, {label}") + "\n")
    lines.append(_settings(codecs))
    return "".join(lines)


def _means(sets: Mapping[str, Any], ours: str, anchor: str) -> list[str]:
    return [mean_of(entry["bd_rate"][ours][anchor][metric]) for entry in sets.values() for metric in METRICS]


def _per_picture(found: Mapping[str, Any], ours: str) -> str:
    codecs = found["codecs"]
    anchors = [key for key, entry in codecs.items() if not key.startswith("imagegs") and entry["main"]]
    rows = []
    for entry in found["sets"].values():
        by_anchor = entry["bd_rate"][ours]
        for picture in entry["at_rates"]:
            values = [by_anchor[anchor]["psnr"][picture] for anchor in anchors]
            rows.append((picture, *(EMPTY if value is None else f"{_signed(value)} %" for value in values)))
    head = ["BD-rate, PSNR", *(codecs[anchor]["label"] for anchor in anchors)]
    return f"<details><summary>By picture</summary>\n\n{table(head, rows)}\n</details>\n\n"


def _at_rates(found: Mapping[str, Any], entry: Mapping[str, Any], metric: str, title: str) -> str:
    rows = []
    for key, codec in found["codecs"].items():
        columns = []
        for index in range(len(found["rates"])):
            values = [picture[key][metric][index] for picture in entry["at_rates"].values()]
            columns.append(EMPTY if None in values else f"{mean(values):.2f}")
        rows.append((codec["label"], *columns))
    return table([title, *(f"{rate:g} bpp" for rate in found["rates"])], rows)


def _settings(codecs: Mapping[str, Any]) -> str:
    rows = [(entry["label"], f"`{entry['identity']}`") for entry in codecs.values()]
    lines = ["| codec | settings and versions |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    return "Settings:\n\n" + "\n".join(lines) + "\n"


def _comparison(found: Mapping[str, Any]) -> str:
    rows = [(row["label"], f"{row['bytes']:,}", f"{row['psnr']:.2f}") for row in found["rows"]]
    return (
        f"## One picture at {found['rate']:g} bpp\n\n"
        + _paragraph(
            f"A part of {found['picture']}, pixel for pixel; the others have at most as many bytes as ours, over the "
            "whole picture."
        )
        + f"![Parts of one picture by every codec](images/{found['file']})\n\n"
        + table(["codec", "bytes", "PSNR, dB"], rows)
        + f"\n{CREDITS.get(found['picture'], '')}\n"
    )


def _before(found: Mapping[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        rows.append(
            (
                TITLES.get(row["set"], row["set"]),
                f"{row['target']:g}",
                f"{row['gaussians']:,.0f}",
                f"{row['bytes']:,.0f}",
                f"{row['psnr']:.2f}",
                f"{row['fixed_bytes']:,.0f}",
                f"{row['fixed_psnr']:.2f}",
                f"{100 * row['ratio']:.1f} %",
            )
        )
    head = [
        "pictures",
        "target, bpp",
        "Gaussians",
        "bytes",
        "PSNR, dB",
        "fixed: bytes",
        "fixed: PSNR, dB",
        "ours/fixed",
    ]
    return (
        "## Before: the same Gaussians at a fixed width\n\n"
        + _paragraph(
            f"The Gaussians of our files (effort {found['effort']}) once more in a file of {found['bits']} bits for "
            "every value, which is what counts of parameters account for. Means over the pictures."
        )
        + table(head, rows)
    )


def _attributes(found: Mapping[str, Any]) -> str:
    lines = [
        "## Bits per Gaussian\n\n",
        _paragraph(
            f"Files of {found['rate']:g} bpp, effort {found['effort']}; mean over all Gaussians of a set. Order-0: "
            "sizes, ratios and colours by their own frequencies, directions and places as equally likely, the order of "
            "the Gaussians free. Contexts: what the coder takes for the same symbols."
        ),
    ]
    for name, entry in found["sets"].items():
        steps = entry["steps"]
        names = list(dict.fromkeys(attribute for row in steps.values() for attribute in row))
        rows = [(step, *(f"{row[a]:.2f}" if a in row else EMPTY for a in names)) for step, row in steps.items()]
        lines.append(table([f"{TITLES.get(name, name)}, bits", *names], rows) + "\n")
        first, last = (steps[step]["total"] for step in (next(iter(steps)), list(steps)[-1]))
        lines.append(f"{100 * (1 - last / first):.1f} % fewer bits from the first row to the last.\n\n")
    return "".join(lines)


def _decode(found: Mapping[str, Any]) -> str:
    columns = ("warm", "first_call", "process", "process_to_png")
    rows = []
    for key, row in sorted(found["codecs"].items(), key=lambda item: item[1]["warm"]["median_ms"]):
        times = [f"{row[name]['median_ms']:.1f} ± {row[name]['iqr_ms']:.1f}" for name in columns]
        rows.append((found["labels"][key], f"{row['bytes']:,}", f"{row['psnr']:.2f}", *times))
    head = ["codec", "bytes", "PSNR, dB", "warm call, ms", "first call, ms", "process, ms", "process to PNG, ms"]
    return (
        "## Decoding\n\n"
        + _paragraph(
            f"{found['picture']} at {found['rate']:g} bpp, from bytes to 8-bit pixels; median and interquartile range, "
            "all in turns in one run. The first call is that of a fresh process, libraries loaded; the process "
            "includes the start of Python; the last column is `imagegs decode` to a PNG file beside a Python program "
            "that does the same with Pillow."
        )
        + table(head, rows)
    )


def _efforts(found: Mapping[str, Any]) -> str:
    rows = [
        (
            str(row["effort"]),
            f"{row['encode_s']:.1f}",
            f"{row['bytes']:,}",
            f"{row['gaussians']:,}",
            f"{row['psnr']:.2f}",
            f"{row['peak_gib']:.2f}",
        )
        for row in found["rows"]
    ]
    head = ["effort", "encode, s", "bytes", "Gaussians", "PSNR, dB", "peak memory, GiB"]
    return f"## Effort\n\n{found['picture']} at {found['rate']:g} bpp.\n\n" + table(head, rows)


def _circumstances(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    measured = ", ".join(f"{name} {part['date']} (commit {part['commit']})" for name, part in record["results"].items())
    return (
        "## Circumstances\n\n"
        f"- {machine['processor']}, {machine['cores']} cores, {machine['system']}; kernels {record['kernels']}, "
        f"{record['threads']} threads.\n- {versions}.\n- Measured: {measured}.\n"
    )


def _name(codecs: Mapping[str, Any], key: str) -> str:
    entry = codecs[key]
    return str(entry["label"]) if entry["main"] else f"*{entry['label']}*"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
