# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from rich.console import Console

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from training.evaluate import evaluate, report, tables

KITTI, COMMON = LabelSet.named("semantic-kitti"), LabelSet.named("common7")
CAR, ROAD, POLE = (KITTI.index(name) for name in ("car", "road", "pole"))


class LabelsFromHeight:
    """z is the answer."""

    label_set = KITTI

    def __call__(self, scan):
        labels = scan.xyz[:, 2].astype(np.uint8)
        zeros = np.zeros(len(labels), np.float32)
        return Segmentation(labels, zeros, zeros, KITTI)


def scan(*answers):
    return LidarScan(np.float32([[0, 0, a] for a in answers]))


def test_scans_of_a_part_share_one_matrix():
    parts = [(scan(CAR, ROAD), np.uint8([CAR, CAR])), (scan(CAR), np.uint8([CAR]))]
    matrix = evaluate(LabelsFromHeight(), parts, KITTI)
    assert matrix.iou()[CAR] == pytest.approx(2 / 3)


def test_a_foreign_label_set_is_compared_in_its_own_classes():
    truth = np.uint8([COMMON.index("vehicle"), COMMON.index("road"), COMMON.index("vehicle")])
    matrix = evaluate(LabelsFromHeight(), [(scan(CAR, ROAD, POLE), truth)], COMMON)
    assert matrix.accuracy() == pytest.approx(2 / 3)


def test_report_and_tables_name_every_true_class():
    points = [CAR] * 100 + [POLE] * 99
    matrix = evaluate(LabelsFromHeight(), [(scan(*points[:-1], ROAD), np.uint8(points))], KITTI)
    result = report(matrix, KITTI)
    assert result["points"] == 199
    assert result["miou"] == 1.0  # pole has too few points to count
    assert result["classes"]["pole"] == {"points": 99, "iou": round(98 / 99, 4)}
    assert set(result["classes"]) == {"car", "pole"}
    console = Console(width=200)
    with console.capture() as capture:
        for table in tables({"part": result, "mean": 0.5}):
            console.print(table)
    text = capture.get()
    assert "pole" in text and "0.990 (99)" in text and "0.500" in text
