# SPDX-License-Identifier: Apache-2.0
"""The teacher: trained weights, frozen, in evaluation mode, on the student's voxels.

- never part of what a run changes: no gradient reaches its weights, its norms keep their statistics
- rows of all its stages are those of the student: both walk one VoxelPyramid
- where the task's gradient at its last encoder stage is wanted, only decoder and head get a graph
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointdistill_ros.checkpoint import CheckpointMeta, file_sha256, load_checkpoint
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from training.batch import Batch


@dataclass(frozen=True)
class Answer:
    """What a teacher says about a batch; nothing of it needs a gradient."""

    stages: tuple[Tensor, ...]
    """[n_s, C_s] encoder output per stage, fine to coarse; [0] where nobody asks for a stage."""
    logits: Tensor
    """float32 [N, classes]."""
    gradient: Tensor | None = None
    """[n, C] of the task loss at the last stage."""

    def at(self, rows: Sequence[Tensor]) -> Answer:
        """What is said of some voxels; rows: per stage, int64 [m_s]."""
        gradient = None if self.gradient is None else self.gradient[rows[-1]]
        stages = tuple(s[r] for s, r in zip(self.stages, rows, strict=True))
        return Answer(stages, self.logits[rows[0]], gradient)


class Teacher:
    """A frozen network."""

    def __init__(self, network: PTv3, digest: str = "") -> None:
        """Takes the network over: evaluation mode, no gradients. ``digest``: of its file."""
        self.network = network.eval().requires_grad_(False)
        self.digest = digest

    @classmethod
    def load(cls, path: Path, label_set: LabelSet, grid_size: float) -> Teacher:
        """Read a checkpoint for a run in these classes on these voxels.

        Raises CheckpointError, and ConfigError where classes or voxels are others.
        """
        network, meta = load_checkpoint(path)
        check_match(path, meta, label_set, grid_size)
        return cls(network, file_sha256(path))

    @property
    def config(self) -> PTv3Config:
        """Shape of the network."""
        return self.network.config

    def answer(
        self, batch: Batch, task_loss: Callable[[Tensor, Batch], Tensor] | None = None
    ) -> Answer:
        """Features and logits of a batch; with ``task_loss`` also its gradient at the last stage.

        Call it under the precision of the run; the loss is computed by the caller's rules.
        """
        network, pyramid = self.network, batch.pyramid
        with torch.no_grad():
            stages = network.encode(batch.features, pyramid)
        if task_loss is None:
            with torch.no_grad():
                logits = network.head(network.decode(stages, pyramid))
            return Answer(tuple(stages), logits.float())
        with torch.enable_grad():
            last = stages[-1].detach().requires_grad_()
            logits = network.head(network.decode([*stages[:-1], last], pyramid))
            (gradient,) = torch.autograd.grad(task_loss(logits, batch), last)
        return Answer(tuple(stages), logits.detach().float(), gradient)


def check_match(path: Path, meta: CheckpointMeta, label_set: LabelSet, grid_size: float) -> None:
    """Raise ConfigError where a teacher cannot teach a run: other classes or other voxels."""
    if meta.label_set.names != label_set.names:
        raise ConfigError(
            f"{path}: the teacher knows the classes of {meta.label_set.name}, the run trains those "
            f"of {label_set.name}; take a teacher of the same classes"
        )
    if abs(meta.grid_size - grid_size) > 1e-6:
        raise ConfigError(
            f"{path}: the teacher was trained on voxels of {meta.grid_size:g} m, the run uses "
            f"{grid_size:g} m; both see the same voxels, so set grid_size to the teacher's"
        )


def shared_geometry(student: PTv3Config, teacher: PTv3Config) -> PTv3Config:
    """A shape whose pyramids serve both networks. Raises ConfigError where there is none."""
    for name in ("strides", "curves"):
        if getattr(student, name) != getattr(teacher, name):
            raise ConfigError(
                f"student and teacher differ in {name} ({getattr(student, name)} and "
                f"{getattr(teacher, name)}); they cannot share their voxels"
            )

    def deeper(name: str) -> Any:
        pairs = zip(getattr(student, name), getattr(teacher, name), strict=True)
        return tuple(max(pair) for pair in pairs)

    depths: dict[str, Any] = {n: deeper(n) for n in ("encoder_depths", "decoder_depths")}
    return replace(student, **depths)
