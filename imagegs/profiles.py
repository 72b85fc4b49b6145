"""ICC colour profiles: a picture's own numbers to sRGB for the fit, and back for the file that is written.

Both directions run in floating point through Little CMS (as `imagecodecs` carries it) and linear light with the
primaries of sRGB, so that 16-bit pictures lose nothing. Colours of wide-gamut profiles that sRGB cannot hold become
values a little outside [0, 1] by the extension of the curve that CSS Color 4 gives (odd symmetry: ``f(-x) = -f(x)``),
instead of being cut off; they return unchanged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ImageError

FloatArray = npt.NDArray[np.float32]

MAX_PROFILE_BYTES = 1 << 20
"""Larger profiles are used for reading and not kept."""

_RELATIVE_COLORIMETRIC = 1
_HEADER_BYTES = 128
_LATTICE = 6


def check_profile(icc: bytes, channels: int) -> None:
    """Raise if a profile cannot take colours to sRGB and back.

    Args:
        icc: the profile.
        channels: number of colour channels without alpha, 1 or 3.

    Raises:
        ImageError: the profile is broken, of another colour space, or of one direction only.
    """
    _is_srgb(icc, channels)


def to_srgb(colors: FloatArray, icc: bytes) -> FloatArray:
    """Colours in the encoding of ``icc`` to sRGB.

    Args:
        colors: [..., 1] or [..., 3], values in [0, 1].
        icc: a profile for grey or RGB.

    Returns:
        The same shape; values may leave [0, 1] where sRGB does not hold the colour.

    Raises:
        ImageError: the profile cannot be used.
    """
    if _is_srgb(icc, colors.shape[-1]):
        return colors
    return _from_linear(_transform(colors, icc, to_linear=True))


def from_srgb(colors: FloatArray, icc: bytes) -> FloatArray:
    """Colours in sRGB to the encoding of ``icc``: the inverse of `to_srgb`, with the same shapes and errors."""
    if _is_srgb(icc, colors.shape[-1]):
        return colors
    return _transform(_to_linear(colors), icc, to_linear=False)


def cmyk_to_srgb(inks: FloatArray, icc: bytes) -> FloatArray:
    """Four inks to sRGB.

    Args:
        inks: [H, W, 4] cyan, magenta, yellow, black; 1 is full ink.
        icc: a CMYK profile, or empty for the plain formula ``(1 - ink)(1 - black)``.

    Returns:
        [H, W, 3] in [0, 1].

    Raises:
        ImageError: the profile cannot be used.
    """
    if not icc:
        return (1 - inks[..., :3]) * (1 - inks[..., 3:])
    if _space(icc) != "CMYK":
        raise ImageError(f"colour profile: expected one for CMYK, found one for {_space(icc)}")
    # Little CMS counts inks in per cent when they are floating-point numbers; 16-bit numbers have the usual scale
    sixteen = np.rint(inks * 65535).astype(np.uint16)
    linear = _cms(sixteen, icc, _linear_profile(), "cmyk", "rgb")
    return np.clip(_from_linear(linear), 0, 1)


def _space(icc: bytes) -> str:
    """The colour space a profile describes; ICC.1:2022, 7.2: signature at 36, colour space at 16."""
    if len(icc) < _HEADER_BYTES or icc[36:40] != b"acsp":
        raise ImageError("colour profile: expected an ICC profile, found other bytes")
    return icc[16:20].decode("latin-1").strip()


@lru_cache(maxsize=8)
def _is_srgb(icc: bytes, channels: int) -> bool:
    """Whether a usable profile means sRGB, so that converting could only add rounding errors."""
    steps = np.linspace(0, 1, _LATTICE, dtype=np.float32)
    axes = np.meshgrid(*[steps] * channels, indexing="ij")
    lattice = np.ascontiguousarray(np.stack(axes, axis=-1).reshape(1, -1, channels))
    there = _from_linear(_transform(lattice, icc, to_linear=True))
    back = _transform(_to_linear(there), icc, to_linear=False)
    if not (np.isfinite(there).all() and np.isfinite(back).all()):
        raise ImageError("colour profile: expected finite colours, found others")
    return float(np.abs(there - lattice).max()) < 0.25 / 255


def _transform(colors: FloatArray, icc: bytes, *, to_linear: bool) -> FloatArray:
    space = _space(icc)
    channels = colors.shape[-1]
    if space not in {"RGB", "GRAY"} or (space == "GRAY" and channels == 3):
        raise ImageError(
            f"colour profile: expected one for {'RGB' if channels == 3 else 'grey'}, found one for {space}"
        )
    # Little CMS gets [rows, columns, 3], or [rows, columns] for a grey profile
    flat = colors.reshape(1, -1, channels)
    triples = np.ascontiguousarray(np.broadcast_to(flat, (*flat.shape[:2], 3)))
    own = np.ascontiguousarray(flat[..., 0]) if space == "GRAY" else triples
    kind = "gray" if space == "GRAY" else "rgb"
    if to_linear:
        result = _cms(own, icc, _linear_profile(), kind, "rgb")
    else:
        result = _cms(triples, _linear_profile(), icc, "rgb", kind).reshape(*flat.shape[:2], -1)
    # equal light in three channels stays equal but for the white point's rounding, of which green has least
    picked = result if result.shape[-1] == channels else result[..., result.shape[-1] // 2, None]
    return np.ascontiguousarray(picked.reshape(colors.shape))


def _cms(values: npt.NDArray[Any], source: bytes, target: bytes, source_kind: str, target_kind: str) -> FloatArray:
    import imagecodecs

    try:
        result = imagecodecs.cms_transform(
            values,
            source,
            target,
            colorspace=source_kind,
            outcolorspace=target_kind,
            outdtype=np.float32,
            intent=_RELATIVE_COLORIMETRIC,
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise ImageError(f"colour profile: cannot be used: {error}") from error
    return np.asarray(result, dtype=np.float32)


@lru_cache(maxsize=1)
def _linear_profile() -> bytes:
    """Linear light with the primaries and the white of sRGB (IEC 61966-2-1)."""
    import imagecodecs

    profile: bytes = imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.3290, 1.0],
        primaries=[0.64, 0.33, 1.0, 0.30, 0.60, 1.0, 0.15, 0.06, 1.0],
        gamma=1.0,
    )
    return profile


def _from_linear(light: FloatArray) -> FloatArray:
    size = np.abs(light)
    curved = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** np.float32(1 / 2.4) - 0.055)
    return np.copysign(curved, light).astype(np.float32, copy=False)


def _to_linear(colors: FloatArray) -> FloatArray:
    size = np.abs(colors)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** np.float32(2.4))
    return np.copysign(light, colors).astype(np.float32, copy=False)
