# SPDX-License-Identifier: Apache-2.0
"""The newest frame wins and every frame is accounted for; the clock is turned by hand."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import CloudError
from pointdistill_ros.nodes.model_thread import ModelThread
from pointdistill_ros.nodes.worker import FOREIGN_CLOCK, Counters, NewestFrameWorker


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_newest_frame_is_worked_on(clock):
    seen = []
    worker = NewestFrameWorker(lambda frame: seen.append(frame.message), clock=clock)
    for number in range(5):
        worker.put(number, clock.now)
    assert worker.counters == Counters(received=5, overwritten=4)
    assert worker.counters.in_flight == 1
    assert worker.step()
    assert not worker.step()
    assert seen == [4]
    assert worker.counters == Counters(received=5, overwritten=4, processed=1)
    assert worker.counters.in_flight == 0


def test_old_frames_are_stale(clock):
    worker = NewestFrameWorker(lambda frame: None, max_age=lambda: 0.5, clock=clock)
    worker.put("just in time", clock.now - 0.5)
    worker.step()
    worker.put("too old when its turn comes", clock.now - 0.4)
    clock.now += 0.2
    worker.step()
    assert worker.counters == Counters(received=2, processed=1, stale=1)


def test_without_a_limit_nothing_is_stale(clock):
    worker = NewestFrameWorker(lambda frame: None, clock=clock)
    worker.put("old", clock.now - 9.0)
    clock.now += 1e6
    worker.step()
    assert worker.counters == Counters(received=1, processed=1)


def test_the_limit_is_asked_for_every_frame(clock):
    limit = 0.5
    worker = NewestFrameWorker(lambda frame: None, max_age=lambda: limit, clock=clock)
    worker.put("a", clock.now - 1.0)
    worker.step()
    limit = 2.0
    worker.put("b", clock.now - 1.0)
    worker.step()
    assert worker.counters == Counters(received=2, processed=1, stale=1)


@pytest.mark.parametrize("offset", [-3.0e8, -FOREIGN_CLOCK - 0.1, FOREIGN_CLOCK + 0.1, 3.0e8])
def test_foreign_stamps_age_from_reception(clock, offset):
    worker = NewestFrameWorker(lambda frame: None, max_age=lambda: 0.5, clock=clock)
    frame = worker.put("bag", clock.now + offset)
    assert frame.arrival.foreign
    assert worker.age(frame) == pytest.approx(0.0, abs=1e-9)
    clock.now += 0.4
    worker.step()
    worker.put("bag", clock.now + offset)
    clock.now += 0.6
    worker.step()
    assert worker.counters == Counters(received=2, processed=1, stale=1)


def test_own_stamps_age_from_the_stamp(clock):
    worker = NewestFrameWorker(lambda frame: None, clock=clock)
    frame = worker.put("live", clock.now - 9.9)
    assert not frame.arrival.foreign
    assert worker.age(frame) == pytest.approx(9.9)


def test_bad_frames_are_told_apart_from_bugs_and_do_not_end_the_work(clock):
    errors = []

    def work(frame):
        if isinstance(frame.message, Exception):
            raise frame.message

    worker = NewestFrameWorker(work, refused=errors.append, clock=clock)
    bad, bug = CloudError("no field z"), ZeroDivisionError("division by zero")
    for message in (bad, bug, "good"):
        worker.put(message, clock.now)
        worker.step()
    assert worker.counters == Counters(received=3, processed=1, invalid=1, failed=1)
    assert errors == [bad, bug]


def test_a_result_is_counted_before_it_is_told(clock):
    counters = []
    worker = NewestFrameWorker(
        lambda frame: frame.message,
        done=lambda result: counters.append((result, worker.counters)),
        clock=clock,
    )
    worker.put("scan", clock.now)
    worker.step()
    assert counters == [("scan", Counters(received=1, processed=1))]


def test_telling_may_fail(clock):
    errors = []
    worker = NewestFrameWorker(
        lambda frame: 0, done=lambda result: 1 / result, refused=errors.append, clock=clock
    )
    worker.put("scan", clock.now)
    assert worker.step()
    assert worker.counters == Counters(received=1, processed=1)
    assert [type(error) for error in errors] == [ZeroDivisionError]


@given(st.lists(st.sampled_from(["put", "put old", "put bad", "put bug", "step", "wait"])))
def test_every_frame_is_in_exactly_one_counter(events):
    clock, slot = Clock(), None
    expected = dict.fromkeys(["received", "processed", "overwritten", "stale"], 0)
    expected |= {"invalid": 0, "failed": 0}

    def work(frame):
        if frame.message == "bad":
            raise CloudError("bad")
        if frame.message == "bug":
            raise RuntimeError("bug")

    worker = NewestFrameWorker(work, max_age=lambda: 1.0, clock=clock)
    for event in events:
        if event.startswith("put"):
            kind = event[4:]
            stamp = clock.now - (5.0 if kind == "old" else 0.0)
            worker.put(kind, stamp)
            expected["received"] += 1
            expected["overwritten"] += slot is not None
            slot = (kind, stamp)
        elif event == "wait":
            clock.now += 0.6
        else:
            assert worker.step() == (slot is not None)
            if slot is not None:
                kind, stamp = slot
                late = clock.now - stamp > 1.0
                outcome = {"bad": "invalid", "bug": "failed"}.get(kind, "processed")
                expected["stale" if late else outcome] += 1
                slot = None
        counters = worker.counters
        assert counters == Counters(**expected)
        assert counters.received == counters.processed + counters.dropped + counters.in_flight
        assert counters.in_flight == (slot is not None)
    assert worker.stop(0.0)
    assert worker.counters.in_flight == 0


def test_the_thread_stops_within_the_frame_in_work():
    began, release, seen = threading.Event(), threading.Event(), []

    def work(frame):
        began.set()
        assert release.wait(5)
        seen.append(frame.message)

    worker = NewestFrameWorker(work)
    worker.start(ModelThread())
    worker.put("in work", time.time())
    assert began.wait(5)
    worker.put("waiting", time.time())
    assert worker.counters.in_flight == 2
    threading.Timer(0.1, release.set).start()
    assert worker.stop(5.0)
    assert seen == ["in work"]
    assert worker.counters == Counters(received=2, processed=1, stale=1)


def test_a_frame_that_hangs_is_reported():
    release = threading.Event()
    worker = NewestFrameWorker(lambda frame: release.wait(10))
    worker.start(ModelThread())
    worker.put("endless", time.time())
    while worker.counters.in_flight == 1 and worker._slot is not None:
        time.sleep(0.001)
    assert not worker.stop(0.05)
    release.set()
    assert worker.stop(5.0)


def test_an_idle_thread_stops_at_once():
    worker = NewestFrameWorker(lambda frame: None)
    worker.start(ModelThread())
    began = time.monotonic()
    assert worker.stop(5.0)
    assert time.monotonic() - began < 0.15
