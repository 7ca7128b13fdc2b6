# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node where Autoware has its ptv3, with its topics and classes.

ros2 launch pointdistill_ros autoware.launch.py cluster:=true
"""

from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.launch_actions import segmentation_node, transport
from pointdistill_ros.nodes.launch_arguments import declare, values

NAME = {"node_name": "ptv3", "namespace": "/perception"}
DEFAULTS = {
    "input_topic": "/sensing/lidar/concatenated/pointcloud",
    "params_file": "config/stacks/autoware/segmentation.yaml",
}
ARGUMENTS = (
    *("input_topic", "segmented_topic", "filtered_topic", "visualization_topic", "params_file"),
    *("model", "device", "engine", "precision", "max_latency_ms", "z_offset", "target_frame"),
    *("filter_classes", "filter_probability"),
    *("use_sim_time", "autostart", "log_level", "dds_transport"),
    *("cluster", "cluster_params_file", "objects_topic"),
)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    return LaunchDescription([*declare(*ARGUMENTS, **DEFAULTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""
    given = values(context, *ARGUMENTS)
    outputs = [
        ("~/labeled_points", given["segmented_topic"]),
        ("~/filtered", given["filtered_topic"]),
        ("~/visualization", given["visualization_topic"]),
    ]
    actions = transport(given["dds_transport"]) + segmentation_node(given | NAME, outputs)
    if given["cluster"] == "true":
        actions.append(cluster(given))
    return actions


def cluster(given: dict[str, str]) -> Node:
    """Autoware's own node: labelled points → objects. Its topics changed names over versions."""
    inputs = ("input", "~/input/pointcloud", "~/input/segmented/pointcloud")
    outputs = ("output", "~/output/objects")
    return Node(
        package="autoware_euclidean_cluster",
        executable="label_based_euclidean_cluster_node",
        name="label_based_euclidean_cluster",
        namespace=NAME["namespace"],
        parameters=[
            given["cluster_params_file"],
            {"use_sim_time": given["use_sim_time"] == "true"},
        ],
        remappings=[
            *((topic, given["segmented_topic"]) for topic in inputs),
            *((topic, given["objects_topic"]) for topic in outputs),
        ],
        output="screen",
    )
