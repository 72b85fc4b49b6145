"""``imagegs info``: what a ``.gsimg`` file holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console

if TYPE_CHECKING:
    from ..codec import GsimgFile


def run(
    source: Annotated[Path, typer.Argument(metavar="IN.gsimg", help="File to describe.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what a .gsimg file holds, without drawing it."""
    from ..codec import read_file

    file = read_file(source)
    if json:
        console.print_json({"file": str(source), **_facts(file)})
    else:
        console.print_table([("file", str(source)), *_rows(_facts(file))])


def _facts(file: GsimgFile) -> dict[str, Any]:
    gaussians, info = file.gaussians, file.info
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
        "bits": asdict(file.bits),
        "bits_per_gaussian": sum(file.bits_per_gaussian.values()),
        "sections": file.sections,
        "chunks": len(file.chunks),
        "icc_bytes": len(info.icc) if info is not None else 0,
        "exif_bytes": len(info.exif) if info is not None else 0,
    }


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    blend = facts["blend"] if facts["top_k"] is None else f"{facts['blend']}, K = {facts['top_k']}"
    rows = [
        ("format version", facts["version"]),
        ("size of the file", f"{facts['bytes']:,} bytes, {facts['bpp']:.4f} bits per pixel"),
        ("picture", f"{facts['width']} x {facts['height']}, channels {' '.join(facts['channels'])}"),
        ("Gaussians", f"{facts['gaussians']:,}"),
        ("blend", blend),
        ("symbols", ", ".join(f"{name} {bits} bits" for name, bits in facts["bits"].items())),
        ("bits per Gaussian", str(facts["bits_per_gaussian"])),
        ("sections", ", ".join(f"{name} {size:,} bytes" for name, size in facts["sections"].items())),
        ("chunks", str(facts["chunks"])),
        ("colour profile", f"{facts['icc_bytes']:,} bytes" if facts["icc_bytes"] else "sRGB"),
        ("EXIF", f"{facts['exif_bytes']:,} bytes" if facts["exif_bytes"] else "none"),
    ]
    return rows + [("pictures of the stack", ", ".join(facts["stack"]))] * bool(facts["stack"])
