# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.datasets.json_table import read_rows
from pointdistill_ros.datasets.nuscenes import NuScenesLidarseg, official_scenes
from pointdistill_ros.datasets.nuscenes_tables import CATEGORIES
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.binfile import read_nuscenes
from tests.official_trees import token, write_nuscenes

TRAIN = ["scene-0001", "scene-0002"]


@pytest.fixture
def root(tmp_path):
    return write_nuscenes(tmp_path)


def edit(path, change):
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(change(rows) or rows))


def test_official_splits():
    sizes = {
        split: len(official_scenes(split)) for split in SensorConvention.named("nuscenes").splits
    }
    assert sizes == {"train": 700, "val": 150, "test": 150, "mini_train": 8, "mini_val": 2}
    train, val, test = (set(official_scenes(split)) for split in ("train", "val", "test"))
    assert len(train | val | test) == 1000
    assert {"scene-0001", "scene-1110"} <= train
    assert {"scene-0003", "scene-1073"} <= val
    assert {"scene-0077", "scene-1043"} <= test
    # v1.0-mini was drawn from the training and validation scenes
    assert set(official_scenes("mini_train")) <= train | val
    with pytest.raises(InputError, match=r"'valid'.*train, val, test, mini_train, mini_val"):
        official_scenes("valid")


def test_key_frames_in_order_of_scene_and_time(root):
    scans = NuScenesLidarseg(root, "train", TRAIN)
    assert scans.sequences == ["scene-0001"] * 2 + ["scene-0002"] * 2
    assert all("samples/LIDAR_TOP" in frame.filename for frame in scans.frames)  # no sweeps
    stamps = [scans[i][0].stamp_ns for i in range(4)]
    assert stamps[:2] == sorted(stamps[:2])
    assert stamps[2:] == sorted(stamps[2:])
    assert stamps[0] == 1_532_402_927_000_000_000
    assert [frame.token for frame in scans.frames[:2]] == [
        token("scene-0001", step, "LIDAR_TOP") for step in (0, 2)
    ]
    assert NuScenesLidarseg(root, "val", ["scene-0003"]).sequences == ["scene-0003"] * 2


def test_points_and_labels_are_those_of_the_files(root):
    scans = NuScenesLidarseg(root, "train", TRAIN)
    scan, labels = scans[1]
    columns = np.fromfile(root / scans.frames[1].filename, "<f4").reshape(-1, 5)
    np.testing.assert_array_equal(scan.xyz, columns[:, :3])
    np.testing.assert_allclose(scan.intensity, columns[:, 3] / 255, rtol=1e-6)
    np.testing.assert_array_equal(scan.ring, columns[:, 4])
    raw = np.fromfile(
        root / f"lidarseg/v1.0-trainval/{scans.frames[1].token}_lidarseg.bin", np.uint8
    )
    car, driveable = (scans.label_set.index(n) for n in ("car", "driveable_surface"))
    expected = {0: 255, 17: car, 24: driveable, 31: 255}
    assert labels.tolist() == [expected[r] for r in raw]
    assert scans.num_points(1) == len(scan) == 6


def test_raw_ids_fold_into_classes_by_name():
    """Each category belongs to the class whose name it contains, as the challenge defines it."""
    labels = NuScenesLidarseg.label_set.from_raw(np.arange(32))
    names = [None if i == 255 else NuScenesLidarseg.label_set.names[i] for i in labels]
    folded = dict(zip(CATEGORIES, names, strict=True))
    assert folded["human.pedestrian.police_officer"] == "pedestrian"
    assert folded["human.pedestrian.stroller"] is None
    assert folded["vehicle.bus.bendy"] == folded["vehicle.bus.rigid"] == "bus"
    assert folded["vehicle.emergency.police"] is None
    for category in ("vehicle.car", "flat.sidewalk", "static.manmade", "vehicle.trailer"):
        assert folded[category] == category.rpartition(".")[2]
    assert folded["movable_object.trafficcone"] == "traffic_cone"
    assert folded["vehicle.construction"] == "construction_vehicle"
    assert folded["flat.other"] == "other_flat"
    assert sum(name is None for name in names) == 12


def test_scans_of_the_test_split_need_no_labels(root):
    scans = NuScenesLidarseg(root, "test", ["scene-0078"])
    assert len(scans) == 2
    assert scans[1][1].tolist() == [255] * 6


def test_pose_is_mount_then_car(root):
    """The mount turns the sensor's forward (y) to the car's forward (x) and lifts it."""
    scans = NuScenesLidarseg(root, "train", TRAIN)
    # scene-0002 is the third in the table: car 0 at x = 200, y = the step
    point = scans.pose(3) @ [0, 10, 0, 1]
    np.testing.assert_allclose(point, [200 + 0.9 + 10, 2, 1.8, 1], atol=1e-9)
    right = scans.pose(3)[:3, :3] @ [1, 0, 0]
    np.testing.assert_allclose(right, [0, -1, 0], atol=1e-9)
    edit(root / "v1.0-trainval/ego_pose.json", lambda rows: rows[:1])
    with pytest.raises(InputError, match=r"ego_pose\.json: no row"):
        NuScenesLidarseg(root, "train", TRAIN).pose(1)


def test_the_convention_turns_it_forward(root):
    scans = NuScenesLidarseg(root, "train", TRAIN)
    turned, _ = InConvention(scans, SensorConvention.named("nuscenes"))[0]
    xyz = scans[0][0].xyz
    np.testing.assert_allclose(turned.xyz[:, 0], xyz[:, 1], atol=1e-5)
    np.testing.assert_allclose(turned.xyz[:, 1], -xyz[:, 0], atol=1e-5)


