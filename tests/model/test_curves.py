# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.model.curves import CURVES, encode
from tests.model import reference

curves = pytest.mark.parametrize("curve", CURVES)


@curves
@pytest.mark.parametrize("depth", [1, 3, 8, 9, 11, 16])
def test_codes_equal_the_public_code(curve, depth):
    t = reference.tensors()
    prefix = f"codes/depth{depth}"
    code = encode(t[f"{prefix}/grid_coord"].long(), depth, curve)
    code = code | t[f"{prefix}/batch"] << (3 * depth)
    assert torch.equal(code, t[f"{prefix}/{curve}"])


@curves
def test_a_curve_visits_every_cell_once(curve):
    axis = torch.arange(8)
    coords = torch.cartesian_prod(axis, axis, axis)
    assert torch.equal(encode(coords, 3, curve).sort().values, torch.arange(512))


def test_hilbert_neighbours_on_the_curve_touch_in_space():
    axis = torch.arange(16)
    coords = torch.cartesian_prod(axis, axis, axis)
    walk = coords[encode(coords, 4, "hilbert").argsort()]
    assert (walk.diff(dim=0).abs().sum(1) == 1).all()


@curves
@given(st.lists(st.tuples(*[st.integers(0, 2**15 - 1)] * 3), min_size=1), st.integers(15, 16))
def test_a_coarser_code_is_a_prefix(curve, cells, depth):
    coords = torch.tensor(cells)
    fine = encode(coords, depth, curve)
    assert torch.equal(fine >> 3, encode(coords >> 1, depth - 1, curve))
    assert (fine >= 0).all() and (fine < 1 << (3 * depth)).all()


@given(st.lists(st.tuples(*[st.integers(0, 2**10 - 1)] * 3), min_size=2, unique=True))
def test_hilbert_order_repeats_every_three_levels(cells):
    coords = torch.tensor(cells)
    order = encode(coords, 10, "hilbert").argsort()
    assert torch.equal(order, encode(coords, 13, "hilbert").argsort())
    assert torch.equal(order, encode(coords, 16, "hilbert").argsort())
