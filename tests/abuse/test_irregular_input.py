# SPDX-License-Identifier: Apache-2.0
"""A sensor that is not itself: stamps, frames and sizes that jump, two at once, silence."""

import time

import numpy as np
import pytest

from tests.abuse.conftest import COUNTED, LABELLED, PATIENCE, RELIABLE

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]


def above_or_below(xyz):
    """What the fake network says."""
    return np.where(np.isfinite(xyz).all(axis=1), np.where(xyz[:, 2] >= 0, 0, 1), 255)


def test_jumping_stamps_frames_and_sizes(sender, start_node):
    from tests.abuse.hostile import LARGE, Hostile, plain, street

    start_node(*RELIABLE, "-p", "input.max_age:=9.0", program=COUNTED, COUNTED_FAKE="1")
    sender.ready()
    random = np.random.default_rng(0)
    hour = 3600
    steps = [  # points, frame, seconds that the stamp is ahead of the clock
        (300, "lidar", 0), (300, "lidar", hour), (300, "lidar", hour), (300, "lidar", 0),
        (300, "lidar", -hour), (300, "lidar", 0), (300, "roof", 0), (300, "lidar", 8),
        (1, "lidar", 0), (LARGE, "lidar", 0), (300, "lidar", 0), (0, "lidar", 0), (300, "", 0),
    ]  # fmt: skip
    for points, frame, ahead in steps:
        message = plain(street(random, points))
        message.header.frame_id = frame
        kind, labelled = sender(message, stamp_ns=time.time_ns() + ahead * 1_000_000_000)
        assert kind == "processed", (points, frame, ahead)
        assert labelled.header == message.header
        found = np.frombuffer(labelled.data, LABELLED)
        expected = above_or_below(Hostile("", message, True).xyz())
        np.testing.assert_array_equal(found["class_id"], expected)
    assert sender.counters["received"] == len(steps)
    # beyond ten seconds it would be another clock's: on a busy machine a cloud needs some of them
    assert sender.client.set_parameters(input__max_age=1.0) == (True, "")
    kind, _ = sender(plain(street(random, 5)), stamp_ns=time.time_ns() - 1_500_000_000)
    assert kind == "stale", "the clock decides where the stamp follows it"


def test_two_publishers_of_different_layouts_on_one_topic(sender, start_node):
    from tests.abuse.hostile import Hostile, big_endian, organised_and_padded
    from tests.abuse.hostile import shuffled_and_unaligned as shuffled

    start_node(*RELIABLE, "-p", "output.layout:=append", program=COUNTED, COUNTED_FAKE="1")
    sender.ready()
    publishers = [sender.points, sender.client.publisher()]
    for publisher in publishers:
        sender.client.until(publisher.get_subscription_count, timeout=PATIENCE)
    for number in range(18):
        kind = (organised_and_padded, big_endian, shuffled, big_endian)[number % 4]
        message = kind(np.random.default_rng(number))
        outcome, labelled = sender(message, publisher=publishers[number % 2])
        assert outcome == "processed"
        own, step = len(message.fields), message.point_step
        assert [field.name for field in labelled.fields] == [
            *(field.name for field in message.fields), "class_id", "probability", "entropy",
        ]  # fmt: skip
        assert (labelled.height, labelled.width) == (message.height, message.width)
        assert labelled.is_bigendian == message.is_bigendian
        points = np.frombuffer(labelled.data, np.uint8).reshape(-1, labelled.point_step)
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, -1)
        kept = rows[:, : message.width * step].reshape(-1, step)
        np.testing.assert_array_equal(points[:, :step], kept)
        expected = above_or_below(Hostile("", message, True).xyz())
        np.testing.assert_array_equal(points[:, labelled.fields[own].offset], expected)
        at = labelled.fields[own + 1].offset
        share = np.ascontiguousarray(points[:, at : at + 4]).view(
            ">f4" if labelled.is_bigendian else "<f4"
        )[:, 0]
        np.testing.assert_array_equal(share, np.where(expected == 255, 0, 0.75))


def test_silence_is_noticed_within_two_periods_of_the_missing_cloud(sender, start_node):
    from diagnostic_msgs.msg import DiagnosticArray

    from tests.abuse.hostile import plain, street

    start_node(
        *RELIABLE, "-p", "diagnostics.silent_after:=3600.0", program=COUNTED, COUNTED_FAKE="1"
    )
    heard = []
    sender.client.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda array: heard.extend(
            (array.header.stamp.sec + 1e-9 * array.header.stamp.nanosec, status)
            for status in array.status
            if status.name.endswith(": input")
        ),
        100,
    )
    sender.ready()
    period, cloud = 0.5, plain(street(np.random.default_rng(0), 100))
    sent = []
    for _ in range(20):  # the period is the median of so many
        sent.append(time.time())
        sender(cloud)
        sender.client.spin(sent[-1] + period - time.time())
    # a busy machine sends later than it should, and tells later: both are in the node's stamps
    period, last = float(np.median(np.diff(sent))), sent[-1]
    sender.client.until(lambda: heard[-1][0] > last + 3 * period, timeout=PATIENCE)
    late = [(when, status) for when, status in heard if when > last and "late" in status.message]
    assert late[0][0] > last + 1.9 * period, "the missing cloud was due after one"
    for when, status in heard:
        if when > last + 3 * period:
            assert status.level == b"\x01" and "late" in status.message
            assert "publisher present" in status.message
    sender.client.until_told(  # what is told holds for a while, and then the next would be late
        lambda: sender(cloud),
        lambda: (heard[-1][1].level, heard[-1][1].message) == (b"\x00", "receiving"),
        pause=0.5 * period,
        timeout=PATIENCE,
    )
