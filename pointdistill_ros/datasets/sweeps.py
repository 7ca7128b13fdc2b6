# SPDX-License-Identifier: Apache-2.0
"""Several sweeps in one cloud: a scan, and those before and after it, moved into its frame.

- poses come from the data set (poses.py)
- the scan's own points come first, all of them and in their order; of the others go: points that
  are not finite, returns of the recording car, and what moves or may have moved, which would smear
- which points moved is known from SemanticKITTI's raw ids; elsewhere vehicles, two-wheelers and
  people of other sweeps are left out, parked ones too
Not here: distortion within a sweep (data sets are motion-compensated), moving points without label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import DerivedScans, LabelledScans, innermost
from pointdistill_ros.datasets.poses import has_poses, name_of, pose_of
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import ConfigError, InputError, LabelError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation.drive import PERIOD

OWN_CAR = 2.5
"""Returns of other sweeps closer to their sensor's axis than this are left out, metres."""
_MAY_MOVE = ("vehicle", "two-wheeler", "person")
"""Classes of common7 …"""
_COMMON = "common7"

Drop = Literal["moving", "movable", "nothing"]


@dataclass(frozen=True, eq=False)
class SweptScan:
    """One scan with sweeps around it, all in its frame."""

    scan: LidarScan
    """Own points first; ``time`` is relative to the own stamp, over all sweeps."""
    labels: NDArray[np.uint8]
    """[N] train ids."""
    sweep: NDArray[np.int8]
    """[N] 0 = the scan's own, −1 the sweep before, 1 the one after, …"""
    places: Mapping[int, NDArray[np.float64]]
    """Where the sensor was, [3] metres, by sweep; they come in the order of the points."""


