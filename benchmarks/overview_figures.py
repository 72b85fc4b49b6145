"""Figures that were to be reached, and where those that were measured stand in the JSON files, for `overview.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any

from common import RESULTS, ROOT

from imagegs.bench.rate_distortion import GAUSSIAN_IMAGE

TABLES = ROOT / "docs" / "results"


class Missing(Exception):
    """There is no such file, or it does not have the figure."""


@dataclass(frozen=True)
class Found:
    """A figure.

    Attributes:
        text: it.
        met: whether it is what was asked for; None where nothing was.
    """

    text: str
    met: bool | None = None


@dataclass(frozen=True)
class Figure:
    """A line of a table.

    Attributes:
        what: it tells.
        asked: for it.
        source: the JSON file, from the root.
        read: finds it there.
        elsewhere: what is known of others.
    """

    what: str
    asked: str
    source: str
    read: Callable[[Any], Found]
    elsewhere: str = ""


@cache
def record(source: str) -> Any:
    """What a JSON file holds.

    Raises:
        Missing: there is none.
    """
    path = ROOT / source
    if not path.is_file():
        raise Missing(f"{source} is not there")
    return json.loads(path.read_text(encoding="utf-8"))


def script(name: str) -> str:
    """The results of a script of this folder."""
    return (RESULTS / f"{name}.json").relative_to(ROOT).as_posix()


def bench(name: str) -> str:
    """The results of a table."""
    return (TABLES / f"{name}.json").relative_to(ROOT).as_posix()


def above(value: float, least: float, form: str = ".2f", unit: str = " dB") -> Found:
    return Found(f"{value:{form}}{unit}", value >= least)


def below(value: float, most: float, form: str = ".2f", unit: str = "") -> Found:
    return Found(f"{value:{form}}{unit}", value <= most)


def every(found: Sequence[Found]) -> Found:
    """All of them in one."""
    return Found(" / ".join(one.text for one in found), all(one.met for one in found))


def _row(table: Any, method: str, count: int) -> Any:
    for row in table["summary"]["rows"]:
        if (row["method"], row["gaussians"]) == (method, count):
            return row
    raise Missing(f"no row of {method} at {count:,}")


def kodak_quality(table: Any) -> Found:
    if len(table["pictures"]) != 12:
        raise Missing(f"{len(table['pictures'])} pictures")
    rows = [_row(table, "balanced", count) for count in (5000, 10_000)]
    limits = (34.0, 37.5)
    return every([above(row["psnr"]["mean"], least) for row, least in zip(rows, limits, strict=True)])


def kodak_time(table: Any) -> Found:
    rows = [_row(table, "balanced", count) for count in (5000, 10_000)]
    limits = (6.0, 12.0)
    return every(
        [below(row["fit_ms"]["median"] / 1e3, most, ".1f", " s") for row, most in zip(rows, limits, strict=True)]
    )


def many_gaussians(table: Any) -> Found:
    row = _row(table, "balanced", 40_000)
    return Found(f"{row['psnr']['mean']:.2f} dB in {row['fit_ms']['median'] / 1e3:.0f} s, on the CPU")


def bd_rate(codec: str, metric: str, kodak: float | None, stylized: float | None) -> Callable[[Any], Found]:
    def read(table: Any) -> Found:
        found = []
        for name, most in (("kodak", kodak), ("stylized", stylized)):
            rates = table["results"]["curves"]["sets"][name]["bd_rate"]["imagegs-5"][codec][metric]
            value = mean(rate for rate in rates.values() if rate is not None)
            found.append(Found(f"{value:+.1f} %", most is None or value <= most))
        return Found(" / ".join(one.text for one in found), None if kodak is None else all(one.met for one in found))

    return read


def contexts(table: Any) -> Found:
    shares = []
    for found in table["results"]["attributes"]["sets"].values():
        steps = found["steps"]
        shares.append(100 * (1 - steps["contexts"]["total"] / steps["order-0"]["total"]))
    return every([above(share, 12, ".1f", " %") for share in shares])


def decode_first(table: Any) -> Found:
    found = table["results"]["decode"]["codecs"]
    ours, avif = (found[name]["first_call"]["median_ms"] for name in ("imagegs", "avif"))
    return Found(f"{ours:.0f} ms, AVIF's {avif:.0f} ms", ours < avif)


def steps(blend: str) -> Callable[[Any], Found]:
    def read(table: Any) -> Found:
        ratios = [one[blend]["spike_over_ours"] for one in table["results"]["steps"] if one["gaussians"] == 5000]
        return Found(f"{min(ratios):.2f} to {max(ratios):.2f} times", min(ratios) >= 2)

    return read


def reference(table: Any) -> Found:
    return above(table["results"]["reference"]["reference_over_ours"], 200, ".0f", " times")


def over_experiment(table: Any) -> Found:
    means = [one["mean"] for one in table["results"]]
    gains = [above(one["ours_db"] - one["spike_db"], 0.6, "+.2f") for one in means]
    times = all(one["ours_s"] <= one["spike_s"] for one in means)
    return Found(every(gains).text, every(gains).met and times)


def large_fit(table: Any) -> Found:
    fit = table["results"]["fit"]
    return every([below(fit["encode_s"], 90, ".0f", " s"), below(fit["peak_gib"], 1.5e9 / 2**30, ".2f", " GiB")])


def cold_command(table: Any) -> Found:
    return below(table["results"]["decode"]["process_s"], 0.5, ".2f", " s")


def weighted(table: Any) -> Found:
    gains = table["results"]["human fixations"]["gains"]
    changes = next(one["changes"] for one in gains if one["strength"] == 1.0)
    limits = {"weighted_psnr": 1.5, "region_psnr": 2.5, "outside_psnr": -3.0}
    return every([above(changes[name], least, "+.2f") for name, least in limits.items()])


def builtin_source(table: Any) -> Found:
    rows = {row["source"]: row for row in table["results"]}
    ours, prior = rows["builtin"], rows["centre prior"]
    text = f"NSS {ours['nss']:.2f} and {prior['nss']:.2f}, AUC {ours['auc_judd']:.2f} and {prior['auc_judd']:.2f}"
    return Found(text, ours["nss"] > prior["nss"] and ours["auc_judd"] > prior["auc_judd"])


def builtin_time(table: Any) -> Found:
    rows = {row["source"]: row for row in table["results"]}
    return below(rows["builtin"]["times"]["768 x 512"]["median_ms"] / 1e3, 0.2, ".2f", " s")


def denoised(others: Sequence[str], tolerance: float = 0.0) -> Callable[[Any], Found]:
    def read(table: Any) -> Found:
        found = []
        for sigma in (15, 25, 50):
            means = table["results"]["means"][f"denoise, sigma {sigma}"]
            best = max(means[name]["psnr"] for name in others)
            ours = means["ours"]["psnr"]
            found.append(Found(f"{ours:.2f} ({best:.2f})", ours > best - tolerance))
        return every(found)

    return read


def restored(names: Sequence[str], other: str, gain: float) -> Callable[[Any], Found]:
    def read(table: Any) -> Found:
        found = []
        for name in names:
            means = table["results"]["means"][name]
            ours, best = means["ours"]["psnr"], means[other]["psnr"]
            found.append(Found(f"{ours:.2f} ({best:.2f})", ours >= best + gain))
        return every(found)

    return read


def small_files(table: Any) -> Found:
    """Of files for which 0.95 bpp were asked, which `encode` never exceeds."""
    means = table["results"]["means"]
    found = [means[f"joint, sigma {sigma}, 0.95 bpp"]["ours"]["psnr"] for sigma in (15, 25, 50)]
    return Found(" / ".join(f"{psnr:.2f}" for psnr in found) + " dB at 0.95 bpp", True)


def cameras(table: Any) -> Found:
    means = table["results"]["means"]["real, noise of cameras"]
    gains = [means[name]["psnr"] - means["observed"]["psnr"] for name in ("ours", "nlm")]
    return Found(f"{gains[0]:+.2f} dB ({gains[1]:+.2f} dB)")


def published_codec(table: Any) -> Found:
    times = table["summary"]["times"]
    rates = table["summary"]["bd_rate"]["imagegs-5"][GAUSSIAN_IMAGE]["psnr"]["mean"]
    steps = table["summary"]["labels"][GAUSSIAN_IMAGE].rpartition("codec, ")[2]
    frames = [1e3 / times[key]["render_ms"]["median"] for key in ("imagegs-5", GAUSSIAN_IMAGE)]
    beyond = "no common quality" if rates is None else f"{rates:+.0f} %"
    return Found(f"{beyond}; {frames[0]:.0f} ({frames[1]:.0f}) frames a second; {steps}")


def upsampled(table: Any) -> Found:
    rows = {row["label"]: row["psnr"]["mean"] for row in table["summary"]["rows"]}
    ours = max(value for label, value in rows.items() if label.startswith("imagegs"))
    return Found(f"{ours:.2f} dB ({rows['bicubic']:.2f} / {rows['Lanczos']:.2f} dB)")


def large_render(table: Any) -> Found:
    times = {row["label"]: row["large_ms"]["median"] for row in table["summary"]["rows"]}
    ours = min(value for label, value in times.items() if label.startswith("imagegs"))
    return Found(f"{ours:.0f} ms ({times['bicubic']:.0f} ms)")


def joint(table: Any) -> Found:
    least = min(
        means["ours"]["psnr"] - max(one["psnr"] for name, one in means.items() if "coded" in name)
        for name, means in table["results"]["means"].items()
        if name.startswith("joint")
    )
    return Found(f"{least:+.2f} dB at least", least > 0)


def restoring_time(table: Any) -> Found:
    seconds = [table["results"]["means"][f"denoise, sigma {sigma}"]["ours"]["seconds"] for sigma in (15, 25, 50)]
    return below(max(seconds), 60, ".0f", " s")


def capacity(table: Any) -> Found:
    return below(table["results"]["summary"]["coupled bootstrap"]["mean"], 0.3, ".2f", " dB below")


def prefixes_of(table: Any) -> Found:
    found = table["results"]["mean"]["mean_psnr"]
    return every([above(value, least) for value, least in zip(found, (28.5, 29.4, 30.2), strict=True)])


def first_picture(table: Any) -> Found:
    level = table["results"]["mean"]["levels"][0]
    return Found(f"{level['psnr']:.2f} dB at {100 * level['share']:.1f} %", level["psnr"] > 24)


def whole_stream(table: Any) -> Found:
    last = table["results"]["mean"]["levels"][-1]
    return Found(f"{last['psnr'] - last['separate']:+.2f} dB", last["psnr"] >= last["separate"] - 0.3)


def prefixes(table: Any) -> Found:
    levels = table["results"]["mean"]["levels"][:-1]
    return every([above(level["psnr"] - level["separate"], -0.8, "+.2f") for level in levels])


def browser(table: Any) -> Found:
    found = table["results"]
    first, again = found["first_level_cpu"]["median"], found["decode_again"]["median"]
    return Found(
        f"{first:.0f} ms, {again:.0f} ms, {found['script_bytes'] / 1e3:.1f} kB",
        first <= 150 and again < 60 and found["script_bytes"] < 40_000,
    )


def server(table: Any) -> Found:
    found = table["results"]["one chunk"]
    return Found(f"{found['errors']} errors, p99 {found['p99_ms']:.0f} ms", found["errors"] == 0)


def two_workers(table: Any) -> Found:
    return above(table["results"]["two over one"]["median"], 1.8, ".2f", " times")


def giant(table: Any) -> Found:
    found = table["results"]["levels 2"]
    return every(
        [
            below(found["peak memory, bytes"] / 1e9, 2, ".2f", " GB"),
            Found(f"{found['PSNR at borders of blocks']['4']:+.2f} dB", found["PSNR at borders of blocks"]["4"] > -0.2),
            below(100 * found["region"]["share of the file"]["mean"], 2, ".1f", " %"),
            below(found["region"]["seconds"]["most"], 0.5, ".2f", " s"),
        ]
    )


def data_set(table: Any) -> Found:
    found = table["results"]["per second"]
    names = ("gsimg", "jpeg", "gsimg, quarter", "jpeg, quarter")
    return Found(" / ".join(f"{found[name]:.0f}" for name in names))


def texel(table: Any) -> Found:
    costs = [row["multiply_adds"] for one in table["summary"]["sets"] for row in one["ours"] if row["blend"] == "topk"]
    if not costs:
        raise Missing("no row of topk")
    return Found(f"{min(costs):.0f} to {max(costs):.0f}", max(costs) <= 300)


DESIGN = (
    Figure(
        "Kodak, kodim01–12: mean PSNR at 5,000 / 10,000 Gaussians",
        "34.0 / 37.5 dB",
        bench("representation"),
        kodak_quality,
        "31.83 / 35.41 dB (GaussianImage++, 50,000 steps on a GPU, 24 pictures); 36.15 (LocoADC)",
    ),
    Figure("… in time, two cores", "6 / 12 s", bench("representation"), kodak_time, "minutes on a GPU"),
    Figure(
        "46 dB: 49,152 Gaussians on a GPU; found: 40,000 on two cores",
        "1 s on an H200",
        bench("representation"),
        many_gaussians,
        "46.0 dB in 2.2 s (SAD, on a GPU); 36.9 dB in 28 s (Image-GS, on a GPU)",
    ),
    Figure(
        "BD-rate against JPEG, Kodak / stylised",
        "−50 / −65 %",
        script("rate_distortion"),
        bd_rate("jpeg", "psnr", -50, -65),
    ),
    Figure("… against WebP", "−20 / −45 %", script("rate_distortion"), bd_rate("webp", "psnr", -20, -45)),
    Figure("… against AVIF", "0 / −25 %", script("rate_distortion"), bd_rate("avif", "psnr", 0, -25)),
    Figure("… against AVIF, by MS-SSIM", "", script("rate_distortion"), bd_rate("avif", "ms_ssim", None, None)),
    Figure(
        "Beginnings of 5,000 / 7,000 / 9,000 Gaussians, Kodak",
        "28.5 / 29.4 / 30.2 dB",
        script("lod_counts"),
        prefixes_of,
        "28.5 / 29.4 / 30.2 dB (P-GSVC)",
    ),
    Figure("A whole stream beside a file of one level and these bytes", "−0.3 dB", script("lod_rate"), whole_stream),
    Figure("Its beginnings beside separate files of their bytes", "−0.8 dB", script("lod_rate"), prefixes),
    Figure(
        "First picture at 5 % of a file of 1.3 bpp",
        "24 dB",
        script("lod_rate"),
        first_picture,
        "16 dB (progressive JPEG)",
    ),
    Figure(
        "Blind denoising, Kodak, noise of 15 / 25 / 50 (best of NLM, wavelets and TV)",
        "above it",
        script("restoration"),
        denoised(("nlm", "wavelet", "tv")),
    ),
    Figure("… beside CBM3D, which is told the noise", "within 1 dB", script("restoration"), denoised(("cbm3d",), 1.0)),
    Figure(
        "Cold decode of a Kodak picture, the first call", "faster than AVIF's", script("rate_distortion"), decode_first
    ),
)
EARLIER = {
    "Core": (
        Figure(
            "A step beside the CPU experiment's, `normalized`", "2 times as fast", script("step"), steps("normalized")
        ),
        Figure("… `topk`, K = 10", "2 times as fast", script("step"), steps("topk")),
        Figure("… beside the PyTorch definition's", "200 times as fast", script("step"), reference),
        Figure(
            "PSNR above the experiment's in no more time, 5,000 / 10,000", "+0.6 dB", script("quality"), over_experiment
        ),
        Figure("2048 x 2048, 20,000 Gaussians, `fast`: time / memory", "90 s / 1.5 GB", script("process"), large_fit),
        Figure(
            "`imagegs decode` of a Kodak picture to PNG, the whole process", "0.5 s", script("process"), cold_command
        ),
    ),
    "Codec": (
        Figure("Contexts, share of the file, Kodak / stylised", "12 %", script("rate_distortion"), contexts),
        Figure(
            "Bytes beside GaussianImage's codec at equal PSNR, kodim01; pictures drawn from memory (its)",
            "",
            bench("rate-distortion"),
            published_codec,
        ),
        Figure("Fitted at half size, drawn at full size (bicubic / Lanczos)", "", bench("upsampling"), upsampled),
        Figure("A picture of 2K drawn at 4K (bicubic)", "", bench("large/upsampling"), large_render),
        Figure(
            "Texture stacks, `topk` of 10: multiply-adds for a texel of 12 or 8 channels",
            "300",
            bench("textures"),
            texel,
        ),
    ),
    "Saliency": (
        Figure(
            "Fixations as importance: PSNR weighted / of the region / outside",
            "+1.5 / +2.5 / −3 dB",
            script("saliency_rate"),
            weighted,
        ),
        Figure("`builtin` beside a centre prior", "above it", script("saliency_sources"), builtin_source),
        Figure("Its map of 768 x 512", "0.2 s", script("saliency_sources"), builtin_time),
    ),
    "Restoration": (
        Figure("Denoised in a file, noise of 15 / 25 / 50", "below 1 bpp", script("restoration"), small_files),
        Figure(
            "Denoised in a file, beside the best filter and then JPEG or WebP", "above it", script("restoration"), joint
        ),
        Figure(
            "Half of the pixels / text missing (biharmonic)",
            "above it",
            script("restoration"),
            restored(("inpaint, half missing", "inpaint, text"), "biharmonic", 0),
        ),
        Figure(
            "Upscaling by 2 / 4 (bicubic)",
            "+0.5 dB",
            script("restoration"),
            restored(("upscale, x2", "upscale, x4"), "bicubic", 0.5),
        ),
        Figure(
            "Deblurring (Richardson–Lucy)",
            "+1 dB",
            script("restoration"),
            restored(("deblur, 2 px, 1 %",), "richardson-lucy", 1),
        ),
        Figure(
            "JPEG of quality 10 (the decoded JPEG)",
            "+0.8 dB",
            script("restoration"),
            restored(("dejpeg, quality 10",), "observed", 0.8),
        ),
        Figure("Noise of cameras: gain (that of NLM)", "", script("restoration"), cameras),
        Figure(
            "Number of Gaussians without a clean picture, beside the best",
            "0.3 dB",
            script("restoration_choice"),
            capacity,
        ),
        Figure("Denoising 768 x 512, two cores", "60 s", script("restoration"), restoring_time),
    ),
    "Levels of detail": (
        Figure(
            "In Chromium: first picture / decoding again / scripts",
            "150 ms / 60 ms / 40 kB",
            script("browser"),
            browser,
        ),
        Figure("200 clients that read ranges", "no errors", script("lod_server"), server),
    ),
    "Scale": (
        Figure("Two processes beside one", "1.8 times", script("batch"), two_workers),
        Figure(
            "8192 x 8192: memory / borders of blocks / a region: share, time",
            "2 GB / −0.2 dB / 2 % / 0.5 s",
            script("giant"),
            giant,
        ),
        Figure("Data set, pictures a second: ours / JPEG / quarter size: ours / JPEG", "", script("dataset"), data_set),
    ),
}
