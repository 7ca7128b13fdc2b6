# SPDX-License-Identifier: Apache-2.0
"""The benchmark that belongs to a folder."""

from __future__ import annotations

from pathlib import Path

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.submission.benchmark import Benchmark
from pointdistill_ros.evaluation.submission.nuscenes import NuScenesBenchmark
from pointdistill_ros.evaluation.submission.semantic_kitti import SemanticKittiBenchmark


def open_benchmark(root: str | Path, split: str, *, external_data: bool = False) -> Benchmark:
    """The benchmark of the data set whose official files lie at ``root``. Raises InputError."""
    root = Path(root)
    if (root / "sequences").is_dir():
        return SemanticKittiBenchmark(root, split)
    if any(root.glob("v1.0-*/")):
        return NuScenesBenchmark(root, split, external_data=external_data)
    raise InputError(
        f"{root}: neither SemanticKITTI (sequences/11/velodyne/) nor nuScenes (v1.0-test/)"
    )
