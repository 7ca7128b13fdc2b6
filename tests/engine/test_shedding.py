# SPDX-License-Identifier: Apache-2.0
"""Load shedding inside the engines: same voxels, same labels, every point labelled."""

import numpy as np
import pytest

from pointdistill_ros import LidarScan, Segmenter
from pointdistill_ros.engine.cpu import CpuEngine, CpuNetwork
from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.engine.voxelwise import torch_engine
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.degradation import LADDER, Degradation
from tests.test_weights import SCAN
from tests.tiny import tiny_meta, tiny_network

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

GRID, REACH = 0.2, 1000.0


@pytest.fixture(scope="module")
def engines():
    network = tiny_network()
    native = CpuEngine(CpuNetwork(network, threads=1), GRID, REACH)
    return native, torch_engine(network, GRID, REACH)


@pytest.fixture(scope="module")
def scan():
    scan = LidarScan.read(SCAN)
    scan.xyz[::50] = np.nan
    return scan


@pytest.mark.parametrize("step", [*LADDER[:6], LADDER[-1], Degradation(99, "", max_voxels=1)])
def test_native_and_torch_shed_alike(engines, scan, step):
    asked = []

    def choose(counts):
        asked.append(counts)
        return step

    native, plain = (engine(scan.xyz, scan.intensity, choose) for engine in engines)
    assert asked[0] == asked[1] and asked[0].stages[0] > asked[0].near > asked[0].coarse
    assert native.voxels == plain.voxels
    assert native.voxels <= (step.max_voxels or asked[0].stages[0])
    np.testing.assert_allclose(native.probability, plain.probability, atol=1e-5)
    assert np.array_equal(native.label != 255, np.isfinite(scan.xyz).all(1))
    assert np.array_equal(native.label, plain.label)


def test_nothing_shed_is_nothing_changed(engines, scan):
    for engine in engines:
        free, asked = (engine(scan.xyz, scan.intensity, c) for c in (None, lambda _: LADDER[0]))
        assert np.array_equal(free.probability, asked.probability)
        assert free.voxels == asked.voxels


def test_an_empty_scan_is_not_asked_about(engines):
    for engine in engines:
        scores = engine(np.full((2, 3), np.nan, np.float32), np.zeros(2, np.float32), None)
        assert scores.label.tolist() == [255, 255]
        engine(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), pytest.fail)


def test_an_error_while_choosing_reaches_the_caller(engines, scan):
    def refuse(counts):
        raise KeyError("no")

    for engine in engines:
        with pytest.raises(KeyError, match="no"):
            engine(scan.xyz, scan.intensity, refuse)
        assert engine(scan.xyz, scan.intensity).voxels > 1000


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_segmenter_keeps_its_budget_in_sight(scan, engine):
    segmenter = Segmenter(tiny_network(), tiny_meta(), engine=engine, max_latency_ms=0.01)
    results = [segmenter(scan) for _ in range(3)]
    assert results[0].degradation == "none"  # nothing was measured yet
    assert results[-1].degradation == LADDER[-1].name
    assert results[-1].voxels <= LADDER[-1].max_voxels < results[0].voxels
    assert (results[-1].labels == 255).sum() == (results[0].labels == 255).sum()
    generous = Segmenter(tiny_network(), tiny_meta(), engine=engine, max_latency_ms=1e6)
    assert {generous(scan).degradation for _ in range(3)} == {"none"}
    with pytest.raises(ConfigError, match="max_latency_ms"):
        Segmenter(tiny_network(), tiny_meta(), engine=engine, max_latency_ms=-1)
