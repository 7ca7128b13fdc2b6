# SPDX-License-Identifier: Apache-2.0
"""``segmentation_node --check``: load and warm up what the parameters say, tell about it, end.

For installation scripts and CI: engines are measured and their choice remembered, damaged weights
and parameters that do not fit are found before the robot moves. Exit code 0, or 2 with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.openmp import bound_spinning

OPTION = "--check"


class Checkable(Protocol):
    """A node that can be checked."""

    def trigger_configure(self) -> TransitionCallbackReturn: ...  # noqa: D102
    def facts(self) -> dict[str, str]: ...  # noqa: D102
    def destroy_node(self) -> Any: ...  # noqa: D102


def wants_check(arguments: list[str]) -> bool:
    """Whether the option is among the program's own arguments, those before ``--ros-args``."""
    own = arguments[: arguments.index("--ros-args")] if "--ros-args" in arguments else arguments
    return OPTION in own


def check(make_node: Callable[..., Checkable], args: list[str] | None = None) -> int:
    """Configure a node and print what it says about itself; the exit code."""
    bound_spinning()
    rclpy.init(args=args)
    node = None
    try:
        node = make_node(parameter_overrides=[Parameter("autostart", value=False)])
        configured = node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        for name, value in node.facts().items():
            print(f"{name:20s} {value}")
    except PointDistillError as error:
        print(f"segmentation_node: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0 if configured else 2