class Sweeps(DerivedScans):
    """A labelled data set whose scan i also shows what the sweeps around it saw."""

    def __init__(
        self,
        scans: LabelledScans,
        before: int = 2,
        after: int = 0,
        reach: float = 15.0,
        drop: Drop = "moving",
        own_labels: bool = False,
    ) -> None:
        """Up to ``before`` earlier and ``after`` later scans of the same sequence.

        reach: scans taken farther away than this are left out, metres. ``drop``: what goes from
        other sweeps: what moved, all that can move, nothing. ``own_labels``: labels of other sweeps
        are 255, so that figures count the scan itself.
        Raises ConfigError on settings, InputError where the data set has no poses.
        """
        if not 0 <= before <= 100 or not 0 <= after <= 100 or before + after == 0:
            raise ConfigError(f"sweeps: 0 to 100 before and after, not {before} and {after}")
        if not has_poses(scans):
            raise InputError(
                f"{name_of(scans)}: no poses, so sweeps cannot be put together; there are poses in "
                "official SemanticKITTI, nuScenes, Waymo and PandaSet, in packed scans with a "
                "pose, in simulated streets"
            )
        super().__init__(scans)
        self.before, self.after, self.reach = before, after, reach
        self.drop, self.own_labels = drop, own_labels
        self._may_move = may_move(scans.label_set) if drop != "nothing" else None
        self._order = _in_time(scans)
        self._rank = np.empty(len(scans), np.int64)
        self._rank[self._order] = np.arange(len(scans))
        self._poses: dict[int, NDArray[np.float64]] = {}
        self._moving: dict[int, NDArray[np.uint8] | None] = {}

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i with its sweeps and the labels of all points. Raises InputError."""
        swept = self.read(i)
        return swept.scan, swept.labels

    def pose(self, i: int) -> NDArray[np.float64]:
        """4×4 transform from scan i to the world of its sequence. Raises InputError."""
        if i not in self._poses:
            self._poses[i] = pose_of(self.scans, i)
        return self._poses[i]

    def neighbours(self, i: int) -> list[tuple[int, int]]:
        """Other scans of the cloud of scan i, as pairs of sweep number (−1, −2, …, 1, …) and scan.

        Raises InputError where one of them has no pose.
        """
        rank, here, found = int(self._rank[i]), self.pose(i), []
        for step in (*range(-1, -self.before - 1, -1), *range(1, self.after + 1)):
            if not 0 <= rank + step < len(self):
                continue
            j = int(self._order[rank + step])
            if self.sequences[j] != self.sequences[i]:
                continue
            if np.linalg.norm(self.pose(j)[:3, 3] - here[:3, 3]) <= self.reach:
                found.append((step, j))
        return found

    def read(self, i: int) -> SweptScan:
        """Scan i with its sweeps, and which point is of which. Raises InputError."""
        i = range(len(self))[i]
        own, labels = self.scans[i]
        here, stamp = np.linalg.inv(self.pose(i)), _stamp_ns(self.scans, i, own)
        clouds, said = [replace(own, time=_times(own, 0))], [labels]
        places = {0: np.zeros(3)}
        for step, j in self.neighbours(i):
            scan, other = self.scans[j]
            kept = self._kept(j, scan, other)
            relative = here @ self.pose(j)
            moved = scan.select(kept).transformed(relative, own.frame)
            since = _stamp_ns(self.scans, j, scan) - stamp
            clouds.append(replace(moved, time=_times(moved, since)))
            other = other[kept]
            said.append(np.full_like(other, UNLABELLED) if self.own_labels else other)
            places[step] = relative[:3, 3]
        sweep = np.repeat(np.array(list(places), np.int8), [len(cloud) for cloud in clouds])
        return SweptScan(_joined(clouds), np.concatenate(said), sweep, places)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_moving": {}}

    def _kept(self, j: int, scan: LidarScan, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """[N] which points of another sweep are shown."""
        kept = scan.valid & (np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]) >= OWN_CAR)
        if self._may_move is None:
            return kept
        movable = self._may_move[labels]
        moved = self._moved(j, len(scan)) if self.drop == "moving" else None
        return kept & ~(movable if moved is None else moved)

    def _moved(self, j: int, count: int) -> NDArray[np.bool_] | None:
        """[N] what moved, where the data set knows; kept as bits, 15 kB per scan."""
        if j not in self._moving:
            inner: Any = innermost(self.scans)
            moving = inner.moving(j) if hasattr(inner, "moving") else None
            self._moving[j] = None if moving is None else np.packbits(moving)
        bits = self._moving[j]
        return None if bits is None else np.unpackbits(bits, count=count).astype(np.bool_)


def may_move(label_set: LabelSet) -> NDArray[np.bool_]:
    """[256] whether a class can move, by its meaning in common7. Raises ConfigError."""
    common = LabelSet.named(_COMMON)
    try:
        table = label_set.remap_to(common)
    except LabelError as error:
        raise ConfigError(f"sweeps cannot tell what moves: {error}; use drop 'nothing'") from error
    found: NDArray[np.bool_] = np.isin(table, [common.index(name) for name in _MAY_MOVE])
    return found


def _in_time(scans: LabelledScans) -> NDArray[np.int64]:
    """Scans sequence by sequence in the order of time; as they come where that is not told."""
    inner: Any = innermost(scans)
    count = len(scans)
    place = np.unique(np.array(scans.sequences), return_inverse=True)[1].reshape(-1)
    known = hasattr(inner, "stamp_ns")
    stamps = [inner.stamp_ns(i) if known else i for i in range(count)]
    order: NDArray[np.int64] = np.lexsort((np.arange(count), np.array(stamps, np.int64), place))
    return order


def _stamp_ns(scans: LabelledScans, i: int, scan: LidarScan) -> int:
    inner: Any = innermost(scans)
    if isinstance(inner, SimulatedStreets):
        return round(i % inner.frames * inner.stride * PERIOD * 1e9)
    return int(inner.stamp_ns(i)) if hasattr(inner, "stamp_ns") else scan.stamp_ns


def _times(scan: LidarScan, since_ns: int) -> NDArray[np.float32]:
    """[N] seconds since the stamp of the cloud."""
    own = np.zeros(len(scan), np.float32) if scan.time is None else scan.time
    return own + np.float32(since_ns * 1e-9)


def _joined(clouds: Sequence[LidarScan]) -> LidarScan:
    """All points in order; intensity and ring only where every cloud has them."""

    def column(name: str) -> Any:
        arrays = [getattr(cloud, name) for cloud in clouds]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    return replace(
        clouds[0],
        **{name: column(name) for name in ("xyz", "intensity", "time", "ring")},
    )
