# SPDX-License-Identifier: Apache-2.0
"""What a stranger may put on a class_info topic: LabelError, or a label set that does no harm."""

import json

import pytest

from pointdistill_ros.errors import LabelError

pytest.importorskip("rclpy", reason="rclpy is not installed")

GOOD = {"label_set": "x", "model_id": "m", "names": ["a", "b"], "rgb": [1, 2, 3, 4, 5, 6]}


def labeller(text):
    from std_msgs.msg import String

    from pointdistill_ros.nodes.comparison_messages import labeller

    return labeller(String(data=text))


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "7", "[]", "{}", "nonsense", "[" * 100_000, '"x"'),
        json.dumps(GOOD | {"rgb": [float("inf")] * 6}),
        json.dumps(GOOD | {"rgb": [256] * 6}),
        json.dumps(GOOD | {"rgb": [-1] * 6}),
        json.dumps(GOOD | {"rgb": [1, 2, 3]}),
        json.dumps(GOOD | {"rgb": None}),
        json.dumps(GOOD | {"names": ["a"] * 300, "rgb": [1] * 900}),
        json.dumps(GOOD | {"names": ["a", "\ud800"]}),
        json.dumps(GOOD | {"model_id": "two\nlines"}),
        json.dumps(GOOD | {"label_set": "\0"}),
    ],
    ids=lambda text: text[:20],
)
def test_nonsense(text):
    with pytest.raises(LabelError) as caught:
        labeller(text)
    str(caught.value).encode("utf-8")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["../labels/waymo", "/etc/passwd", "a" * 5000, "semantic-kitti"])
def test_names_lead_to_no_file(name):
    told = labeller(json.dumps(GOOD | {"label_set": name}))
    assert told.label_set.names == ("a", "b")
    assert told.label_set.name == name
