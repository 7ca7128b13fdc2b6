# SPDX-License-Identifier: Apache-2.0
"""Five times as many clouds as the node can label: it labels the newest, and nothing piles up."""

from statistics import median

import numpy as np
import pytest

from tests.abuse.conftest import LABELS, NODE, PATIENCE, RELIABLE, STATS
from tools.soak.process import Process

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]
WORK = 0.25
"""Seconds that the fake network takes for a cloud: sleep, which a busy machine does not prolong."""
CLOUDS, TIMES = 75, 5
MAX_GROWTH = 16 << 20


def test_ages_stay_those_of_one_frame(client, start_node, cloud):
    from sensor_msgs.msg import PointCloud2

    msg = pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")
    node = start_node(*RELIABLE, FAKE_MILLISECONDS=str(1e3 * WORK))
    client.listen(msg.SegmentationStats, STATS)
    client.listen(PointCloud2, LABELS)
    points = client.publisher()
    client.until(points.get_subscription_count, timeout=PATIENCE)
    answers = []

    def stamp_of(message):
        answers.append(message)
        return message.header.stamp

    # figures come last of what a cloud is answered with
    client.until_answered(
        client.probe(points), LABELS, STATS, pause=5.0, timeout=PATIENCE, stamp_of=stamp_of
    )
    before = answers[-1]
    process, states = Process(node.process.pid), []
    sent = [cloud(20_000, seed=i) for i in range(4)]
    for number in range(CLOUDS):
        message = sent[number % 4]
        message.header.stamp = client.node.get_clock().now().to_msg()
        points.publish(message)
        states.append(process.state())
        client.spin(WORK / TIMES)
        if number % TIMES == TIMES - 1:  # a busy machine may be slower, but never less loaded
            client.until(lambda n=number // TIMES: len(client.got[STATS]) > n, timeout=PATIENCE)
    stats = client.got[STATS]
    newest = message.header.stamp
    client.until(lambda: stats and stats[-1].header.stamp == newest, timeout=PATIENCE)
    last = stats[-1]
    received, processed = last.received - before.received, last.processed - before.processed
    assert (received, processed) == (CLOUDS, len(stats))
    assert last.received == last.processed + last.dropped
    assert 0.05 < processed / CLOUDS < 0.5
    stamps = [(s.header.stamp.sec, s.header.stamp.nanosec) for s in stats]
    assert stamps == sorted(set(stamps))
    client.until(lambda: len(client.got[LABELS]) == len(stats), timeout=PATIENCE)
    for one in stats:
        assert 0 <= one.received - one.processed - one.dropped <= 2

    # A cloud waits at most for the one in work; on average, for the next one to come.
    ages, work = [s.age_ms for s in stats], median(s.total_ms for s in stats)
    assert median(ages) < 2 * work
    third = len(ages) // 3
    assert median(ages[-third:]) < 1.5 * median(ages[:third]), "a queue has built up"
    settled = states[CLOUDS // 4 :]
    assert {state.threads for state in settled} == {settled[0].threads}
    assert {state.handles for state in settled} == {settled[0].handles}
    assert settled[-1].private - settled[0].private < MAX_GROWTH
    assert client.state(NODE) == "active", "services answer under load"
    assert np.isfinite(ages).all()
