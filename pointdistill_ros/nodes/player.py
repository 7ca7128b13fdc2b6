# SPDX-License-Identifier: Apache-2.0
"""Plays a bag's messages over DDS as they were recorded, for people without rosbag2.

- serialised bytes go from the bag to the publisher untouched
- waits for a subscriber first and for acknowledgements last: no message is lost at either end
- at the recorded pace × rate; stepwise also not before the last cloud's result is there
- collects the results of a node that labels the clouds, where asked to
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import POINTCLOUD2, BagMessage, BagReader
from pointdistill_ros.nodes.interrupt import Interrupt
from pointdistill_ros.nodes.transport import prepare_transport

CLOCK_PERIOD = 0.01
"""Wall seconds between two /clock messages while waiting for the next message."""
SETTLE = 0.5
"""Seconds between seeing a subscriber and being sure that it sees us."""
HISTORY = 50
"""Messages kept for a reliable subscriber that is behind, or still getting to know us."""
DRAIN = 10.0
"""Seconds that reliable subscribers get at the end to acknowledge."""


@dataclass(frozen=True)
class PlaySettings:
    """How to play."""

    rate: float = 1.0
    """Bag seconds per second, at most."""
    loop: bool = False
    clock: bool = False
    """Publish /clock with the recording time."""
    start: float = 0.0
    """Seconds to skip at the beginning."""
    duration: float | None = None
    """Seconds of the bag to play; None = to the end."""
    wait: float = 10.0
    """Seconds to wait for subscribers to any of the clouds, and for the result's publisher."""
    subscribers: int = 1
    """How many to wait for."""
    result_topic: str | None = None
    """Where the results of the clouds are published; None = nobody waits for any."""
    step: bool = True
    """Publish the next cloud when the last one's result is there; else keep the recorded pace."""
    result_timeout: float = 30.0
    """Seconds after which a result counts as missing; without ``step`` after the last cloud."""


@dataclass
class PlayReport:
    """What happened."""

    published: dict[str, int] = field(default_factory=dict)
    """Topic → messages sent."""
    missing_results: int = 0
    unheard: list[str] = field(default_factory=list)
    """Topics without a subscriber when playing began."""
    seconds: float = 0.0


Progress = Callable[[float, float], None]
"""Told the bag seconds played and to be played."""

OnResult = Callable[[BagMessage, bytes, float], None]
"""Told a sent cloud, its serialised result, and the seconds from publishing to its arrival."""


def play_bag(
    path: Path,
    topics: Mapping[str, str],
    settings: PlaySettings,
    progress: Progress = lambda done, total: None,
    on_result: OnResult = lambda sent, result, seconds: None,
) -> PlayReport:
    """Play the topics (name in the bag → name on the wire) until the end or KeyboardInterrupt.

    ``on_result`` is called between two clouds, in their order, and only where ``settings`` name a
    result topic. Raises InputError where the bag cannot be read, holds nothing in the chosen span,
    or a message type is not installed.
    """
    prepare_transport()
    context = Context()
    with BagReader(path) as reader, Interrupt() as interrupt:
        kinds = {topic: _message_class(path, reader.topics[topic]) for topic in topics}
        # no signal handlers of ROS: Ctrl-C is a KeyboardInterrupt like in every other command
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = rclpy.create_node("bag_player", context=context, start_parameter_services=False)
            player = _Player(node, reader, topics, kinds, settings, interrupt)
            try:
                player.play(progress, on_result)
            finally:
                player.close()
        finally:
            context.try_shutdown()
    return player.report


