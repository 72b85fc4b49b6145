"""``imagegs info``: what a ``.gsimg`` file holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console

if TYPE_CHECKING:
    from ..codec import Chunk, GsimgFile

MOST_ROWS = 100
"""Longest table of chunks that is shown to people."""


def run(
    source: Annotated[Path, typer.Argument(metavar="IN.gsimg", help="File to describe.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a file that was cut, instead of a warning.")] = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse a larger canvas.")] = 1 << 40,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, every chunk included.")] = False,
) -> None:
    """Show what a .gsimg file holds, by level and block, without drawing it."""
    from ..codec import read_file

    file = read_file(source, max_pixels=max_pixels, strict=strict)
    console.print_warnings(file.notes)
    facts = _facts(file)
    if json:
        console.print_json({"file": str(source), **facts})
        return
    console.print_table([("file", str(source)), *_rows(facts)])
    console.print_table(_level_rows(facts), header=("level", "blocks", "bytes", "Gaussians", "PSNR up to here"))
    if facts["block_size"] and len(facts["chunks"]) <= MOST_ROWS:
        header = ("level", "block", "bytes", "Gaussians", "reach", "PSNR up to here")
        console.print_table(_chunk_rows(facts), header=header)


def _facts(file: GsimgFile) -> dict[str, Any]:
    gaussians, info = file.gaussians, file.info
    count, payload = (sum(getattr(chunk, name) for chunk in file.whole) for name in ("count", "length"))
    names = [str(index) for index in range(gaussians.channels)] if info is None else list(info.channel_names)
    return {
        "version": ".".join(str(number) for number in file.version),
        "bytes": file.size,
        "bpp": file.bpp,
        "width": gaussians.width,
        "height": gaussians.height,
        "channels": names,
        "stack": [plane.name for plane in info.planes] if info is not None and info.stack else [],
        "gaussians": len(gaussians),
        "blend": gaussians.blend,
        "top_k": gaussians.top_k if gaussians.blend == "topk" else None,
        "quantizer": file.header.quantizer,
        "bits": None if file.bits is None else asdict(file.bits),
        "bits_per_gaussian": 8 * payload / count if count else None,
        "attribute_bits_per_gaussian": file.bits_per_gaussian,
        "attribute_bytes": {name: bits / 8 for name, bits in file.attribute_bits.items()},
        "sections": file.sections,
        "block_size": 1 << file.header.block_shift if file.header.block_shift else None,
        "blocks": len(file.header.blocks),
        "levels": _levels(file.chunks),
        "chunks": [asdict(chunk) for chunk in file.chunks],
        "icc_bytes": len(info.icc) if info is not None else 0,
        "exif_bytes": len(info.exif) if info is not None else 0,
        "xmp_bytes": len(info.xmp) if info is not None else 0,
    }


def _levels(chunks: tuple[Chunk, ...]) -> list[dict[str, Any]]:
    """What the chunks of Gaussians of each level come to; the PSNR is that of the prefix which ends with the level."""
    from ..codec.table import KIND_GAUSSIANS

    levels: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        if chunk.kind == KIND_GAUSSIANS:
            levels.setdefault(chunk.level, []).append(chunk)
    return [
        {
            "level": level,
            "blocks": len(found),
            "bytes": sum(chunk.length for chunk in found),
            "gaussians": sum(chunk.count for chunk in found),
            "psnr": found[-1].psnr,
        }
        for level, found in levels.items()
    ]


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    blend = facts["blend"] if facts["top_k"] is None else f"{facts['blend']}, K = {facts['top_k']}"
    bits, side = facts["bits_per_gaussian"], facts["block_size"]
    shares = ", ".join(f"{name} {share:.2f}" for name, share in facts["attribute_bits_per_gaussian"].items())
    rows = [
        ("format version", facts["version"]),
        ("size of the file", f"{facts['bytes']:,} bytes, {facts['bpp']:.4f} bits per pixel"),
        ("picture", f"{facts['width']} x {facts['height']}, channels {' '.join(facts['channels'])}"),
        ("Gaussians", f"{facts['gaussians']:,}"),
        ("blend", blend),
        ("symbols", _symbols(facts["bits"])),
        ("bits per Gaussian", "none" if bits is None else f"{bits:.2f}: {shares}"),
        ("bytes by attribute", ", ".join(f"{name} {size:,.0f}" for name, size in facts["attribute_bytes"].items())),
        ("sections", ", ".join(f"{name} {size:,} bytes" for name, size in facts["sections"].items())),
        ("blocks", f"{facts['blocks']:,} of {side} x {side} pixels" if side else "one"),
        ("colour profile", f"{facts['icc_bytes']:,} bytes" if facts["icc_bytes"] else "sRGB"),
        ("EXIF", f"{facts['exif_bytes']:,} bytes" if facts["exif_bytes"] else "none"),
        ("XMP", f"{facts['xmp_bytes']:,} bytes" if facts["xmp_bytes"] else "none"),
    ]
    return rows + [("pictures of the stack", ", ".join(facts["stack"]))] * bool(facts["stack"])


def _symbols(bits: dict[str, int] | None) -> str:
    return "entropy-coded" if bits is None else ", ".join(f"{name} {width} bits" for name, width in bits.items())


def _level_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (f"{row['level']}", f"{row['blocks']:,}", f"{row['bytes']:,}", f"{row['gaussians']:,}", _decibels(row["psnr"]))
        for row in facts["levels"]
    ]


def _chunk_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{chunk['level']}",
            f"{chunk['block']:,}",
            f"{chunk['length']:,}",
            f"{chunk['count']:,}",
            f"{chunk['reach']:,} pixels",
            _decibels(chunk["psnr"]),
        )
        for chunk in facts["chunks"]
        if chunk["kind"] == 1
    ]


def _decibels(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} dB"
