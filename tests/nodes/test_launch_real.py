# SPDX-License-Identifier: Apache-2.0
"""The launch file under real ROS launch, where that and the installed package are at hand."""

from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="ROS launch is not installed (no wheels of it exist)")
pytestmark = pytest.mark.ros

FILE = Path(__file__).resolve().parents[2] / "launch" / "segmentation.launch.py"


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_the_node_runs_as_launched(client, autostart):
    import asyncio
    import threading

    packages = pytest.importorskip("ament_index_python.packages")
    try:
        packages.get_package_prefix("pointdistill_ros")
    except packages.PackageNotFoundError:
        pytest.skip("pointdistill_ros is not installed as a ROS package (colcon build)")
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription, LaunchService
    from pointdistill_ros.resources import weights_path

    node = "/front/segmentation_node"
    arguments = {"namespace": "front", "input_topic": "/driver/points", "autostart": autostart}
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(FILE)), launch_arguments=arguments.items()
    )
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription([include]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(service.run_async()))
    thread.start()
    try:
        if weights_path("student").exists():
            client.until(lambda: client.node.count_subscribers("/driver/points"), timeout=60)
            assert client.state(node) == "active"
        else:
            assert client.state(node) == "unconfigured"
    finally:
        service.shutdown()
        thread.join(20)
    assert not thread.is_alive()
