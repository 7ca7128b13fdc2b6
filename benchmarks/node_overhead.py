# SPDX-License-Identifier: Apache-2.0
"""What the node adds to the network: ``python -m benchmarks.node_overhead``.

A node with an empty network runs in its own process and gets 120 000-point clouds at 10 Hz over
DDS. Overhead = its time per cloud from taking it to having published the labels (decode, encode,
publish); beside it the age of the labels at a subscriber, which includes two trips through DDS.
Target: overhead ≤ 10 ms.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time

import numpy as np

POINTS, CLOUDS, WARM_UP, HZ = 120_000, 100, 10, 10
LAYOUTS = ("xyzcpe_aligned", "xyzcpe_packed", "append", "rgb")


class NoNetwork:
    """A segmenter whose labels are ready."""

    model_id, weights_sha256 = "none", "0" * 64
    device, engine, num_parameters = "cpu", "none", 0

    def __init__(self) -> None:
        from pointdistill_ros import LabelSet, Segmentation

        self.label_set = LabelSet.named("semantic-kitti")
        labels = np.random.default_rng(0).integers(0, 19, POINTS).astype(np.uint8)
        column = np.full(POINTS, 0.5, np.float32)
        self.result = Segmentation(labels, column, column, self.label_set)

    def __call__(self, scan: object) -> object:
        """Give the same labels to every cloud."""
        return self.result

    def warm_up(self) -> None:
        """There is nothing to warm up."""

    def intensity_warning(self, intensity: object) -> None:
        """There is nothing to compare with."""


def run_node(layout: str) -> None:
    """The node's process."""
    from pointdistill_ros.nodes.segmentation_node import SegmentationNode, spin

    arguments = ["--ros-args", "-p", f"output.layout:={layout}", "-p", "input.max_age:=0.0"]
    spin(lambda: SegmentationNode(segmenter=NoNetwork()), arguments)


def measure(layout: str) -> None:
    """Drive one node and print its line of the table."""
    import rclpy
    from pointdistill_ros.msg import SegmentationStats
    from sensor_msgs.msg import PointCloud2, PointField

    from pointdistill_ros import LidarScan
    from pointdistill_ros.io.pointcloud2 import encode_scan

    rng = np.random.default_rng(0)
    scan = LidarScan.from_arrays(rng.normal(0, 20, (POINTS, 3)), rng.random(POINTS))
    parts = encode_scan(scan)
    cloud = PointCloud2(height=1, width=POINTS, point_step=parts.point_step, is_dense=True)
    cloud.row_step, cloud.data = parts.row_step, parts.data
    cloud.fields = [
        PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=1) for f in parts.fields
    ]
    process = multiprocessing.get_context("spawn").Process(target=run_node, args=(layout,))
    process.start()
    node = rclpy.create_node("benchmark")
    stats: list[SegmentationStats] = []
    ages: list[float] = []

    def labelled(message: PointCloud2) -> None:
        stamp = message.header.stamp
        ages.append(1e3 * (time.time() - stamp.sec - 1e-9 * stamp.nanosec))

    node.create_subscription(SegmentationStats, "/segmentation_node/stats", stats.append, CLOUDS)
    node.create_subscription(PointCloud2, "/segmentation_node/labeled_points", labelled, 1)
    publisher = node.create_publisher(PointCloud2, "points", 1)
    while not publisher.get_subscription_count():
        rclpy.spin_once(node, timeout_sec=0.1)
    time.sleep(0.5)
    for _ in range(WARM_UP + CLOUDS):
        cloud.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(cloud)
        end = time.monotonic() + 1 / HZ
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(node, timeout_sec=left)
    process.terminate()
    process.join()
    node.destroy_node()
    columns = {
        "decode": [s.decode_ms for s in stats[WARM_UP:]],
        "encode + publish": [s.publish_ms for s in stats[WARM_UP:]],
        "overhead": [s.total_ms for s in stats[WARM_UP:]],
        "age": ages[WARM_UP:],
    }
    cells = [
        f"{name} {np.median(c):5.2f} / {np.percentile(c, 95):5.2f}" for name, c in columns.items()
    ]
    print(f"{layout:15s} {len(stats):3d} of {WARM_UP + CLOUDS}   " + "   ".join(cells), flush=True)


def main() -> None:
    """Print one line per output layout: p50 / p95 in milliseconds."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 101)))
    import rclpy

    from pointdistill_ros.nodes.transport import prepare_transport

    prepare_transport()
    rclpy.init()
    print(f"{POINTS} points at {HZ} Hz, milliseconds p50 / p95")
    for layout in LAYOUTS:
        measure(layout)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
