# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import ConfigError, InputError

LABELS = np.uint8([0, 8, 18, 255])
CONFIDENCE = np.uint8([100, 50, 49, 0])


@pytest.fixture
def root(tmp_path):
    for folder, name, quantum in [
        ("unlabelled", "01_a", 128),
        ("unlabelled", "02_b", 128),
        ("unlabelled", "03_not_labelled", 128),
        ("kitti_raw_run", "0000000060", 256),
        ("kitti_raw_run", "0000000061", 256),
    ]:
        (tmp_path / folder).mkdir(exist_ok=True)
        xyz = np.int16([[quantum, -quantum, 1], [0, 0, 0], [3, 4, 5], [6, 7, 8]])
        np.savez(tmp_path / folder / name, xyz=xyz, inten=np.uint8([0, 50, 99, 7]), q=quantum)
    (tmp_path / "pseudo").mkdir()
    for name in ("01_a", "02_b", "0000000060", "0000000061"):
        np.savez(tmp_path / "pseudo" / name, pseudo19=LABELS, conf=CONFIDENCE)
    return tmp_path


def test_places_are_drives(root):
    scans = PseudoScans(root, 0)
    assert list(zip([p.stem for p in scans.paths], scans.sequences, strict=True)) == [
        ("0000000060", "kitti_raw_run"),
        ("0000000061", "kitti_raw_run"),
        ("01_a", "01_a"),
        ("02_b", "02_b"),
    ]
    assert len(scans) == 4 and scans.label_set.name == "semantic-kitti"


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        (0, [0, 8, 18, 255]),
        (49, [0, 8, 18, 255]),
        (50, [0, 8, 255, 255]),
        (51, [0, 255, 255, 255]),
        (100, [0, 255, 255, 255]),
    ],
)
def test_doubtful_labels_are_dropped(root, bound, kept):
    assert PseudoScans(root, bound)[2][1].tolist() == kept


def test_each_file_has_its_own_step(root):
    scans = PseudoScans(root, 0)
    for i in (0, 2):
        scan, labels = scans[i]
        assert scan.xyz[0, :2].tolist() == [1, -1]  # q differs between the folders
        np.testing.assert_allclose(scan.intensity, [0, 0.5, 0.99, 0.07])
        assert (scan.xyz.dtype, scan.intensity.dtype, labels.dtype) == ("f4", "f4", "u1")


def test_what_callers_get_is_theirs(root):
    scans = PseudoScans(root, 0)
    scan, labels = scans[0]
    scan.xyz[:] = 9
    labels[:] = 9
    assert scans[0][0].xyz[1].tolist() == [0, 0, 0] and scans[0][1].tolist() == LABELS.tolist()


def test_what_does_not_fit_is_named(root):
    with pytest.raises(ConfigError, match=r"min_confidence .* got 101"):
        PseudoScans(root, 101)
    with pytest.raises(InputError, match=r"nowhere/pseudo: no pseudo-labels"):
        PseudoScans(root / "nowhere", 0)
    np.savez(root / "pseudo" / "01_a", pseudo19=LABELS[:3], conf=CONFIDENCE)
    with pytest.raises(InputError, match=r"01_a\.npz: 3 labels and 4 confidences for the 4 points"):
        PseudoScans(root, 0)[2]
    np.savez(root / "pseudo" / "01_a", pseudo19=np.uint8([0, 19, 1, 1]), conf=CONFIDENCE)
    with pytest.raises(InputError, match=r"01_a\.npz: id 19 is no class"):
        PseudoScans(root, 0)[2]
    (root / "unlabelled" / "02_b.npz").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"unlabelled/02_b\.npz: not a file with q, xyz, inten"):
        PseudoScans(root, 0)[3]
    np.savez(root / "kitti_raw_run" / "02_b", q=1)
    with pytest.raises(InputError, match=r"02_b\.npz: two clouds"):
        PseudoScans(root, 0)
    np.savez(root / "pseudo" / "99_c", pseudo19=LABELS, conf=CONFIDENCE)
    (root / "kitti_raw_run" / "02_b.npz").unlink()
    with pytest.raises(InputError, match=r"99_c\.npz: no cloud"):
        PseudoScans(root, 0)


def test_real_pseudo_labels(real_data):
    scans = PseudoScans(real_data, 80)
    assert len(scans) == 63 and len(set(scans.sequences)) == 44
    kept = 0.0
    for i in (0, 30, 62):
        scan, labels = scans[i]
        road = scan.xyz[labels == 8]
        near = np.hypot(road[:, 0], road[:, 1]) < 20
        assert -2.0 < np.median(road[near, 2]) < -1.5
        assert 0.1 < np.median(scan.intensity[labels == 8]) < 0.4
        assert scan.intensity.max() <= 1
        kept += (labels != 255).mean() / 3
    assert 0.5 < kept < 0.95  # 75 % over all scans
