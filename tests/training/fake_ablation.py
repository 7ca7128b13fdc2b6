# SPDX-License-Identifier: Apache-2.0
"""Ablations without training: plans of two rows, cells with figures that were never measured."""

import json

import numpy as np

from training.ablations.cell import cells
from training.ablations.measure import PartCounts, Scope, _key, _plain
from training.ablations.plan import Plan, Row, recipes

OFF = {"soft_targets": {"weight": 0}, "gradient_guidance": {"weight": 0}, "topology": {"weight": 0}}
BASE = {"steps": 20, "sources": [{"kind": "simulated", "drives": 1}], **OFF}
SCOPE = Scope(data=True, drives=12)
ROWS = (
    Row("none", note="labels alone"),
    Row("together", {"teacher": "together", "soft_targets": {"weight": 1}}, against="none"),
)


def fake_cells(out, rows=ROWS, seeds=(0, 1, 2), teacher=None, camera=None, **base):
    plan = Plan({**BASE, **base}, rows, seeds)
    return cells(plan, recipes(plan, out / "plan.yaml"), out, teacher, camera)


def street_counts(share, streets=12, seed=0):
    """Of two classes, ``share`` of the points of every street right, give or take."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((streets, 2, 3), np.int64)
    for street in counts:
        right = rng.binomial(1000, np.clip(share + rng.normal(0, 0.01, 2), 0, 1))
        street[[0, 1], [0, 1]], street[[0, 1], [1, 0]] = right, 1000 - right
    return counts


def counted(counts, first="s"):
    return PartCounts(tuple(f"{first}{i}" for i in range(len(counts))), counts, 100)


def fake_parts(share, seed=0):
    return {
        "semantic-kitti 07": counted(street_counts(share, 1, seed)),
        "semantic-kitti 10": counted(street_counts(share - 0.1, 1, seed + 10)),
        "pandaset 003": counted(street_counts(share, 1, seed + 20)),
        "simulated": counted(street_counts(share, 12, seed)),
    }


def pretend(cell, share, protocols=("p1",), step_seconds=0.5, scope=SCOPE):
    """Leave what training and measuring leave."""
    cell.begin()
    lines = [{"step": i, "loss": 1.0, "seconds": step_seconds * i} for i in range(1, 21)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (cell.folder / "metrics.jsonl").write_text(text)
    cell.write("trained", {"weights": "student.safetensors", "sha256": f"{share}"})
    for protocol in protocols:
        parts = _plain(fake_parts(share, cell.seed))
        cell.write(f"figures-{protocol}", {"key": _key(cell, scope), "parts": parts})
