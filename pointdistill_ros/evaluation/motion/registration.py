# SPDX-License-Identifier: Apache-2.0
"""Ego-motion estimated from the clouds alone, by KISS-ICP (Vizzo et al., RA-L 2023), an extra.

One thread: with several its sums are rounded in an order that varies, and so would the poses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import util

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.motion.trajectory import Pose
from pointdistill_ros.scan import LidarScan

MIN_RANGE, MAX_RANGE = 2.0, 100.0
"""Metres; closer returns are mostly the vehicle itself."""
_ENOUGH = 100


def installed() -> bool:
    """Whether KISS-ICP is there."""
    return util.find_spec("kiss_icp") is not None


def estimate(
    scans: Iterable[LidarScan], on_scan: Callable[[int], None] = lambda done: None
) -> list[Pose | None]:
    """One pose a scan in the frame of the first one; None for scans with too few points.

    Points with times are corrected for the motion within the scan. Raises InputError where
    KISS-ICP is not installed.
    """
    if not installed():
        raise InputError(
            "KISS-ICP is not installed; pip install 'pointdistill-ros[odometry]' (kiss-icp), or "
            "give --poses a file, a topic or tf"
        )
    from kiss_icp.config import KISSConfig
    from kiss_icp.config.config import DataConfig, MappingConfig, RegistrationConfig
    from kiss_icp.kiss_icp import KissICP

    odometry = KissICP(
        KISSConfig(
            data=DataConfig(min_range=MIN_RANGE, max_range=MAX_RANGE, deskew=True),
            mapping=MappingConfig(voxel_size=MAX_RANGE / 100),
            registration=RegistrationConfig(max_num_threads=1),
        )
    )
    poses: list[Pose | None] = []
    for scan in scans:
        valid = scan.valid
        xyz = scan.xyz[valid].astype(np.float64)
        near = np.linalg.norm(xyz, axis=1)
        if ((near > MIN_RANGE) & (near < MAX_RANGE)).sum() < _ENOUGH:
            poses.append(None)
        else:
            odometry.register_frame(xyz, _shares(scan, valid))
            poses.append(np.array(odometry.last_pose))
        on_scan(len(poses))
    return poses


def _shares(scan: LidarScan, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Times of the points as shares 0..1 of the scan, none where they do not differ."""
    if scan.time is None:
        return np.empty(0)
    times = scan.time[valid].astype(np.float64)
    first, last = times.min(), times.max()
    return np.empty(0) if not last > first else (times - first) / (last - first)
