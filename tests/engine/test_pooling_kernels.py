# SPDX-License-Identifier: Apache-2.0
"""GELU, pooling, unpooling: kernels of every tier against their torch twins."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pointdistill_ros.model.ptv3 import Pooling, Unpooling
from tests.engine.dense_kernels import KERNELS, close, every_kernel, pool, random, stored, unpool


def gelu(kernel, values):
    """The kernel's GELU, value by value: an identity linear, every row its own parent."""
    x = values.reshape(-1, 16)
    one = torch.ones(16)
    return pool(kernel, x, [1] * len(x), torch.eye(16), 0 * one, one, 0 * one)[0].ravel()


@every_kernel
def test_gelu_is_exact(kernel):
    values = torch.cat([torch.linspace(-12, 12, 48000), torch.tensor([-1e30, 1e30, -0.0, 0.0] * 4)])
    values = stored(kernel, values)
    error = np.abs(gelu(kernel, values.float()) - functional.gelu(values).numpy())
    assert (error / np.maximum(1, values.abs().numpy())).max() <= (5e-5 if kernel[1] else 2e-7)


@every_kernel
def test_gelu_of_what_is_no_number(kernel):
    shift = torch.tensor([float("nan"), float("inf"), float("-inf"), 1.0] * 4)
    zero = torch.zeros(16)
    x, _ = pool(kernel, torch.zeros(1, 16), [1], torch.eye(16), zero, zero, shift)
    assert np.isnan(x[0, 0])
    assert x[0, 1] == np.inf
    assert abs(x[0, 2]) < 1e-4
    assert x[0, 3] == pytest.approx(0.8413447, abs=1e-4)


CHILDREN = {
    "one each": [1] * 300,
    "strides": [1, 8, 3, 2, 64, 5, 1, 1, 7] * 12,
    "many": [70, 1, 200, 49, 48, 47, 96, 1],
    "one parent": [500],
    "one row": [1],
}


@every_kernel
@pytest.mark.parametrize("children", CHILDREN.values(), ids=CHILDREN)
@pytest.mark.parametrize(("width", "channels"), [(16, 32), (64, 48), (128, 256)])
def test_pooling_equals_torch(kernel, children, width, channels):
    torch.manual_seed(0)
    module = Pooling(width, channels).eval()
    nn.init.normal_(module.norm.weight)
    nn.init.normal_(module.norm.bias)
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    scale = module.norm.weight / torch.sqrt(module.norm.running_var + module.norm.eps)
    shift = module.norm.bias - module.norm.running_mean * scale
    assert (scale < 0).any(), "the maximum must come before the affine"

    x = random(sum(children), width)
    parent = torch.repeat_interleave(torch.arange(len(children)), torch.tensor(children))
    with torch.no_grad():
        expected = module(x, SimpleNamespace(parent=parent), len(children))
    actual, copy = pool(kernel, x, children, module.proj.weight, module.proj.bias, scale, shift)
    close(kernel, actual, expected)
    np.testing.assert_array_equal(copy, stored(kernel, torch.from_numpy(actual)))


@given(
    children=st.lists(st.integers(0, 70), min_size=0, max_size=40),
    threads=st.integers(1, 3),
    kernel=st.sampled_from([k.values[0] for k in KERNELS]),
)
@settings(max_examples=40)
def test_pooling_of_any_families(children, threads, kernel):
    x, one = random(sum(children), 16), torch.ones(16)
    actual, _ = pool(kernel, x, children, torch.eye(16), 0 * one, one, 0 * one, threads)
    ends = np.cumsum(children)
    for i, (count, end) in enumerate(zip(children, ends, strict=True)):
        if count:
            most = stored(kernel, x)[end - count : end].amax(0)
            close(kernel, actual[i], functional.gelu(most))


def folded(linear, norm):
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return linear.weight * scale[:, None], (linear.bias - norm.running_mean) * scale + norm.bias


@every_kernel
@pytest.mark.parametrize("rows", [1, 5, 47, 48, 49, 1000])
@pytest.mark.parametrize("widths", [(32, 16, 64), (128, 48, 48)])
def test_unpooling_equals_torch(kernel, rows, widths):
    torch.manual_seed(0)
    module = Unpooling(*widths).eval()
    for norm in (module.norm, module.skip_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    parents = max(1, rows // 3)
    coarse, skip = random(parents, widths[0]), random(rows, widths[1], seed=1)
    parent = torch.randint(0, parents, (rows,)).sort().values
    with torch.no_grad():
        expected, expected_branch = module(coarse, skip, SimpleNamespace(parent=parent))
    linears = folded(module.proj, module.norm), folded(module.skip_proj, module.skip_norm)
    x, copy, branch = unpool(kernel, coarse, skip, parent, *linears)
    close(kernel, x, expected)
    close(kernel, branch, expected_branch)
    np.testing.assert_array_equal(copy, stored(kernel, torch.from_numpy(x)))
    np.testing.assert_array_equal(unpool(kernel, coarse, skip, parent, *linears, asked=False)[0], x)
