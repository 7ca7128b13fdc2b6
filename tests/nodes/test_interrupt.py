# SPDX-License-Identifier: Apache-2.0
import os
import signal
import threading
import time

import pytest

from pointdistill_ros.nodes.interrupt import Interrupt


class SignalsWhenFreed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # the handler runs here, where an exception would be dropped


@pytest.fixture
def usual_handler():
    """Python's own, also where the tests run in the background of a shell, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_handler")
def test_ctrl_c_inside_a_destructor_is_not_lost():
    with Interrupt() as interrupt:
        interrupt.check()
        thing = SignalsWhenFreed()
        del thing
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        interrupt.check()  # raised once
    with pytest.raises(KeyboardInterrupt):  # the usual handler is back
        signal.raise_signal(signal.SIGINT)


def test_sleep_ends_with_ctrl_c():
    began = time.monotonic()
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
    with Interrupt() as interrupt:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            interrupt.sleep(10)
    timer.join()
    assert time.monotonic() - began < 5


def test_outside_the_main_thread_signals_stay_as_they_are():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with Interrupt() as interrupt:
            interrupt.sleep(0)
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
