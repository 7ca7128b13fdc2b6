# SPDX-License-Identifier: Apache-2.0
"""Points → voxels → walks along two curves, cut into patches, for a few metres of a street."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointdistill_ros.evaluation.paint import class_colours
from pointdistill_ros.model.curves import Curve, encode
from pointdistill_ros.model.voxels import Voxels, voxelise
from pointdistill_ros.simulation.materials import LABEL_SET
from tools.docs.figures.paper import FAINT, INK, new_figure, save_png, street, thousands

GRID = 0.5
"""Metres; coarser than the network's, so that single voxels can be seen."""
PATCH = 24
"""Voxels, for the same reason."""
CORNER, SIDE = np.array([2.0, -2.0]), 12.0
"""What is shown: lower left corner and side, metres."""
SHOWN: tuple[tuple[Curve, str], ...] = (("z", "z curve"), ("hilbert", "Hilbert curve"))


def draw_curves(path: Path) -> None:
    """Three squares of the same ground: points, z curve, Hilbert curve."""
    scan, labels = street()
    inside = np.all((scan.xyz[:, :2] >= CORNER) & (scan.xyz[:, :2] < CORNER + SIDE), axis=1)
    xyz = scan.xyz[inside]
    voxels = voxelise(xyz, GRID)
    figure = new_figure(12.0, 4.55)
    panels = figure.subplots(1, 3)
    _show_points(panels[0], xyz, class_colours(labels[inside], LABEL_SET) / 255.0)
    for panel, (curve, name) in zip(panels[1:], SHOWN, strict=True):
        count = _show_walk(panel, voxels, xyz, curve)
        panel.set_title(f"{name}: {count} patches of {PATCH}", color=INK, fontsize=12)
    panels[0].set_title(
        f"{thousands(len(xyz))} points, {len(voxels)} voxels of {GRID} m", color=INK, fontsize=12
    )
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.91, wspace=0.04)
    save_png(figure, path)


def patches_along(voxels: Voxels, curve: Curve) -> list[NDArray[np.int64]]:
    """Rows of the voxels of each patch, in the order of the walk."""
    coords = torch.from_numpy(voxels.coords)
    depth = int(coords.max()).bit_length()
    order = encode(coords, depth, curve).argsort().numpy()
    return [order[i : i + PATCH] for i in range(0, len(order), PATCH)]


def _frame(panel: Any) -> None:
    low, high = CORNER, CORNER + SIDE
    panel.set_xlim(low[0], high[0])
    panel.set_ylim(low[1], high[1])
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
        side.set_color(FAINT)


def _show_points(panel: Any, xyz: NDArray[np.float32], colours: NDArray[np.float64]) -> None:
    for k in np.arange(0.0, SIDE + GRID, GRID):
        panel.axvline(CORNER[0] + k, color=FAINT, linewidth=0.4, alpha=0.6)
        panel.axhline(CORNER[1] + k, color=FAINT, linewidth=0.4, alpha=0.6)
    panel.scatter(xyz[:, 0], xyz[:, 1], s=2.0, c=colours, linewidths=0)
    _frame(panel)


def _show_walk(panel: Any, voxels: Voxels, xyz: NDArray[np.float32], curve: Curve) -> int:
    from matplotlib import colormaps

    lowest = np.floor(xyz.astype(np.float64) / GRID).min(axis=0)
    centres = (voxels.coords + lowest + 0.5) * GRID
    patches = patches_along(voxels, curve)
    palette = colormaps["tab20"].colors
    side = (panel.bbox.width / SIDE * GRID * 72 / panel.figure.dpi) * 0.8
    for i, rows in enumerate(patches):
        x, y = centres[rows, 0], centres[rows, 1]
        panel.scatter(x, y, s=side**2, marker="s", color=palette[i % 20], linewidths=0, alpha=0.85)
        panel.plot(x, y, color=INK, linewidth=0.9)
    _frame(panel)
    return len(patches)
