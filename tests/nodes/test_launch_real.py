# SPDX-License-Identifier: Apache-2.0
"""The launch files under real ROS launch, where that and the installed package are at hand."""

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nodes.conftest import PATIENCE

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
        thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_the_node_runs_as_launched(client, autostart):
    from pointdistill_ros.resources import weights_path

    node = "/front/segmentation_node"
    arguments = {"namespace": "front", "input_topic": "/driver/points", "autostart": autostart}
    with launched("segmentation.launch.py", **arguments):
        if weights_path("student").exists():
            client.until(lambda: client.node.count_subscribers("/driver/points"))
            assert client.state(node) == "active"
        else:
            assert client.state(node) == "unconfigured"


def test_student_and_comparison_run_as_launched(client):
    arguments = {"namespace": "front", "input_topic": "/driver/points", "run_teacher": "false"}
    with launched("comparison.launch.py", **arguments):
        for topic in ("/driver/points", "/front/student/class_info", "/front/teacher/class_info"):
            client.until(lambda topic=topic: client.node.count_subscribers(topic))
        assert client.state("/front/student") == client.state("/front/comparison_node") == "active"


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.launch.py")), ids=lambda path: path.name)
def test_show_args_describes_every_argument(path):
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    arguments = description.get_launch_arguments()
    assert arguments
    for argument in arguments:
        assert len(argument.description) > 15, argument.name


@pytest.mark.parametrize("mode", ["nodes", "process"])
def test_several_lidars_run_as_launched(client, mode):
    lidars = "[{name: roof, topic: points}, {name: rear, topic: /rear_points, namespace: /back}]"
    arguments = {"lidars": lidars, "mode": mode, "namespace": "car"}
    with launched("multi_lidar.launch.py", **arguments):
        for topic in ("/car/roof/points", "/rear_points"):
            client.until(lambda t=topic: client.node.count_subscribers(t))
        for node in ("/car/roof/segmentation_node", "/back/segmentation_node"):
            assert client.state(node) == "active"


def test_autoware_gets_its_topics_as_launched(client):
    with launched("autoware.launch.py"):
        topic = "/sensing/lidar/concatenated/pointcloud"
        client.until(lambda: client.node.count_subscribers(topic))
        assert client.state("/perception/ptv3") == "active"
        for name in ("segmented", "filtered", "visualization"):
            assert client.node.count_publishers(f"/perception/ptv3/{name}/pointcloud")


@pytest.mark.parametrize("manager", ["true", "false"])
def test_nav2_leads_the_node_as_launched(client, manager):
    packages = pytest.importorskip("ament_index_python.packages")
    if manager == "true":
        try:
            packages.get_package_prefix("nav2_lifecycle_manager")
        except packages.PackageNotFoundError:
            pytest.skip("nav2_lifecycle_manager is not installed")
    with launched("nav2.launch.py", lifecycle_manager=manager):
        if manager == "true":
            client.until(lambda: client.node.count_subscribers("/points"))
            assert client.state("/segmentation_node") == "active"
        else:
            topic = "/segmentation_node/transition_event"
            client.until(lambda: client.node.count_publishers(topic))
            assert client.state("/segmentation_node") == "unconfigured"
