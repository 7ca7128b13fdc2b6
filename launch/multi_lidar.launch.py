# SPDX-License-Identifier: Apache-2.0
"""Label the clouds of several lidars: a process for each, or one process with one network for all.

ros2 launch pointdistill_ros multi_lidar.launch.py lidars:=lidars.yaml mode:=process

rclpy has no component containers (`ros2 component load` is for C++ only); ``mode:=process`` takes
their place: a node for each lidar, which take turns with the network.
"""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.launch_actions import our_node, segmentation_node, transport
from pointdistill_ros.nodes.launch_arguments import declare, values
from pointdistill_ros.nodes.multi_config import read_lidars

ARGUMENTS = (
    *("lidars", "mode"),
    *("params_file", "model", "device", "engine", "precision", "max_latency_ms"),
    *("target_frame", "classes", "filter_classes", "filter_probability"),
    *("namespace", "use_sim_time", "autostart", "log_level", "dds_transport"),
)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    return LaunchDescription([*declare(*ARGUMENTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""
    given = values(context, *ARGUMENTS)
    lidars = read_lidars(given["lidars"])  # a mistake in it is told before anything has started
    environment = transport(given["dds_transport"])
    if given["mode"] == "process":
        # launch leads one node a process only: here, false means that nobody does yet
        how = {"autostart": "external"} if given["autostart"] == "false" else {}
        names = ["--lidars", given["lidars"], "--namespace", given["namespace"]]
        process = our_node("multi_lidar_node", given | how, given["params_file"], arguments=names)
        return [*environment, *process]
    nodes = []
    for lidar in lidars:
        names = {
            "node_name": lidar.node_name,
            "namespace": lidar.namespace_in(given["namespace"]),
            "input_topic": lidar.topic,
        }
        own = [own for own in (lidar.params_file, lidar.overrides()) if own]
        nodes += segmentation_node(given | names, own=own)
    return [*environment, *nodes]
