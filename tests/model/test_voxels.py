# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.voxels import canonical_points, voxelise
from tests.model import reference

clouds = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 60), st.just(3)),
    elements=st.floats(-30, 30, width=32),
)


def test_partition_equals_the_public_code():
    t = reference.tensors()
    xyz = t["extra/grid/coord"].numpy()
    voxels = voxelise(xyz, 0.1)
    theirs = t["extra/grid/grid_coord"].numpy()
    assert np.array_equal(voxels.coords[voxels.inverse], theirs - theirs.min(0))
    pairs = np.column_stack([voxels.inverse, t["extra/grid/inverse"].numpy()])
    assert len(np.unique(pairs, axis=0)) == len(voxels) == 1 + t["extra/grid/inverse"].max()


def test_cells_are_divided_in_float64():
    # float32 division puts this point on the other side of the border: 4.0 instead of 3.999…
    x = np.float32(0.2)
    assert np.floor(x / np.float32(0.05)) == 4 and np.floor(np.float64(x) / 0.05) == 4
    borders = (np.arange(1, 4000) * 0.05).astype(np.float32)
    xyz = np.zeros((len(borders) + 1, 3), np.float32)
    xyz[1:, 0] = borders
    voxels = voxelise(xyz, 0.05)
    expected = np.floor(xyz[:, 0].astype(np.float64) / 0.05).astype(np.int64)
    assert np.array_equal(voxels.coords[voxels.inverse, 0], expected)
    assert (expected[1:] != np.floor(borders / np.float32(0.05))).any()


@given(clouds, st.sampled_from([0.05, 0.1, 1.0, 7.0]))
def test_every_point_lies_in_its_voxel(xyz, grid_size):
    voxels = voxelise(xyz, grid_size)
    cells = np.floor(xyz.astype(np.float64) / grid_size)
    if len(xyz):
        cells -= cells.min(0)
    assert np.array_equal(voxels.coords[voxels.inverse], cells)
    assert len(np.unique(voxels.coords, axis=0)) == len(voxels)
    assert np.array_equal(voxels.inverse[voxels.point], np.arange(len(voxels)))
    assert np.array_equal(np.sort(voxels.order), np.arange(len(xyz)))
    for row in range(len(voxels)):  # first in message order
        assert voxels.point[row] == np.flatnonzero(voxels.inverse == row)[0]


@given(clouds, st.integers(0, 9), st.sampled_from([0.1, 5.0]))
def test_canonical_points_do_not_depend_on_the_order(xyz, seed, grid_size):
    rng = np.random.default_rng(seed)
    xyz = np.concatenate([xyz, xyz[: len(xyz) // 2]])  # duplicates, with other intensities
    intensity = rng.random(len(xyz)).astype(np.float32)
    shuffle = rng.permutation(len(xyz))
    chosen = []
    for points, values in ((xyz, intensity), (xyz[shuffle], intensity[shuffle])):
        voxels = voxelise(points, grid_size)
        point = canonical_points(voxels, points, values, grid_size)
        assert np.array_equal(voxels.inverse[point], np.arange(len(voxels)))
        chosen.append(np.column_stack([points[point], values[point]]))
    assert np.array_equal(*chosen)


def test_random_representatives_are_uniform():
    xyz = np.zeros((4, 3), np.float32)
    rng = np.random.default_rng(0)
    picks = np.bincount([voxelise(xyz, 0.1, rng).point[0] for _ in range(2000)], minlength=4)
    assert (np.abs(picks - 500) < 100).all()


def test_large_and_small_scans_sort_alike():
    # 16 bits per axis force the stable argsort instead of the packed sort
    rng = np.random.default_rng(1)
    xyz = rng.uniform(0, 6000, (70_000, 3)).astype(np.float32)
    voxels = voxelise(xyz, 0.1)
    assert np.array_equal(np.sort(voxels.order), np.arange(len(xyz)))
    assert np.array_equal(voxels.inverse[voxels.point], np.arange(len(voxels)))


def test_a_scan_too_wide_is_refused():
    xyz = np.array([[0, 0, 0], [7000, 0, 0]], np.float32)
    with pytest.raises(ScanError, match="70000 cells"):
        voxelise(xyz, 0.1)