class _Player:
    def __init__(
        self,
        node: Node,
        reader: BagReader,
        topics: Mapping[str, str],
        kinds: Mapping[str, Any],
        settings: PlaySettings,
        interrupt: Interrupt,
    ) -> None:
        self._node, self._reader, self._settings = node, reader, settings
        self._interrupt = interrupt
        self.report = PlayReport(dict.fromkeys(topics.values(), 0))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._wire = dict(topics)
        self._clouds = {topic for topic in topics if reader.topics[topic] == POINTCLOUD2}
        self._publishers = {}
        for topic, name in topics.items():
            latched = topic.endswith("tf_static")
            durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            qos = QoSProfile(depth=HISTORY, durability=durability)
            self._publishers[topic] = node.create_publisher(kinds[topic], name, qos)
        self._clock = node.create_publisher(Clock, "/clock", 10) if settings.clock else None
        self._results: dict[tuple[int, int], tuple[bytes, float]] = {}
        """Stamp → serialised result and when it came."""
        self._pending: dict[tuple[int, int], tuple[BagMessage, float]] = {}
        """Stamp → sent cloud and when it went, oldest first."""
        self._answered = False
        if settings.result_topic:
            self._result = node.create_subscription(
                PointCloud2,
                settings.result_topic,
                lambda raw: self._results.update({cdr_stamp(raw): (raw, time.monotonic())}),
                10,
                raw=True,
            )

    def play(self, progress: Progress, on_result: OnResult) -> None:
        begin, end = self._reader.span_ns
        start_ns = begin + int(1e9 * self._settings.start)
        stop_ns = end
        if self._settings.duration is not None:
            stop_ns = min(stop_ns, start_ns + int(1e9 * self._settings.duration))
        self._wait_for_peers()
        began = time.monotonic()
        try:
            while True:
                sent = self._play_once(start_ns, stop_ns, progress, on_result)
                if not sent:
                    raise InputError(
                        f"{self._reader.path}: nothing to play on {', '.join(self._wire)} from "
                        f"{self._settings.start:g} s on; the bag lasts {1e-9 * (end - begin):.1f} s"
                    )
                if not self._settings.loop:
                    break
        finally:
            self.report.seconds = time.monotonic() - began

    def close(self) -> None:
        """Let the last messages arrive, then leave the graph."""
        clocks = [] if self._clock is None else [self._clock]
        until = time.monotonic() + DRAIN
        for publisher in [*self._publishers.values(), *clocks]:
            left = max(0.0, until - time.monotonic())
            publisher.wait_for_all_acked(Duration(seconds=left))
        self._spin(0.1)  # best-effort subscribers acknowledge nothing
        self._executor.shutdown()
        self._node.destroy_node()

    def _play_once(
        self, start_ns: int, stop_ns: int, progress: Progress, on_result: OnResult
    ) -> int:
        total, first, sent = 1e-9 * (stop_ns - start_ns), None, 0
        for message in self._reader.messages(*self._wire, start_ns=start_ns, stop_ns=stop_ns):
            if first is None:
                first, wall = message.time_ns, time.monotonic()
            self._interrupt.check()
            due = wall + 1e-9 * (message.time_ns - first) / self._settings.rate
            self._sleep_until(due, message.time_ns, on_result)
            self._tell_time(message.time_ns)
            sent_at = time.monotonic()
            self._publishers[message.topic].publish(bytes(message.cdr))
            self.report.published[self._wire[message.topic]] += 1
            sent += 1
            if self._settings.result_topic and message.topic in self._clouds:
                self._pending[cdr_stamp(message.cdr)] = message, sent_at
                if self._settings.step:
                    self._await_results(message.time_ns, on_result)
            progress(min(1e-9 * (message.time_ns - start_ns), total), total)
        self._await_results(stop_ns, on_result)
        progress(total, total)
        return sent

    def _sleep_until(self, due: float, time_ns: int, on_result: OnResult) -> None:
        """Sleep to a wall time that corresponds to a bag time, /clock running up to it."""
        while (left := due - time.monotonic()) > 0:
            self._tell_time(time_ns - int(1e9 * left * self._settings.rate))
            pause = min(left, CLOCK_PERIOD) if self._clock else left
            if self._pending:
                self._spin(min(pause, 0.05))
                self._interrupt.check()
                self._hand_over(on_result)
            else:
                self._interrupt.sleep(pause)

    def _tell_time(self, time_ns: int) -> None:
        if self._clock is not None:
            sec, nanosec = divmod(time_ns, 1_000_000_000)
            self._clock.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))

    def _await_results(self, time_ns: int, on_result: OnResult) -> None:
        """Hand over the results of all clouds sent; those that do not come in time are missing."""
        pause = self._settings.result_timeout / 3
        until = time.monotonic() + self._settings.result_timeout
        again = time.monotonic() + pause
        self._hand_over(on_result)
        while self._pending and (now := time.monotonic()) < until:
            if self._settings.step and not self._answered and now > again:
                self._send_again(now)
                again = now + pause
            self._spin(0.05)
            self._interrupt.check()
            self._tell_time(time_ns)
            self._hand_over(on_result)
        self.report.missing_results += len(self._pending)
        self._pending.clear()

    def _send_again(self, now: float) -> None:
        """The first cloud: the node may know us later than we know it, and then nobody listened."""
        stamp, (message, _) = next(iter(self._pending.items()))
        self._publishers[message.topic].publish(bytes(message.cdr))
        self._pending[stamp] = message, now

    def _hand_over(self, on_result: OnResult) -> None:
        """Results come in the order of the clouds: older ones without a result were dropped."""
        for stamp in [stamp for stamp in self._pending if stamp in self._results]:
            while (oldest := next(iter(self._pending))) != stamp:
                del self._pending[oldest]
                self.report.missing_results += 1
            self._answered = True
            message, sent_at = self._pending.pop(stamp)
            result, arrived = self._results[stamp]
            on_result(message, result, arrived - sent_at)
        self._results.clear()

    def _wait_for_peers(self) -> None:
        until = time.monotonic() + self._settings.wait
        topic = self._settings.result_topic
        while True:
            heard = {n: p.get_subscription_count() for n, p in self._publishers.items()}
            self.report.unheard = [self._wire[name] for name in self._wire if not heard[name]]
            awaited = self._clouds or set(self._wire)
            ready = max(heard[name] for name in awaited) >= self._settings.subscribers
            if topic and not self._node.count_publishers(self._result.topic_name):
                ready = False
            if ready or time.monotonic() > until:
                self._interrupt.sleep(SETTLE)
                return
            self._spin(0.05)
            self._interrupt.check()

    def _spin(self, seconds: float) -> None:
        self._executor.spin_once(timeout_sec=seconds)


def cdr_stamp(cdr: bytes | memoryview) -> tuple[int, int]:
    """Read sec and nanosec of a serialised message that begins with a header."""
    order = "<" if cdr[1] & 1 else ">"
    sec, nanosec = struct.unpack_from(f"{order}iI", cdr, 4)  # 4 bytes of encapsulation first
    return sec, nanosec


def _message_class(path: Path, kind: str) -> Any:
    package, _, name = kind.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{path}: message type {kind} is not installed") from error
