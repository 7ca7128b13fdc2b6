# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.neighbours import build_neighbours

voxel_sets = st.lists(
    st.tuples(st.integers(0, 1), *[st.integers(0, 5)] * 3), min_size=1, max_size=80, unique=True
)


@pytest.mark.parametrize("size", [3, 5])
@given(voxel_sets)
def test_pairs_equal_brute_force(size, voxels):
    rows = torch.tensor(sorted(voxels, key=lambda v: v[0]))
    scan, coords = rows[:, 0], rows[:, 1:]
    table = build_neighbours(coords, scan, size)
    half = size // 2
    expected = set()
    for i in range(len(rows)):
        delta = coords - coords[i]
        near = (delta.abs() <= half).all(1) & (scan == scan[i]) & (delta != 0).any(1)
        for j in near.nonzero().squeeze(1).tolist():
            kx, ky, kz = (delta[j] + half).tolist()
            expected.add(((kx * size + ky) * size + kz, i, j))
    offsets = torch.repeat_interleave(torch.arange(size**3), torch.tensor(table.counts))
    found = zip(
        offsets.tolist(), table.output_rows.tolist(), table.input_rows.tolist(), strict=True
    )
    found = list(found)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_duplicate_voxels_are_refused():
    coords = torch.tensor([[1, 2, 3], [0, 0, 0], [1, 2, 3]])
    with pytest.raises(ScanError, match="twice"):
        build_neighbours(coords, torch.zeros(3, dtype=torch.int64), 3)
    build_neighbours(coords, torch.tensor([0, 0, 1]), 3)  # in different scans they are different
