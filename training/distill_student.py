# SPDX-License-Identifier: Apache-2.0
"""Train a student with a teacher: python -m training.distill_student --help."""

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

from pointdistill_ros.errors import one_line_errors  # noqa: E402
from training.command import Program, train  # noqa: E402
from training.distillation.config import DistillConfig  # noqa: E402
from training.distillation.task import distillation  # noqa: E402

PROGRAM = Program(
    name="distill_student",
    role="distilled",
    config=DistillConfig,
    make_task=distillation,
    purpose="Train a student on labels and on what a teacher says about the same voxels: soft "
    "targets, gradient guidance, topology of features, and more (training/distillation/config.py).",
    first="""python -m training.distill_student --recipe cpu
      simulated streets only, from the shipped teacher: nothing to download
  python -m training.distill_student --recipe cpu --teacher runs/teacher-cpu/teacher-cpu.safetensors
      the same from what train_teacher --recipe cpu leaves""",
    teacher=True,
)


def main() -> None:
    """Train; a user's mistake is one line and exit code 2."""
    with one_line_errors("distill_student"):
        train(PROGRAM)


if __name__ == "__main__":
    main()
