# SPDX-License-Identifier: Apache-2.0
"""Sweeps that vote: what stands still is told by all who saw it, what moves by nobody else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import InputError
from pointdistill_ros.scan import LidarScan
from training.pseudo_files import ALONE, PseudoFolder, cloud_digest, packed_cloud, unpacked_cloud
from training.pseudo_votes import REACH, Ballots, Sweep, neighbours, vote
from training.self_training import SoftLabels

from ..evaluation.bags.drive import BUILDING, CAR, KITTI, ROAD, pose, scan

MOVABLE = np.isin(np.arange(19), [*range(8)])
DRIVE = "drives/street"


def says(label, share=0.6, other=16):
    """Probabilities [19] of one point."""
    found = np.zeros(19, np.float32)
    found[label], found[other] = share, 1 - share
    return found


def sweep(xyz, rows, near=False):
    xyz = np.asarray(xyz, np.float64)
    found = SoftLabels(np.arange(len(xyz), dtype=np.int32), np.array(rows, np.float32))
    return Sweep(found, xyz, np.full(len(xyz), near), MOVABLE)


def test_the_mean_of_all_who_saw_the_place_counts():
    own = sweep([[1.05, 0.05, 0.05], [5.05, 0, 0]], [says(ROAD, 0.4), says(ROAD, 0.9)])
    others = [
        sweep([[1.01, 0.01, 0.01], [1.15, 0.1, 0.1]], [says(BUILDING, 0.8), says(BUILDING, 0.6)]),
        sweep([[1.1, 0.1, 0.1]], [says(BUILDING, 1.0)]),
    ]
    first, second = own.heard(others).probability
    expected = (says(ROAD, 0.4) + says(BUILDING, 0.7) + says(BUILDING, 1.0)) / 3
    np.testing.assert_allclose(first, expected, atol=1e-6)
    np.testing.assert_allclose(second, says(ROAD, 0.9), atol=1e-6)  # nobody else was there
    assert first.argmax() == BUILDING


@pytest.mark.parametrize("who", ["own", "other"])
def test_what_can_move_neither_tells_nor_listens(who):
    here, car, wall = [[1.0, 0.0, 0.0]], [says(CAR)], [says(BUILDING)]
    own, other = (car, wall) if who == "own" else (wall, car)
    heard = sweep(here, own).heard([sweep(here, other)]).probability
    np.testing.assert_allclose(heard, own, atol=1e-6)


def test_returns_of_the_recording_car_do_not_vote():
    here = [[1.0, 0.0, 0.0]]
    heard = sweep(here, [says(ROAD)]).heard([sweep(here, [says(BUILDING)], near=True)])
    np.testing.assert_allclose(heard.probability, [says(ROAD)], atol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=20)
def test_votes_are_probabilities_whatever_the_order(seed, count):
    rng = np.random.default_rng(seed)

    def any_sweep():
        n = int(rng.integers(0, 30))
        return sweep(rng.uniform(-0.5, 0.5, (n, 3)), rng.dirichlet(np.ones(19), n).reshape(n, 19))

    own, others = any_sweep(), [any_sweep() for _ in range(count)]
    heard = own.heard(others).probability
    np.testing.assert_allclose(heard.sum(axis=1), 1, rtol=1e-5)
    again = own.heard(others[::-1]).probability
    np.testing.assert_allclose(heard, again, atol=1e-6)


def test_ballots_are_found_where_they_were_given():
    xyz = np.array([[-0.1, 0, 0], [0.1, 0, 0], [300e3, 0, 0], [0.3, 0, 0]])
    ballots = Ballots.of(xyz, np.eye(4, 19, dtype=np.float32))
    assert len(ballots.keys) == 4
    there, said = ballots.at(np.array([[0.19, 0.1, 0.1], [0.5, 0, 0], [-0.01, 0, 0]]))
    assert there.tolist() == [0, 2]
    assert said.argmax(axis=1).tolist() == [1, 0]


def test_neighbours_are_near_in_time_and_place():
    def at(x):
        found = np.eye(4)
        found[0, 3] = x
        return found

    poses = [at(0), at(1), None, at(2), at(REACH + 3.1), at(3)]
    assert neighbours(poses, 3, 2) == [1, 5]
    assert neighbours(poses, 3, 3) == [0, 1, 5]
    assert neighbours(poses, 2, 3) == []
    assert neighbours(poses, 4, 5) == []


def write_alone(folder, frames=5, wrong=()):
    """A drive past walls: scores of every scan alone; in ``wrong`` the walls are called road."""
    alone, names, truths = PseudoFolder(folder.root, ALONE), [], []
    for i in range(frames):
        cloud = packed_cloud(scan(i)[0])
        truth = scan(i)[1]
        said = np.where((truth == BUILDING) & (i in wrong), ROAD, truth)
        share = np.where((truth == BUILDING) & (i in wrong), 0.5, 0.8)
        rows = np.array([says(c, s) for c, s in zip(said, share, strict=True)])
        found = SoftLabels(np.arange(len(said), dtype=np.int32), rows)
        name = f"{i:06d}"
        folder.write_cloud(name, DRIVE, cloud)
        alone.write_scores(name, found, "alone", cloud_digest(unpacked_cloud(cloud)), 8)
        names.append(name)
        truths.append(truth)
    return names, truths


def test_a_drive_mends_what_one_scan_said_wrongly(tmp_path):
    folder = PseudoFolder(tmp_path)
    names, truths = write_alone(folder, wrong={2})
    poses = [pose(i) for i in range(5)]
    counts = []
    vote(folder, DRIVE, names, poses, 2, "voted", 3, KITTI, counts.append)
    assert counts == [1, 2, 3, 4, 5]
    for i, name in enumerate(names):
        labels = folder.read_scores(name).labels
        assert (labels == truths[i])[truths[i] == CAR].all()  # it drives through the walls' cells
        assert (labels == truths[i]).mean() > 0.95, i
    # in the wrong frame of reference the walls are not met again
    vote(folder, DRIVE, names, [np.eye(4)] * 5, 2, "still", 3, KITTI)
    still = folder.read_scores(names[2]).labels
    assert (still == truths[2])[truths[2] == BUILDING].mean() < 0.5


def test_votes_are_kept_until_a_cloud_a_pose_or_the_settings_change(tmp_path):
    folder = PseudoFolder(tmp_path)
    names, _ = write_alone(folder)
    poses = [pose(i) for i in range(5)]

    def written():
        return [folder.scores_path(name).stat().st_mtime_ns for name in names]

    vote(folder, DRIVE, names, poses, 1, "voted", 3, KITTI)
    first = written()
    vote(folder, DRIVE, names, poses, 1, "voted", 3, KITTI)
    assert written() == first
    moved = [*poses[:-1], poses[-1] @ pose(1)]
    vote(folder, DRIVE, names, moved, 1, "voted", 3, KITTI)
    assert [a == b for a, b in zip(first, written(), strict=True)] == [True] * 3 + [False] * 2
    folder.scores_path(names[0]).unlink()
    vote(folder, DRIVE, names, moved, 1, "voted", 3, KITTI)
    assert folder.origin(names[0])[0] == "voted"


def test_without_poses_everybody_is_alone(tmp_path):
    folder = PseudoFolder(tmp_path)
    names, _ = write_alone(folder, 2, wrong={1})
    vote(folder, DRIVE, names, [None, None], 3, "voted", 0, KITTI)
    alone = PseudoFolder(tmp_path, ALONE)
    for name in names:
        here, before = folder.read_scores(name), alone.read_scores(name)
        np.testing.assert_array_equal(here.labels, before.labels)
        assert here.soft is None


def test_damaged_files_are_named(tmp_path):
    folder = PseudoFolder(tmp_path)
    names, _ = write_alone(folder, 2)
    poses = [pose(0), pose(1)]
    alone = PseudoFolder(tmp_path, ALONE)
    alone.scores_path(names[1]).write_bytes(b"cut")
    with pytest.raises(InputError, match=r"alone/000001\.npz: missing or damaged"):
        vote(folder, DRIVE, names, poses, 1, "voted", 0, KITTI)
    write_alone(folder, 2)
    folder.write_cloud(names[1], DRIVE, packed_cloud(LidarScan(np.zeros((3, 3), np.float32))))
    with pytest.raises(InputError, match=r"alone/000001\.npz: not of its cloud"):
        vote(folder, DRIVE, names, poses, 1, "voted", 0, KITTI)
