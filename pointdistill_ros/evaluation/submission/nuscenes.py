# SPDX-License-Identifier: Apache-2.0
"""nuScenes' lidar segmentation benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.nuscenes import NuScenesLidarseg
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.submission.benchmark import Benchmark


class NuScenesBenchmark(Benchmark):
    """Lidar segmentation, 16 classes: lidarseg/SET/TOKEN_lidarseg.bin, uint8 1..16."""

    dataset = "nuscenes"
    folders_are_entries = False
    accepts_folder = True
    label_bytes = 1
    inputs = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")

    def __init__(
        self, root: str | Path, split: str = "test", *, external_data: bool = False
    ) -> None:
        """``external_data``: whether the method uses more than nuScenes; stated in the archive."""
        self.split = split
        self.data = NuScenesLidarseg(root, split)
        self.scans: LabelledScans = self.data
        self.external_data = external_data
        self.members = [f"lidarseg/{split}/{f.token}_lidarseg.bin" for f in self.data.frames]
        self.folders = ("lidarseg/", f"lidarseg/{split}/", f"{split}/")

    def num_points(self, i: int) -> int:
        """Number of points of scan i."""
        return self.data.num_points(i)

    def encode(self, labels: NDArray[np.uint8]) -> bytes:
        """Challenge id = train id + 1; there is no id for an unlabelled point."""
        if len(labels) and labels.max() >= len(self.label_set):
            number = int((labels >= len(self.label_set)).sum())
            raise InputError(f"{number} points have no class; nuScenes takes ids 1 to 16 only")
        return (labels + np.uint8(1)).tobytes()

    def wrong_values(self, content: bytes) -> str | None:
        """Ids that the evaluation refuses."""
        ids = np.frombuffer(content, np.uint8)
        if wrong := int(((ids < 1) | (ids > len(self.label_set))).sum()):
            return f"{wrong} ids outside 1 to 16 (0 is not allowed)"
        return None

    def extra_files(self) -> dict[str, bytes]:
        """submission.json: what the method sees."""
        meta = dict.fromkeys(self.inputs, False)
        meta |= {"use_lidar": True, "use_external": self.external_data}
        return {f"{self.split}/submission.json": json.dumps({"meta": meta}, indent=2).encode()}

    def wrong_extra_file(self, path: str, content: bytes) -> list[str]:
        """What is wrong with submission.json."""
        try:
            meta: Any = json.loads(content)["meta"]
            found = dict(meta)
        except (ValueError, LookupError, TypeError) as error:
            return [f'{path}: expected {{"meta": {{…}}}} ({error!r})']
        wrong = [f"{path}: meta lacks {name}" for name in self.inputs if name not in found]
        wrong += [
            f"{path}: meta has an unknown key {name}" for name in found if name not in self.inputs
        ]
        return wrong + [
            f"{path}: {name} must be true or false, not {value!r}"
            for name, value in found.items()
            if name in self.inputs and not isinstance(value, bool)
        ]
