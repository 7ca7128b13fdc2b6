# SPDX-License-Identifier: Apache-2.0
"""PCD in its three encodings; damaged files give InputError, nothing else."""

import random
import struct

import numpy as np
import pytest

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.lzf import decompress
from pointdistill_ros.io.pcd import read_pcd

HEADER = """# .PCD v0.7
VERSION 0.7
FIELDS intensity _ x z y ring normal rgb
SIZE 1 1 4 8 4 2 4 4
TYPE U U F F I U F F
COUNT 1 1 1 1 1 1 3 1
WIDTH 3
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS 3
DATA {}
"""
DTYPE = np.dtype(
    [
        *(("intensity", "u1"), ("_", "u1"), ("x", "<f4"), ("z", "<f8"), ("y", "<i4")),
        *(("ring", "<u2"), ("normal", "<f4", (3,)), ("rgb", "<f4")),
    ]
)


def table():
    points = np.zeros(3, DTYPE)
    points["x"], points["y"], points["z"] = [0.5, 1.5, np.nan], [-1, 2, 3], [7, 8, 9]
    points["intensity"], points["ring"] = [0, 51, 255], [0, 63, 127]
    return points


def literals(data):
    """LZF without any compression: runs of up to 32 literal bytes."""
    chunks = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(c) - 1]) + c for c in chunks)


def as_pcd(encoding):
    points = table()
    if encoding == "ascii":
        rows = [[v for f in DTYPE.names for v in np.ravel(p[f])] for p in points]
        body = "\n".join(" ".join(map(str, row)) for row in rows).encode()
    elif encoding == "binary":
        body = points.tobytes()
    else:
        columns = b"".join(np.ascontiguousarray(points[f]).tobytes() for f in DTYPE.names)
        packed = literals(columns)
        body = struct.pack("<II", len(packed), len(columns)) + packed
    return HEADER.format(encoding).encode() + body


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_encodings_agree(tmp_path, encoding):
    file = tmp_path / "a.pcd"
    file.write_bytes(as_pcd(encoding))
    scan = read_pcd(file)
    np.testing.assert_array_equal(scan.xyz, np.float32([[0.5, -1, 7], [1.5, 2, 8], [np.nan, 3, 9]]))
    np.testing.assert_allclose(scan.intensity, [0, 0.2, 1], rtol=1e-6)
    assert scan.ring.tolist() == [0, 63, 127]


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_without_points(tmp_path, encoding):
    file = tmp_path / "a.pcd"
    file.write_text(HEADER.format(encoding).replace("POINTS 3", "POINTS 0"))
    assert len(read_pcd(file)) == 0


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_damaged_pcd_gives_input_error_or_a_scan(tmp_path, encoding):
    rng, whole, file, refused = random.Random(3), as_pcd(encoding), tmp_path / "a.pcd", 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            scan = read_pcd(file)
        except InputError as error:
            refused += 1
            assert str(file) in str(error)
        else:
            assert len(scan.xyz) >= 0
    assert 100 < refused < 400


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("POINTS 3", "POINTS 999999999999", "the header promises"),
        ("DATA binary", "DATA cbor", "DATA cbor; expected ascii"),
        ("FIELDS intensity _ x", "FIELDS intensity _ u", "no field 'x'"),
        ("SIZE 1 1 4", "SIZE 1 1 3", "broken PCD header"),
        ("COUNT 1 1 1", "COUNT 1 1 2", "the header promises"),
        ("POINTS 3", "POINTS -3", "-3 points"),
    ],
)
def test_what_is_wrong_with_a_pcd_is_named(tmp_path, old, new, reason):
    file = tmp_path / "a.pcd"
    file.write_bytes(as_pcd("binary").replace(old.encode(), new.encode(), 1))
    with pytest.raises(InputError, match=reason):
        read_pcd(file)


def test_lzf_copies():
    assert decompress(bytes([2]) + b"abc" + bytes([1 << 5, 2]), 6) == b"abcabc"
    assert decompress(bytes([0]) + b"a" + bytes([7 << 5, 250, 0]), 260) == b"a" * 260  # overlapping
    far = bytes(range(32)) * 10
    data = b"".join(bytes([31]) + far[i : i + 32] for i in range(0, 320, 32))
    assert decompress(data + bytes([(2 << 5) | 1, 63]), 324)[320:] == bytes(range(4))  # 320 back


@pytest.mark.parametrize("data", [b"\x05ab", b"\x20\x00", b"\xe0", b"\x00a\x20\x05", b"\x00ab"])
def test_lzf_damage(data):
    with pytest.raises(ValueError, match=r"cut short|beginning|unpacked"):
        decompress(data, 4)
