# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from pointdistill_ros.evaluation.calibration import BINS
from pointdistill_ros.evaluation.distance import EDGES
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.tally import ScanTally
from pointdistill_ros.labels import LabelSet

LABELS = LabelSet("three", ("a", "b", "c"), ((9, 9, 9),) * 3, ((1,), (2,), (3,)))


def scan(drive, near, far=((0,) * 4,) * 3):
    """Tally with these counts [3, 4] in the first and in the last band."""
    bands = np.zeros((len(EDGES), 3, 4), np.int64)
    bands[0], bands[-1] = near, far
    return ScanTally(drive, "x", bands, np.zeros((3, BINS)))


def test_rare_and_absent_classes_are_named_and_left_out():
    figures = Figures([scan("0", [[150, 50, 0, 0], [0, 99, 0, 0], [0, 0, 0, 0]])], LABELS)
    found = figures.to_dict()
    assert found["left_out"] == {"b": 99, "c": 0}
    assert found["miou"] == 0.75
    assert found["mean_accuracy"] == 0.75
    assert found["accuracy"] == pytest.approx(249 / 299, abs=1e-4)
    assert found["miou_all"] == pytest.approx((0.75 + 99 / 149 + 0) / 3, abs=1e-4)
    assert found["fw_iou"] == pytest.approx((200 * 0.75 + 99 * 99 / 149) / 299, abs=1e-4)
    assert set(found["classes"]) == {"a", "b"}
    assert Figures(figures.tallies, LABELS, 99).left_out() == {"c": 0}


def test_bands_are_judged_apart():
    far = [[0, 200, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    found = Figures([scan("0", [[200, 0, 0, 0]] + [[0] * 4] * 2, far)], LABELS).to_dict()
    assert [row["miou"] for row in found["distance"]] == [1.0, None, None, None, 0.0]
    assert found["distance"][-1]["band"] == "beyond 50 m"


def test_intervals_need_drives_not_scans():
    def split(drives):
        return [
            scan(str(i % drives), [[100 + i, 20, 0, 0], [3 * i, 100, 0, 0], [0] * 4])
            for i in range(20)
        ]

    few = Figures(split(5), LABELS).to_dict()
    assert few["intervals"]["miou"] == [None, None] and "5 drives" in few["no_intervals"]
    many = Figures(split(20), LABELS).to_dict()
    low, high = many["intervals"]["miou"]
    assert low < many["miou"] < high and not many["no_intervals"]
    low, high = many["classes"]["b"]["interval"]
    assert low < many["classes"]["b"]["iou"] < high


def test_everything_is_plain_data_without_nan():
    found = Figures([scan("0", [[0] * 4] * 3)], LABELS).to_dict()
    assert found["miou"] is None and found["ece"] is None
    json.dumps(found, allow_nan=False)
