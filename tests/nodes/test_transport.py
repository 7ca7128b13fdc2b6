# SPDX-License-Identifier: Apache-2.0
"""The profile for large clouds is chosen, well formed, and does what it is for."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pointdistill_ros.nodes import transport
from pointdistill_ros.resources import config_path
from tests.nodes.conftest import PATIENCE

TAG = "{http://www.eprosima.com}"
CLOUDS, POINTS, DEPTH = 40, 120_000, 10
"""``DEPTH``: on both sides."""
UNDER_WAY = 5
"""Clouds that were sent and not heard yet; more may be lost by right while a process stands."""


@pytest.fixture
def untouched(monkeypatch):
    for name in transport._USER_CHOICES:
        # set first, so that what the test leaves behind is undone as well
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_profile_is_chosen_under_the_distributions_name(untouched, monkeypatch):
    for distribution, name in [
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("lyrical", "FASTDDS_DEFAULT_PROFILES_FILE"),
    ]:
        monkeypatch.setenv("ROS_DISTRO", distribution)
        assert transport.profile_variable() == name
    transport.prepare_transport()
    assert transport.os.environ[name] == str(config_path(transport.PROFILE))


@pytest.mark.parametrize("choice", transport._USER_CHOICES)
def test_what_the_user_has_chosen_stays(untouched, monkeypatch, choice):
    monkeypatch.setenv(choice, "mine")
    transport.prepare_transport()
    chosen = {n: v for n, v in transport.os.environ.items() if n in transport._USER_CHOICES}
    assert chosen == {choice: "mine"}


def test_every_transport_that_is_used_is_defined():
    # Fast DDS ignores a profile with an unknown id, and large clouds are lost again
    root = ElementTree.parse(config_path(transport.PROFILE)).getroot()
    defined = {e.text for e in root.iter(f"{TAG}transport_id") if e.text}
    described = {
        e.findtext(f"{TAG}transport_id"): e for e in root.iter(f"{TAG}transport_descriptor")
    }
    used = [
        e.text
        for part in root.iter(f"{TAG}userTransports")
        for e in part.iter(f"{TAG}transport_id")
    ]
    assert set(used) == set(described) == defined
    assert root.find(f".//{TAG}participant").get("is_default_profile") == "true"
    assert root.findtext(f".//{TAG}useBuiltinTransports") == "false"
    shared = next(e for e in described.values() if e.findtext(f"{TAG}type") == "SHM")
    assert int(shared.findtext(f"{TAG}segment_size")) >= 16 * 16 * POINTS
    assert int(shared.findtext(f"{TAG}maxMessageSize")) >= 4 * 16 * POINTS


@pytest.mark.ros
def test_large_best_effort_clouds_arrive(client, cloud):
    """120 000 points, several under way, best effort: without the profile most are lost."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import PointCloud2
    from std_msgs.msg import Empty, UInt32

    script = Path(__file__).with_name("large_cloud_receiver.py")
    client.listen(UInt32, "/heard")
    best_effort = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = client.node.create_publisher(PointCloud2, "/large", best_effort)
    end = client.node.create_publisher(Empty, "/end", 1)
    large = cloud(POINTS)
    receiver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        client.until(lambda: publisher.get_subscription_count() and end.get_subscription_count())
        client.until_heard(lambda: publisher.publish(cloud(1)), "/heard")
        for number in range(1, CLOUDS + 1):
            publisher.publish(large)
            client.until(lambda n=number: n - client.got["/heard"][-1].data < UNDER_WAY)
        client.until(lambda: client.got["/heard"][-1].data == CLOUDS)
        end.publish(Empty())
        out, _ = receiver.communicate(timeout=PATIENCE)
    finally:
        receiver.kill()
        receiver.communicate()
    assert out.split() == [str(CLOUDS), f"{{{16 * POINTS}}}"]
