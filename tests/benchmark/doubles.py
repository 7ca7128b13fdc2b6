# SPDX-License-Identifier: Apache-2.0
"""Clocks, scans, engines and options that are known, for tests of the benchmark."""

from dataclasses import replace

import numpy as np

from pointdistill_ros.benchmark.run import Options
from pointdistill_ros.benchmark.scans import NamedScan
from pointdistill_ros.benchmark.subjects import PLAIN, Form
from pointdistill_ros.benchmark.timing import Clock
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from tests.tiny import tiny_meta

NATIVE, BF16 = Form("native"), Form("native", "bfloat16")
FORMS = (PLAIN, NATIVE, BF16)


class FakeTime:
    """A clock that only calls move."""

    def __init__(self):
        self.wall = self.cpu = 0.0
        self.log = []

    @property
    def clock(self):
        return Clock(lambda: self.wall, lambda: self.cpu)

    def call(self, name, *costs):
        """A call that takes these seconds, one after the other and then again; CPU twice that."""

        def work():
            seconds = costs[self.log.count(name) % len(costs)]
            self.log.append(name)
            self.wall += seconds
            self.cpu += 2 * seconds
            return {"total": 1e3 * seconds}

        return work


def cloud(points=800, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-6, -6, -0.4), (6, 6, 0.4), (points, 3)).astype(np.float32)
    return LidarScan(xyz, rng.random(points).astype(np.float32))


def segmentation(labels, probability=0.5):
    labels = np.asarray(labels, np.uint8)
    share = np.full(len(labels), probability, np.float32)
    return Segmentation(labels, share, share, tiny_meta().label_set)


class FakeSegmenter:
    """Labels 1 everywhere; takes the time it is told on the fake clock."""

    _engine = None

    def __init__(self, fake, name, seconds, wrong=0.0):
        self.call, self.wrong, self.engine_detail = fake.call(name, seconds), wrong, name

    def __call__(self, scan):
        parts = self.call()
        labels = np.ones(len(scan), np.uint8)
        labels[: round(self.wrong * len(scan))] = 2
        result = segmentation(labels)
        timing = {"geometry": 1.0, "network": parts["total"] - 2, "points": 1.0, **parts}
        return replace(result, timing=timing, voxels=len(scan) // 2)


def options(checkpoints, *sections, **changes):
    values = {"models": checkpoints, "forms": FORMS, "threads": 2, "minutes": 1e6, "runs": 20}
    return Options(**(values | {"sections": sections or ("parity", "timing")} | changes))


TWO_SCANS = [NamedScan("small", cloud(200)), NamedScan("large", cloud(600, 1))]
