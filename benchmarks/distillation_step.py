# SPDX-License-Identifier: Apache-2.0
"""Cost of distillation on the CPU: ``python -m benchmarks.distillation_step [--precision P]``.

Forward, loss and backward of the student on sectors of simulated scans with random weights: from
labels alone, and with what a teacher says of the same voxels, given beforehand (kept answers, or a
teacher on another device). Gradient guidance and topology come on a share of the batches; a row
shows the step that has them, the last rows what a step costs on average. CPU time, medians of steps
taken in turns; ×: against labels alone in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.training_step import SEED, sector
from pointdistill_ros.config import load_config
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.resources import config_path
from pointdistill_ros.simulation.drive import Drive
from training.batch import Batch
from training.distillation.config import (
    DistillConfig,
    Features,
    GradientGuidance,
    Relations,
    SoftTargets,
    Topology,
)
from training.distillation.objective import DistillationLoss
from training.distillation.student import DistilledStudent
from training.distillation.task import extra_modules
from training.distillation.teacher import Answer, Teacher, shared_geometry
from training.losses.segmentation import segmentation_loss

CLASSES = 19
NONE = DistillConfig(
    soft_targets=SoftTargets(weight=0),
    gradient_guidance=GradientGuidance(weight=0),
    topology=Topology(weight=0),
)
SOFT = replace(NONE, soft_targets=SoftTargets())
FORMS = {
    "labels alone": NONE,
    "soft targets": SOFT,
    "… and gradient guidance": replace(SOFT, gradient_guidance=GradientGuidance(chance=1.0)),
    "… and topology": replace(SOFT, topology=Topology(chance=1.0)),
    "… and features": replace(SOFT, features=Features(weight=1.0)),
    "… and relations": replace(SOFT, relations=Relations(affinity=1.0, structure=1.0)),
}


class Given(Teacher):
    """What a teacher said of each batch."""

    def __init__(self, teacher: Teacher, batches: list[Batch]) -> None:
        super().__init__(teacher.network)
        self.said = {id(batch): teacher.answer(batch, task_loss) for batch in batches}

    def answer(
        self, batch: Batch, task_loss: Callable[[Tensor, Batch], Tensor] | None = None
    ) -> Answer:
        """The same whenever it is asked for."""
        return self.said[id(batch)]


def task(logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy and Lovász."""
    return segmentation_loss(logits, batch.targets)


def task_loss(logits: Tensor, batch: Batch) -> Tensor:
    """The same, as a teacher's gradient needs it."""
    return task(logits.float(), batch)[0]


def measure(student: PTv3, teacher: Teacher, batches: list[Batch], rounds: int) -> dict[str, float]:
    """Form → median CPU seconds of its step."""
    shares, members = torch.full((CLASSES,), 1 / CLASSES), torch.eye(CLASSES, dtype=torch.bool)
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    steps = {}
    for form, config in FORMS.items():
        network = DistilledStudent(student, extra_modules(config, student.config, teacher.config))
        steps[form] = network.train(), DistillationLoss(config, task, shares, members, teacher)
    for turn in range(rounds + 1):
        for k, batch in enumerate(batches):
            for form, (network, loss) in steps.items():
                network.zero_grad()
                torch.manual_seed(turn * len(batches) + k)
                start = time.process_time()
                loss(network, batch)[0].backward()  # type: ignore[no-untyped-call]
                if turn:  # the first warms up
                    times[form].append(time.process_time() - start)
    return {form: statistics.median(seconds) for form, seconds in times.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--voxels", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--teacher", default="teacher-cpu", help="shape, a file of config/models/")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shapes = [
        replace(load_config(PTv3Config, config_path(f"models/{name}.yaml")), num_classes=CLASSES)
        for name in ("student", args.teacher)
    ]
    shapes = [replace(shape, patch_sizes=(256,) * len(shape.patch_sizes)) for shape in shapes]
    student, other = (PTv3(shape) for shape in shapes)
    from training.compiled.network import compile_network

    for network in (student, other):
        compile_network(network, args.precision)
    drive, geometry = Drive(SEED, 20), shared_geometry(*shapes)
    cases = [sector(drive, frame, args.voxels, geometry) for frame in range(0, 20, 10)]
    batches = [Batch(features, labels, pyramid) for features, labels, pyramid in cases]
    given = Given(Teacher(other), batches)
    found = measure(student, given, batches, args.rounds)
    base, soft = found["labels alone"], found["soft targets"]
    print(
        f"student with the answers of {args.teacher}, {args.voxels} voxels, compiled "
        f"{args.precision}, {args.threads} threads"
    )
    print(f"  {'':34}{'CPU ms':>8}{'×':>6}")
    published = ("… and gradient guidance", "… and topology")
    for chance in (0.25, 1.0):
        extra = sum(chance * (found[form] - soft) for form in published)
        found[f"soft, guidance, topology at {chance:.0%}"] = soft + extra
    for form, seconds in found.items():
        print(f"  {form:34}{1e3 * seconds:8.0f}{seconds / base:6.2f}")


if __name__ == "__main__":
    main()
