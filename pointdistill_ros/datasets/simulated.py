# SPDX-License-Identifier: Apache-2.0
"""Scans of simulated streets: rendered once and kept as packed files, or by whoever asks for them.

- a street is a seed; a few scans of it, some way apart, stand for the drive
- rendered files carry a fingerprint of the simulator, so scans of an older one are never mixed in
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import pointdistill_ros.simulation
from pointdistill_ros.config import load_config
from pointdistill_ros.datasets.worker_pool import worker_pool
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.resources import config_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation.drive import Drive
from pointdistill_ros.simulation.lidar import LidarConfig

QUANTUM = 128
"""Stored coordinates are metres × this, as int16: ± 256 m in steps of 8 mm."""


class SimulatedStreets:
    """Labelled scans of the streets of some seeds, in order of seed and time.

    It holds no open file and can be sent to other processes. The same arguments give the same
    scans, rendered in whatever process and order.
    """

    label_set = LabelSet.named("semantic-kitti")

    def __init__(
        self,
        cache: str | Path | None,
        seeds: Sequence[int],
        frames: int = 3,
        stride: int = 25,
        lidars: Sequence[str] = ("hdl64e",),
        workers: int = 1,
    ) -> None:
        """Street i has ``frames`` scans, ``stride`` turns apart, of a sensor of config/lidars/.

        The sensors take turns over the seeds. ``workers`` processes render now what ``cache``
        lacks; with 0 a street is rendered when one of its scans is asked for, by the process that
        asks, and kept in ``cache``. Without ``cache`` (None) every scan is rendered each time, and
        the street of the last one kept: ask for scans of a street one after another.
        Raises ConfigError for an unknown sensor.
        """
        for name in lidars:
            load_config(LidarConfig, config_path(f"lidars/{name}.yaml"))
        self.frames, self.stride = frames, stride
        self._folder = None if cache is None else Path(cache) / _fingerprint()
        self._drives = [(seed, lidars[i % len(lidars)]) for i, seed in enumerate(seeds)]
        self.sequences = [
            f"{lidar}_{seed:06d}" for seed, lidar in self._drives for _ in range(frames)
        ]
        self._last: tuple[int, Drive] | None = None
        if self._folder is not None and workers:
            self._render_missing(self._folder, workers)

    @property
    def paths(self) -> list[Path]:
        """File of each scan, there or not; none without a cache."""
        if self._folder is None:
            return []
        return [path for drive in self._drives for path in self._files(self._folder, *drive)]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}  # a street is large, and quickly built from its seed

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N]. Raises InputError if the file was damaged."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"scan {i} of {len(self)}")
        street, frame = divmod(i % len(self), self.frames)
        name = f"{self.sequences[i]}_{frame * self.stride:04d}"
        if self._folder is None:
            return _unpacked(self._packed(street, frame), name)
        path = self._folder / f"{name}.npz"
        if not path.is_file():
            _render((self._folder, *self._drives[street], self._turns))
        try:
            with np.load(path) as data:
                return _unpacked({member: data[member] for member in _MEMBERS}, name)
        except Exception as error:  # numpy and zipfile each raise their own kinds
            raise InputError(f"{path}: not a rendered scan ({error})") from error

    @property
    def _turns(self) -> list[int]:
        return [frame * self.stride for frame in range(self.frames)]

    def _files(self, folder: Path, seed: int, lidar: str) -> list[Path]:
        return [folder / f"{lidar}_{seed:06d}_{turn:04d}.npz" for turn in self._turns]

    def _render_missing(self, folder: Path, workers: int) -> None:
        jobs = [
            (folder, *drive, self._turns)
            for drive in self._drives
            if not all(path.exists() for path in self._files(folder, *drive))
        ]
        if jobs:
            console = Console(stderr=True)
            if not console.is_terminal:
                console.print(f"rendering {len(jobs)} streets into {folder}")
            with worker_pool(workers) as pool:
                rendered = pool.map(_render, jobs)
                for _ in track(rendered, "rendering streets", len(jobs), console=console):
                    pass

    def _packed(self, street: int, frame: int) -> dict[str, NDArray[Any]]:
        """Arrays of a scan that is kept nowhere."""
        if self._last is None or self._last[0] != street:
            seed, lidar = self._drives[street]
            self._last = street, Drive(seed, self._turns[-1] + 1, lidar)
        scan, labels, _ = self._last[1][self._turns[frame]]
        return _arrays(scan, labels)


_MEMBERS = ("xyz", "inten", "label19")


def _render(job: tuple[Path, int, str, list[int]]) -> None:
    """Render the wanted frames of one street."""
    folder, seed, lidar, turns = job
    drive = Drive(seed, max(turns) + 1, lidar)
    for turn in turns:
        arrays = _arrays(*drive[turn][:2])
        with (
            atomic_path(folder / f"{lidar}_{seed:06d}_{turn:04d}.npz") as temporary,
            temporary.open("wb") as file,
        ):
            # one by one: the type of `**arrays` would not tell members from options
            np.savez_compressed(
                file,
                xyz=arrays["xyz"],
                q=QUANTUM,
                inten=arrays["inten"],
                label19=arrays["label19"],
            )


def _arrays(scan: LidarScan, labels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What is kept of a scan, by name: all integers."""
    assert scan.intensity is not None
    xyz = np.round(scan.xyz * QUANTUM).clip(-32768, 32767).astype(np.int16)
    inten = np.round(scan.intensity * 255).clip(0, 255).astype(np.uint8)
    return {"xyz": xyz, "inten": inten, "label19": labels}


def _unpacked(arrays: dict[str, NDArray[Any]], name: str) -> tuple[LidarScan, NDArray[np.uint8]]:
    xyz = arrays["xyz"].astype(np.float32) / np.float32(QUANTUM)
    intensity = arrays["inten"].astype(np.float32) / np.float32(255)
    return LidarScan(xyz, intensity, frame=name), arrays["label19"]


def _fingerprint() -> str:
    """Changes whenever the simulator's code or sensors do."""
    code = Path(pointdistill_ros.simulation.__file__).parent.glob("*.py")
    digest = hashlib.sha256()
    for path in sorted([*code, *config_path("lidars").glob("*.yaml")], key=lambda p: p.name):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
