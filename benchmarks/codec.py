# SPDX-License-Identifier: Apache-2.0
"""Time of reading a cloud and writing its labelled form: ``python -m benchmarks.codec``.

120 000 points, one core, per driver layout and output layout; medians in milliseconds.
Target: decode + encode(xyzcpe_aligned) ≤ 2 ms.
"""

from __future__ import annotations

import statistics
import time
from array import array
from collections.abc import Callable

import numpy as np

from pointdistill_ros import LabelSet, LidarScan, Segmentation
from pointdistill_ros.io.cloud_layout import CloudField
from pointdistill_ros.io.pointcloud2 import LAYOUTS, CloudParts, decode, encode_labels

POINTS = 120_000
REPEATS = 50
_F32, _U8, _U16, _U32, _F64 = 7, 2, 4, 6, 8

_XYZ = [("x", 0, _F32), ("y", 4, _F32), ("z", 8, _F32)]
_XYZI = [*_XYZ, ("intensity", 12, _F32)]
LAYOUTS_IN = {
    "xyzi (16 bytes)": (16, _XYZI),
    "velodyne xyzirt (22 bytes)": (22, [*_XYZI, ("ring", 16, _U16), ("time", 18, _F32)]),
    "hesai (26 bytes)": (26, [*_XYZI, ("ring", 16, _U16), ("timestamp", 18, _F64)]),
    "ouster (48 bytes)": (
        48,
        [*_XYZ, ("intensity", 16, _F32), ("t", 20, _U32), ("ring", 26, _U16)],
    ),
    "autoware xyzircaedt (32 bytes)": (
        32,
        [*_XYZ, ("intensity", 12, _U8), ("channel", 14, _U16), ("time_stamp", 28, _U32)],
    ),
}


def cloud(step: int, fields: list[tuple[str, int, int]]) -> CloudParts:
    """Make a cloud of plausible numbers in the given layout."""
    types = {2: "u1", 4: "<u2", 6: "<u4", 7: "<f4", 8: "<f8"}
    dtype = np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [types[kind] for _, _, kind in fields],
            "offsets": [offset for _, offset, _ in fields],
            "itemsize": step,
        }
    )
    points = np.zeros(POINTS, dtype)
    rng = np.random.default_rng(0)
    for name in dtype.names or ():
        points[name] = rng.uniform(0, 60, POINTS).astype(points[name].dtype)
    data = array("B", points.tobytes())
    return CloudParts(
        1, POINTS, tuple(CloudField(*f) for f in fields), False, step, step * POINTS, data, True
    )


def median_ms(work: Callable[[], object]) -> float:
    """Measure the median wall time of one call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(1)
    share = rng.random(POINTS, np.float32)
    labels = rng.integers(0, 19, POINTS, np.uint8)
    segmentation = Segmentation(labels, share, share, LabelSet.named("semantic-kitti"))
    print(f"{'input':32}{'decode':>8}", *(f"{name:>16}" for name in LAYOUTS), "   ms")
    for name, (step, fields) in LAYOUTS_IN.items():
        message = cloud(step, fields)
        assert isinstance(decode(message), LidarScan)
        row = [median_ms(lambda m=message: decode(m))]  # type: ignore[misc]
        for layout in LAYOUTS:
            buffer = encode_labels(message, segmentation, layout).data  # type: ignore[arg-type]
            row.append(
                median_ms(
                    lambda m=message, o=layout, b=buffer: encode_labels(m, segmentation, o, b)  # type: ignore[misc]
                )
            )
        print(f"{name:32}{row[0]:8.2f}", *(f"{value:16.2f}" for value in row[1:]))


if __name__ == "__main__":
    main()
