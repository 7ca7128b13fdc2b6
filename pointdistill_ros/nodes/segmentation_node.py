# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: clouds in on ``points``, a class for every point out.

- out: ``~/labeled_points`` and all else that outputs.py lists, ``/diagnostics``
- lifecycle: configure loads the model and warms it up, activate subscribes, deactivate stops within
  one frame, cleanup frees the model; ``autostart`` does the first two at start
- clouds: intake.py hears, counts and hands them to the model's thread, pipeline.py labels them
- while nobody listens to anything that depends on labels, no cloud is labelled
The teacher is the same node with other weights. docs/node.md lists topics, QoS and parameters.
"""

from __future__ import annotations

import sys
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import LabelError, PointDistillError
from pointdistill_ros.nodes import messages, parameters
from pointdistill_ros.nodes.aliases import apply_aliases
from pointdistill_ros.nodes.check import check, wants_check
from pointdistill_ros.nodes.diagnostics import Health
from pointdistill_ros.nodes.drift import DriftMonitor
from pointdistill_ros.nodes.intake import Intake
from pointdistill_ros.nodes.model import ModelHost, OwnModel, SegmenterLike, model_facts
from pointdistill_ros.nodes.model_thread import ModelThread
from pointdistill_ros.nodes.outputs import Outputs
from pointdistill_ros.nodes.pace import set_priority
from pointdistill_ros.nodes.pipeline import CloudPipeline
from pointdistill_ros.nodes.placement import TfPlacement
from pointdistill_ros.nodes.reporter import Reporter
from pointdistill_ros.nodes.run import spin
from pointdistill_ros.nodes.worker import Counters
from pointdistill_ros.sent_classes import SentClasses

STOP_TIMEOUT = 2.0
"""Seconds a frame in work gets to finish when the node stops."""
TICK = 0.05
"""Seconds between looks at the health."""


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
        self._classes: SentClasses | None = None
        self._pipeline: CloudPipeline | None = None
        self._drift: DriftMonitor | None = None
        self._thread: ModelThread | None = None
        self._intake: Intake | None = None
        self._health = Health()
        apply_aliases(self)
        self._config = parameters.declare(self, NodeConfig())
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._reporter = Reporter(self)
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
        doing = f"load model {self._config.model.path}"
        self._thread = self._host.thread()
        try:
            priority = self._thread.submit(self._lower_priority).result()
            self._segmenter = self._thread.submit(self._load_and_warm_up).result()
            doing = "configure"
            self._pipeline = self._make_pipeline(self._segmenter)
        except Exception as error:
            self._release()
            reason = str(error) if isinstance(error, PointDistillError) else repr(error)
            self._health.unloaded(f"cannot {doing}: {reason}")
            self.get_logger().error(f"cannot {doing}: {reason}")
            return TransitionCallbackReturn.FAILURE
        segmenter = self._segmenter
        self._health.loaded({**model_facts(segmenter), "priority": priority})
        self.get_logger().info(
            f"model {segmenter.model_id} on {segmenter.device} ({segmenter.engine} engine: "
            f"{segmenter.engine_detail}), "
            f"{len(segmenter.label_set)} classes of {segmenter.label_set.name}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        assert self._pipeline is not None and self._thread is not None
        intake = Intake(self, self._pipeline, self._health, lambda: self._config)
        if self._drift is not None:
            self._drift.forget()
        try:
            intake.start(self._thread)
        except Exception as error:  # a QoS override that does not exist
            self.get_logger().error(f"cannot subscribe to points: {error}")
            return TransitionCallbackReturn.FAILURE
        self._intake = intake
        self._health.activated()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and wait for the frame in work."""
        if not self._stop_intake():
            self.get_logger().error(f"a cloud is still in work after {STOP_TIMEOUT:g} s")
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the outputs."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop_intake()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._stop_intake()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the work before the publishers it uses are destroyed."""
        self._stop_intake()
        super().destroy_node()
        # rclpy forgets it, and with it the node stays in the graph until Python looks for cycles
        self._state_machine.destroy_when_not_in_use()

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _make_pipeline(self, segmenter: SegmenterLike) -> CloudPipeline:
        """Raises where the model's classes, a target frame or a QoS override is not to be had."""
        self._classes = SentClasses(segmenter.label_set, self._config.output.classes)
        self._classes.members(self._config.filter.classes)
        config = self._config
        self._drift = DriftMonitor.open(config.drift, config.model, segmenter.weights_sha256)
        placement = TfPlacement(self, config.input.target_frame)
        try:
            outputs = Outputs(self, self._classes, segmenter.model_id, segmenter.weights_sha256)
        except Exception:
            placement.close()
            raise
        return CloudPipeline(
            segmenter, self._classes, placement, outputs, self._health, self._drift
        )

    def _stop_intake(self) -> bool:
        self._health.deactivated()
        return self._intake is None or self._intake.stop(STOP_TIMEOUT)

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
        if self._pipeline is not None:
            self._pipeline.close()
        if self._intake is not None:
            self._intake.release()
        self._segmenter = self._classes = self._pipeline = self._drift = None
        self._health.unloaded()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # else the freed memory stays with this process

    # parameters and health

    def _judge_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        verdict, config = parameters.judge(self._config, changes)
        if not verdict.successful or self._segmenter is None or self._classes is None:
            return verdict
        reason = ""
        if config.model.max_latency_ms and not self._segmenter.sheds_load:
            engine = self._segmenter.engine
            reason = f"engine {engine!r} cannot shed load; leave model.max_latency_ms 0"
        try:
            self._classes.members(config.filter.classes)
        except LabelError as error:
            reason = f"filter.classes: {error}"
        return SetParametersResult(successful=not reason, reason=reason)

    def _apply_parameters(self, changes: list[Parameter[Any]]) -> None:
        self._config = parameters.judge(self._config, changes)[1]

    def facts(self) -> dict[str, str]:
        """What is loaded and what goes out, for people; empty while unconfigured."""
        if self._segmenter is None or self._classes is None:
            return {}
        sent, out = self._classes.label_set, self._config.filter.classes
        return {
            **model_facts(self._segmenter),
            "classes that go out": f"{sent.name}: {', '.join(sent.names)}",
            "left out of filtered": ", ".join(out) or "none",
            "seen in frame": self._config.input.target_frame or "that of the cloud",
        }

    @property
    def counters(self) -> Counters:
        """Clouds since the last activation."""
        return Counters() if self._intake is None else self._intake.counters

    def _report_health(self) -> None:
        intake, segmenter = self._intake, self._segmenter
        publishers, skipped = (intake.publishers, intake.skipped) if intake is not None else (0, 0)
        if segmenter is not None:
            self._health.runs(f"{segmenter.engine}: {segmenter.engine_detail}")
        also = () if self._drift is None else (self._drift.status(self._health.active),)
        statuses = self._health.statuses(
            self.counters, publishers, self._config.diagnostics, skipped, *also
        )
        self._reporter.report(statuses, publishers, "" if segmenter is None else segmenter.device)


def main() -> int:
    """Entry point of the executable. ``--check`` loads the model, tells about it, and ends."""
    if wants_check(sys.argv):
        return check(SegmentationNode)
    return spin(SegmentationNode)


if __name__ == "__main__":
    sys.exit(main())
