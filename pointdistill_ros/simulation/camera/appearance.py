# SPDX-License-Identifier: Apache-2.0
"""What surfaces look like by day: a colour per material, paint that differs by object, texture.

The lidar's table (materials.py) knows how a surface answers a pulse of 905 nm; a camera needs its
colour. Texture is a function of the place in the world, so it stands still while the camera moves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.simulation.materials import LABEL, material
from pointdistill_ros.simulation.mesh import Array

_COLOURS: dict[str, tuple[float, float, float, float]] = {
    # share of light that comes back: red, green, blue; contrast of the texture
    "asphalt": (0.20, 0.20, 0.21, 0.12),
    "lane paint": (0.75, 0.75, 0.72, 0.10),
    "parking": (0.27, 0.26, 0.25, 0.18),
    "paving": (0.42, 0.40, 0.38, 0.16),
    "kerb": (0.50, 0.49, 0.47, 0.10),
    "gravel": (0.45, 0.41, 0.35, 0.30),
    "grass": (0.20, 0.30, 0.09, 0.45),
    "soil": (0.33, 0.25, 0.17, 0.35),
    "plaster": (0.72, 0.66, 0.55, 0.05),
    "brick": (0.45, 0.22, 0.16, 0.25),
    "roof tile": (0.38, 0.17, 0.12, 0.20),
    "window": (0.10, 0.13, 0.17, 0.10),
    "door": (0.30, 0.20, 0.12, 0.08),
    "wood fence": (0.38, 0.27, 0.17, 0.25),
    "metal fence": (0.25, 0.28, 0.26, 0.10),
    "garden wall": (0.50, 0.47, 0.42, 0.18),
    "guard rail": (0.52, 0.53, 0.54, 0.08),
    "leaves": (0.12, 0.24, 0.06, 0.60),
    "needles": (0.06, 0.15, 0.06, 0.60),
    "hedge": (0.10, 0.21, 0.06, 0.55),
    "bark": (0.24, 0.18, 0.13, 0.35),
    "galvanised": (0.45, 0.46, 0.48, 0.06),
    "wood pole": (0.33, 0.25, 0.18, 0.20),
    "sign front": (0.80, 0.30, 0.25, 0.05),
    "sign back": (0.40, 0.41, 0.42, 0.05),
    "car paint": (0.60, 0.60, 0.60, 0.02),
    "car glass": (0.08, 0.10, 0.12, 0.05),
    "car tyre": (0.04, 0.04, 0.04, 0.10),
    "car plate": (0.85, 0.82, 0.60, 0.10),
    "truck paint": (0.70, 0.70, 0.70, 0.03),
    "truck glass": (0.08, 0.10, 0.12, 0.05),
    "truck tyre": (0.04, 0.04, 0.04, 0.10),
    "coach paint": (0.65, 0.65, 0.65, 0.03),
    "coach glass": (0.08, 0.10, 0.12, 0.05),
    "coach tyre": (0.04, 0.04, 0.04, 0.10),
    "bicycle": (0.16, 0.16, 0.18, 0.20),
    "motorcycle": (0.14, 0.14, 0.15, 0.20),
    "cloth": (0.40, 0.36, 0.36, 0.15),
    "cyclist": (0.40, 0.36, 0.36, 0.15),
    "motorcyclist": (0.20, 0.20, 0.22, 0.15),
}
_PAINTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "car paint": (
        (1.4, 1.4, 1.4),
        (0.1, 0.1, 0.11),
        (0.85, 0.87, 0.9),
        (0.45, 0.46, 0.48),
        (0.9, 0.12, 0.1),
        (0.15, 0.25, 0.75),
        (0.2, 0.4, 0.25),
        (0.75, 0.7, 0.6),
    ),
    "plaster": ((1, 1, 1), (1.2, 1.25, 1.4), (1.1, 0.9, 0.6), (0.9, 0.7, 0.65), (0.7, 0.75, 0.8)),
    "roof tile": ((1, 1, 1), (0.5, 0.9, 1.3), (1.2, 1.1, 1.0)),
    "sign front": ((1, 1, 1), (0.2, 0.9, 3.0), (1.1, 2.8, 3.2), (1.1, 2.5, 0.4)),
}
_CLOTHES = ((1, 1, 1), (0.3, 0.4, 1.1), (0.2, 0.2, 0.22), (1.6, 0.4, 0.4), (0.5, 0.9, 0.5))
_PAINTS |= dict.fromkeys(("cloth", "cyclist", "motorcyclist"), _CLOTHES)
_PAINTS |= dict.fromkeys(("truck paint", "coach paint"), _PAINTS["car paint"])

_COLOUR = np.zeros((len(LABEL), 3))
_CONTRAST = np.zeros(len(LABEL))
for _name, (*_rgb, _contrast) in _COLOURS.items():
    _COLOUR[material(_name)], _CONTRAST[material(_name)] = _rgb, _contrast
if len(_COLOURS) != len(LABEL):
    raise RuntimeError("appearance.py: a material has no colour")


def albedo(kind: NDArray[np.uint8], tint: NDArray[np.float32], place: Array) -> Array:
    """[R, 3] share of red, green and blue light that a surface sends back, 0..1.

    kind: [R] row in the table of materials; tint: [R] its object's brightness, which also chooses
    the paint of vehicles, walls and clothes; place: [R, 3] world coordinates, metres.
    """
    colour = _COLOUR[kind].copy()
    chosen = (tint.astype(np.float64) * 1e4).astype(np.int64)
    painted = np.zeros(len(kind), np.bool_)
    for name, paints in _PAINTS.items():
        rows = np.flatnonzero(kind == material(name))
        colour[rows] *= np.asarray(paints)[chosen[rows] % len(paints)]
        painted[rows] = True
    shade = np.where(painted, 1.0, np.clip(tint, 0.5, 1.6))
    texture = 1 + _CONTRAST[kind] * (_noise(place, 12.0) + _noise(place, 2.5) - 1)
    return np.clip(colour * (shade * texture)[:, None], 0.0, 1.0)


def _noise(place: Array, cells: float) -> Array:
    """[R] in 0..1, constant within cells of 1 / ``cells`` metres of the world."""
    x, y, z = (np.floor(place[:, k] * cells).astype(np.int64) for k in range(3))
    mixed = (x * 73_856_093) ^ (y * 19_349_663) ^ (z * 83_492_791)
    mixed = (mixed ^ (mixed >> 13)) * 1_274_126_177 & 0x7FFF_FFFF
    return np.asarray(((mixed >> 7) & 0xFFFF) / 65535.0)
