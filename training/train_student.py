# SPDX-License-Identifier: Apache-2.0
"""Train a student on labels alone: python -m training.train_student --help."""

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

from pointdistill_ros.errors import one_line_errors  # noqa: E402
from training.command import train  # noqa: E402


def main() -> None:
    """Train; a user's mistake is one line and exit code 2."""
    with one_line_errors("train_student"):
        train("student")


if __name__ == "__main__":
    main()
