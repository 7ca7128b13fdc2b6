# SPDX-License-Identifier: Apache-2.0
"""Nodes under load: clouds one after the other, each followed to its end in a counter."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.nodes.conftest import client, cloud, fake_segmenter, start_node, transport  # noqa: F401 - fixtures

HERE = Path(__file__).parent
NODE = "/segmentation_node"
LABELS, STATS = f"{NODE}/labeled_points", f"{NODE}/stats"
COUNTED = (str(HERE / "counted_node.py"),)
RELIABLE = (
    "--ros-args",
    *("-p", "input.reliability:=reliable", "-p", "input.depth:=20", "-p", "input.max_age:=0.0"),
)
"""Nothing is lost on the way, so that every cloud that was sent must be in a counter."""
PATIENCE = 300.0
"""Seconds that a busy machine gets to start a node, or to label one cloud."""


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of a few thousand random weights."""
    pytest.importorskip("torch", reason="torch is not installed")
    from pointdistill_ros.checkpoint import save_checkpoint
    from tests.tiny import tiny_meta, tiny_network

    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_network(), tiny_meta())
    return path


def on_cpu(weights, engine="auto"):
    """Arguments of a node with a network on one CPU thread."""
    settings = (f"path:={weights}", "device:=cpu", f"engine:={engine}", "threads:=1")
    return [word for setting in settings for word in ("-p", f"model.{setting}")]


def stop(node):
    """Interrupt a node; its exit code."""
    node.process.send_signal(signal.SIGINT)
    return node.process.wait(PATIENCE)


class Sender:
    """Sends a cloud and waits until the node has counted what became of it."""

    def __init__(self, client):  # noqa: F811
        from sensor_msgs.msg import PointCloud2
        from std_msgs.msg import String

        self.client, self.sent, self.probes = client, 0, 0
        self._before, self._read_at = {}, 0.0
        client.listen(PointCloud2, LABELS)
        client.listen(String, "/counters")
        self.points = client.publisher()

    def ready(self):
        """The node hears us and we hear the node; what is counted from now on."""
        probe = self.client.probe(self.points)
        self.client.until(self.points.get_subscription_count, timeout=PATIENCE)

        def publish():
            self.probes += 1
            return probe()

        self.client.until_answered(publish, LABELS, pause=2.0, timeout=PATIENCE)
        # All that will ever arrive of the probes has arrived, and what was read of the counters
        # from now on knows it; the last one is counted after its labels went out.
        now = time.time()
        self.client.until(
            lambda: self._settled(self._told()) and self._read_at > now, timeout=PATIENCE
        )
        self._before, self.sent = self._told(), 0

    @property
    def counters(self):
        """As last told, since ``ready``."""
        return {kind: n - self._before.get(kind, 0) for kind, n in self._told().items()}

    def _told(self):
        told = self.client.got["/counters"]
        del told[:-1]
        counters = json.loads(told[-1].data) if told else {}
        self._read_at = counters.pop("at", 0.0)
        return counters

    def _settled(self, counters):
        """Every cloud that was received has come to an end."""
        ended = sum(number for kind, number in counters.items() if kind != "received")
        return counters.get("received") == ended

    def __call__(self, message, stamp_ns=None, publisher=None):
        """(kind of the counter that rose, labelled cloud or None); no other may have risen."""
        before, labels = self.counters, self.client.got[LABELS]
        labels.clear()
        self.sent += 1
        stamp_ns = self.sent * 1_000_000_001 if stamp_ns is None else stamp_ns
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        (publisher or self.points).publish(message)

        def counted():
            now = self.counters
            return self._settled(now) and now.get("received") == self.sent

        self.client.until(counted, timeout=PATIENCE)
        rises = {kind: n - before.get(kind, 0) for kind, n in self.counters.items()}
        (kind,) = (kind for kind, rise in rises.items() if rise and kind != "received")
        if kind != "processed":
            assert not labels, "labels of a cloud that was dropped"
            return kind, None
        self.client.until(lambda: labels, timeout=PATIENCE)
        assert len(labels) == 1
        return kind, labels[0]


@pytest.fixture
def sender(client):  # noqa: F811
    return Sender(client)


LABELLED = np.dtype(
    {
        "names": ["xyz", "class_id", "probability", "entropy"],
        "formats": [("<f4", 3), "u1", "<f4", "<f4"],
        "offsets": [0, 12, 16, 20],
        "itemsize": 24,
    }
)
"""One point of layout xyzcpe_aligned."""
