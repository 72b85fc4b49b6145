"""``imagegs demo``: everything once, on a photograph that scikit-image carries."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ImageError
from . import console, results

if TYPE_CHECKING:
    from ..image import Picture

GAUSSIANS = 6000


def run(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")] = Path(
        "demo"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit a photograph, write it as .gsimg, decode it and report, into one folder.

    The photograph is "coffee" by Rachel Michetti, courtesy of Pikolo Espresso Bar, in the public domain (CC0).
    """
    results.make_folder(output)
    from ..decoding import decode
    from ..encoding import encode
    from ..image import write_image

    photo, file = output / "photo.png", output / "photo.gsimg"
    write_image(photo, _photograph().pixels)
    with console.fit_progress(quiet=quiet) as on_step:
        encoded = encode(photo, gaussians=GAUSSIANS, preset="fast", on_step=on_step)
    command = shlex.join(["imagegs", "encode", str(photo), "-o", str(file), "-n", str(GAUSSIANS), "--preset", "fast"])
    results.deliver(encoded, file, command, output / "report", quiet=quiet, as_json=json)
    decoded = decode(file)
    write_image(output / "decoded.png", decoded.pixels, decoded.info)


def _photograph() -> Picture:
    """The photograph out of scikit-image's own wheel; nothing is downloaded.

    Raises:
        ImageError: scikit-image is not installed.
    """
    from PIL import Image

    from ..image import as_picture

    try:
        from skimage import data
    except ImportError as error:
        raise ImageError("demo: its photograph comes with scikit-image: pip install 'imagegs[demo]'") from error
    return as_picture(Image.fromarray(data.coffee()))
