# SPDX-License-Identifier: Apache-2.0
"""The comparison node: clouds with labels of student and teacher in, how far they agree out.

- in: ``student/labeled_points``, ``teacher/labeled_points``, and ``student/class_info``,
  ``teacher/class_info`` for what the class ids mean
- out: ``~/comparison`` per cloud, ``~/comparison_window`` over the last clouds (latched),
  ``~/disagreement`` (cloud) and ``~/summary`` (text), these two only when someone looks;
  ``/diagnostics``
- lifecycle as in segmentation_node.py; a side may be late, leave clouds out, restart or die, and
  neither ever waits for this node
How clouds are paired and compared: pairing.py, comparator.py.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from math import nan
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker

from pointdistill_ros.errors import CloudError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes import comparison_messages as messages
from pointdistill_ros.nodes import parameters
from pointdistill_ros.nodes.comparator import Comparator, Comparison, Labeller
from pointdistill_ros.nodes.comparison_config import ComparisonConfig
from pointdistill_ros.nodes.comparison_health import ComparisonHealth
from pointdistill_ros.nodes.log_throttle import LogThrottle
from pointdistill_ros.nodes.messages import class_info_type
from pointdistill_ros.nodes.pairing import SIDES, Side
from pointdistill_ros.nodes.run import spin
from pointdistill_ros.nodes.status import diagnostic_array
from pointdistill_ros.nodes.worker import FOREIGN_CLOCK

TICK = 0.1
"""Seconds between looks at the health; published once a second and when a level or its reason
changes."""


class ComparisonNode(LifecycleNode):
    """See the module."""

    def __init__(self, node_name: str = "comparison_node", **node_options: Any) -> None:
        """Declare parameters and diagnostics. Raises ConfigError on a bad parameter override."""
        super().__init__(node_name, **node_options)
        self._config = parameters.declare(self, ComparisonConfig())
        self._comparator = self._new_comparator()
        self._subscriptions_of: dict[Side, list[Any]] = {side: [] for side in SIDES}
        self._outputs: dict[str, Any] = {}
        self._health = ComparisonHealth()
        self._bad_clouds = {side: LogThrottle(self._log_period) for side in SIDES}
        self._strangers = LogThrottle(self._log_period)
        self._condition: object = None
        self._reported = 0.0
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._health_timer = self.create_timer(TICK, self._report_health, clock=steady)
        if messages.ModelComparison is None:
            self.get_logger().info(
                "pointdistill_ros.msg is not built (or from older sources): ~/comparison is JSON"
            )
        if self._config.autostart:
            self._autostart = self.create_timer(0.0, self._start, clock=steady)

    # lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Create the outputs; refuse label sets that do not exist."""
        try:
            self._given = {side: self._label_set_of(side) for side in SIDES}
        except LabelError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        overridable = QoSOverridingOptions.with_default_policies()
        comparison = messages.comparison_type()
        for topic, kind, depth in (
            ("~/comparison", comparison, 10),
            ("~/disagreement", PointCloud2, 1),
            ("~/summary", Marker, 1),
        ):
            self._outputs[topic] = self.create_lifecycle_publisher(
                kind, topic, depth, qos_overriding_options=overridable
            )
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._outputs["~/comparison_window"] = self.create_lifecycle_publisher(
            comparison, "~/comparison_window", latched
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin anew and subscribe."""
        result = super().on_activate(state)
        self._comparator = self._new_comparator()
        self._health.activated()
        reliable = self._config.input.reliability == "reliable"
        clouds = QoSProfile(
            depth=self._config.input.depth,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for side in SIDES:
            kinds = [(PointCloud2, "labeled_points", partial(self._receive, side), clouds)]
            label_set = self._given[side]
            if label_set is None:
                told = partial(self._learn, side)
                kinds.append((class_info_type(), "class_info", told, latched))
            else:
                self._introduce(side, Labeller(side, label_set))
            self._subscriptions_of[side] = [
                self.create_subscription(kind, f"{side}/{topic}", callback, qos)
                for kind, topic, callback, qos in kinds
            ]
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe."""
        self._unsubscribe()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the outputs and what waits."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Leave the graph at once: rclpy forgets the state machine, which holds the node in it."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _unsubscribe(self) -> None:
        for side in SIDES:
            for subscription in self._subscriptions_of[side]:
                self.destroy_subscription(subscription)
            self._subscriptions_of[side] = []
        self._health.deactivated()

    def _release(self) -> None:
        self._unsubscribe()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        self._comparator = self._new_comparator()

    def _new_comparator(self) -> Comparator:
        return Comparator(self._config.pairing.depth, self._config.window.clouds)

    def _label_set_of(self, side: Side) -> LabelSet | None:
        given = self._config.input
        name = given.student_label_set if side == "student" else given.teacher_label_set
        return None if name == "auto" else LabelSet.named(name)

    # clouds

    def _learn(self, side: Side, message: Any) -> None:
        try:
            self._introduce(side, messages.labeller(message))
        except LabelError as error:
            self.get_logger().error(f"{side}: {error}")
            self._health.incomparable(f"{side}: {error}")

    def _introduce(self, side: Side, labeller: Labeller) -> None:
        self._comparator.introduce(side, labeller)
        self._health.introduced(side, labeller.model_id, labeller.label_set)
        self.get_logger().info(
            f"{side}: {labeller.model_id}, {len(labeller.label_set)} classes of "
            f"{labeller.label_set.name}"
        )

    def _receive(self, side: Side, cloud: PointCloud2) -> None:
        stamp = cloud.header.stamp.sec + 1e-9 * cloud.header.stamp.nanosec
        age = self.get_clock().now().nanoseconds * 1e-9 - stamp
        if abs(age) > FOREIGN_CLOCK:
            age = nan
        try:
            comparison = self._comparator.take(side, cloud, age, time.monotonic())
        except CloudError as error:
            self._health.refused(side, str(error))
            if self._bad_clouds[side].due():
                self.get_logger().warning(f"{side}: bad cloud: {error}")
            return
        except LabelError as error:
            self._health.arrived(side, age)
            self._health.incomparable(str(error))
            if self._strangers.due():
                self.get_logger().warning(f"cannot compare: {error}")
            return
        self._health.arrived(side, age)
        if comparison is not None:
            self._publish(comparison)

    def _publish(self, comparison: Comparison) -> None:
        level = self._health.compared(
            comparison, self._config.diagnostics, self._config.window.clouds
        )
        out = self._outputs
        out["~/comparison"].publish(messages.comparison_message(comparison))
        out["~/comparison_window"].publish(messages.window_message(comparison))
        if out["~/disagreement"].get_subscription_count():
            cloud = messages.disagreement_cloud(
                comparison.header, comparison.differs, comparison.student.label_set
            )
            out["~/disagreement"].publish(cloud)
        if out["~/summary"].get_subscription_count():
            out["~/summary"].publish(messages.summary_marker(comparison, level))

    # parameters and health

    def _judge_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        return parameters.judge(self._config, changes)[0]

    def _apply_parameters(self, changes: list[Parameter[Any]]) -> None:
        self._config = parameters.judge(self._config, changes)[1]
        self._comparator.resize(self._config.pairing.depth, self._config.window.clouds)

    def _log_period(self) -> float:
        return self._config.diagnostics.log_period

    def _report_health(self) -> None:
        publishers = {
            side: self.count_publishers(subscriptions[0].topic_name) if subscriptions else 0
            for side, subscriptions in self._subscriptions_of.items()
        }
        counters = {side: self._comparator.counters(side) for side in SIDES}
        statuses = self._health.statuses(counters, publishers, self._config.diagnostics)
        condition = [(status.level, status.message) for status in statuses], publishers
        now = time.monotonic()
        if condition != self._condition or now - self._reported >= 1.0:
            self._condition, self._reported = condition, now
            stamp = self.get_clock().now().to_msg()
            name = self.get_fully_qualified_name().lstrip("/")
            self._diagnostics.publish(diagnostic_array(name, "", stamp, statuses))


def main() -> int:
    """Entry point of the executable."""
    return spin(ComparisonNode, program="comparison_node")


if __name__ == "__main__":
    sys.exit(main())
