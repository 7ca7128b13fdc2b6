# SPDX-License-Identifier: Apache-2.0
"""A line now and then; how often may change while it runs. No ROS."""

from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.nodes.log_throttle import LogThrottle

seconds = st.integers(0, 50).map(lambda n: 0.5 * n)


@given(st.lists(seconds, max_size=30), seconds)
def test_lines_are_a_period_apart_and_none_is_held_back_longer(waits, period):
    now, logged = 0.0, []
    throttle = LogThrottle(lambda: period, lambda: now)
    for wait in waits:
        now += wait
        expected = not logged or now - logged[-1] >= period
        assert throttle.due() == expected
        if expected:
            logged.append(now)


def test_the_first_line_is_logged_and_the_period_may_change():
    now, period = 1e-9, 3600.0
    throttle = LogThrottle(lambda: period, lambda: now)
    assert throttle.due() and not throttle.due()
    now = 4.0
    assert not throttle.due()
    period = 3.0
    assert throttle.due() and not throttle.due()
    period = 0.0
    assert throttle.due() and throttle.due()
