# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node.

ros2 launch pointdistill_ros segmentation.launch.py input_topic:=/velodyne_points
"""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.launch_actions import rviz, segmentation_node, transport
from pointdistill_ros.nodes.launch_arguments import declare, values

ARGUMENTS = (
    *("params_file", "model", "device", "engine", "precision", "max_latency_ms"),
    *("z_offset", "target_frame", "classes", "filter_classes", "filter_probability"),
    *("node_name", "input_topic", "namespace", "use_sim_time", "autostart", "log_level"),
    *("rviz", "dds_transport"),
)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    return LaunchDescription([*declare(*ARGUMENTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""
    given = values(context, *ARGUMENTS)
    viewer = [rviz("segmentation.rviz", given)] if given["rviz"] == "true" else []
    return [*transport(given["dds_transport"]), *segmentation_node(given), *viewer]
