# SPDX-License-Identifier: Apache-2.0
"""Teacher and comparison are killed; the student goes on as if they had never been there."""

import time

import pytest

from tests.abuse.conftest import PATIENCE

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]
COMPARISON = ("-m", "pointdistill_ros.nodes.comparison_node")
STUDENT = "/student/labeled_points"
PERIOD = 0.25
"""Seconds between two clouds."""
BEFORE, AFTER = 12, 8
"""Clouds before and after a kill."""
TRIES = 3
"""Somebody else may take the CPU for a period; not every time at the very moment of a kill."""


def seconds(stamp):
    return stamp.sec + 1e-9 * stamp.nanosec


@pytest.fixture
def bench(client, cloud):
    """Sends clouds on schedule and notes how late the student's labels come."""
    from sensor_msgs.msg import PointCloud2

    heard = []  # (stamp, arrival) of labelled clouds

    def hear(labelled):
        heard.append((seconds(labelled.header.stamp), time.time()))

    client.node.create_subscription(PointCloud2, STUDENT, hear, 100)
    points, message = client.publisher(), cloud(20_000)

    def answered(stamp):
        return next((arrival for labelled, arrival in heard if labelled >= stamp), None)

    def send(count):
        """Seconds from each cloud to the labels of it or a newer one, which may overtake it."""
        stamps = []
        for _ in range(count):
            began = time.monotonic()
            message.header.stamp = client.node.get_clock().now().to_msg()
            stamps.append(seconds(message.header.stamp))
            points.publish(message)
            client.spin(began + PERIOD - time.monotonic())
        client.until(lambda: answered(stamps[-1]), timeout=PATIENCE)
        return [answered(stamp) - stamp for stamp in stamps]

    def settle():
        """Labels come back, and the pace is what it was before."""
        count, end = len(heard), time.monotonic() + PATIENCE
        while len(heard) == count:
            assert time.monotonic() < end, "no labels"
            points.publish(message)
            client.spin(PERIOD)
        client.spin(1.0)

    client.points, client.send, client.settle = points, send, settle
    return client


def test_the_student_keeps_its_schedule_when_the_others_are_killed(bench, start_node):
    options = ("--ros-args", "-p", "input.reliability:=reliable", "-p", "input.depth:=20")
    options = (*options, "-p", "input.max_age:=0.0")
    student = start_node(*options, "-r", "__node:=student", FAKE_MILLISECONDS="20")
    found = []
    for _ in range(TRIES):
        teacher = start_node(*options, "-r", "__node:=teacher", FAKE_MILLISECONDS="100")
        comparison = start_node("--ros-args", program=COMPARISON)
        bench.until(lambda: bench.points.get_subscription_count() == 2, timeout=PATIENCE)
        bench.until(
            lambda: (
                bench.node.count_subscribers(STUDENT) == 2  # the comparison's and ours
                and bench.node.count_publishers("/comparison_node/comparison")
            ),
            timeout=PATIENCE,
        )
        bench.settle()
        before = bench.send(BEFORE)
        teacher.kill()
        after = bench.send(AFTER)
        comparison.kill()
        after += bench.send(AFTER)
        found.append((max(before), max(after)))
        assert student.process.poll() is None
        if max(after) <= max(before) + PERIOD:
            break
        # Dead participants leave the graph when their lease ends; the next try is counted anew.
        bench.until(lambda: bench.points.get_subscription_count() == 1, timeout=PATIENCE)
        bench.until(lambda: bench.node.count_subscribers(STUDENT) == 1, timeout=PATIENCE)
    else:
        pytest.fail(f"labels were later than before by over a frame, every time: {found}")
