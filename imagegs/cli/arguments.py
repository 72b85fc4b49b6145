"""Checking and rebuilding of arguments: what can be refused before the long work is refused here."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ImageError
from . import console

if TYPE_CHECKING:
    from ..gaussians import FloatArray
    from ..image import Picture

GSIMG = (".gsimg",)
DEVICES = "auto|cpu|cuda[:N]"


def also(
    options: Callable[..., Any], without: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of another function besides its own.

    They come in the command's ``**given``, after its arguments and before its own options on the help page. An option
    that the command has itself stays the command's; those named in ``without`` are left out.
    """

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        names = {parameter.name for parameter in own} | set(without)
        more = [
            parameter
            for parameter in inspect.signature(options, eval_str=True).parameters.values()
            if parameter.name not in names
        ]
        named = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        needed = [parameter for parameter in named if parameter.default is inspect.Parameter.empty]
        chosen = [parameter for parameter in named if parameter.default is not inspect.Parameter.empty]
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*needed, *more, *chosen)]

        @functools.wraps(command)
        def extended(**values: Any) -> None:
            command(**values)

        extended.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        extended.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return extended

    return extend


def check_output(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse a file that could not be written later: wrong ending, no folder, no permission.

    Raises:
        ImageError: with the reason.
    """
    from ..files import check_target

    if path.suffix.lower() not in endings:
        raise ImageError(f"{path}: expected a name ending in {' or '.join(endings)}, found {path.suffix or 'none'}")
    check_target(path)


def check_output_folder(path: Path) -> None:
    """Refuse a folder that could not be made, or written into, later.

    Raises:
        ImageError: with the reason.
    """
    from ..files import check_target

    if path.exists() and not path.is_dir():
        raise ImageError(f"{path}: expected a folder, found a file of this name")
    check_target(path / "file" if path.is_dir() else path)


def parse_region(text: str | None) -> tuple[float, float, float, float] | None:
    """The rectangle of ``--region x,y,w,h``, canvas pixels.

    Raises:
        typer.BadParameter: not four numbers, or an empty rectangle.
    """
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"expected x,y,w,h, found {text!r}", param_hint="'--region'") from error
    if not (0 < width < float("inf") and 0 < height < float("inf") and abs(x) < float("inf") and abs(y) < float("inf")):
        raise typer.BadParameter(f"expected a width and height above zero, found {text!r}", param_hint="'--region'")
    return x, y, width, height


def parse_size(text: str | None) -> tuple[int, int] | None:
    """The width and height of ``--size WxH``, pixels.

    Raises:
        typer.BadParameter: not two positive integers.
    """
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not all(side.isascii() and side.isdigit() and 0 < len(side) <= 9 and int(side) for side in (width, height)):
        raise typer.BadParameter(f"expected WxH, for example 768x512, found {text!r}", param_hint="'--size'")
    return int(width), int(height)


def parse_block_size(side: int | None) -> int:
    """The shift of ``--block-size``; 0 where there are no blocks.

    Raises:
        typer.BadParameter: not a power of two from 64 to 65536.
    """
    if side is None:
        return 0
    shift = side.bit_length() - 1
    if side != 1 << shift or not 6 <= shift <= 16:
        raise typer.BadParameter(f"expected a power of two from 64 to 65536, found {side}", param_hint="'--block-size'")
    return shift


def check_device(name: str) -> str:
    """The name of a device; whether it is there is seen later.

    Raises:
        typer.BadParameter: it is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", name):
        raise typer.BadParameter(f"expected auto, cpu, cuda or cuda:N, found {name!r}")
    return name


def check_one(what: str, names: list[str]) -> None:
    """Refuse options that exclude each other.

    Raises:
        typer.BadParameter: more than one is given.
    """
    if len(names) > 1:
        raise typer.BadParameter(f"{what}: expected one, found {' and '.join(f'--{name}' for name in names)}")


def check_each(option: str, values: Sequence[str] | None, choices: Sequence[str]) -> tuple[str, ...]:
    """The values of an option that may be given more than once.

    Raises:
        typer.BadParameter: one is not among the choices.
    """
    for value in values or ():
        if value not in choices:
            raise typer.BadParameter(f"expected one of {', '.join(choices)}, found {value!r}", param_hint=f"'{option}'")
    return tuple(values or ())


def given(**values: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def read_any(path: Path) -> Picture:
    """A picture, or what a ``.gsimg`` file decodes to, with a warning if that was cut.

    Raises:
        ImageGSError: it cannot be read.
    """
    if path.suffix.lower() in GSIMG:
        from ..decoding import decode

        picture = decode(path)
        console.print_warnings(picture.notes)
        return picture
    from ..image import read_image

    return read_image(path)


def read_map(path: Path | None) -> FloatArray | None:
    """A picture as one number per pixel [H, W] in [0, 1]: the mean of its colours.

    Raises:
        ImageError: it cannot be read.
    """
    if path is None:
        return None
    import numpy as np

    from ..image import read_image

    picture = read_image(path)
    colors = [index for index, name in enumerate(picture.info.channel_names) if name.rpartition(".")[2] != "A"]
    return np.ascontiguousarray(picture.pixels[colors].mean(axis=0))


def command_line(context: typer.Context, **changes: Any) -> str:
    """The command that was given, rebuilt for a shell; ``changes`` replace parameters, None leaves one out."""
    words, above = [str(context.info_name)], context.parent
    while above is not None and above.parent is not None:
        words.insert(0, str(above.info_name))
        above = above.parent
    words.insert(0, "imagegs")
    for parameter in context.command.params:
        value = (context.params | changes).get(str(parameter.name))
        if value is None or value is False or value == parameter.default:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "option":
                words.append(max(parameter.opts, key=len))
            if item is not True:
                words.append(str(item))
    return shlex.join(words)


@contextmanager
def resumable(context: typer.Context) -> Iterator[None]:
    """Where a fit in the body is interrupted, say how to resume it and leave with status 130."""
    from ..fitting.fit import Interrupted

    try:
        yield
    except Interrupted as stop:
        command = command_line(context, resume=stop.checkpoint)
        typer.echo(f"imagegs: interrupted; the fit is kept in {stop.checkpoint}; go on with:\n{command}", err=True)
        raise typer.Exit(130) from stop
    except KeyboardInterrupt as stop:
        typer.echo("imagegs: interrupted outside a fit; nothing is kept", err=True)
        raise typer.Exit(130) from stop
