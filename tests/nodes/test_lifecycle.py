# SPDX-License-Identifier: Apache-2.0
"""Lifecycle over DDS: every transition, failures that leave the node usable, no leak."""

import time
from pathlib import Path

import pytest

from tests.nodes.conftest import PATIENCE

pytestmark = pytest.mark.ros
NODE = "/segmentation_node"
LABELS = f"{NODE}/labeled_points"
MANUAL = ("--ros-args", "-p", "autostart:=false")
RELIABLE = ("--ros-args", "-p", "input.reliability:=reliable", "-p", "input.max_age:=0.0")
CYCLES, WARM_UP_CYCLES = 20, 5
MAX_GROWTH_KIB = 8192
"""Resident memory that 15 cycles may add: the allocator's mood, not a cloud (1.9 MB) a cycle."""


@pytest.fixture
def bench(client):
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    client.listen(PointCloud2, LABELS)
    client.listen(DiagnosticArray, "/diagnostics")
    client.points = client.publisher()
    return client


def model_status(bench):
    found = [
        status
        for array in bench.got["/diagnostics"][-1:]
        for status in array.status
        if status.name.endswith(": model")
    ]
    return (found[0].level, found[0].message) if found else (b"", "")


def process_state(pid):
    """Threads, open files and resident KiB of a process."""
    folder = Path("/proc") / str(pid)
    lines = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return {
        "threads": int(lines["Threads"]),
        "files": len(list((folder / "fd").iterdir())),
        "KiB": int(lines["VmRSS"].split()[0]),
    }


def test_an_engine_that_cannot_shed_load_refuses_a_limit_at_configure(bench, start_node):
    start_node(*MANUAL, "-p", "model.max_latency_ms:=50.0")
    assert not bench.change_state("configure")
    assert bench.state() == "unconfigured"
    reason = "cannot load model student: engine 'fake' cannot shed load; use max_latency_ms 0"
    bench.until(lambda: model_status(bench) == (b"\x02", reason))
    assert bench.set_parameters(model__max_latency_ms=0.0) == (True, "")
    assert bench.change_state("configure")
    refused, reason = bench.set_parameters(model__max_latency_ms=50.0)
    assert not refused and "engine 'fake' cannot shed load" in reason


def test_without_autostart_the_manager_leads(bench, start_node, cloud):
    start_node(*MANUAL)
    assert bench.state() == "unconfigured"
    for transition, state in [
        ("configure", "inactive"),
        ("activate", "active"),
        ("deactivate", "inactive"),
        ("activate", "active"),
        ("deactivate", "inactive"),
        ("cleanup", "unconfigured"),
    ]:
        assert bench.change_state(transition)
        assert bench.state() == state
        active = state == "active"
        bench.until(lambda active=active: bool(bench.node.count_subscribers("/points")) == active)


def test_a_transition_that_does_not_exist_changes_nothing(bench, start_node):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    start_node(*MANUAL)
    assert bench.state() == "unconfigured"
    asker = bench.node.create_client(ChangeState, f"{NODE}/change_state")
    assert asker.wait_for_service(15)
    activate = Transition(id=Transition.TRANSITION_ACTIVATE)
    answer = asker.call_async(ChangeState.Request(transition=activate))
    bench.spin(0.5)
    assert not (answer.done() and answer.result().success)  # Jazzy's rclpy does not even answer
    assert bench.state() == "unconfigured"
    bench.node.destroy_client(asker)


def test_a_model_that_cannot_be_loaded_fails_configure_with_the_reason(
    bench, start_node, cloud, tmp_path
):
    weights = tmp_path / "weights.safetensors"
    node = start_node(FAKE_WEIGHTS=str(weights))
    reason = f"cannot load model student: {weights}: no such file"
    bench.until(lambda: model_status(bench) == (b"\x02", reason))
    assert bench.state() == "unconfigured"
    assert reason in node.log.read_text()
    assert not bench.change_state("configure")
    assert bench.state() == "unconfigured"

    weights.touch()
    assert bench.change_state("configure")
    assert bench.change_state("activate")
    bench.until(lambda: model_status(bench) == (b"\x00", "loaded"))
    bench.until_heard(lambda: bench.points.publish(cloud(10)), LABELS)


def test_deactivate_ends_within_the_frame_in_work(bench, start_node, cloud, hold):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    start_node(*RELIABLE, FAKE_STOP_TIMEOUT="3600", **hold.env)
    bench.until_answered(bench.probe(bench.points), LABELS)
    hold.close()
    sent = [cloud(10) for _ in range(5)]
    bench.points.publish(sent[0])
    bench.until(hold.has_one)
    for one in sent[1:]:
        bench.points.publish(one)
    asker = bench.node.create_client(ChangeState, f"{NODE}/change_state")
    assert bench.state() == "active"
    assert asker.wait_for_service(PATIENCE)
    deactivate = Transition(id=Transition.TRANSITION_DEACTIVATE)
    answers, end = [], time.monotonic() + PATIENCE
    while bench.points.get_subscription_count():  # again: the server may know us later
        assert time.monotonic() < end
        answers.append(asker.call_async(ChangeState.Request(transition=deactivate)))
        bench.within(10.0, lambda: not bench.points.get_subscription_count())
    assert not any(answer.done() for answer in answers), "the frame in work is waited for"
    hold.open()
    bench.until(lambda: bench.got[LABELS] and any(answer.done() for answer in answers))
    assert bench.state() == "inactive"
    (labelled,) = bench.got[LABELS]
    assert labelled.header == sent[0].header, "the frame in work, not the waiting one"
    bench.node.destroy_client(asker)


def test_twenty_cycles_leave_nothing_behind(bench, start_node, cloud):
    node = start_node(*MANUAL)
    states, clouds = [], 0
    for _ in range(CYCLES):
        for transition in ("configure", "activate"):
            assert bench.change_state(transition)
        bench.until(bench.points.get_subscription_count)
        bench.until(lambda: bench.node.count_publishers(LABELS))
        clouds = len(bench.got[LABELS])
        while len(bench.got[LABELS]) == clouds:
            bench.points.publish(cloud(120_000))
            bench.spin(0.1)
        for transition in ("deactivate", "cleanup"):
            assert bench.change_state(transition)
        bench.until(lambda: not bench.node.count_publishers(LABELS))
        states.append(process_state(node.process.pid))
    bench.until(lambda: not bench.node.count_publishers(f"{NODE}/class_info"))
    settled = states[WARM_UP_CYCLES:]
    for quantity in ("threads", "files"):
        assert len({state[quantity] for state in settled}) == 1, [s[quantity] for s in states]
    growth = settled[-1]["KiB"] - settled[0]["KiB"]
    assert growth < MAX_GROWTH_KIB, [s["KiB"] for s in states]
    assert node.interrupt() == 0


def test_shutdown_from_active_is_clean(bench, start_node):
    node = start_node()
    bench.until(bench.points.get_subscription_count)
    assert bench.change_state("active_shutdown")
    assert bench.state() == "finalized"
    assert node.interrupt() == 0
    assert "Traceback" not in node.log.read_text()
