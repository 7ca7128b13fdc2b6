# SPDX-License-Identifier: Apache-2.0
"""Drift in the node: measured where a reference is named, told in ~/stats and /diagnostics."""

from dataclasses import replace

import numpy as np
import pytest

from pointdistill_ros.config import DriftConfig, ModelConfig
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.drift.reference import DriftReference, reference_path
from pointdistill_ros.resources import weights_path

SHA = "0" * 64
"""Of the fake network."""


@pytest.fixture
def reference(tmp_path):
    """A file that says what is usual for the fake network: that of the shipped student."""
    path = tmp_path / "fake.drift.json"
    shipped = DriftReference.load(reference_path(weights_path("student")))
    replace(shipped, weights_sha256=SHA).save(path)
    return path


class TestMonitor:
    """Without DDS."""

    @pytest.fixture
    def monitor(self, reference):
        pytest.importorskip("diagnostic_msgs", reason="ROS messages are not installed")
        from pointdistill_ros.nodes.drift import DriftMonitor

        return DriftMonitor.open(DriftConfig(reference=str(reference)), ModelConfig(), SHA)

    def test_nothing_is_measured_without_a_reference(self, monitor):
        assert type(monitor).open(DriftConfig(), ModelConfig(), SHA) is None

    def test_a_reference_of_other_weights_is_refused(self, monitor, reference):
        named = DriftConfig(reference=str(reference))
        with pytest.raises(InputError, match=r"fake\.drift\.json: made with other weights"):
            type(monitor).open(named, ModelConfig(), "1" * 64)

    def test_auto_is_the_file_beside_the_weights(self, monitor, reference):
        model = ModelConfig(path=str(reference.with_name("fake.safetensors")))
        assert type(monitor).open(DriftConfig(reference="auto"), model, SHA) is not None
        elsewhere = ModelConfig(path=str(reference.with_name("other.safetensors")))
        with pytest.raises(InputError, match=r"other\.drift\.json"):
            type(monitor).open(DriftConfig(reference="auto"), elsewhere, SHA)

    def test_what_it_tells_before_during_and_after(self, monitor, fake_segmenter):
        from pointdistill_ros.nodes.status import Level
        from pointdistill_ros.scan import LidarScan

        limits = DriftConfig(reference="auto")
        assert monitor.status(active=False).level == Level.STALE
        assert monitor.status(active=True).level == Level.OK
        scan = LidarScan.from_arrays(np.random.default_rng(0).normal(0, 10, (500, 3)), np.ones(500))
        scores = [monitor.measure(scan, fake_segmenter()(scan), limits) for _ in range(10)]
        assert min(scores) > limits.alarm  # a ball of points is no street
        told = monitor.status(active=True)
        assert told.level == Level.ERROR
        assert "not to be trusted" in told.message
        assert float(told.values["score"]) == pytest.approx(scores[-1], abs=0.01)
        monitor.forget()
        assert monitor.status(active=True).level == Level.OK
        patient = replace(limits, warn=900.0, alarm=1000.0)
        for _ in range(10):
            monitor.measure(scan, fake_segmenter()(scan), patient)
        assert monitor.status(active=True).level == Level.OK

    @pytest.mark.parametrize("points", [0, 1, 2])
    def test_clouds_of_hardly_any_points(self, monitor, fake_segmenter, points):
        from pointdistill_ros.scan import LidarScan

        scan = LidarScan.from_arrays(np.ones((points, 3)), np.ones(points))
        assert monitor.measure(scan, fake_segmenter()(scan), DriftConfig()) > 0


@pytest.mark.ros
class TestNode:
    """With DDS."""

    @pytest.fixture
    def bench(self, client):
        from diagnostic_msgs.msg import DiagnosticArray

        messages = pytest.importorskip("pointdistill_ros.msg", reason="messages are not built")
        client.listen(DiagnosticArray, "/diagnostics")
        client.listen(messages.SegmentationStats, "/segmentation_node/stats")
        client.points = client.publisher()
        return client

    @staticmethod
    def told(bench):
        for array in reversed(bench.got["/diagnostics"]):
            for status in array.status:
                if status.name == "segmentation_node: drift":
                    return status
        return None

    def test_strange_clouds_are_told(self, bench, start_node, cloud, reference):
        start_node(
            "--ros-args", *("-p", f"drift.reference:={reference}", "-p", "input.max_age:=0.0")
        )
        bench.until(lambda: self.told(bench) is not None)
        assert self.told(bench).message == "no cloud measured yet"
        stats = bench.got["/segmentation_node/stats"]
        stamps = iter(range(1000))
        while len(stats) < 8:
            bench.points.publish(cloud(500, stamp=(900, next(stamps))))
            bench.spin(0.2)
        assert all(1.5 < message.drift_score < np.inf for message in stats)
        bench.until(lambda: self.told(bench).level == b"\x02")
        assert "not to be trusted" in self.told(bench).message
        bench.points.publish(cloud(500, stamp=(901, 0)))
        bench.until(lambda: stats[-1].header.stamp.sec == 901)
        assert stats[-1].health == 2
        assert "drift: scene is unlike" in stats[-1].degradation

        assert bench.change_state("deactivate")
        assert bench.change_state("activate")
        bench.until(lambda: self.told(bench).message == "no cloud measured yet")

    def test_a_missing_reference_fails_configure_and_names_the_file(self, bench, start_node):
        node = start_node("--ros-args", "-p", "drift.reference:=/nowhere/a.drift.json")
        bench.until(lambda: "/nowhere/a.drift.json" in node.log.read_text())
        assert bench.state() == "unconfigured"
