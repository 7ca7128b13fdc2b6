# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros.datasets import simulated
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import InputError
from pointdistill_ros.simulation import Drive


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("streets")


def test_streets_are_rendered_by_workers_and_equal_the_drive(cache):
    streets = SimulatedStreets(cache, [3], frames=2, stride=4)
    assert streets.sequences == ["hdl64e_000003"] * 2
    scan, labels = streets[1]
    truth = Drive(3, 5, "hdl64e")[4]
    np.testing.assert_allclose(scan.xyz, truth.scan.xyz, atol=0.5 / 128 + 1e-6)
    np.testing.assert_allclose(scan.intensity, truth.scan.intensity, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(labels, truth.labels)


def test_rendered_streets_are_not_rendered_again(cache, monkeypatch):
    SimulatedStreets(cache, [3], frames=2, stride=4)
    monkeypatch.setattr(simulated, "ProcessPoolExecutor", None)  # calling it would fail
    assert len(SimulatedStreets(cache, [3], frames=2, stride=4)) == 2
    monkeypatch.setattr(simulated, "_fingerprint", lambda: "another simulator")
    with pytest.raises(TypeError):
        SimulatedStreets(cache, [3], frames=2, stride=4)


def test_a_damaged_file_is_named(cache):
    streets = SimulatedStreets(cache, [3], frames=2, stride=4)
    streets.paths[0].write_bytes(b"cut off")
    with pytest.raises(InputError, match=streets.paths[0].name):
        streets[0]
