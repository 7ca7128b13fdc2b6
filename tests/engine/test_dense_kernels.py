# SPDX-License-Identifier: Apache-2.0
"""Linear, GELU, MLP, pooling, unpooling, head: kernels of every tier against their torch twins."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pointdistill_ros.engine.cpu import TIERS, available_tiers
from pointdistill_ros.engine.library import EngineMissingError, load_library, pointer
from pointdistill_ros.model.ptv3 import Block, Pooling, Unpooling

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


# ---- head: the linear itself, and what follows from logits ----


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


def head_of_logits(kernel, logits):
    """Give these logits to the head: the bias does it for one row at a time."""
    rows = [
        head(kernel, torch.zeros(1, 16), torch.zeros(logits.shape[1], 16), row) for row in logits
    ]
    return [
        np.concatenate([getattr(r, f) for r in rows]) for f in ("label", "probability", "entropy")
    ]


@every_kernel
@pytest.mark.parametrize("rows", [1, 5, 47, 48, 49, 1000])
def test_linear_equals_the_product_of_what_is_stored(kernel, rows):
    for width, columns in ((16, 16), (48, 112), (64, 256), (512, 32)):
        x, weight, bias = (
            random(rows, width),
            random(columns, width, seed=1),
            random(columns, seed=2),
        )
        expected = stored(kernel, x) @ stored(kernel, weight).T + bias
        actual = head(kernel, x, weight, bias).logits
        assert np.abs(actual - expected.numpy()).max() <= 1e-5 * expected.abs().max()
        if rows == 1000:
            break


@every_kernel
@pytest.mark.parametrize("classes", [1, 2, 3, 16, 19, 22, 256])
def test_head_answers_as_softmax_does(kernel, classes):
    x, weight, bias = random(100, 32), random(classes, 32, seed=1), random(classes, seed=2)
    out = head(kernel, x, weight, bias)
    logits = torch.from_numpy(out.logits).double()
    log_softmax = torch.log_softmax(logits, 1)
    best, label = log_softmax.max(1)
    entropy = -(log_softmax.exp() * log_softmax).sum(1) / np.log(max(2, classes))
    np.testing.assert_array_equal(out.label, label)
    np.testing.assert_allclose(out.probability, best.exp(), rtol=2e-6)
    np.testing.assert_allclose(out.entropy, entropy, atol=2e-6)


@every_kernel
def test_equal_logits_give_the_first_label(kernel):
    logits = torch.tensor(
        [[1.0] * 19, [0.0] * 7 + [2.0] * 12, [-5.0] * 18 + [3.0], [3.0] + [-5.0] * 18]
    )
    label, probability, entropy = head_of_logits(kernel, logits)
    assert label.tolist() == [0, 7, 18, 0]
    assert probability[0] == pytest.approx(1 / 19, rel=1e-6)
    assert entropy[0] == pytest.approx(1, abs=1e-6)
    assert entropy[0] <= 1


@every_kernel
def test_far_logits_are_certain(kernel):
    for large in (200.0, 1e30):
        label, probability, entropy = head_of_logits(kernel, torch.tensor([[-large, large, 0.0]]))
        assert (label[0], probability[0]) == (1, 1)
        assert entropy[0] == pytest.approx(0, abs=1e-6)


@every_kernel
def test_logits_that_are_not_numbers_give_a_valid_uncertain_label(kernel):
    nan, inf = float("nan"), float("inf")
    odd = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32).item()  # with a payload
    logits = torch.tensor(
        [[nan] * 5, [nan, 1, 2, 3, 4], [1, 2, odd, 0, 0], [1, inf, 0, inf, 2], [-inf] * 5]
    )
    label, probability, entropy = head_of_logits(kernel, logits)
    assert (label < 5).all()
    assert label[3] == 1
    assert (probability == 0).all()
    assert (entropy == 1).all()
    label, probability, entropy = head_of_logits(kernel, torch.tensor([[-inf, 0.0, -inf, 0.0]]))
    assert (label, probability, entropy) == (1, 0.5, pytest.approx(0.5, abs=1e-6))


@every_kernel
def test_outputs_that_are_not_asked_do_not_change_the_others(kernel):
    x, weight, bias = random(50, 16), random(16, 16, seed=1), random(16, seed=2)
    full = head(kernel, x, weight, bias)
    label, entropy = np.zeros(50, np.uint8), empty(50)
    assert call("head", kernel, 1, 50, 16, 16, 16, x, weight, bias, label, None, None, None) == OK
    assert call("head", kernel, 1, 50, 16, 16, 16, x, weight, bias, None, None, entropy, None) == OK
    np.testing.assert_array_equal(label, full.label)
    np.testing.assert_array_equal(entropy, full.entropy)


@given(
    rows=st.integers(0, 130),
    width=st.integers(1, 5),
    classes=st.integers(1, 40),
    kernel=st.sampled_from([k.values[0] for k in KERNELS]),
)
def test_head_of_any_shape(rows, width, classes, kernel):
    x, weight = random(rows, 16 * width), random(classes, 16 * width, seed=1)
    out = head(kernel, x, weight, random(classes, seed=2))
    expected = stored(kernel, x) @ stored(kernel, weight).T + random(classes, seed=2)
    np.testing.assert_allclose(out.logits, expected, atol=1e-4)
    np.testing.assert_array_equal(out.label, out.logits.argmax(1))


# ---- pooling ----


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


# ---- unpooling ----


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


# ---- projection and MLP ----


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


# ---- all of them ----


@every_kernel
def test_threads_do_not_change_a_bit(kernel):
    _, weights = mlp_weights(48, 2)
    attended, x = random(1000, 48), random(1000, 48, seed=1)
    children = [1, 8, 70, 3] * 12 + [16]
    parent = torch.arange(1000) // 2
    linear = random(64, 48, seed=2), random(64, seed=3)
    scale, shift = random(64, seed=4), random(64, seed=5)

    def results(threads):
        answer = head(kernel, x, *linear, threads)
        return [
            *proj_mlp(kernel, attended, x, weights, threads),
            *pool(kernel, x, children, *linear, scale, shift, threads),
            *unpool(kernel, x[:500], attended, parent, linear, linear, threads),
            answer.label, answer.probability, answer.entropy, answer.logits,
        ]  # fmt: skip

    for one, two in zip(results(1), results(2), strict=True):
        np.testing.assert_array_equal(one, two)


@every_kernel
def test_nothing_to_do(kernel):
    _, weights = mlp_weights(16, 2)
    none, linear = torch.zeros(0, 16), (torch.eye(16), torch.zeros(16))
    proj_mlp(kernel, none, none, weights)
    pool(kernel, none, [], *linear, *linear)
    unpool(kernel, none, none, torch.zeros(0), linear, linear)
    unpool(kernel, torch.zeros(3, 16), none, torch.zeros(0), linear, linear)
    head(kernel, none, torch.zeros(3, 16), torch.zeros(3))


def test_hooks_refuse_what_cannot_be():
    x, w, b, out = torch.zeros(4, 16), torch.eye(16), torch.zeros(16), empty(4, 16)
    label = np.zeros(4, np.uint8)

    def refused(name, *arguments, kernel=BEST, threads=1):
        return call(name, kernel, threads, *arguments) == BAD_ARGUMENT

    head_rest = (x, w, b, label, None, None, None)
    assert refused("head", 4, 17, 16, 16, *head_rest)
    assert refused("head", 4, 16, 0, 16, *head_rest)
    assert refused("head", 4, 16, 16, 32, *head_rest)
    assert refused("head", -1, 16, 16, 16, *head_rest)
    assert refused("head", 1 << 30, 16, 16, 16, *head_rest)
    assert refused("head", 4, 16, 16, 16, *head_rest, threads=0)
    assert refused("head", 4, 16, 16, 16, *head_rest, kernel=(9, 0))
    assert refused("head", 4, 16, 16, 16, *head_rest, kernel=(0, 7))
    assert refused("head", 4, 16, 16, 16, *head_rest, kernel=(0, 1)), "bfloat16 needs its tier"
    assert refused("proj_mlp", 4, 16, 24, 16, x, out, w, b, w, b, w, b, None, None)
    assert refused("proj_mlp", 4, 32, 32, 16, x, out, w, b, w, b, w, b, None, None)
    for begin in ([0, 3, 2, 4], [0, 1, 2, 5], [1, 2, 3, 4], [0, -1, 2, 4]):
        families = np.array(begin, np.int32)
        assert refused("pool", 4, 3, 16, 16, x, families, w, b, b, b, out, None)
    for parent in ([0, 1, 2, 4], [-1, 0, 0, 0]):
        rows = np.array(parent, np.int32)
        assert refused("unpool", 4, 4, 16, 16, 16, x, x, rows, w, b, w, b, out, None, None)
