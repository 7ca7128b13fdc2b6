# SPDX-License-Identifier: Apache-2.0
"""Pairing under any interleaving of two sides. No ROS."""

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.nodes.pairing import SIDES, Pairing

events = st.lists(st.tuples(st.sampled_from(SIDES), st.integers(0, 12)), max_size=80)
depths = st.integers(1, 5)


def other(side):
    return "teacher" if side == "student" else "student"


class Item:
    """Something that can be watched: who said it, of what, the how-manieth event it was."""

    def __init__(self, side, stamp, number):
        self.side, self.stamp, self.number = side, stamp, number


def play(depth, events):
    """All pairs, each with the number of the event that completed it."""
    pairing = Pairing(depth)
    pairs = []
    for number, (side, stamp) in enumerate(events):
        pair = pairing.put(side, stamp, Item(side, stamp, number))
        if pair is not None:
            pairs.append((number, pair))
    return pairing, pairs


@given(depths, events)
def test_a_pair_is_what_both_sides_said_of_one_stamp(depth, events):
    _, pairs = play(depth, events)
    used = []
    for number, pair in pairs:
        assert (pair.student.side, pair.teacher.side) == ("student", "teacher")
        assert pair.student.stamp == pair.teacher.stamp == pair.stamp
        assert number == max(pair.student.number, pair.teacher.number)
        used += [pair.student.number, pair.teacher.number]
    assert len(used) == len(set(used)), "an item was paired twice"


@given(depths, events)
def test_a_pair_is_lost_only_to_as_many_newer_ones_as_the_bound(depth, events):
    """Event by event, with waiting rooms that are never emptied."""
    _, pairs = play(depth, events)
    completed = dict(pairs)
    rooms = {side: [] for side in SIDES}  # [stamp, number, most newer ones ever], oldest first
    for number, (side, stamp) in enumerate(events):
        partner = next((one for one in rooms[other(side)] if one[0] == stamp), None)
        if partner is not None and partner[2] < depth:
            assert number in completed, "lost within the bound"
            assert getattr(completed[number], other(side)).number == partner[1]
            rooms[other(side)].remove(partner)
            continue
        assert number not in completed, "kept beyond the bound"
        rooms[side] = [one for one in rooms[side] if one[0] != stamp] + [[stamp, number, 0]]
        for newer, one in enumerate(reversed(rooms[side])):
            one[2] = max(one[2], newer)


@given(depths, events)
def test_memory_is_bounded_and_every_item_is_counted(depth, events):
    pairing = Pairing(depth)
    kept = []
    for number, (side, stamp) in enumerate(events):
        item = Item(side, stamp, number)
        kept.append(weakref.ref(item))
        pairing.put(side, stamp, item)
        del item
        for one in SIDES:
            assert 0 <= pairing.counters(one).waiting <= depth
    gc.collect(0)
    alive = sum(reference() is not None for reference in kept)
    assert alive == sum(pairing.counters(side).waiting for side in SIDES) <= 2 * depth
    for side in SIDES:
        assert pairing.counters(side).received == sum(s == side for s, _ in events)
    assert pairing.counters("student").paired == pairing.counters("teacher").paired


@given(depths, events, st.integers(0, 30))
def test_a_side_that_begins_anew_is_paired_again(depth, events, lead):
    """Whatever was before: if both sides now deliver the same new stamps, all are paired."""
    pairing, _ = play(depth, events)
    for stamp in range(100, 105):
        first, second = SIDES if lead % 2 else SIDES[::-1]
        assert pairing.put(first, stamp, object()) is None
        assert pairing.put(second, stamp, object()) is not None


def test_a_silent_side_costs_nothing_more_over_time():
    pairing = Pairing(3)
    for stamp in range(1000):
        pairing.put("student", stamp, stamp)
    assert pairing.counters("student").expired == 997
    assert pairing.put("teacher", 996, "late") is None
    assert pairing.put("teacher", 997, "in time").student == 997


@pytest.mark.parametrize("depth", [1, 2])
def test_depth_can_be_lowered_while_running(depth):
    pairing = Pairing(5)
    for stamp in range(5):
        pairing.put("teacher", stamp, stamp)
    pairing.depth = depth
    assert (pairing.counters("teacher").waiting, pairing.counters("teacher").expired) == (
        depth,
        5 - depth,
    )
    assert pairing.put("student", 4, "student").teacher == 4
