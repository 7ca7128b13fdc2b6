# SPDX-License-Identifier: Apache-2.0
r"""Train the student on labels alone.

python -m training.train_student --config config/training/cpu_first_weights.yaml \
    --data DATA --run runs/first --minutes 60
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import one_line_errors
from training.config import TrainConfig
from training.loop import Budget
from training.supervised import train_supervised


def main() -> None:
    """Parse the command line and train; a second call with the same --run resumes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="file of config/training/")
    parser.add_argument("--data", type=Path, help="folder of packed scans with manifest.json")
    parser.add_argument("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="wall time of training")
    length.add_argument("--steps", type=int, help="optimiser steps")
    args = parser.parse_args()
    config = load_config(TrainConfig, args.config)
    train_supervised(config, args.data, args.cache, args.run, Budget(args.steps, args.minutes))


if __name__ == "__main__":
    with one_line_errors("train_student"):
        main()
