# SPDX-License-Identifier: Apache-2.0
"""What soft targets a batch has, of the teacher or kept beforehand, and how much each voxel counts.

- class scores that were kept when a scan was labelled stand in for the teacher's, voxel by voxel
- they count where the label that came of them is doubtful, too: that is where they know more
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.batch import Batch
from training.distillation.config import DistillConfig, SoftTargets
from training.distillation.teacher import Answer
from training.losses.hard_points import hard_point_weights
from training.losses.voxel_weights import valid_voxels


@dataclass(frozen=True, eq=False)
class Aims:
    """Soft targets of a batch."""

    logits: Tensor
    """float32 [N, C], constant; 0 where there are none."""
    known: Tensor
    """bool [N] voxels that have some, of the teacher or kept …"""
    kept: Tensor
    """… and those whose were kept."""
    any: bool
    """Whether there may be some; known to the host without asking the device."""

    @classmethod
    def of(cls, config: SoftTargets, batch: Batch, answer: Answer | None, logits: Tensor) -> Aims:
        """logits: [N, C] of the student, for their shape and device."""
        scores = batch.scores if config.kept else None
        none = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
        found, known = (
            (torch.zeros_like(logits), none)
            if answer is None
            else (answer.logits, torch.ones_like(none))
        )
        kept = none
        if scores is not None:
            found = found.index_copy(0, scores.voxels, scores.logits(logits.shape[1]))
            kept = none.index_fill(0, scores.voxels, True)
        return cls(found.detach(), known | kept, kept, answer is not None or scores is not None)

    def weights(
        self, config: DistillConfig, batch: Batch, shares: Tensor, members: Tensor
    ) -> Tensor:
        """Float [N] of the voxels that count in soft targets, features and relations.

        shares: [C] of the classes in the data; members: bool [T, C] of the targets.
        """
        finest, hard = batch.pyramid.stages[0], config.hard_points
        valid = self.known
        if config.soft_targets.voxels == "labelled":
            valid = valid & (valid_voxels(batch.targets, finest.offsets) | self.kept)
        if not (hard.boundary or hard.rarity or hard.uncertainty):
            return valid.float()
        table = finest.neighbours
        return hard_point_weights(hard, batch.targets, table, self.logits, shares, members, valid)
