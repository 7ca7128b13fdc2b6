# SPDX-License-Identifier: Apache-2.0
"""The convolution kernel of every tier against the torch form, after folding."""

import ctypes
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pointdistill_ros.engine.library import EngineMissingError, load_library, pointer
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.ptv3 import Block
from pointdistill_ros.model.pyramid import VoxelPyramid, build_pyramid
from pointdistill_ros.model.voxels import voxelise
from pointdistill_ros.scan import LidarScan

try:
    LIBRARY = load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

SCAN = Path(__file__).parents[1] / "data" / "pandaset_003_00.npz"
OK, BAD_ARGUMENT = 0, 1
FLOAT32, BFLOAT16 = 0, 1
PORTABLE, AVX2, AVX512, AVX512_BF16 = range(4)
LONE = np.full((27, 1), -1, np.int32)
LONE[13] = 0


@dataclasses.dataclass
class Layer:
    """Folded weights of one block's first half, as ConvQkv takes them."""

    conv_weight: np.ndarray  # [27, in, out]
    conv_bias: np.ndarray
    norm_scale: np.ndarray
    norm_shift: np.ndarray
    qkv_weight: np.ndarray  # [3 C, C]
    qkv_bias: np.ndarray

    @property
    def channels(self):
        return len(self.conv_bias)


def array(tensor):
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def fold(block: Block) -> Layer:
    linear, norm, qkv = block.conv_linear, block.attention_norm, block.attention.qkv
    kernel = block.conv.weight.permute(1, 2, 3, 4, 0).flatten(0, 2)
    return Layer(
        array(kernel @ linear.weight.T),
        array(linear(block.conv.bias)),
        array(block.conv_norm.weight),
        array(block.conv_norm.bias),
        array(qkv.weight * norm.weight),
        array(qkv(norm.bias)),
    )


def random_block(channels, seed=0) -> Block:
    torch.manual_seed(seed)
    block = Block(channels, 1, 64, 1, 0.0, "torch").eval()
    for norm in (block.conv_norm, block.attention_norm):
        torch.nn.init.normal_(norm.weight, 1, 0.3)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
    return block


def random_layer(channels, seed=0) -> Layer:
    return fold(random_block(channels, seed))


def dense_table(table: NeighbourTable, rows: int) -> np.ndarray:
    """int32 [27, rows], -1 = none."""
    dense = np.full((27, rows), -1, np.int32)
    dense[13] = np.arange(rows)
    offset = np.repeat(np.arange(27), table.counts)
    dense[offset, table.output_rows.numpy()] = table.input_rows.numpy()
    return dense


def random_table(rows, density, seed=0) -> np.ndarray:
    """Neighbours of no real cloud: any row may be the neighbour of any other."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, rows, (27, rows), dtype=np.int32)
    table[rng.random((27, rows)) >= density] = -1
    table[13] = np.arange(rows)
    return table


def address(values, dtype=np.float32):
    assert values is None or values.dtype == dtype
    return pointer(values)


def conv_qkv(layer, neighbours, features, x, tier=PORTABLE, precision=FLOAT32, threads=1, out=None):
    """Status, x_out [n, C] and qkv [n, 3 C] of the kernel."""
    rows = neighbours.shape[1]
    out = np.full_like(x, np.nan) if out is None else out
    qkv = np.full((rows, 3 * layer.channels), np.nan, np.float32)
    weights = [address(getattr(layer, field.name)) for field in dataclasses.fields(layer)]
    status = LIBRARY.pd_test_conv_qkv(
        *(tier, precision, threads, rows, layer.channels, address(neighbours, np.int32)),
        *(address(features), address(x), address(out), *weights, address(qkv)),
        ctypes.byref(ctypes.c_double()),
    )
    return status, out, qkv


def available():
    """(tier, precision) pairs this build and CPU have."""
    layer, x = random_layer(16), np.zeros((1, 16), np.float32)
    pairs = [(tier, FLOAT32) for tier in range(4)] + [(AVX512_BF16, BFLOAT16)]
    return [p for p in pairs if conv_qkv(layer, LONE, x, x, *p)[0] == OK]


FORMS = available()
every_form = pytest.mark.parametrize(
    ("tier", "precision"), FORMS, ids=[f"tier{t}-{('fp32', 'bf16')[p]}" for t, p in FORMS]
)


def rounded(values, precision):
    """float32 values as the precision stores them."""
    tensor = torch.as_tensor(values)
    return tensor.bfloat16().float() if precision == BFLOAT16 else tensor


def expected(layer, neighbours, features, x, precision):
    """x_out and qkv in float64, from what the precision stores."""
    table = torch.from_numpy(neighbours.astype(np.int64))
    features = torch.cat([rounded(features, precision), torch.zeros(1, layer.channels)]).double()
    weight = rounded(layer.conv_weight, precision).double()
    conv = torch.from_numpy(layer.conv_bias).double().expand(neighbours.shape[1], -1)
    for k in range(27):
        conv = conv + features[table[k]] @ weight[k]
    affine = (torch.from_numpy(v).double() for v in (layer.norm_scale, layer.norm_shift))
    out = torch.from_numpy(x) + functional.layer_norm(conv, (layer.channels,), *affine)
    unit = functional.layer_norm(out, (layer.channels,))
    qkv = functional.linear(
        rounded(unit.float(), precision).double(),
        rounded(layer.qkv_weight, precision).double(),
        torch.from_numpy(layer.qkv_bias).double(),
    )
    return out.numpy(), qkv.numpy()


def check(layer, neighbours, tier, precision, seed=0):
    rng = np.random.default_rng(seed)
    features, x = rng.normal(0, 1, (2, neighbours.shape[1], layer.channels)).astype(np.float32)
    status, out, qkv = conv_qkv(layer, neighbours, features, x, tier, precision)
    assert status == OK
    wanted_out, wanted_qkv = expected(layer, neighbours, features, x, precision)
    np.testing.assert_allclose(out, wanted_out, atol=2e-5, rtol=2e-5)
    # one rounding of the result, and unit values that fell to the other side of a rounding
    tolerance = 2e-5 if precision == FLOAT32 else 2**-7
    np.testing.assert_allclose(qkv, wanted_qkv, atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def pyramid() -> VoxelPyramid:
    """A real scan's."""
    voxels = voxelise(LidarScan.read(SCAN).xyz[::6], 0.3)
    coords = torch.from_numpy(voxels.coords)
    return build_pyramid(coords, torch.zeros(len(coords), dtype=torch.int64), PTv3Config())


