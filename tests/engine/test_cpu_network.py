# SPDX-License-Identifier: Apache-2.0
"""The CPU engine as a whole against the torch form: same function, same labels."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pointdistill_ros import LidarScan, Segmenter
from pointdistill_ros.engine.cpu import CpuNetwork, available_tiers
from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid
from tests.test_weights import SCAN
from tests.tiny import tiny_config, tiny_meta, tiny_network

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

TIERS = available_tiers()


def trained(config: PTv3Config, seed: int = 0) -> PTv3:
    """Random weights with norms that have seen data: negative scales, means off zero."""
    torch.manual_seed(seed)
    network = PTv3(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
        elif isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return network


def cloud(n, seed=0, scans=1, spread=40):
    """Unique cells per scan in random order, with features."""
    rng = np.random.default_rng(seed)
    coords, scan = [], []
    for i in range(scans):
        cells = rng.choice(spread**2 * 12, n // (i + 1) or 1, replace=False)
        coords.append(np.stack([cells // (12 * spread), cells // 12 % spread, cells % 12], 1))
        scan.append(np.full(len(cells), i))
    coords = np.concatenate(coords).astype(np.int64)
    features = rng.normal(0, 1, (len(coords), 4)).astype(np.float32)
    return features, coords, np.concatenate(scan).astype(np.int64)


def expected(network, features, coords, scan):
    pyramid = build_pyramid(
        torch.from_numpy(coords), torch.from_numpy(scan), network.config, depth=16
    )
    with torch.inference_mode():
        return network(torch.from_numpy(features), pyramid).numpy()


def assert_equal_function(network, sample, tier=None):
    want = expected(network, *sample)
    got = CpuNetwork(network, threads=1, tier=tier).logits(*sample)
    assert np.abs(got - want).max() <= 1e-4 * want.std()
    assert np.array_equal(got.argmax(1), want.argmax(1))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 700])
def test_logits_equal_in_every_tier(n, tier):
    assert_equal_function(trained(tiny_config()), cloud(n), tier)


@pytest.mark.parametrize("xcpe", ["stale_off", "stale_on", "legacy"])
@pytest.mark.parametrize("depths", [(0, (1, 1)), (1, (2, 1)), (2, (1, 2)), (3, (3, 2))])
def test_all_convolution_modes_and_depths(xcpe, depths):
    decoder, encoder = depths
    config = tiny_config(xcpe=xcpe, encoder_depths=encoder, decoder_depths=(decoder,))
    assert_equal_function(trained(config), cloud(500))


def test_all_curves_strides_and_widths():
    config = PTv3Config(
        num_classes=7,
        encoder_depths=(2, 1, 4),
        encoder_channels=(32, 48, 96),
        encoder_heads=(2, 3, 3),
        decoder_depths=(3, 2),
        decoder_channels=(48, 64),
        decoder_heads=(1, 2),
        strides=(4, 2),
        patch_sizes=(100, 48, 7),
        mlp_ratio=2,
        permutation=((2, 0, 3, 1), (1, 3, 2, 0), (3, 2, 1, 0)),
    )
    assert_equal_function(trained(config), cloud(3000, spread=60))


def test_batches_of_ragged_scans():
    network = trained(tiny_config())
    features, coords, scan = cloud(900, scans=4)
    assert_equal_function(network, (features, coords, scan))
    compiled = CpuNetwork(network, threads=1)
    together = compiled.logits(features, coords, scan)
    alone = compiled.logits(features[scan == 2], coords[scan == 2])
    np.testing.assert_allclose(together[scan == 2], alone, atol=1e-5)


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(1, 5), st.integers(0, 2**31))
def test_any_cloud(n, scans, seed):
    assert_equal_function(trained(tiny_config(), seed % 7), cloud(n, seed, scans, spread=12))


def test_the_shipped_student_labels_a_real_scan_alike():
    scan = LidarScan.read(SCAN)
    plain = Segmenter.load("student", device="cpu", engine="torch")(scan)
    native = Segmenter.load("student", device="cpu", engine="native")
    result = native(scan)
    assert native.engine == "native" and result.voxels == plain.voxels
    assert np.array_equal(result.labels, plain.labels)
    np.testing.assert_allclose(result.probability, plain.probability, atol=1e-4)
    np.testing.assert_allclose(result.entropy, plain.entropy, atol=1e-4)


@pytest.mark.skipif(not available_tiers("bfloat16"), reason="this CPU has no AVX512-BF16")
def test_bfloat16_keeps_almost_every_label():
    scan = LidarScan.read(SCAN)
    exact = Segmenter.load("student", device="cpu", engine="native")(scan)
    fast = Segmenter.load("student", device="cpu", engine="native", precision="bfloat16")(scan)
    assert (exact.labels == fast.labels).mean() >= 0.995
    sample = cloud(700)
    network = trained(tiny_config(xcpe="legacy", encoder_depths=(2, 3), decoder_depths=(2,)))
    want = expected(network, *sample)
    got = CpuNetwork(network, "bfloat16", threads=1).logits(*sample)
    assert np.abs(got - want).max() <= 0.1 * want.std()


def test_labels_do_not_depend_on_threads_or_history():
    scan = LidarScan.read(SCAN)
    network, meta = tiny_network(), tiny_meta()
    one = Segmenter(network, meta, engine="native", threads=1)
    two = Segmenter(network, meta, engine="native", threads=2)
    first = one(scan)
    two(scan.select(np.arange(500)))
    for other in (two(scan), one(scan)):
        assert np.array_equal(first.probability, other.probability)
        assert np.array_equal(first.labels, other.labels)


def test_memory_stops_growing():
    network = CpuNetwork(tiny_network(), threads=2)
    samples = [cloud(n, n) for n in (900, 50, 500)]
    for sample in samples * 2:
        network.logits(*sample)
    before = network.arena_bytes
    for sample in samples * 3:
        network.logits(*sample)
        assert network.arena_bytes == before


def test_two_threads_take_turns():
    network = CpuNetwork(tiny_network(), threads=1)
    samples = [cloud(400, seed) for seed in range(6)]
    want = [network.logits(*sample) for sample in samples]
    got = [None] * len(samples)

    def work(i):
        got[i] = network.logits(*samples[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(samples))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(width=32))
)
def test_any_float_gives_a_label_or_255(xyz):
    segmenter = Segmenter(tiny_network(), tiny_meta(), engine="native", threads=1)
    plain = Segmenter(tiny_network(), tiny_meta())
    result, want = (s(LidarScan.from_arrays(xyz)) for s in (segmenter, plain))
    assert np.array_equal(result.labels != 255, (np.abs(xyz) <= segmenter.max_range).all(1))
    np.testing.assert_allclose(result.probability, want.probability, atol=1e-4)


def test_features_that_are_not_finite_do_no_harm():
    features, coords, scan = cloud(300)
    features[::7] = np.nan
    features[1::7] = np.inf
    features[2::7] = 1e30
    assert CpuNetwork(tiny_network(), threads=1).logits(features, coords, scan).shape == (300, 19)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f, c, s: (f, np.concatenate([c[:-1], c[:1]]), s), "twice"),
        (lambda f, c, s: (f, c - 100, s), "0 to 65535"),
        (lambda f, c, s: (f, c + 65500, s), "0 to 65535"),
        (lambda f, c, s: (f[:-1], c, s), "do not fit"),
        (lambda f, c, s: (f[:, :3], c, s), "do not fit"),
        (lambda f, c, s: (f, c, s + 40_000), "32767"),
        (lambda f, c, s: (f[:0], c[:0], s[:0]), "without voxels"),
    ],
)
def test_bad_voxels_are_refused(change, complaint):
    with pytest.raises(ScanError, match=complaint):
        CpuNetwork(tiny_network(), threads=1).logits(*change(*cloud(200)))


def test_scan_indices_with_gaps_are_refused():
    features, coords, scan = cloud(200)
    with pytest.raises(ValueError, match="refused"):
        CpuNetwork(tiny_network(), threads=1).logits(features, coords, scan + 3)


def test_shapes_the_engine_cannot_express_are_refused():
    odd = tiny_network(
        encoder_channels=(24, 48), encoder_heads=(1, 2), decoder_channels=(24,), decoder_heads=(1,)
    )
    with pytest.raises(ConfigError, match=r"24 channels in 1 heads.*engine='torch'"):
        CpuNetwork(odd)
    with pytest.raises(ConfigError, match="threads"):
        CpuNetwork(tiny_network(), threads=0)
    with pytest.raises(ConfigError, match="tier 'neon'"):
        CpuNetwork(tiny_network(), tier="neon")


def test_absurd_counts_from_python_are_refused():
    """Straight at the C interface: nothing may be read or written."""
    import ctypes

    from pointdistill_ros.engine.cpu import _Report
    from pointdistill_ros.engine.library import pointer
    from pointdistill_ros.engine.plan import compile_plan

    library, report = load_library(), _Report()
    handle = ctypes.c_void_p()
    plan = compile_plan(tiny_network())

    def create(count, tier=0, precision=0):
        return library.pd_create(
            ctypes.byref(plan.shape),
            pointer(plan.weights),
            ctypes.c_int64(count),
            tier,
            precision,
            ctypes.byref(handle),
        )

    for count in (-1, 0, plan.weights.size - 1, plan.weights.size + 1, 2**62):
        assert create(count) == 1 and not handle.value
    assert create(plan.weights.size, tier=9) == create(plan.weights.size, precision=5) == 1
    plan.shape.encoder_channels[0] = 2**30
    assert create(plan.weights.size) == 1
    network = CpuNetwork(tiny_network(), threads=1)
    data = np.zeros(16, np.float32)
    code = np.zeros(4, np.uint64)
    for rows, scans, threads in [(-1, 1, 1), (2**40, 1, 1), (1, 0, 1), (1, 9, 1), (1, 1, 2**30)]:
        status = library.pd_logits(
            network._handle,
            pointer(code),
            ctypes.c_int64(rows),
            scans,
            pointer(data),
            threads,
            pointer(data),
            ctypes.byref(report),
        )
        assert status == 1
    for points, grid in [(-1, 0.1), (2**40, 0.1), (1, 0.0), (1, float("nan")), (1, float("inf"))]:
        status = library.pd_segment(
            network._handle,
            pointer(data),
            pointer(data),
            ctypes.c_int64(points),
            ctypes.c_double(grid),
            ctypes.c_float(100),
            1,
            pointer(data),
            pointer(data),
            pointer(data),
            ctypes.byref(report),
        )
        assert status == 1
