# SPDX-License-Identifier: Apache-2.0
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pointdistill_ros import LidarScan, Segmenter
from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.errors import CheckpointError, ConfigError, ScanError
from tests.tiny import tiny_meta, tiny_network


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_network(), tiny_meta())


def street(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, (15, 15, 1), (n, 3))
    return LidarScan.from_arrays(xyz, rng.random(n) * 0.5)


def same(a, b):
    return all(
        np.array_equal(getattr(a, c), getattr(b, c)) for c in ("labels", "probability", "entropy")
    )


def test_every_point_gets_a_label(segmenter):
    scan = street()
    result = segmenter(scan)
    assert len(result) == len(scan) and result.labels.max() < 19
    assert (result.probability >= 1 / 19).all() and (result.probability <= 1).all()
    assert (result.entropy >= 0).all() and (result.entropy <= 1).all()
    assert 0 < result.voxels <= len(scan)
    assert result.timing["total"] >= result.timing["network"] > 0


def test_labels_come_from_the_logits(segmenter):
    """Probability and entropy recomputed by hand for one voxel."""
    scan = LidarScan.from_arrays([[1.0, 2.0, 0.5]], [0.3])
    result = segmenter(scan)
    from pointdistill_ros.model.pyramid import build_pyramid

    zeros = torch.zeros(1, dtype=torch.int64)
    pyramid = build_pyramid(torch.zeros(1, 3, dtype=torch.int64), zeros, segmenter.meta.config)
    with torch.no_grad():
        p = segmenter.network(torch.tensor([[1.0, 2.0, 0.5, 0.3]]), pyramid).softmax(1)[0].numpy()
    assert result.labels[0] == p.argmax()
    assert result.probability[0] == pytest.approx(p.max(), rel=1e-5)
    assert result.entropy[0] == pytest.approx(-(p * np.log(p)).sum() / np.log(19), rel=1e-5)


def test_same_labels_on_every_run_alone_and_in_a_batch(segmenter):
    scans = [street(seed=1), street(700, seed=2), street(1, seed=3)]
    first = [segmenter(scan) for scan in scans]
    again = segmenter.batch(scans)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3000), st.integers(0, 1000))
def test_the_order_of_the_points_does_not_matter(n, seed):
    segmenter = Segmenter(tiny_network(), tiny_meta())
    scan = street(n, seed)
    shuffle = np.random.default_rng(seed).permutation(n)
    straight, shuffled = segmenter(scan), segmenter(scan.select(shuffle))
    assert np.array_equal(straight.labels[shuffle], shuffled.labels)
    assert np.array_equal(straight.probability[shuffle], shuffled.probability)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(width=32))
)
def test_any_float_gives_a_label_or_255(xyz):
    segmenter = Segmenter(tiny_network(), tiny_meta())
    result = segmenter(LidarScan.from_arrays(xyz))
    reachable = (np.abs(xyz) <= segmenter.max_range).all(1)
    assert np.array_equal(result.labels != 255, reachable)
    assert (result.probability[~reachable] == 0).all()


def test_invalid_points_change_nothing_for_the_others(segmenter):
    scan = street()
    xyz = np.insert(scan.xyz, [0, 100, 4000], [[np.nan, 0, 0], [np.inf, 0, 0], [1e30, 0, 0]], 0)
    intensity = np.insert(scan.intensity, [0, 100, 4000], 0.1)
    result = segmenter(LidarScan.from_arrays(xyz, intensity))
    bad = np.array([0, 101, 4002])
    assert (result.labels[bad] == 255).all()
    assert np.array_equal(np.delete(result.labels, bad), segmenter(scan).labels)


def test_an_empty_scan_gives_an_empty_result(segmenter):
    result = segmenter(LidarScan.from_arrays(np.zeros((0, 3))))
    assert len(result) == 0 and result.labels.dtype == np.uint8
    nothing = segmenter(LidarScan.from_arrays(np.full((3, 3), np.nan)))
    assert nothing.labels.tolist() == [255] * 3


def test_missing_intensity_is_filled_as_trained_or_refused(segmenter):
    scan = street()
    without = LidarScan.from_arrays(scan.xyz)
    zeros = LidarScan.from_arrays(scan.xyz, np.zeros(len(scan)))
    assert same(segmenter(without), segmenter(zeros))
    strict = Segmenter(tiny_network(), tiny_meta(missing=None))
    with pytest.raises(ScanError, match="tiny needs intensity"):
        strict(without)


