# SPDX-License-Identifier: Apache-2.0
"""Multi-to-single: the teacher sees several sweeps, the student its own, in one grid.

- a sample is one cloud of all sweeps with a column that tells whose a point is, so augmentation
  acts on all alike; then it is voxelised once
- a voxel with points of the own sweep is represented by one of these in both networks: teacher and
  student see the same features and targets there, and the teacher more voxels around them
- ``rows[s]`` are the rows of the student's voxels among the teacher's at stage s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointdistill_ros.datasets.sweeps import Sweeps, SweptScan
from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.pyramid import VoxelPyramid, draw_permutation
from pointdistill_ros.model.voxels import Voxels
from training.batch import Batch, BatchStream, Carried, geometry_builders
from training.sources import SourceMix
from training.transforms import LabelledPoints, azimuth, estimate_rings

SWEEP = "sweep"
"""Column of a cloud: sweep of each point, 0 = the own one. Points of other clouds that are mixed in
without this column count as the own sweep's."""


@dataclass(frozen=True, eq=False)
class SweptBatch(Batch):
    """Samples as the student sees them, voxels with points of the own sweep, and as the teacher."""

    teacher: Batch = field(kw_only=True)
    """All voxels; targets are those of the student where it has the voxel."""
    rows: tuple[Tensor, ...] = field(kw_only=True)
    """Per stage, int64 [n of the student] row of its voxel in the teacher's stage, ascending."""


class SweptMix(SourceMix):
    """A SourceMix whose data sets may be ``Sweeps``: their points carry the column ``sweep``.

    Beams are estimated sweep by sweep, so that a lost beam is lost in all of them.
    """

    def _points(self, k: int, i: int) -> LabelledPoints:
        source = self._sources[k]
        if not isinstance(source.scans, Sweeps):
            return super()._points(k, i)
        swept = source.scans.read(i)
        scan = swept.scan
        intensity = scan.intensity
        if intensity is None:
            intensity = np.zeros(len(scan), np.float32)
        points = LabelledPoints(
            scan.xyz, intensity, source.table[swept.labels], scan.ring, {SWEEP: swept.sweep}
        )
        if not scan.valid.all():
            points = points.select(scan.valid)
        return points if points.ring is not None else _with_rings(points, swept)


class SweptStream(BatchStream):
    """Endless batches for a teacher of several sweeps; ``stream(k)`` is always the same one."""

    def __init__(self, *args: Any, teacher_voxels: int = 120_000, **options: Any) -> None:
        """``teacher_voxels``: most voxels of a sample with all its sweeps."""
        super().__init__(*args, **options)
        self.teacher_voxels = teacher_voxels

    def pack(self, samples: Sequence[LabelledPoints], rng: np.random.Generator, head: str) -> Batch:
        """Samples of one head as the batch that a step takes, a SweptBatch."""
        config = self.config
        return collate_sweeps(
            samples,
            self.model,
            config.grid_size,
            self.teacher_voxels,
            rng,
            head,
            config.compiled,
            config.max_voxels,
            self.carried,
        )


