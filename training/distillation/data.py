# SPDX-License-Identifier: Apache-2.0
"""Batches of a distillation run: those of its data, and what the teachers need beside them.

    sweeps     the teacher's cloud holds several scans (training/sweeps.py)
    camera     voxels know the cells of images that show them (training/camera/pairing.py)
    scores     voxels know class scores that were kept when their scans were labelled
    fixed      a scan gives the same voxels whenever it comes, and a key

Without any of them a batch is that of a supervised run, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.poses import has_poses
from pointdistill_ros.datasets.sweeps import Sweeps
from pointdistill_ros.errors import InputError
from pointdistill_ros.model.config import PTv3Config
from training.batch import Batch, BatchStream
from training.camera.pairing import CELL, CameraMix, ScanPairing, camera_pairs
from training.distillation.config import DistillConfig, TeacherSweeps
from training.pseudo_scores import ScoredScans, scored
from training.sources import SourceMix
from training.sweeps import SweptMix, SweptStream
from training.transforms import LabelledPoints
from training.voxel_scores import voxel_scores


class DistillMix(CameraMix, SweptMix):
    """A SourceMix whose points know sweeps, cells of images and class scores, where there are."""

    def _known(self, k: int, i: int, count: int) -> dict[str, NDArray[Any]]:
        scans = self._sources[k].scans
        return scans.columns(i, count) if isinstance(scans, ScoredScans) else {}


class DistillStream(SweptStream):
    """Endless batches of a distillation run; ``stream(k)`` is always the same one."""

    def __init__(
        self, mix: SourceMix, model: PTv3Config, config: DistillConfig, whole_from: int | None
    ) -> None:
        """``whole_from``: number of the first batch of whole single scans; None = never."""
        super().__init__(mix, model, config, whole_from, teacher_voxels=config.sweeps.max_voxels)
        self.swept, self.fixed = config.sweeps.count > 1, config.cache_answers

    def carried(self, shown: Sequence[LabelledPoints]) -> dict[str, Any]:
        """Fields of the batch of voxels that these points represent."""
        seen = any(CELL in points.columns for points in shown)
        pairs = camera_pairs(shown) if seen else None
        return {"camera": pairs if pairs else None, "scores": voxel_scores(shown)}

    def pack(self, samples: Sequence[LabelledPoints], rng: np.random.Generator, head: str) -> Batch:
        """Samples of one head as the batch that a step takes."""
        if self.swept:
            return super().pack(samples, rng, head)
        return BatchStream.pack(self, samples, rng, head)


def distill_mix(config: DistillConfig, mix: SourceMix, pairing: ScanPairing | None) -> DistillMix:
    """The data of the run, with what is switched on. Raises InputError where it is nowhere."""
    sources: Sequence[LabelledScans] = mix.sources
    if config.soft_targets.kept and config.soft_targets.weight:
        folder = config.soft_targets.folder
        sources = scored(sources, mix.sets["common"].label_set, Path(folder) if folder else None)
    if config.sweeps.count > 1:
        sources = _swept(config.sweeps, sources)
    found = mix.derived(DistillMix, sources)
    found.pairing = pairing
    return found


def _swept(config: TeacherSweeps, sources: Sequence[LabelledScans]) -> list[LabelledScans]:
    """The data sets, as sweeps where they have poses. Raises InputError where none has."""
    posed = [has_poses(scans) for scans in sources]
    if not any(posed):
        raise InputError(
            f"sweeps.count: {config.count}, but no source has poses; simulated streets, packed "
            "scans with poses and official SemanticKITTI, nuScenes, Waymo and PandaSet have some"
        )
    before = config.count - 1 - config.after
    return [
        Sweeps(scans, before, config.after, config.reach, config.drop) if known else scans
        for scans, known in zip(sources, posed, strict=True)
    ]
