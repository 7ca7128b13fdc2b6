# SPDX-License-Identifier: Apache-2.0
"""Compiled thinning against its twins in model/: equal entry for entry."""

import ctypes
import weakref
from enum import IntEnum

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.engine.library import EngineMissingError, load_library, pointer
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import CURVES, MAX_DEPTH, interleave
from pointdistill_ros.model.degradation import LADDER, Degradation
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.thinned_pyramid import thin_pyramid
from pointdistill_ros.model.thinning import (
    Thinning,
    cells_of,
    count_voxels,
    near_limit,
    sensor_cell,
    thin,
)
from pointdistill_ros.model.voxels import canonical_points, voxelise

try:
    LIBRARY = load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

OK, BAD_ARGUMENT, _, NOT_SORTED = range(4)
GRID = 0.5
_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
LIBRARY.pd_thinning_create.restype = _P
LIBRARY.pd_thinning_destroy.argtypes = [_P]
LIBRARY.pd_thinning_thin.argtypes = [_P, _P, _I32, _P, _I64, _I32, _I32]
LIBRARY.pd_thinning_count.argtypes = [_P, _I32, _P, _I64, _I32, _P, _P]
LIBRARY.pd_thinning_pyramid.argtypes = [_P, _P, _I32, _I32, _I32, _P, _P, _I32, _P, _P, _I32]
LIBRARY.pd_thinning_voxels.argtypes = [
    _P, _P, _P, _I32, ctypes.c_double, ctypes.c_float, _P, _I64, _I32, _I32
]  # fmt: skip
LIBRARY.pd_thinning_array.argtypes = [_P, _I32, _I32, _P, _I64]
LIBRARY.pd_thinning_array.restype = _I64


class Array(IntEnum):
    """Arrays by their number in hooks_thinning.cpp."""

    KEPT = 0
    OWNER = 1
    CODE = 2
    OFFSETS = 3
    PARENT = 4
    CHILD_BEGIN = 5
    NEIGHBOURS = 6
    STEM_BEGIN = 7
    STEM_ROW = 8
    STEM_OFFSET = 9
    VOXEL_CODE = 10
    VOXEL_POINT = 11
    VOXEL_INVERSE = 12
    ORDER = 13


DTYPES = {Array.CODE: np.uint64, Array.VOXEL_CODE: np.uint64, Array.STEM_OFFSET: np.uint8}


class Native:
    """One arena and what was made in it last."""

    def __init__(self):
        self.handle = LIBRARY.pd_thinning_create()
        weakref.finalize(self, LIBRARY.pd_thinning_destroy, self.handle)

    def thin(self, code, sensor, step):
        code = np.ascontiguousarray(code, np.uint64)
        sensor = np.array(sensor[:2], np.int32)
        return LIBRARY.pd_thinning_thin(
            self.handle, pointer(code), len(code), pointer(sensor), *arguments(step)
        )

    def pyramid(self, code, scans, config, thinning, threads=1):
        code = np.ascontiguousarray(code, np.uint64)
        shift = np.array([s.bit_length() - 1 for s in config.strides], np.int32)
        curves = np.full(len(shift) + 1, 0b1111, np.uint32)
        return LIBRARY.pd_thinning_pyramid(
            self.handle, pointer(code), len(code), scans, len(curves), pointer(shift),
            pointer(curves), len(thinning.kept), pointer(thinning.kept), pointer(thinning.owner),
            threads,
        )  # fmt: skip

    def array(self, array, stage=0):
        size = LIBRARY.pd_thinning_array(self.handle, array, stage, None, 0)
        if size < 0:
            return None
        kind = Array.ORDER if array >= Array.ORDER else Array(array)
        out = np.empty(size // np.dtype(DTYPES.get(kind, np.int32)).itemsize,
                       DTYPES.get(kind, np.int32))  # fmt: skip
        assert LIBRARY.pd_thinning_array(self.handle, array, stage, pointer(out), size) == size
        return out


NATIVE = Native()


def arguments(step):
    limit = near_limit(step.near_radius, GRID) if step.near_radius else -1
    return limit, int(step.coarse), step.max_voxels or 0


def codes(cells):
    x, y, z = np.array(sorted(cells), np.int64).reshape(-1, 3).T
    return np.sort(interleave(x, y, z))


@st.composite
def clouds(draw, most=120):
    span = draw(st.sampled_from([4, 16, 100, (1 << MAX_DEPTH) - 1]))
    cells = draw(st.sets(st.tuples(*[st.integers(0, span)] * 3), min_size=1, max_size=most))
    return codes(cells), draw(st.tuples(*[st.integers(-span, 2 * span)] * 3))


