# SPDX-License-Identifier: Apache-2.0
"""Where the sensor was: from tf, odometry, a file, an estimate; the drive's true poses decide."""

import numpy as np
import pytest

from pointdistill_ros import LidarScan
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.motion import ego_motion as module
from pointdistill_ros.evaluation.motion.ego_motion import dump_motion, ego_motion, load_motion
from pointdistill_ros.evaluation.motion.registration import estimate, installed
from pointdistill_ros.evaluation.motion.tf_tree import Edge, TfTree
from pointdistill_ros.evaluation.motion.trajectory import Trajectory
from pointdistill_ros.io.bag import BagWriter
from tests.evaluation.bags.drive import MOUNT, PERIOD, STAMP, pose, tf, write_drive

STAMPS = [STAMP + i * PERIOD for i in range(4)]


def found(path, wanted, frame="lidar"):
    with BagFrames(FrameIndex.of(path)) as frames:
        return ego_motion(wanted, frames, STAMPS, frame)


def relative(poses):
    return [np.linalg.inv(poses[0]) @ p for p in poses]


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drives")
    return {m: write_drive(folder / f"{m}.mcap", 4, 90, motion=m) for m in ("tf", "odometry", "")}


@pytest.mark.parametrize(
    ("motion", "wanted", "source"),
    [
        ("tf", "auto", "tf, lidar in odom"),
        ("tf", "tf", "tf, lidar in odom"),
        ("odometry", "auto", "topic /odom"),
        ("odometry", "/odom", "topic /odom"),
    ],
)
def test_recorded_motion_moves_the_sensor_not_the_vehicle(drives, motion, wanted, source):
    motion = found(drives[motion], wanted)
    assert (motion.source, motion.known, motion.notes) == (source, 4, ())
    truth = relative([pose(i) for i in range(4)])
    np.testing.assert_allclose(relative(motion.poses), truth, atol=1e-6)


def test_an_unknown_mount_is_said(drives):
    motion = found(drives["odometry"], "auto", frame="roof")
    assert "base_link" in motion.notes[0] and "taken as one" in motion.notes[0]
    expected = [pose(i) @ np.linalg.inv(MOUNT) for i in range(4)]
    np.testing.assert_allclose(motion.poses, expected, atol=1e-6)


def test_poses_of_a_file(drives, tmp_path):
    path = Trajectory.of_matrices(STAMPS, np.array([pose(i) for i in range(4)]))
    path.save(tmp_path / "poses.txt")
    motion = found(drives["tf"], str(tmp_path / "poses.txt"))
    np.testing.assert_allclose(motion.poses, [pose(i) for i in range(4)], atol=1e-6)
    late = Trajectory.of_matrices([t + 10**12 for t in STAMPS], np.array([pose(0)] * 4))
    late.save(tmp_path / "late.txt")
    with pytest.raises(InputError, match="poses for 0 of 4 clouds"):
        found(drives["tf"], str(tmp_path / "late.txt"))


def test_none_is_none(drives):
    motion = found(drives["tf"], "none")
    assert motion.known == 0 and motion.notes == ("switched off",)


def test_without_anything_auto_says_what_is_missing(drives, monkeypatch):
    monkeypatch.setattr(module, "installed", lambda: False)
    motion = found(drives[""], "auto")
    assert motion.known == 0 and "pip install" in motion.notes[0]


def test_motion_survives_the_disk(drives):
    motion = found(drives["tf"], "tf")
    motion = type(motion)((*motion.poses[:3], None), motion.source, ("a",))
    again = load_motion(*dump_motion(motion))
    assert (again.source, again.notes, again.known) == (motion.source, ("a",), 3)
    np.testing.assert_array_equal(again.poses[1], motion.poses[1])


def test_estimated_motion_is_near_the_truth():
    pytest.importorskip("kiss_icp")
    assert installed()
    rng = np.random.default_rng(0)
    places = rng.uniform(-25, 25, (60, 3)) * [1, 1, 0]
    points = (places[:, None] + rng.uniform(-0.5, 0.5, (60, 200, 3)) * [1, 1, 6]).reshape(-1, 3)
    clouds = []
    for i in range(6):
        here = np.linalg.inv(pose(i))
        clouds.append(LidarScan.from_arrays(points @ here[:3, :3].T + here[:3, 3]))
    clouds.insert(3, clouds[0].select(np.arange(20)))  # too little to go by
    poses = estimate(clouds)
    assert poses.pop(3) is None
    error = [
        np.linalg.norm((p - t)[:3, 3])
        for p, t in zip(relative(poses), relative([pose(i) for i in range(6)]), strict=True)
    ]
    assert max(error) < 0.3  # of 2.5 m
    np.testing.assert_array_equal(estimate(clouds[:3])[2], estimate(clouds[:3])[2])


def edges(*rows):
    tree = {}
    for child, parent, moves, x in rows:
        poses = Trajectory.of([0], [[x, 0, 0]], [[0, 0, 0, 1]])
        tree[child] = Edge(parent, moves, poses)
    return TfTree(tree)


def test_odom_is_preferred_to_what_is_above_it():
    tree = edges(
        ("lidar", "base", False, 1), ("base", "odom", True, 10), ("odom", "map", True, 100)
    )
    assert tree.fixed_frame("lidar") == "odom"
    assert tree.fixed_frame("/base") == "odom"
    assert tree.lookup("odom", "lidar", 0)[0, 3] == 11
    assert tree.lookup("lidar", "map", 0)[0, 3] == -111
    assert tree.lookup("elsewhere", "lidar", 0) is None


def test_what_does_not_move_is_no_motion():
    tree = edges(("lidar", "base", False, 1), ("base", "odom", False, 10))
    assert tree.fixed_frame("lidar") is None and tree.fixed_frame("unknown") is None
    # odom hangs still in a map that moves: then the map is it
    tree = edges(("lidar", "odom", False, 1), ("odom", "map", True, 10))
    assert tree.fixed_frame("lidar") == "map"


def test_loops_are_refused():
    with pytest.raises(InputError, match="a → b → a is a loop"):
        edges(("a", "b", True, 1), ("b", "a", True, 1)).fixed_frame("a")


def test_nonsense_in_tf_is_named(tmp_path):
    broken = np.eye(4)
    broken[0, 3] = np.nan
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/tf", "tf2_msgs/msg/TFMessage", 1, tf(1, "odom", "lidar", broken))
    from pointdistill_ros.io.bag import BagReader

    with BagReader(tmp_path / "a.mcap") as bag, pytest.raises(InputError, match="odom → lidar"):
        TfTree.of(bag)
