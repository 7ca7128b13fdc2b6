# SPDX-License-Identifier: Apache-2.0
"""Intake: from the subscription to the pipeline, for one activation of a segmentation node.

The callback only puts the cloud into a one-slot mailbox; the worker's thread does the rest, so that
services, parameters and diagnostics answer while the network runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.diagnostics import Health
from pointdistill_ros.nodes.log_throttle import LogThrottle
from pointdistill_ros.nodes.model_thread import ModelThread
from pointdistill_ros.nodes.outputs import Labelled
from pointdistill_ros.nodes.pace import EveryNth, rest
from pointdistill_ros.nodes.pipeline import CloudPipeline
from pointdistill_ros.nodes.worker import Counters, Frame, NewestFrameWorker


class Intake:
    """Clouds of ``points``: heard, counted, labelled, refused."""

    def __init__(
        self,
        node: Node,
        pipeline: CloudPipeline,
        health: Health,
        config: Callable[[], NodeConfig],
    ) -> None:
        """``config``: what is in force; some of it changes while clouds come."""
        self._node, self._health, self._config = node, health, config
        self._pipeline: CloudPipeline | None = pipeline
        self._turns = EveryNth()
        self._foreign_stamps = False
        self._refusals = LogThrottle(lambda: config().diagnostics.log_period)
        self._subscription: Any = None
        self._worker: NewestFrameWorker[PointCloud2, Labelled] = NewestFrameWorker(
            self._label,
            done=self._publish_figures,
            refused=self._refuse,
            max_age=lambda: config().input.max_age,
            rest=lambda worked: rest(worked, config().pace.max_load),
            clock=lambda: node.get_clock().now().nanoseconds * 1e-9,
        )

    def start(self, thread: ModelThread) -> None:
        """Subscribe, and label in ``thread``. Raises where a QoS override does not exist."""
        given = self._config().input
        reliable = given.reliability == "reliable"
        self._subscription = self._node.create_subscription(
            PointCloud2,
            "points",
            self._receive,
            QoSProfile(
                depth=given.depth,
                reliability=(
                    ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
                ),
            ),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._mismatch),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._worker.start(thread)

    def stop(self, timeout: float) -> bool:
        """Unsubscribe and wait for the cloud in work; False if it takes longer, seconds."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        return self._worker.stop(timeout)

    def release(self) -> None:
        """Let go of the pipeline and its network; the counters stay."""
        self._pipeline = None

    @property
    def counters(self) -> Counters:
        """Clouds since the start."""
        return self._worker.counters

    @property
    def skipped(self) -> int:
        """Clouds left out to keep the pace."""
        return self._turns.skipped

    @property
    def publishers(self) -> int:
        """How many publish clouds; 0 while nobody subscribes to them."""
        if self._subscription is None:
            return 0
        return int(self._node.count_publishers(self._subscription.topic_name))

    def _receive(self, cloud: PointCloud2) -> None:
        assert self._pipeline is not None
        config = self._config()
        heard = not config.output.lazy or self._pipeline.outputs.heard
        self._health.arrived(heard=heard)
        if not heard or not self._turns.takes(config.pace.every):
            return
        stamp = cloud.header.stamp.sec + 1e-9 * cloud.header.stamp.nanosec
        arrival = self._worker.put(cloud, stamp).arrival
        self._health.stamped(arrival, config.input.max_age)
        if arrival.foreign and not self._foreign_stamps:
            self._node.get_logger().warning(
                f"stamps of {self._subscription.topic_name} are more than 10 s from this node's "
                "clock (a bag without use_sim_time?): ages count from the reception",
                throttle_duration_sec=60.0,
            )
        self._foreign_stamps = arrival.foreign

    def _label(self, frame: Frame[PointCloud2]) -> Labelled:
        """Worker's thread: cloud → labels → out."""
        assert self._pipeline is not None
        return self._pipeline(frame.message, lambda: self._worker.age(frame), self._config())

    def _publish_figures(self, labelled: Labelled) -> None:
        """Worker's thread, after the cloud has been counted."""
        assert self._pipeline is not None
        self._pipeline.outputs.publish_figures(labelled, self.counters, self._health.summary)

    def _refuse(self, error: Exception) -> None:
        """Worker's thread: a cloud got no labels."""
        if not self._node.context.ok():
            return  # shutting down: publishing is what failed
        self._health.refused(error)
        if self._refusals.due():
            kind = "bad cloud" if isinstance(error, PointDistillError) else type(error).__name__
            self._node.get_logger().warning(f"{kind}: {error}")

    def _mismatch(self, info: Any) -> None:
        policy = qos_policy_name_from_kind(info.last_policy_kind)
        self._health.incompatible(policy)
        self._node.get_logger().warning(
            f"a publisher of points offers an incompatible QoS: {policy}"
        )
