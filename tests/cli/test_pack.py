# SPDX-License-Identifier: Apache-2.0
"""`pointdistill pack` as a user types it."""

import numpy as np
import pytest
from typer.testing import CliRunner

from pointdistill_ros.cli import app
from pointdistill_ros.datasets.cache import PackedCache
from pointdistill_ros.datasets.open import open_dataset
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.errors import ConfigError, InputError


def pack(*arguments):
    return CliRunner().invoke(app, ["pack", *map(str, arguments)])


@pytest.fixture
def kitti(tmp_path):
    """Two sequences of the official layout, without poses."""
    rng = np.random.default_rng(0)
    for sequence, frames in (("04", 2), ("08", 1)):
        folder = tmp_path / "kitti" / "sequences" / sequence
        (folder / "velodyne").mkdir(parents=True)
        (folder / "labels").mkdir()
        for frame in range(frames):
            points = rng.uniform(-50, 50, (99, 4)).astype("<f4")
            points[:, 3] = rng.integers(0, 100, 99) / 100
            points.tofile(folder / "velodyne" / f"{frame:06d}.bin")
            rng.choice([0, 40, 252 + (7 << 16), 81], 99).astype("<u4").tofile(
                folder / "labels" / f"{frame:06d}.label"
            )
    return tmp_path / "kitti"


def test_packs_and_is_opened_like_the_original(kitti, tmp_path):
    out = tmp_path / "out"
    result = pack("semantic-kitti", kitti, "--split", "train", "-s", "04", "-o", out)
    assert result.exit_code == 0, result.output
    assert "out: 2 scans of 1 drive, 0.0 MB, 1 kB a scan" in result.output
    packed, original = open_dataset("semantic-kitti", out, "train"), SemanticKitti(kitti)
    assert list(packed.sequences) == ["04", "04"] and packed.pose(0) is None
    for i in range(2):
        np.testing.assert_array_equal(packed[i][1], original[i][1])
        np.testing.assert_array_equal(packed[i][0].intensity, original[i][0].intensity)
        np.testing.assert_allclose(packed[i][0].xyz, original[i][0].xyz, atol=1 / 512)
    with pytest.raises(InputError, match="packed train split of semantic-kitti, not val"):
        open_dataset("semantic-kitti", out, "val")


def test_the_same_command_again_mends(kitti, tmp_path):
    command = ("semantic-kitti", kitti, "--split", "val", "--workers", 2, "-o", tmp_path / "out")
    assert pack(*command).exit_code == 0
    path = tmp_path / "out" / PackedCache(tmp_path / "out").entries[0]["path"]
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    assert pack(*command).exit_code == 0
    assert path.read_bytes() == whole


def test_instances_are_kept_on_demand(kitti, tmp_path):
    out = tmp_path / "out"
    command = ("semantic-kitti", kitti, "--split", "val", "--keep", "instances", "-o", out)
    assert pack(*command).exit_code == 0
    kept = PackedCache(out).instances(0)
    np.testing.assert_array_equal(kept, SemanticKitti(kitti, "val").instances(0))
    assert kept.max() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (("sonar", "kitti"), ConfigError, "sonar"),
        (("semantic-kitti", "nowhere"), InputError, "nowhere"),
        (("semantic-kitti", "kitti", "-s", "04"), InputError, "04"),  # of another split
    ],
)
def test_bad_input_is_named(kitti, tmp_path, monkeypatch, arguments, error, named):
    monkeypatch.chdir(tmp_path)
    result = pack(*arguments, "--split", "val", "-o", "out")
    assert isinstance(result.exception, error) and named in str(result.exception)
    assert not list((tmp_path / "out").rglob("*.scan"))
