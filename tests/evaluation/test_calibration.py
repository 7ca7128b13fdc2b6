# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.evaluation.calibration import BINS, Reliability


def measured(labels, probability, truth):
    one = Reliability()
    one.update(np.array(labels, np.uint8), np.array(probability, np.float32), np.uint8(truth))
    return one


def test_error_by_hand():
    # four points at 0.75, three right; two at 0.25, none right
    one = measured([0, 0, 0, 0, 1, 1], [0.75] * 4 + [0.25] * 2, [0, 0, 0, 1, 0, 0])
    assert one.error() == pytest.approx((4 * 0 + 2 * 0.25) / 6)
    assert np.isfinite(one.accuracy()).sum() == 2
    assert np.nanmax(one.accuracy()) == 0.75


def test_points_without_truth_do_not_count_and_unlabelled_ones_are_misses():
    one = measured([255, 0], [0.0, 0.9], [0, 255])
    assert one.points.sum() == 1
    assert one.accuracy()[0] == 0
    assert one.error() == 0  # it said 0 and was not right


def test_nothing_gives_nan():
    assert np.isnan(Reliability().error())


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1))
def test_error_equals_the_definition_and_parts_add_up(points):
    p = np.array([x for x, _ in points], np.float32)
    hit = np.array([h for _, h in points])
    truth = np.where(hit, 0, 1)
    one = measured(np.zeros(len(p)), p, truth)
    expected = 0.0
    for b in range(BINS):
        inside = (p.astype(float) > b / BINS) & (p.astype(float) <= (b + 1) / BINS)
        inside |= (b == 0) & (p == 0)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - p[inside].astype(float).mean())
    assert one.error() == pytest.approx(expected, abs=1e-9)
    half = len(p) // 2
    parts = measured(np.zeros(half), p[:half], truth[:half]) + measured(
        np.zeros(len(p) - half), p[half:], truth[half:]
    )
    np.testing.assert_allclose(parts.sums, one.sums)
