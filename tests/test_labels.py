# SPDX-License-Identifier: Apache-2.0
"""Label sets: facts of the datasets, and the laws of mapping between ids."""

import numpy as np
import pytest

from pointdistill_ros import LabelSet
from pointdistill_ros.errors import LabelError
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.resources import config_path

NAMES = sorted(path.stem for path in config_path("labels").glob("*.yaml"))
SETS = {name: LabelSet.named(name) for name in NAMES}

CLASSES19 = ["car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist"]
CLASSES19 += ["motorcyclist", "road", "parking", "sidewalk", "other-ground", "building", "fence"]
CLASSES19 += ["vegetation", "trunk", "terrain", "pole", "traffic-sign"]
CLASSES7 = ["vehicle", "two-wheeler", "person", "road", "sidewalk", "structure", "nature"]
AUTOWARE = ["car", "truck", "bus", "motorcycle", "bicycle", "pedestrian", "animal", "hazard"]
AUTOWARE += ["ground", "structure", "vegetation", "noise"]

# Raw id → train id of the 19 and 7 classes; whatever is missing has no class there.
KITTI_TO_19 = {10: 0, 11: 1, 13: 4, 15: 2, 16: 4, 18: 3, 20: 4, 30: 5, 31: 6, 32: 7, 40: 8, 44: 9}
KITTI_TO_19 |= {48: 10, 49: 11, 50: 12, 51: 13, 60: 8, 70: 14, 71: 15, 72: 16, 80: 17, 81: 18}
KITTI_TO_19 |= {252: 0, 253: 6, 254: 5, 255: 7, 256: 4, 257: 4, 258: 3, 259: 4}
KITTI_TO_7 = {10: 0, 11: 1, 13: 0, 15: 1, 16: 0, 18: 0, 20: 0, 30: 2, 31: 2, 32: 2, 40: 3, 44: 3}
KITTI_TO_7 |= {48: 4, 49: 4, 50: 5, 51: 5, 60: 3, 70: 6, 71: 6, 72: 6, 80: 5, 81: 5, 252: 0}
KITTI_TO_7 |= {253: 2, 254: 2, 255: 2, 256: 0, 257: 0, 258: 0, 259: 0}
PANDASET_TO_19 = {5: 14, 6: 16, 7: 8, 8: 8, 9: 8, 10: 8, 11: 10, 13: 0, 14: 3, 15: 3, 16: 3, 17: 4}
PANDASET_TO_19 |= {18: 2, 19: 4, 20: 4, 21: 4, 22: 4, 23: 4, 26: 1, 27: 4, 28: 4, 29: 4, 30: 5}
PANDASET_TO_19 |= {31: 5, 35: 13, 36: 18, 38: 18, 41: 12}
PANDASET_TO_7 = {5: 6, 6: 6, 7: 3, 8: 3, 9: 3, 10: 3, 11: 4, 13: 0, 14: 0, 15: 0, 16: 0, 17: 0}
PANDASET_TO_7 |= {
    18: 1,
    19: 0,
    20: 0,
    21: 0,
    22: 0,
    23: 0,
    24: 1,
    25: 1,
    26: 1,
    27: 0,
    28: 0,
    29: 0,
}
PANDASET_TO_7 |= {30: 2, 31: 2, 35: 5, 36: 5, 38: 5, 39: 5, 41: 5}
NUSCENES_32_TO_16 = {2: 7, 3: 7, 4: 7, 6: 7, 9: 1, 12: 8, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6}
NUSCENES_32_TO_16 |= {22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 30: 16}
KITTI_WRITES = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]


def raw_to(label_set, raw_ids, target=None):
    """Raw id → train id of ``target`` (or of the set itself), without the unlabelled ones."""
    raw = np.array(raw_ids)
    labels = label_set.from_raw(raw)
    if target is not None:
        labels = label_set.remap_to(SETS[target])[labels]
    return {r: int(n) for r, n in zip(raw_ids, labels, strict=True) if n != UNLABELLED}


def all_raw(label_set):
    return [r for ids in (*label_set.raw_ids, label_set.ignore) for r in ids]


def test_what_is_shipped():
    assert set(NAMES) >= {"autoware", "common7", "nuscenes", "pandaset", "semantic-kitti", "waymo"}
    assert [len(SETS[n]) for n in ("semantic-kitti", "nuscenes", "waymo")] == [19, 16, 22]
    assert [len(SETS[n]) for n in ("pandaset", "autoware", "common7")] == [42, 12, 7]


@pytest.mark.parametrize("name", NAMES)
def test_file_is_consistent(name):
    label_set = SETS[name]
    assert label_set.name == name
    assert len(set(label_set.names)) == len(label_set)
    assert len(set(label_set.colours)) == len(label_set)
    assert all(0 <= channel <= 255 for colour in label_set.colours for channel in colour)
    assert (0, 0, 0) not in label_set.colours  # black is unlabelled
    for target in label_set.remaps:
        assert (label_set.remap_to(SETS[target])[: len(label_set)] != UNLABELLED).any()
    assert label_set.remap_to(label_set)[UNLABELLED] == UNLABELLED


@pytest.mark.parametrize("name", NAMES)
def test_raw_ids_round_trip(name):
    label_set = SETS[name]
    labels = np.array([*range(len(label_set)), UNLABELLED], np.uint8)
    np.testing.assert_array_equal(label_set.from_raw(label_set.to_raw(labels)), labels)
    assert label_set.to_raw(labels).dtype == np.uint32


