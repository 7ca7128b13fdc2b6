# SPDX-License-Identifier: Apache-2.0
"""Ages of clouds by clocks that are turned by hand. No ROS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import CloudError
from pointdistill_ros.nodes.age import FOREIGN_CLOCK, AgeClock
from pointdistill_ros.nodes.worker import Counters, NewestFrameWorker

WALL = 1.8e9
BAG = 1.3e9


class Clocks:
    """A ROS clock and a steady one; time passes for both, jumps are for one."""

    def __init__(self, ros=WALL):
        self.ros, self.steady = ros, 50.0

    def wait(self, seconds, rate=1.0):
        """``rate``: of simulated time; 0 is a paused simulation."""
        self.ros += rate * seconds
        self.steady += seconds


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def ages(clocks):
    return AgeClock(lambda: clocks.ros, lambda: clocks.steady)


def test_a_stamp_of_this_clock_counts_from_the_stamp(clocks, ages):
    arrival = ages.arrival(clocks.ros - 0.25)
    clocks.wait(0.5)
    assert not arrival.foreign
    assert ages.age(arrival) == pytest.approx(0.75)


@pytest.mark.parametrize("offset", [-WALL, -FOREIGN_CLOCK - 0.1, FOREIGN_CLOCK + 0.1, 1e9])
def test_a_stamp_of_another_clock_counts_from_the_reception(clocks, ages, offset):
    arrival = ages.arrival(clocks.ros + offset)
    clocks.wait(0.5)
    assert arrival.foreign
    assert ages.age(arrival) == pytest.approx(0.5)


def test_one_odd_stamp_decides_nothing_for_the_next(clocks, ages):
    assert ages.arrival(0.0).foreign
    following = ages.arrival(clocks.ros - 2.0)
    assert (following.foreign, ages.age(following)) == (False, pytest.approx(2.0))


def test_a_driver_whose_clock_is_ahead_counts_from_the_reception(clocks, ages):
    arrival = ages.arrival(clocks.ros + 3.0)
    assert ages.age(arrival) == 0.0
    clocks.wait(0.7)
    assert ages.age(arrival) == pytest.approx(0.7), "a wait must show, however odd the stamp"


def test_the_first_clock_message_does_not_age_what_waits(clocks, ages):
    """use_sim_time, no /clock yet: the ROS clock reads 0, then it reads the bag's time."""
    clocks.ros = 0.0
    arrival = ages.arrival(BAG)
    clocks.wait(0.1, rate=0)
    clocks.ros = BAG
    assert ages.age(arrival) == pytest.approx(0.1)
    assert not ages.arrival(BAG - 0.1).foreign


def test_a_loop_of_the_bag_does_not_make_clouds_young(clocks, ages):
    clocks.ros = BAG + 60
    arrival = ages.arrival(BAG + 59.9)
    clocks.wait(0.2)
    clocks.ros = BAG
    assert ages.age(arrival) == pytest.approx(0.3)


def test_a_paused_simulation_stops_ages_and_goes_on(clocks, ages):
    clocks.ros = 12.0
    arrival = ages.arrival(11.9)
    clocks.wait(300.0, rate=0)
    assert ages.age(arrival) == pytest.approx(0.1)
    clocks.wait(0.2)
    assert ages.age(arrival) == pytest.approx(0.3)


@given(st.floats(0.1, 10), st.floats(0, 5))
def test_simulated_seconds_count_at_any_rate(rate, waited):
    clocks = Clocks(100.0)
    ages = AgeClock(lambda: clocks.ros, lambda: clocks.steady)
    arrival = ages.arrival(100.0)
    clocks.wait(waited, rate)
    jumped = rate * waited > waited + FOREIGN_CLOCK
    assert ages.age(arrival) == pytest.approx(waited if jumped else rate * waited, abs=1e-6)


@given(
    jumps=st.lists(st.sampled_from([-3.0e8, -40.0, -8.0, -1.0, 0.0, 0.0, 1.0, 40.0, 3.0e8])),
    waits=st.lists(st.floats(0, 0.2), min_size=1),
)
def test_no_jump_makes_an_age_negative_or_enormous(jumps, waits):
    clocks = Clocks()
    ages = AgeClock(lambda: clocks.ros, lambda: clocks.steady)
    arrival = ages.arrival(clocks.ros)
    for number, waited in enumerate(waits):
        clocks.wait(waited)
        clocks.ros += jumps[number] if number < len(jumps) else 0.0
        age = ages.age(arrival)
        steady = clocks.steady - 50.0
        assert 0 <= age <= steady + FOREIGN_CLOCK + 1e-6


def drive(clocks, worker, clouds, stamp_of):
    """Clouds at 10 Hz, each worked on at once."""
    before = worker.counters.processed
    for _ in range(clouds):
        clocks.wait(0.1)
        worker.put("cloud", stamp_of(clocks))
        worker.step()
    return worker.counters.processed - before


def test_nothing_is_lost_over_a_day_with_every_kind_of_jump(clocks):
    """What follows a jump is labelled at once: no jump drops clouds for ever, or even for long."""
    worker = NewestFrameWorker(
        lambda frame: None,
        max_age=lambda: 0.5,
        clock=lambda: clocks.ros,
        steady=lambda: clocks.steady,
    )

    def live(clocks):
        return clocks.ros - 0.02

    assert drive(clocks, worker, 20, live) == 20
    assert drive(clocks, worker, 20, lambda c: BAG + c.steady) == 20, "a bag without /clock"
    assert drive(clocks, worker, 20, live) == 20, "live again"
    for reset in (500.0, 8.0, 0.0):  # the simulation restarts; driver and node follow one clock
        clocks.ros = reset
        assert drive(clocks, worker, 20, live) == 20
    for jump in (3600.0, -3600.0, 5.0, -5.0):
        clocks.ros += jump
        assert drive(clocks, worker, 20, live) == 20
    ahead = clocks.ros
    clocks.ros -= 8.0  # only the node's clock is set back: the driver seems to stamp the future
    assert drive(clocks, worker, 20, lambda c: ahead + c.steady % 100) == 20
    assert worker.counters.stale == 0


def test_a_wait_is_stale_whatever_the_clock_does_meanwhile(clocks):
    worker = NewestFrameWorker(
        lambda frame: None,
        max_age=lambda: 0.5,
        clock=lambda: clocks.ros,
        steady=lambda: clocks.steady,
    )
    worker.put("waits", clocks.ros)
    clocks.wait(0.6)
    clocks.ros -= 3600.0
    worker.step()
    worker.put("bad", clocks.ros)
    clocks.ros += 3600.0
    worker.step()
    assert worker.counters == Counters(received=2, processed=1, stale=1)


def test_an_offset_between_clocks_drops_clouds_only_while_it_lasts(clocks):
    def work(frame):
        if frame.message is None:
            raise CloudError("no cloud")

    worker = NewestFrameWorker(
        work, max_age=lambda: 0.5, clock=lambda: clocks.ros, steady=lambda: clocks.steady
    )
    assert drive(clocks, worker, 5, lambda c: c.ros - 3.0) == 0
    assert worker.counters.stale == 5
    assert drive(clocks, worker, 5, lambda c: c.ros - 0.3) == 5
