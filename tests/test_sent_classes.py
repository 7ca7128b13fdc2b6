# SPDX-License-Identifier: Apache-2.0
"""The classes that go out: the network's own, or another label set's. No ROS."""

import numpy as np
import pytest

from pointdistill_ros.errors import LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.sent_classes import SentClasses

KITTI = LabelSet.named("semantic-kitti")
AUTOWARE = ["CAR", "TRUCK", "BUS", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN", "ANIMAL", "HAZARD"]
AUTOWARE += ["GROUND", "STRUCTURE", "VEGETATION", "NOISE"]
"""autoware's SemanticLabel, in the order of its numbers."""


def every_class(label_set=KITTI):
    labels = np.array([*range(len(label_set)), 255], np.uint8)
    share = np.linspace(0.1, 0.9, len(labels), dtype=np.float32)
    share[-1] = 0
    return Segmentation(labels, share, 1 - share, label_set, {"total": 2.0}, 7, "step")


@pytest.mark.parametrize("name", ["model", "semantic-kitti"])
def test_the_networks_own_classes_go_out_untouched(name):
    given = every_class()
    sent = SentClasses(KITTI, name)
    assert sent(given) is given
    assert sent.label_set is KITTI


def test_autowares_numbers_are_autowares():
    sent = SentClasses(KITTI, "autoware")
    assert [name.upper() for name in sent.label_set.names] == AUTOWARE
    given = every_class()
    got = sent(given)
    expected = {
        "car": "CAR",
        "bicyclist": "BICYCLE",
        "motorcycle": "MOTORCYCLE",
        "other-vehicle": "TRUCK",
        "person": "PEDESTRIAN",
        "road": "GROUND",
        "terrain": "GROUND",
        "building": "STRUCTURE",
        "trunk": "VEGETATION",
    }
    for ours, theirs in expected.items():
        assert got.labels[KITTI.index(ours)] == AUTOWARE.index(theirs), ours
    assert got.labels[-1] == 255
    np.testing.assert_array_equal(got.probability, given.probability)
    assert (got.timing, got.voxels, got.degradation) == ({"total": 2.0}, 7, "step")
    assert given.label_set is KITTI and given.labels[8] == 8, "the input is left alone"


def test_a_class_without_counterpart_is_unlabelled():
    remaps = {"autoware": {"car": "car"}}
    network = LabelSet("two", ("car", "ufo"), ((1, 1, 1), (2, 2, 2)), ((1,), (2,)), (0,), remaps)
    got = SentClasses(network, "autoware")(every_class(network))
    assert got.labels.tolist() == [0, 255, 255]
    assert got.probability.tolist()[1:] == got.entropy.tolist()[1:] == [0, 0]


@pytest.mark.parametrize(
    ("name", "reason"), [("nuscenes", "no remap to nuscenes"), ("cityscapes", "no label set")]
)
def test_classes_that_are_not_to_be_had_are_named(name, reason):
    with pytest.raises(LabelError, match=reason):
        SentClasses(KITTI, name)


def test_members_are_those_of_the_classes_that_go_out():
    members = SentClasses(KITTI).members(["road", "parking"])
    assert np.flatnonzero(members).tolist() == [KITTI.index("road"), KITTI.index("parking")]
    assert not SentClasses(KITTI).members([]).any()
    ground = SentClasses(KITTI, "autoware")
    assert np.flatnonzero(ground.members(["ground"])).tolist() == [AUTOWARE.index("GROUND")]
    with pytest.raises(LabelError, match="autoware has no class 'road'; known: car, truck"):
        ground.members(["ground", "road"])
    with pytest.raises(LabelError, match="no class ''"):
        ground.members([""])
