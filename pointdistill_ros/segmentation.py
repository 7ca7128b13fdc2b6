# SPDX-License-Identifier: Apache-2.0
"""Segmentation: one class per point of a scan, same length and order as the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import UNLABELLED, LabelSet


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of all N points of a scan; points that could not be labelled carry 255."""

    labels: NDArray[np.uint8]
    """[N] train ids of ``label_set``, 255 = unlabelled."""
    probability: NDArray[np.float32]
    """[N] softmax maximum, 0..1; 0 where unlabelled."""
    entropy: NDArray[np.float32]
    """[N] entropy of the softmax divided by ln C, 0..1; 0 where unlabelled."""
    label_set: LabelSet
    """Names and colours of the train ids."""
    timing: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds per step: ``geometry``, ``network``, ``points``, ``total``."""
    voxels: int = 0
    """Occupied voxels the network saw."""
    degradation: str = "none"
    """What a latency budget took away: a name of ``model.degradation.LADDER``."""

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self) -> dict[str, int]:
        """Points per class name, and under ``unlabelled`` the rest."""
        histogram = np.bincount(self.labels, minlength=256)
        counts = {name: int(histogram[i]) for i, name in enumerate(self.label_set.names)}
        return counts | {"unlabelled": int(histogram[UNLABELLED])}

    def save(self, path: str | Path) -> None:
        """Write ``.label`` (uint32 raw ids, SemanticKITTI layout) or ``.npz`` (all arrays).

        The file appears whole or not at all. Raises InputError on another suffix.
        """
        path = Path(path)
        if path.suffix not in (".label", ".npz"):
            raise InputError(f"{path}: cannot save a segmentation here; use .label or .npz")
        with atomic_path(path) as temporary:
            if path.suffix == ".label":
                self.label_set.to_raw(self.labels).astype("<u4").tofile(temporary)
            else:
                with temporary.open("wb") as file:
                    np.savez_compressed(
                        file,
                        label=self.labels,
                        raw=self.label_set.to_raw(self.labels),
                        probability=self.probability,
                        entropy=self.entropy,
                        names=np.array(self.label_set.names),
                    )
