# SPDX-License-Identifier: Apache-2.0
"""The comparison node beside a side that is silent, hostile, or both, over DDS."""

import numpy as np
import pytest

from tests.abuse.conftest import PATIENCE, stop
from tools.soak.process import Process

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]
PROGRAM = ("-m", "pointdistill_ros.nodes.comparison_node")
DEPTH, CLOUDS, POINTS = 10, 60, 40_000
MAX_GROWTH = 16 << 20
"""Bytes; the clouds beyond ``DEPTH`` hold three times as much, their labels alone the half."""


@pytest.fixture
def sides(client):
    """Publishers (clouds, class_info) of both sides; ``received`` of the student in the end."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import DurabilityPolicy, QoSProfile

    from pointdistill_ros.nodes import comparison_messages, messages

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.values, client.pairs = {}, []
    client.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda array: client.values.update(
            {s.name.rpartition(" ")[2]: {e.key: e.value for e in s.values} for s in array.status}
        ),
        100,
    )
    client.node.create_subscription(
        comparison_messages.comparison_type(), "/comparison_node/comparison", client.pairs.append, 9
    )
    return {
        side: (
            client.publisher(f"/{side}/labeled_points", depth=100),
            client.node.create_publisher(
                messages.class_info_type(), f"/{side}/class_info", latched
            ),
        )
        for side in ("student", "teacher")
    }


def labelled(points, stamp):
    from tests.abuse.hostile import cloud_of, street

    random = np.random.default_rng(stamp)
    columns = dict(zip("xyz", street(random, points).T, strict=True))
    columns["class_id"] = random.integers(0, 19, points).astype("u1")
    columns["probability"] = random.random(points, dtype="f4")
    message = cloud_of(columns)
    message.header.stamp.sec = stamp
    return message


def test_a_dead_side_and_a_hostile_one_cost_bounded_memory_and_no_comparison(
    client, sides, start_node
):
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.nodes import messages
    from tests.abuse.hostile import hostile

    node = start_node(
        "--ros-args",
        *("-p", "input.reliability:=reliable", "-p", "input.depth:=100"),
        *("-p", f"pairing.depth:={DEPTH}"),
        program=PROGRAM,
    )
    clouds, _ = sides["student"]
    client.until(clouds.get_subscription_count, timeout=PATIENCE)
    client.until(lambda: client.node.count_publishers("/comparison_node/comparison"), PATIENCE)
    client.until(lambda: client.values.get("student"), timeout=PATIENCE)

    def received(side, count):
        told = client.values[side]
        return int(told["received"]) + int(told["invalid"]) == count

    process, states = Process(node.process.pid), []
    for number in range(CLOUDS):
        clouds.publish(labelled(POINTS, number))
        client.spin(0.03)
        states.append(process.state())
    client.until(lambda: received("student", CLOUDS), timeout=PATIENCE)
    states.append(process.state())
    assert client.values["student"]["waiting"] == str(DEPTH)
    assert client.values["student"]["without partner"] == str(CLOUDS - DEPTH)
    settled = states[2 * DEPTH :]
    assert settled[-1].private - settled[0].private < MAX_GROWTH
    assert {s.threads for s in settled} == {settled[0].threads}

    kitti = LabelSet.named("semantic-kitti")
    strange = messages.class_info(kitti, "m", "0")
    if hasattr(strange, "label_set"):
        strange.label_set = "../" * 200
    teacher, teacher_info = sides["teacher"]
    client.until(teacher.get_subscription_count, timeout=PATIENCE)
    teacher_info.publish(strange)
    for number in range(60):
        teacher.publish(hostile(number).message if number != 47 else labelled(9, 9))
        client.spin(0.01)
    client.until(lambda: received("teacher", 60), timeout=PATIENCE)
    assert node.process.poll() is None, node.log.read_text()
    for _, told in sides.values():
        told.publish(messages.class_info(kitti, "m", "0"))
    client.until(
        lambda: all(client.values[side].get("label set") == kitti.name for side in sides),
        timeout=PATIENCE,
    )
    client.spin(0.5)
    client.pairs.clear()
    stamps = iter(range(5000, 9000))

    def publish_pair():
        stamp = next(stamps)
        for publisher, _ in sides.values():
            publisher.publish(labelled(100, stamp))

    client.got["pairs"] = client.pairs
    client.until_heard(publish_pair, "pairs", pause=1.0, timeout=PATIENCE)
    assert stop(node) == 0
    assert "Traceback" not in node.log.read_text()
