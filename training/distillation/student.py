# SPDX-License-Identifier: Apache-2.0
"""The student in training, with what is thrown away afterwards: projections, learned weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import VoxelPyramid
from training.batch import Batch
from training.distillation.teacher import Answer


class DistilledStudent(nn.Module):
    """A student and the extra modules of its losses; but in the loss it is the student alone."""

    def __init__(self, student: PTv3, extras: dict[str, nn.Module]) -> None:
        super().__init__()
        self.student = student
        self.extras = nn.ModuleDict(extras)

    @property
    def config(self) -> PTv3Config:
        """Shape of the student."""
        return self.student.config

    def forward(self, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        """features: float [n, in_channels]. Returns the student's logits [n, classes]."""
        logits: Tensor = self.student(features, pyramid)
        return logits

    def in_reach(self) -> Tensor:
        """0, with every parameter of the losses in its graph, whichever terms a batch has.

        Processes that average their gradients wait for those of all parameters.
        """
        found = [p for n, p in self.extras.named_parameters() if not n.startswith("teacher.")]
        return torch.stack([0 * p.sum() for p in found]).sum() if found else torch.zeros(())

    def learning_teacher_answer(
        self, batch: Batch, task_loss: Callable[[Tensor, Batch], Tensor], guided: bool
    ) -> tuple[Answer, Tensor]:
        """What the teacher in ``extras`` says, constant, and its own task loss, which trains it.

        ``guided``: with the task's gradient at its last stage.
        """
        teacher = self.extras["teacher"]
        assert isinstance(teacher, PTv3)
        stages = teacher.encode(batch.features, batch.pyramid)
        logits = teacher.head(teacher.decode(stages, batch.pyramid)).float()
        own = task_loss(logits, batch)
        gradient = None
        if guided:
            (gradient,) = torch.autograd.grad(own, stages[-1], retain_graph=True)
        return Answer(tuple(s.detach() for s in stages), logits.detach(), gradient), own

    def export(self, name: str = "common") -> PTv3:
        """The student alone."""
        return self.student
