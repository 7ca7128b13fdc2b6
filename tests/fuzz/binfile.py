# SPDX-License-Identifier: Apache-2.0
"""Headerless files: ``.bin``, ``.pcd.bin``, ``.label``; one leading byte chooses."""

import struct

import numpy as np

from pointdistill_ros import LabelSet
from pointdistill_ros.io.binfile import read_kitti, read_labels, read_nuscenes
from tests.fuzz.target import Target, holding

KITTI = LabelSet.named("semantic-kitti")


def check(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    if kind in (b"", b"k"):
        scan = read_kitti(holding("a.bin", content))
        assert len(scan) * 16 == len(content)
    elif kind == b"n":
        scan = read_nuscenes(holding("a.pcd.bin", content))
        assert len(scan) * 20 == len(content)
        assert scan.intensity is not None
        assert ((scan.intensity >= 0) & (scan.intensity <= 1)).all()
    else:
        raw, instances = read_labels(holding("a.label", content), 3 if kind == b"3" else None)
        assert len(raw) == len(instances) == len(content) // 4
        written = raw.astype("<u4") | instances.astype("<u4") << 16
        assert written.tobytes() == content
        assert len(KITTI.from_raw(raw)) == len(raw)


def seeds() -> dict[str, bytes]:
    points = np.array([[1, 2, 3, 0.5, 7], [np.nan, -5, np.inf, 255, 1e9]], "<f4")
    return {
        "kitti": b"k" + points[:, :4].tobytes(),
        "nuscenes": b"n" + points.tobytes(),
        "label": b"l" + struct.pack("<3I", 10, 40 | 7 << 16, 0),
        "label-of-three": b"3" + struct.pack("<3I", 252, 81, 99),
        "empty": b"k",
    }


TARGET = Target("binfile", check, seeds, share=25, max_len=256)
