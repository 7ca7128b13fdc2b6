# SPDX-License-Identifier: Apache-2.0
"""Hostile clouds through the running node, over DDS: each is labelled or refused as it must be.

Long form: ``python -m pytest tests/abuse/test_hostile_clouds.py -m slow -s``.
"""

import time
from collections import Counter

import numpy as np
import pytest

from tests.abuse.conftest import COUNTED, LABELLED, LABELS, PATIENCE, RELIABLE, on_cpu, stop
from tools.soak.process import Process

pytestmark = pytest.mark.ros
REACH = 0.2 * (2**15 - 1)
"""Metres: the tiny network's grid of 0.2 m and 15 bits to each side."""
EVERY = 20
"""Hostile clouds between two good ones."""
MAX_GROWTH = 16 << 20
"""Bytes that may come on top of the node's memory after the first part: the allocator's mood."""


def good_cloud():
    from tests.abuse.hostile import plain, street

    return plain(street(np.random.default_rng(7), 300))


def judge(hostile, labelled):
    """The labels are those of this cloud, in its order, and nobody's where there is no point."""
    message, xyz = hostile.message, hostile.xyz()
    assert labelled.header == message.header
    assert (labelled.height, labelled.width) == (message.height, message.width)
    points = np.frombuffer(labelled.data, LABELLED)
    assert len(points) == hostile.points
    np.testing.assert_array_equal(points["xyz"], xyz)
    reached = (np.abs(xyz) <= np.float32(REACH)).all(axis=1)  # False where not finite
    np.testing.assert_array_equal(points["class_id"] < 19, reached)
    np.testing.assert_array_equal(points["class_id"] == 255, ~reached)
    assert not points["probability"][~reached].any() and not points["entropy"][~reached].any()
    said = points[reached]
    assert (said["probability"] > 0).all() and (said["probability"] < 1.0001).all()
    assert (said["entropy"] >= 0).all() and (said["entropy"] < 1.0001).all()


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(300, marks=pytest.mark.timeout(900)),
        pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(14_400)]),
    ],
)
def test_hostile_clouds_are_labelled_or_refused_and_leave_nothing(
    sender, start_node, weights, count
):
    from tests.abuse.hostile import hostile

    node = start_node(*RELIABLE, *on_cpu(weights), program=COUNTED)
    sender.ready()
    process, began = Process(node.process.pid), time.monotonic()
    _, first = sender(good_cloud())
    outcomes, states = Counter(), []
    for number in range(count):
        one = hostile(number)
        kind, labelled = sender(one.message)
        assert kind == ("processed" if one.readable else "invalid"), (number, one.kind)
        outcomes[one.kind, kind] += 1
        if labelled is not None:
            judge(one, labelled)
        if number % EVERY == 0 or number == count - 1:
            _, again = sender(good_cloud())
            assert again.data == first.data, f"labels changed after cloud {number}, {one.kind}"
            states.append(process.state())
    assert {kind for _, kind in outcomes} == {"processed", "invalid"}
    assert sender.counters["received"] == sender.sent == count + 1 + len(states)
    settled = states[len(states) // 4 :]
    for quantity in ("threads", "handles"):
        assert len({getattr(state, quantity) for state in settled}) == 1, quantity
    growth = settled[-1].private - settled[0].private
    print(
        f"\n{count} clouds in {time.monotonic() - began:.0f} s, {sender.counters}; own memory "
        f"{settled[0].private >> 20} -> {settled[-1].private >> 20} MiB"
    )
    assert growth < MAX_GROWTH, [state.private >> 20 for state in states]
    assert stop(node) == 0
    assert "Traceback" not in node.log.read_text()


def damaged(serialised, random):
    """Bytes of a message: cut, lengths overwritten, or anything."""
    data = bytearray(serialised)
    kind = random.integers(4)
    if kind == 0:
        return bytes(data[: int(random.integers(len(data)))])
    if kind == 1:
        return bytes(data[:4]) + random.bytes(int(random.integers(300)))
    for _ in range(int(random.integers(1, 6))):
        if kind == 2:  # where lengths stand
            at = 4 * int(random.integers(1, 40))
            data[at : at + 4] = int(random.choice([0, 2**16, 2**31, 2**32 - 1])).to_bytes(
                4, "little"
            )
        else:
            data[int(random.integers(len(data)))] = int(random.integers(256))
    return bytes(data)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(200, marks=pytest.mark.timeout(900)),
        pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(14_400)]),
    ],
)
def test_messages_that_are_no_messages_change_nothing(sender, start_node, weights, count):
    """What cannot be deserialised is nobody's cloud; what can is counted; the node lives."""
    from rclpy.serialization import serialize_message

    node = start_node(*RELIABLE, *on_cpu(weights), program=COUNTED)
    sender.ready()
    _, first = sender(good_cloud())
    process, random = Process(node.process.pid), np.random.default_rng(3)
    serialised = serialize_message(good_cloud())
    states = []
    for number in range(count):
        sender.points.publish(damaged(serialised, random))
        if number % 10 == 9:
            sender.client.spin(0.01)
            last = good_cloud()
            last.header.stamp.sec = 2000 + number
            sender.points.publish(last)
            labels = sender.client.got[LABELS]
            sender.client.until(
                lambda labels=labels, stamp=last.header.stamp: any(
                    label.header.stamp == stamp for label in labels
                ),
                timeout=PATIENCE,
            )
            assert labels[-1].data == first.data
            labels.clear()
            states.append(process.state())
    # told after the labels
    sender.client.until(lambda: sender.counters["processed"] > len(states), timeout=PATIENCE)
    counters = sender.counters
    assert counters["received"] <= 1 + count + len(states)
    assert counters["invalid"] > 0, "nothing that arrived was wrong"
    assert counters["failed"] == 0
    assert states[-1].private - states[len(states) // 4].private < MAX_GROWTH
    assert stop(node) == 0
    assert "Traceback" not in node.log.read_text()
