# SPDX-License-Identifier: Apache-2.0
"""One door for every input."""

import numpy as np
import pytest

from pointdistill_ros import LidarScan
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import BagScans, BagWriter
from pointdistill_ros.io.binfile import write_kitti
from pointdistill_ros.io.open import open_scans, read_scan
from pointdistill_ros.io.pointcloud2 import encode_scan


def scan(number=0):
    return LidarScan.from_arrays([[number, 0, 0]], intensity=[0.5])


def folder_of(path, *names):
    for number, name in enumerate(names):
        write_kitti(scan(number), path / name)
    return path


def bag(path):
    with BagWriter(path) as writer:
        writer.write_cloud("/points", 5, encode_scan(scan()), stamp_ns=5, frame="f")
    return path


def test_read_goes_by_suffix(tmp_path):
    np.float32([[1, 2, 3, 255, 4]]).tofile(tmp_path / "a.pcd.bin")
    np.save(tmp_path / "a.npy", np.float32([[1, 2, 3, 1]]))
    np.savez(tmp_path / "a.npz", xyz=np.float32([[1, 2, 3]]))
    write_kitti(LidarScan.from_arrays([[1, 2, 3]]), tmp_path / "a.bin")
    header = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3"
    (tmp_path / "a.pcd").write_text(header)
    for suffix in (".bin", ".pcd.bin", ".pcd", ".npy", ".npz"):
        assert LidarScan.read(tmp_path / f"a{suffix}").xyz.tolist() == [[1, 2, 3]]
    assert read_scan(tmp_path / "a.pcd.bin").ring.tolist() == [4]


def test_folder_in_natural_order(tmp_path):
    folder_of(tmp_path, "scan_10.bin", "scan_2.bin", "b.bin", "scan_02b.bin")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.bin").touch()
    source = open_scans(tmp_path)
    assert source.names == ["b", "scan_2", "scan_02b", "scan_10"]
    assert [name for name, _ in source] == source.names
    assert [s.xyz[0, 0] for _, s in source] == [2, 1, 3, 0]
    assert [s.stamp_ns for _, s in source] == [0, 10**8, 2 * 10**8, 3 * 10**8]
    assert len(source) == 4


def test_names_that_look_like_numbers_of_any_length(tmp_path):
    folder_of(tmp_path, "1.bin", "a1.bin", "01.bin", "²3.bin")  # ² is a digit that is no number
    assert open_scans(tmp_path).names == ["01", "1", "a1", "²3"]


def test_kitti_sequence_takes_its_times(tmp_path):
    folder_of(tmp_path / "velodyne", "000000.bin", "000001.bin")
    (tmp_path / "times.txt").write_text("0.000000e+00\n1.037359e-01\n2.0\n")
    source = open_scans(tmp_path)
    assert [s.stamp_ns for _, s in source] == [0, 103_735_900]
    (tmp_path / "times.txt").write_text("soon")
    with pytest.raises(InputError, match=r"times\.txt.*expected one time"):
        open_scans(tmp_path)


def test_bags(tmp_path):
    bag(tmp_path / "a.mcap")
    bag(tmp_path / "folder")
    for path in (tmp_path / "a.mcap", tmp_path / "folder", tmp_path):  # the last: its only bag
        source = open_scans(path)
        assert isinstance(source, BagScans)
        assert len(source) == 1
    bag(tmp_path / "b.mcap")
    with pytest.raises(InputError, match=r"2 bags; name one of a\.mcap, b\.mcap"):
        open_scans(tmp_path)


def test_a_broken_scan_does_not_hide_the_others(tmp_path):
    folder_of(tmp_path, "0.bin", "1.bin", "2.bin")
    (tmp_path / "1.bin").write_bytes(b"\xff" * 5)
    loads = [entry.load for entry in open_scans(tmp_path).entries()]
    assert len(loads[0]()) == len(loads[2]()) == 1
    with pytest.raises(InputError, match=r"1\.bin"):
        loads[1]()


def test_refusals_name_the_path_and_what_is_known(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "empty").mkdir()
    for path, reason in [
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "a.txt", "known: .pcd.bin, .bin, .pcd, .npy, .npz, .mcap, .db3, .bag"),
        (tmp_path / "empty", "no scans in this folder; known: .pcd.bin"),
    ]:
        with pytest.raises(InputError, match=reason) as error:
            open_scans(path)
        assert str(error.value).startswith(str(path))
    with pytest.raises(InputError, match="a folder; expected one scan file"):
        read_scan(tmp_path)
    with pytest.raises(InputError, match="unknown kind of scan file"):
        read_scan(tmp_path / "a.txt")
    folder_of(tmp_path, "a.bin")
    np.save(tmp_path / "a.npy", np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"a\.bin and a\.npy would share a name"):
        open_scans(tmp_path)