def collate_sweeps(
    samples: Sequence[LabelledPoints],
    model: PTv3Config,
    grid_size: float,
    max_voxels: int,
    rng: np.random.Generator | None,
    head: str = "common",
    compiled: bool = True,
    own_voxels: int | None = None,
    carried: Carried | None = None,
) -> SweptBatch:
    """Voxelise each sample once and pack it twice: all of it, and the own sweep's voxels.

    ``model``: strides and curves, which both networks share. ``max_voxels`` bounds the teacher's
    voxels of a sample and ``own_voxels`` the student's (None = those alone), by one sector; without
    ``rng`` as for evaluation: nothing is cut, own points come before others, and the first one
    represents its voxel. Where nobody sees another sweep, both see one and the same batch.
    Raises ScanError for a sample without points of the own sweep.
    """
    to_voxels, to_pyramid = geometry_builders(compiled)
    most = max_voxels if own_voxels is None else own_voxels
    coords, features, targets, own, shown = [], [], [], [], []
    for points in samples:
        sweep = points.columns.get(SWEEP)
        foreign = np.zeros(len(points), np.bool_) if sweep is None else sweep != 0
        ordered = points.select(np.argsort(foreign, kind="stable"))  # own points first
        voxels = to_voxels(ordered.xyz, grid_size, None)
        mine = _own_counts(voxels, len(points) - int(foreign.sum()))
        chosen = ordered.select(_representatives(voxels, mine, rng))
        kept: Any = slice(None)
        if rng is not None and (len(voxels) > max_voxels or (mine > 0).sum() > most):
            angle = (azimuth(chosen) - rng.uniform(0, 2 * np.pi)) % (2 * np.pi)
            order = np.argsort(angle, kind="stable")[:max_voxels]
            kept = np.sort(order[np.cumsum(mine[order] > 0) <= most])
        if not (mine[kept] > 0).any():
            raise ScanError("a sample holds no point of its own sweep; the student would see none")
        coords.append(voxels.coords[kept])
        features.append(np.column_stack([chosen.xyz, chosen.intensity])[kept])
        targets.append(chosen.labels.astype(np.int64)[kept])
        own.append(mine[kept] > 0)
        shown.append(chosen.select(np.arange(len(chosen))[kept][mine[kept] > 0]))
    scan = np.repeat(np.arange(len(samples)), [len(part) for part in coords])
    permutation = None if rng is None else draw_permutation(model, rng)
    every = (
        torch.from_numpy(np.concatenate(coords)),
        torch.from_numpy(scan),
        torch.from_numpy(np.concatenate(features).astype(np.float32)),
        torch.from_numpy(np.concatenate(targets)),
    )
    teacher = to_pyramid(*every[:2], model, permutation=permutation)
    finest = torch.from_numpy(np.flatnonzero(np.concatenate(own)))
    c, b, x, y = every
    student = teacher
    if len(finest) < len(c):
        c, b, x, y = (tensor[finest] for tensor in every)
        student = to_pyramid(c, b, model, depth=teacher.depth, permutation=permutation)
    more = {} if carried is None else carried(shown)
    seen = Batch(*every[2:], teacher, head)
    rows = stage_rows(student, teacher, finest)
    return SweptBatch(x, y, student, head, **more, teacher=seen, rows=rows)


def stage_rows(student: VoxelPyramid, teacher: VoxelPyramid, finest: Tensor) -> tuple[Tensor, ...]:
    """Rows of the student's voxels among the teacher's, stage by stage.

    finest: int64 [n] those of the finest stage. The student's voxels must be some of the teacher's,
    on the same grid; then so are their parents.
    """
    rows = [finest]
    for mine, theirs in zip(student.stages[:-1], teacher.stages[:-1], strict=True):
        assert mine.parent is not None and theirs.parent is not None
        coarser = torch.empty(int(mine.parent.max()) + 1, dtype=torch.int64)
        rows.append(coarser.scatter_(0, mine.parent, theirs.parent[rows[-1]]))
    return tuple(rows)


def _own_counts(voxels: Voxels, own: int) -> NDArray[np.int64]:
    """[M] how many of the first ``own`` points each voxel holds."""
    counts: NDArray[np.int64] = np.bincount(voxels.inverse[:own], minlength=len(voxels))
    return counts


def _representatives(
    voxels: Voxels, own: NDArray[np.int64], rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """[M] a point of the own sweep where the voxel has one (they come first), else any."""
    first = voxels.start[:-1]
    if rng is not None:
        counts = np.where(own > 0, own, np.diff(voxels.start))
        first = first + (rng.random(len(first)) * counts).astype(np.int64)
    chosen: NDArray[np.int64] = voxels.order[first]
    return chosen


def _with_rings(points: LabelledPoints, swept: SweptScan) -> LabelledPoints:
    """The points with the beams that their order tells, sweep by sweep, seen from its place."""
    sweep = points.columns[SWEEP]
    rings = np.zeros(len(points), np.uint16)
    for step, place in swept.places.items():
        index = np.flatnonzero(sweep == step)
        if len(index):
            seen = points.select(index)
            seen = replace(seen, xyz=seen.xyz - place.astype(np.float32))
            rings[index] = estimate_rings(seen).clip(0, 65535)
    return replace(points, ring=rings)
