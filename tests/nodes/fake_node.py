# SPDX-License-Identifier: Apache-2.0
"""The real node with a fake network, as a process of its own: python fake_node.py [--ros-args …].

Class = 0 above the ground (z >= 0), 1 below. FAKE_MILLISECONDS says how long a cloud takes,
FAKE_WEIGHTS names a file that must exist when the model is loaded, FAKE_FLIP a distance in x beyond
which the classes are the other way round. FAKE_HOLD names a file: while it exists clouds stay in
work, and a second one with .reached behind its name tells that one is. FAKE_STOP_TIMEOUT replaces
the node's STOP_TIMEOUT.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from pointdistill_ros.errors import CheckpointError, ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes import segmentation_node
from pointdistill_ros.nodes.check import check, wants_check
from pointdistill_ros.nodes.segmentation_node import SegmentationNode, spin
from pointdistill_ros.segmentation import Segmentation


class AboveOrBelow:
    label_set = LabelSet.named("semantic-kitti")
    model_id = "above-or-below"
    weights_sha256 = "0" * 64
    device, engine, engine_detail, num_parameters = "cpu", "fake", "", 0
    sheds_load, budget = False, None

    def __init__(self, milliseconds=0.0, weights=__file__, flip=float("inf"), hold=None):
        self.flip, self.hold = flip, hold
        self.seconds = 1e-3 * milliseconds
        self.weights = Path(weights)

    def __call__(self, scan):
        while self.hold is not None and self.hold.exists():
            self.hold.with_name(f"{self.hold.name}.reached").touch()
            time.sleep(0.01)
        time.sleep(self.seconds)
        labels = np.where(scan.xyz[:, 2] >= 0, 0, 1).astype(np.uint8)
        labels ^= scan.xyz[:, 0] > self.flip
        labels[~scan.valid] = 255
        some = (labels != 255).astype(np.float32)
        return Segmentation(labels, 0.75 * some, 0.25 * some, self.label_set, {"network": 1.0}, 7)

    def intensity_warning(self, intensity):
        return "intensity above 1" if intensity.max(initial=0) > 1 else None

    @property
    def max_latency_ms(self):
        return 0.0

    @max_latency_ms.setter
    def max_latency_ms(self, value):
        if value:
            raise ConfigError("engine 'fake' cannot shed load; use max_latency_ms 0")

    def warm_up(self):
        if not self.weights.exists():
            raise CheckpointError(f"{self.weights}: no such file")


if __name__ == "__main__":
    fake = AboveOrBelow(
        float(os.environ.get("FAKE_MILLISECONDS", "0")),
        os.environ.get("FAKE_WEIGHTS", __file__),
        float(os.environ.get("FAKE_FLIP", "inf")),
        Path(os.environ["FAKE_HOLD"]) if "FAKE_HOLD" in os.environ else None,
    )
    segmentation_node.STOP_TIMEOUT = float(
        os.environ.get("FAKE_STOP_TIMEOUT", segmentation_node.STOP_TIMEOUT)
    )

    def make(**options):
        return SegmentationNode(segmenter=fake, **options)

    sys.exit(check(make) if wants_check(sys.argv) else spin(make))
