# SPDX-License-Identifier: Apache-2.0
"""The segmentation node as a teacher: what of its pace can be seen from outside, over DDS."""

import pytest

from pointdistill_ros.resources import config_path

pytestmark = pytest.mark.ros


def test_the_teacher_takes_every_kth_cloud_and_tells_its_priority(client, start_node, cloud):
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    labels = "/teacher/labeled_points"
    client.listen(PointCloud2, labels)
    client.listen(DiagnosticArray, "/diagnostics")
    points = client.publisher()
    start_node(
        *("--ros-args", "--params-file", str(config_path("nodes/teacher.yaml"))),
        *("-r", "__node:=teacher", "-p", "pace.every:=3", "-p", "pace.max_load:=1.0"),
        *("-p", "input.reliability:=reliable", "-p", "input.depth:=20", "-p", "input.max_age:=0.0"),
    )

    def values(part):
        for array in reversed(client.got["/diagnostics"]):
            for status in array.status:
                if status.name == f"teacher: {part}":
                    return {entry.key: entry.value for entry in status.values}
        return {}

    def label(sent):
        """Again where the node did not know yet that someone listens: it does not count that."""

        def skipped():
            return values("timing").get("skipped, nobody listens", "0")

        count = len(client.got[labels])
        while len(client.got[labels]) == count:
            before = skipped()
            points.publish(sent)
            client.until(
                lambda before=before: len(client.got[labels]) > count or skipped() != before
            )

    def send(numbers, labelled):
        """Those that are to be labelled are waited for, so that none is overwritten."""
        for number in numbers:
            sent = cloud(10 + number, stamp=(5, number))
            if number in labelled:
                label(sent)
            else:
                points.publish(sent)

    client.until(lambda: values("input").get("publishers") == "1")
    client.until(lambda: client.node.count_publishers(labels) and points.get_subscription_count())
    send(range(7), {0, 3, 6})
    assert [message.width for message in client.got[labels]] == [10, 13, 16]
    # Diagnostics are sent once a second: one from between the fifth and the last cloud has 4 and 2.
    client.until(
        lambda: (
            (values("timing").get("skipped on purpose"), values("timing").get("received"))
            == ("4", "3")
        )
    )
    assert values("model")["priority"].startswith("idle")
    assert client.set_parameters("/teacher", pace__every=1) == (True, "")
    assert not client.set_parameters("/teacher", pace__priority="normal")[0]
    send((7, 8), {7, 8})
    assert [message.width for message in client.got[labels]][3:] == [17, 18]
