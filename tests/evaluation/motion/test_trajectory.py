# SPDX-License-Identifier: Apache-2.0
"""Poses: between two of them, from both kinds of files, and refused with the reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.motion.trajectory import (
    MAX_GAP_NS,
    Trajectory,
    pose_of,
    read_poses,
)

NUMBERS = st.floats(-1, 1, width=32)
ROTATIONS = st.tuples(*[NUMBERS] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
SECOND = 1_000_000_000


def unit(q):
    return np.array(q) / np.linalg.norm(q)


def turn(degrees):
    half = np.radians(degrees) / 2
    return (0.0, 0.0, np.sin(half), np.cos(half))


@given(ROTATIONS, st.tuples(*[st.floats(-1e6, 1e6)] * 3))
def test_matrices_and_quaternions_are_two_forms_of_one_pose(rotation, position):
    pose = pose_of(np.array(position), unit(rotation))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    again = Trajectory.of_matrices([5], pose[None]).at(5)
    np.testing.assert_allclose(again, pose, atol=1e-9, rtol=1e-12)


@given(st.integers(0, 100), st.floats(-170, 170), st.floats(-100, 100))
def test_between_two_poses_the_sensor_turns_and_moves_evenly(percent, degrees, metres):
    path = Trajectory.of([0, SECOND], [[0, 0, 0], [metres, 0, 0]], [turn(0), turn(degrees)])
    pose = path.at(percent * SECOND // 100)
    assert pose[0, 3] == pytest.approx(metres * percent / 100, abs=1e-9)
    angle = np.degrees(np.arctan2(pose[1, 0], pose[0, 0]))
    assert angle == pytest.approx(degrees * percent / 100, abs=1e-6)


def test_a_quaternion_and_its_negative_are_the_same_rotation():
    path = Trajectory.of([0, 10], np.zeros((2, 3)), [turn(10), tuple(-v for v in turn(20))])
    pose = path.at(5)
    assert np.degrees(np.arctan2(pose[1, 0], pose[0, 0])) == pytest.approx(15)


def test_outside_and_in_gaps_nothing_is_made_up():
    times = [SECOND, SECOND + 100, SECOND + 100 + MAX_GAP_NS + 1]
    path = Trajectory.of(times, np.zeros((3, 3)), [turn(0)] * 3)
    assert path.at(SECOND - 2_000_000) is None
    assert path.at(SECOND - 900_000) is not None  # files round their times
    assert path.at(times[1] + MAX_GAP_NS // 2) is None
    assert path.at(times[2] + 2_000_000) is None


def test_disorder_repetition_and_nonsense_are_sorted_out():
    rotations = [turn(0), turn(90), turn(45), (0, 0, 0, 0)]
    path = Trajectory.of([30, 10, 30, 20], np.arange(12.0).reshape(4, 3), rotations)
    assert path.times_ns.tolist() == [10, 30]
    assert path.positions.tolist() == [[3, 4, 5], [0, 1, 2]]
    with pytest.raises(InputError, match="no valid poses"):
        Trajectory.of([1], [[np.nan, 0, 0]], [turn(0)])


def test_written_poses_are_read_again(tmp_path):
    times = [1_700_000_000_123_456_789, 1_700_000_000_223_456_789]
    path = Trajectory.of(times, [[1, 2, 3], [400_000, 5, 6]], [turn(30), turn(-60)])
    path.save(tmp_path / "poses.txt")
    again = read_poses(tmp_path / "poses.txt", [])
    assert again.times_ns.tolist() == times
    for t in times:
        np.testing.assert_allclose(again.at(t), path.at(t), atol=1e-6)


def kitti(path, poses):
    path.write_text("".join(" ".join(f"{v:.12g}" for v in p[:3].ravel()) + "\n" for p in poses))
    return path


def test_kitti_poses_are_the_cameras_where_it_is_calibrated(tmp_path):
    lidar = [pose_of(np.array([i, 0.5 * i, 0]), np.array(turn(5 * i))) for i in range(3)]
    camera = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1.0]])
    file = kitti(tmp_path / "poses.txt", [camera @ p @ np.linalg.inv(camera) for p in lidar])
    tr = " ".join(map(str, camera[:3].ravel()))
    (tmp_path / "calib.txt").write_text(f"P2: 1 2\nTr: {tr}\n")
    found = read_poses(file, [10, 20, 30])
    np.testing.assert_allclose([found.at(t) for t in (10, 20, 30)], lidar, atol=1e-9)
    (tmp_path / "calib.txt").write_text("P2: 1 2\n")
    with pytest.raises(InputError, match=r"calib\.txt: no line 'Tr:'"):
        read_poses(file, [10, 20, 30])
    (tmp_path / "calib.txt").unlink()
    found = read_poses(kitti(file, lidar), [10, 20, 30])
    np.testing.assert_allclose(found.at(20), lidar[1], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected 8"),
        ("1 2 3\n", r"\[3\] numbers a line; expected 8"),
        ("1 2 3 4 5 6 7 8\n1 2\n", "not a poses file"),
        ("a b c d e f g h\n", "not a poses file"),
        ("nan 0 0 0 0 0 0 1\n", "not a poses file"),
        ("1 0 0 0 0 0 0 0\n", "no valid poses"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n", "1 poses for 2 clouds"),
    ],
)
def test_bad_files_say_what_was_expected(tmp_path, text, what):
    (tmp_path / "poses.txt").write_text(text)
    with pytest.raises(InputError, match=what):
        read_poses(tmp_path / "poses.txt", [1, 2])
