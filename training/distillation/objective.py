# SPDX-License-Identifier: Apache-2.0
"""The loss of a distillation step: the task's, and what the teacher adds.

    encode ─► feature ─┬─► decode ─► logits ─► task · soft targets
                       ├─► topology            (gradient bounded where the branches meet)
                       └─► gradient guidance

    decoded feature and logits of voxels that an image shows ─► camera scores · camera features

- teacher and student see the same voxels in the same rows; what is drawn here (which steps compute
  the costly terms, which rows they look at) depends on the batch alone
- a teacher of several sweeps answers about more voxels; its rows are picked before anything else
- every term is reported, with the norms of the gradients at the shared feature
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pointdistill_ros.model.neighbours import NeighbourTable
from training.batch import Batch
from training.camera.atlas import CameraAtlas
from training.device import full_precision
from training.distillation.aims import Aims
from training.distillation.branches import branch
from training.distillation.config import DistillConfig
from training.distillation.student import DistilledStudent
from training.distillation.teacher import Answer, Teacher
from training.losses.gradient_guidance import gradient_guidance_loss
from training.losses.relation import affinity_loss, structure_loss
from training.losses.soft_targets import soft_target_loss
from training.losses.topology import TopologyReport
from training.losses.voxel_weights import at_stage, labelled_scans
from training.persistence.sampling import sample_rows
from training.supervised import TaskLoss
from training.sweeps import SweptBatch

_RELATIONS: dict[str, Callable[[Tensor, Tensor, NeighbourTable, Tensor], Tensor]] = {
    "affinity": affinity_loss,
    "structure": structure_loss,
}


class DistillationLoss:
    """Network and batch → total and its parts."""

    def __init__(
        self,
        config: DistillConfig,
        task: TaskLoss,
        shares: Tensor,
        members: Tensor,
        teacher: Teacher | None = None,
        atlas: CameraAtlas | None = None,
    ) -> None:
        """shares: [C] of the classes in the data; members: bool [T, C] of the targets.

        ``teacher``: the frozen one, where there is one; ``atlas``: what a camera teacher says.
        """
        self.config, self.task, self.teacher, self.atlas = config, task, teacher, atlas
        self.shares, self.members = shares, members
        self.weights = config.term_weights()
        soft = () if config.soft_targets.alone else ("soft_targets",)
        self._every_step = (*soft, "features", *_RELATIONS)
        """Terms for which the teacher is asked whatever chance says."""

    def __call__(self, network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss of a batch and every term, detached."""
        assert isinstance(network, DistilledStudent)
        device = batch.features.device
        draw = _Draw.of(torch.initial_seed(), self.config)
        student, pyramid = network.student, batch.pyramid
        stages = student.encode(batch.features, pyramid)
        feature, (shape, guide), norms = branch(stages[-1], (self.config.topology.alpha, None))
        decoded = student.decode([*stages[:-1], feature], pyramid)
        logits = student.head(decoded).float()
        answer, own = self._answer(network, batch, draw)
        with full_precision(device):
            task, parts = self.task(logits, batch)
            terms = {"task": task}
            soft = self.config.soft_targets
            aims = Aims.of(soft, batch, None if soft.alone else answer, logits)
            weights = aims.weights(self.config, batch, self.shares, self.members)
            if self.weights["soft_targets"] and aims.any:
                # A mean over the voxels that have scores would let the few of a batch that is
                # mostly simulated drown the labels of the rest.
                share = (weights > 0).float().mean()
                terms["soft_targets"] = share * soft_target_loss(
                    logits, aims.logits, soft.temperature, weights=weights
                )
            if draw.guided and answer:
                (gradient,) = torch.autograd.grad(task, feature, retain_graph=True)
                terms["gradient_guidance"] = self._guidance(guide, gradient, answer, batch)
            report = None
            if draw.shaped and answer:
                stage = pyramid.stages[-1]
                count = self.config.topology.settings.m
                rows = sample_rows(stage.coords, stage.offsets, count, draw.rng)
                loss, report = network.extras["topology"](shape, answer.stages[-1], rows)
                terms["topology"] = loss
            if answer:
                if soft.alone:  # what the teacher shows of voxels without scores counts here
                    every = Aims.of(soft, batch, answer, logits)
                    weights = every.weights(self.config, batch, self.shares, self.members)
                terms |= self._features(network, stages, answer, batch, weights)
            if batch.camera is not None and self.atlas is not None:
                camera = network.extras["camera"]
                terms |= camera(decoded, logits, batch.camera, self.atlas)
            total: Tensor = network.extras["weighting"](terms)
            total = total + network.in_reach()
            if answer:  # terms leave out rows that are no numbers; a teacher with some is to stop
                total = total + 0 * answer.logits.sum()
            if own is not None:
                total = total + own
                parts["teacher_task"] = own.detach()
        for name, weight in self.weights.items():
            if weight:
                parts[name] = terms[name].detach() if name in terms else norms.new_tensor(torch.nan)
        return total, parts | self._norms(norms) | self._persistence(report, device)

    def _norms(self, norms: Tensor) -> dict[str, Tensor]:
        """Of the gradients at the shared feature; backward fills them in."""
        parts = {"task_norm": norms[0, 0]}
        if self.weights["topology"]:
            parts |= {"topology_norm": norms[1, 0], "topology_factor": norms[1, 1]}
        if self.weights["gradient_guidance"]:
            parts["guidance_norm"] = norms[2, 0]
        return parts

    def _persistence(
        self, report: TopologyReport | None, device: torch.device
    ) -> dict[str, Tensor]:
        """Σ persistence of both networks, so that a collapse shows, and the scans skipped."""
        if not self.weights["topology"]:
            return {}
        nothing = (torch.nan,) * (self.config.topology.settings.max_dimension + 1)
        sides = {
            "student": report.student if report else nothing,
            "teacher": report.teacher if report else nothing,
        }
        parts = {f"{side}_h{k}": v for side, sums in sides.items() for k, v in enumerate(sums)}
        parts["topology_skipped"] = float(report.skipped) if report else torch.nan
        return {name: torch.tensor(value, device=device) for name, value in parts.items()}

    def _answer(
        self, network: DistilledStudent, batch: Batch, draw: _Draw
    ) -> tuple[Answer | None, Tensor | None]:
        """What the lidar teacher says, if anybody asks, and its own task loss where it learns."""
        guided = draw.guided

        def task_loss(logits: Tensor, batch: Batch) -> Tensor:
            with full_precision(logits.device):
                return self.task(logits.float(), batch)[0]

        asked = draw.guided or draw.shaped or any(self.weights[name] for name in self._every_step)
        if self.config.teacher == "none" or (self.teacher is not None and not asked):
            return None, None
        seen = batch.teacher if isinstance(batch, SweptBatch) else batch
        own = None
        if self.teacher is not None:
            answer = self.teacher.answer(seen, task_loss if guided else None)
        else:
            answer, own = network.learning_teacher_answer(seen, task_loss, guided)
        return answer.at(batch.rows) if isinstance(batch, SweptBatch) else answer, own

    def _guidance(self, feature: Tensor, gradient: Tensor, answer: Answer, batch: Batch) -> Tensor:
        assert answer.gradient is not None
        config, pyramid = self.config.gradient_guidance, batch.pyramid
        return gradient_guidance_loss(
            feature.float(),
            answer.stages[-1],
            gradient,
            answer.gradient,
            pyramid.stages[-1].offsets,
            labelled_scans(batch.targets, pyramid.stages[0].offsets),
            config.normalise,
            config.magnitude,
        )

    def _features(
        self,
        network: DistilledStudent,
        stages: list[Tensor],
        answer: Answer,
        batch: Batch,
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """Feature and relation terms that are switched on."""
        config, pyramid = self.config, batch.pyramid
        terms = {}
        if self.weights["features"]:
            at = {s: at_stage(weights, pyramid, s) for s in config.features.stages}
            terms["features"] = network.extras["features"](stages, answer.stages, at)
        for name, loss in _RELATIONS.items():
            if self.weights[name]:
                each = [
                    loss(
                        stages[s],
                        answer.stages[s],
                        pyramid.stages[s].neighbours,
                        at_stage(weights, pyramid, s),
                    )
                    for s in config.relations.stages
                ]
                terms[name] = torch.stack(each).mean()
        return terms


@dataclass(frozen=True)
class _Draw:
    """What chance decides for a batch; the seed of the forward pass is the batch's own."""

    rng: np.random.Generator
    guided: bool
    shaped: bool

    @classmethod
    def of(cls, seed: int, config: DistillConfig) -> _Draw:
        rng = np.random.default_rng([seed, 11])
        guided, shaped = rng.random(2) < (config.gradient_guidance.chance, config.topology.chance)
        return cls(
            rng,
            bool(guided) and config.gradient_guidance.weight > 0,
            bool(shaped) and config.topology.weight > 0,
        )