degradations = st.builds(
    Degradation,
    near_radius=st.sampled_from([0.0, 1.0, 5.0, 60.0, 1e9]),
    coarse=st.booleans(),
    max_voxels=st.none() | st.integers(1, 90),
)


@given(clouds(), degradations)
def test_thinning(cloud, step):
    code, sensor = cloud
    assert NATIVE.thin(code, sensor, step) == OK
    reference = thin(code, sensor, GRID, step)
    assert np.array_equal(NATIVE.array(Array.KEPT), reference.kept)
    assert np.array_equal(NATIVE.array(Array.OWNER), reference.owner)


@pytest.mark.parametrize("step", LADDER, ids=lambda step: step.name)
def test_every_step_on_a_street_of_voxels(step):
    rng = np.random.default_rng(3)
    xy = rng.normal(0, 1, (60_000, 2)) * rng.uniform(1, 80, (60_000, 1)) / 0.15 + 2000
    xy = xy.clip(0, 4000).astype(int)
    code = codes({(x, y, int((x + y) % 7 == 0) * (x % 9)) for x, y in xy.tolist()})
    assert NATIVE.thin(code, (2000, 2000, 3), step) == OK
    reference = thin(code, (2000, 2000, 3), GRID, step)
    assert np.array_equal(NATIVE.array(Array.KEPT), reference.kept)
    assert np.array_equal(NATIVE.array(Array.OWNER), reference.owner)


@given(clouds(), st.sampled_from([1.0, 5.0, 60.0]), st.sampled_from([(), (2,), (2, 4, 2)]))
def test_counts(cloud, radius, strides):
    code, sensor = cloud
    shift = np.array([s.bit_length() - 1 for s in strides], np.int32)
    counts = np.empty(len(strides) + 3, np.int32)
    where = np.array(sensor[:2], np.int32)
    code = code.astype(np.uint64)
    assert LIBRARY.pd_thinning_count(
        pointer(code), len(code), pointer(where), near_limit(radius, GRID), len(strides) + 1,
        pointer(shift), pointer(counts),
    ) == OK  # fmt: skip
    expected = count_voxels(code, sensor, GRID, radius, strides)
    assert counts.tolist() == [*expected.stages, expected.coarse, expected.near]


SHAPE = PTv3Config(
    encoder_depths=(4, 4, 4), encoder_channels=(16, 16, 32), encoder_heads=(1, 1, 2),
    decoder_depths=(1, 1), decoder_channels=(16, 16), decoder_heads=(1, 1), strides=(2, 4),
    patch_sizes=(16, 16, 16),
)  # fmt: skip


