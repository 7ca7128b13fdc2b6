# SPDX-License-Identifier: Apache-2.0
"""What the comparison node takes from others: any bytes, any labels, any class_info. No DDS.

Long form: ``python -m pytest tests/abuse/test_hostile_comparison.py -m slow``.
"""

import json
import tracemalloc
from array import array
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="ROS messages are not installed")

from pointdistill_ros.errors import CloudError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes import comparison_messages as messages
from pointdistill_ros.nodes.comparator import Comparator, Labeller
from pointdistill_ros.nodes.pairing import SIDES
from pointdistill_ros.nodes.status import Level
from tests.abuse.hostile import FORMATS, UINT32, cloud_of, hostile, street

KITTI = LabelSet.named("semantic-kitti")
DEPTH = 4
MAX_MEMORY = 3 << 20
"""Bytes: what waits, the window, and the layouts that the codec remembers."""
pytestmark = pytest.mark.timeout(900)


def labelled(random, points=200, **columns):
    """A cloud with sound labels, unless ``columns`` say otherwise."""
    xyz = street(random, points)
    content = dict(zip("xyz", xyz.T, strict=True))
    content["class_id"] = random.integers(0, 19, points).astype("u1")
    content["probability"] = random.random(points, dtype="f4")
    return cloud_of(content | columns)


def any_class(random):
    """Ids that no label set knows among them."""
    return labelled(random, class_id=random.integers(0, 256, 200).astype("u1"))


def class_of_another_type(random):
    kind = random.choice(["i1", "u2", "f4", "f8"])
    return labelled(random, class_id=random.integers(0, 19, 200).astype(kind))


def no_probability(random):
    message = labelled(random)
    message.fields = [field for field in message.fields if field.name != "probability"]
    return message


def strange_probability(random):
    values = [nan, np.inf, -np.inf, -1.0, 1.0001, 2.0, 3e38, 1e-45, -0.0]
    return labelled(random, probability=random.choice(values, 200).astype("f4"))


def probability_of_another_type(random):
    kind = random.choice(["u1", "i4", "f8"])
    return labelled(random, probability=random.integers(0, 2, 200).astype(kind))


def other_points(random):
    return labelled(random, int(random.integers(0, 300)))


def no_points(random):
    message = labelled(random)
    message.data, message.width = array("B"), 0
    return message


def not_finite(random):
    message = labelled(random)
    at = np.frombuffer(message.data, np.uint8).reshape(200, -1)
    at[:: int(random.integers(1, 9)), :12] = 255
    return message


def another_frame(random):
    message = labelled(random)
    message.header.frame_id = "é" * int(random.integers(1000))
    return message


def one_number_wrong(random):
    message = labelled(random)
    field = message.fields[int(random.integers(len(message.fields)))]
    field.offset = int(random.choice([field.offset + 1, 0, 17, UINT32]))
    field.datatype = int(random.choice([field.datatype, *FORMATS, 0, 9]))
    name = random.choice(["height", "width", "point_step", "row_step"])
    if random.random() < 0.5:
        setattr(message, name, int(random.choice([0, 1, 7, 201, 2**31, UINT32])))
    return message


KINDS = (
    labelled, any_class, class_of_another_type, no_probability, strange_probability,
    probability_of_another_type, other_points, no_points, not_finite, another_frame,
    one_number_wrong,
)  # fmt: skip


def publish(comparison):
    """Everything that the node makes of a comparison."""
    messages.comparison_message(comparison)
    messages.window_message(comparison)
    messages.disagreement_cloud(comparison.header, comparison.differs, KITTI)
    messages.summary_marker(comparison, Level.OK)


def good_pair(comparator, stamp):
    """The divergence and agreement of two sound labellings of one cloud."""
    first, second = labelled(np.random.default_rng(1)), labelled(np.random.default_rng(1))
    labels = np.frombuffer(second.data, np.uint8).reshape(200, -1)[:50, 12]
    labels[...] = (labels + 1) % 19
    found = None
    for side, message in zip(SIDES, (first, second), strict=True):
        message.header.stamp.sec = stamp
        found = comparator.take(side, message, 0.1, 0.0)
    publish(found)
    return found.agreement.agreement, found.agreement.divergence


