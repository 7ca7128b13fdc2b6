# SPDX-License-Identifier: Apache-2.0
"""Train a student on labels alone: python -m training.train_student --help."""

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

from pointdistill_ros.errors import one_line_errors  # noqa: E402
from training.command import Program, train  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.supervised import supervised  # noqa: E402

PROGRAM = Program(
    name="train_student",
    role="student",
    config=TrainConfig,
    make_task=supervised,
    purpose="Train a student on labelled scans, real or simulated.",
    first="""python -m training.train_student --recipe cpu --data DATA
      labelled scans of four sensors and simulated streets""",
)


def main() -> None:
    """Train; a user's mistake is one line and exit code 2."""
    with one_line_errors("train_student"):
        train(PROGRAM)


if __name__ == "__main__":
    main()