def dense(table, rows):
    """[size³, rows] input row per offset, -1 = none."""
    out = np.full((table.size**3, rows), -1)
    offset = np.repeat(np.arange(table.size**3), table.counts)
    out[offset, table.output_rows.numpy()] = table.input_rows.numpy()
    out[table.size**3 // 2] = np.arange(rows)
    return out


def assert_equal_pyramids(pyramid):
    for s, stage in enumerate(pyramid.stages):
        n = len(stage)
        z = interleave(*stage.coords.numpy().T) | stage.scan.numpy() << 48
        assert np.array_equal(NATIVE.array(Array.CODE, s), z.astype(np.uint64))
        assert np.array_equal(NATIVE.array(Array.OFFSETS, s), stage.offsets)
        neighbours = NATIVE.array(Array.NEIGHBOURS, s).reshape(27, n)
        assert np.array_equal(neighbours, dense(stage.neighbours, n))
        for curve, name in enumerate(CURVES):
            order = NATIVE.array(Array.ORDER + curve, s)
            if name == "z":
                order = np.arange(n) if order is None else order
            assert np.array_equal(order, stage.orders[curve].order)
        if stage.parent is not None:
            parent = stage.parent.numpy()
            assert np.array_equal(NATIVE.array(Array.PARENT, s), parent)
            begins = np.searchsorted(parent, np.arange(parent[-1] + 2))
            assert np.array_equal(NATIVE.array(Array.CHILD_BEGIN, s), begins)
    rows = len(pyramid)
    stem = dense(pyramid.stem, rows).T
    begin = NATIVE.array(Array.STEM_BEGIN)
    assert np.array_equal(np.diff(begin), (stem >= 0).sum(1))
    assert np.array_equal(NATIVE.array(Array.STEM_ROW), stem[stem >= 0])
    assert np.array_equal(NATIVE.array(Array.STEM_OFFSET), np.nonzero(stem >= 0)[1])


@settings(max_examples=50)
@given(st.lists(clouds(60), min_size=1, max_size=3), degradations, st.integers(1, 2))
def test_pyramids_of_one_or_several_scans(scans, step, threads):
    codes_, kept, owner, index = [], [], [], []
    for i, (code, sensor) in enumerate(scans):
        thinning = thin(code, sensor, GRID, step)
        kept.append(thinning.kept + sum(map(len, codes_)))
        owner.append(thinning.owner + sum(len(k) for k in kept[:-1]))
        codes_.append(code | i << 48)
        index += [i] * len(code)
    both = Thinning(np.concatenate(kept).astype(np.int32), np.concatenate(owner).astype(np.int32))
    coords = np.concatenate([cells_of(code & (1 << 48) - 1) for code in codes_])
    full = build_pyramid(torch.from_numpy(coords), torch.tensor(index), SHAPE, depth=MAX_DEPTH)
    assert NATIVE.pyramid(np.concatenate(codes_), len(scans), SHAPE, both, threads) == OK
    assert_equal_pyramids(thin_pyramid(full, both))


@settings(max_examples=30)
@given(st.integers(0, 999), degradations)
def test_voxels_of_a_scan(seed, step):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, 4, (200, 3)).astype(np.float32)
    intensity = rng.random(200, np.float32)
    xyz[rng.random(200) < 0.1] = np.nan
    valid = np.isfinite(xyz[:, 0])
    voxels = voxelise(xyz[valid], GRID)
    point = canonical_points(voxels, xyz[valid], intensity[valid], GRID)
    code = interleave(*voxels.coords.T)
    sensor = sensor_cell(xyz[valid][point[0]], code, GRID)
    thinning = thin(code, sensor, GRID, step)
    status = LIBRARY.pd_thinning_voxels(
        NATIVE.handle, pointer(xyz), pointer(intensity), len(xyz), GRID, 1000.0,
        pointer(sensor[:2].astype(np.int32)), *arguments(step),
    )  # fmt: skip
    assert status == OK
    assert np.array_equal(NATIVE.array(Array.VOXEL_CODE), code[thinning.kept].astype(np.uint64))
    rows = np.flatnonzero(valid)
    assert np.array_equal(NATIVE.array(Array.VOXEL_POINT), rows[point[thinning.kept]])
    inverse = NATIVE.array(Array.VOXEL_INVERSE)
    assert (inverse[~valid] == -1).all()
    assert np.array_equal(inverse[valid], thinning.owner[voxels.inverse])


def test_what_cannot_be_is_refused_and_nothing_is_left_behind():
    step, sensor = Degradation(coarse=True), np.zeros(2, np.int32)
    for code in ([3, 2], [5, 5], [1, 1 << 48]):
        assert NATIVE.thin(np.array(code), sensor, step) == NOT_SORTED
        assert NATIVE.array(Array.KEPT) is None
    code = np.array([1, 2], np.uint64)
    thin_codes = LIBRARY.pd_thinning_thin
    where = pointer(sensor)
    assert thin_codes(NATIVE.handle, None, 2, where, -1, 1, 0) == BAD_ARGUMENT
    assert thin_codes(NATIVE.handle, pointer(code), -1, where, -1, 1, 0) == BAD_ARGUMENT
    assert thin_codes(NATIVE.handle, pointer(code), 2, None, -1, 1, 0) == BAD_ARGUMENT
    assert thin_codes(NATIVE.handle, pointer(code), 2, where, -1, 1, -5) == BAD_ARGUMENT
    far = np.array([0, -(1 << 31)], np.int32)
    assert thin_codes(NATIVE.handle, pointer(code), 2, pointer(far), 4, 0, 0) == BAD_ARGUMENT
    assert NATIVE.thin(np.zeros(0, np.uint64), sensor, step) == OK
    assert len(NATIVE.array(Array.KEPT)) == 0
    for kept, owner in (([2], [0, 0]), ([1, 0], [0, 1]), ([0], [0, 1]), ([0], [-1, 0]), ([], [])):
        wrong = Thinning(np.array(kept, np.int32), np.array(owner, np.int32))
        if len(owner) == 2 or not owner:
            assert NATIVE.pyramid(code, 1, SHAPE, wrong) == BAD_ARGUMENT
            assert NATIVE.array(Array.CODE) is None
    counts = np.empty(10, np.int32)
    shift = np.array([8, 9], np.int32)
    count = LIBRARY.pd_thinning_count
    for levels in (0, 9, 3):  # none, too many, deeper than a code
        assert (
            count(pointer(code), 2, where, 4, levels, pointer(shift), pointer(counts))
            == BAD_ARGUMENT
        )
