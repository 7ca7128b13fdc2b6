# SPDX-License-Identifier: Apache-2.0
"""Train a teacher on labels alone: python -m training.train_teacher --help."""

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

from pointdistill_ros.errors import one_line_errors  # noqa: E402
from training.command import Program, train  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.supervised import supervised  # noqa: E402

PROGRAM = Program(
    name="train_teacher",
    role="teacher",
    config=TrainConfig,
    make_task=supervised,
    purpose="Train a teacher on labelled scans, real or simulated.",
    first="""python -m training.train_teacher --recipe cpu
      simulated streets only: nothing to download, nothing to configure""",
)


def main() -> None:
    """Train; a user's mistake is one line and exit code 2."""
    with one_line_errors("train_teacher"):
        train(PROGRAM)


if __name__ == "__main__":
    main()
