# SPDX-License-Identifier: Apache-2.0
"""The stem kernel of every tier against the torch form, after folding."""

import ctypes
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from pointdistill_ros.model.neighbours import NeighbourTable, build_neighbours
from pointdistill_ros.model.ptv3 import Stem
from tests.engine.test_conv_kernel import (
    BAD_ARGUMENT,
    FLOAT32,
    LIBRARY,
    OK,
    PORTABLE,
    address,
    array,
    every_form,
    pyramid,
    rounded,
)

__all__ = ["pyramid"]  # the fixture


def stem_pairs(table: NeighbourTable, rows: int):
    """begin, row, offset by output row, ascending in offset, the row itself included."""
    offset = np.repeat(np.arange(125), table.counts)
    offset = np.concatenate([offset, np.full(rows, 62)])
    out = np.concatenate([table.output_rows.numpy(), np.arange(rows)])
    row = np.concatenate([table.input_rows.numpy(), np.arange(rows)])
    order = np.lexsort((offset, out))
    begin = np.searchsorted(out[order], np.arange(rows + 1)).astype(np.int32)
    return begin, row[order].astype(np.int32), offset[order].astype(np.uint8)


def stem(features, pairs, weight, bias, tier, precision, threads=1, copy=True):
    """Status, x and copy [n, C] of the kernel; features [n, in], weight [125, in, C]."""
    begin, row, offset = pairs
    x, copied = np.full((2, len(begin) - 1, len(bias)), np.nan, np.float32)
    status = LIBRARY.pd_test_stem(
        *(tier, precision, threads, len(begin) - 1, features.shape[1], len(bias), len(row)),
        *(address(features), address(begin, np.int32), address(row, np.int32)),
        *(address(offset, np.uint8), address(weight), address(bias), address(x)),
        *(address(copied) if copy else None, ctypes.byref(ctypes.c_double())),
    )
    return status, x, copied


@pytest.mark.parametrize(("inputs", "channels"), [(1, 16), (4, 32), (7, 48), (4, 112)])
@every_form
def test_stem_equals_torch(pyramid, tier, precision, inputs, channels):
    torch.manual_seed(0)
    module = Stem(inputs, channels, 5, "torch").eval()
    module.norm.running_mean.normal_(0, 0.3)
    module.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(module.norm.weight, 1, 0.5)
    torch.nn.init.normal_(module.norm.bias, 0, 0.3)
    rows = 2000
    stage = pyramid.stages[0]
    table = build_neighbours(stage.coords[:rows], stage.scan[:rows], 5)
    features = torch.randn(rows, inputs)
    with torch.no_grad():
        conv = module.conv(features, stage, table)
        wanted = functional.gelu(module.norm(conv)).numpy()
        scale = module.norm.weight / (module.norm.running_var + module.norm.eps).sqrt()
        weight = module.conv.weight.permute(1, 2, 3, 4, 0).flatten(0, 2) * scale
        bias = module.norm.bias - module.norm.running_mean * scale
    pairs = stem_pairs(table, rows)
    assert (np.diff(pairs[0]) >= 1).all()
    status, x, copied = stem(features.numpy(), pairs, array(weight), array(bias), tier, precision)
    assert status == OK
    np.testing.assert_allclose(x, wanted, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(copied, rounded(x, precision).numpy())
    for threads in (1, 2):
        _, again, _ = stem(
            features.numpy(), pairs, array(weight), array(bias), tier, precision, threads, False
        )
        assert again.tobytes() == x.tobytes()


def test_stem_refuses_pairs_that_leave_the_buffers():
    features, bias = np.ones((3, 4), np.float32), np.zeros(16, np.float32)
    weight = np.ones((125, 4, 16), np.float32)
    good = [np.array(v) for v in ([0, 1, 1, 3], [0, 1, 2], [62, 0, 124])]
    dtypes = (np.int32, np.int32, np.uint8)

    def status(*pairs):
        typed = [np.asarray(v, t) for v, t in zip(pairs, dtypes, strict=True)]
        return stem(features, typed, weight, bias, PORTABLE, FLOAT32)[0]

    assert status(*good) == OK
    assert status([0, 2, 1, 3], *good[1:]) == BAD_ARGUMENT
    assert status([0, 1, 1, 4], *good[1:]) == BAD_ARGUMENT
    assert status([1, 1, 1, 3], *good[1:]) == BAD_ARGUMENT
    assert status(good[0], [0, 1, 3], good[2]) == BAD_ARGUMENT
    assert status(good[0], [0, -1, 2], good[2]) == BAD_ARGUMENT
    assert status(good[0], good[1], [62, 0, 125]) == BAD_ARGUMENT


@every_form
def test_stem_carries_nan_to_neighbours_only(tier, precision):
    rng = np.random.default_rng(3)
    features = rng.normal(0, 1, (40, 4)).astype(np.float32)
    begin = np.sort(np.append(rng.integers(0, 120, 39), [0, 120])).astype(np.int32)
    row = rng.integers(0, 40, 120, dtype=np.int32)
    offset = rng.integers(0, 125, 120, dtype=np.uint8)
    weight = rng.normal(0, 1, (125, 4, 16)).astype(np.float32)
    bias = np.zeros(16, np.float32)
    features[5] = [0, np.nan, 0, 0]
    status, x, _ = stem(features, (begin, row, offset), weight, bias, tier, precision)
    assert status == OK
    touched = np.array([5 in row[a:b] for a, b in pairwise(begin)])
    assert touched.any()
    assert np.isnan(x[touched]).all()
    assert np.isfinite(x[~touched]).all()
