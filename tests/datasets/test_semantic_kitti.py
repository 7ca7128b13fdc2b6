# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.errors import InputError


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
    assert len(SemanticKitti(root, ["08"])) == 1


def test_what_is_wrong_is_named(root):
    with pytest.raises(InputError, match="sequence 05"):
        SemanticKitti(root, ["00", "05"])
    with pytest.raises(InputError, match="no sequences"):
        SemanticKitti(root / "sequences")
    label = root / "sequences/00/labels/000000.label"
    np.array([10], "<u4").tofile(label)
    with pytest.raises(InputError, match="1 labels for 3 points"):
        SemanticKitti(root)[0]
    np.array([10, 10, 9999], "<u4").tofile(label)
    with pytest.raises(InputError, match="9999"):
        SemanticKitti(root)[0]
    label.unlink()
    with pytest.raises(InputError, match="missing"):
        SemanticKitti(root)[0]
    (root / "sequences/00/velodyne/000001.bin").write_bytes(b"x" * 17)
    with pytest.raises(InputError, match="multiple of 16"):
        SemanticKitti(root)[1]


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
