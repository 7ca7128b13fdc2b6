# SPDX-License-Identifier: Apache-2.0
"""The GPU engine's plain form, on a CPU: answers of model/, no leaking padding, capture-safe."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pointdistill_ros.engine.cuda import device_engine, fallback
from pointdistill_ros.engine.cuda.buckets import PlanCache, capacity
from pointdistill_ros.engine.cuda.device_network import Chunks
from pointdistill_ros.engine.cuda.network import CudaEngine, CudaNetwork
from pointdistill_ros.engine.cuda.operations import Operations
from pointdistill_ros.engine.cuda.points import voxelise as device_voxelise
from pointdistill_ros.engine.cuda.pyramid import PADDING
from pointdistill_ros.engine.cuda.weights import fold
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.model.curves import interleave
from pointdistill_ros.model.voxels import canonical_points, voxelise
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter
from tests.engine.gpu_twins import (
    assert_same_answers,
    random_cloud,
    reference_logits,
    trained_network,
)
from tests.tiny import tiny_config, tiny_meta, tiny_network


def on_cpu(network, **changes):
    values = {"grid_size": 0.2, "device": "cpu", "dtype": torch.float32, "minimum": 16}
    return CudaNetwork(network, **(values | changes))


@pytest.mark.parametrize("xcpe", ["stale_off", "stale_on", "legacy"])
@pytest.mark.parametrize("voxels", [1, 2, 63, 64, 65, 200])
def test_equals_the_network(voxels, xcpe):
    network = trained_network(voxels, xcpe=xcpe)
    features, cells = random_cloud(voxels, voxels)
    logits = on_cpu(network).logits(features, cells)
    assert_same_answers(logits, reference_logits(network, features, cells))


@settings(max_examples=15)
@given(
    voxels=st.integers(1, 300), extent=st.sampled_from([8, 64, 1 << 16]), seed=st.integers(0, 99)
)
def test_equals_the_network_on_any_cloud(voxels, extent, seed):
    """Dense and scattered, up to the edge of the grid; one engine serves all sizes."""
    features, cells = random_cloud(voxels, seed, extent)
    expected = reference_logits(NETWORK, features, cells)
    assert_same_answers(ENGINE.logits(features, cells), expected)


NETWORK = trained_network(7)
ENGINE = on_cpu(NETWORK)


@pytest.mark.parametrize("curves", [("hilbert",), ("z-trans", "hilbert-trans"), ("z",)])
def test_equals_the_network_with_other_curves(curves):
    network = trained_network(1, curves=curves)
    features, cells = random_cloud(150, 1)
    logits = on_cpu(network).logits(features, cells)
    assert_same_answers(logits, reference_logits(network, features, cells))


def test_cells_at_the_edge_of_the_grid_touch_nothing_beyond():
    """0 and 2¹⁶ − 1 are no neighbours, in no axis."""
    last = (1 << 16) - 1
    cells = torch.tensor([[x, y, z] for x in (0, last) for y in (0, last) for z in (0, 1, last)])
    features = torch.randn(len(cells), 4, generator=torch.Generator().manual_seed(3))
    expected = reference_logits(NETWORK, features, cells)
    assert_same_answers(ENGINE.logits(features, cells), expected)


def test_padding_never_leaks():
    """Whatever a larger scan left in the buffers, NaN included, the next one is not changed."""
    engine = on_cpu(NETWORK)
    features, cells = random_cloud(150, 5)
    engine.logits(torch.full_like(features, torch.nan), cells)
    logits = engine.logits(features[:140], cells[:140])
    assert len(engine._fast._plans) == 1, "both must run in one plan"
    assert_same_answers(logits, reference_logits(NETWORK, features[:140], cells[:140]))


def test_rows_in_another_order_get_the_same_logits():
    features, cells = random_cloud(100, 8)
    shuffle = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    straight = ENGINE.logits(features, cells)
    assert torch.equal(ENGINE.logits(features[shuffle], cells[shuffle]), straight[shuffle])


def test_chunks_compute_the_same():
    features, cells = random_cloud(200, 9)
    weights = fold(NETWORK, torch.device("cpu"), torch.float32)
    for chunks in (Chunks(patches=1, rows=7), Chunks(patches=2, rows=1000)):
        engine = device_engine.DeviceEngine(
            NETWORK.config,
            weights,
            Operations(),
            torch.float32,
            0.2,
            1e3,
            chunks=chunks,
            minimum=16,
        )
        logits = engine.logits(features, cells)
        assert_same_answers(logits, reference_logits(NETWORK, features, cells))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_stay_near(dtype):
    """Same algorithm; logits within a few roundings, hardly a label changes."""
    features, cells = random_cloud(200, 10)
    logits = on_cpu(NETWORK, dtype=dtype).logits(features, cells)
    expected = reference_logits(NETWORK, features, cells)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.2 * expected.std()
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.95


def test_bad_cells_are_refused():
    features, cells = random_cloud(10)
    with pytest.raises(ScanError, match="twice"):
        ENGINE.logits(features[[0, 1, 1]], cells[[0, 1, 1]])
    with pytest.raises(ScanError, match="must lie in"):
        ENGINE.logits(features, cells - 100)
    with pytest.raises(ScanError, match="must lie in"):
        ENGINE.logits(features, cells + (1 << 16))
    with pytest.raises(ScanError, match="without voxels"):
        ENGINE.logits(features[:0], cells[:0])


def test_wrong_set_up_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="dtype"):
        on_cpu(NETWORK, dtype=torch.float64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        on_cpu(NETWORK, device="cuda")
    with pytest.raises(ConfigError, match="4 features"):
        engine = on_cpu(trained_network(in_channels=5))
        engine.segment(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))


# Points to labels


def street(points, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, [20, 20, 1], (points, 3)).astype(np.float32)
    return xyz, rng.random(points, np.float32)


@pytest.mark.parametrize("points", [1, 300, 5000])
def test_points_get_the_labels_of_the_segmenter(points):
    xyz, intensity = street(points, points)
    if points > 1:
        xyz[3] = np.nan
        xyz[5] = [np.inf, 0, 0]
        xyz[7] = 1e30
        xyz[8:20] = xyz[20]
        xyz[21:30] = xyz[30] + np.float32(1e-7)
    network = tiny_network()
    ours = on_cpu(network).segment(xyz, intensity)
    expected = Segmenter(network, tiny_meta())(LidarScan(xyz, intensity))
    np.testing.assert_array_equal(ours.label, expected.labels)
    np.testing.assert_allclose(ours.probability, expected.probability, atol=1e-5)
    np.testing.assert_allclose(ours.entropy, expected.entropy, atol=1e-5)
    assert ours.voxels == expected.voxels


def test_an_engine_like_the_others():
    network = tiny_network()
    engine = CudaEngine(network, 0.2, 100.0, "cpu", "float32")
    xyz, intensity = street(200)
    xyz[0, 0] = 101.0
    scores = engine(xyz, intensity)
    expected = Segmenter(network, tiny_meta())(LidarScan(xyz[1:], intensity[1:]))
    np.testing.assert_array_equal(scores.label, [255, *expected.labels])
    assert set(scores.timing) == {"geometry", "network", "points"}
    assert (engine.name, engine.detail) == ("cuda", "float32 on cpu, torch kernels")
    with pytest.raises(ConfigError, match="max_range"):
        CudaEngine(network, 0.2, 1e5, "cpu", "float32")


@pytest.mark.parametrize("points", [0, 5])
def test_no_valid_point_no_label(points):
    xyz = np.full((points, 3), np.nan, np.float32)
    ours = on_cpu(tiny_network()).segment(xyz, np.zeros(points, np.float32))
    assert (ours.label == 255).all()
    assert ours.label.shape == ours.entropy.shape == (points,)
    assert not ours.probability.any()


@settings(max_examples=25)
@given(points=st.integers(1, 60), steps=st.integers(1, 8), seed=st.integers(0, 999))
def test_voxels_and_their_points_equal_those_of_the_host(points, steps, seed):
    """Points on a coarse lattice: many ties, decided coordinate by coordinate."""
    rng = np.random.default_rng(seed)
    xyz = (rng.integers(-steps, steps + 1, (points, 3)) * 0.05).astype(np.float32)
    xyz += (rng.integers(0, 2, (points, 3)) * 1e-8).astype(np.float32)
    intensity = rng.integers(0, 3, points).astype(np.float32)
    host = voxelise(xyz, 0.2)
    chosen = canonical_points(host, xyz, intensity, 0.2)
    device = device_voxelise(torch.from_numpy(xyz), torch.from_numpy(intensity), 0.2, 1e3, (0, 1))
    count = len(host)
    assert device.sizes[0] == count
    cells = torch.from_numpy(host.coords)
    assert torch.equal(device.code[:count], interleave(*cells.unbind(1)))
    assert (device.code[count:] == PADDING).all()
    np.testing.assert_array_equal(device.voxel, host.inverse)
    np.testing.assert_array_equal(
        device.features[:count], np.column_stack([xyz, intensity])[chosen]
    )


# What a CUDA graph forbids


class NoHostRoundTrip(TorchDispatchMode):
    """Raises on operations whose result or shape the host must wait for, and on copies to it."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "bincount", "equal",
                 "repeat_interleave", "lift_fresh", "is_nonzero", "item")  # fmt: skip

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert not any(name.strip("_").startswith(word.strip("_")) for word in self.FORBIDDEN), name
        if name in ("index", "index_put", "index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, "a boolean index waits for its count"
        return func(*args, **(kwargs or {}))


def captured_parts(engine):
    """The functions that a GPU would capture, of the plans the last scan used."""
    plans = (*engine._fast._plans._plans.values(), *engine._fast._point_plans._plans.values())
    assert len(plans) == 2
    return [plan.compute for plan in plans]


def test_captured_parts_never_wait_for_the_device():
    engine = on_cpu(tiny_network(), minimum=64)
    engine.segment(*street(300))
    for compute in captured_parts(engine):
        with torch.inference_mode(), NoHostRoundTrip():
            compute()


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: bool(x.any()),
        lambda x: torch.tensor([1.0, 2.0]) + x,
    ],
)
def test_the_guard_knows_what_waits(wait):
    with pytest.raises(AssertionError), NoHostRoundTrip():
        wait(torch.ones(2))


