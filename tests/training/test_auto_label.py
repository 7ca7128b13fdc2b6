# SPDX-License-Identifier: Apache-2.0
"""From unlabelled drives to training data: motion found, sweeps that vote, SemanticKITTI layout."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.open import open_dataset
from pointdistill_ros.datasets.poses import pose_of
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.motion.trajectory import Trajectory
from pointdistill_ros.io.binfile import write_kitti
from training import pseudo_label
from training.pseudo_files import PseudoFolder, packed_cloud
from training.pseudo_jobs import find_jobs
from training.pseudo_kitti import numbers
from training.pseudo_motion import drive_motion, read_motion
from training.self_training import SoftLabeller

from ..evaluation.bags.drive import STAMP, pose, scan, write_drive
from ..tiny import tiny_meta, tiny_network

REFERENCE = SensorConvention.named("semantic-kitti")


def quiet(title, scans):
    return lambda done: None


def found(path, tmp_path, wanted="auto", convention=REFERENCE):
    return drive_motion(path, wanted, convention, "x_", tmp_path / "motion.npz", quiet)


def truth(i):
    return np.linalg.inv(pose(0)) @ pose(i)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("bag") / "street.mcap", 4, 90)


def sequence(folder, frames=range(4), points=90):
    for i in frames:
        (folder / "velodyne").mkdir(parents=True, exist_ok=True)
        write_kitti(scan(i, points)[0], folder / "velodyne" / f"{i:06d}.bin")
    return folder


def kitti_poses(path, count=4):
    lines = (" ".join(map(str, pose(i)[:3].ravel())) for i in range(count))
    path.write_text("\n".join(lines))


def check(motion, frames=range(4)):
    assert list(motion.scans) == [f"x_{i:06d}" for i in frames]
    for i, taken in zip(frames, motion.scans.values(), strict=True):
        expected = np.linalg.inv(truth(frames[0])) @ truth(i)
        np.testing.assert_allclose(taken.pose, expected, atol=1e-5)


def test_a_bag_tells_by_tf(bag, tmp_path):
    motion = found(bag, tmp_path)
    check(motion)
    assert motion.source == "tf, lidar in odom"
    assert [t.time_ns - STAMP for t in motion.scans.values()] == [0, 10**8, 2 * 10**8, 3 * 10**8]


def test_a_kitti_sequence_tells_by_its_file_also_where_scans_are_missing(tmp_path):
    folder = sequence(tmp_path / "03")
    kitti_poses(folder / "poses.txt")
    check(found(folder, tmp_path))
    (folder / "velodyne/000001.bin").unlink()
    check(found(folder, tmp_path), [0, 2, 3])


def test_packed_scans_hold_their_poses(tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    for i in range(4):
        np.savez(folder / f"{i:06d}.npz", **packed_cloud(scan(i, 90)[0]), pose=pose(i))
    motion = found(folder, tmp_path)
    check(motion)
    assert motion.source == "poses of the packed scans"


def test_poses_are_told_in_the_reference_convention(bag, tmp_path):
    convention = replace(REFERENCE, dataset="turned", yaw_degrees=90.0, height_shift=2.0)
    matrix = convention.matrix
    motion = found(bag, tmp_path, convention=convention)
    for i, taken in enumerate(motion.scans.values()):
        expected = matrix @ truth(i) @ np.linalg.inv(matrix)
        np.testing.assert_allclose(taken.pose, expected, atol=1e-6)


def test_a_named_file_or_nothing(bag, tmp_path):
    path = tmp_path / "poses.txt"
    stamps = [STAMP + i * 10**8 for i in range(4)]
    Trajectory.of_matrices(stamps, np.array([pose(i) for i in range(4)])).save(path)
    check(found(bag, tmp_path, str(path)))
    assert found(bag, tmp_path, "none").known == 0
    folder = sequence(tmp_path / "03")
    with pytest.raises(InputError, match="no topics, and there is no such file"):
        found(folder, tmp_path, "tf")
    kitti_poses(path, 7)
    check(found(folder, tmp_path, str(path)))  # by number


def test_motion_is_found_once(bag, tmp_path, monkeypatch):
    found(bag, tmp_path)
    monkeypatch.setattr("training.pseudo_motion._of_bag", None)
    check(found(bag, tmp_path))
    with pytest.raises(TypeError):  # other settings: it would be found anew
        found(bag, tmp_path, "none")
    (tmp_path / "motion.npz").write_bytes(b"cut")
    assert read_motion(tmp_path / "motion.npz") is None


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "tiny.safetensors"
    save_checkpoint(weights, tiny_network(), tiny_meta())

    def call(*words):
        argv = ["pseudo_label", *words, "--out", tmp_path / "out", "--weights", weights]
        monkeypatch.setattr(sys, "argv", [str(a) for a in [*argv, "--engine", "torch"]])
        pseudo_label.main()
        return capsys.readouterr().out

    return call


def test_the_layout_is_read_by_the_official_reader(command, bag, tmp_path):
    single = tmp_path / "single"
    single.mkdir()
    np.savez(single / "0_kitti.npz", **packed_cloud(scan(9, 90)[0]))
    text = command(bag, single, "--sweeps", "1", "--layout", "semantic-kitti", "--soft", "4",
                   "--min-confidence", "10")  # fmt: skip
    root = tmp_path / "out/semantic-kitti"
    assert f"in the layout of SemanticKITTI: {root}" in text
    names = (root / "sequences/01/names.txt").read_text().split()
    assert names == [f"street_{i:06d}" for i in range(4)]
    assert (root / "sequences/00/names.txt").read_text() == "0_kitti\n"
    scans = open_dataset("semantic-kitti", root, "train", ["01"])
    own = PseudoScans(tmp_path / "out", 0)
    where = {path.stem: i for i, path in enumerate(own.label_paths)}
    for i, name in enumerate(names):
        (cloud, labels), (mine, said) = scans[i], own[where[name]]
        np.testing.assert_array_equal(labels, said)
        np.testing.assert_allclose(cloud.xyz, mine.xyz)
        np.testing.assert_allclose(cloud.intensity, mine.intensity)
        np.testing.assert_allclose(pose_of(scans, i), truth(i), atol=1e-5)
        confidence = np.load(root / f"sequences/01/confidence/{i:06d}.npy")
        assert confidence.dtype == np.uint8
        whole = PseudoFolder(tmp_path / "out").read_scores(name)
        np.testing.assert_array_equal(confidence, whole.confidence)
        np.testing.assert_array_equal(labels, np.where(confidence >= 10, whole.labels, 255))
    assert not (root / "sequences/00/poses.txt").exists()
    assert "| 01 | drive street | 4 | yes |" in (root / "README.md").read_text()
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["motion"]["street"]["known"] == 4
    assert "then by votes of up to 1 sweeps" in (tmp_path / "out/README.md").read_text()


def test_votes_change_what_a_scan_says_and_cost_no_network(command, bag, tmp_path, monkeypatch):
    folder = PseudoFolder(tmp_path / "out")
    command(bag, "--sweeps", "2")
    alone = PseudoFolder(tmp_path / "out", "alone")
    changed = [
        (folder.read_scores(n).confidence != alone.read_scores(n).confidence).any()
        for n in folder.scored()
    ]
    assert len(changed) == 4 and all(changed)
    monkeypatch.setattr(SoftLabeller, "__call__", None)
    assert "4 scans, 4 of them labelled before" in command(bag, "--sweeps", "1")
    assert "4 scans, 4 of them labelled before" in command(bag, "--sweeps", "1", "--soft", "3")


def test_a_shorter_list_leaves_nothing_behind(command, tmp_path):
    folder = sequence(tmp_path / "03")
    kitti_poses(folder / "poses.txt")
    command(folder, "--layout", "semantic-kitti")
    root = tmp_path / "out/semantic-kitti/sequences/00"
    assert len(list((root / "velodyne").iterdir())) == 4
    for kind in ("scores", "pseudo"):
        (tmp_path / "out" / kind / "03_000001.npz").unlink()
    (folder / "velodyne/000001.bin").unlink()
    command(folder, "--layout", "semantic-kitti")
    for kind in ("velodyne", "labels", "confidence"):
        assert len(list((root / kind).iterdir())) == 3
    assert (root / "names.txt").read_text().split() == ["03_000000", "03_000002", "03_000003"]
    assert len((root / "poses.txt").read_text().splitlines()) == 3


def test_bags_are_read_when_their_scans_are_asked_for_in_any_order(bag, tmp_path):
    other = write_drive(tmp_path / "other.mcap", 3, 60)
    jobs = {job.name: job for job in find_jobs([bag, other], "*", 1, False)}
    assert [name for name, job in jobs.items() if job.is_drive] == list(jobs)
    for name, points in (("street_000003", 90), ("other_000001", 60), ("street_000001", 90)):
        loaded, expected = jobs[name].entry.load(), scan(int(name[-1]), points)[0]
        np.testing.assert_allclose(loaded.xyz, expected.xyz)
        assert loaded.stamp_ns == expected.stamp_ns


def test_what_cannot_be_meant_is_named(command, tmp_path):
    here, there = (sequence(tmp_path / f"{name}/03", [i]) for i, name in enumerate("ab"))
    with pytest.raises(InputError, match="two drives of one name"):
        command(here, there, "--sweeps", "1")
    with pytest.raises(ConfigError, match="--sweeps must be 0 or more, got -1"):
        command(here, "--sweeps", "-1")


def test_sequences_stay_out_of_the_official_validation_and_test():
    official = REFERENCE.splits
    names = numbers(14)
    assert len(set(names)) == 14
    assert names[:10] == list(official["train"])
    assert not set(names) & {*official["val"], *official["test"]}
