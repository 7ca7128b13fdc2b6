# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

from pointdistill_ros.openmp import SPINS, bound_spinning


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"GOMP_SPINCOUNT": SPINS}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "passive"}),
    ],
)
def test_the_users_choice_stays(monkeypatch, before, after):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    bound_spinning()
    found = {n: v for n, v in os.environ.items() if n in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    assert found == after


@pytest.mark.parametrize(
    "module", ["pointdistill_ros.cli", "pointdistill_ros.nodes.segmentation_node"]
)
def test_our_entry_points_load_before_torch(module):
    """The count is read when torch loads; an entry point that imports it at once is too late."""
    if module.startswith("pointdistill_ros.nodes"):
        pytest.importorskip("rclpy", reason="needs ROS")
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