def test_captured_parts_have_shapes_that_follow_from_shapes():
    """On tensors without data: any dependence on a value has no answer there."""
    weights = fold(tiny_network(), torch.device("cpu"), torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        engine = device_engine.DeviceEngine(
            tiny_config(), weights, Operations(), torch.float32, 0.2, 1e3
        )
        engine._voxel_plan((128, 64)).compute()
        engine._point_plan((256,)).compute()


# Plans


def test_capacities_leave_a_row_and_waste_little():
    assert [capacity(n) for n in (0, 1023, 1024, 1535, 1536, 23_112)] == [
        1024, 1024, 1536, 1536, 2048, 24_576,
    ]  # fmt: skip
    for rows in range(1024, 300_000, 777):
        assert rows < capacity(rows) <= 1.5 * (rows + 1)


def test_few_plans_serve_many_scans():
    made = []
    cache = PlanCache(lambda shape: made.append(shape) or shape, limit=2, minimum=16)
    assert cache.fit((100, 40)) == (128, 48)
    assert cache.fit((95, 33)) == (128, 48), "a held plan that is a little too large"
    assert cache.fit((1000, 700)) == (1024, 768)
    assert cache.fit((20, 20)) == (24, 24), "a held plan that is far too large does not serve"
    assert len(cache) == 2
    assert cache.fit((100, 40)) == (128, 48)
    assert made == [(128, 48), (1024, 768), (24, 24), (128, 48)], "the oldest left first"


# Out of memory


class ScarceMemory:
    """Lets the given engines fail like on a full device, until told otherwise."""

    def __init__(self, monkeypatch, *engines):
        self.networks = {engine._network for engine in engines}
        call = device_engine.DeviceNetwork.__call__

        def run(network, features, pyramid):
            if network in self.networks:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory (a test)")
            return call(network, features, pyramid)

        monkeypatch.setattr(device_engine.DeviceNetwork, "__call__", run)


@pytest.fixture
def short_back_off(monkeypatch):
    monkeypatch.setattr(fallback, "FIRST_BACK_OFF", 3)


def test_out_of_memory_falls_back_to_chunks_and_recovers(monkeypatch, caplog, short_back_off):
    caplog.set_level(logging.INFO)
    features, cells = random_cloud(100, 2)
    engine = on_cpu(NETWORK)
    expected = reference_logits(NETWORK, features, cells)
    memory = ScarceMemory(monkeypatch, engine._fast)
    for _ in range(3):
        assert_same_answers(engine.logits(features, cells), expected)
    assert engine.memory_saving == "chunks without graphs"
    assert len(engine._fast._plans) == 0, "what failed holds no memory"
    memory.networks.clear()
    for _ in range(4):
        assert_same_answers(engine.logits(features, cells), expected)
    assert engine.memory_saving == "the whole scan at once"
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]
    assert "out of device memory" in caplog.messages[0]


