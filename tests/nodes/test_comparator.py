# SPDX-License-Identifier: Apache-2.0
"""Labelled clouds of two models in, comparisons out. No ROS."""

from dataclasses import fields
from math import isnan, nan
from types import SimpleNamespace

import numpy as np
import pytest

from pointdistill_ros.errors import CloudError, LabelError
from pointdistill_ros.evaluation.agreement import Labelling, compare
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.io.pointcloud2 import encode_labels, encode_scan
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.comparator import Comparator, Labeller
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

KITTI = LabelSet.named("semantic-kitti")


def scan(points=500, seed=0):
    xyz = np.random.default_rng(seed).normal(0, 20, (points, 3)).astype(np.float32)
    xyz[::50] = np.nan
    return LidarScan(xyz)


def labels_of(scan, seed):
    labels = np.random.default_rng(seed).integers(0, 4, len(scan)).astype(np.uint8)
    labels[~scan.valid] = 255
    return labels


def labelled(scan, labels, stamp=(7, 5), frame="lidar", layout="xyzcpe_aligned"):
    """The message a node would publish."""
    probability = np.where(labels == 255, 0, 0.6 + 0.3 * (labels % 2)).astype(np.float32)
    result = Segmentation(labels, probability, probability, KITTI)
    parts = encode_labels(encode_scan(scan), result, layout)
    stamp = SimpleNamespace(sec=stamp[0], nanosec=stamp[1])
    header = SimpleNamespace(stamp=stamp, frame_id=frame)
    return SimpleNamespace(header=header, **{f.name: getattr(parts, f.name) for f in fields(parts)})


@pytest.fixture
def comparator():
    comparator = Comparator(depth=4, window=3)
    comparator.introduce("student", Labeller("small", KITTI))
    comparator.introduce("teacher", Labeller("big", KITTI))
    return comparator


@pytest.mark.parametrize("layout", ["xyzcpe_aligned", "xyzcpe_packed", "append"])
@pytest.mark.parametrize("first", ["student", "teacher"])
def test_a_cloud_of_both_is_compared_whoever_comes_first(comparator, first, layout):
    cloud = scan()
    says = {"student": labels_of(cloud, 1), "teacher": labels_of(cloud, 2)}
    second = "teacher" if first == "student" else "student"
    ages = {first: 0.1, second: 0.4}
    assert comparator.take(first, labelled(cloud, says[first]), 0.1, 50.0) is None
    found = comparator.take(second, labelled(cloud, says[second], layout=layout), 0.4, 50.5)
    probability = [0.6 + 0.3 * (says[side] % 2) for side in ("student", "teacher")]
    sides = [
        Labelling(says[s], p) for s, p in zip(("student", "teacher"), probability, strict=True)
    ]
    expected = compare(*sides, len(KITTI), band_of(cloud.xyz))
    np.testing.assert_array_equal(found.agreement.counts, expected.counts)
    assert found.agreement.basis == "tops"
    assert found.agreement.divergence == pytest.approx(expected.divergence, abs=1e-6)
    assert (found.student.model_id, found.teacher.model_id) == ("small", "big")
    assert found.header.stamp.sec == 7
    assert (found.times.student_age, found.times.teacher_age) == (ages["student"], ages["teacher"])
    assert found.times.lag == (0.5 if first == "student" else -0.5)

    differs = np.flatnonzero(says["student"] != says["teacher"])
    np.testing.assert_array_equal(found.differs.xyz, cloud.xyz[differs])
    np.testing.assert_array_equal(found.differs.labels[0], says["student"][differs])
    np.testing.assert_array_equal(found.differs.labels[1], says["teacher"][differs])
    np.testing.assert_allclose(found.differs.probability[1], probability[1][differs], rtol=1e-6)


def pairs(comparator, stamps):
    """Comparisons of clouds with these stamps, student 0.1 s · stamp old, teacher unknown."""
    found = []
    for stamp in stamps:
        cloud = scan(100, seed=stamp)
        comparator.take("student", labelled(cloud, labels_of(cloud, 1), (stamp, 0)), 0.1 * stamp, 0)
        found.append(
            comparator.take("teacher", labelled(cloud, labels_of(cloud, 2), (stamp, 0)), nan, stamp)
        )
    return found


