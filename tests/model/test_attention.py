# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import pytest
import torch

from pointdistill_ros.model.attention import PatchAttention
from pointdistill_ros.model.pyramid import CurveOrder
from tests.model import reference


class OneStage:
    def __init__(self, sizes):
        self.offsets = (0, *torch.tensor(sizes).cumsum(0).tolist())


def identity(n):
    return CurveOrder(torch.arange(n), torch.arange(n))


@pytest.mark.parametrize("i", range(5))
def test_patches_equal_the_public_padding_table(i):
    """Attention over the public padded patches, written out, gives what ours gives."""
    t = reference.tensors()
    sizes = t[f"padding/{i}/sizes"].tolist()
    size = int(t[f"padding/{i}/K"])
    pad, unpad = t[f"padding/{i}/pad"].long(), t[f"padding/{i}/unpad"].long()
    bounds = t[f"padding/{i}/cu_seqlens"].tolist()
    torch.manual_seed(i)
    attention = PatchAttention(16, 2, size)
    x = torch.randn(sum(sizes), 16)

    q, k, v = attention.qkv(x)[pad].view(-1, 3, 2, 8).unbind(1)
    padded = torch.empty(len(pad), 16)
    for a, b in pairwise(bounds):
        scores = torch.einsum("qhd,khd->hqk", q[a:b], k[a:b]) / 8**0.5
        padded[a:b] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[a:b]).flatten(1)
    expected = attention.proj(padded[unpad])

    ours = attention(x, OneStage(sizes), identity(len(x)))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 19])
def test_walking_a_curve_only_regroups(n):
    """Attention along an order = attention over reordered rows."""
    torch.manual_seed(n)
    attention = PatchAttention(16, 2, 8)
    x = torch.randn(n, 16, requires_grad=True)
    order = torch.randperm(n)
    walk = CurveOrder(order, order.argsort())
    ours = attention(x, OneStage([n]), walk)
    expected = attention(x[order], OneStage([n]), identity(n))[walk.inverse]
    torch.testing.assert_close(ours, expected)
    cotangent = torch.randn_like(ours)
    torch.testing.assert_close(
        *(torch.autograd.grad(out, x, cotangent)[0] for out in (ours, expected))
    )
