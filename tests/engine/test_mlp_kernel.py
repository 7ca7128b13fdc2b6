# SPDX-License-Identifier: Apache-2.0
"""Projection and MLP: kernels of every tier against their torch twins."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.engine.dense_kernels import close, every_kernel, mlp_weights, proj_mlp, random, stored


@every_kernel
@pytest.mark.parametrize(
    ("channels", "ratio", "rows"),
    [
        (16, 2, 1), (16, 4, 1000), (16, 4, 5), (32, 2, 49), (32, 4, 47), (48, 4, 48), (64, 4, 1000),
        (64, 2, 47), (128, 4, 49), (512, 2, 50),
    ],
)  # fmt: skip
def test_mlp_equals_torch(kernel, channels, ratio, rows):
    block, weights = mlp_weights(channels, ratio)
    attended, x = random(rows, 3 * channels), random(rows, channels, seed=1, spread=3) + 1
    with torch.no_grad():
        middle = x + block.attention.proj(attended[:, :channels])
        expected = block.fc2(functional.gelu(block.fc1(block.mlp_norm(middle))))
    out, copy, branch = proj_mlp(kernel, attended, x, weights)
    close(kernel, out, middle + expected)
    close(kernel, branch, expected)
    np.testing.assert_array_equal(copy, stored(kernel, torch.from_numpy(out)))
    np.testing.assert_array_equal(proj_mlp(kernel, attended, x, weights, asked=False)[0], out)


@every_kernel
def test_norm_keeps_its_digits_far_from_zero(kernel):
    """Two passes: a mean of 1000 times the deviation costs no more than x itself has lost."""
    _, weights = mlp_weights(64, 2)
    weights = (torch.zeros(64, 64), torch.zeros(64), *weights[2:])
    x = random(50, 64) + 1000
    unit = (x - x.double().mean(1, keepdim=True)) / torch.sqrt(
        x.double().var(1, keepdim=True, correction=0) + 1e-5
    )
    w = [t.detach().double() for t in weights[2:]]
    expected = functional.gelu(unit @ w[0].T + w[1]) @ w[2].T + w[3]
    branch = proj_mlp(kernel, torch.zeros(50, 64), x, weights)[2]
    error = np.abs(branch - expected.numpy()).max() / expected.abs().max().item()
    assert error <= (2e-2 if kernel[1] else 1e-4)


@every_kernel
def test_rows_that_are_no_numbers_stay_alone(kernel):
    _, weights = mlp_weights(32, 4)
    attended, x = random(100, 32), random(100, 32, seed=1)
    clean = proj_mlp(kernel, attended, x, weights)[0]
    sick = x.clone()
    sick[7], sick[50, 3], sick[99] = float("nan"), float("inf"), 1e30
    out = proj_mlp(kernel, attended, sick, weights)[0]
    well = np.setdiff1d(np.arange(100), [7, 50, 99])
    np.testing.assert_array_equal(out[well], clean[well])
    assert np.isnan(out[7]).all()
