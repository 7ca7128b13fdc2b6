# SPDX-License-Identifier: Apache-2.0
"""The compiled maximum over children against torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError
from training.compiled.pooling import pool_max

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)


def torch_form(x, parent, parents):
    pooled = x.new_full((parents, x.shape[1]), -torch.inf)
    index = parent[:, None].expand_as(x)
    return pooled.scatter_reduce(0, index, x, "amax", include_self=False)


def without_ties(rows, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows * channels, generator=generator)
    return (order.float() - rows * channels / 2).view(rows, channels), generator


@given(st.integers(1, 200), st.integers(1, 70), st.integers(1, 80), st.integers(0, 99))
def test_equals_torch_form_without_ties(rows, channels, parents, seed):
    x, generator = without_ties(rows, channels, seed)
    parent = torch.randint(parents, (rows,), generator=generator)
    grad = torch.randn(parents, channels, generator=generator)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = pool_max(mine, parent, parents), torch_form(theirs, parent, parents)
    assert torch.equal(found, expected)  # -inf without children
    found.backward(grad)
    expected.backward(grad)
    assert torch.equal(mine.grad, theirs.grad)


def test_equal_children():
    x = torch.tensor([[1.0], [3.0], [3.0], [2.0]])
    parent = torch.tensor([0, 0, 0, 1])
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    pool_max(mine, parent, 2).sum().backward()
    torch_form(theirs, parent, 2).sum().backward()
    assert mine.grad.flatten().tolist() == [0, 1, 0, 1]
    assert theirs.grad.flatten().tolist() == [0, 0.5, 0.5, 1]


def test_not_finite_values():
    x = torch.tensor(
        [[1.0, torch.nan], [torch.nan, 2.0], [torch.nan, torch.inf], [-torch.inf, 0.0]]
    )
    parent = torch.tensor([0, 0, 0, 1])
    x.requires_grad_()
    found = pool_max(x, parent, 2)
    assert torch.equal(found.isnan(), torch.tensor([[True, True], [False, False]]))
    assert found[1].tolist() == [-torch.inf, 0]
    found.backward(torch.ones(2, 2))
    assert x.grad.tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]


def test_same_bits_for_any_number_of_threads():
    x = torch.randn(20000, 32)
    parent = torch.randint(6000, (20000,))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            out = pool_max(leaf, parent, 6000)
            (out * torch.arange(32.0)).sum().backward()
            found.append((out.detach(), leaf.grad))
    finally:
        torch.set_num_threads(before)
    for out, grad in found[1:]:
        assert torch.equal(out, found[0][0])
        assert torch.equal(grad, found[0][1])


def test_refuses_what_it_cannot_do():
    x = torch.randn(3, 4)
    for wrong in ([0, 2, 1], [0, -1, 1]):
        with pytest.raises(ValueError, match="bad argument"):
            pool_max(x, torch.tensor(wrong), 2)
    with pytest.raises(ValueError, match="int64 parents"):
        pool_max(x, torch.tensor([0, 1]), 2)
    with pytest.raises(ConfigError, match=r"torch\.float64"):
        pool_max(x.double(), torch.tensor([0, 0, 1]), 2)
