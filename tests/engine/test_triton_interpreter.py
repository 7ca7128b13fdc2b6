# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels without a GPU: interpreted they equal their plain twins; they compile.

Triton decides when it is imported whether kernels are interpreted: the comparisons run in a process
of their own, started by the one test that is left here otherwise.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed; `pip install triton`")

from pointdistill_ros.engine.cuda.buckets import capacity
from pointdistill_ros.engine.cuda.device_engine import DeviceEngine
from pointdistill_ros.engine.cuda.device_network import Chunks
from pointdistill_ros.engine.cuda.operations import LEVEL_BIT, NeighbourOffsets, Operations
from pointdistill_ros.engine.cuda.pyramid import PADDING
from pointdistill_ros.engine.cuda.triton_operations import Tiles, TritonOperations
from pointdistill_ros.engine.cuda.weights import fold
from pointdistill_ros.model.curves import interleave
from tests.engine.gpu_twins import (
    assert_same_answers,
    random_cloud,
    reference_logits,
    trained_network,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process of its own")
CPU = torch.device("cpu")
SMALL = {
    "encoder_depths": (2, 1),
    "encoder_channels": (16, 48),
    "encoder_heads": (1, 3),
    "decoder_depths": (1,),
    "decoder_channels": (16,),
    "decoder_heads": (1,),
    "strides": (4,),
    "patch_sizes": (64, 16),
}
"""The interpreter is slow; every kernel runs here, and 48 channels are no power of two."""


@pytest.mark.skipif(INTERPRETED, reason="this is the process of its own")
def test_kernels_equal_their_twins():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def engine_of(network, operations, dtype=torch.float32, chunks=None):
    weights = fold(network, CPU, dtype)
    return DeviceEngine(
        network.config, weights, operations, dtype, 0.2, 1e3, chunks=chunks, minimum=16
    )


@pytest.fixture
def poisoned_memory(monkeypatch):
    """New memory holds NaN, as if a scan full of NaN had used it before."""

    def poison(make):
        def made(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

        return made

    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))


@interpreted
@pytest.mark.parametrize(("voxels", "xcpe"), [(1, "stale_on"), (130, "legacy")])
def test_network(voxels, xcpe, poisoned_memory):
    network = trained_network(2, xcpe=xcpe, **SMALL)
    features, cells = random_cloud(voxels, 3)
    logits = engine_of(network, TritonOperations()).logits(features, cells)
    assert_same_answers(logits, reference_logits(network, features, cells))


@interpreted
def test_network_in_sixteen_bits():
    """float16 only: the interpreter cannot multiply bfloat16."""
    network = trained_network(4, **SMALL)
    features, cells = random_cloud(60, 4)
    plain, compiled = (
        engine_of(network, operations, torch.float16).logits(features, cells)
        for operations in (Operations(), TritonOperations())
    )
    assert (plain - compiled).abs().max() < 0.02 * plain.std()


@interpreted
def test_network_in_chunks(poisoned_memory):
    network = trained_network(5, **SMALL)
    features, cells = random_cloud(70, 5)
    engine = engine_of(network, TritonOperations(), chunks=Chunks(patches=1, rows=48))
    logits = engine.logits(features, cells)
    assert_same_answers(logits, reference_logits(network, features, cells))


@interpreted
def test_layers_that_the_kernels_do_not_cover():
    """Channels that are no multiple of 16 take the plain form of that layer."""
    odd = {"encoder_channels": (8, 24), "encoder_heads": (1, 1), "decoder_channels": (8,)}
    network = trained_network(6, **(SMALL | odd))
    features, cells = random_cloud(40, 6)
    logits = engine_of(network, TritonOperations()).logits(features, cells)
    assert_same_answers(logits, reference_logits(network, features, cells))


@interpreted
def test_network_with_late_attention_and_a_small_stem(poisoned_memory):
    network = trained_network(7, stem_size=3, **(SMALL | {"encoder_heads": (0, 3)}))
    features, cells = random_cloud(40, 7)
    logits = engine_of(network, TritonOperations()).logits(features, cells)
    assert_same_answers(logits, reference_logits(network, features, cells))


