# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.labels import LabelSet

XYZ = np.int16([[512, 256, -128], [64, 0, 0], [0, -2560, 256]])  # metres × 256


@pytest.fixture
def root(tmp_path):
    entries = []
    for i, (sequence, split) in enumerate([("a", "train"), ("b", "train"), ("c", "val")]):
        np.savez(
            tmp_path / f"{i}.npz",
            xyz=XYZ,
            q=256,
            inten=np.uint8([0, 51, 255]),
            label19=np.uint8([8, i, 255]),
            label7=np.uint8([3, 0, 255]),
            label=np.uint8([7, 13 + i, 0]),
        )
        entry = {"path": f"{i}.npz", "dataset": "toy", "sequence": sequence, "split": split}
        entries.append(entry | {"label_space": "pandaset"})
    entries.append({"path": "x.bin", "dataset": "toy", "sequence": "a", "split": "train"})
    (tmp_path / "manifest.json").write_text(json.dumps({"files": entries}))
    return tmp_path


TOY = SensorConvention("toy", intensity_divisor=255)


def test_split_and_sequences_select_scans(root):
    assert PackedScans(root, TOY, "train").sequences == ["a", "b"]
    assert PackedScans(root, TOY, "val").sequences == ["c"]
    only = PackedScans(root, TOY, "train", ["b"])
    assert len(only) == 1
    assert only[0][1].tolist() == [8, 1, 255]


def test_scan_in_metres_and_unit_intensity(root):
    scan, labels = PackedScans(root, TOY, "train")[0]
    np.testing.assert_array_equal(scan.xyz, XYZ / np.float32(256))
    np.testing.assert_allclose(scan.intensity, [0, 0.2, 1])
    assert (scan.xyz.dtype, scan.intensity.dtype, labels.dtype) == ("f4", "f4", "u1")


def test_convention_turns_lifts_matches_and_drops(root):
    convention = SensorConvention(
        "toy",
        intensity_divisor=255,
        intensity_from=(0.0, 0.2, 1.0),
        intensity_to=(0.0, 0.5, 0.6),
        yaw_degrees=-90,
        height_shift=-1.0,
        min_range=1.5,
    )
    scan, labels = PackedScans(root, convention, "train")[0]
    # x right, y forward → x forward, y left
    expected = [[1, -2, -1.5], [0, -0.25, -1], [-10, 0, 0]]
    np.testing.assert_allclose(scan.xyz, expected, atol=1e-5)
    np.testing.assert_allclose(scan.intensity, [0, 0.5, 0.6], atol=1e-6)
    assert labels.tolist() == [8, 255, 255]  # the second return is the recording car


def test_the_cache_is_not_what_callers_get(root):
    scans = PackedScans(root, TOY, "train")
    scan, labels = scans[0]
    scan.xyz[:] = 0
    labels[:] = 7
    assert scans[0][0].xyz.any()
    assert scans[0][1].tolist() == [8, 0, 255]


def test_seven_classes(root):
    scans = PackedScans(root, TOY, "val", label_set=LabelSet.named("common7"))
    assert scans[0][1].tolist() == [3, 0, 255]


def test_the_classes_of_the_data_set_itself(root):
    scans = PackedScans(root, TOY, "train", label_set=LabelSet.named("pandaset"))
    assert scans.label_set.name == "pandaset"
    assert [scans[i][1].tolist() for i in (0, 1)] == [[6, 12, 255], [6, 13, 255]]
    with pytest.raises(InputError, match=r"toy is labelled in .*, pandaset, not nuscenes"):
        PackedScans(root, TOY, "val", label_set=LabelSet.named("nuscenes"))


def test_an_unknown_id_is_named_with_its_file(root):
    arrays = dict(np.load(root / "1.npz")) | {"label": np.uint8([43, 0, 0])}
    np.savez(root / "1.npz", **arrays)
    scans = PackedScans(root, TOY, "train", ["b"], LabelSet.named("pandaset"))
    with pytest.raises(InputError, match=r"1\.npz: raw id 43 is not in label set pandaset"):
        scans[0]


def test_missing_and_damaged_data_are_named(root, tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json"):
        PackedScans(tmp_path / "nowhere", TOY, "train")
    with pytest.raises(InputError, match="no packed test scans of toy"):
        PackedScans(root, TOY, "test")
    (root / "0.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"0\.npz"):
        PackedScans(root, TOY, "train")[0]


def test_tables_must_rise():
    with pytest.raises(ConfigError, match="rise"):
        SensorConvention("toy", 255, (0.0, 0.5, 0.5), (0.0, 0.1, 0.2))
    with pytest.raises(ConfigError, match="equally long"):
        SensorConvention("toy", 255, (0.0, 0.5), (0.0, 0.1, 0.2))


# Data sets of which there are packed scans.
PACKED = ["semantic-kitti", "pandaset", "nuscenes", "ika-vlp32"]
OWN = {"pandaset": "pandaset", "nuscenes": "ika11_nuscenes", "ika-vlp32": "ika11"}


@pytest.mark.parametrize("name", OWN)
def test_own_classes_of_real_files_fold_into_the_two_shared_sets(real_data, name):
    convention, own = SensorConvention.named(name), LabelSet.named(OWN[name])
    native = PackedScans(real_data, convention, "train", label_set=own)
    for shared in (LabelSet.named("semantic-kitti"), LabelSet.named("common7")):
        folded = PackedScans(real_data, convention, "train", label_set=shared)
        for i in range(0, len(native), len(native) // 5):
            labels = folded[i][1]
            np.testing.assert_array_equal(own.remap_to(shared)[native[i][1]], labels)
            assert (labels != 255).mean() > 0.2


def test_ids_of_real_semantic_kitti_fold_into_the_19_classes(real_data):
    kitti = PackedScans(real_data, SensorConvention.named("semantic-kitti"), "train")
    official, learning = kitti.label_set.from_raw, np.uint8([255, *range(19)])
    seen = set()
    for i in range(0, len(kitti), 7):
        space = kitti.entries[i]["label_space"]
        seen.add(space)
        ids = np.load(real_data / kitti.entries[i]["path"])["label"]
        labels = official(ids) if space == "semantickitti_raw" else learning[ids]
        np.testing.assert_array_equal(labels, kitti[i][1])
    assert seen == {"semantickitti_raw", "semantickitti_learning"}


@pytest.mark.parametrize("name", PACKED)
def test_road_of_every_real_sensor_looks_like_the_reference(real_data, name):
    convention = SensorConvention.named(name)
    scans = PackedScans(real_data, convention, "train")
    picked = [scans[i] for i in range(0, len(scans), len(scans) // 6)]
    road = np.concatenate([scan.xyz[labels == 8] for scan, labels in picked])
    intensity = np.concatenate([scan.intensity[labels == 8] for scan, labels in picked])
    near = np.hypot(road[:, 0], road[:, 1]) < 20
    assert -2.0 < np.median(road[near, 2]) < -1.5
    assert 0.12 < np.median(intensity) < 0.35
    for scan, _ in picked:
        assert scan.intensity.min() >= 0 and scan.intensity.max() <= 1


def test_front_sector_of_ika_lies_ahead(real_data):
    scan, _ = PackedScans(real_data, SensorConvention.named("ika-vlp32"), "train")[0]
    assert np.median(scan.xyz[:, 0]) > 5
    assert abs(np.median(scan.xyz[:, 1])) < 10
