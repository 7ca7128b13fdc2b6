# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.errors import InputError
from tests.official_trees import write_semantic_kitti

CALIBRATION = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
Tr: 0 -1 0 0 0 0 -1 -0.1 1 0 0 -0.3
"""


@pytest.fixture
def root(tmp_path):
    for sequence, frame in (("00", 0), ("00", 1), ("08", 0)):
        for kind in ("velodyne", "labels"):
            (tmp_path / "sequences" / sequence / kind).mkdir(parents=True, exist_ok=True)
        points = np.full((3, 4), frame, "<f4")
        raw = np.array([10 | (7 << 16), 252, 0], "<u4")  # car of instance 7, moving car, unlabelled
        points.tofile(tmp_path / f"sequences/{sequence}/velodyne/{frame:06d}.bin")
        raw.tofile(tmp_path / f"sequences/{sequence}/labels/{frame:06d}.label")
    return tmp_path


def test_scans_in_order_with_folded_labels(root):
    scans = SemanticKitti(root)
    assert scans.sequences == ["00", "00", "08"]
    scan, labels = scans[1]
    assert scan.xyz.tolist() == [[1, 1, 1]] * 3
    assert scan.intensity.tolist() == [1] * 3
    assert labels.tolist() == [0, 0, 255]
    assert scans.instances(1).tolist() == [7, 0, 0]
    assert scans.num_points(1) == len(scan)
    assert len(SemanticKitti(root, sequences=["08"])) == 1


def test_official_splits(root):
    splits = SensorConvention.named("semantic-kitti").splits
    assert sorted(name for names in splits.values() for name in names) == [
        f"{number:02d}" for number in range(22)
    ]
    assert splits["val"] == ("08",)
    assert SemanticKitti(root, "val").sequences == ["08"]
    assert SemanticKitti(root, "train", ["00"]).sequences == ["00", "00"]
    with pytest.raises(InputError, match="sequence 01, 02"):
        SemanticKitti(root, "train")
    with pytest.raises(InputError, match="08 is not in split train"):
        SemanticKitti(root, "train", ["00", "08"])
    with pytest.raises(InputError, match=r"'valid'.*train, val, test"):
        SemanticKitti(root, "valid")


def test_scans_of_the_test_split_need_no_labels(tmp_path):
    scans = SemanticKitti(write_semantic_kitti(tmp_path), "test", ["12", "11"])
    assert scans.sequences == ["12", "12", "11", "11"]
    scan, labels = scans[1]
    assert len(scan) == 6
    assert labels.tolist() == [255] * 6
    with pytest.raises(InputError, match=r"labels.*missing"):
        scans.instances(1)


def test_what_is_wrong_is_named(root):
    with pytest.raises(InputError, match="sequence 05"):
        SemanticKitti(root, sequences=["00", "05"])
    with pytest.raises(InputError, match=r"no sequences.*has sequences/00/velodyne"):
        SemanticKitti(root / "sequences")
    label = root / "sequences/00/labels/000000.label"
    np.array([10], "<u4").tofile(label)
    with pytest.raises(InputError, match=r"000000\.label: 1 labels, its scan has 3 points"):
        SemanticKitti(root)[0]
    np.array([10, 10, 9999], "<u4").tofile(label)
    with pytest.raises(InputError, match=r"000000\.label: raw id 9999"):
        SemanticKitti(root)[0]
    label.unlink()
    with pytest.raises(InputError, match=r"000000\.label: missing"):
        SemanticKitti(root)[0]
    (root / "sequences/00/velodyne/000001.bin").write_bytes(b"\0" * 17)
    with pytest.raises(InputError, match=r"000001\.bin: 17 bytes"):
        SemanticKitti(root)[1]


def test_a_folder_without_any_sequence_is_refused(tmp_path):
    (tmp_path / "sequences").mkdir()
    with pytest.raises(InputError, match="no sequences"):
        SemanticKitti(tmp_path)


def test_poses_are_those_of_the_lidar(root):
    """A camera that moves 2 m along its own z (forward) moves the lidar 2 m along x."""
    folder = root / "sequences/00"
    (folder / "calib.txt").write_text(CALIBRATION)
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 2\n")
    scans = SemanticKitti(root, sequences=["00"])
    np.testing.assert_allclose(scans.pose(0), np.eye(4), atol=1e-12)
    forward = np.eye(4)
    forward[0, 3] = 2
    np.testing.assert_allclose(scans.pose(1), forward, atol=1e-12)


def test_a_turn_of_the_camera_is_a_turn_of_the_lidar_about_its_own_axes(root):
    """The camera's y points down: its turn about y is the lidar's turn about −z."""
    folder = root / "sequences/00"
    (folder / "calib.txt").write_text(CALIBRATION.replace("-0.1", "0").replace("-0.3", "0"))
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n0 0 1 0 0 1 0 0 -1 0 0 0\n")
    right = [[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(SemanticKitti(root, "train", ["00"]).pose(1), right, atol=1e-12)


def test_damaged_pose_files_are_named(root):
    folder = root / "sequences/00"

    def pose(i=1):
        return SemanticKitti(root, "train", ["00"]).pose(i)

    assert pose() is None
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=r"calib\.txt: cannot be read"):
        pose()
    (folder / "calib.txt").write_text("P0: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match="'Tr: …'"):
        pose()
    (folder / "calib.txt").write_text(CALIBRATION)
    with pytest.raises(InputError, match=r"poses\.txt: 1 poses, none for scan 000001"):
        pose()
    for damaged in ("1 2 3\n", "1 0 0 0 0 1 0 0 0 0 1 one\n", "1 2\n1 2 3\n"):
        (folder / "poses.txt").write_text(damaged)
        with pytest.raises(InputError, match=r"poses\.txt: expected 12 numbers"):
            pose(0)


def test_official_files_and_packed_files_are_the_same_scans(real_data):
    official = SemanticKitti(real_data / "semantickitti_raw")
    convention = SensorConvention.named("semantic-kitti")
    assert official.sequences == ["00", "07"]
    for i, split in enumerate(("train", "val")):
        scan, labels = official[i]
        packed, packed_labels = PackedScans(real_data, convention, split, [official.sequences[i]])[
            0
        ]
        assert np.abs(scan.xyz - packed.xyz).max() <= 1 / 512 + 1e-6
        np.testing.assert_allclose(scan.intensity, packed.intensity, atol=1e-6)
        np.testing.assert_array_equal(labels, packed_labels)


def test_real_poses_are_rigid_and_start_at_the_first_scan(real_data):
    scans = SemanticKitti(real_data / "semantickitti_raw", "train", ["00", "07"])
    for i in range(len(scans)):
        pose = scans.pose(i)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-4)
        assert scans.paths[i].stem != "000000" or np.abs(pose - np.eye(4)).max() < 1e-6
        assert scans.instances(i).max() > 0
