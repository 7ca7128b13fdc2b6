# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import MAX_DEPTH, interleave
from pointdistill_ros.model.degradation import LADDER, NONE, Degradation, ladder
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.thinned_pyramid import thin_pyramid
from pointdistill_ros.model.thinning import (
    Thinning,
    cells_of,
    count_voxels,
    sensor_cell,
    thin,
)
from pointdistill_ros.model.voxels import voxelise

GRID = 0.5
STRIDES = (2, 4, 2)


def codes(cells):
    """Ascending z codes of a set of cells."""
    x, y, z = np.array(sorted(cells), np.int64).reshape(-1, 3).T
    return np.sort(interleave(x, y, z))


@st.composite
def clouds(draw, most=80):
    """z codes, from a few dense blocks to scattered cells, and a sensor."""
    span = draw(st.sampled_from([4, 16, 100, 60_000]))
    cell = st.tuples(*[st.integers(0, span)] * 3)
    cells = draw(st.sets(cell, min_size=1, max_size=most))
    sensor = draw(st.tuples(*[st.integers(-span, 2 * span)] * 3))
    return codes(cells), sensor


degradations = st.builds(
    Degradation,
    near_radius=st.sampled_from([0.0, 1.0, 5.0, 60.0, 1e9]),
    coarse=st.booleans(),
    max_voxels=st.none() | st.integers(1, 60),
)


@given(clouds(), degradations)
def test_every_voxel_has_a_spokesman_in_its_own_cell(cloud, degradation):
    code, sensor = cloud
    thinning = thin(code, sensor, GRID, degradation)
    assert thinning.kept.dtype == thinning.owner.dtype == np.int32
    assert np.array_equal(np.unique(thinning.kept), thinning.kept)
    assert np.array_equal(thinning.owner[thinning.kept], np.arange(len(thinning)))
    assert (np.diff(thinning.owner) >= 0).all()
    # a group is all voxels of one octree cell
    for group in range(len(thinning)):
        members = code[thinning.owner == group]
        level = next(k for k in range(MAX_DEPTH + 1) if len(np.unique(members >> (3 * k))) == 1)
        in_cell = code >> (3 * level) == members[0] >> (3 * level)
        assert np.array_equal(code[in_cell], members)


@given(clouds(), degradations)
def test_a_cap_is_met_and_not_undercut_by_more_than_a_cell(cloud, degradation):
    code, sensor = cloud
    before = len(thin(code, sensor, GRID, Degradation(
        near_radius=degradation.near_radius, coarse=degradation.coarse
    )))  # fmt: skip
    after = len(thin(code, sensor, GRID, degradation))
    cap = degradation.max_voxels
    if cap is None or before <= cap:
        assert after == before
    else:
        assert cap - 6 <= after <= cap or after == 1


@given(clouds(), st.sampled_from([1.0, 5.0, 60.0]))
def test_the_near_field_is_thinned_and_the_rest_is_not(cloud, radius):
    code, sensor = cloud
    thinning = thin(code, sensor, GRID, Degradation(near_radius=radius))
    parents = cells_of(code) // 2
    apart = GRID * np.hypot(*(2 * parents[:, :2] + 1 - np.array(sensor[:2])).T)
    size = np.bincount(thinning.owner)[thinning.owner]
    for parent, distance in zip(parents, apart, strict=True):
        inside = (parents == parent).all(1)
        expected = inside.sum() if distance <= radius else 1
        assert (size[inside] == expected).all()


@given(clouds())
def test_steps_go_down_in_order(cloud):
    code, sensor = cloud
    steps = ladder(near_radius=10.0, caps=(40, 20, 10, 5, 2, 1))
    kept = [len(thin(code, sensor, GRID, step)) for step in steps]
    assert kept[0] == len(code) and kept[-1] == 1
    assert all(a >= b for a, b in pairwise(kept))
    parents = len(np.unique(code >> 3))
    assert kept[2] == parents  # every parent cell keeps one
    for step, count in zip(steps[3:], kept[3:], strict=True):
        assert count == min(parents, count)
        assert count <= step.max_voxels