@pytest.mark.parametrize(
    ("channels", "level"), [(16, 0), (32, 1), (48, 1), (64, 2), (128, 3), (256, 4)]
)
@every_form
def test_equals_the_first_half_of_a_block(pyramid, tier, precision, channels, level):
    stage = pyramid.stages[level]
    neighbours = dense_table(stage.neighbours, len(stage))
    block = random_block(channels)
    layer = fold(block)
    check(layer, neighbours, tier, precision)

    features, x = torch.randn(2, len(stage), channels)
    with torch.no_grad():
        out = x + block.conv_norm(block.conv_linear(block.conv(features, stage, stage.neighbours)))
        qkv = block.attention.qkv(block.attention_norm(out))
    status, out_found, qkv_found = conv_qkv(
        layer, neighbours, features.numpy(), x.numpy(), tier, precision
    )
    assert status == OK
    tolerance = 1e-4 if precision == FLOAT32 else 0.05
    np.testing.assert_allclose(out_found, out.numpy(), atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(qkv_found, qkv.numpy(), atol=tolerance, rtol=tolerance)


@given(
    rows=st.integers(1, 40) | st.integers(505, 520) | st.integers(1020, 1030),
    channels=st.sampled_from([16, 32, 48, 80]),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**16),
    form=st.sampled_from(FORMS),
)
@settings(max_examples=40)
def test_any_table(rows, channels, density, seed, form):
    check(random_layer(channels, seed), random_table(rows, density, seed), *form, seed)


@pytest.mark.parametrize("channels", [96, 160, 512])
def test_wide_layers_are_cut_into_panels_and_blocks(channels):
    layer, table = random_layer(channels), random_table(29, 0.3)
    for tier, precision in FORMS:
        check(layer, table, tier, precision)


@every_form
def test_no_rows(tier, precision):
    nothing = np.zeros((0, 16), np.float32)
    status, _, qkv = conv_qkv(
        random_layer(16), np.zeros((27, 0), np.int32), nothing, nothing, tier, precision
    )
    assert status == OK
    assert len(qkv) == 0


@every_form
def test_in_place_and_any_number_of_threads_give_the_same_bits(tier, precision):
    layer, table = random_layer(48), random_table(1500, 0.2)
    features, x = np.random.default_rng(1).normal(0, 1, (2, 1500, 48)).astype(np.float32)
    _, out, qkv = conv_qkv(layer, table, features, x, tier, precision)
    for threads in (1, 2, 3):
        in_place = x.copy()
        _, _, again = conv_qkv(layer, table, features, in_place, tier, precision, threads, in_place)
        assert in_place.tobytes() == out.tobytes()
        assert again.tobytes() == qkv.tobytes()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -3e38])
@every_form
def test_poisoned_features_stay_with_their_neighbours(tier, precision, poison):
    layer, table = random_layer(32), random_table(600, 0.003)
    features, x = np.random.default_rng(2).normal(0, 1, (2, 600, 32)).astype(np.float32)
    _, out, qkv = conv_qkv(layer, table, features, x, tier, precision)
    features[7, 3] = poison
    status, out_found, qkv_found = conv_qkv(layer, table, features, x, tier, precision)
    assert status == OK
    far = ~(table == 7).any(0)
    assert 0 < (~far).sum() < 100
    assert out_found[far].tobytes() == out[far].tobytes()
    assert qkv_found[far].tobytes() == qkv[far].tobytes()
    if not np.isfinite(poison):
        assert np.isnan(out_found[7]).all()


@pytest.mark.parametrize(
    ("change", "channels"),
    [((0, 0, 5), 16), ((0, 0, -2), 16), ((13, 1, 0), 16), ((13, 1, 1), 24), ((13, 1, 1), 0)],
)
def test_the_hook_refuses_what_would_leave_the_buffers(change, channels):
    table = random_table(5, 0.5)
    table[change[:2]] = change[2]
    x = np.zeros((5, 48), np.float32)
    layer = random_layer(16)
    layer.conv_bias = np.zeros(channels, np.float32)
    assert conv_qkv(layer, table, x, x)[0] == BAD_ARGUMENT


def test_unknown_tiers_precisions_and_thread_counts_are_refused():
    layer, x = random_layer(16), np.zeros((1, 16), np.float32)
    for tier, precision, threads in ((4, 0, 1), (-1, 0, 1), (0, 1, 1), (0, 7, 1), (0, 0, 0)):
        assert conv_qkv(layer, LONE, x, x, tier, precision, threads)[0] == BAD_ARGUMENT
