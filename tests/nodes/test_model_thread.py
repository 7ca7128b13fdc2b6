# SPDX-License-Identifier: Apache-2.0
import gc
import threading
import time
import weakref

import pytest

from pointdistill_ros.nodes.model_thread import ModelThread


def test_all_jobs_run_in_one_thread_and_end_with_it():
    thread = ModelThread()
    first, second = (thread.submit(threading.get_ident) for _ in range(2))
    assert first.result(5) == second.result(5) != threading.get_ident()
    before = threading.active_count()
    thread.end(5)
    assert threading.active_count() == before - 1


def test_an_exception_reaches_who_asked_and_the_thread_goes_on():
    thread = ModelThread()
    failed = thread.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(5)
    assert thread.submit(lambda: 7).result(5) == 7
    thread.end(5)


def test_a_job_that_hangs_is_not_waited_for():
    thread, release = ModelThread(), threading.Event()
    thread.submit(lambda: release.wait(10))
    began = time.monotonic()
    thread.end(0.05)
    assert time.monotonic() - began < 5
    release.set()


def test_a_job_that_failed_keeps_nothing_alive():
    """As a model that did not fit into the device's memory: the next try needs that memory."""

    class Model:
        pass

    def load():
        nonlocal seen
        model = Model()
        seen = weakref.ref(model)
        raise MemoryError

    seen = None
    thread = ModelThread()
    gc.disable()
    try:
        with pytest.raises(MemoryError) as refused:
            thread.submit(load).result(5)
        del refused
        end = time.monotonic() + 5
        while seen() is not None and time.monotonic() < end:
            time.sleep(0.01)
        assert seen() is None
    finally:
        gc.enable()
        thread.end(5)
