# SPDX-License-Identifier: Apache-2.0
import pickle

import numpy as np
import pytest

from pointdistill_ros.datasets import simulated
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.simulation import Drive

LIDARS = ["vlp32c"]  # the quickest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("streets")


def assert_equal(first, second):
    np.testing.assert_array_equal(first[0].xyz, second[0].xyz)
    np.testing.assert_array_equal(first[0].intensity, second[0].intensity)
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0].frame == second[0].frame


def test_streets_are_rendered_by_workers_and_equal_the_drive(cache):
    streets = SimulatedStreets(cache, [3], 2, 4, LIDARS)
    assert streets.sequences == ["vlp32c_000003"] * 2
    scan, labels = streets[1]
    truth = Drive(3, 5, "vlp32c")[4]
    np.testing.assert_allclose(scan.xyz, truth.scan.xyz, atol=0.5 / 128 + 1e-6)
    np.testing.assert_allclose(scan.intensity, truth.scan.intensity, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(labels, truth.labels)


def test_rendered_streets_are_not_rendered_again(cache, monkeypatch):
    SimulatedStreets(cache, [3], 2, 4, LIDARS)
    monkeypatch.setattr(simulated, "worker_pool", None)  # calling it would fail
    assert len(SimulatedStreets(cache, [3], 2, 4, LIDARS)) == 2
    monkeypatch.setattr(simulated, "_fingerprint", lambda: "another simulator")
    with pytest.raises(TypeError):
        SimulatedStreets(cache, [3], 2, 4, LIDARS)


def test_streets_on_demand_equal_those_rendered_before(cache, tmp_path, monkeypatch):
    before = SimulatedStreets(cache, [3], 2, 4, LIDARS)
    kept = SimulatedStreets(tmp_path, [3], 2, 4, LIDARS, workers=0)
    assert not list(tmp_path.iterdir())  # nothing was asked for
    assert_equal(kept[0], before[0])
    assert all(path.is_file() for path in kept.paths)  # the whole street was rendered
    drives = []
    monkeypatch.setattr(simulated, "Drive", lambda *a: drives.append(a) or Drive(*a))
    assert_equal(kept[1], before[1])
    assert not drives
    never = SimulatedStreets(None, [3], 2, 4, LIDARS)
    for i in (0, 1, -1):
        assert_equal(never[i], before[i])
    assert drives == [(3, 5, "vlp32c")] and never.paths == []  # built once for all its scans
    sent = pickle.dumps(never)
    assert len(sent) < 10_000  # to another process go seeds, not streets
    assert pickle.loads(sent).sequences == never.sequences


def test_sensors_take_turns(tmp_path):
    streets = SimulatedStreets(tmp_path, range(5), 2, 1, ["hdl64e", "os1_64"], workers=0)
    assert streets.sequences[::2] == [
        f"{lidar}_{seed:06d}" for seed, lidar in enumerate(["hdl64e", "os1_64"] * 2 + ["hdl64e"])
    ]
    assert len(streets) == 10 and streets.label_set.name == "semantic-kitti"
    with pytest.raises(IndexError):
        streets[10]
    with pytest.raises(ConfigError, match="sonar"):
        SimulatedStreets(tmp_path, [1], lidars=["hdl64e", "sonar"], workers=0)


def test_many_streets_cost_nothing_until_asked_for():
    streets = SimulatedStreets(None, range(100_000), frames=1)
    assert len(streets) == 100_000 and streets.sequences[-1] == "hdl64e_099999"


def test_a_damaged_file_is_named(cache):
    streets = SimulatedStreets(cache, [3], 2, 4, LIDARS)
    streets.paths[0].write_bytes(b"cut off")
    with pytest.raises(InputError, match=streets.paths[0].name):
        streets[0]
