# SPDX-License-Identifier: Apache-2.0
"""The newest cloud wins: against a second-by-second account of the same rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.evaluation.bags.live import simulate

STEPS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 90)), min_size=1, max_size=40)


def tick_by_tick(arrivals, durations):
    """One slot, one thread, whole ticks."""
    slot, busy_until, labelled, ages = None, 0, [], []
    for now in range(max(arrivals) + sum(durations) + 2):
        if now in arrivals:
            slot = arrivals.index(now)
        if slot is not None and now >= busy_until:
            busy_until = now + durations[slot]
            labelled.append(slot)
            ages.append(busy_until - arrivals[slot])
            slot = None
    return labelled, ages


@given(STEPS)
def test_it_is_the_rule_of_the_node(steps):
    arrivals, now = [], 0
    for step, _ in steps:
        now += step
        arrivals.append(now)
    durations = [duration for _, duration in steps]
    live = simulate(arrivals, durations)
    labelled, ages = tick_by_tick(arrivals, durations)
    assert list(live.labelled) == labelled
    assert list(live.ages) == pytest.approx(ages)


def test_a_quick_node_labels_all_and_a_slow_one_the_newest():
    assert simulate([0, 1, 2], [0.5] * 3).labelled == (0, 1, 2)
    slow = simulate([0, 1, 2, 3, 4], [2.5] * 5)
    assert slow.labelled == (0, 2, 4) and slow.age(100) == pytest.approx(3.5)
    assert simulate([], []).labelled == ()
