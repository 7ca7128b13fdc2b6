# SPDX-License-Identifier: Apache-2.0
"""A client that talks to nodes over DDS, and nodes as processes of their own."""

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
        return self.process.wait(10)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


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

    def until(self, condition, timeout=15.0):
        """Spin until the condition holds; fail the test if it never does."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"still not true after {timeout} s"
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind, service, timeout=15.0, **fields):
        client = self.node.create_client(kind, service)
        try:
            # A server may see a new client later than the client sees the server, and then its
            # answer is lost: give it a moment, and ask again where asking changes nothing.
            reads = kind.__name__.startswith("Get")
            for _ in range(3 if reads else 1):
                assert client.wait_for_service(timeout), f"no service {service}"
                self.spin(0.02 if reads else 0.2)
                future = client.call_async(kind.Request(**fields))
                self.executor.spin_until_future_complete(future, timeout / (3 if reads else 1))
                if future.done():
                    return future.result()
            raise AssertionError(f"{service} did not answer within {timeout} s")
        finally:
            self.node.destroy_client(client)

    def change_state(self, label, node=NODE):
        """Lifecycle transition: configure, activate, active_shutdown …; True on success."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        number = getattr(Transition, f"TRANSITION_{label.upper()}")
        answer = self.call(ChangeState, f"{node}/change_state", transition=Transition(id=number))
        return answer.success

    def state(self, node=NODE):
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, f"{node}/get_state").current_state.label

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
    """This process speaks as the nodes do."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from pointdistill_ros.nodes import transport

    monkeypatch.setenv(transport.profile_variable(), str(transport.config_path(transport.PROFILE)))


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
    for node in started:
        node.kill()
        print(node.log.read_text(), end="")  # shown with a test that failed
