# SPDX-License-Identifier: Apache-2.0
"""Recordings of real sensors, made by other people's software."""

import tarfile

import numpy as np
import pytest

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.binfile import read_labels
from pointdistill_ros.io.open import open_scans, read_scan
from pointdistill_ros.io.pointcloud2 import decode, encode_labels


def test_kitti_bytes_equal_the_packed_form(real_data):
    sequence = real_data / "semantickitti_raw" / "sequences" / "00"
    scan = read_scan(sequence / "velodyne" / "000000.bin")
    packed = read_scan(real_data / "semantickitti" / "00_000000.npz")
    assert len(scan) == len(packed) == 124_668
    assert np.abs(scan.xyz - packed.xyz).max() <= 1 / 512
    np.testing.assert_allclose(scan.intensity, packed.intensity, atol=1e-6)
    raw, instances = read_labels(sequence / "labels" / "000000.label", len(scan))
    labels = LabelSet.named("semantic-kitti").from_raw(raw)
    expected = np.load(real_data / "semantickitti" / "00_000000.npz")["label19"]
    np.testing.assert_array_equal(labels, expected)
    assert instances.max() > 0


def test_kitti_sequence_folder(real_data):
    source = open_scans(real_data / "semantickitti_raw" / "sequences" / "07")
    assert source.names == ["000000"]


def test_nuscenes_sweep(real_data):
    ((_, scan),) = open_scans(real_data / "nuscenes_raw")
    assert len(scan) == 34_688
    assert set(np.unique(scan.ring)) == set(range(32))
    assert 0.01 < np.median(scan.intensity) < 0.2


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("velodyne_vlp32", 26_216),
        ("hesai_xt32", 63_021),
        ("hesai_40p", 56_762),
        ("hesai_ot128", 72_240),
    ],
)
def test_pcd_files(real_data, name, points):
    scan = read_scan(real_data / "ros2" / "pcd" / f"{name}.pcd")
    assert len(scan) == points
    assert scan.valid.all()
    assert 3 < np.linalg.norm(scan.xyz, axis=1).max() < 200


def test_packed_run(real_data):
    source = open_scans(real_data / "kitti_raw_run")
    assert source.names == [f"{i:010d}" for i in range(60, 80)]
    assert all(0.9 < scan.intensity.max() <= 1 for _, scan in source)


def test_packets_bag_says_what_to_do(real_data):
    with pytest.raises(InputError, match="VelodyneScan: sensor packets, play them through"):
        open_scans(real_data / "ros2" / "vlp32_packets")


def test_foreign_bag(real_data, tmp_path):
    (archive,) = (real_data / "ros2" / "pointcloud2_d435").glob("*.tar.xz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    source = open_scans(next(tmp_path.iterdir()))
    assert len(source) == 263
    for number, entry in enumerate(source.entries()):
        if number % 100:
            continue
        cloud, scan = entry.cloud(), entry.load()
        assert cloud.point_step == 16
        assert len(scan) == cloud.width > 30_000
        assert scan.frame == "d435_depth_optical_frame"
        assert 0.29 < scan.xyz[:, 2].min() < scan.xyz[:, 2].max() < 1.7
        share = np.zeros(len(scan), np.float32)
        labels = np.full(len(scan), 255, np.uint8)
        kitti = LabelSet.named("semantic-kitti")
        parts = encode_labels(cloud, Segmentation(labels, share, share, kitti), "append")
        np.testing.assert_array_equal(decode(parts).xyz, scan.xyz)
