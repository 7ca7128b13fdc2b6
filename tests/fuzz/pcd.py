# SPDX-License-Identifier: Apache-2.0
"""``.pcd`` in its three encodings."""

import struct

import numpy as np

from pointdistill_ros.io.pcd import read_pcd
from tests.fuzz.target import Target, holding

_HEADER = b"""# .PCD v0.7
VERSION 0.7
FIELDS x y z intensity ring normal
SIZE 4 4 8 1 2 4
TYPE F F F U U F
COUNT 1 1 1 1 1 2
WIDTH 2
HEIGHT 1
POINTS 2
DATA """


def check(data: bytes) -> None:
    scan = read_pcd(holding("a.pcd", data))
    # one point takes three fields of a byte at least; compressed, a byte may stand for 88
    assert len(scan) <= 100 * len(data)


def seeds() -> dict[str, bytes]:
    point = np.dtype(
        [("x", "<f4"), ("y", "<f4"), ("z", "<f8"), ("i", "u1"), ("r", "<u2"), ("n", "<f4", 2)]
    )
    points = np.zeros(2, point)
    points["x"], points["z"], points["i"], points["r"] = [1, np.nan], [-3, 1e300], [9, 255], [1, 63]
    columns = b"".join(np.ascontiguousarray(points[name]).tobytes() for name in point.names)
    chunks = [columns[i : i + 32] for i in range(0, len(columns), 32)]
    packed = b"".join(bytes([len(chunk) - 1]) + chunk for chunk in chunks)
    same = b"\0\0" + bytes([7 << 5, 54 - 10, 0])  # a zero, and 53 times what was before
    sizes = struct.pack("<II", len(packed), len(columns))
    return {
        "ascii": _HEADER + b"ascii\n1 2 3 4 5 6 7\nnan -2 1e9 255 65535 0 0\n",
        "binary": _HEADER + b"binary\n" + points.tobytes(),
        "compressed": _HEADER + b"binary_compressed\n" + sizes + packed,
        "repeated": _HEADER
        + b"binary_compressed\n"
        + struct.pack("<II", len(same), len(columns))
        + same,
        "empty": b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 0\nHEIGHT 1\nDATA binary\n",
    }


TARGET = Target("pcd", check, seeds, share=12, max_len=1024)