@interpreted
@pytest.mark.parametrize("curve", ["z", "z-trans", "hilbert", "hilbert-trans"])
def test_curve_codes(curve):
    cells = torch.randint(0, 1 << 16, (300, 3), generator=torch.Generator().manual_seed(0))
    cells[0], cells[1] = 0, (1 << 16) - 1
    code = torch.cat([interleave(*cells.unbind(1)), torch.tensor([PADDING])])
    expected = Operations().curve_codes(code, curve)
    assert torch.equal(TritonOperations().curve_codes(code, curve), expected)


@interpreted
@pytest.mark.parametrize("size", [3, 5])
def test_neighbours(size):
    """Two stages in one search, cells at both ends of the grid, padding in between."""
    keys, base = [], []
    for stage, extent in enumerate((5, 1 << 16)):
        _, cells = random_cloud(80, stage, extent)
        cells = torch.cat([cells, torch.tensor([[0, 0, 0], [0, 0, 65535], [65535, 65535, 65535]])])
        code = interleave(*cells.unique(dim=0).unbind(1)).sort().values
        padding = torch.full((5,), (1 << LEVEL_BIT) - 1)
        base.append(torch.full((len(code) + 5,), sum(map(len, keys))))
        keys.append((stage << LEVEL_BIT) + torch.cat([code, padding]))
    keys, base = torch.cat(keys), torch.cat(base)
    offsets = NeighbourOffsets.of(size, CPU)
    expected = Operations().neighbours(keys, base, offsets)
    assert (expected >= 0).sum() > 2 * len(keys)
    assert torch.equal(TritonOperations().neighbours(keys, base, offsets), expected)


def test_tiles_fit_the_widths():
    for dtype in (torch.float16, torch.float32):
        for width in (16, 48, 128, 160, 512):
            tiles = Tiles.of(width, width, whole_row=True, dtype=dtype)
            assert tiles.n >= width
            assert width % tiles.k == 0
            assert tiles.k >= 16
    assert capacity(0, 16) == 16


def _compile(kernel, integers, numbers, constants):
    """Machine code of ``kernel`` for compute capability 9.0; needs no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {
        name: "constexpr" if name in constants
        else integers.get(name) or numbers.get(name, "*fp32")
        for name in kernel.arg_names
    }  # fmt: skip
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": True}  # as the launches say
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]


def _every_kernel():
    from pointdistill_ros.engine.cuda import geometry_kernels, kernels, pooling_kernels

    i32, i64, tile = "*i32", "*i64", {"block_m": 64, "block_n": 32}
    product = {"block_k": 32, **tile}
    block = {"along_curve": True, "channels": 32, **product}
    epsilon = {"norm_eps": "fp32", "next_eps": "fp32"}
    return [
        (geometry_kernels.neighbour_kernel,
         {"keys": i64, "base": i64, "steps": i64, "table": i32, "count": "i32", "half": "i32"},
         {"rounds": 17, "block": 256}),
        (geometry_kernels.curve_kernel, {"codes": i64, "out": i64, "count": "i32"},
         {"hilbert": True, "swapped": True, "depth": 16, "block": 256}),
        (kernels.stem_kernel, {"table": i32, "stride": "i32"},
         {"offsets": 125, "inputs": 4, "channels": 32, **product, "block_k": 16}),
        (kernels.conv_norm_kernel, {"table": i32, "stride": "i32", "position": i32, **epsilon},
         block),
        (kernels.dense_kernel, {}, {"activate": True, "depth": 32, "width": 96, **product}),
        (kernels.add_dense_kernel, {}, {"depth": 128, "width": 32, **product}),
        (kernels.proj_norm_kernel, {"position": i32, **epsilon}, block),
        (pooling_kernels.pool_kernel, {"child_begin": i32}, {"channels": 32, **tile}),
        (pooling_kernels.unpool_kernel, {"parent": i32}, {"channels": 32, **tile}),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="compiles")
@pytest.mark.parametrize("dtype", ["*fp16", "*bf16", "*fp32"])
def test_every_kernel_compiles_for_a_gpu(dtype):
    """What the interpreter lets pass, the compiler may refuse."""
    names = ("inputs", "conv_input", "attended", "values", "up", "skip", "weight", "out",
             "copy_out", "branch_out", "normed_out")  # fmt: skip
    for kernel, integers, constants in _every_kernel():
        numbers = {name: dtype for name in names if name not in constants}
        if kernel.__name__ == "stem_kernel":
            numbers = {"copy_out": dtype}
        assert len(_compile(kernel, {"size": "*i32", **integers}, numbers, constants)) > 1000
