"""Layers as flat 3D Gaussians: the PLY layout that 3D Gaussian splatting (Kerbl et al. 2023) wrote and viewers read.

Seventeen float32 for each layer, little-endian: ``x y z``, ``nx ny nz`` (0), ``f_dc_0..2`` (a colour c is stored as
(c - 1/2) / Y₀₀), ``opacity`` (its logit), ``scale_0..2`` (natural logarithms), ``rot_0..3`` (quaternion w, x, y, z).

The picture's longer side is 2 units, its middle the origin, x points right and y down, and the camera is meant to look
along +z, which is the convention of these files. From the first layer to the last it is 1/500 unit, the front one at
the smallest z, so that viewers, which sort by depth, draw them in their order.
"""

from __future__ import annotations

import math

import numpy as np

from .layers import OPACITY, Layers

PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)

_SIDE = 2.0
_DEPTH = 2e-3
_THICKNESS = 1e-6
_Y00 = 0.5 / math.sqrt(math.pi)


def encode_ply(layers: Layers) -> bytes:
    """The bytes of a PLY file.

    Args:
        layers: from back to front.
    """
    n = len(layers)
    unit = _SIDE / max(layers.width, layers.height)
    half = layers.rotations.astype(np.float64) / 2
    zeros = np.zeros(n)
    columns = {
        "x": (layers.means[:, 0] - layers.width / 2) * unit,
        "y": (layers.means[:, 1] - layers.height / 2) * unit,
        "z": np.linspace(_DEPTH / 2, -_DEPTH / 2, n),
        **{f"f_dc_{k}": (layers.colors[:, k] - 0.5) / _Y00 for k in range(3)},
        "opacity": np.full(n, math.log(OPACITY / (1 - OPACITY))),
        "scale_0": np.log(layers.scales[:, 0] * unit),
        "scale_1": np.log(layers.scales[:, 1] * unit),
        "scale_2": np.full(n, math.log(_THICKNESS)),
        "rot_0": np.cos(half),
        "rot_3": np.sin(half),
    }
    table = np.stack([columns.get(name, zeros) for name in PROPERTIES], axis=1).astype("<f4")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {n}"]
    header += [f"property float {name}" for name in PROPERTIES]
    return "\n".join([*header, "end_header", ""]).encode("ascii") + table.tobytes()
