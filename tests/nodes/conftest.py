# SPDX-License-Identifier: Apache-2.0
"""A client that talks to nodes over DDS, and nodes as processes of their own."""

import gc
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
NODE = "/segmentation_node"
PATIENCE = 90.0
"""Seconds that a busy machine gets to start a node and to make it known."""
FAREWELL = 60.0
"""Seconds that nodes get to end by themselves."""


class NodeProcess:
    """A node in another process; what it logs goes to a file."""

    def __init__(self, log: Path, *arguments: str, program=(str(HERE / "fake_node.py"),), **env):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                env=os.environ | env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def interrupt(self) -> int:
        """Send SIGINT, return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """The exit code of a process that ends by itself."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def ends_by(self, end: float) -> bool:
        """Whether it is gone at this time.monotonic()."""
        try:
            self.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


def stop_all(nodes) -> None:
    """Interrupt nodes, and kill those that stay.

    What a killed one leaves in /dev/shm may make the next participant deaf to some of the others.
    """
    living = [node for node in nodes if node.process.poll() is None]
    for node in living:
        node.process.send_signal(signal.SIGINT)
    end = time.monotonic() + FAREWELL
    for node in living:
        if not node.ends_by(end):
            node.kill()


class Client:
    """Publishes clouds, collects what comes back, calls services."""

    def __init__(self):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        self.context = rclpy.Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got = {}
        self._clients = {}

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def listen(self, kind, topic, depth=100, latched=False):
        """Collect messages into ``got[topic]``."""
        from rclpy.qos import DurabilityPolicy, QoSProfile

        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        self.got[topic] = []
        return self.node.create_subscription(
            kind, topic, self.got[topic].append, QoSProfile(depth=depth, durability=durability)
        )

    def publisher(self, topic="/points", depth=10):
        from sensor_msgs.msg import PointCloud2

        return self.node.create_publisher(PointCloud2, topic, depth)

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def until(self, condition, timeout=PATIENCE):
        """Spin until the condition holds; fail the test if it never does."""
        assert self.within(timeout, condition), f"still not true after {timeout} s"

    def within(self, seconds, condition):
        """Spin until the condition holds, at most so long; whether it does."""
        waited = 0.0
        while not condition():
            if waited > seconds:
                return False
            began = time.monotonic()
            self.executor.spin_once(timeout_sec=0.02)
            # while this process was not running nothing could come: that is not waiting
            waited += min(time.monotonic() - began, 0.1)
        return True

    # A writer may learn of a reader later than the reader learns of the writer, and what was sent
    # before is lost by right. Nothing that either side can ask tells when both know of each other:
    # only what arrives does.

    def until_heard(self, publish, *topics, pause=0.2, timeout=PATIENCE):
        """Publish again and again until each of the topics has something new; how often it took."""
        before, times = {topic: len(self.got[topic]) for topic in topics}, 0
        end = time.monotonic() + timeout

        def heard():
            return all(len(self.got[topic]) > before[topic] for topic in topics)

        while not heard():
            assert time.monotonic() < end, f"nothing new on all of {topics} in {timeout} s"
            publish()
            times += 1
            self.within(pause, heard)
        return times

    def until_told(self, publish, condition, pause=0.5, timeout=PATIENCE):
        """Publish again and again until the condition holds; how often it took.

        For what a node tells of a cloud only for a moment: until the next one is late.
        """
        end, times = time.monotonic() + timeout, 0
        while True:
            assert time.monotonic() < end, f"not told in {timeout} s"
            publish()
            times += 1
            if self.within(pause, condition):
                return times

    def until_answered(
        self, publish, *topics, pause=1.0, timeout=PATIENCE, stamp_of=lambda m: m.header.stamp
    ):
        """Publish until one and the same cloud is answered on all topics; how many were.

        ``publish`` returns the stamp of what it sent. Answers come in the order of their clouds, so
        none is on its way any more; those that came are forgotten.
        """
        end = time.monotonic() + timeout
        while True:
            assert time.monotonic() < end, f"no answer on all of {topics} in {timeout} s"
            stamp = publish()
            if self.within(
                pause,
                lambda stamp=stamp: all(
                    any(stamp_of(m) == stamp for m in self.got[topic]) for topic in topics
                ),
            ):
                break
            pause *= 1.5  # a busy machine may need longer than that for every answer
        answered = len(self.got[topics[0]])
        for topic in topics:
            self.got[topic].clear()
        return answered

    def probe(self, publisher):
        """For ``until_answered``: publishes a small cloud."""

        def publish():
            cloud = make_cloud(10)
            publisher.publish(cloud)
            return cloud.header.stamp

        return publish

    def call(self, kind, service, timeout=PATIENCE, **fields):
        """Ask a service; where no answer comes, again: what is asked may be asked twice."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if (answer := self._ask(kind, service, 5.0, fields)) is not None:
                return answer
        raise AssertionError(f"{service} did not answer within {timeout} s")

    def _ask(self, kind, service, timeout, fields):
        """The answer; None where it does not come: the server may know us later than we know it."""
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        if not client.wait_for_service(max(timeout, PATIENCE)):
            raise AssertionError(f"no service {service}")
        self.spin(0.02)
        future = client.call_async(kind.Request(**fields))
        self.executor.spin_until_future_complete(future, timeout)
        return future.result() if future.done() else None

    def change_state(self, label, node=NODE, timeout=PATIENCE):
        """Lifecycle transition: configure, activate, active_shutdown …; True on success.

        Where the answer is lost the state tells whether the question was heard.
        """
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        transition = Transition(id=getattr(Transition, f"TRANSITION_{label.upper()}"))
        service, before = f"{node}/change_state", self.state(node, timeout)
        for _ in range(3):
            answer = self._ask(ChangeState, service, timeout / 3, {"transition": transition})
            if answer is not None:
                return answer.success
            if self.state(node, timeout) != before:
                return True
        raise AssertionError(f"{service} did not answer within {timeout} s")

    def state(self, node=NODE, timeout=PATIENCE):
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, f"{node}/get_state", timeout).current_state.label

    def set_parameters(self, node=NODE, **values):
        """Set as one set; dots are written as two underscores. Returns (successful, reason)."""
        from rcl_interfaces.srv import SetParametersAtomically
        from rclpy.parameter import Parameter

        changes = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        result = self.call(
            SetParametersAtomically, f"{node}/set_parameters_atomically", parameters=changes
        ).result
        return result.successful, result.reason


def make_cloud(points=1000, *, height=1, frame="lidar", stamp=None, seed=0):
    """A PointCloud2 of random points; ``stamp`` = (sec, nanosec), default now."""
    from sensor_msgs.msg import PointCloud2, PointField

    from pointdistill_ros.io.pointcloud2 import encode_scan
    from pointdistill_ros.scan import LidarScan

    random = np.random.default_rng(seed)
    xyz, intensity = random.normal(0, 10, (points, 3)), random.random(points)
    parts = encode_scan(LidarScan.from_arrays(xyz, intensity))
    cloud = PointCloud2(height=height, width=points // height, point_step=parts.point_step)
    cloud.fields = [
        PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=1) for f in parts.fields
    ]
    cloud.row_step = cloud.width * cloud.point_step
    cloud.data, cloud.is_dense = parts.data, True
    cloud.header.frame_id = frame
    sec, nanosec = stamp or divmod(time.time_ns(), 1_000_000_000)
    cloud.header.stamp.sec, cloud.header.stamp.nanosec = sec, nanosec
    return cloud


@pytest.fixture(scope="session")
def fake_segmenter():
    """The class of tests/nodes/fake_node.py."""
    return runpy.run_path(str(HERE / "fake_node.py"))["AboveOrBelow"]


@pytest.fixture
def cloud():
    """The function that makes clouds."""
    return make_cloud


@pytest.fixture
def transport(monkeypatch):
    """This process speaks as the nodes do, and none of an earlier test's is left in it."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from pointdistill_ros.nodes import transport

    gc.collect()  # a node that was destroyed here stays in the graph while Python holds on to it
    monkeypatch.setenv(transport.profile_variable(), str(transport.config_path(transport.PROFILE)))


class Hold:
    """While closed, a network that was started with ``env`` keeps its cloud in work."""

    def __init__(self, path: Path):
        self._path, self._reached = path, path.with_name(f"{path.name}.reached")
        self.env = {"FAKE_HOLD": str(path)}

    def close(self) -> None:
        self._reached.unlink(missing_ok=True)
        self._path.touch()

    def open(self) -> None:
        self._path.unlink()

    def has_one(self) -> bool:
        """Whether a cloud is in work."""
        return self._reached.exists()


@pytest.fixture
def hold(tmp_path):
    return Hold(tmp_path / "hold")


@pytest.fixture
def client(transport):
    client = Client()
    yield client
    client.close()


@pytest.fixture
def start_node(tmp_path):
    """Start node processes; they are gone when the test ends."""
    started = []

    def start(*arguments, **env):
        node = NodeProcess(tmp_path / f"node{len(started)}.log", *arguments, **env)
        started.append(node)
        return node

    yield start
    stop_all(started)
    for node in started:
        print(node.log.read_text(), end="")  # shown with a test that failed