def test_a_network_without_intensity_does_not_look_at_it(segmenter, caplog):
    scan = street()
    blind = Segmenter(tiny_network(), tiny_meta(used=False))
    loud = LidarScan.from_arrays(scan.xyz, scan.intensity * 255)
    without = LidarScan.from_arrays(scan.xyz)
    with caplog.at_level(logging.WARNING):
        assert same(blind(scan), blind(loud)) and same(blind(scan), blind(without))
    assert not caplog.records
    assert same(blind(scan), segmenter(without)) and not same(blind(scan), segmenter(scan))


def test_a_wrong_intensity_scale_warns_once(caplog):
    segmenter = Segmenter(tiny_network(), tiny_meta())
    scan = street()
    with caplog.at_level(logging.WARNING):
        segmenter(scan)
        assert not caplog.records
        loud = LidarScan.from_arrays(scan.xyz, scan.intensity * 255)
        segmenter(loud)
        segmenter(loud)
    assert len(caplog.records) == 1
    assert "0.01 to 0.6" in caplog.text and "scale 0..1" in caplog.text


def test_load_by_path_and_refusals(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_network(), tiny_meta())
    segmenter = Segmenter.load(path, device="cpu", engine="torch", threads=1)
    assert segmenter.model_id == "tiny" and segmenter.engine == "torch"
    assert len(segmenter.weights_sha256) == 64 and segmenter.label_set.name == "semantic-kitti"
    segmenter.warm_up()
    with pytest.raises(ConfigError, match="warp"):
        Segmenter.load(path, engine="warp")
    with pytest.raises(ConfigError, match="device 'abacus'"):
        Segmenter.load(path, device="abacus")
    with pytest.raises(ConfigError, match="threads"):
        Segmenter.load(path, threads=0)
    with pytest.raises(CheckpointError, match="no shipped network 'giant'"):
        Segmenter.load("giant")


def test_results_are_saved_whole_or_not_at_all(segmenter, tmp_path):
    from pointdistill_ros.errors import InputError

    result = segmenter(street(50))
    result.save(tmp_path / "out" / "000000.label")
    raw = np.fromfile(tmp_path / "out" / "000000.label", np.uint32)
    assert np.array_equal(segmenter.label_set.from_raw(raw), result.labels)
    result.save(tmp_path / "000000.npz")
    with np.load(tmp_path / "000000.npz") as data:
        assert np.array_equal(data["label"], result.labels)
        assert np.array_equal(data["probability"], result.probability)
    with pytest.raises(InputError, match=r"\.label or \.npz"):
        result.save(tmp_path / "x.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000.npz", "out"]


def test_a_latency_budget_can_come_go_and_change_while_scans_run():
    segmenter, scan = Segmenter(tiny_network(), tiny_meta()), street()
    assert segmenter.sheds_load and segmenter.max_latency_ms == 0 and segmenter.budget is None
    untouched = segmenter(scan)
    segmenter.max_latency_ms = 0.01
    for _ in range(2):
        shed = segmenter(scan)
    assert shed.degradation != "none" and segmenter.budget.exhausted
    budget = segmenter.budget
    segmenter.max_latency_ms = 5000.0
    assert segmenter.max_latency_ms == 5000 and segmenter.budget is budget, "speeds are kept"
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="max_latency_ms"):
            segmenter.max_latency_ms = wrong
    assert segmenter.max_latency_ms == 5000
    segmenter.max_latency_ms = 0
    assert segmenter.budget is None and same(segmenter(scan), untouched)


def test_warming_up_is_no_measure_for_the_budget():
    segmenter = Segmenter(tiny_network(), tiny_meta(), max_latency_ms=0.01)
    segmenter.warm_up()
    assert segmenter.budget.predicted_ms == 0
    assert [segmenter(street()).degradation == "none" for _ in range(2)] == [True, False]


def test_an_engine_that_cannot_shed_load_refuses_a_budget(monkeypatch):
    from pointdistill_ros.engine.cuda.network import CudaEngine

    def make(choice, network, grid_size, max_range, *_):
        return CudaEngine(network, grid_size, max_range, "cpu", "float32")

    monkeypatch.setattr("pointdistill_ros.segmenter.make_engine", make)
    refusal = "engine 'cuda' cannot shed load; use max_latency_ms 0"
    with pytest.raises(ConfigError, match=refusal):
        Segmenter(tiny_network(), tiny_meta(), max_latency_ms=50.0)
    segmenter = Segmenter(tiny_network(), tiny_meta())
    assert not segmenter.sheds_load
    with pytest.raises(ConfigError, match=refusal):
        segmenter.max_latency_ms = 50.0
    assert segmenter.max_latency_ms == 0
