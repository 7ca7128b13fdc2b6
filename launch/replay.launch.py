# SPDX-License-Identifier: Apache-2.0
"""Play a bag to a student and a teacher, compare them, and look at it.

ros2 launch pointdistill_ros replay.launch.py bag:=drive.mcap teacher:=teacher.safetensors
"""

from launch.actions import (
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchContext, LaunchDescription
from pointdistill_ros.nodes.launch_arguments import PACKAGE, declare, shared_file, values
from pointdistill_ros.nodes.transport import transport_variables

INPUT = "/points"
"""Where the bag's clouds go, whatever the bag calls them."""
PASSED_ON = (
    *("student", "teacher", "run_teacher", "z_offset", "target_frame"),
    *("viewer", "fixed_frame", "log_level", "dds_transport"),
)
"""Arguments of comparison.launch.py."""
OWN = ("bag", "topic", "rate", "loop", "step", "exit_at_end")


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default; `--show-args` prints them."""
    arguments = declare(*OWN, *PASSED_ON, viewer="rviz")
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, now that the arguments have values."""
    given = values(context, *OWN)
    arguments = values(context, *PASSED_ON) | {"input_topic": INPUT, "use_sim_time": "true"}
    nodes = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(shared_file("launch/comparison.launch.py")),
        launch_arguments=arguments.items(),
    )
    command = [ExecutableInPackage("pointdistill", PACKAGE), "play", given["bag"]]
    command += ["--to", INPUT, "--clock", "--rate", given["rate"], "--wait", "60"]
    if given["topic"]:
        command += ["--topic", given["topic"]]
    if given["loop"] == "true":
        command.append("--loop")
    if given["step"] == "true":
        command += ["--step-on-result", "--result-topic", "/student/labeled_points"]
    at_end = [Shutdown(reason="the bag has ended")] if given["exit_at_end"] == "true" else None
    player = ExecuteProcess(
        cmd=command,
        additional_env=transport_variables(arguments["dds_transport"]),
        output="screen",
        on_exit=at_end,
    )
    # an included file would see this one's arguments of the same names: the group hides them
    return [GroupAction([nodes], scoped=True, forwarding=False), player]
