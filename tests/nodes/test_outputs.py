# SPDX-License-Identifier: Apache-2.0
"""What is made for whom: publishers are counted by hand, messages are real."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from std_msgs.msg import Header

from pointdistill_ros.config import FilterConfig, NodeConfig, OutputConfig
from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.pointcloud2 import decode
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes import messages
from pointdistill_ros.nodes.outputs import CLOUDS, STATS, TIMES, Labelled, Outputs
from pointdistill_ros.nodes.worker import Counters
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.sent_classes import SentClasses

KITTI = LabelSet.named("semantic-kitti")
LABELLED, VISUALIZATION, FILTERED = CLOUDS


class Publisher:
    def __init__(self):
        self.listeners, self.sent = 0, []

    def get_subscription_count(self):
        return self.listeners

    def publish(self, message):
        self.sent.append(message)


class Node:
    """Keeps the publishers it makes."""

    def __init__(self):
        self.publishers, self.latched = {}, {}

    def create_lifecycle_publisher(self, kind, topic, qos, **options):
        return self.publishers.setdefault(topic, Publisher())

    def create_publisher(self, kind, topic, qos):
        return self.latched.setdefault(topic, Publisher())

    def destroy_lifecycle_publisher(self, publisher):
        for made in (self.publishers, self.latched):
            for topic in [topic for topic, one in made.items() if one is publisher]:
                del made[topic]

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: Header().stamp))


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def outputs(node):
    return Outputs(node, SentClasses(KITTI), "model", "0" * 64)


@pytest.fixture
def labelled(cloud):
    """A cloud of 40 points and its segmentation: car, road in turns, the last without a class."""
    given = cloud(40, height=4)
    labels = np.array([KITTI.index("car"), KITTI.index("road")] * 20, np.uint8)
    labels[-1] = 255
    probability = np.linspace(0, 1, 40, dtype=np.float32)
    probability[-1] = 0
    return given, Segmentation(labels, probability, 1 - probability, KITTI)


def sent(node):
    return {topic for topic, publisher in node.publishers.items() if publisher.sent}


@pytest.mark.parametrize("topic", CLOUDS)
def test_only_what_someone_listens_to_is_made(node, outputs, labelled, topic, monkeypatch):
    made = []
    for name in ("write", "fill"):
        whole = getattr(messages.CloudWriter, name)

        def count(self, *arguments, whole=whole):
            made.append(self)
            return whole(self, *arguments)

        monkeypatch.setattr(messages.CloudWriter, name, count)
    assert not outputs.heard
    assert outputs.publish_clouds(*labelled, NodeConfig()) == ""
    assert (made, sent(node)) == ([], set())
    node.publishers[topic].listeners = 1
    assert outputs.heard
    outputs.publish_clouds(*labelled, NodeConfig())
    assert sent(node) == {topic}
    assert len(set(map(id, made))) == 1


def figures():
    return {step: float(number) for number, step in enumerate(TIMES, 1)}


def test_times_go_out_one_by_one_as_plain_numbers(node, outputs, labelled):
    done = Labelled(labelled[0].header, labelled[1], figures())
    outputs.publish_figures(done, Counters(), (0, ""))
    assert sent(node) == set()
    for topic in TIMES.values():
        node.publishers[topic].listeners = 1
        assert outputs.heard, "a listener to a time alone wants clouds to be labelled"
    outputs.publish_figures(done, Counters(), (0, ""))
    assert sent(node) == set(TIMES.values())
    got = {step: node.publishers[topic].sent[0].data for step, topic in TIMES.items()}
    assert got == figures()
    assert TIMES["age"] == "~/debug/pipeline_latency_ms"


def test_statistics_are_a_listeners_too(node, outputs, labelled):
    pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")
    node.publishers[STATS].listeners = 1
    assert outputs.heard
    done = Labelled(labelled[0].header, labelled[1], figures())
    outputs.publish_figures(done, Counters(received=3, processed=1, stale=1), (1, "why"))
    (stats,) = node.publishers[STATS].sent
    assert (stats.points, stats.valid_points, stats.received, stats.dropped) == (40, 39, 3, 1)
    assert stats.geometry_ms == figures()["geometry"]
    assert stats.degradation == "why"


def filtered(node, outputs, labelled, **config):
    node.publishers[FILTERED].listeners = 1
    fault = outputs.publish_clouds(*labelled, NodeConfig(filter=FilterConfig(**config)))
    return fault, node.publishers[FILTERED].sent


def test_the_filtered_cloud_is_the_input_less_what_is_probably_road(node, outputs, labelled):
    given, segmentation = labelled
    _, (got,) = filtered(node, outputs, labelled, classes=("road",))
    road = segmentation.labels == KITTI.index("road")
    keep = ~(road & (segmentation.probability >= np.float32(0.5)))
    assert 0 < keep.sum() < len(keep) and (road & keep).any()
    rows = np.frombuffer(given.data, np.uint8).reshape(40, -1)
    assert bytes(got.data) == rows[keep].tobytes()
    assert (got.height, got.width, got.point_step) == (1, keep.sum(), given.point_step)
    assert (got.header, got.fields) == (given.header, given.fields)
    assert keep[-1], "a point without a class is never left out"


@pytest.mark.parametrize(("threshold", "left"), [(0.0, 21), (1.0, 40)])
def test_the_threshold_counts_from_what_is_reached(node, outputs, labelled, threshold, left):
    config = {"classes": ("road",), "class_probability_threshold": threshold}
    _, (got,) = filtered(node, outputs, labelled, **config)
    assert got.width == left


def test_a_point_that_just_reaches_the_threshold_goes(node, outputs, labelled):
    probability = labelled[1].probability
    road = np.flatnonzero(labelled[1].labels == KITTI.index("road"))
    threshold = float(probability[road[10]])
    config = {"classes": ("road",), "class_probability_threshold": threshold}
    _, (got,) = filtered(node, outputs, labelled, **config)
    assert got.width == 40 - (len(road) - 10)


def test_with_no_classes_everything_stays(node, outputs, labelled):
    _, (got,) = filtered(node, outputs, labelled)
    assert bytes(got.data) == bytes(labelled[0].data)


def test_a_filtered_cloud_that_cannot_be_made_costs_nobody_else_anything(node, outputs, labelled):
    for topic in (LABELLED, VISUALIZATION):
        node.publishers[topic].listeners = 1
    fault, got = filtered(node, outputs, labelled, output_format="xyzirc")
    assert got == []
    assert fault.startswith("no ~/filtered: cloud has no field 'return_type'; its fields: x, y, z")
    assert sent(node) == {LABELLED, VISUALIZATION}


def test_a_labelled_cloud_that_cannot_be_made_is_an_error(node, outputs, labelled):
    node.publishers[LABELLED].listeners = 1
    config = NodeConfig(output=OutputConfig(layout="append"))
    outputs.publish_clouds(*labelled, config)
    (once,) = node.publishers[LABELLED].sent
    with pytest.raises(CloudError, match="already has field 'class_id'"):
        outputs.publish_clouds(once, labelled[1], config)


def test_messages_are_used_again_and_follow_each_clouds_layout(node, outputs, labelled, cloud):
    """Two publishers of other layouts on one topic: nothing of one cloud is left in the next."""
    node.publishers[LABELLED].listeners = 1
    config = NodeConfig(output=OutputConfig(layout="append"))
    given, segmentation = labelled
    wide, _ = given, segmentation
    narrow = cloud(40)
    narrow.fields = narrow.fields[:3]
    for one in (wide, narrow, wide):
        outputs.publish_clouds(one, segmentation, config)
        message = node.publishers[LABELLED].sent[-1]
        names = [field.name for field in one.fields]
        assert [field.name for field in message.fields][:-3] == names
        assert (message.height, message.width) == (one.height, one.width)
        np.testing.assert_array_equal(decode(message).xyz, decode(one).xyz)


def test_vision_msgs_get_their_label_info(node, monkeypatch):
    """LabelInfo and VisionClass are stand-ins: vision_msgs is not part of every installation."""
    monkeypatch.setattr(messages, "VisionClass", SimpleNamespace)

    def label_info(**fields):
        return SimpleNamespace(header=Header(), class_map=[], **fields)

    monkeypatch.setattr(messages, "LabelInfo", label_info)
    Outputs(node, SentClasses(KITTI, "autoware"), "model", "")
    (info,) = node.latched["~/label_info"].sent
    classes = {one.class_id: one.class_name for one in info.class_map}
    assert (classes[0], classes[8], classes[255]) == ("car", "ground", "UNLABELED")
    assert (len(classes), info.threshold) == (13, 0.0)


def test_without_vision_msgs_there_is_no_label_info(node, outputs, monkeypatch):
    if messages.LabelInfo is not None:
        monkeypatch.setattr(messages, "LabelInfo", None)
        node = Node()
        Outputs(node, SentClasses(KITTI), "model", "")
    assert set(node.latched) == {"~/class_info", "~/legend"}


def test_the_legend_has_the_colours_of_the_clouds(node, outputs, labelled):
    (picture,) = node.latched["~/legend"].sent
    assert (picture.encoding, picture.step) == ("rgb8", 3 * picture.width)
    pixels = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    node.publishers[VISUALIZATION].listeners = 1
    outputs.publish_clouds(*labelled, NodeConfig())
    (cloud,) = node.publishers[VISUALIZATION].sent
    (at,) = (field.offset for field in cloud.fields if field.name == "rgb")
    points = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    colours = {tuple(point[at : at + 3][::-1].tolist()) for point in points}
    assert colours == {KITTI.colours[KITTI.index(name)] for name in ("car", "road")} | {(0, 0, 0)}
    for colour in KITTI.colours:
        assert (pixels == colour).all(axis=2).sum() > 100
    Outputs(node, SentClasses(KITTI, "autoware"), "model", "0" * 64)
    autoware = LabelSet.named("autoware")
    assert node.latched["~/legend"].sent[-1].height < picture.height and len(autoware) < len(KITTI)


def test_without_pillow_there_is_no_legend(node, monkeypatch):
    monkeypatch.setattr(messages, "LEGENDS", False)
    Outputs(node, SentClasses(KITTI), "model", "0" * 64)
    assert "~/class_info" in node.latched and "~/legend" not in node.latched


def test_class_info_tells_the_classes_that_go_out(node):
    pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")
    Outputs(node, SentClasses(KITTI, "autoware"), "model", "")
    (info,) = node.latched["~/class_info"].sent
    assert info.label_set == "autoware"
    assert info.names[8] == "ground"


def test_closing_leaves_no_publisher(node, outputs):
    outputs.close()
    assert (node.publishers, node.latched) == ({}, {})
    assert not outputs.heard


def test_a_refused_qos_leaves_no_publisher(node, monkeypatch):
    whole = node.create_lifecycle_publisher

    def refuse(kind, topic, qos, **options):
        if topic == FILTERED:
            raise RuntimeError("no such policy")
        return whole(kind, topic, qos, **options)

    node.create_lifecycle_publisher = refuse
    with pytest.raises(RuntimeError, match="no such policy"):
        Outputs(node, SentClasses(KITTI), "model", "")
    assert node.publishers == {}
