# SPDX-License-Identifier: Apache-2.0
"""The life of a process with one node: start, spin, end with an exit code and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.transport import prepare_transport
from pointdistill_ros.openmp import bound_spinning


def spin(
    make_node: Callable[[], Node], args: list[str] | None = None, program: str = "segmentation_node"
) -> int:
    """Run a node until SIGINT or SIGTERM. Exit code 0, or 2 with one line on bad parameters."""
    prepare_transport()
    bound_spinning()
    rclpy.init(args=args)
    node = None
    try:
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while True:
            try:
                executor.spin()
                break
            except rclpy_implementation.RCLError as error:
                # Jazzy lets it out of the service where a transition does not exist
                if not rclpy.ok():
                    break
                node.get_logger().error(str(error))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except PointDistillError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
