# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros import LidarScan
from pointdistill_ros.model.degradation import LADDER, NONE
from pointdistill_ros.segmenter import Segmenter
from tests.test_weights import SCAN
from training.thinned import ThinnedSegmenter


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.load("student", "cpu", "torch")


@pytest.fixture(scope="module")
def scan():
    whole = LidarScan.read(SCAN)
    assert whole.intensity is not None
    near = np.hypot(whole.xyz[:, 0], whole.xyz[:, 1]) < 15
    return LidarScan(whole.xyz[near], whole.intensity[near])


def test_lent_neighbours_keep_the_labels(segmenter, scan):
    def labels(step, **options):
        thinned = ThinnedSegmenter(segmenter.network, segmenter.meta, step, **options)
        return thinned(scan).labels, thinned.voxels[0]

    whole, voxels = labels(NONE)
    assert np.array_equal(whole, segmenter(scan).labels)
    lent, fewer = labels(LADDER[2])
    isolated, same = labels(LADDER[2], lend=False)
    assert fewer == same < 0.7 * voxels
    changed = np.mean(lent != whole)
    assert changed < 0.12 and changed < 0.6 * np.mean(isolated != whole)
