# SPDX-License-Identifier: Apache-2.0
"""Linear, pooling, unpooling, head, MLP of the CPU engine called one by one, for their tests."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pointdistill_ros.engine.cpu import TIERS, available_tiers
from pointdistill_ros.engine.library import EngineMissingError, load_library, pointer
from pointdistill_ros.model.ptv3 import Block

try:
    LIBRARY = load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

OK, BAD_ARGUMENT = 0, 1
PRECISIONS = ("float32", "bfloat16")
KERNELS = [
    pytest.param((TIERS.index(tier), number), id=f"{tier}-{precision}")
    for number, precision in enumerate(PRECISIONS)
    for tier in available_tiers(precision)
]
BEST = KERNELS[-1].values[0]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def random(*shape, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * spread


def stored(kernel, values):
    """What is left of float values in the kernel's type of activations, float64."""
    return (values.bfloat16() if kernel[1] else values).double()


def close(kernel, actual, expected):
    """Error relative to the size of the values."""
    assert actual.shape == tuple(expected.shape)
    error = np.abs(actual - expected.detach().double().numpy()).max(initial=0)
    size = max(1.0, expected.detach().abs().max().item()) if expected.numel() else 1.0
    assert error <= (2e-2, 1e-5)[kernel[1] == 0] * size


def call(name, kernel, threads, *arguments):
    """Run a hook; arrays and tensors go as addresses, outputs are arrays already."""
    kept = [
        np.ascontiguousarray(a.detach().numpy()) if isinstance(a, torch.Tensor) else a
        for a in arguments
    ]
    converted = [pointer(a) if a is None or isinstance(a, np.ndarray) else a for a in kept]
    return getattr(LIBRARY, f"pd_hook_{name}")(*kernel, threads, *converted)


def empty(*shape):
    """An output that shows where nothing was written."""
    return np.full(shape, np.nan, np.float32)


def head(kernel, x, weight, bias, threads=1, stray=1e9):
    """weight [classes, in]; the columns that fill up the last vector hold what must not count."""
    rows, classes = len(x), len(weight)
    padded = (classes + 15) // 16 * 16
    weight = functional.pad(weight, (0, 0, 0, padded - classes))
    bias = functional.pad(bias, (0, padded - classes), value=stray)
    out = SimpleNamespace(
        label=np.full(rows, 255, np.uint8),
        probability=empty(rows),
        entropy=empty(rows),
        logits=empty(rows, classes),
    )
    status = call(
        "head", kernel, threads, rows, x.shape[1], classes, padded, x, weight, bias,
        out.label, out.probability, out.entropy, out.logits,
    )  # fmt: skip
    assert status == OK
    return out


def pool(kernel, x, children, weight, bias, scale, shift, threads=1, asks_copy=True):
    """children: number of children per parent, in row order."""
    begin = np.concatenate([[0], np.cumsum(children)]).astype(np.int32)
    parents, channels = len(children), len(weight)
    result, copy = empty(parents + 1, channels), empty(parents, channels)
    status = call(
        "pool", kernel, threads, len(x), parents, x.shape[1], channels, x, begin, weight, bias,
        scale, shift, result, copy if asks_copy else None,
    )  # fmt: skip
    assert status == OK
    assert np.isnan(result[-1]).all(), "wrote behind the last parent"
    return result[:-1], copy


def unpool(kernel, coarse, skip, parent, linear, skip_linear, threads=1, asked=True):
    rows, channels = len(skip), len(linear[0])
    outs = [empty(rows + 1, channels) for _ in range(3)]
    status = call(
        "unpool", kernel, threads, rows, len(coarse), coarse.shape[1], skip.shape[1], channels,
        coarse, skip, parent.int(), *linear, *skip_linear,
        outs[0], outs[1] if asked else None, outs[2] if asked else None,
    )  # fmt: skip
    assert status == OK
    assert all(np.isnan(out[-1]).all() for out in outs), "wrote behind the last row"
    return [out[:-1] for out in outs]


def mlp_weights(channels, ratio, seed=0):
    """A block with norms that have been trained, and its MLP folded."""
    torch.manual_seed(seed)
    block = Block(channels, channels // 16, 16, ratio, 0.0, "auto").eval()
    nn.init.normal_(block.mlp_norm.weight)
    nn.init.normal_(block.mlp_norm.bias)
    return block, (
        block.attention.proj.weight,
        block.attention.proj.bias,
        block.fc1.weight * block.mlp_norm.weight,
        block.fc1.bias + block.fc1.weight @ block.mlp_norm.bias,
        block.fc2.weight,
        block.fc2.bias,
    )


def proj_mlp(kernel, attended, x, weights, threads=1, asked=True):
    """attended: [rows, stride], of which the first columns count."""
    rows, channels = x.shape
    outs = [np.concatenate([x.numpy(), empty(1, channels)]), *(empty(rows, channels) for _ in "cb")]
    status = call(
        "proj_mlp", kernel, threads, rows, channels, len(weights[2]), attended.shape[1], attended,
        outs[0], *weights, outs[1] if asked else None, outs[2] if asked else None,
    )  # fmt: skip
    assert status == OK
    assert np.isnan(outs[0][-1]).all(), "wrote behind the last row"
    return outs[0][:-1], outs[1], outs[2]
