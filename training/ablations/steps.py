# SPDX-License-Identifier: Apache-2.0
"""What a step of a run costs, from its metrics.jsonl.

Wall time between two looks at the losses, start-up and checkpoints left out. The mean, not the
median: a term that is computed on one batch in four is paid on one in four.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class StepCost:
    """Of one run."""

    steps: int
    """The run's last step."""
    seconds: float
    """Mean per step; NaN where there are too few steps."""


def step_cost(metrics: Path) -> StepCost:
    """Read metrics.jsonl; a file that is not there is a run of no steps."""
    looks: dict[float, int] = {}  # seconds since the start → last step known then
    checkpoints: set[int] = set()
    last = 0
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError):  # cut short by a kill
            continue
        last = max(last, step)
        if "seconds" in entry:
            looks[float(entry["seconds"])] = step
        else:
            checkpoints.add(step)
    times = np.array(sorted(looks))
    steps = np.array([looks[t] for t in times], np.int64)
    if len(times) < 2:
        return StepCost(last, float("nan"))
    kept = ~np.isin(steps[:-1], list(checkpoints))
    count = int(np.diff(steps)[kept].sum())
    seconds = float(np.diff(times)[kept].sum())
    return StepCost(last, seconds / count if count > 0 else float("nan"))
