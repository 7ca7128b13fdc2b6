# SPDX-License-Identifier: Apache-2.0
"""Small data sets in memory for tests of what draws from them."""

import numpy as np

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan

KITTI = LabelSet.named("semantic-kitti")


class Drives:
    """Scans of 800 points; those of scan i have label ``labels[i]`` and intensity label / 20."""

    def __init__(self, sequences="aaab", labels=None, label_set=KITTI, ring=False):
        self.sequences = tuple(sequences)
        self.labels = range(len(sequences)) if labels is None else labels
        self.label_set, self.ring, self.reads = label_set, ring, 0

    def __len__(self):
        return len(self.sequences)

    def __getitem__(self, i):
        self.reads += 1
        rng = np.random.default_rng(i)
        xyz = rng.uniform([-30, -30, -2], [30, 30, 2], (800, 3)).astype(np.float32)
        xyz[0] = np.nan
        ring = np.arange(800, dtype=np.uint16) % 32 if self.ring else None
        scan = LidarScan(xyz, np.full(800, self.labels[i] / 20, np.float32), ring=ring)
        return scan, np.full(800, self.labels[i], np.uint8)
