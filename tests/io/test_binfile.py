# SPDX-License-Identifier: Apache-2.0
"""Headerless files: read exactly, refused clearly."""

import numpy as np
import pytest

from pointdistill_ros import LidarScan
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.binfile import (
    read_kitti,
    read_labels,
    read_nuscenes,
    write_kitti,
    write_labels,
)


def test_kitti_is_four_floats(tmp_path):
    rows = np.array([[1, 2, 3, 0.25], [np.nan, 5, 6, 0.99]], "<f4")
    rows.tofile(tmp_path / "a.bin")
    scan = read_kitti(tmp_path / "a.bin")
    np.testing.assert_array_equal(scan.xyz, rows[:, :3])
    np.testing.assert_array_equal(scan.intensity, rows[:, 3])


def test_nuscenes_is_five_floats(tmp_path):
    np.array([[1, 2, 3, 51, 31], [4, 5, 6, 255, 0]], "<f4").tofile(tmp_path / "a.pcd.bin")
    scan = read_nuscenes(tmp_path / "a.pcd.bin")
    np.testing.assert_allclose(scan.intensity, [0.2, 1], rtol=1e-6)
    assert scan.ring.tolist() == [31, 0]
    assert scan.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_kitti_round_trip(tmp_path):
    scan = LidarScan.from_arrays([[1, 2, 3]], intensity=[0.5])
    write_kitti(scan, tmp_path / "new" / "a.bin")
    back = read_kitti(tmp_path / "new" / "a.bin")
    assert (back.xyz.tolist(), back.intensity.tolist()) == ([[1, 2, 3]], [0.5])
    write_kitti(LidarScan.from_arrays([[1, 2, 3]]), tmp_path / "b.bin")
    assert read_kitti(tmp_path / "b.bin").intensity.tolist() == [0]


def test_empty_file_is_an_empty_scan(tmp_path):
    (tmp_path / "a.bin").touch()
    assert len(read_kitti(tmp_path / "a.bin")) == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff" * 17, "17 bytes is not a multiple of 16; expected 4 × float32"),
        (b"x y z i\n1 2 3 4\n" * 4, "text file; expected 4 × float32"),
    ],
)
def test_wrong_content_is_named(tmp_path, content, reason):
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    with pytest.raises(InputError, match=reason) as error:
        read_kitti(file)
    assert str(error.value).startswith(str(file))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.bin: No such file"):
        read_kitti(tmp_path / "a.bin")


def test_labels_hold_class_and_instance(tmp_path):
    file = tmp_path / "a.label"
    write_labels(np.array([10, 259, 0]), file, instances=np.array([0, 7, 65535]))
    assert np.fromfile(file, "<u4").tolist() == [10, 259 + 7 * 65536, 65535 * 65536]
    raw, instances = read_labels(file, points=3)
    assert (raw.tolist(), instances.tolist()) == ([10, 259, 0], [0, 7, 65535])


def test_labels_must_fit_their_scan(tmp_path):
    write_labels(np.array([10, 10]), tmp_path / "a.label")
    with pytest.raises(InputError, match="2 labels, its scan has 3 points"):
        read_labels(tmp_path / "a.label", points=3)
    (tmp_path / "b.label").write_bytes(b"\0" * 6)
    with pytest.raises(InputError, match="6 bytes is not a multiple of 4"):
        read_labels(tmp_path / "b.label")
