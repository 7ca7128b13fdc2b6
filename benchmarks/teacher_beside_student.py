# SPDX-License-Identifier: Apache-2.0
"""Does a teacher delay the student? ``python -m benchmarks.teacher_beside_student``.

The student's node gets clouds at a steady rate over DDS, first alone, then beside a teacher's node
with one pace after the other, then alone again (how much the machine itself drifts). Told are the
age of the student's labels and the time it worked on a cloud, p50 / p95 / p99 in ms, its dropped
clouds, and how many clouds the teacher managed a second. For a quiet machine: everything else that
runs shows up here.
Without --teacher the weights are random, of the teacher's size: that costs the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

PACES: dict[str, dict[str, str]] = {
    "normal": {"pace.priority": "normal", "pace.max_load": "1.0"},
    "low": {"pace.priority": "low", "pace.max_load": "1.0"},
    "idle": {"pace.priority": "idle", "pace.max_load": "1.0"},
    "shipped": {},
    "idle, every 5th": {"pace.priority": "idle", "pace.max_load": "1.0", "pace.every": "5"},
}
"""Beside config/nodes/teacher.yaml, which says: idle, half the time."""
WARM_UP = 5
"""Clouds before each measurement."""
FRAMES = 10
"""Different clouds, sent in turn."""
PATIENCE = 120.0
"""Seconds that nodes get to find each other."""
LOAD = 0.6
"""Of the period, what the student alone takes where no rate is given."""


class Bench:
    """Sends clouds, collects the student's statistics and counts the teacher's labels."""

    def __init__(self, clouds: list[Any]) -> None:
        import rclpy
        from pointdistill_ros.msg import SegmentationStats
        from rclpy.executors import SingleThreadedExecutor

        from pointdistill_ros.nodes.process import INPUT

        self._clouds, self._sent = clouds, 0
        self._node = rclpy.create_node("benchmark")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publisher = self._node.create_publisher(type(clouds[0]), INPUT, 5)
        self.stats: dict[str, list[Any]] = {"segmentation_node": [], "teacher": []}
        for name, found in self.stats.items():
            self._node.create_subscription(SegmentationStats, f"/{name}/stats", found.append, 100)

    def send(self, count: int, period: float) -> None:
        """Publish clouds with the time as stamp, one every ``period`` seconds."""
        due = time.monotonic()
        for _ in range(count):
            cloud = self._clouds[self._sent % len(self._clouds)]
            cloud.header.stamp = self._node.get_clock().now().to_msg()
            self._publisher.publish(cloud)
            self._sent += 1
            due += period
            self.spin(due - time.monotonic())

    def spin(self, seconds: float) -> None:
        """Take what arrives for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for(self, labellers: int) -> None:
        """Until so many nodes hear our clouds and we hear the student's statistics."""
        until = time.monotonic() + PATIENCE
        student = self.stats["segmentation_node"]
        student.clear()
        while self._publisher.get_subscription_count() < labellers or not student:
            if time.monotonic() > until:
                raise SystemExit(f"no answer from the student within {PATIENCE:g} s")
            self.send(1, 0.5)

    def measure(self, count: int, period: float) -> dict[str, Any]:
        """Figures of ``count`` clouds, after some that warm up."""
        self.send(WARM_UP, period)
        self.spin(period)
        for found in self.stats.values():
            found.clear()
        began = time.monotonic()
        self.send(count, period)
        seconds = time.monotonic() - began
        self.spin(2 * period)
        student = self.stats["segmentation_node"]
        figures: dict[str, Any] = {"labelled": len(student), "sent": count}
        for name in ("age_ms", "total_ms"):
            values = [getattr(one, name) for one in student]
            if not values:
                raise SystemExit("the student labelled no cloud at all: choose a lower --hz")
            figures[name] = [round(float(np.percentile(values, p)), 1) for p in (50, 95, 99)]
        figures["teacher_clouds_per_second"] = round(len(self.stats["teacher"]) / seconds, 2)
        return figures


