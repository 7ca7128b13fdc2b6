# SPDX-License-Identifier: Apache-2.0
"""Carried labels: what is certain, what is possible, and that moving things do not count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.evaluation.bags.stability import partners
from pointdistill_ros.evaluation.temporal import CELL, Cells, carry, seen_by, stability

CLASSES = 4


def cloud(seed, n=80, spread=2.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-spread, spread, (n, 3)), rng.integers(0, CLASSES, n).astype(np.uint8)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 2.0, 6.0]))
def test_near_points_are_seen_and_far_ones_are_not(seed, spread):
    (now, labels), (before, others) = cloud(seed, spread=spread), cloud(seed + 1, spread=spread)
    carried, seen = carry(now, labels, Cells.of(before, others))
    np.testing.assert_array_equal(seen, seen_by(now, Cells.of(before, others)))
    apart = np.abs(now[:, None] - before[None]).max(axis=2)  # the largest along an axis
    certain, possible = apart < CELL / 2, apart < 1.5 * CELL
    assert seen[certain.any(axis=1)].all()
    assert not seen[~possible.any(axis=1)].any()
    for i in range(len(now)):
        here = set(others[possible[i]])
        assert (carried[i] in here) if seen[i] else carried[i] == 255
        if labels[i] in others[certain[i]]:
            assert carried[i] == labels[i]
        if labels[i] not in here:
            assert carried[i] != labels[i]


@given(st.integers(0, 10_000))
def test_the_order_of_points_does_not_matter(seed):
    (now, labels), (before, others) = cloud(seed), cloud(seed + 1)
    order = np.random.default_rng(seed).permutation(len(now))
    one, _ = carry(now, labels, Cells.of(before, others))
    two, _ = carry(now[order], labels[order], Cells.of(before[order], others[order]))
    np.testing.assert_array_equal(one[order], two)


@given(st.integers(0, 10_000))
def test_a_scan_is_stable_against_itself(seed):
    xyz, labels = cloud(seed)
    carried, seen = carry(xyz, labels, Cells.of(xyz, labels))
    assert seen.all()
    table = stability(xyz, labels, carried, seen, CLASSES)
    assert table.agreement == 1 and table.points == len(xyz)


def test_a_changed_label_is_a_flip_of_every_static_point():
    xyz, labels = cloud(3)
    now = (labels + 1) % CLASSES
    alone = np.arange(len(xyz)) * 10.0  # far from each other
    xyz[:, 0] = alone
    carried, seen = carry(xyz, now, Cells.of(xyz, labels))
    np.testing.assert_array_equal(carried, labels)
    table = stability(xyz, now, carried, seen & (alone > 50), CLASSES)
    assert table.agreement == 0 and table.points == (alone > 50).sum()
    assert table.counts.sum(axis=0)[labels[10], now[10]] > 0


def test_majority_of_the_own_cell_then_of_a_neighbour():
    before = np.array([[0.1, 0.1, 0.1]] * 3 + [[0.35, 0.1, 0.1]])
    cells = Cells.of(before, np.array([2, 1, 2, 3], np.uint8))
    now = np.array([[0.2, 0.1, 0.1], [0.55, 0.1, 0.1], [0.7, 0.1, 0.1]])
    carried, seen = carry(now, np.zeros(3, np.uint8), cells)
    assert carried.tolist() == [2, 3, 3] and seen.all()


def test_points_without_a_place_are_never_seen():
    xyz = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [1e30, 0, 0], [0, 0, 0]])
    labels = np.zeros(4, np.uint8)
    carried, seen = carry(xyz, labels, Cells.of(xyz, labels))
    assert seen.tolist() == [False, False, False, True] and carried.tolist() == [255] * 3 + [0]
    nothing = Cells.of(np.empty((0, 3)), np.empty(0, np.uint8))
    assert not seen_by(xyz, nothing).any()


@settings(max_examples=20)
@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_far_from_the_origin_it_is_the_same(dx, dy):
    xyz, labels = cloud(1)
    moved = xyz + np.round(np.array([dx, dy, 0]) / CELL) * CELL
    inside = Cells.of(xyz, labels)
    assert len(Cells.of(moved, labels).keys) == pytest.approx(len(inside.keys), abs=2)


def test_partners_are_the_scan_before_and_one_half_a_second_before():
    tenth = 100_000_000
    times = [i * tenth for i in range(8)]
    assert partners(times, [True] * 8)[4:] == [None, (4, 0), (5, 1), (6, 2)]
    assert partners(times, [True] * 6 + [False, True])[5:] == [(4, 0), None, None]
    assert partners([i * 6 * tenth for i in range(5)], [True] * 5) == [None] * 5  # too slow
    assert partners([0, 0, 0], [True] * 3) == [None] * 3
    gap = [0, 1, 2, 20, 21, 22, 23, 24, 25, 26]
    found = partners([t * tenth for t in gap], [True] * 10)
    assert found[:8] == [None] * 8 and found[8:] == [(7, 3), (8, 4)]
