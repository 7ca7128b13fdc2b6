# SPDX-License-Identifier: Apache-2.0
"""LidarScan: one sweep of a lidar as plain numpy arrays. Points are never reordered or dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointdistill_ros.errors import ScanError


@dataclass(frozen=True, eq=False)
class LidarScan:
    """One sweep in the sensor frame (REP-103: x forward, y left, z up).

    NaN and Inf coordinates are legal and mark points without a return.
    """

    xyz: NDArray[np.float32]
    """[N, 3] metres."""
    intensity: NDArray[np.float32] | None = None
    """[N] in 0..1; the reader scales by what the sensor's format says."""
    time: NDArray[np.float32] | None = None
    """[N] seconds relative to ``stamp_ns``."""
    ring: NDArray[np.uint16] | None = None
    """[N] beam index."""
    stamp_ns: int = 0
    """Time of the scan, nanoseconds."""
    frame: str = "lidar"
    """Name of the sensor frame."""

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3 or self.xyz.dtype != np.float32:
            raise ScanError(
                f"xyz must be float32 [N, 3], got {self.xyz.dtype} {list(self.xyz.shape)}"
            )
        columns = (
            ("intensity", self.intensity, np.float32),
            ("time", self.time, np.float32),
            ("ring", self.ring, np.uint16),
        )
        for name, array, dtype in columns:
            if array is not None and (array.shape != (len(self.xyz),) or array.dtype != dtype):
                raise ScanError(
                    f"{name} must be {np.dtype(dtype)} [{len(self.xyz)}], "
                    f"got {array.dtype} {list(array.shape)}"
                )

    @classmethod
    def from_arrays(
        cls,
        xyz: ArrayLike,
        intensity: ArrayLike | None = None,
        time: ArrayLike | None = None,
        ring: ArrayLike | None = None,
        stamp_ns: int = 0,
        frame: str = "lidar",
    ) -> LidarScan:
        """Build a scan from anything numpy can convert. Raises ScanError on wrong shapes."""
        return cls(
            xyz=np.ascontiguousarray(xyz, np.float32),
            intensity=None if intensity is None else np.ascontiguousarray(intensity, np.float32),
            time=None if time is None else np.ascontiguousarray(time, np.float32),
            ring=None if ring is None else np.ascontiguousarray(ring, np.uint16),
            stamp_ns=stamp_ns,
            frame=frame,
        )

    @classmethod
    def read(cls, path: str | Path) -> LidarScan:
        """Read the one scan of a file (.bin .pcd.bin .pcd .npy .npz). Raises InputError."""
        from pointdistill_ros.io.open import read_scan

        return read_scan(Path(path))

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """[N] True where all three coordinates are finite."""
        valid: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(self.xyz), axis=1)
        return valid

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> LidarScan:
        """The points of a mask or index array, in that order."""
        return replace(
            self,
            xyz=self.xyz[index],
            intensity=None if self.intensity is None else self.intensity[index],
            time=None if self.time is None else self.time[index],
            ring=None if self.ring is None else self.ring[index],
        )

    def transformed(self, pose: NDArray[np.float64], frame: str) -> LidarScan:
        """The scan in another frame; ``pose`` is the 4×4 transform this frame → ``frame``."""
        xyz = self.xyz @ pose[:3, :3].T + pose[:3, 3]
        return replace(self, xyz=np.ascontiguousarray(xyz, np.float32), frame=frame)

    def lifted(self, metres: float) -> LidarScan:
        """The scan with ``metres`` added to z, rounded to float32 once; itself for 0.

        A network sees a sensor that hangs higher or lower than that of its training so: node and
        command line alike.
        """
        if metres == 0:
            return self
        xyz = self.xyz.copy()
        with np.errstate(invalid="ignore"):  # signalling NaN
            xyz[:, 2] = self.xyz[:, 2].astype(np.float64) + metres
        return replace(self, xyz=xyz)
