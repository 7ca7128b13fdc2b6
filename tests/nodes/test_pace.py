# SPDX-License-Identifier: Apache-2.0
"""A node that leaves the machine to another one. No ROS."""

import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.config import PaceConfig
from pointdistill_ros.nodes import pace
from pointdistill_ros.nodes.model_thread import ModelThread
from pointdistill_ros.nodes.pace import EveryNth, rest, set_priority
from pointdistill_ros.nodes.worker import NewestFrameWorker


@given(st.integers(1, 7), st.integers(0, 40))
def test_one_cloud_of_so_many_is_taken_the_first_one_included(every, clouds):
    turns = EveryNth()
    taken = [number for number in range(clouds) if turns.takes(every)]
    assert taken == list(range(0, clouds, every))
    assert turns.skipped == clouds - len(taken)


def test_how_many_can_change_while_running():
    turns = EveryNth()
    assert [turns.takes(3) for _ in range(6)] == [True, False, False] * 2
    assert all(turns.takes(1) for _ in range(3))


@given(st.floats(0, 100), st.floats(0.01, 1))
def test_work_is_at_most_its_share_of_the_time(worked, max_load):
    assert worked <= max_load * (worked + rest(worked, max_load)) * (1 + 1e-9)
    assert rest(worked, 1.0) == 0


def test_the_worker_rests_and_then_takes_the_newest():
    thread, taken, busy = ModelThread(), [], [0.0]

    def work(frame):
        began = time.monotonic()
        time.sleep(0.02)
        taken.append(frame.message)
        busy[0] += time.monotonic() - began

    worker = NewestFrameWorker(work, rest=lambda worked: rest(worked, 0.25))
    began = time.monotonic()
    worker.start(thread)
    sent = 0
    while len(taken) < 8 and time.monotonic() < began + 30:
        sent += 1
        worker.put(sent, time.time())
        time.sleep(0.001)
    elapsed = time.monotonic() - began
    assert worker.stop(2.0)
    thread.end(2.0)
    assert len(taken) >= 8
    assert busy[0] < 0.3 * elapsed + 0.03  # and the cloud that may be in work when the clock stops
    assert taken == sorted(taken)
    assert taken[-1] - taken[0] > 3 * len(taken), "clouds that came while it rested are too old"


def test_a_long_rest_ends_when_the_share_is_raised_or_the_worker_stops():
    thread, taken, wanted = ModelThread(), [], [1e3]
    worker = NewestFrameWorker(lambda f: taken.append(f.message), rest=lambda _: wanted[0])
    worker.start(thread)

    def put_until(count):
        end = time.monotonic() + 30
        while len(taken) < count:
            assert time.monotonic() < end
            worker.put(len(taken), time.time())
            time.sleep(0.01)

    put_until(1)
    worker.put(1, time.time())
    time.sleep(0.1)
    assert len(taken) == 1, "it did not rest"
    wanted[0] = 0.0
    put_until(2)
    wanted[0] = 1e3
    began = time.monotonic()
    assert worker.stop(30.0)
    assert time.monotonic() - began < 15
    thread.end(2.0)


def in_thread(job):
    thread = ModelThread()
    try:
        return thread.submit(job).result()
    finally:
        thread.end(5.0)


@pytest.mark.parametrize(
    ("priority", "policy", "nice"), [("low", "SCHED_BATCH", 10), ("idle", "SCHED_IDLE", 19)]
)
def test_the_model_thread_and_what_it_starts_get_the_priority_and_nobody_else(
    priority, policy, nice
):
    def observe():
        thread = threading.get_native_id()
        return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)

    def job():
        said = set_priority(PaceConfig(priority=priority))
        started = []
        child = threading.Thread(target=lambda: started.append(observe()))
        child.start()
        child.join()
        return said, observe(), started[0]

    before = observe()
    (said, refused), own, child = in_thread(job)
    if refused:
        pytest.skip(f"not allowed here: {refused}")
    assert own == child == (getattr(os, policy), max(nice, before[1]))
    assert policy in said
    assert observe() == before


def test_it_is_told_among_whom_a_priority_counts(monkeypatch, tmp_path):
    grouping, group = tmp_path / "grouping", tmp_path / "group"
    monkeypatch.setattr(pace, "_GROUPING", grouping)
    monkeypatch.setattr(pace, "_GROUP", group)
    assert set_priority(PaceConfig()) == ("normal", "")
    grouping.write_text("1\n")
    group.write_text("/autogroup-25 nice 0\n")
    assert set_priority(PaceConfig()) == ("normal, within autogroup-25", "")
    grouping.write_text("0\n")
    assert set_priority(PaceConfig()) == ("normal", "")


def test_normal_changes_nothing(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("changed"))
    monkeypatch.setattr(os, "setpriority", lambda *_: pytest.fail("changed"))
    assert set_priority(PaceConfig())[0].startswith("normal")


def test_what_the_system_refuses_is_told(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(pace.os, "sched_setscheduler", refuse)
    said, refused = in_thread(lambda: set_priority(PaceConfig(priority="low")))
    assert said.startswith("low: nice ")
    assert refused == "scheduling policy: Operation not permitted"