@pytest.mark.parametrize("name", NAMES)
def test_unknown_raw_ids_are_named(name):
    for wrong in (max(all_raw(SETS[name])) + 1, 60_000, -1):
        with pytest.raises(LabelError, match=f"raw id {wrong} is not in label set {name}"):
            SETS[name].from_raw(np.array([SETS[name].raw_ids[0][0], wrong]))


@pytest.mark.parametrize("name", NAMES)
def test_dictionary_round_trip(name):
    assert LabelSet.from_dict(SETS[name].to_dict()) == SETS[name]


def test_semantic_kitti():
    kitti = SETS["semantic-kitti"]
    assert list(kitti.names) == CLASSES19
    raw = all_raw(kitti)
    assert len(raw) == 34
    assert raw_to(kitti, raw) == KITTI_TO_19
    assert raw_to(kitti, raw, "common7") == KITTI_TO_7
    assert kitti.to_raw(np.arange(19, dtype=np.uint8)).tolist() == KITTI_WRITES
    assert kitti.colours[kitti.index("road")] == (255, 0, 255)
    assert kitti.colours[kitti.index("car")] == (100, 150, 245)  # the official file stores BGR


def test_common7():
    assert list(SETS["common7"].names) == CLASSES7


def test_pandaset():
    pandaset = SETS["pandaset"]
    raw = list(range(43))
    assert raw_to(pandaset, raw) == {r: r - 1 for r in range(1, 43)}
    assert raw_to(pandaset, raw, "common7") == PANDASET_TO_7
    assert raw_to(pandaset, raw, "semantic-kitti") == PANDASET_TO_19
    assert (pandaset.names[0], pandaset.names[41]) == ("Smoke", "Other Static Object")


def test_nuscenes():
    nuscenes = SETS["nuscenes"]
    raw = list(range(32))
    assert raw_to(nuscenes, raw) == {r: n - 1 for r, n in NUSCENES_32_TO_16.items()}
    assert (nuscenes.names[0], nuscenes.names[15]) == ("barrier", "vegetation")
    assert nuscenes.colours[nuscenes.index("pedestrian")] == (0, 0, 230)


def test_waymo():
    waymo = SETS["waymo"]
    assert raw_to(waymo, list(range(23))) == {r: r - 1 for r in range(1, 23)}
    assert (waymo.names[0], waymo.names[16], waymo.names[21]) == ("car", "curb", "sidewalk")


def test_autoware_enum():
    assert list(SETS["autoware"].names) == AUTOWARE
    assert raw_to(SETS["autoware"], list(range(12))) == {i: i for i in range(12)}


@pytest.mark.parametrize("name", ["semantic-kitti", "nuscenes", "waymo", "pandaset"])
def test_every_class_has_its_place_in_autoware(name):
    table = SETS[name].remap_to(SETS["autoware"])
    assert (table[: len(SETS[name])] != UNLABELLED).all()
    assert (table[len(SETS[name]) :] == UNLABELLED).all()


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("semantic-kitti", {"person": "pedestrian", "trunk": "vegetation", "parking": "ground"}),
        ("nuscenes", {"traffic_cone": "hazard", "trailer": "truck", "manmade": "structure"}),
        ("waymo", {"bicyclist": "bicycle", "lane_marker": "ground", "sign": "structure"}),
        ("pandaset", {"Animals - Bird": "animal", "Smoke": "noise", "Tram / Subway": "bus"}),
    ],
)
def test_autoware_remaps(name, pairs):
    table = SETS[name].remap_to(SETS["autoware"])
    for here, there in pairs.items():
        assert table[SETS[name].index(here)] == SETS["autoware"].index(there)


def test_missing_remap_and_names_are_refused():
    with pytest.raises(LabelError, match="common7 has no remap to waymo"):
        SETS["common7"].remap_to(SETS["waymo"])
    with pytest.raises(LabelError, match="no class 'boat'"):
        SETS["waymo"].index("boat")
    with pytest.raises(LabelError, match=r"no label set 'kitti'; known: .*semantic-kitti"):
        LabelSet.named("kitti")


def test_palette_is_black_where_unlabelled():
    palette = SETS["semantic-kitti"].palette
    assert palette.shape == (256, 3)
    assert palette[8].tolist() == [255, 0, 255]
    assert not palette[19:].any()


def tiny(**changes):
    values = {"name": "t", "names": ("a",), "colours": ((1, 2, 3),), "raw_ids": ((1,),)}
    return LabelSet(**(values | changes))


def test_contradictions_are_refused():
    for changes in ({"names": ("a", "b")}, {"raw_ids": ((0, 1),)}, {"raw_ids": ((1, 1),)}):
        with pytest.raises(LabelError):
            tiny(**changes)
    many = {"names": tuple("abc" * 86), "colours": ((1, 2, 3),) * 258, "raw_ids": ((),) * 258}
    with pytest.raises(LabelError, match="at most 255"):
        tiny(**many)


def test_all_255_train_ids_are_usable():
    full = tiny(
        names=tuple(f"c{i}" for i in range(255)),
        colours=((1, 2, 3),) * 255,
        raw_ids=tuple((i + 1,) for i in range(255)),
    )
    labels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(full.from_raw(full.to_raw(labels)), labels)


@pytest.mark.parametrize("text", ["", "name: x", "classes: 3", "a: [", "name: x\nclasses: [{}]"])
def test_files_that_are_no_label_sets(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(LabelError, match=r"a\.yaml: not a label set"):
        LabelSet.load(tmp_path / "a.yaml")
