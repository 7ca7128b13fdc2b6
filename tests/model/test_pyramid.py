# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid, draw_permutation
from tests.model import reference

voxel_sets = st.lists(
    st.tuples(st.integers(0, 2), *[st.integers(0, 40)] * 3), min_size=1, max_size=60, unique=True
)


def as_tensors(voxels):
    names = sorted({v[0] for v in voxels})  # scan indices without gaps
    rows = torch.tensor(sorted((names.index(b), x, y, z) for b, x, y, z in voxels))
    return rows[:, 1:], rows[:, 0]


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_serialisation_equals_the_public_code(case):
    _, coords, scan = reference.case_input(case)
    curves = len(reference.case_config(case).curves)
    stages = len(reference.case_config(case).encoder_depths)
    # one block per curve, so that every order is built
    config = reference.case_config(case, encoder_depths=(curves,) * stages)
    pyramid = build_pyramid(coords, scan, config)
    assert pyramid.depth == reference.info()[case]["serialized_depth"]
    order = torch.stack([walk.order for walk in pyramid.stages[0].orders])
    assert torch.equal(order.int(), reference.tensors()[f"{case}/serial/order"])


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_pooling_equals_the_public_code(case):
    t = reference.tensors()
    _, coords, scan = reference.case_input(case)
    position = t[f"{case}/in/coord"]
    pyramid = build_pyramid(coords, scan, reference.case_config(case))
    for s in range(1, len(pyramid.stages)):
        prefix = f"{case}/mid/enc.enc{s}.down"
        child, stage = pyramid.stages[s - 1], pyramid.stages[s]
        assert torch.equal(stage.coords.int(), t[f"{prefix}/grid_coord"])
        assert torch.equal(child.parent.int(), t[f"{prefix}/pooling_inverse"])
        assert list(stage.offsets[1:]) == t[f"{prefix}/offset"].tolist()
        index = child.parent[:, None].expand(-1, 3)
        position = torch.zeros(len(stage), 3).scatter_reduce(
            0, index, position, "mean", include_self=False
        )
        torch.testing.assert_close(position, t[f"{prefix}/coord"], rtol=0, atol=1e-5)


@given(voxel_sets, st.integers(0, 99))
def test_structure(voxels, seed):
    coords, scan = as_tensors(voxels)
    config = PTv3Config()
    permutation = draw_permutation(config, np.random.default_rng(seed))
    pyramid = build_pyramid(coords, scan, config, permutation=permutation)
    assert len(pyramid.stages) == 5
    for stage, coarser in zip(pyramid.stages, (*pyramid.stages[1:], None), strict=True):
        rows = torch.arange(len(stage))
        assert stage.offsets[-1] == len(stage)
        for walk in stage.orders:
            assert torch.equal(walk.order[walk.inverse], rows)
            assert torch.equal(stage.scan[walk.order], stage.scan)  # scans stay contiguous
        if coarser is None:
            assert stage.parent is None
            continue
        assert torch.equal(coarser.coords[stage.parent], stage.coords >> 1)
        assert torch.equal(coarser.scan[stage.parent], stage.scan)
        assert torch.equal(stage.parent.unique(), torch.arange(len(coarser)))


@given(voxel_sets, st.integers(0, 99))
def test_coarse_rows_do_not_depend_on_the_permutation(voxels, seed):
    coords, scan = as_tensors(voxels)
    config = PTv3Config()
    plain = build_pyramid(coords, scan, config)
    permutation = draw_permutation(config, np.random.default_rng(seed))
    shuffled = build_pyramid(coords, scan, config, permutation=permutation)
    for a, b in zip(plain.stages, shuffled.stages, strict=True):
        assert torch.equal(a.coords, b.coords)


def test_wrong_input_is_refused():
    config = PTv3Config()
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ScanError, match="without voxels"):
        build_pyramid(none.view(0, 3), none, config)
    one = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ScanError, match="17 bits"):
        build_pyramid(torch.tensor([[1 << 16, 0, 0]]), one, config)
    with pytest.raises(ScanError, match="depth is 5"):
        build_pyramid(torch.tensor([[100, 0, 0]]), one, config, depth=5)