@pytest.mark.parametrize(
    "count", [400, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_any_clouds_are_compared_or_refused_and_leave_nothing(count):
    comparator = Comparator(DEPTH, window=10)
    for side in SIDES:
        comparator.introduce(side, Labeller(side, KITTI))
    expected = good_pair(comparator, 2_000_000)
    assert expected[0] == 0.75 and 0 < expected[1] < 1
    random = np.random.default_rng(5)
    compared, refused, sent = 0, 0, 2
    memory = []
    tracemalloc.start()
    try:
        for number in range(count):
            same = int(
                random.integers(2**32)
            )  # both sides may see one cloud, labelled alike or not
            for side in SIDES:
                kind = KINDS[int(random.integers(len(KINDS)))]
                message = kind(np.random.default_rng(same))
                if random.random() < 0.1:
                    message = hostile(number).message
                message.header.stamp.sec = number if random.random() < 0.9 else -(2**31)
                try:
                    comparison = comparator.take(side, message, nan, float(number))
                except (CloudError, LabelError) as error:
                    refused += 1
                    assert len(str(error)) < 2000
                    continue
                if comparison is not None:
                    compared += 1
                    agreement = comparison.agreement
                    assert not agreement.points or 0 <= agreement.agreement <= 1
                    assert not agreement.points or 0 <= agreement.divergence <= 1
                    assert not agreement.points or 0 <= comparison.window.divergence <= 1
                    publish(comparison)
            if number % 50 == 49:
                assert good_pair(comparator, 1_000_000 + number) == expected
                sent += 2
                memory.append(tracemalloc.get_traced_memory()[0])
            for side in SIDES:
                assert 0 <= comparator.counters(side).waiting <= DEPTH
    finally:
        tracemalloc.stop()
    assert min(compared, refused) > count / 20, "both ends are really tried"
    assert memory[-1] < MAX_MEMORY, memory


NAMES = ["", "/", "..", "../../../etc/passwd", "a" * 5000, "semantic-kitti", "\0", "é", "nuscenes/"]


def any_class_info(random):
    """Fields of a ClassInfo, or JSON of anything."""
    names = [str(random.choice(["car", "", "a" * 3000])) for _ in range(random.integers(0, 300))]
    channels = int(random.choice([3 * len(names), random.integers(0, 1300)]))
    content = {
        "label_set": str(random.choice(NAMES)),
        "model_id": str(random.choice(NAMES)),
        "names": names,
        "rgb": random.integers(0, 256, channels).tolist(),
    }
    if random.random() < 0.5:
        return SimpleNamespace(**content)
    from std_msgs.msg import String

    for key in list(content):
        if random.random() < 0.2:
            content[key] = [None, 7, [[]], {"a": 1}, "x", -1e300][int(random.integers(6))]
    text = json.dumps(content)
    return String(data=text if random.random() < 0.8 else text[: int(random.integers(len(text)))])


def understand(message):
    """The label set it tells; None where it is refused."""
    try:
        return messages.labeller(message).label_set
    except LabelError:
        return None


def test_any_class_info_is_understood_or_refused():
    random = np.random.default_rng(9)
    understood = refused = 0
    for _ in range(200):
        label_set = understand(any_class_info(random))
        if label_set is None:
            refused += 1
        else:
            understood += 1
            assert len(label_set) <= 255
            assert len(label_set.palette) == 256
    assert min(understood, refused) > 20, "both ends are really tried"


@pytest.mark.parametrize(
    "name", ["../datasets/nuscenes", "/etc/hostname", "..", "a" * 5000], ids=lambda n: n[:9]
)
def test_a_label_sets_name_is_no_path(name, monkeypatch):
    """The name comes over the wire: no file may be opened for it."""
    asked = []
    monkeypatch.setattr(LabelSet, "named", lambda given: asked.append(given) or KITTI)
    info = SimpleNamespace(label_set=name, model_id="m", names=["car"], rgb=[1, 2, 3])
    label_set = understand(info)
    assert label_set is None or label_set.names == ("car",)
    assert asked == []


def test_a_label_sets_name_that_cannot_be_printed_is_refused(monkeypatch):
    monkeypatch.setattr(LabelSet, "named", None)  # nor is a file opened for it
    info = SimpleNamespace(label_set="\0", model_id="m", names=["car"], rgb=[1, 2, 3])
    with pytest.raises(LabelError, match="cannot be printed"):
        messages.labeller(info)


def test_a_teacher_of_a_label_set_without_a_way_to_the_students_is_refused_until_replaced():
    strange = LabelSet("strange", ("a", "b"), ((0, 0, 0), (1, 1, 1)), ((1,), (2,)))
    comparator = Comparator(DEPTH, window=10)
    comparator.introduce("student", Labeller("student", KITTI))
    comparator.introduce("teacher", Labeller("teacher", strange))
    for stamp in range(3):
        first, second = (labelled(np.random.default_rng(1)) for _ in SIDES)
        for message in (first, second):
            message.header.stamp.sec = stamp
            np.frombuffer(message.data, np.uint8).reshape(200, -1)[:, 12] = 0
        assert comparator.take("student", first, 0.1, 0.0) is None
        with pytest.raises(LabelError, match="strange has no remap to semantic-kitti"):
            comparator.take("teacher", second, 0.1, 0.0)
    comparator.introduce("teacher", Labeller("another", KITTI))
    assert good_pair(comparator, 9)[0] == 0.75
