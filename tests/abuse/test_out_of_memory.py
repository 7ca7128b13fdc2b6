# SPDX-License-Identifier: Apache-2.0
"""A device without memory: the node goes on with what has some, and comes back."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.abuse.conftest import LABELLED, PATIENCE, RELIABLE, stop

pytestmark = pytest.mark.timeout(900)


@pytest.mark.ros
def test_a_full_device_costs_no_cloud_and_a_full_host_one_at_a_time(
    sender, start_node, weights, tmp_path
):
    from diagnostic_msgs.msg import DiagnosticArray

    from tests.abuse.hostile import plain, street

    scarce, engines = tmp_path / "scarce", []
    sender.client.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda array: engines.extend(
            entry.value for s in array.status for entry in s.values if entry.key == "engine"
        ),
        100,
    )
    node = start_node(
        *RELIABLE,
        program=("-m", "tests.abuse.scarce_node"),
        WEIGHTS=str(weights),
        SCARCE=str(scarce),
    )
    sender.ready()
    xyz = street(np.random.default_rng(1), 200)

    def label():
        kind, labelled = sender(plain(xyz))
        return kind, None if labelled is None else np.frombuffer(labelled.data, LABELLED)

    kind, first = label()
    assert kind == "processed" and len(np.unique(first["class_id"])) > 1

    def same():
        kind, points = label()
        assert kind == "processed"
        np.testing.assert_array_equal(points["class_id"], first["class_id"])
        np.testing.assert_allclose(points["probability"], first["probability"], atol=1e-4)

    def runs(detail):
        sender.client.until(lambda: engines[-1].endswith(detail), timeout=PATIENCE)

    runs("torch kernels")
    scarce.write_text("fast")
    same()
    runs(", chunks without graphs")
    assert "going on with chunks without graphs" in node.log.read_text()
    scarce.write_text("fast chunked")
    same()
    assert "going on with the CPU" in node.log.read_text()
    scarce.write_text("fast chunked host")
    assert label() == ("failed", None)
    assert label() == ("failed", None)
    sender.client.until(lambda: "host memory is full" in node.log.read_text(), timeout=PATIENCE)
    scarce.unlink()
    for _ in range(20):
        same()
    runs("torch kernels")
    log = node.log.read_text()
    assert "device memory is back: the whole scan at once again" in log
    assert log.count("out of device memory") == 2, "one warning a step, not one a cloud"
    assert stop(node) == 0
    assert "Traceback" not in node.log.read_text()


def test_the_cpu_engine_survives_a_host_that_is_really_full(weights):
    """In its parallel parts, too: an exception that leaves a thread would end the process."""
    library = pytest.importorskip("pointdistill_ros.engine.library")
    try:
        library.load_library()
    except library.EngineMissingError as error:
        pytest.skip(str(error))
    limits = ["2", "8", "20", "40", "4000"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.abuse.scarce_host", str(weights), *limits],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    outcomes = [line.split() for line in run.stdout.splitlines()]
    assert [same for _, same in outcomes] == ["same"] * len(limits)
    assert outcomes[0][0] == "MemoryError" and outcomes[-1][0] == "labelled"
