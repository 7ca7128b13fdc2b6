# SPDX-License-Identifier: Apache-2.0
"""Drives as files, read back by the package's own readers."""

import numpy as np
import pytest

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import BagReader
from pointdistill_ros.io.binfile import read_kitti, read_labels
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.io.pointcloud2 import decode
from pointdistill_ros.simulation import Drive
from pointdistill_ros.simulation.export import _quaternion, write_bag, write_folder
from pointdistill_ros.simulation.materials import LABEL_SET


@pytest.fixture(scope="module")
def drive():
    return Drive(5, frames=3, lidar="os1_64", style="suburban")


def test_folder_round_trip(drive, tmp_path):
    out, steps = tmp_path / "sequence", []
    write_folder(drive, out, steps.append)
    assert steps == [1, 2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sequence"]
    for i, (scan, labels, _) in enumerate(drive):
        read = read_kitti(out / "velodyne" / f"{i:06d}.bin")
        raw, _ = read_labels(out / "labels" / f"{i:06d}.label", len(read))
        assert np.array_equal(read.xyz, scan.xyz)
        assert np.array_equal(read.intensity, scan.intensity)
        assert np.array_equal(LABEL_SET.from_raw(raw), labels)
    poses = np.loadtxt(out / "poses.txt").reshape(3, 3, 4)
    relative = np.linalg.inv(drive[0].pose) @ drive[2].pose
    assert np.allclose(poses[2], relative[:3], atol=1e-6)
    assert np.allclose(np.loadtxt(out / "times.txt"), [0, 0.1, 0.2])


def test_bag_round_trip(drive, tmp_path):
    out = tmp_path / "drive.mcap"
    write_bag(drive, out, lambda done: None)
    with BagReader(out) as bag:
        assert bag.topics["/points"] == "sensor_msgs/msg/PointCloud2"
        assert bag.counts["/points"] == bag.counts["/tf"] == 3
        for message, (scan, labels, _) in zip(bag.messages("/points"), drive, strict=True):
            cloud = bag.cloud(message)
            read = decode(cloud)
            assert np.array_equal(read.xyz, scan.xyz)
            assert np.array_equal(read.ring, scan.ring)
            assert read.stamp_ns == scan.stamp_ns and read.frame == "lidar"
            raw = CloudBytes.of(cloud).column("label")
            assert np.array_equal(LABEL_SET.from_raw(raw), labels)


def test_existing_folder_is_left_alone(drive, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        write_folder(drive, tmp_path / "mine", lambda done: None)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_a_failure_leaves_nothing_behind(drive, tmp_path):
    def fail(done):
        raise KeyboardInterrupt

    for write, name in ((write_folder, "sequence"), (write_bag, "drive.mcap")):
        with pytest.raises(KeyboardInterrupt):
            write(drive, tmp_path / name, fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(12))
def test_quaternions_are_the_rotation(seed):
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = [0.0, np.pi, 3.0, 0.5, 2.0, 1.0][seed % 6]
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    q = np.array(_quaternion(rotation))
    expected = np.array([*(axis * np.sin(angle / 2)), np.cos(angle / 2)])
    assert min(np.abs(q - expected).max(), np.abs(q + expected).max()) < 1e-9
