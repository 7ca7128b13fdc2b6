# SPDX-License-Identifier: Apache-2.0
import numpy as np

from pointdistill_ros.evaluation.bootstrap import MIN_SCENES, by_scene, interval, too_few
from pointdistill_ros.evaluation.confusion import iou_per_class, overall_accuracy


def scenes(accuracies, points=1000):
    """One drive per accuracy, two classes."""
    counts = np.zeros((len(accuracies), 2, 3), np.int64)
    counts[:, 0, 0] = np.round(np.array(accuracies) * points)
    counts[:, 0, 1] = points - counts[:, 0, 0]
    return counts


def test_scans_of_a_drive_are_one_scene():
    counts = [np.full((2, 3), i) for i in (1, 10, 100)]
    together = by_scene(counts, ["b", "a", "b"])
    assert together[:, 0, 0].tolist() == [101, 10]


def test_interval_of_a_mean_of_drives():
    """Accuracies of equally large drives: the interval is that of their mean, ± 1.96 σ/√n."""
    values = np.random.default_rng(1).uniform(0.3, 0.9, 60)
    low, high = interval(scenes(values, 100_000), overall_accuracy)
    sigma = values.std() / np.sqrt(60)
    assert abs(low - (values.mean() - 1.96 * sigma)) < 0.5 * sigma
    assert abs(high - (values.mean() + 1.96 * sigma)) < 0.5 * sigma


def test_equal_drives_leave_no_doubt_and_the_seed_decides():
    low, high = interval(scenes([0.5] * 10), overall_accuracy)
    assert low == high == 0.5
    varied = scenes(np.linspace(0, 1, 10))
    np.testing.assert_array_equal(
        interval(varied, overall_accuracy), interval(varied, overall_accuracy)
    )
    other = interval(varied, overall_accuracy, seed=1)
    assert (other != interval(varied, overall_accuracy)).any()


def test_too_few_drives_give_none_and_say_so():
    few = scenes([0.1] * (MIN_SCENES - 1))
    assert np.isnan(interval(few, iou_per_class)).all()
    assert f"{MIN_SCENES - 1} drives" in too_few(MIN_SCENES - 1)
    assert too_few(MIN_SCENES) == ""


def test_a_class_that_some_resamples_lack_still_has_an_interval():
    counts = scenes([0.5] * 10)
    counts[0, 1, 1] = 7  # the second class is in one drive only
    low, high = interval(counts, iou_per_class)
    assert np.isfinite([low, high]).all()
    never = scenes([1.0] * 10)
    assert np.isnan(interval(never, iou_per_class)[:, 1]).all()