def test_the_window_sums_the_last_clouds_and_takes_the_median_of_their_times(comparator):
    found = pairs(comparator, range(1, 6))
    assert [comparison.clouds for comparison in found] == [1, 2, 3, 3, 3]
    last = found[-1]
    expected = sum(comparison.agreement.counts for comparison in found[-3:])
    np.testing.assert_array_equal(last.window.counts, expected)
    assert last.window_times.student_age == pytest.approx(0.4)
    assert isnan(last.window_times.teacher_age)
    assert last.window_times.lag == 4


def test_another_model_begins_a_new_window(comparator):
    pairs(comparator, range(1, 4))
    comparator.introduce("teacher", Labeller("big", KITTI))  # the same once more
    assert pairs(comparator, [4])[0].clouds == 3
    comparator.introduce("teacher", Labeller("bigger", KITTI))
    after = pairs(comparator, [5, 6])
    assert [comparison.clouds for comparison in after] == [1, 2]
    assert after[0].window_times.lag == 5


def test_limits_can_change_while_running(comparator):
    pairs(comparator, range(1, 4))
    comparator.resize(depth=2, window=1)
    assert pairs(comparator, [9])[0].clouds == 1
    for stamp in range(20, 25):
        cloud = scan(10)
        comparator.take("student", labelled(cloud, labels_of(cloud, 1), (stamp, 0)), 0.1, 0.0)
    assert comparator.counters("student").waiting == 2


def test_the_teachers_classes_are_mapped_to_the_students(comparator):
    pandaset = LabelSet.named("pandaset")
    known = pandaset.remaps[KITTI.name]
    comparator.introduce("teacher", Labeller("big", pandaset))
    there, here = next(iter(known.items()))
    lonely = next(name for name in pandaset.names if name not in known)
    cloud = LidarScan(np.ones((2, 3), np.float32))
    student = np.full(2, KITTI.index(here), np.uint8)
    teacher = np.array([pandaset.index(there), pandaset.index(lonely)], np.uint8)
    comparator.take("student", labelled(cloud, student), 0.1, 0.0)
    found = comparator.take("teacher", labelled(cloud, teacher), 0.1, 0.0)
    assert found.agreement.agreement == 0.5
    assert found.differs.labels[1].tolist() == [255]


def both(comparator, student, teacher):
    comparator.take("student", student, 0.1, 0.0)
    return comparator.take("teacher", teacher, 0.1, 0.0)


def test_what_is_not_the_same_cloud_is_refused_and_the_next_pair_works(comparator):
    cloud, other = scan(500), scan(500, seed=1)
    labels = labels_of(cloud, 1)
    fewer = scan(400)
    strangers = {
        "different points": labelled(other, labels_of(other, 1)),
        "points, teacher's of the same stamp 400": labelled(fewer, labels_of(fewer, 1)),
        "'base_link'": labelled(cloud, labels, frame="base_link"),
        "class 200 is not in its label set": labelled(cloud, np.where(labels == 1, 200, labels)),
    }
    for stamp, (reason, stranger) in enumerate(strangers.items()):
        stranger.header.stamp.sec = stamp
        with pytest.raises(LabelError, match=reason):
            both(comparator, labelled(cloud, labels, (stamp, 5)), stranger)
    assert both(comparator, labelled(cloud, labels), labelled(cloud, labels)).clouds == 1


def test_class_ids_without_a_meaning_are_refused():
    comparator = Comparator(4, 3)
    comparator.introduce("student", Labeller("small", KITTI))
    cloud = scan()
    with pytest.raises(LabelError, match="teacher/class_info"):
        both(comparator, *[labelled(cloud, labels_of(cloud, 1))] * 2)


def test_clouds_without_labels_are_refused_and_not_paired(comparator):
    cloud = scan()
    with pytest.raises(CloudError, match="class_id"):
        comparator.take("student", labelled(cloud, labels_of(cloud, 1), layout="rgb"), 0.1, 0.0)
    assert comparator.counters("student").received == 0


def test_empty_clouds_agree_on_nothing_and_keep_the_window(comparator):
    pairs(comparator, [1])
    nothing = labelled(scan(0), np.empty(0, np.uint8), (2, 0))
    found = both(comparator, nothing, nothing)
    assert (found.clouds, found.agreement.points) == (2, 0)
    assert isnan(found.agreement.agreement)
    assert found.window.points > 0


def test_what_waits_does_not_hold_the_message(comparator):
    """A waiting cloud costs a byte for the label, four for the probability, and the sample."""
    import tracemalloc

    cloud = scan(100_000)
    message = labelled(cloud, labels_of(cloud, 1))
    tracemalloc.start()
    comparator.take("student", message, 0.1, 0.0)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 5 * 100_000 <= kept < 5.5 * 100_000