@given(clouds(), st.sampled_from([1.0, 10.0, 60.0]))
def test_counts_are_those_of_thinning(cloud, radius):
    code, sensor = cloud
    steps = ladder(radius, caps=(40, 20, 10, 5, 2, 1))
    table = count_voxels(code, sensor, GRID, radius, STRIDES).rows(steps)
    shifts = np.cumsum([0, 1, 2, 1])
    for step, row in zip(steps, table, strict=True):
        kept = code[thin(code, sensor, GRID, step).kept]
        stages = [len(np.unique(kept >> (3 * shift))) for shift in shifts]
        if step.max_voxels is None:
            assert row == stages
        else:
            assert all(a >= b for a, b in zip(row, stages, strict=True))
            assert row[0] - stages[0] <= 6
    for before, after in pairwise(table):
        assert all(a >= b for a, b in zip(before, after, strict=True))


def test_the_densest_cells_go_first_then_the_nearest():
    full = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    far_full = [(x + 400, y, z) for x, y, z in full]
    pair = [(100, 0, 0), (101, 0, 0)]
    far_pair = [(300, 0, 0), (301, 0, 0)]
    code = codes(full + far_full + pair + far_pair)
    groups = []
    for most in (20 - 7, 20 - 14, 20 - 15, 20 - 16):
        thinning = thin(code, (0, 0, 0), GRID, Degradation(max_voxels=most))
        assert len(thinning) == most
        parents = cells_of(code)[:, 0] // 2
        size = np.bincount(thinning.owner)[thinning.owner]
        groups.append(sorted({int(p) for p in parents[size > 1]}))
    assert groups == [[0], [0, 200], [0, 50, 200], [0, 50, 150, 200]]


def test_the_voxel_nearest_to_the_centroid_speaks_and_the_first_of_equals():
    corner = codes([(0, 0, 0), (1, 0, 0), (0, 1, 0)])  # the corner is nearest to the other two
    coarse = Degradation(coarse=True)
    assert cells_of(corner)[thin(corner, (0, 0, 0), GRID, coarse).kept].tolist() == [[0, 0, 0]]
    mirrored = codes([(1, 1, 1), (0, 1, 1), (1, 0, 1)])
    assert cells_of(mirrored)[thin(mirrored, (0, 0, 0), GRID, coarse).kept].tolist() == [[1, 1, 1]]
    pair = codes([(0, 0, 0), (1, 1, 1)])
    assert thin(pair, (0, 0, 0), GRID, coarse).kept.tolist() == [0]


@settings(max_examples=20)
@given(st.integers(0, 99), st.sampled_from([0.3, 1.0]))
def test_sensor_cell_and_codes_follow_from_the_voxels(seed, grid_size):
    xyz = np.random.default_rng(seed).normal(0, 20, (50, 3)).astype(np.float32)
    voxels = voxelise(xyz, grid_size)
    x, y, z = voxels.coords.T
    code = interleave(x, y, z)
    assert np.array_equal(cells_of(code), voxels.coords)
    assert np.array_equal(cells_of(code.astype(np.uint64)), voxels.coords)
    lowest = np.floor(xyz.astype(np.float64) / grid_size).min(0)
    assert np.array_equal(sensor_cell(xyz[voxels.point[0]], code, grid_size), -lowest)


@pytest.mark.parametrize("code", [[3, 2], [5, 5], [-1, 4], [1, 1 << 48]])
def test_codes_that_cannot_be_are_refused(code):
    with pytest.raises(ScanError, match="ascend"):
        thin(np.array(code), (0, 0, 0), GRID, NONE)


def test_an_empty_scan_stays_empty():
    empty = np.zeros(0, np.uint64)
    for step in LADDER:
        thinning = thin(empty, (0, 0, 0), GRID, step)
        assert len(thinning) == len(thinning.owner) == 0
    assert count_voxels(empty, (0, 0, 0), GRID, 20.0, STRIDES).rows(LADDER) == [[0] * 4] * len(
        LADDER
    )


def test_degradations_that_cannot_be_are_refused():
    for bad in ({"near_radius": -1.0}, {"near_radius": np.nan}, {"max_voxels": 0}):
        with pytest.raises(ConfigError):
            Degradation(**bad)
    with pytest.raises(ConfigError, match="fall"):
        ladder(caps=(10, 10))


