# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.evaluation.confusion import count
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.tally import ScanTally, tally
from pointdistill_ros.evaluation.walk import EveryNth, Journal, shared_label_set, walk
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

KITTI, COMMON = LabelSet.named("semantic-kitti"), LabelSet.named("common7")
OWN = LabelSet("own", ("a",), ((0, 0, 0),), ((1,),))


class Noise:
    """Random labels; counts how often it is asked."""

    label_set = KITTI

    def __init__(self):
        self.asked = 0

    def __call__(self, scan):
        self.asked += 1
        rng = np.random.default_rng(len(scan))
        labels = rng.choice([0, 8, 10, 255], len(scan)).astype(np.uint8)
        p = np.where(labels == 255, 0, rng.random(len(scan))).astype(np.float32)
        return Segmentation(labels, p, p, KITTI, voxels=10)


class Drives:
    """Some scans of three drives."""

    label_set, sequences = KITTI, ["00", "00", "01", "02", "02"]

    def __len__(self):
        return 5

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        n = 200 + i
        truth = rng.choice([0, 8, 10, 255], n).astype(np.uint8)
        return LidarScan(rng.normal(0, 25, (n, 3)).astype(np.float32), frame=f"{i:06d}"), truth


def same(left, right):
    return [t.to_dict() | {"seconds": 0} for t in left] == [
        t.to_dict() | {"seconds": 0} for t in right
    ]


def test_tally_is_the_matrix_of_the_scan_split_by_distance():
    scan, truth = Drives()[0]
    result = Noise()(scan)
    one = tally(scan, result, truth, KITTI)
    np.testing.assert_array_equal(one.counts, count(result.labels, truth, 19))
    near = np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]) < 10
    np.testing.assert_array_equal(one.bands[0], count(result.labels[near], truth[near], 19))
    assert one.reliability[0].sum() == (truth != 255).sum()
    assert ScanTally.from_dict(json.loads(json.dumps(one.to_dict()))).to_dict() == one.to_dict()


def test_tally_of_another_label_set_is_remapped():
    scan, _ = Drives()[0]
    truth = np.full(len(scan), COMMON.index("road"), np.uint8)
    result = Noise()(scan)
    one = tally(scan, result, truth, COMMON)
    assert one.accuracy == np.isin(result.labels, [KITTI.index("road")]).mean()


def test_scans_of_a_split_share_one_matrix():
    tallies = walk(Noise(), Drives(), KITTI)
    figures = Figures(tallies, KITTI, min_points=1)
    labels, truths = [], []
    for i in range(5):
        scan, truth = Drives()[i]
        labels.append(Noise()(scan).labels)
        truths.append(truth)
    expected = count(np.concatenate(labels), np.concatenate(truths), 19)
    np.testing.assert_array_equal(figures.matrix.counts, expected)
    parts = [figures.of_sequence(s).matrix.counts for s in figures.sequences]
    np.testing.assert_array_equal(np.sum(parts, axis=0), expected)
    assert figures.sequences == ("00", "01", "02")


def test_journal_goes_on_after_an_interruption(tmp_path):
    class Interrupted(Noise):
        def __call__(self, scan):
            if self.asked == 3:
                raise KeyboardInterrupt
            return super().__call__(scan)

    whole = walk(Noise(), Drives(), KITTI)
    path = tmp_path / "scans.jsonl"
    with pytest.raises(KeyboardInterrupt):
        walk(Interrupted(), Drives(), KITTI, journal=Journal(path, {"weights": "a"}))
    text = path.read_text()
    path.write_text(text[:-40])  # the last line was cut off by a crash
    rest = Noise()
    journal = Journal(path, {"weights": "a"})
    assert same(walk(rest, Drives(), KITTI, journal=journal), whole)
    assert rest.asked == 3  # two of three lines were whole
    none = Noise()
    assert same(walk(none, Drives(), KITTI, journal=Journal(path, {"weights": "a"})), whole)
    assert none.asked == 0


def test_journal_of_another_measurement_begins_anew(tmp_path):
    path = tmp_path / "scans.jsonl"
    walk(Noise(), Drives(), KITTI, journal=Journal(path, {"weights": "a"}))
    again = Noise()
    walk(again, Drives(), KITTI, journal=Journal(path, {"weights": "b"}))
    assert again.asked == 5


def test_every_nth_scan_keeps_its_drive():
    some = EveryNth(Drives(), 2)
    assert len(some) == 3
    assert some.sequences == ["00", "01", "02"]
    assert some[2][0].frame == "000004"


def test_label_sets_meet_in_the_data_or_in_the_common_classes():
    assert shared_label_set(KITTI, KITTI) is KITTI
    assert shared_label_set(KITTI, COMMON) is COMMON
    assert shared_label_set(COMMON, KITTI).name == "common7"
    autoware = LabelSet.named("autoware")
    assert shared_label_set(autoware, KITTI) is autoware
    assert shared_label_set(KITTI, LabelSet.named("pandaset")).name == "common7"
    with pytest.raises(LabelError, match="no remap"):
        shared_label_set(KITTI, OWN)


def test_no_scans_are_no_figures():
    with pytest.raises(InputError):
        Figures([], KITTI)
