# SPDX-License-Identifier: Apache-2.0
"""The arguments of all launch files, each described once. Needs ROS launch.

A launch file declares those it has by name; what an argument means and which values it may have is
the same in every file, only a default may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext
from pointdistill_ros.errors import ConfigError

PACKAGE = "pointdistill_ros"
_FLAG = ("true", "false")


@dataclass(frozen=True)
class Argument:
    """An argument of launch files."""

    description: str
    default: str | None = ""
    """A file in the package's share folder where it begins with config/; None: must be given."""
    choices: tuple[str, ...] = ()
    parameter: str = ""
    """Parameter of the segmentation node that it sets, unless it is empty."""
    kind: Callable[[str], Any] = str
    """From text to the parameter's value. Raises ValueError."""


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


ARGUMENTS = {
    # what runs
    "params_file": Argument(
        "Parameters of the node (YAML, keyed /**).", "config/nodes/segmentation.yaml"
    ),
    "model": Argument(
        "Shipped network (student, teacher) or .safetensors; empty: what params_file says.",
        parameter="model.path",
    ),
    "device": Argument(
        "auto, cpu, cuda or cuda:N; empty: what params_file says.", parameter="model.device"
    ),
    "engine": Argument(
        "Form of the network: auto, native, torch, cuda …; empty: what params_file says.",
        parameter="model.engine",
    ),
    "precision": Argument(
        "Arithmetic of the network; empty: what params_file says.",
        choices=("", "float32", "bfloat16", "float16"),
        parameter="model.precision",
    ),
    "max_latency_ms": Argument(
        "Time for a cloud, beyond which load is shed, 0: no limit; empty: what params_file says.",
        parameter="model.max_latency_ms",
        kind=float,
    ),
    # where the network sees the clouds
    "z_offset": Argument(
        "Metres that the sensor is higher above the road than that of the training; empty: what "
        "params_file says.",
        parameter="input.z_offset",
        kind=float,
    ),
    "target_frame": Argument(
        "Frame, x forward and z up, in which the network sees the clouds (by tf2), for tilted "
        "sensors; empty: what params_file says.",
        parameter="input.target_frame",
    ),
    # what comes out
    "classes": Argument(
        "Classes that go out: model (the network's own) or a label set, e.g. autoware; empty: what "
        "params_file says.",
        parameter="output.classes",
    ),
    "filter_classes": Argument(
        "Classes that ~/filtered leaves out, separated by commas; empty: what params_file says.",
        parameter="filter.classes",
        kind=_names,
    ),
    "filter_probability": Argument(
        "Least probability of a class for ~/filtered to leave the point out; empty: what "
        "params_file says.",
        parameter="filter.class_probability_threshold",
        kind=float,
    ),
    # names and processes
    "node_name": Argument("Name of the node, with which its topics begin.", "segmentation_node"),
    "namespace": Argument("Namespace of all nodes started here, e.g. front_lidar."),
    "input_topic": Argument("Topic of the input clouds.", "points"),
    "use_sim_time": Argument(
        "Take the time from /clock (simulation, bag with --clock).", "false", _FLAG
    ),
    "autostart": Argument(
        "true: the nodes activate themselves; false: launch does, by lifecycle events; external: "
        "something else does, Nav2's lifecycle_manager, say.",
        "true",
        ("true", "false", "external"),
    ),
    "log_level": Argument(
        "Least severe messages to show.", "info", ("debug", "info", "warn", "error", "fatal")
    ),
    "dds_transport": Argument(
        "How Fast DDS carries clouds. auto: the node takes shm_large unless the environment says "
        "otherwise; default: Fast DDS as it comes (loses large best-effort clouds); shm_large: "
        "32 MB shared memory for every process started here; udp_large: UDP with 4 MB buffers (for "
        "a driver on this host that cannot be changed; needs net.core.rmem_max of 4 MB or more); "
        "large_data: TCP and shared memory, both ends.",
        "auto",
        ("auto", "default", "shm_large", "udp_large", "large_data"),
    ),
    # viewers
    "rviz": Argument("Also start RViz, showing the coloured cloud.", "false", _FLAG),
    "viewer": Argument(
        "rviz: labels, disagreement and latencies in RViz; foxglove: its bridge, for the layout "
        "config/viewers/comparison.foxglove.json; none.",
        "none",
        ("none", "rviz", "foxglove"),
    ),
    "fixed_frame": Argument(
        "Frame that RViz shows everything in: the frame of the clouds, or map.", "lidar"
    ),
    # student and teacher
    "student": Argument(
        "Network of the student, shipped or .safetensors; empty: what its params_file says."
    ),
    "teacher": Argument(
        "Network of the teacher, shipped or .safetensors; empty: what its params_file says."
    ),
    "run_teacher": Argument(
        "false: no teacher is started; one may run elsewhere under the node name teacher.",
        "true",
        _FLAG,
    ),
    "student_params_file": Argument(
        "Parameters of the student (YAML, keyed /**).", "config/nodes/segmentation.yaml"
    ),
    "teacher_params_file": Argument(
        "Parameters of the teacher (YAML, keyed /**).", "config/nodes/teacher.yaml"
    ),
    "comparison_params_file": Argument(
        "Parameters of the comparison node (YAML, keyed /**).", "config/nodes/comparison.yaml"
    ),
    "student_device": Argument("auto, cpu, cuda or cuda:N; empty: what student_params_file says."),
    "teacher_device": Argument("auto, cpu, cuda or cuda:N; empty: what teacher_params_file says."),
    # bags
    "bag": Argument("The bag to play: folder, .mcap, .db3 or ROS 1 .bag.", None),
    "topic": Argument("Topic of the clouds in the bag; empty: the only one that it has."),
    "rate": Argument("Speed of the bag, 1 = as recorded.", "1.0"),
    "loop": Argument("Begin the bag again at its end.", "false", _FLAG),
    "step": Argument(
        "Play the next cloud when the student's labels for the last are there, so that the student "
        "misses none; the teacher still labels what it can.",
        "false",
        _FLAG,
    ),
    "exit_at_end": Argument("End everything when the bag ends.", "false", _FLAG),
    # several lidars
    "lidars": Argument(
        "YAML file of the lidars (see the default), or their list as YAML text: "
        "[{name: front, topic: /front/points}, …].",
        "config/nodes/multi_lidar.yaml",
    ),
    "mode": Argument(
        "nodes: a process for each lidar; process: one for all, with one network in memory.",
        "nodes",
        ("nodes", "process"),
    ),
    # stacks
    "segmented_topic": Argument(
        "Topic of the labelled cloud.", "/perception/ptv3/segmented/pointcloud"
    ),
    "filtered_topic": Argument(
        "Topic of the cloud without the ground. /perception/obstacle_segmentation/pointcloud: in "
        "place of Autoware's ground segmentation.",
        "/perception/ptv3/filtered/pointcloud",
    ),
    "visualization_topic": Argument(
        "Topic of the coloured cloud.", "/perception/ptv3/visualization/pointcloud"
    ),
    "cluster": Argument(
        "Also start Autoware's label_based_euclidean_cluster on the labelled cloud.",
        "false",
        _FLAG,
    ),
    "cluster_params_file": Argument(
        "Parameters of label_based_euclidean_cluster.",
        "config/stacks/autoware/label_based_euclidean_cluster.param.yaml",
    ),
    "objects_topic": Argument(
        "Topic of the clustered objects.", "/perception/ptv3/clustered/objects"
    ),
    "lifecycle_manager": Argument(
        "Start a lifecycle manager of Nav2 for the node; false: name the node in your own.",
        "true",
        _FLAG,
    ),
}
"""Name → argument."""


