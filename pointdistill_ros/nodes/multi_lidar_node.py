# SPDX-License-Identifier: Apache-2.0
"""One process for several lidars: a segmentation node each, one network for all of them.

    multi_lidar_node --lidars lidars.yaml --ros-args -p model.path:=student

- every lidar has a node of its own: topics, parameters, diagnostics, lifecycle as if it were alone
- they take turns with the network (multi_turns.py), which is in memory once (multi_model.py)
rclpy has no component containers; this is what takes their place. Fork or threads per lidar would
each bring the network's thread pool along.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.utilities import remove_ros_args

from pointdistill_ros.errors import ConfigError, one_line_errors
from pointdistill_ros.nodes.multi_config import LidarConfig, read_lidars
from pointdistill_ros.nodes.multi_model import SharedModel
from pointdistill_ros.nodes.run import spin
from pointdistill_ros.nodes.segmentation_node import SegmentationNode

PROGRAM = "multi_lidar_node"
OWN = ("model.max_latency_ms",)
"""Parameters of the model that each lidar may have for itself."""
COMMON = ("pace.priority",)
"""What lidars share beside the model: it is that of the one thread."""


def make_nodes(
    lidars: Sequence[LidarConfig], namespace: str = "", shared: SharedModel | None = None
) -> list[Node]:
    """A node for each lidar; ``shared`` replaces the real model (tests).

    Raises ConfigError naming the lidar whose parameters are bad.
    """
    shared = shared or SharedModel()
    nodes: list[Node] = []
    try:
        nodes.extend(_make_node(lidar, namespace, shared) for lidar in lidars)
        check_agreement(dict(zip([lidar.name for lidar in lidars], nodes, strict=True)))
    except BaseException:
        for node in nodes:
            node.destroy_node()
        raise
    return nodes


def check_agreement(nodes: dict[str, Node]) -> None:
    """The lidars share one model: their parameters must ask for the same. Raises ConfigError."""
    wanted = {name: _shared_parameters(node) for name, node in nodes.items()}
    first, *others = wanted
    for other in others:
        for parameter, value in wanted[first].items():
            if wanted[other][parameter] != value:
                raise ConfigError(
                    f"one process has one model: {parameter} is {value!r} for lidar {first} and "
                    f"{wanted[other][parameter]!r} for {other}; give both the same, or each a "
                    "process of its own"
                )


def _make_node(lidar: LidarConfig, namespace: str, shared: SharedModel) -> Node:
    arguments = ["--ros-args", "-r", f"points:={lidar.topic}"]
    if lidar.params_file:
        arguments += ["--params-file", lidar.params_file]
    try:
        return SegmentationNode(
            node_name=lidar.node_name,
            namespace=lidar.namespace_in(namespace),
            host=shared,
            cli_args=arguments,
            parameter_overrides=[Parameter(n, value=v) for n, v in lidar.overrides().items()],
        )
    except ConfigError as error:
        raise ConfigError(f"lidar {lidar.name}: {error}") from error


def _shared_parameters(node: Node) -> dict[str, object]:
    model = {f"model.{name}": p.value for name, p in node.get_parameters_by_prefix("model").items()}
    common = {name: node.get_parameter(name).value for name in COMMON}
    return {name: value for name, value in {**model, **common}.items() if name not in OWN}


def main() -> int:
    """Entry point of the executable."""
    parser = argparse.ArgumentParser(PROGRAM, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--lidars",
        required=True,
        help="YAML file of the lidars, see config/nodes/multi_lidar.yaml, or its list as text",
    )
    parser.add_argument("--namespace", default="", help="namespace of all nodes")
    options = parser.parse_args(remove_ros_args(sys.argv)[1:])
    with one_line_errors(PROGRAM):
        lidars = read_lidars(options.lidars)
    return spin(partial(make_nodes, lidars, options.namespace), program=PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