SMALL = PTv3Config(
    num_classes=3, encoder_depths=(1, 1, 2), encoder_channels=(16, 16, 32), encoder_heads=(1, 1, 2),
    decoder_depths=(1, 1), decoder_channels=(16, 16), decoder_heads=(1, 1), strides=(2, 4),
    patch_sizes=(16, 16, 16),
)  # fmt: skip


def scan_pyramid(parts):
    coords = np.concatenate([cells_of(code) for code in parts])
    scan = np.repeat(np.arange(len(parts)), [len(code) for code in parts])
    return build_pyramid(torch.from_numpy(coords), torch.from_numpy(scan), SMALL, depth=MAX_DEPTH)


def pairs(table):
    """{(offset, output, input)} of a neighbour table."""
    offset = np.repeat(np.arange(table.size**3), table.counts)
    return set(
        zip(offset.tolist(), table.output_rows.tolist(), table.input_rows.tolist(), strict=True)
    )


@settings(max_examples=40)
@given(clouds(), degradations)
def test_a_thinned_pyramid_lends_neighbours_and_keeps_the_rest(cloud, degradation):
    code, sensor = cloud
    full = scan_pyramid([code])
    thinning = thin(code, sensor, GRID, degradation)
    thinned = thin_pyramid(full, thinning)
    plain = scan_pyramid([code[thinning.kept]])
    kept, owner = thinning.kept, thinning.owner
    rows = {int(row): i for i, row in enumerate(kept)}
    assert pairs(thinned.stem) == {
        (k, rows[o], int(owner[i])) for k, o, i in pairs(full.stem) if o in rows
    }
    for s, (stage, reference) in enumerate(zip(thinned.stages, plain.stages, strict=True)):
        assert torch.equal(stage.coords, reference.coords)
        assert torch.equal(stage.scan, reference.scan)
        assert stage.offsets == reference.offsets
        for walk, other in zip(stage.orders, reference.orders, strict=True):
            assert torch.equal(walk.order, other.order)
            assert torch.equal(walk.inverse, other.inverse)
        assert (stage.parent is None) == (reference.parent is None)
        if stage.parent is not None:
            assert torch.equal(stage.parent, reference.parent)
        # what touched still touches; what did not exist is still missing
        assert pairs(stage.neighbours) >= pairs(reference.neighbours)
        degree = np.bincount(full.stages[s].neighbours.output_rows, minlength=len(full.stages[s]))
        all_coords = full.stages[s].coords.tolist()
        at = [all_coords.index(cell) for cell in stage.coords.tolist()]
        lent = np.bincount(stage.neighbours.output_rows, minlength=len(stage))
        assert np.array_equal(lent, degree[at])


@settings(max_examples=40)
@given(clouds(), clouds())
def test_scans_of_a_batch_are_thinned_apart(first, second):
    step = Degradation(coarse=True)
    parts = [(code, thin(code, sensor, GRID, step)) for code, sensor in (first, second)]
    (code, one), (_, two) = parts
    both = Thinning(
        np.concatenate([one.kept, two.kept + len(code)]).astype(np.int32),
        np.concatenate([one.owner, two.owner + len(one)]).astype(np.int32),
    )
    batch = thin_pyramid(scan_pyramid([code for code, _ in parts]), both)
    alone = [thin_pyramid(scan_pyramid([code]), thinning) for code, thinning in parts]
    for stage, a, b in zip(batch.stages, alone[0].stages, alone[1].stages, strict=True):
        assert stage.offsets == (0, len(a), len(a) + len(b))
        assert torch.equal(stage.coords, torch.cat([a.coords, b.coords]))
        shifted = {(k, o + len(a), i + len(a)) for k, o, i in pairs(b.neighbours)}
        assert pairs(stage.neighbours) == pairs(a.neighbours) | shifted


def test_the_function_is_whole_where_nothing_is_thinned():
    torch.manual_seed(0)
    network = PTv3(SMALL).eval()
    rng = np.random.default_rng(0)
    code = codes({(int(x), int(y), 0) for x, y in rng.integers(0, 40, (300, 2))})
    features = torch.from_numpy(rng.random((len(code), 4), np.float32))
    full = scan_pyramid([code])
    none = thin(code, (20, 20, 0), GRID, NONE)
    with torch.inference_mode():
        assert torch.equal(network(features, thin_pyramid(full, none)), network(features, full))
