# SPDX-License-Identifier: Apache-2.0
"""`pointdistill simulate` as a user types it."""

import numpy as np
import pytest
from typer.testing import CliRunner

from pointdistill_ros.cli import app
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.io.bag import BagScans
from pointdistill_ros.io.binfile import read_kitti
from pointdistill_ros.simulation import Drive


def simulate(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_writes_a_bag(tmp_path):
    out = tmp_path / "drive.mcap"
    result = simulate("--frames", 2, "--lidar", "os1_64", "--seed", 4, "-o", out)
    assert result.exit_code == 0, result.output
    scans = [scan for _, scan in BagScans(out)]
    expected = Drive(4, 2, "os1_64")[1].scan
    assert len(scans) == 2 and np.array_equal(scans[1].xyz, expected.xyz)


def test_writes_a_folder_in_the_asked_style(tmp_path):
    out = tmp_path / "drive"
    result = simulate("--frames", 1, "--lidar", "vlp32c", "--style", "highway", "-o", out)
    assert result.exit_code == 0, result.output
    expected = Drive(0, 1, "vlp32c", "highway")[0].scan
    assert np.array_equal(read_kitti(out / "velodyne" / "000000.bin").xyz, expected.xyz)
    assert "highway" in result.output


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (("-o", "drive.zip"), InputError, "drive.zip"),
        (("-o", "drive", "--lidar", "sonar"), ConfigError, "sonar"),
        (("-o", "drive", "--style", "lunar"), ConfigError, "lunar"),
    ],
)
def test_bad_input_is_named_and_nothing_written(tmp_path, monkeypatch, arguments, error, named):
    monkeypatch.chdir(tmp_path)
    result = simulate("--frames", 1, *arguments)
    assert isinstance(result.exception, error) and named in str(result.exception)
    assert list(tmp_path.iterdir()) == []
