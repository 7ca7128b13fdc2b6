# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node in front of Nav2's costmaps, led by Nav2's lifecycle manager.

ros2 launch pointdistill_ros nav2.launch.py input_topic:=/points

The costmaps that read it: config/stacks/nav2/costmaps.yaml.
"""

from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.launch_actions import segmentation_node, transport
from pointdistill_ros.nodes.launch_arguments import declare, values

DEFAULTS = {"params_file": "config/stacks/nav2/segmentation.yaml", "input_topic": "/points"}
ARGUMENTS = (
    *("input_topic", "params_file", "model", "device", "engine", "precision", "max_latency_ms"),
    *("z_offset", "target_frame", "filter_classes", "filter_probability"),
    *("node_name", "namespace", "use_sim_time", "log_level", "dds_transport", "lifecycle_manager"),
)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    return LaunchDescription([*declare(*ARGUMENTS, **DEFAULTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""
    given = values(context, *ARGUMENTS)
    node = segmentation_node(given | {"autostart": "external"})
    manager = [lifecycle_manager(given)] if given["lifecycle_manager"] == "true" else []
    return [*transport(given["dds_transport"]), *node, *manager]


def lifecycle_manager(given: dict[str, str]) -> Node:
    """Configures and activates the node. Without a bond, which Nav2 has for its own C++ nodes."""
    return Node(
        package="nav2_lifecycle_manager",
        executable="lifecycle_manager",
        name="lifecycle_manager_segmentation",
        namespace=given["namespace"],
        parameters=[
            {
                "use_sim_time": given["use_sim_time"] == "true",
                "autostart": True,
                "node_names": [given["node_name"]],
                "bond_timeout": 0.0,
            }
        ],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        output="screen",
    )