def test_out_of_memory_twice_ends_on_the_cpu(monkeypatch, caplog, short_back_off):
    features, cells = random_cloud(20, 2)
    network = tiny_network()
    engine = on_cpu(network)
    expected = reference_logits(network, features, cells)
    memory = ScarceMemory(monkeypatch, engine._fast, engine._chunked)
    for _ in range(12):
        assert_same_answers(engine.logits(features, cells), expected)
    assert engine.memory_saving == "the CPU"
    assert len(caplog.records) == 2, "one warning per step, none per vain try"
    memory.networks.clear()
    for _ in range(30):
        engine.logits(features, cells)
    assert engine.memory_saving == "the whole scan at once"


def test_other_errors_are_no_reason_to_fall_back(monkeypatch):
    engine = on_cpu(NETWORK)

    def fail(network, features, pyramid):
        raise RuntimeError("a bug")

    monkeypatch.setattr(device_engine.DeviceNetwork, "__call__", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        engine.logits(*random_cloud(10))
    assert engine.memory_saving == "the whole scan at once"


def test_an_error_that_hides_lack_of_memory_counts():
    try:
        try:
            raise torch.cuda.OutOfMemoryError("full")
        finally:
            raise RuntimeError("capture ended")
    except RuntimeError as error:
        assert fallback.is_out_of_memory(error)
    assert not fallback.is_out_of_memory(RuntimeError("capture ended"))
