# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: clouds in on ``points``, a class for every point out.

- out: ``~/labeled_points``, ``~/visualization`` (only when someone looks), ``~/stats``,
  ``~/class_info`` (latched), ``/diagnostics``
- lifecycle: configure loads the model and warms it up, activate subscribes, deactivate stops within
  one frame, cleanup frees the model; ``autostart`` does the first two at start
- the callback only puts the cloud into a one-slot mailbox; a worker thread does the rest, so that
  services, parameters and diagnostics answer while the network runs
The teacher is the same node with other weights.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.io.pointcloud2 import DecodeOptions, decode
from pointdistill_ros.nodes import messages, parameters
from pointdistill_ros.nodes.diagnostics import SAMPLE, Health, cloud_facts
from pointdistill_ros.nodes.model import ModelHost, OwnModel, SegmenterLike
from pointdistill_ros.nodes.model_thread import ModelThread
from pointdistill_ros.nodes.pace import EveryNth, rest, set_priority
from pointdistill_ros.nodes.run import spin
from pointdistill_ros.nodes.shedding import CloudBudget
from pointdistill_ros.nodes.status import diagnostic_array
from pointdistill_ros.nodes.worker import Counters, Frame, NewestFrameWorker
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

STOP_TIMEOUT = 2.0
"""Seconds a frame in work gets to finish when the node stops."""
TICK = 0.05
"""Seconds between looks at the health; published once a second and when a level, its
reason or the number of publishers changes."""


class Labelled(NamedTuple):
    """A cloud that has gone out with labels."""

    header: Any
    segmentation: Segmentation
    milliseconds: dict[str, float]


