# SPDX-License-Identifier: Apache-2.0
"""The node with a target frame, in this process: tf2 is a stand-in, the clouds cross DDS."""

import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from pointdistill_ros.io.pointcloud2 import decode

pytestmark = pytest.mark.ros
LABELS = "/segmentation_node/labeled_points"


@pytest.fixture
def node(client, fake_segmenter, monkeypatch):
    """An active node on the client's executor; the sensor hangs 3 m up, upside down."""
    from rclpy.parameter import Parameter

    from pointdistill_ros.nodes.segmentation_node import SegmentationNode

    stand_in = runpy.run_path(str(Path(__file__).with_name("tf_stand_in.py")))["tf2_ros"]
    rolled = (math.sin(math.pi / 2), 0.0, 0.0, math.cos(math.pi / 2))
    module = stand_in({("base_link", "lidar"): (rolled, (0.0, 0.0, 3.0))})
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    settings = {"autostart": False, "input.target_frame": "base_link", "input.max_age": 0.0}
    settings |= {"input.reliability": "reliable", "input.depth": 40}
    node = SegmentationNode(
        fake_segmenter(),
        context=client.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in settings.items()],
    )
    client.executor.add_node(node)
    node.trigger_configure()
    node.trigger_activate()
    node.listener = module.TransformListener.last
    yield node
    client.executor.remove_node(node)
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert not node.listener.listening
    node.destroy_node()


def test_the_network_sees_the_target_frame_and_the_output_keeps_its_own(client, node, cloud):
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    client.listen(PointCloud2, LABELS)
    client.listen(DiagnosticArray, "/diagnostics")
    points = client.publisher()
    client.until_answered(client.probe(points), LABELS)

    given = cloud(200)
    points.publish(given)
    client.until(lambda: client.got[LABELS])
    (labelled,) = client.got[LABELS]
    z = decode(given).xyz[:, 2]
    ids = np.frombuffer(labelled.data, np.uint8).reshape(-1, 24)[:, 12]
    np.testing.assert_array_equal(ids, np.where(3.0 - z.astype(np.float64) >= 0, 0, 1))
    assert (ids == 1).any() and (ids == 0).any()
    np.testing.assert_array_equal(decode(labelled).xyz, decode(given).xyz)
    assert labelled.header == given.header

    def told():
        return [s.message for a in client.got["/diagnostics"] for s in a.status]

    client.until(lambda: not node.counters.in_flight)  # counted after the labels went out
    before = node.counters
    times = client.until_told(  # a silence would outrank it
        lambda: points.publish(cloud(10, frame="elsewhere")),
        lambda: any("no transform elsewhere → base_link" in text for text in told()),
    )
    client.until(lambda: node.counters.received == before.received + times)
    client.until(lambda: not node.counters.in_flight)
    assert node.counters.invalid > 0
    assert node.counters.processed == before.processed
    points.publish(given)
    client.until(lambda: len(client.got[LABELS]) == 2)
