# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node.

ros2 launch pointdistill_ros segmentation.launch.py input_topic:=/velodyne_points
"""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.transport import transport_variables

PACKAGE = "pointdistill_ros"
SHARE = FindPackageShare(PACKAGE)


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    arguments = [
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([SHARE, "config", "nodes", "segmentation.yaml"]),
            description="Parameters of the node (YAML, keyed /**).",
        ),
        DeclareLaunchArgument(
            "model",
            default_value="",
            description="Shipped network (student, teacher) or .safetensors; empty: params_file.",
        ),
        DeclareLaunchArgument(
            "device",
            default_value="",
            description="auto, cpu, cuda or cuda:N; empty: what params_file says.",
        ),
        DeclareLaunchArgument(
            "engine",
            default_value="",
            description="Form of the network: auto, native, torch, cuda …; empty: params_file.",
        ),
        DeclareLaunchArgument(
            "precision",
            default_value="",
            choices=["", "float32", "bfloat16", "float16"],
            description="Arithmetic of the network; empty: what params_file says.",
        ),
        DeclareLaunchArgument(
            "max_latency_ms",
            default_value="",
            description="Time for a cloud, beyond which load is shed, 0: none; empty: params_file.",
        ),
        DeclareLaunchArgument(
            "node_name",
            default_value="segmentation_node",
            description="Name of the node, with which its topics begin.",
        ),
        DeclareLaunchArgument(
            "input_topic", default_value="points", description="Topic of the input clouds."
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node, e.g. front_lidar."
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Take the time from /clock (simulation, bag with --clock).",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=["true", "false"],
            description="true: the node activates itself; false: launch does, by lifecycle events.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severe messages to show.",
        ),
        DeclareLaunchArgument(
            "rviz",
            default_value="false",
            choices=["true", "false"],
            description="Also start RViz, showing the coloured cloud.",
        ),
        DeclareLaunchArgument(
            "dds_transport",
            default_value="auto",
            choices=["auto", "default", "shm_large", "udp_large", "large_data"],
            description="How Fast DDS carries clouds. auto: the node takes shm_large unless the "
            "environment says otherwise; default: Fast DDS as it comes (loses large best-effort "
            "clouds); shm_large: 32 MB shared memory for every process started here; udp_large: "
            "UDP with 4 MB buffers (for a driver on this host that cannot be changed; needs "
            "net.core.rmem_max of 4 MB or more); large_data: TCP and shared memory, both ends.",
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace, use_sim_time = value("namespace"), value("use_sim_time") == "true"
    overrides = {"use_sim_time": use_sim_time, "autostart": value("autostart") == "true"}
    for argument, parameter, kind in (
        ("model", "model.path", str),
        ("device", "model.device", str),
        ("engine", "model.engine", str),
        ("precision", "model.precision", str),
        ("max_latency_ms", "model.max_latency_ms", float),
    ):
        if value(argument):
            overrides[parameter] = kind(value(argument))
    node = {
        "package": PACKAGE,
        "executable": "segmentation_node",
        "name": value("node_name"),
        "namespace": namespace,
        "parameters": [value("params_file"), overrides],
        "remappings": [("points", value("input_topic"))],
        "arguments": ["--ros-args", "--log-level", value("log_level")],
        "output": "screen",
    }
    variables = transport_variables(value("dds_transport"))
    actions = [SetEnvironmentVariable(name, content) for name, content in variables.items()]
    actions += [Node(**node)] if overrides["autostart"] else led_by_events(LifecycleNode(**node))
    if value("rviz") == "true":
        layout = PathJoinSubstitution([SHARE, "config", "viewers", "segmentation.rviz"])
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=namespace,
                parameters=[{"use_sim_time": use_sim_time}],
                arguments=["-d", layout],
            )
        )
    return actions


def led_by_events(node: LifecycleNode) -> list:
    """The node, configured when it is up and activated when it is configured."""

    def change(transition: int) -> EmitEvent:
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event)

    activate_when_inactive = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    return [
        RegisterEventHandler(activate_when_inactive),
        node,
        change(Transition.TRANSITION_CONFIGURE),
    ]
