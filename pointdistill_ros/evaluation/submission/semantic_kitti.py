# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI's single-scan segmentation benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.evaluation.submission.benchmark import Benchmark


class SemanticKittiBenchmark(Benchmark):
    """Single-scan task, 19 classes: sequences/SS/predictions/NNNNNN.label, uint32 raw ids."""

    dataset = "semantic-kitti"
    folders_are_entries = True
    accepts_folder = False
    optional = frozenset({"description.txt"})
    label_bytes = 4

    def __init__(self, root: str | Path, split: str = "test") -> None:
        self.split = split
        self.data = SemanticKitti(root, split)
        self.scans: LabelledScans = self.data
        self.members = [
            f"sequences/{sequence}/predictions/{path.stem}.label"
            for sequence, path in zip(self.data.sequences, self.data.paths, strict=True)
        ]
        parts = [
            (f"sequences/{sequence}/", f"sequences/{sequence}/predictions/")
            for sequence in dict.fromkeys(self.data.sequences)
        ]
        self.folders = ("sequences/", *(folder for pair in parts for folder in pair))
        self._known = np.zeros(1 << 16, bool)
        self._known[[ids[0] for ids in self.label_set.raw_ids]] = True

    def num_points(self, i: int) -> int:
        """Number of points of scan i."""
        return self.data.num_points(i)

    def encode(self, labels: NDArray[np.uint8]) -> bytes:
        """The raw id that stands for each class; unlabelled points get 0, which counts as wrong."""
        return self.label_set.to_raw(labels).astype("<u4").tobytes()

    def wrong_values(self, content: bytes) -> str | None:
        """Ids that the server would count as wrong without saying so."""
        words = np.frombuffer(content, "<u4")
        if len(words) and words.max() > 0xFFFF:
            number = int((words > 0xFFFF).sum())
            return f"{number} labels carry an instance id in the upper 16 bits"
        unknown = ~self._known[words]
        unknown &= words != self.label_set.ignore[0]
        if unknown.any():
            ids = ", ".join(map(str, np.unique(words[unknown])[:5]))
            return f"id {ids} is none of the 19 to write (learning_map_inv)"
        return None
