# SPDX-License-Identifier: Apache-2.0
"""The life of a process with nodes: start, spin, end with an exit code and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.library_log import library_log
from pointdistill_ros.nodes.transport import prepare_transport
from pointdistill_ros.openmp import bound_spinning


def spin(
    make_node: Callable[[], Node | Sequence[Node]],
    args: list[str] | None = None,
    program: str = "segmentation_node",
) -> int:
    """Run a node, or several, until SIGINT or SIGTERM.

    Exit code 0, or 2 with one line on bad parameters.
    """
    prepare_transport()
    bound_spinning()
    rclpy.init(args=args)
    nodes: Sequence[Node] = ()
    try:
        made = make_node()
        nodes = [made] if isinstance(made, Node) else made
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        with library_log(nodes[0].get_logger()):
            while True:
                try:
                    executor.spin()
                    break
                except rclpy_implementation.RCLError as error:
                    # Jazzy lets it out of the service where a transition does not exist
                    if not rclpy.ok():
                        break
                    nodes[0].get_logger().error(str(error))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except PointDistillError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
