# SPDX-License-Identifier: Apache-2.0
"""Play a bag to a student and a teacher, compare them, and look at it.

ros2 launch pointdistill_ros replay.launch.py bag:=drive.mcap teacher:=teacher.safetensors
"""

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.transport import transport_variables

PACKAGE = "pointdistill_ros"
SHARE = FindPackageShare(PACKAGE)
INPUT = "/points"
"""Where the bag's clouds go, whatever the bag calls them."""


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    flag = ["true", "false"]
    arguments = [
        DeclareLaunchArgument(
            "bag", description="The bag to play: folder, .mcap, .db3 or ROS 1 .bag."
        ),
        DeclareLaunchArgument(
            "topic",
            default_value="",
            description="Topic of the clouds in the bag; empty: the only one that it has.",
        ),
        DeclareLaunchArgument(
            "rate", default_value="1.0", description="Speed of the bag, 1 = as recorded."
        ),
        DeclareLaunchArgument(
            "loop",
            default_value="false",
            choices=flag,
            description="Begin the bag again at its end.",
        ),
        DeclareLaunchArgument(
            "step",
            default_value="false",
            choices=flag,
            description="Play the next cloud when the student's labels for the last are there, so "
            "that the student misses none; the teacher still labels what it can.",
        ),
        DeclareLaunchArgument(
            "exit_at_end",
            default_value="false",
            choices=flag,
            description="End everything when the bag ends.",
        ),
        DeclareLaunchArgument(
            "student",
            default_value="",
            description="Network of the student, shipped or .safetensors; empty: student.",
        ),
        DeclareLaunchArgument(
            "teacher",
            default_value="",
            description="Network of the teacher, shipped or .safetensors; empty: teacher.",
        ),
        DeclareLaunchArgument(
            "run_teacher",
            default_value="true",
            choices=flag,
            description="false: only the student labels, and nothing is compared.",
        ),
        DeclareLaunchArgument(
            "viewer",
            default_value="rviz",
            choices=["none", "rviz", "foxglove"],
            description="rviz, foxglove (its bridge, for config/viewers/comparison.foxglove.json) "
            "or none.",
        ),
        DeclareLaunchArgument(
            "fixed_frame",
            default_value="lidar",
            description="Frame that RViz shows everything in: the frame of the clouds, or map.",
        ),
        DeclareLaunchArgument(
            "dds_transport",
            default_value="auto",
            choices=["auto", "default", "shm_large", "udp_large", "large_data"],
            description="How Fast DDS carries clouds, see segmentation.launch.py.",
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    passed = ("student", "teacher", "run_teacher", "viewer", "fixed_frame", "dds_transport")
    arguments = {name: value(name) for name in passed}
    arguments |= {"input_topic": INPUT, "use_sim_time": "true"}
    file = PathJoinSubstitution([SHARE, "launch", "comparison.launch.py"])
    nodes = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file), launch_arguments=arguments.items()
    )
    command = [ExecutableInPackage("pointdistill", PACKAGE), "play", value("bag")]
    command += ["--to", INPUT, "--clock", "--rate", value("rate"), "--wait", "60"]
    if value("topic"):
        command += ["--topic", value("topic")]
    if value("loop") == "true":
        command.append("--loop")
    if value("step") == "true":
        command += ["--step-on-result", "--result-topic", "/student/labeled_points"]
    at_end = [Shutdown(reason="the bag has ended")] if value("exit_at_end") == "true" else None
    player = ExecuteProcess(
        cmd=command,
        additional_env=transport_variables(value("dds_transport")),
        output="screen",
        on_exit=at_end,
    )
    return [GroupAction([nodes], scoped=True, forwarding=False), player]
