# SPDX-License-Identifier: Apache-2.0
"""Shapes for real time in every engine against the torch form: same function, same labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointdistill_ros import LidarScan
from pointdistill_ros.benchmark.parity import prepare
from pointdistill_ros.benchmark.roofline import count
from pointdistill_ros.benchmark.subjects import Model
from pointdistill_ros.budget import row_costs
from pointdistill_ros.config import load_config
from pointdistill_ros.engine.cpu import CpuEngine, CpuNetwork, available_tiers
from pointdistill_ros.engine.cuda.network import CudaNetwork
from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.engine.onnx.inputs import input_specs
from pointdistill_ros.engine.onnx.runtimes import OnnxRuntimeNetwork
from pointdistill_ros.engine.voxelwise import torch_engine
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.degradation import Degradation
from pointdistill_ros.model.ptv3 import PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.resources import config_path
from tests.engine.gpu_twins import assert_same_answers, random_cloud, reference_logits
from tests.engine.test_cpu_network import assert_equal_function, cloud, expected, trained
from tests.test_weights import SCAN
from tests.tiny import tiny_config, tiny_meta

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

THREE = tiny_config(
    encoder_depths=(1, 2, 3),
    encoder_channels=(16, 32, 48),
    encoder_heads=(0, 0, 3),
    decoder_depths=(0, 0),
    decoder_channels=(16, 32),
    decoder_heads=(0, 0),
    strides=(4, 4),
    patch_sizes=(64, 64, 16),
    mlp_ratio=2,
    stem_size=3,
)
SHAPES = {
    "late attention": THREE,
    "convolutions alone": replace(THREE, encoder_heads=(0, 0, 0)),
    "decoder attends": replace(
        THREE, decoder_depths=(2, 1), decoder_heads=(1, 0), strides=(2, 2), stem_size=5
    ),
    "encoder attends": replace(
        THREE, encoder_heads=(1, 0, 3), decoder_depths=(1, 2), strides=(2, 4)
    ),
    "stale_on": replace(THREE, decoder_depths=(2, 1), xcpe="stale_on"),
    "legacy": replace(THREE, decoder_depths=(2, 2), decoder_heads=(0, 2), xcpe="legacy"),
    "small stem alone": tiny_config(stem_size=3),
    "shallow xCPE": replace(THREE, deep_xcpe=False),
    "shallow, stale": replace(
        THREE, deep_xcpe=False, decoder_depths=(2, 2), decoder_heads=(1, 0), xcpe="legacy"
    ),
}
ON_GPU = [name for name in SHAPES if not name.startswith("shallow")]
STARTS = ("student-rt-g", "student-rt-d", "student-rt-litept")


@pytest.mark.parametrize("tier", available_tiers())
@pytest.mark.parametrize("shape", SHAPES)
def test_native_engine(shape, tier):
    network = trained(SHAPES[shape])
    for n in (1, 63, 700):
        assert_equal_function(network, cloud(n, n), tier)
    assert_equal_function(network, cloud(400, scans=3), tier)


@pytest.mark.parametrize("start", STARTS)
def test_native_engine_on_a_real_scan(start):
    """In pieces, in several threads, thinned: all that the path over points adds."""
    config = load_config(PTv3Config, config_path(f"models/{start}.yaml"))
    network, scan = trained(config), LidarScan.read(SCAN)
    assert scan.intensity is not None
    part = (scan.xyz[::3].copy(), scan.intensity[::3].copy())
    for choose in (None, lambda counts: Degradation(2, near_radius=10.0)):
        plain = torch_engine(network, 0.1, 80.0)(*part, choose)
        for threads in (1, 2):
            native = CpuEngine(CpuNetwork(network, threads=threads), 0.1, 80.0)(*part, choose)
            assert native.voxels == plain.voxels
            assert (native.label == plain.label).mean() >= 0.9999
            np.testing.assert_allclose(native.probability, plain.probability, atol=1e-3)


@pytest.mark.skipif(not available_tiers("bfloat16"), reason="this CPU has no AVX512-BF16")
@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16(shape):
    network, sample = trained(SHAPES[shape]), cloud(700)
    want = expected(network, *sample)
    got = CpuNetwork(network, "bfloat16", threads=1).logits(*sample)
    assert np.abs(got - want).max() <= 0.1 * want.std()
    assert (got.argmax(1) == want.argmax(1)).mean() >= 0.97


@pytest.mark.parametrize("shape", ON_GPU)
def test_gpu_engine_in_its_plain_form(shape):
    network = trained(SHAPES[shape])
    engine = CudaNetwork(network, 0.2, "cpu", torch.float32, minimum=16)
    for voxels in (1, 150):
        features, cells = random_cloud(voxels, voxels)
        assert_same_answers(
            engine.logits(features, cells), reference_logits(network, features, cells)
        )


@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", ["late attention", "legacy", "shallow, stale"])
def test_exported_file(shape, target):
    pytest.importorskip("onnxruntime")
    network = trained(SHAPES[shape])
    exported = OnnxRuntimeNetwork(network, threads=1, target=target)
    features, coords, scan = map(torch.from_numpy, cloud(300))
    pyramid = build_pyramid(coords, scan, network.config, depth=16)
    with torch.inference_mode():
        want = network(features, pyramid)
        assert (exported(features, pyramid) - want).abs().max() <= 1e-4 * want.std()


def test_the_gpu_engine_refuses_blocks_without_convolution():
    with pytest.raises(ConfigError, match=r"deep_xcpe: false.*engine='torch'.*'native'"):
        CudaNetwork(trained(SHAPES["shallow xCPE"]), 0.2, "cpu", torch.float32)


def test_an_exported_file_asks_for_nothing_it_does_not_read():
    names = {spec.name for spec in input_specs(THREE)}
    assert {"walk2_0", "walk2_1", "walk2_2"} <= names
    assert not names & {"walk0_0", "walk1_0", "pair_rows_stem"}


def test_the_benchmark_counts_the_work_there_is():
    scan = LidarScan.read(SCAN)
    part = LidarScan(scan.xyz[::40].copy(), None)
    work, pairs = {}, {}
    for name in ("late attention", "convolutions alone"):
        network = trained(SHAPES[name])
        model = Model(name, network, tiny_meta(network.config), trained=False)
        geometry = prepare(model, part, "cpu").geometry
        work[name], pairs[name] = count(network.config, geometry), geometry.stem_pairs
        assert geometry.stem_pairs == geometry.pairs[0]
    assert work["convolutions alone"]["attention"].flops == 0
    assert work["late attention"]["attention"].flops > 0
    assert row_costs(THREE)[2] > row_costs(SHAPES["convolutions alone"])[2]
    assert row_costs(THREE)[:2] == row_costs(SHAPES["convolutions alone"])[:2]
    assert row_costs(THREE)[2] > row_costs(SHAPES["shallow xCPE"])[2]
    shallow = count(SHAPES["shallow xCPE"], geometry)
    deep = work["late attention"]["convolution"].flops - shallow["convolution"].flops
    assert deep == 2 * 2 * geometry.pairs[2] * 48 * 48  # two of three blocks
