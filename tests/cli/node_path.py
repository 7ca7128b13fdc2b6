# SPDX-License-Identifier: Apache-2.0
"""The node's path of a cloud, without DDS: what would be published for every cloud of a bag."""

import numpy as np
import pytest

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.config import InputConfig, NodeConfig
from pointdistill_ros.io.bag import BagReader

KITTI = LabelSet.named("semantic-kitti")


class LastBits:
    """A network that looks at nothing but the last bits of z: any other rounding is seen."""

    label_set, model_id, weights_sha256 = KITTI, "bits", "ab12"
    max_latency_ms, budget = 0.0, None

    def __call__(self, scan):
        labels = (scan.xyz[:, 2].view(np.uint32) % len(KITTI)).astype(np.uint8)
        labels[~scan.valid] = 255
        p = np.where(scan.valid, 0.5, 0).astype(np.float32)
        return Segmentation(labels, p, p, KITTI, {"total": 1.0}, len(scan))

    def intensity_warning(self, intensity):
        return None


class _Nobody:
    """Publishes to nobody, and has no health."""

    def __init__(self):
        self.segmentation = None

    def publish_clouds(self, cloud, segmentation, config):
        self.segmentation = segmentation
        return ""

    def finished(self, *facts):
        pass

    described = finished


def published(bag, topic, z_offset=0.0, network=None, classes="model", **given):
    """Bytes of the labelled cloud that the node sends for each cloud of the bag.

    ``given``: parameters of its input.
    """
    messages = pytest.importorskip("pointdistill_ros.nodes.messages")
    from pointdistill_ros.nodes.pipeline import CloudPipeline
    from pointdistill_ros.nodes.placement import TfPlacement
    from pointdistill_ros.sent_classes import SentClasses

    network, out = network or LastBits(), _Nobody()
    config = NodeConfig(input=InputConfig(z_offset=z_offset, **given))
    placement = TfPlacement(None, config.input.target_frame)
    sent_classes = SentClasses(network.label_set, classes)
    pipeline = CloudPipeline(network, sent_classes, placement, out, _Nobody())
    writer, clouds = messages.CloudWriter(), []
    with BagReader(bag) as reader:
        for message in reader.messages(topic):
            cloud = reader.cloud(message)
            pipeline(cloud, lambda: 0.0, config)
            cloud.header = messages.PointCloud2().header  # rosbags' header is not rclpy's
            sent = writer.write(cloud, out.segmentation, config.output.layout)
            clouds.append(bytes(sent.data))
    return clouds
