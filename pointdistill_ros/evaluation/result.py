# SPDX-License-Identifier: Apache-2.0
"""Everything one evaluation found, as data: JSON for programs, the source of tables and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.io.atomic import atomic_path

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """Weights, data, and their figures under each protocol."""

    weights: Mapping[str, Any]
    """``name``, ``sha256``, ``parameters``, ``grid_size``, ``engine``."""
    data: Mapping[str, Any]
    """``dataset``, ``split``, ``path``, ``intensity``."""
    protocols: Mapping[str, Figures]
    """By name (P1, P2, P3), in the order asked for; the first one is the one that is judged."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Each protocol in one sentence."""
    command: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def first(self) -> Figures:
        """Figures of the protocol named first."""
        return next(iter(self.protocols.values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, per protocol jointly and per drive."""
        protocols = {}
        for name, figures in self.protocols.items():
            protocols[name] = {
                "description": self.descriptions.get(name, ""),
                **figures.to_dict(),
                "by_sequence": {s: _brief(figures.of_sequence(s)) for s in figures.sequences},
            }
        return {
            "format": FORMAT,
            "command": self.command,
            "weights": dict(self.weights),
            "data": dict(self.data),
            "notes": list(self.notes),
            "protocols": protocols,
        }

    def save(self, path: Path) -> None:
        """Write JSON; the file appears whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def _brief(figures: Figures) -> dict[str, Any]:
    """A drive's figures without what only the whole split needs."""
    keep = ("scans", "points", "accuracy", "mean_accuracy", "miou", "fw_iou", "ece", "classes")
    found = figures.to_dict()
    return {key: found[key] for key in keep}
