# SPDX-License-Identifier: Apache-2.0
"""What launch files start: our nodes, however they come to life, and viewers. Needs ROS launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch.actions import EmitEvent, RegisterEventHandler, SetEnvironmentVariable
from launch.events import matches_action
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from pointdistill_ros.nodes.launch_arguments import PACKAGE, overrides, shared_file
from pointdistill_ros.nodes.transport import transport_variables


def our_node(
    executable: str,
    given: Mapping[str, str],
    params_file: Any,
    remappings: Sequence[tuple[str, str]] = (),
    arguments: Sequence[str] = (),
    own: Sequence[Any] = (),
) -> list[Any]:
    """A node of this package, brought to life as ``autostart`` says.

    given: values of the arguments; namespace, use_sim_time, autostart and log_level at least, and
    node_name unless the program names its nodes itself. own: parameter files and dictionaries that
    win over params_file and ``given``.
    """
    parameters = {
        **overrides(given),
        "use_sim_time": given["use_sim_time"] == "true",
        "autostart": given["autostart"] == "true",
    }
    options: dict[str, Any] = {
        "package": PACKAGE,
        "executable": executable,
        "parameters": [params_file, parameters, *own],
        "remappings": list(remappings),
        "arguments": [*arguments, "--ros-args", "--log-level", given["log_level"]],
        "output": "screen",
    }
    if "node_name" in given:
        options |= {"name": given["node_name"], "namespace": given["namespace"]}
    if given["autostart"] == "false":
        return _led_by_events(LifecycleNode(**options))
    return [Node(**options)]


def segmentation_node(
    given: Mapping[str, str],
    remappings: Sequence[tuple[str, str]] = (),
    own: Sequence[Any] = (),
) -> list[Any]:
    """A segmentation node; ``given`` as for ``our_node``, with params_file and input_topic."""
    points = ("points", given["input_topic"])
    return our_node(
        "segmentation_node", given, given["params_file"], [points, *remappings], own=own
    )


def transport(choice: str) -> list[SetEnvironmentVariable]:
    """The environment of what is started after it, for the argument ``dds_transport``."""
    variables = transport_variables(choice)
    return [SetEnvironmentVariable(name, content) for name, content in variables.items()]


def rviz(layout: str, given: Mapping[str, str], fixed_frame: str = "") -> Node:
    """RViz with one of our layouts, e.g. ``segmentation.rviz``."""
    frame = ["-f", fixed_frame] if fixed_frame else []
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=given["namespace"],
        parameters=[{"use_sim_time": given["use_sim_time"] == "true"}],
        arguments=["-d", shared_file(f"config/viewers/{layout}"), *frame],
    )


def foxglove(given: Mapping[str, str]) -> Node:
    """The bridge through which Foxglove sees the topics."""
    return Node(
        package="foxglove_bridge",
        executable="foxglove_bridge",
        parameters=[{"use_sim_time": given["use_sim_time"] == "true"}],
    )


def _led_by_events(node: LifecycleNode) -> list[Any]:
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
