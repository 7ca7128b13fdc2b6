# SPDX-License-Identifier: Apache-2.0
"""Answers of a frozen teacher, kept per scan on disk.

    CACHE/answers/DIGEST/KEY.safetensors    float16: logits [N, classes], stage-S [n_S, C_S] …

- KEY is the digest of what the teacher is shown of a scan, DIGEST that of everything else that
  decides the answer: weights, voxels, patches, arithmetic. A file of other things is never found
- a scan is answered alone, on the model's own order of curves, so that its batch, its mates and the
  process that comes first do not matter; what is kept is also what the first step gets
- files appear whole; processes and runs may share the folder
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pointdistill_ros.io.atomic import atomic_path
from training.batch import Batch, geometry_builders
from training.config import TrainConfig
from training.distillation.teacher import Answer, Teacher

_LARGEST = torch.finfo(torch.float16).max


class KeptTeacher(Teacher):
    """A teacher that is asked once about every scan, but for its gradient."""

    def __init__(
        self, teacher: Teacher, cache: Path, stages: Collection[int], config: TrainConfig
    ) -> None:
        """``stages``: encoder stages that the terms of the run ask for, 0 = finest."""
        super().__init__(teacher.network, teacher.digest)
        self.stages = tuple(sorted(stages))
        self.compiled = config.compiled
        decides = {
            "weights": self.digest,
            "grid_size": config.grid_size,
            "patch_sizes": self.config.patch_sizes,
            "precision": config.precision,
            "compiled": config.compiled,
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        self.folder = cache / "answers" / digest[:16]

    def answer(
        self, batch: Batch, task_loss: Callable[[Tensor, Batch], Tensor] | None = None
    ) -> Answer:
        """As of any teacher, from the folder where it is there; asked anew with ``task_loss``.

        The batch must tell the ``keys`` of its samples.
        """
        if task_loss is not None:
            return super().answer(batch, task_loss)
        device = batch.features.device
        each = [self._kept(batch, b, key) for b, key in enumerate(batch.keys)]

        def joined(name: str) -> Tensor:
            return torch.cat([found[name] for found in each]).to(device).float()

        stages = tuple(
            joined(f"stage-{s}") if s in self.stages else torch.empty(0, device=device)
            for s in range(len(batch.pyramid.stages))
        )
        return Answer(stages, joined("logits"))

    def _kept(self, batch: Batch, b: int, key: str) -> dict[str, Tensor]:
        """What is kept of sample b, asked for first where it is not there or damaged."""
        path = self.folder / f"{key}.safetensors"
        wanted = {"logits", *(f"stage-{s}" for s in self.stages)}
        try:
            found = load_file(path)
            if wanted <= found.keys():
                return found
        except (OSError, SafetensorError):
            pass  # made anew
        found = self._ask(batch, b)
        with atomic_path(path) as temporary:
            save_file(found, temporary)
        return found

    def _ask(self, batch: Batch, b: int) -> dict[str, Tensor]:
        finest = batch.pyramid.stages[0]
        rows = slice(finest.offsets[b], finest.offsets[b + 1])
        coords = finest.coords[rows].cpu()
        none = torch.zeros(len(coords), dtype=torch.int64)
        pyramid = geometry_builders(self.compiled)[1](coords, none, self.config)
        alone = Batch(batch.features[rows].cpu(), batch.targets[rows].cpu(), pyramid)
        answer = super().answer(alone.to(batch.features.device))
        found = {f"stage-{s}": answer.stages[s] for s in self.stages} | {"logits": answer.logits}
        return {
            name: value.float().clamp(-_LARGEST, _LARGEST).half().cpu().contiguous()
            for name, value in found.items()
        }