class SegmentationNode(LifecycleNode):
    """See the module. ``segmenter`` replaces the one of the ``model`` parameters (tests).

    ``host`` lends thread and segmenter where several nodes share them (multi_model.py).
    """

    def __init__(
        self,
        segmenter: SegmenterLike | None = None,
        node_name: str = "segmentation_node",
        host: ModelHost | None = None,
        **node_options: Any,
    ) -> None:
        """Declare parameters and diagnostics. Raises ConfigError on a bad parameter override."""
        super().__init__(node_name, **node_options)
        self._host = host or OwnModel(segmenter)
        self._segmenter: SegmenterLike | None = None
        self._budget: CloudBudget | None = None
        self._thread: ModelThread | None = None
        self._worker: NewestFrameWorker[PointCloud2, Labelled] | None = None
        self._subscription: Any = None
        self._outputs: dict[str, Any] = {}
        self._writers: dict[str, messages.CloudWriter] = {}
        self._foreign_stamps = False
        self._turns = EveryNth()
        self._health = Health()
        self._condition: object = None
        self._reported = 0.0

        self._config = parameters.declare(self, NodeConfig())
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._health_timer = self.create_timer(TICK, self._report_health, clock=steady)
        if messages.SegmentationStats is None:
            self.get_logger().info(
                "pointdistill_ros.msg is not built: ~/class_info is JSON text, ~/stats is absent"
            )
        if self._config.autostart:
            self._autostart = self.create_timer(0.0, self._start, clock=steady)

    # lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, create the outputs; else say why and stay unconfigured."""
        self._thread = self._host.thread()
        try:
            priority = self._thread.submit(self._lower_priority).result()
            segmenter = self._thread.submit(self._load_and_warm_up).result()
        except Exception as error:
            self._thread.end(STOP_TIMEOUT)
            reason = str(error) if isinstance(error, PointDistillError) else repr(error)
            self._health.unloaded(f"cannot load model {self._config.model.path}: {reason}")
            self.get_logger().error(f"cannot load model {self._config.model.path}: {reason}")
            return TransitionCallbackReturn.FAILURE
        self._segmenter, self._budget = segmenter, CloudBudget(segmenter)
        self._health.loaded(
            {
                "model": segmenter.model_id,
                "weights sha256": segmenter.weights_sha256,
                "parameters": str(segmenter.num_parameters),
                "device": segmenter.device,
                "priority": priority,
                "engine": f"{segmenter.engine}: {segmenter.engine_detail}",
                "label set": segmenter.label_set.name,
            }
        )
        self._create_outputs(segmenter)
        self.get_logger().info(
            f"model {segmenter.model_id} on {segmenter.device} ({segmenter.engine} engine: "
            f"{segmenter.engine_detail}), "
            f"{len(segmenter.label_set)} classes of {segmenter.label_set.name}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, then subscribe."""
        result = super().on_activate(state)  # outputs first: a cloud may be there at once
        self._worker = NewestFrameWorker(
            self._label,
            done=self._publish_stats,
            refused=self._refuse,
            max_age=lambda: self._config.input.max_age,
            rest=lambda worked: rest(worked, self._config.pace.max_load),
            clock=self._now,
        )
        assert self._thread is not None
        self._worker.start(self._thread)
        self._turns = EveryNth()
        self._health.activated()
        reliable = self._config.input.reliability == "reliable"
        self._subscription = self.create_subscription(
            PointCloud2,
            "points",
            self._receive,
            QoSProfile(
                depth=self._config.input.depth,
                reliability=(
                    ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
                ),
            ),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._mismatch),
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and wait for the frame in work."""
        if not self._stop_worker():
            self.get_logger().error(f"a cloud is still in work after {STOP_TIMEOUT:g} s")
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the outputs."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop_worker()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._stop_worker()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Join the worker before the publishers it uses are destroyed."""
        self._stop_worker()
        super().destroy_node()

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _create_outputs(self, segmenter: SegmenterLike) -> None:
        self._writers = {topic: messages.CloudWriter() for topic in ("labeled", "visualization")}
        overridable = QoSOverridingOptions.with_default_policies()
        kinds = {"~/labeled_points": PointCloud2, "~/visualization": PointCloud2}
        if messages.SegmentationStats is not None:
            kinds["~/stats"] = messages.SegmentationStats
        for topic, kind in kinds.items():
            self._outputs[topic] = self.create_lifecycle_publisher(
                kind, topic, 1, qos_overriding_options=overridable
            )
        # Not a lifecycle publisher: what the ids mean is known, and told, from configure on.
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        info = self.create_publisher(messages.class_info_type(), "~/class_info", latched)
        info.publish(
            messages.class_info(segmenter.label_set, segmenter.model_id, segmenter.weights_sha256)
        )
        self._outputs["~/class_info"] = info

    def _stop_worker(self) -> bool:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        self._health.deactivated()
        return self._worker is None or self._worker.stop(STOP_TIMEOUT)

    def _lower_priority(self) -> str:
        """Model thread, before any of the threads of the network exists."""
        priority, refused = set_priority(self._config.pace)
        if refused:
            self.get_logger().warning(f"priority {priority}; the system refused {refused}")
        return priority

    def _load_and_warm_up(self) -> SegmenterLike:
        segmenter = self._host.load(self._config.model)
        segmenter.max_latency_ms = self._config.model.max_latency_ms
        segmenter.warm_up()
        return segmenter

    def _release(self) -> None:
        if self._thread is not None:
            self._thread.end(STOP_TIMEOUT)
            self._thread = None
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs, self._writers = {}, {}
        self._segmenter = self._budget = None
        self._health.unloaded()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # else the freed memory stays with this process

    # clouds

    def _receive(self, cloud: PointCloud2) -> None:
        self._health.arrived()
        assert self._worker is not None
        if not self._turns.takes(self._config.pace.every):
            return
        stamp = cloud.header.stamp.sec + 1e-9 * cloud.header.stamp.nanosec
        frame = self._worker.put(cloud, stamp)
        if frame.foreign_stamp and not self._foreign_stamps:
            self._foreign_stamps = True
            self.get_logger().warning(
                f"stamps of {self._subscription.topic_name} are more than 10 s from this node's "
                "clock (a bag without use_sim_time?): ages count from the reception"
            )

    def _label(self, frame: Frame[PointCloud2]) -> Labelled:
        """Worker thread: cloud → labels → out."""
        cloud, config = frame.message, self._config
        began = time.perf_counter()
        options = DecodeOptions(
            config.input.intensity_field,
            config.input.intensity_scale,
            config.input.zero_is_no_return,
        )
        scan = decode(cloud, options)
        decoded = time.perf_counter()
        assert self._segmenter is not None and self._budget is not None
        self._budget.begin(config.model.max_latency_ms)
        segmentation = self._segmenter(scan)
        segmented = time.perf_counter()
        labelled = self._writers["labeled"].write(cloud, segmentation, config.output.layout)
        self._outputs["~/labeled_points"].publish(labelled)
        if self._outputs["~/visualization"].get_subscription_count():
            coloured = self._writers["visualization"].write(cloud, segmentation, "rgb")
            self._outputs["~/visualization"].publish(coloured)
        published = time.perf_counter()
        age = self._now() - frame.reference
        total = published - began
        shedding = self._budget.end(total - (segmented - decoded))
        self._health.finished(age, total, shedding)
        self._health.described(cloud_facts(cloud, scan), self._intensity_warning(scan))
        return Labelled(
            cloud.header,
            segmentation,
            {
                "age": 1e3 * age,
                "decode": 1e3 * (decoded - began),
                "publish": 1e3 * (published - segmented),
                "total": 1e3 * total,
            },
        )

    def _intensity_warning(self, scan: LidarScan) -> str:
        """Worker thread: the most frequent reason for bad labels on another lidar, or nothing."""
        if scan.intensity is None or self._segmenter is None:
            return ""
        sample = scan.intensity[::SAMPLE]
        return self._segmenter.intensity_warning(sample) or ""

    def _publish_stats(self, labelled: Labelled) -> None:
        """Worker thread, after the frame has been counted."""
        stats = self._outputs.get("~/stats")
        if stats is not None:
            assert self._worker is not None and self._segmenter is not None
            message = messages.segmentation_stats(
                labelled.header,
                self._segmenter.model_id,
                labelled.segmentation,
                labelled.milliseconds,
                self._worker.counters,
                self._health.summary,
            )
            stats.publish(message)

    def _refuse(self, error: Exception) -> None:
        """Worker thread: a cloud got no labels."""
        if not self.context.ok():
            return  # shutting down: publishing is what failed
        self._health.refused(error)
        kind = "bad cloud" if isinstance(error, PointDistillError) else type(error).__name__
        self.get_logger().warning(f"{kind}: {error}", throttle_duration_sec=5.0)

    # parameters and health

    def _judge_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        verdict, config = parameters.judge(self._config, changes)
        segmenter = self._segmenter
        if config.model.max_latency_ms and segmenter is not None and not segmenter.sheds_load:
            reason = f"engine {segmenter.engine!r} cannot shed load; leave model.max_latency_ms 0"
            return SetParametersResult(successful=False, reason=reason)
        return verdict

    def _apply_parameters(self, changes: list[Parameter[Any]]) -> None:
        self._config = parameters.judge(self._config, changes)[1]

    def _mismatch(self, info: Any) -> None:
        policy = qos_policy_name_from_kind(info.last_policy_kind)
        self._health.incompatible(policy)
        self.get_logger().warning(f"a publisher of points offers an incompatible QoS: {policy}")

    @property
    def counters(self) -> Counters:
        """Clouds since the last activation."""
        return Counters() if self._worker is None else self._worker.counters

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _report_health(self) -> None:
        topic = None if self._subscription is None else self._subscription.topic_name
        publishers = 0 if topic is None else self.count_publishers(topic)
        statuses = self._health.statuses(
            self.counters, publishers, self._config.diagnostics, self._turns.skipped
        )
        condition = [(status.level, status.message) for status in statuses], publishers
        now = time.monotonic()
        if condition != self._condition or now - self._reported >= 1.0:
            self._condition, self._reported = condition, now
            device = "" if self._segmenter is None else self._segmenter.device
            stamp = self.get_clock().now().to_msg()
            name = self.get_fully_qualified_name().lstrip("/")
            self._diagnostics.publish(diagnostic_array(name, device, stamp, statuses))


def main() -> int:
    """Entry point of the executable."""
    return spin(SegmentationNode)


if __name__ == "__main__":
    sys.exit(main())
