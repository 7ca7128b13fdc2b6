# SPDX-License-Identifier: Apache-2.0
"""Comparisons as messages, ours and JSON, and back. No DDS."""

import json
from math import isnan, nan

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="ROS messages are not installed")

from std_msgs.msg import Header, String

from pointdistill_ros.errors import LabelError
from pointdistill_ros.evaluation.agreement import Labelling, compare
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes import comparison_messages as messages
from pointdistill_ros.nodes import messages as node_messages
from pointdistill_ros.nodes.comparator import Comparison, Differences, Labeller, Times
from pointdistill_ros.nodes.status import Level

KITTI = LabelSet.named("semantic-kitti")


def u8(*values):
    return np.array(values, np.uint8)


@pytest.fixture
def comparison():
    """Two of three points agree; the ages of the teacher are unknown."""
    student, teacher = u8(0, 1, 255), u8(0, 1, 3)
    agreement = compare(Labelling(student), Labelling(teacher), len(KITTI), np.array([0, 0, 4]))
    header = Header(frame_id="roof/lidar")
    header.stamp.sec, header.stamp.nanosec = 1_600_000_000, 7
    differs = Differences(
        np.array([[1, 2, 3]], np.float32), (u8(255), u8(3)), (np.float32([nan]), np.float32([0.5]))
    )
    return Comparison(
        header,
        Labeller("small", KITTI),
        Labeller("big", KITTI),
        agreement,
        agreement + agreement,
        2,
        Times(0.1, nan, 0.5),
        Times(0.2, nan, 0.25),
        differs,
    )


@pytest.fixture(params=["our message", "JSON"])
def kind(request, monkeypatch):
    if request.param == "JSON":
        monkeypatch.setattr(messages, "ModelComparison", None)
        assert messages.comparison_type() is String
    elif messages.ModelComparison is None:
        pytest.skip("our messages are not built")
    return request.param


def test_both_types_carry_the_same_content(comparison, kind):
    for message, clouds, points, age in (
        (messages.comparison_message(comparison), 1, 3, 100.0),
        (messages.window_message(comparison), 2, 6, 200.0),
    ):
        assert isinstance(message, messages.comparison_type())
        fields = messages.comparison_fields(message)
        assert fields["header"] == {
            "stamp": {"sec": 1_600_000_000, "nanosec": 7},
            "frame_id": "roof/lidar",
        }
        assert (fields["student_id"], fields["teacher_id"]) == ("small", "big")
        assert (fields["label_set"], fields["divergence_basis"]) == ("semantic-kitti", "labels")
        assert (fields["clouds"], fields["points"]) == (clouds, points)
        assert fields["agreement"] == pytest.approx(2 / 3)
        assert fields["divergence"] == pytest.approx(1 / 3)
        np.testing.assert_allclose(fields["class_iou"][:5], [1, 1, nan, 0, nan])
        assert len(fields["class_iou"]) == len(KITTI)
        np.testing.assert_allclose(fields["band_begin"], [0, 10, 20, 30, 50])
        np.testing.assert_allclose(fields["band_points"], [2 * clouds, 0, 0, 0, clouds])
        np.testing.assert_allclose(fields["band_agreement"], [1, nan, nan, nan, 0])
        np.testing.assert_allclose(fields["band_divergence"], [0, nan, nan, nan, 1])
        assert fields["student_age_ms"] == pytest.approx(age)
        assert isnan(fields["teacher_age_ms"])


def test_json_is_what_every_reader_understands(comparison, monkeypatch):
    monkeypatch.setattr(messages, "ModelComparison", None)
    content = json.loads(messages.comparison_message(comparison).data, parse_constant=pytest.fail)
    assert content["teacher_age_ms"] is None


def test_every_field_of_the_message_is_filled(comparison, monkeypatch):
    if messages.ModelComparison is None:
        pytest.skip("our messages are not built")
    fields = set(messages.ModelComparison.get_fields_and_field_types())
    monkeypatch.setattr(messages, "ModelComparison", None)
    assert set(json.loads(messages.comparison_message(comparison).data)) == fields


def test_the_disagreement_cloud_has_both_labels_and_the_teachers_colour(comparison):
    cloud = messages.disagreement_cloud(comparison.header, comparison.differs, KITTI)
    assert cloud.header == comparison.header
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 1, 28, 28)
    at = {field.name: (field.offset, field.datatype) for field in cloud.fields}
    column = {
        name: np.frombuffer(cloud.data, "<f4" if datatype == 7 else "u1", 1, offset)[0]
        for name, (offset, datatype) in at.items()
    }
    assert [column[axis] for axis in "xyz"] == [1, 2, 3]
    assert (column["student_class"], column["teacher_class"]) == (255, 3)
    assert isnan(column["student_probability"])
    assert column["teacher_probability"] == 0.5
    red, green, blue = KITTI.colours[3]
    assert np.frombuffer(cloud.data, "<u4", 1, at["rgb"][0])[0] == red << 16 | green << 8 | blue
    assert cloud.is_dense


def test_the_summary_says_agreement_and_latencies_in_the_colour_of_the_level(comparison):
    fine = messages.summary_marker(comparison, Level.OK)
    assert fine.header == comparison.header
    assert "agreement 66.7 %, last 2 clouds 66.7 %" in fine.text
    assert "student 200 ms, teacher unknown; teacher later by 250 ms" in fine.text
    ill = messages.summary_marker(comparison, Level.ERROR)
    assert (ill.color.r > fine.color.r) and (ill.color.g < fine.color.g)


@pytest.mark.parametrize("built", [True, False])
def test_class_info_tells_who_labels(built, monkeypatch):
    if not built:
        monkeypatch.setattr(node_messages, "ClassInfo", None)
    elif node_messages.ClassInfo is None:
        pytest.skip("our messages are not built")
    known = messages.labeller(node_messages.class_info(KITTI, "small", "abc"))
    assert known == Labeller("small", KITTI)
    own = LabelSet("semantic-kitti", ("a", "b"), ((1, 2, 3), (4, 5, 6)), ((1,), (2,)))
    learnt = messages.labeller(node_messages.class_info(own, "other", "abc")).label_set
    assert (learnt.names, learnt.colours) == (own.names, own.colours)


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "{}", '{"label_set": "x", "model_id": "y", "names": ["a"], "rgb": []}'],
)
def test_class_info_that_makes_no_sense_is_refused(text):
    with pytest.raises(LabelError, match="class_info"):
        messages.labeller(String(data=text))