def test_wrong_roots_and_splits_are_explained(root):
    with pytest.raises(InputError, match=r"v1\.0-mini: no such folder; nuScenes has v1\.0"):
        NuScenesLidarseg(root, "mini_val")
    with pytest.raises(InputError, match=r"scene\.json: 698 scenes are missing: scene-0004"):
        NuScenesLidarseg(root, "train")
    with pytest.raises(InputError, match="scene-0003 is not in split train"):
        NuScenesLidarseg(root, "train", ["scene-0003"])


def test_wrong_label_files_are_named(root):
    scans = NuScenesLidarseg(root, "train", TRAIN)
    name = f"{scans.frames[0].token}_lidarseg.bin"
    label = root / "lidarseg/v1.0-trainval" / name
    np.full(4, 32, np.uint8).tofile(label)
    with pytest.raises(InputError, match=f"{name}: raw id 32"):
        scans[0]
    np.full(3, 9, np.uint8).tofile(label)
    with pytest.raises(InputError, match=f"{name}: 3 labels, its scan has 4 points"):
        scans[0]
    label.unlink()
    with pytest.raises(InputError, match=f"{name}: missing"):
        scans[0]
    scans.path(1).write_bytes(b"\0" * 21)
    with pytest.raises(InputError, match=r"pcd\.bin: 21 bytes"):
        scans[1]
    scans.path(1).unlink()
    with pytest.raises(InputError, match=r"pcd\.bin: No such file"):
        scans.num_points(1)


def test_ids_of_another_meaning_are_refused(tmp_path):
    swapped = (CATEGORIES[1], CATEGORIES[0], *CATEGORIES[2:])
    root = write_nuscenes(tmp_path, categories=swapped)
    with pytest.raises(InputError, match=r"category\.json: 'animal' has index 0.* has 1"):
        NuScenesLidarseg(root, "train", TRAIN)
    edit(root / "v1.0-trainval/category.json", lambda rows: [{"name": "tram", "index": 32}])
    with pytest.raises(InputError, match=r"'tram' has index 32.* has no id"):
        NuScenesLidarseg(root, "train", TRAIN)


def test_categories_without_index_are_those_before_lidarseg(root):
    def drop(rows):
        for row in rows:
            del row["index"]

    edit(root / "v1.0-trainval/category.json", drop)
    assert len(NuScenesLidarseg(root, "train", TRAIN)) == 4


def test_incomplete_tables_are_named(root):
    tables = root / "v1.0-trainval"
    edit(tables / "lidarseg.json", lambda rows: rows[:-1])
    with pytest.raises(InputError, match=r"lidarseg\.json: no labels of 1 key frames"):
        NuScenesLidarseg(root, "train", TRAIN)
    (tables / "lidarseg.json").unlink()
    with pytest.raises(InputError, match=r"lidarseg\.json: missing; nuScenes-lidarseg is"):
        NuScenesLidarseg(root, "train", TRAIN)
    edit(tables / "sample.json", lambda rows: [*rows, rows[0] | {"token": "another"}])
    with pytest.raises(InputError, match="4 lidar key frames for 5 samples"):
        NuScenesLidarseg(root, "train", TRAIN)
    edit(tables / "sample_data.json", lambda rows: [{"token": "a"}])
    with pytest.raises(InputError, match=r"sample_data\.json: a row has no field 'is_key_frame'"):
        NuScenesLidarseg(root, "train", TRAIN)
    (tables / "sensor.json").unlink()
    with pytest.raises(InputError, match=r"sensor\.json: missing"):
        NuScenesLidarseg(root, "train", TRAIN)


TEXT = st.sampled_from(["", "]},[{", '"', "\\", "Straße  a b", "a" * 50])
VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | TEXT | st.just([{"x": [1, {}]}])


@given(
    rows=st.lists(st.dictionaries(TEXT, VALUES, max_size=3), max_size=4),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_tables_are_read_across_chunks(tmp_path_factory, rows, indent, ascii_only, chunk):
    path = tmp_path_factory.getbasetemp() / "table.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pointdistill_ros.datasets.json_table._CHUNK", chunk)
        assert list(read_rows(path)) == rows


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "", "[1, 2]", '[{"a": 1}', '[{"a": 1}, {"b": ', "[{a}]"]
)
def test_damaged_tables_are_refused(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"table\.json"):
        list(read_rows(path))


def test_damage_is_found_without_reading_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("pointdistill_ros.datasets.json_table._CHUNK", 16)
    monkeypatch.setattr("pointdistill_ros.datasets.json_table._LONGEST_ROW", 64)
    path = tmp_path / "table.json"
    path.write_text('[{"a": 1}, {"b" 2}' + ", {}" * 1000 + "]")
    with pytest.raises(InputError, match=r"damaged table \(Expecting ':'"):
        list(read_rows(path))
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(InputError, match="cannot be read"):
        list(read_rows(path))


def test_a_real_key_frame_has_its_beams_in_the_table(real_data):
    path = next((real_data / "nuscenes_raw").glob("*.pcd.bin"))
    scan = read_nuscenes(path)
    assert len(scan) == path.stat().st_size // 20
    assert np.unique(scan.ring).tolist() == list(range(32))
    assert scan.intensity.max() <= 1
