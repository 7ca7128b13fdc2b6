# SPDX-License-Identifier: Apache-2.0
"""Time of student and teacher on one scan, and of the simulator: ``python -m benchmarks.network``.

The scan is the file named on the command line, else a simulated one. Networks without
shipped weights run with random ones: the time is the same. Medians in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics
from pointdistill_ros.config import load_config
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import config_path, weights_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter
from pointdistill_ros.simulation.drive import Drive

STEPS = ("geometry", "network", "points", "total")
SEED = 100_000


def main() -> None:
    """Print one line per network, then the simulator's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path, nargs="?", help="scan file; default: a simulated scan")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    drive = Drive(SEED, 20)
    simulated = drive[0].scan  # builds the street
    scan = LidarScan.read(args.scan) if args.scan else simulated
    print(f"{len(scan)} points, {torch.get_num_threads()} CPU threads")
    student = _segmenter("student", None, args.device)
    teacher = _segmenter("teacher", student, args.device)
    for segmenter in (student, teacher):
        segmenter.warm_up()
        results = [segmenter(scan) for _ in range(args.repeats)]
        parts = (statistics.median(r.timing[step] for r in results) for step in STEPS)
        times = ", ".join(f"{step} {ms:.0f}" for step, ms in zip(STEPS, parts, strict=True))
        print(
            f"{segmenter.model_id} ({segmenter.num_parameters} parameters, {segmenter.device}): "
            f"{results[0].voxels} voxels of {segmenter.meta.grid_size:g} m, ms: {times}"
        )

    began = time.perf_counter()
    frames = sum(1 for _ in drive)
    speed = frames / (time.perf_counter() - began)
    print(f"simulator, street built: {speed:.1f} scans a second of hdl64e")


def _segmenter(name: str, like: Segmenter | None, device: str) -> Segmenter:
    """The shipped network, or one of its shape with random weights on the grid of ``like``."""
    if weights_path(name).exists():
        return Segmenter.load(name, device=device)
    config = load_config(PTv3Config, config_path(f"models/{name}.yaml"))
    grid_size = 0.1
    if like is not None:
        grid_size = like.meta.grid_size
        config = replace(config, patch_sizes=like.meta.config.patch_sizes)
    intensity = IntensityStatistics(0.0, 0.3, 1.0, missing=0.3)
    label_set = LabelSet.named("semantic-kitti")
    meta = CheckpointMeta(f"{name}, random weights", config, label_set, grid_size, intensity)
    where = "cuda" if device == "auto" and torch.cuda.is_available() else device
    return Segmenter(PTv3(config), meta, "cpu" if where == "auto" else where)


if __name__ == "__main__":
    main()
