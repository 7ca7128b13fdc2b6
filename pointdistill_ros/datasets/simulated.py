# SPDX-License-Identifier: Apache-2.0
"""Scans of simulated streets, rendered once by worker processes and kept as packed files.

- a street is a seed; a few scans of it, some way apart, stand for the drive
- rendered files carry a fingerprint of the simulator, so scans of an older one are never mixed in
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pointdistill_ros.simulation
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.resources import config_path
from pointdistill_ros.scan import LidarScan

QUANTUM = 128
"""Stored coordinates are metres × this, as int16: ± 256 m in steps of 8 mm."""


class SimulatedStreets:
    """Labelled scans of the streets of some seeds, in order of seed and time."""

    label_set = LabelSet.named("semantic-kitti")

    def __init__(
        self,
        cache: str | Path,
        seeds: Sequence[int],
        frames: int = 3,
        stride: int = 25,
        lidars: Sequence[str] = ("hdl64e",),
        workers: int = 1,
    ) -> None:
        """Render what ``cache`` lacks of ``frames`` scans per street, ``stride`` turns apart.

        The sensors (names of config/lidars/) take turns over the seeds.
        """
        folder = Path(cache) / _fingerprint()
        drives = [(seed, lidars[i % len(lidars)]) for i, seed in enumerate(seeds)]
        self.paths = [
            folder / f"{lidar}_{seed:06d}_{frame * stride:04d}.npz"
            for seed, lidar in drives
            for frame in range(frames)
        ]
        self.sequences = [path.stem.rsplit("_", 1)[0] for path in self.paths]
        jobs = [
            (folder, seed, lidar, [f * stride for f in range(frames)])
            for i, (seed, lidar) in enumerate(drives)
            if not all(p.exists() for p in self.paths[i * frames : (i + 1) * frames])
        ]
        if jobs:
            spawn = get_context("spawn")  # a fork would inherit the threads of torch
            with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
                list(pool.map(_render, jobs))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N]. Raises InputError if the file was damaged."""
        try:
            with np.load(self.paths[i]) as data:
                packed, inten, labels = data["xyz"], data["inten"], data["label19"]
        except Exception as error:  # numpy and zipfile each raise their own kinds
            raise InputError(f"{self.paths[i]}: not a rendered scan ({error})") from error
        xyz = packed.astype(np.float32) / np.float32(QUANTUM)
        intensity = inten.astype(np.float32) / np.float32(255)
        return LidarScan(xyz, intensity, frame=self.paths[i].stem), labels


def _render(job: tuple[Path, int, str, list[int]]) -> None:
    """Render the wanted frames of one street."""
    folder, seed, lidar, frames = job
    drive = pointdistill_ros.simulation.Drive(seed, max(frames) + 1, lidar)
    for frame in frames:
        scan, labels, _ = drive[frame]
        assert scan.intensity is not None
        with (
            atomic_path(folder / f"{lidar}_{seed:06d}_{frame:04d}.npz") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez_compressed(
                file,
                xyz=np.round(scan.xyz * QUANTUM).clip(-32768, 32767).astype(np.int16),
                q=QUANTUM,
                inten=np.round(scan.intensity * 255).clip(0, 255).astype(np.uint8),
                label19=labels,
            )


def _fingerprint() -> str:
    """Changes whenever the simulator's code or sensors do."""
    code = Path(pointdistill_ros.simulation.__file__).parent.glob("*.py")
    digest = hashlib.sha256()
    for path in sorted([*code, *config_path("lidars").glob("*.yaml")], key=lambda p: p.name):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
