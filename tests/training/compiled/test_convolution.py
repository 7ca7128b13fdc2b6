# SPDX-License-Identifier: Apache-2.0
"""The compiled convolution against the torch form of model/, every tier, forward and backward."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.model.neighbours import NeighbourTable, build_neighbours
from pointdistill_ros.model.pyramid import Stage
from pointdistill_ros.model.sparse_conv import SubmanifoldConv
from training.compiled.convolution import dense_table, sparse_convolution
from training.compiled.library import TIERS, check_precision, lowered_tier

try:
    BEST = int(load_library().pd_best_tier())
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

HAS_BFLOAT16 = TIERS[BEST] == "avx512-bf16"
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 products here")


def voxels(count, side, seed=0):
    """Random distinct cells of a cube, in random order."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(side**3, count, replace=False)
    return torch.from_numpy(np.stack(np.unravel_index(cells, (side,) * 3), 1).astype(np.int64))


def surface(count, seed=0):
    """Cells of a bumpy ground and walls: the density of a scan."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 90, (2, 4 * count))
    z = np.where(rng.random(4 * count) < 0.7, (x + y) // 30, rng.integers(0, 12, 4 * count))
    cells = np.unique(np.stack([x, y, z], 1), axis=0)
    return torch.from_numpy(rng.permutation(cells)[:count])


def table_of(coords, size):
    return build_neighbours(coords, torch.zeros(len(coords), dtype=torch.int64), size)


def tensors(rows, inputs, outputs, size, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=generator)
    weight = torch.randn(outputs, size, size, size, inputs, generator=generator)
    shift = torch.randn(outputs, generator=generator) if bias else None
    grad = torch.randn(rows, outputs, generator=generator)
    return x, weight, shift, grad


def torch_form(x, weight, bias, table, grad):
    outputs, size, *_, inputs = weight.shape
    conv = SubmanifoldConv(inputs, outputs, size, bias is not None, backend="torch")
    with torch.no_grad():
        conv.weight.copy_(weight)
        if bias is not None:
            conv.bias.copy_(bias)
    conv, grad = conv.double(), grad.double()
    x = x.double().requires_grad_()
    unused: Stage = None  # type: ignore[assignment]
    out = conv(x, unused, table)
    out.backward(grad)
    found = [out.detach(), x.grad, conv.weight.grad]
    return found + ([conv.bias.grad] if bias is not None else [])


def compiled_form(x, weight, bias, table, grad, precision="float32"):
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias) if t is not None]
    out = sparse_convolution(*leaves[:2], leaves[2] if bias is not None else None, table, precision)
    out.backward(grad)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def check_close(found, expected, forward=1e-5, backward=1e-4):
    assert len(found) == len(expected)
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert mine.shape == theirs.shape
        scale = theirs.abs().max().clamp(min=1.0) if theirs.numel() else 1.0
        error = ((mine - theirs).abs() / scale).max() if theirs.numel() else 0.0
        assert error <= (backward if i else forward), (i, error)


@pytest.mark.parametrize("tier", range(BEST + 1), ids=TIERS[: BEST + 1])
@pytest.mark.parametrize(
    ("inputs", "outputs", "size"), [(16, 16, 3), (4, 16, 5), (48, 96, 3), (19, 33, 3), (1, 1, 3)]
)
def test_equals_torch_form(tier, inputs, outputs, size):
    coords = surface(700)
    table = table_of(coords, size)
    case = tensors(len(coords), inputs, outputs, size)
    with lowered_tier(tier):
        found = compiled_form(*case[:3], table, case[3])
    check_close(found, torch_form(*case[:3], table, case[3]))


@given(st.data())
@settings(max_examples=30)
def test_any_shape(data):
    side = data.draw(st.integers(1, 7))
    rows = data.draw(st.integers(1, min(side**3, 150)))
    inputs, outputs = (data.draw(st.integers(1, 70)) for _ in range(2))
    size = data.draw(st.sampled_from([3, 5]))
    table = table_of(voxels(rows, side, data.draw(st.integers(0, 99))), size)
    case = tensors(rows, inputs, outputs, size, data.draw(st.booleans()))
    with lowered_tier(data.draw(st.integers(0, BEST))):
        found = compiled_form(*case[:3], table, case[3])
    check_close(found, torch_form(*case[:3], table, case[3]))


@pytest.mark.parametrize("size", [3, 5])
def test_real_size(size):
    coords = surface(6000)
    assert len(coords) == 6000
    inputs, outputs = (64, 64) if size == 3 else (4, 16)
    table = table_of(coords, size)
    case = tensors(len(coords), inputs, outputs, size)
    check_close(compiled_form(*case[:3], table, case[3]), torch_form(*case[:3], table, case[3]))


def test_one_voxel_and_isolated_voxels():
    for coords in (torch.zeros(1, 3, dtype=torch.int64), 7 * voxels(40, 5)):
        table = table_of(coords, 3)
        assert sum(table.counts) == 0  # every offset but the centre is empty
        case = tensors(len(coords), 32, 48, 3)
        check_close(compiled_form(*case[:3], table, case[3]), torch_form(*case[:3], table, case[3]))


def test_no_voxels():
    nothing = torch.zeros(0, dtype=torch.int64)
    table = NeighbourTable(3, nothing, nothing, (0,) * 27)
    x, weight, bias, grad = tensors(0, 16, 32, 3)
    out, x_grad, weight_grad, bias_grad = compiled_form(x, weight, bias, table, grad)
    assert out.shape == (0, 32)
    assert x_grad.shape == (0, 16)
    assert not weight_grad.any()
    assert not bias_grad.any()


@needs_bfloat16
@pytest.mark.parametrize(("inputs", "outputs", "size"), [(64, 64, 3), (4, 16, 5), (19, 33, 3)])
def test_bfloat16_is_float32_on_rounded_factors(inputs, outputs, size):
    coords = surface(3000)
    table = table_of(coords, size)
    x, weight, bias, grad = tensors(len(coords), inputs, outputs, size)
    found = compiled_form(x, weight, bias, table, grad, "bfloat16")
    x, weight, rounded = (t.bfloat16().float() for t in (x, weight, grad))
    expected = torch_form(x, weight, bias, table, rounded)
    expected[3] = grad.double().sum(0)  # no product: not rounded
    check_close(found, expected, 1e-5, 1e-4)


def test_same_bits_for_any_number_of_threads():
    coords = surface(5000)
    table = table_of(coords, 3)
    case = tensors(len(coords), 48, 40, 3)
    precisions = ["float32", "bfloat16"] if HAS_BFLOAT16 else ["float32"]
    before = torch.get_num_threads()
    try:
        for precision in precisions:
            results = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(compiled_form(*case[:3], table, case[3], precision))
            for other in results[1:]:
                assert all(map(torch.equal, results[0], other))
    finally:
        torch.set_num_threads(before)


def test_not_finite_values_stay_where_they_are():
    coords = surface(300)
    table = table_of(coords, 3)
    x, weight, bias, grad = tensors(len(coords), 16, 16, 3)
    x[7, 3], x[9, 0] = torch.nan, torch.inf
    found, expected = (
        compiled_form(x, weight, bias, table, grad),
        torch_form(x, weight, bias, table, grad),
    )
    assert torch.equal(found[0].isfinite(), expected[0].isfinite())
    assert not found[0].isfinite().all()


def test_table_is_built_once_and_forgotten_with_its_owner():
    table = table_of(surface(200), 3)
    dense = dense_table(table, 200)
    assert dense_table(table, 200) is dense
    for k in range(27):
        row = dense[k]
        assert int((row >= 0).sum()) == (200 if k == 13 else table.counts[k])
    with pytest.raises(ScanError, match="pairs of 100 voxels"):
        dense_table(table, 100)


def test_table_without_mirror_images_is_refused():
    one, two = torch.tensor([1]), torch.tensor([0])
    counts = (1,) + (0,) * 26
    with pytest.raises(ScanError, match="mirror image"):
        dense_table(NeighbourTable(3, one, two, counts), 2)
    with pytest.raises(ScanError, match="mirror image"):
        dense_table(NeighbourTable(3, torch.tensor([5]), two, counts), 2)


def test_refuses_what_it_cannot_do():
    table = table_of(surface(50), 3)
    x, weight, bias, _ = tensors(50, 16, 16, 3)
    with pytest.raises(ConfigError, match=r"input is torch\.bfloat16"):
        sparse_convolution(x.bfloat16(), weight, bias, table)
    with pytest.raises(ConfigError, match="expected one of"):
        sparse_convolution(x, weight, bias, table, "float16")
    with lowered_tier(0), pytest.raises(ConfigError, match="no bfloat16 products"):
        check_precision("bfloat16")
    with pytest.raises(ValueError, match="do not match"):
        sparse_convolution(x[:, :8], weight, bias, table)


def test_only_the_asked_gradients():
    table = table_of(surface(80), 3)
    x, weight, bias, grad = tensors(80, 8, 24, 3)
    expected = torch_form(x, weight, bias, table, grad)
    bias.requires_grad_()
    sparse_convolution(x, weight, bias, table).backward(grad)
    check_close([bias.grad], expected[3:], 1e-4)
    x.requires_grad_()
    sparse_convolution(x, weight, bias.detach(), table).backward(grad.T.contiguous().T)
    check_close([x.grad], expected[1:2], 1e-4)
