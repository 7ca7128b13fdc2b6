# SPDX-License-Identifier: Apache-2.0
"""The launch files under real ROS launch, where that and the installed package are at hand."""

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="ROS launch is not installed (no wheels of it exist)")
pytestmark = pytest.mark.ros

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@contextmanager
def launched(name, **arguments):
    """While the block runs, what the launch file starts runs, too."""
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        packages.get_package_prefix("pointdistill_ros")
    except packages.PackageNotFoundError:
        pytest.skip("pointdistill_ros is not installed as a ROS package (colcon build)")
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription, LaunchService

    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH / name)), launch_arguments=arguments.items()
    )
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription([include]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(service.run_async()))
    thread.start()
    try:
        yield
    finally:
        service.shutdown()
        thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_the_node_runs_as_launched(client, autostart):
    from pointdistill_ros.resources import weights_path

    node = "/front/segmentation_node"
    arguments = {"namespace": "front", "input_topic": "/driver/points", "autostart": autostart}
    with launched("segmentation.launch.py", **arguments):
        if weights_path("student").exists():
            client.until(lambda: client.node.count_subscribers("/driver/points"), timeout=60)
            assert client.state(node) == "active"
        else:
            assert client.state(node) == "unconfigured"


def test_student_and_comparison_run_as_launched(client):
    arguments = {"namespace": "front", "input_topic": "/driver/points", "run_teacher": "false"}
    with launched("comparison.launch.py", **arguments):
        for topic in ("/driver/points", "/front/student/class_info", "/front/teacher/class_info"):
            client.until(lambda topic=topic: client.node.count_subscribers(topic), timeout=60)
        assert client.state("/front/student") == client.state("/front/comparison_node") == "active"
