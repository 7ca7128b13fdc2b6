# SPDX-License-Identifier: Apache-2.0
"""Start a student, a teacher beside it, and the node that compares them.

ros2 launch pointdistill_ros comparison.launch.py teacher:=teacher.safetensors \
    input_topic:=/velodyne_points viewer:=rviz
"""

from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.transport import transport_variables

PACKAGE = "pointdistill_ros"
SHARE = FindPackageShare(PACKAGE)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""

    def params_file(argument: str, file: str, whose: str) -> DeclareLaunchArgument:
        return DeclareLaunchArgument(
            argument,
            default_value=PathJoinSubstitution([SHARE, "config", "nodes", file]),
            description=f"Parameters of the {whose} (YAML, keyed /**).",
        )

    arguments = [
        DeclareLaunchArgument(
            "student",
            default_value="",
            description="Network of the student, shipped or .safetensors; empty: its params_file.",
        ),
        DeclareLaunchArgument(
            "teacher",
            default_value="",
            description="Network of the teacher, shipped or .safetensors; empty: its params_file.",
        ),
        DeclareLaunchArgument(
            "run_teacher",
            default_value="true",
            choices=["true", "false"],
            description="false: a teacher runs elsewhere, under the node name teacher.",
        ),
        params_file("student_params_file", "segmentation.yaml", "student"),
        params_file("teacher_params_file", "teacher.yaml", "teacher"),
        params_file("comparison_params_file", "comparison.yaml", "comparison"),
        DeclareLaunchArgument(
            "student_device",
            default_value="",
            description="auto, cpu, cuda or cuda:N; empty: what student_params_file says.",
        ),
        DeclareLaunchArgument(
            "teacher_device",
            default_value="",
            description="auto, cpu, cuda or cuda:N; empty: what teacher_params_file says.",
        ),
        DeclareLaunchArgument(
            "max_latency_ms",
            default_value="",
            description="The student's time for a cloud, 0: no limit; empty: student_params_file.",
        ),
        DeclareLaunchArgument(
            "input_topic", default_value="points", description="Topic of the input clouds."
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of all nodes, e.g. front_lidar."
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Take the time from /clock (simulation, bag with --clock).",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severe messages to show.",
        ),
        DeclareLaunchArgument(
            "viewer",
            default_value="none",
            choices=["none", "rviz", "foxglove"],
            description="rviz: labels, disagreement and latencies in RViz; foxglove: its bridge, "
            "for the layout config/viewers/comparison.foxglove.json; none.",
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

    shared = ("input_topic", "namespace", "use_sim_time", "log_level", "dds_transport")
    common = {name: value(name) for name in shared}
    sides = {"student": {"max_latency_ms": value("max_latency_ms")}}
    if value("run_teacher") == "true":
        sides["teacher"] = {}
    actions = []
    for side, own in sides.items():
        arguments = common | own
        arguments["node_name"] = side
        arguments["params_file"] = value(f"{side}_params_file")
        arguments["model"], arguments["device"] = value(side), value(f"{side}_device")
        actions.append(labelling_node(arguments))
    use_sim_time = value("use_sim_time") == "true"
    variables = transport_variables(value("dds_transport"))
    actions += [SetEnvironmentVariable(name, content) for name, content in variables.items()]
    actions.append(
        Node(
            package=PACKAGE,
            executable="comparison_node",
            name="comparison_node",
            namespace=value("namespace"),
            parameters=[value("comparison_params_file"), {"use_sim_time": use_sim_time}],
            arguments=["--ros-args", "--log-level", value("log_level")],
            output="screen",
        )
    )
    return actions + viewer(value("viewer"), value("namespace"), value("fixed_frame"), use_sim_time)


def labelling_node(arguments: dict[str, str]) -> GroupAction:
    """segmentation.launch.py with these arguments only: an included file sees its parent's."""
    file = PathJoinSubstitution([SHARE, "launch", "segmentation.launch.py"])
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file), launch_arguments=arguments.items()
    )
    return GroupAction([include], scoped=True, forwarding=False)


def viewer(choice: str, namespace: str, fixed_frame: str, use_sim_time: bool) -> list:
    """What shows the topics to a person."""
    if choice == "rviz":
        layout = PathJoinSubstitution([SHARE, "config", "viewers", "comparison.rviz"])
        return [
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=namespace,
                parameters=[{"use_sim_time": use_sim_time}],
                arguments=["-d", layout, "-f", fixed_frame],
            )
        ]
    if choice == "foxglove":
        return [
            Node(
                package="foxglove_bridge",
                executable="foxglove_bridge",
                parameters=[{"use_sim_time": use_sim_time}],
            )
        ]
    return []
