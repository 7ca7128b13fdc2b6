# SPDX-License-Identifier: Apache-2.0
"""Several workers, one thread: who gets a turn when, and what one's trouble means to the others."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import CheckpointError
from pointdistill_ros.nodes.multi_model import SharedModel
from pointdistill_ros.nodes.multi_turns import TurnThread
from pointdistill_ros.nodes.worker import NewestFrameWorker

PATIENCE = 30.0


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def thread():
    thread = TurnThread()
    yield thread
    thread.end(PATIENCE)
    assert not thread._thread.is_alive()


def held(thread):
    """The thread does nothing until what is returned is set."""
    release = threading.Event()
    thread.submit(lambda: release.wait(PATIENCE))
    return release


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=4))
def test_a_round_takes_the_newest_frame_of_each_in_order(clouds):
    """clouds: per lidar the frames that came while the thread was busy."""
    thread, seen, threads = TurnThread(), [], set()

    def work(lidar, frame):
        threads.add(threading.get_ident())
        seen.append((lidar, frame.message))

    workers = [NewestFrameWorker(lambda f, n=n: work(n, f)) for n in range(len(clouds))]
    release = held(thread)
    for worker, frames in zip(workers, clouds, strict=True):
        worker.start(thread)
        for frame in frames:
            worker.put(frame, time.time())
    release.set()
    expected = [(number, frames[-1]) for number, frames in enumerate(clouds) if frames]
    until(lambda: len(seen) == len(expected))
    assert seen == expected
    assert len(threads) <= 1
    for worker, frames in zip(workers, clouds, strict=True):
        assert worker.counters.overwritten == max(len(frames) - 1, 0)
        assert worker.stop(PATIENCE)
    thread.end(PATIENCE)


def test_a_lidar_that_always_has_a_frame_starves_nobody(thread):
    """Every turn of the greedy one ends with a new frame for it and for all the others."""
    seen = []

    def work(frame):
        seen.append(frame.message)
        if frame.message == "greedy" and len(seen) < 30:
            for worker, name in zip(workers, names, strict=True):
                worker.put(name, time.time())

    names = ("greedy", "modest", "slow")
    workers = [NewestFrameWorker(work) for _ in names]
    for worker in workers:
        worker.start(thread)
    workers[0].put("greedy", time.time())
    until(lambda: len(seen) == 31)
    assert seen == [*names] * 10 + ["greedy"]
    for worker in workers:
        assert worker.counters.dropped == 0
        assert worker.stop(PATIENCE)


def test_a_resting_worker_holds_up_nobody_and_gets_its_turn_later(thread):
    seen = []
    resting = NewestFrameWorker(lambda f: seen.append(f.message), rest=lambda worked: 0.3)
    other = NewestFrameWorker(lambda f: seen.append(f.message))
    for worker in (resting, other):
        worker.start(thread)
    resting.put("first", time.time())
    until(lambda: seen == ["first"])
    resting.put("second", time.time())
    other.put("other", time.time())
    until(lambda: len(seen) == 3)
    assert seen == ["first", "other", "second"]
    for worker in (resting, other):
        assert worker.stop(PATIENCE)


def test_jobs_come_between_turns_and_a_stopped_worker_gets_no_more(thread):
    began, release, seen = threading.Event(), threading.Event(), []

    def work(frame):
        began.set()
        assert release.wait(PATIENCE)
        seen.append(frame.message)

    slow, other = NewestFrameWorker(work), NewestFrameWorker(lambda f: seen.append(f.message))
    slow.start(thread)
    other.start(thread)
    slow.put("in work", time.time())
    assert began.wait(PATIENCE)
    slow.put("waiting", time.time())
    other.put("other", time.time())
    job = thread.submit(lambda: seen.append("job"))
    threading.Timer(0.05, release.set).start()
    assert slow.stop(PATIENCE)
    job.result(PATIENCE)
    until(lambda: "other" in seen)
    assert seen[:2] == ["in work", "job"]
    assert "waiting" not in seen
    assert other.stop(PATIENCE)


def test_a_worker_that_stops_does_not_wait_for_the_turns_of_others(thread):
    began, release = threading.Event(), threading.Event()

    def work(frame):
        began.set()
        assert release.wait(PATIENCE)

    slow, other = NewestFrameWorker(work), NewestFrameWorker(lambda f: None)
    for worker in (slow, other):
        worker.start(thread)
    slow.put(0, time.time())
    assert began.wait(PATIENCE)
    other.put("waiting", time.time())
    assert other.stop(PATIENCE)
    assert other.counters.stale == 1
    assert not slow.stop(0.05), "it is in work"
    release.set()
    assert slow.stop(PATIENCE)


def test_a_worker_that_breaks_is_told_and_the_others_go_on(thread):
    def breaking(error):
        raise error  # a worker must not do that in ``refused``; here one does

    broken = NewestFrameWorker(lambda _: 1 / 0, refused=breaking)
    sound = NewestFrameWorker(lambda f: None)
    for worker in (broken, sound):
        worker.start(thread)
        worker.put(0, time.time())
    until(lambda: sound.counters.processed == 1)
    assert broken.stop(PATIENCE)
    assert isinstance(broken._ended.exception(), ZeroDivisionError)
    sound.put(1, time.time())
    until(lambda: sound.counters.processed == 2)
    assert sound.stop(PATIENCE)


class Network:
    """What stands for the memory of a network."""


class Segmenter:
    max_latency_ms = 0.0

    def __init__(self):
        self.network = Network()


def test_the_network_is_loaded_once_and_freed_with_its_last_user():
    import gc
    import weakref

    loads = []

    def load(config):
        loads.append(config)
        return Segmenter()

    host = SharedModel(load)
    before = threading.active_count()
    shares = [host.thread(), host.thread()]
    views = [share.submit(lambda: host.load("config")).result(PATIENCE) for share in shares]
    assert loads == ["config"]
    assert views[0].network is views[1].network
    views[0].max_latency_ms = 50.0
    assert views[1].max_latency_ms == 0.0, "a latency budget is each lidar's own"
    assert shares[0].submit(threading.get_ident).result() == shares[1].submit(
        threading.get_ident
    ).result(PATIENCE)

    network = weakref.ref(views[0].network)
    shares[0].end(PATIENCE)
    shares[0].end(PATIENCE)  # a node may end it twice: on a failed configure and when destroyed
    views.pop(0)
    assert shares[1].submit(lambda: 7).result(PATIENCE) == 7
    shares[1].end(PATIENCE)
    views.clear()
    gc.collect()
    assert network() is None
    assert threading.active_count() == before


def test_a_load_that_fails_is_tried_again_by_the_next():
    answers = [CheckpointError("damaged"), Segmenter()]

    def load(config):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    host = SharedModel(load)
    share = host.thread()
    with pytest.raises(CheckpointError):
        share.submit(lambda: host.load("config")).result(PATIENCE)
    share.end(PATIENCE)
    again = host.thread()
    assert again.submit(lambda: host.load("config")).result(PATIENCE).network
    again.end(PATIENCE)