def declare(*names: str, **defaults: str) -> list[DeclareLaunchArgument]:
    """Declare these arguments and those with a default of their own. Raises KeyError."""
    return [_declared(name, defaults.get(name, ARGUMENTS[name].default)) for name in
            dict.fromkeys((*names, *defaults))]  # fmt: skip


def values(context: LaunchContext, *names: str) -> dict[str, str]:
    """What the arguments have been given, as text."""
    return {name: LaunchConfiguration(name).perform(context) for name in names}


def overrides(given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of a segmentation node from arguments that are not empty. Raises ConfigError."""
    parameters = {}
    for name, text in given.items():
        argument = ARGUMENTS[name]
        if argument.parameter and text:
            try:
                parameters[argument.parameter] = argument.kind(text)
            except ValueError as error:
                raise ConfigError(f"{name}:={text}: {error}") from error
    return parameters


def shared_file(path: str) -> PathJoinSubstitution:
    """A file of the package's share folder."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), *path.split("/")])


def _declared(name: str, default: str | None) -> DeclareLaunchArgument:
    argument = ARGUMENTS[name]
    options: dict[str, Any] = {"description": argument.description}
    if default is not None:
        shipped = default.startswith("config/")
        options["default_value"] = shared_file(default) if shipped else default
    if argument.choices:
        options["choices"] = list(argument.choices)
    return DeclareLaunchArgument(name, **options)
