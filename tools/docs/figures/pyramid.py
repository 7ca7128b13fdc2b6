# SPDX-License-Identifier: Apache-2.0
"""The stages of the shipped student on a scan: what each keeps, and the way through them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pointdistill_ros.checkpoint import CheckpointMeta, find_weights, load_checkpoint
from pointdistill_ros.model.pyramid import VoxelPyramid, build_pyramid
from pointdistill_ros.model.voxels import Voxels, voxelise
from tools.docs.figures.paper import (
    FAINT,
    INK,
    ORANGE,
    TEAL,
    new_figure,
    save_png,
    street,
    thousands,
)

REACH = 24.0
"""Metres around the sensor that are shown."""


class StageFacts(NamedTuple):
    """One stage of the shipped student on the scan of the figure."""

    voxels: int
    cell: float
    """Metres."""
    patch: int
    encoder: tuple[int, int]
    """Blocks and channels on the way down."""
    decoder: tuple[int, int] | None
    """The same on the way up; None in the coarsest stage."""


def stages(pyramid: VoxelPyramid, meta: CheckpointMeta) -> list[StageFacts]:
    """What the figure writes below each stage."""
    config, cell = meta.config, meta.grid_size
    facts = []
    for s, stage in enumerate(pyramid.stages):
        up = s < len(config.strides)
        facts.append(
            StageFacts(
                voxels=len(stage),
                cell=cell,
                patch=config.patch_sizes[s],
                encoder=(config.encoder_depths[s], config.encoder_channels[s]),
                decoder=(config.decoder_depths[s], config.decoder_channels[s]) if up else None,
            )
        )
        cell *= config.strides[s] if up else 1
    return facts


def student_on_street() -> tuple[NDArray[np.float32], Voxels, VoxelPyramid, CheckpointMeta]:
    """The scan's points, its voxels and their pyramid, as the shipped student sees them."""
    _, meta = load_checkpoint(find_weights("student"))
    xyz = street()[0].xyz
    voxels = voxelise(xyz, meta.grid_size)
    coords = torch.from_numpy(voxels.coords)
    one_scan = torch.zeros(len(coords), dtype=torch.int64)
    return xyz, voxels, build_pyramid(coords, one_scan, meta.config), meta


def draw_pyramid(path: Path) -> None:
    """A row of views from above, fine to coarse; below them the network's ways down and up."""
    xyz, _, pyramid, meta = student_on_street()
    facts = stages(pyramid, meta)
    figure = new_figure(13.0, 4.5)
    lowest = np.floor(xyz.astype(np.float64) / meta.grid_size).min(axis=0)
    width = 0.98 / len(facts)
    for s, (stage, fact) in enumerate(zip(pyramid.stages, facts, strict=True)):
        left = 0.012 + s * width
        panel = figure.add_axes((left, 0.43, width - 0.016, 0.50))
        heights = _from_above(stage.coords.numpy(), fact.cell, lowest * meta.grid_size)
        _show(panel, heights)
        panel.set_title(f"stage {s}: {fact.cell:g} m", fontsize=11, color=INK)
        _write_facts(figure, fact, left + (width - 0.016) / 2)
    _write_ways(figure, facts, width)
    save_png(figure, path, colours=96)


def _from_above(
    coords: NDArray[np.int64], cell: float, origin: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Height of the highest voxel of each column within REACH, NaN where there is none."""
    centres = (coords + 0.5) * cell + origin
    columns = np.floor((centres[:, :2] + REACH) / cell).astype(int)
    side = int(np.ceil(2 * REACH / cell))
    inside = np.all((columns >= 0) & (columns < side), axis=1)
    image = np.full((side, side), -np.inf)
    np.maximum.at(image, (columns[inside, 1], columns[inside, 0]), centres[inside, 2])
    return np.where(np.isfinite(image), image, np.nan)


def _show(panel: Any, heights: NDArray[np.float64]) -> None:
    panel.imshow(
        heights, origin="lower", cmap="viridis", vmin=-2.5, vmax=4.0, interpolation="nearest"
    )
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
        side.set_color(FAINT)


def _write_facts(figure: Any, fact: StageFacts, centre: float) -> None:
    patches = -(-fact.voxels // fact.patch)
    plural = "patch" if patches == 1 else "patches"
    figure.text(
        centre, 0.375, f"{thousands(fact.voxels)} voxels", ha="center", fontsize=13, color=INK
    )
    line = f"{patches} {plural} of {fact.patch}"
    figure.text(centre, 0.318, line, ha="center", fontsize=10, color=FAINT)
    for way, y, colour in ((fact.encoder, 0.20, TEAL), (fact.decoder, 0.06, ORANGE)):
        if way:
            blocks = "1 block" if way[0] == 1 else f"{way[0]} blocks"
            text = f"{blocks}, {way[1]} channels"
            box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour}
            figure.text(centre, y, text, ha="center", fontsize=10.5, color=colour, bbox=box)


def _write_ways(figure: Any, facts: list[StageFacts], width: float) -> None:
    """Arrows between the boxes: pooling to the right, unpooling to the left."""
    from matplotlib.patches import FancyArrowPatch

    def arrow(begin: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        figure.patches.append(
            FancyArrowPatch(
                begin,
                end,
                transform=figure.transFigure,
                arrowstyle="-|>",
                mutation_scale=13,
                color=colour,
                linewidth=1.4,
                shrinkA=0,
                shrinkB=0,
            )
        )

    half = 0.066
    centres = [0.012 + s * width + (width - 0.016) / 2 for s in range(len(facts))]
    for left, right in pairwise(centres):
        arrow((left + half, 0.211), (right - half, 0.211), TEAL)
    for left, right in pairwise(centres[:-1]):
        arrow((right - half, 0.071), (left + half, 0.071), ORANGE)
    arrow((centres[-1], 0.165), (centres[-2] + half, 0.071), ORANGE)
