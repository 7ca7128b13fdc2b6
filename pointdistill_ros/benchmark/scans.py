# SPDX-License-Identifier: Apache-2.0
"""What is benchmarked on: scans of the user, else of a simulated street; a street at any density.

A denser scan comes from a lidar with more beams and columns, never from points that are copied or
shaken: those would fall into the same voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.open import open_scans
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation.lidar import Lidar, LidarConfig, Target
from pointdistill_ros.simulation.scenes import Scene
from pointdistill_ros.simulation.styles import named_style

_SEED, _STYLE, _HEIGHT = 3, "urban", 1.73
_COLUMNS_32 = 1300
"""Columns at which 32 beams see about as many points as a sweep of nuScenes has."""


@dataclass(frozen=True, eq=False)
class NamedScan:
    """A scan and what the report calls it."""

    name: str
    scan: LidarScan


def given_scans(paths: Sequence[Path], take: int) -> list[NamedScan]:
    """``take`` scans of each path (file, folder, bag), evenly spread. Raises InputError."""
    found: list[NamedScan] = []
    for path in paths:
        source = open_scans(path)
        if not len(source):
            raise InputError(f"{path}: holds no scans")
        wanted = {i * len(source) // take for i in range(min(take, len(source)))}
        for i, entry in enumerate(islice(source.entries(), max(wanted) + 1)):
            if i not in wanted:
                continue
            scan = entry.load()
            if not scan.valid.any():
                raise InputError(f"{path}: scan {entry.name} has no finite point to benchmark on")
            name = _shortened(entry.name)
            if path.is_dir():
                name = f"{path.resolve().name}/{name}"
            twins = sum(other.name == name for other in found)
            found.append(NamedScan(f"{name} ({twins + 1})" if twins else name, scan))
    return found


class Street:
    """A simulated street, seen by standing lidars of any density."""

    def __init__(self, seed: int = _SEED) -> None:
        """Build it (some seconds). Same seed, same street."""
        self._seed = seed
        scene = Scene(_generator(seed, 0), named_style(_STYLE), -95.0, 95.0, 8.0)
        here, lane = np.zeros(1), scene.street.lane
        x, y = scene.street.at(here, lane)
        self._place = np.array([x[0], y[0], scene.street.height(here, lane)[0] + _HEIGHT])
        self._target = Target(scene.static)

    def seen_by(self, config: LidarConfig) -> LidarScan:
        """One turn of a lidar, [returns] points."""
        lidar = Lidar(config)
        origins = np.broadcast_to(self._place, (config.columns, 3))
        rng = _generator(self._seed, config.columns * config.beams)
        sweep = lidar.sweep([self._target], origins, lidar.directions, rng)
        seen = np.isfinite(sweep.range)
        xyz = (lidar.directions[seen] * sweep.range[seen][:, None]).astype(np.float32)
        return LidarScan(xyz, sweep.intensity[seen])

    def usual_scans(self) -> list[NamedScan]:
        """A 64-beam scan of about 120 000 points and a 32-beam one of about 35 000."""
        return [
            NamedScan("simulated, 64 beams", self.seen_by(LidarConfig.named("hdl64e"))),
            NamedScan(
                "simulated, 32 beams",
                self.seen_by(replace(LidarConfig.named("hdl32e"), columns=_COLUMNS_32)),
            ),
        ]

    def scan_of(self, points: int) -> LidarScan:
        """The street in about so many points (within a few per cent)."""
        base = LidarConfig.named("hdl64e")
        high, low = base.elevations[0], base.elevations[-1]
        # at first as if every beam came back, then with the share that did
        share, scan = 1.0, None
        for _ in range(2):
            scale = (points / share / (base.beams * base.columns)) ** 0.5
            beams = max(2, round(base.beams * scale))
            columns = max(4, round(points / share / beams))
            elevations = tuple(float(e) for e in np.linspace(high, low, beams))
            scan = self.seen_by(replace(base, elevations=elevations, columns=columns))
            share = max(len(scan), 1) / (beams * columns)
        assert scan is not None
        return scan


def reference(scans: Sequence[NamedScan]) -> NamedScan:
    """The scan that ratios are stated on: the one with the most points."""
    return max(scans, key=lambda named: len(named.scan))


def scaling_scans(sizes: Sequence[int], tell: Callable[[str], None]) -> list[NamedScan]:
    """One street in ever more points."""
    tell("building a street")
    street = Street()
    scans = []
    for size in sizes:
        tell(f"scanning it in {size} points")
        scans.append(NamedScan(f"{size}", street.scan_of(size)))
    return scans


def _shortened(name: str) -> str:
    """Recordings carry dates and time stamps in their names; both ends tell them apart."""
    return name if len(name) <= 26 else f"{name[:15]}…{name[-10:]}"


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))
