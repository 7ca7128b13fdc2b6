# SPDX-License-Identifier: Apache-2.0
"""Poses over time: interpolated, read from files, written as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path

Pose = NDArray[np.float64]
"""[4, 4] moves points of a frame into another one, metres."""

MAX_GAP_NS = 1_000_000_000
"""Between poses further apart nothing is interpolated."""
TOLERANCE_NS = 1_000_000
"""So far outside, the first or last pose still holds: files round their times."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Where a frame was, in a fixed one."""

    times_ns: NDArray[np.int64]
    """[K] rising."""
    positions: NDArray[np.float64]
    """[K, 3] metres."""
    rotations: NDArray[np.float64]
    """[K, 4] unit quaternions x y z w."""

    @classmethod
    def of(
        cls,
        times_ns: Sequence[int],
        positions: NDArray[np.float64],
        rotations: NDArray[np.float64],
    ) -> Trajectory:
        """From poses in any order; of those at one time the first counts, as do finite ones only.

        Raises InputError where none is left.
        """
        positions, rotations = np.reshape(positions, (-1, 3)), np.reshape(rotations, (-1, 4))
        length = np.linalg.norm(rotations, axis=1)
        with np.errstate(invalid="ignore"):
            good = np.isfinite(positions).all(1) & (length > 1e-6) & np.isfinite(length)
        if not good.any():
            raise InputError("no valid poses; expected finite positions and quaternions")
        times, first = np.unique(np.asarray(times_ns, np.int64)[good], return_index=True)
        return cls(times, positions[good][first], (rotations[good] / length[good][:, None])[first])

    @classmethod
    def of_matrices(cls, times_ns: Sequence[int], poses: NDArray[np.float64]) -> Trajectory:
        """From poses [K, 4, 4] (or [K, 3, 4])."""
        return cls.of(times_ns, poses[:, :3, 3], np.array([_quaternion(p) for p in poses]))

    def __len__(self) -> int:
        return len(self.times_ns)

    def at(self, time_ns: int) -> Pose | None:
        """The pose at a time, None where it is not known."""
        times = self.times_ns
        after = int(np.searchsorted(times, time_ns))
        if after in (0, len(times)) or times[after] - times[after - 1] > MAX_GAP_NS:
            for near in (after, after - 1):
                if 0 <= near < len(times) and abs(int(times[near]) - time_ns) <= TOLERANCE_NS:
                    return pose_of(self.positions[near], self.rotations[near])
            return None
        share = float(time_ns - times[after - 1]) / float(times[after] - times[after - 1])
        position = (1 - share) * self.positions[after - 1] + share * self.positions[after]
        return pose_of(position, _slerp(self.rotations[after - 1], self.rotations[after], share))

    def save(self, path: Path) -> None:
        """Write a TUM file: seconds, position and quaternion x y z w a line."""
        lines = [
            f"{t // 10**9}.{t % 10**9:09d} " + " ".join(f"{v:.9g}" for v in (*p, *q))
            for t, p, q in zip(self.times_ns.tolist(), self.positions, self.rotations, strict=True)
        ]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))


def read_poses(path: Path, stamps_ns: Sequence[int]) -> Trajectory:
    """Read a poses file. TUM: time in seconds and 7 numbers a line. KITTI: 12 numbers a line.

    KITTI's lines belong to the scans in order, whose ``stamps_ns`` they get; they are poses of the
    camera where a ``calib.txt`` with ``Tr`` lies beside the file, else of the lidar. Raises
    InputError.
    """
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        rows = [row for row in rows if row and not row[0].startswith("#")]
        columns = {len(row) for row in rows}
        if columns == {8}:
            times = [int(Decimal(row[0]) * 10**9) for row in rows]
            values = np.array([[float(v) for v in row[1:]] for row in rows])
            return Trajectory.of(times, values[:, :3], values[:, 3:])
        values = np.array([[float(v) for v in row] for row in rows])
    except (OSError, UnicodeDecodeError, ValueError, InvalidOperation) as error:
        raise InputError(f"{path}: not a poses file ({error})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if columns != {12}:
        raise InputError(
            f"{path}: {sorted(columns)} numbers a line; expected 8 (TUM: time x y z qx qy qz qw) "
            "or 12 (KITTI)"
        )
    if len(rows) != len(stamps_ns):
        raise InputError(
            f"{path}: {len(rows)} poses for {len(stamps_ns)} clouds; KITTI poses have no times, so "
            "there must be one a cloud"
        )
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = values.reshape(-1, 3, 4)
    calibration = path.with_name("calib.txt")
    if calibration.exists():
        camera = _camera_of(calibration)
        poses = np.linalg.inv(camera) @ poses @ camera
    return Trajectory.of_matrices(stamps_ns, poses)


def _camera_of(path: Path) -> Pose:
    """Lidar → camera, KITTI's ``Tr``."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        camera = np.eye(4)
        camera[:3] = np.array(lines["Tr"].split(), np.float64).reshape(3, 4)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: no line 'Tr:' with 12 numbers ({error!r}); it belongs to the poses beside it"
        ) from error
    return camera


def pose_of(position: NDArray[np.float64], rotation: NDArray[np.float64]) -> Pose:
    """[4, 4] of a position and a unit quaternion x y z w."""
    x, y, z, w = (float(v) for v in rotation)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = position
    return pose


def _quaternion(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternion x y z w of a rotation: the largest eigenvector of Bar-Itzhack's matrix.

    Bar-Itzhack, New method for extracting the quaternion from a rotation matrix, 2000.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = pose[:3, :3]
    matrix = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    return np.asarray(np.linalg.eigh(matrix)[1][:, -1])


def _slerp(
    first: NDArray[np.float64], second: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    cosine = float(first @ second)
    if cosine < 0:  # the other of the two quaternions of this rotation is nearer
        second, cosine = -second, -cosine
    if cosine > 1 - 1e-9:
        mixed = (1 - share) * first + share * second
    else:
        angle = np.arccos(cosine)
        mixed = np.sin((1 - share) * angle) * first + np.sin(share * angle) * second
    return np.asarray(mixed / np.linalg.norm(mixed))
