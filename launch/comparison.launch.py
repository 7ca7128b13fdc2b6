# SPDX-License-Identifier: Apache-2.0
"""Start a student, a teacher beside it, and the node that compares them.

ros2 launch pointdistill_ros comparison.launch.py teacher:=teacher.safetensors \
    input_topic:=/velodyne_points viewer:=rviz
"""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.launch_actions import (
    foxglove,
    our_node,
    rviz,
    segmentation_node,
    transport,
)
from pointdistill_ros.nodes.launch_arguments import declare, values

ALL = ("namespace", "use_sim_time", "autostart", "log_level")
"""What all three have in common."""
SIDES = ("input_topic", "z_offset", "target_frame", "classes", *ALL)
"""What student and teacher have in common."""
ARGUMENTS = (
    *("student", "teacher", "run_teacher"),
    *("student_params_file", "teacher_params_file", "comparison_params_file"),
    *("student_device", "teacher_device", "max_latency_ms"),
    *(*SIDES, "viewer", "fixed_frame", "dds_transport"),
)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    return LaunchDescription([*declare(*ARGUMENTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""
    given = values(context, *ARGUMENTS)
    common = {name: given[name] for name in SIDES}
    sides = {"student": {"max_latency_ms": given["max_latency_ms"]}}
    if given["run_teacher"] == "true":
        sides["teacher"] = {}
    actions = transport(given["dds_transport"])
    for side, own in sides.items():
        own |= {"node_name": side, "model": given[side], "device": given[f"{side}_device"]}
        own |= {"params_file": given[f"{side}_params_file"]}
        actions += segmentation_node(common | own)
    comparison = {name: given[name] for name in ALL} | {"node_name": "comparison_node"}
    actions += our_node("comparison_node", comparison, given["comparison_params_file"])
    if given["viewer"] == "rviz":
        actions.append(rviz("comparison.rviz", given, given["fixed_frame"]))
    elif given["viewer"] == "foxglove":
        actions.append(foxglove(given))
    return actions