def clouds_of(lidar: str) -> list[Any]:
    """Frames of a simulated street as messages."""
    from sensor_msgs.msg import PointCloud2, PointField

    from pointdistill_ros.io.pointcloud2 import encode_scan
    from pointdistill_ros.simulation.drive import Drive

    messages = []
    for frame in Drive(100_024, FRAMES, lidar=lidar, style="suburban"):
        parts = encode_scan(frame.scan)
        message = PointCloud2(height=parts.height, width=parts.width, is_dense=parts.is_dense)
        message.point_step, message.row_step, message.data = (
            parts.point_step,
            parts.row_step,
            parts.data,
        )
        message.fields = [
            PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=1)
            for f in parts.fields
        ]
        message.header.frame_id = "lidar"
        messages.append(message)
    return messages


def random_teacher(folder: Path) -> str:
    """A checkpoint of the teacher's size that was never trained."""
    import torch

    from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics, save_checkpoint
    from pointdistill_ros.config import load_config
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
    from pointdistill_ros.resources import config_path

    config = load_config(PTv3Config, config_path("models/teacher.yaml"))
    torch.manual_seed(0)
    meta = CheckpointMeta(
        model_id="random-teacher",
        config=config,
        label_set=LabelSet.named("semantic-kitti"),
        grid_size=0.05,
        intensity=IntensityStatistics(low=0.0, median=0.3, high=1.0, missing=0.0),
        training={"data": "none"},
    )
    path = folder / "teacher.safetensors"
    save_checkpoint(path, PTv3(config).eval(), meta)
    return str(path)


def main() -> int:
    """Print one line per phase; exit code 2 where our messages are not built."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="student", help="shipped name or .safetensors")
    parser.add_argument("--teacher", default="", help="the same; default: random weights")
    parser.add_argument("--hz", type=float, default=0.0, help="default: what loads it to 60 %%")
    parser.add_argument("--clouds", type=int, default=100, help="per phase")
    parser.add_argument("--lidar", default="hdl32e", help="of the simulated street")
    parser.add_argument("--pace", action="append", choices=PACES, help="default: all of them")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()

    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 101)))
    from pointdistill_ros.nodes import messages
    from pointdistill_ros.nodes.process import NodeProcess, student_process
    from pointdistill_ros.nodes.transport import prepare_transport
    from pointdistill_ros.resources import config_path

    if messages.SegmentationStats is None:
        print("pointdistill_ros.msg is not built: `make msgs`", file=sys.stderr)
        return 2
    import rclpy

    prepare_transport()
    rclpy.init()
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        teacher = options.teacher or random_teacher(folder)
        bench = Bench(clouds_of(options.lidar))
        stack.enter_context(student_process(options.student, folder / "student.log", timeout=300))
        bench.wait_for(1)
        period = 1 / options.hz if options.hz else 0.0
        if not period:
            bench.send(WARM_UP, 1.0)
            work = [one.total_ms for one in bench.stats["segmentation_node"]]
            period = max(1e-3 * float(np.median(work)) / LOAD, 0.1)
        print(f"{len(os.sched_getaffinity(0))} CPUs, {1 / period:.2f} Hz, {options.clouds} clouds")
        phases: list[tuple[str, dict[str, str] | None]] = [("alone", None)]
        phases += [(f"teacher: {name}", PACES[name]) for name in options.pace or PACES]
        phases.append(("alone again", None))
        for number, (name, pace) in enumerate(phases):
            with ExitStack() as phase:
                if pace is not None:
                    node = NodeProcess(
                        "segmentation_node",
                        folder / f"teacher{number}.log",
                        {"model.path": f"'{teacher}'", "input.max_age": "0.0"} | pace,
                        name="teacher",
                        params_file=str(config_path("nodes/teacher.yaml")),
                        timeout=600,
                    )
                    phase.enter_context(node)
                    bench.wait_for(2)
                figures[name] = found = bench.measure(options.clouds, period)
            ratio = found["age_ms"][1] / figures["alone"]["age_ms"][1]
            print(
                f"{name:25s} age {_line(found['age_ms'])}  work {_line(found['total_ms'])}  "
                f"labelled {found['labelled']}/{found['sent']}  p95 of age × {ratio:.2f}  "
                f"teacher {found['teacher_clouds_per_second']} a second",
                flush=True,
            )
    rclpy.shutdown()
    if options.json:
        options.json.write_text(json.dumps({"hz": 1 / period, "phases": figures}, indent=2) + "\n")
    return 0


def _line(values: list[float]) -> str:
    return " / ".join(f"{value:6.1f}" for value in values)


if __name__ == "__main__":
    from pointdistill_ros.errors import one_line_errors

    with one_line_errors("teacher_beside_student"):
        sys.exit(main())
