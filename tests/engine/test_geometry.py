# SPDX-License-Identifier: Apache-2.0
"""Compiled geometry against its twins in model/: equal entry for entry."""

import ctypes
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pointdistill_ros import LidarScan
from pointdistill_ros.engine.library import EngineMissingError, load_library, pointer
from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import CURVES, MAX_DEPTH, interleave
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.voxels import canonical_points, voxelise

try:
    LIBRARY = load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

SCAN = Path(__file__).parents[1] / "data" / "pandaset_003_00.npz"
OK, BAD_ARGUMENT, TOO_FAR, NOT_SORTED = range(4)
PORTABLE, AVX512 = 0, 2
ALL_CURVES = 0b1111

_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
LIBRARY.pd_geometry_create.restype = _P
LIBRARY.pd_geometry_destroy.argtypes = [_P]
LIBRARY.pd_geometry_reset.argtypes = [_P]
LIBRARY.pd_geometry_memory.argtypes = [_P]
LIBRARY.pd_geometry_memory.restype = _I64
LIBRARY.pd_geometry_voxelise.argtypes = [_P, _P, _P, _I32, ctypes.c_double, ctypes.c_float, _I32]
LIBRARY.pd_geometry_build.argtypes = [_P, _P, _I32, _I32, _I32, _P, _P, _I32]
LIBRARY.pd_geometry_array.argtypes = [_P, _I32, _I32, _P, _I64]
LIBRARY.pd_geometry_array.restype = _I64
LIBRARY.pd_geometry_scatter.argtypes = [_P, _I32, _I32, *[_P] * 6, _I32]
LIBRARY.pd_geometry_cell.argtypes = [ctypes.c_uint64, _P]


class Array(IntEnum):
    """Arrays by their number in hooks_geometry.cpp."""

    VOXEL_CODE = 0
    VOXEL_INVERSE = 1
    VOXEL_POINT = 2
    STEM_BEGIN = 3
    STEM_ROW = 4
    STEM_OFFSET = 5
    CODE = 6
    OFFSETS = 7
    PARENT = 8
    CHILD_BEGIN = 9
    NEIGHBOURS = 10
    ORDER = 11


DTYPES = {Array.VOXEL_CODE: np.uint64, Array.CODE: np.uint64, Array.STEM_OFFSET: np.uint8}


class Geometry:
    """One arena with the voxels and the pyramid built last."""

    def __init__(self):
        self.handle = LIBRARY.pd_geometry_create()

    def __del__(self):
        LIBRARY.pd_geometry_destroy(self.handle)

    def reset(self):
        assert LIBRARY.pd_geometry_reset(self.handle) == OK

    @property
    def memory(self):
        return LIBRARY.pd_geometry_memory(self.handle)

    def array(self, which, stage=0, curve=0):
        """Copy of an array, None where it is absent."""
        number = which + curve
        size = LIBRARY.pd_geometry_array(self.handle, number, stage, None, 0)
        if size < 0:
            return None
        dtype = np.dtype(DTYPES.get(which, np.int32))
        out = np.empty(size // dtype.itemsize, dtype)
        assert LIBRARY.pd_geometry_array(self.handle, number, stage, pointer(out), size) == size
        return out

    def voxelise(self, xyz, intensity, grid_size, max_range=np.inf, threads=1):
        return LIBRARY.pd_geometry_voxelise(
            self.handle, pointer(xyz), pointer(intensity), len(xyz), grid_size, max_range, threads
        )

    def build(self, code, scans, strides=(), curves=(ALL_CURVES,), threads=1, rows=None):
        shift = np.array([stride.bit_length() - 1 for stride in strides] or [0], np.int32)
        masks = np.array(curves, np.uint32)
        return LIBRARY.pd_geometry_build(
            self.handle,
            pointer(code),
            len(code) if rows is None else rows,
            scans,
            len(strides) + 1,
            pointer(shift),
            pointer(masks),
            threads,
        )


@pytest.fixture(params=["portable", "best"], autouse=True, scope="module")
def tier(request):
    before = LIBRARY.pd_geometry_tier(PORTABLE if request.param == "portable" else -1)
    yield
    LIBRARY.pd_geometry_tier(before)


# --- voxels -----------------------------------------------------------------------------------


def assert_voxels_equal(xyz, intensity, grid_size, max_range=np.inf, threads=1):
    with np.errstate(invalid="ignore"):
        valid = (np.abs(xyz) <= np.float32(max_range)).all(1)
    kept = np.flatnonzero(valid)
    expected = voxelise(xyz[kept], grid_size)
    point = canonical_points(expected, xyz[kept], intensity[kept], grid_size)
    inverse = np.full(len(xyz), -1)
    inverse[kept] = expected.inverse
    geometry = Geometry()
    assert geometry.voxelise(xyz, intensity, grid_size, max_range, threads) == OK
    assert np.array_equal(geometry.array(Array.VOXEL_CODE), interleave(*expected.coords.T))
    assert np.array_equal(geometry.array(Array.VOXEL_INVERSE), inverse)
    assert np.array_equal(geometry.array(Array.VOXEL_POINT), kept[point])
    return geometry


wild = st.one_of(
    st.floats(-30, 30, width=32),
    st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38, 0.0, -0.0, 1e-30, -1e-30]),
)
clouds = hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(3)), elements=wild)


@given(clouds, st.integers(0, 99), st.sampled_from([0.05, 0.1, 1.0, 7.0]))
def test_voxels_of_wild_points(xyz, seed, grid_size):
    xyz = np.concatenate([xyz, xyz[: len(xyz) // 2]])  # duplicates, with other intensities
    intensity = np.random.default_rng(seed).integers(0, 3, len(xyz)).astype(np.float32)
    assert_voxels_equal(xyz, intensity, grid_size, max_range=1000.0)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("spread", [0.02, 1.0, 30.0, 3000.0])
def test_voxels_of_many_points(spread, threads):
    rng = np.random.default_rng(int(spread))
    xyz = rng.normal(0, spread, (20_000, 3)).astype(np.float32)
    xyz[:5000] = rng.choice(xyz[5000:], 5000)  # duplicates
    xyz[5000:9000] = np.round(xyz[5000:9000] / 0.05) * np.float32(0.05)  # cell borders
    xyz[rng.integers(0, len(xyz), 300), rng.integers(0, 3, 300)] = np.nan
    intensity = rng.integers(0, 4, len(xyz)).astype(np.float32)
    assert_voxels_equal(xyz, intensity, 0.1 if spread > 100 else 0.05, 1600.0, threads)


def test_codes_and_points_that_need_more_than_64_bits():
    rng = np.random.default_rng(0)
    xyz = rng.integers(0, 40, (70_000, 3)).astype(np.float32)
    xyz[0], xyz[-1] = -32767, 32767
    assert_voxels_equal(xyz, np.zeros(len(xyz), np.float32), 1.0, threads=2)


def test_coordinates_beyond_32_bits_of_cells():
    xyz = np.array([[1e12, -1e12, 3e7], [1e12, -1e12, 3e7], [1e12, -1e12, 3e7 + 100]], np.float32)
    assert_voxels_equal(xyz, np.array([2, 1, 0], np.float32), 0.5)


def test_a_scan_too_wide_is_refused():
    intensity = np.zeros(2, np.float32)
    geometry = Geometry()
    edge = np.array([[0, 0, 0], [0, 65535, 0]], np.float32)
    assert_voxels_equal(edge, intensity, 1.0)
    edge[1, 1] = 65536
    with pytest.raises(ScanError):
        voxelise(edge, 1.0)
    for far in (edge, edge * np.float32(1e30), np.array([[-np.inf] * 3, [0] * 3], np.float32)):
        assert geometry.voxelise(far, intensity, 1.0) == TOO_FAR
        assert geometry.array(Array.VOXEL_CODE) is None
    assert geometry.voxelise(edge, intensity, 1.0, max_range=1000.0) == OK
    assert geometry.voxelise(edge, intensity, 5e-324) == TOO_FAR


def test_no_points_and_wrong_arguments():
    geometry = Geometry()
    none = np.zeros((0, 3), np.float32)
    assert geometry.voxelise(none, none, 0.1) == OK
    assert len(geometry.array(Array.VOXEL_CODE)) == 0
    nowhere = np.full((9, 3), np.nan, np.float32)
    assert geometry.voxelise(nowhere, nowhere, 0.1) == OK
    assert (geometry.array(Array.VOXEL_INVERSE) == -1).all()
    some = np.zeros((9, 3), np.float32)
    for grid_size in (0.0, -0.1, np.nan, np.inf):
        assert geometry.voxelise(some, some, grid_size) == BAD_ARGUMENT
    assert geometry.voxelise(some, None, 0.1) == BAD_ARGUMENT
    assert geometry.voxelise(some, some, 0.1, threads=0) == BAD_ARGUMENT
    assert geometry.voxelise(some, some, 0.1, max_range=np.nan) == OK
    assert len(geometry.array(Array.VOXEL_CODE)) == 0
    for points in (-1, -(2**31)):
        status = LIBRARY.pd_geometry_voxelise(
            geometry.handle, pointer(some), pointer(some), points, 0.1, 1.0, 1
        )
        assert status == BAD_ARGUMENT


@pytest.mark.parametrize("threads", [1, 2])
def test_scatter(threads):
    rng = np.random.default_rng(3)
    xyz = rng.normal(0, 1, (40_000, 3)).astype(np.float32)
    xyz[::7, 1] = np.inf
    geometry = Geometry()
    assert geometry.voxelise(xyz, xyz[:, 0].copy(), 0.1, 1000.0, threads) == OK
    inverse = geometry.array(Array.VOXEL_INVERSE)
    rows = len(geometry.array(Array.VOXEL_CODE))
    label = rng.integers(0, 19, rows).astype(np.uint8)
    values = rng.random((2, rows)).astype(np.float32)
    labels_out = np.zeros(len(xyz), np.uint8)
    values_out = np.full((2, len(xyz)), 7, np.float32)

    def scatter(rows, points):
        columns = (label, *values, labels_out, *values_out)
        return LIBRARY.pd_geometry_scatter(
            geometry.handle, rows, points, *map(pointer, columns), threads
        )

    assert scatter(rows, len(xyz) + 1) == BAD_ARGUMENT
    assert scatter(rows, len(xyz)) == OK
    known = inverse >= 0
    assert np.array_equal(labels_out, np.where(known, label[inverse], 255))
    assert np.array_equal(values_out, np.where(known, values[:, inverse], 0))


# --- pyramid ----------------------------------------------------------------------------------


def dense_table(table, rows):
    """NeighbourTable as [size³, rows]: -1 = none, identity at the centre."""
    out = torch.full((table.size**3, rows), -1)
    offset = torch.repeat_interleave(torch.arange(table.size**3), torch.tensor(table.counts))
    out[offset, table.output_rows] = table.input_rows
    out[table.size**3 // 2] = torch.arange(rows)
    return out.numpy()


def assert_pyramid_equal(coords, scan, strides, threads=1):
    """coords, scan: int64 tensors in z order per scan."""
    stages = len(strides) + 1
    config = PTv3Config(
        encoder_depths=(4,) * stages,
        encoder_channels=(16,) * stages,
        encoder_heads=(1,) * stages,
        decoder_depths=(0,) * (stages - 1),
        decoder_channels=(16,) * (stages - 1),
        decoder_heads=(1,) * (stages - 1),
        patch_sizes=(8,) * stages,
        strides=strides,
    )
    expected = build_pyramid(coords, scan, config, depth=MAX_DEPTH)
    code = (interleave(*coords.T) | scan << 48).numpy().astype(np.uint64)
    geometry = Geometry()
    scans = int(scan[-1]) + 1
    assert geometry.build(code, scans, strides, (ALL_CURVES,) * stages, threads) == OK
    shift = 0
    for s, stage in enumerate(expected.stages):
        here = interleave(*stage.coords.T) | stage.scan << 48
        assert np.array_equal(geometry.array(Array.CODE, s), here.numpy().astype(np.uint64))
        assert tuple(geometry.array(Array.OFFSETS, s)) == stage.offsets
        for c in range(len(CURVES)):
            order = geometry.array(Array.ORDER, s, c)
            if c == 0:
                assert order is None
            else:
                assert np.array_equal(order, stage.orders[c].order.numpy()), (s, CURVES[c])
        found = geometry.array(Array.NEIGHBOURS, s).reshape(27, -1)
        assert np.array_equal(found, dense_table(stage.neighbours, len(stage)))
        if stage.parent is None:
            assert geometry.array(Array.PARENT, s) is geometry.array(Array.CHILD_BEGIN, s) is None
        else:
            parent = stage.parent.numpy()
            assert np.array_equal(geometry.array(Array.PARENT, s), parent)
            rows = np.arange(len(expected.stages[s + 1]) + 1)
            begin = geometry.array(Array.CHILD_BEGIN, s)
            assert np.array_equal(begin, np.searchsorted(parent, rows))
            shift += strides[s].bit_length() - 1
    stem = dense_table(expected.stem, len(expected))
    row, offset = np.nonzero(stem.T >= 0)
    assert np.array_equal(geometry.array(Array.STEM_OFFSET), offset)
    assert np.array_equal(geometry.array(Array.STEM_ROW), stem[offset, row])
    begin = geometry.array(Array.STEM_BEGIN)
    assert np.array_equal(begin, np.searchsorted(row, np.arange(len(expected) + 1)))
    return geometry


def in_z_order(voxels):
    """Coords and scan of (scan, x, y, z), scans renumbered without gaps."""
    table = np.array(voxels, np.int64)
    scan = np.unique(table[:, 0], return_inverse=True)[1].reshape(-1)
    order = np.lexsort((interleave(*table[:, 1:].T), scan))
    return torch.from_numpy(table[order, 1:].copy()), torch.from_numpy(scan[order].copy())


def voxel_sets(scans, span, most=80):
    axis = st.integers(0, span)
    return st.lists(
        st.tuples(st.integers(0, scans - 1), axis, axis, axis),
        min_size=1,
        max_size=most,
        unique=True,
    )


all_strides = st.sampled_from([(2, 2, 2, 2), (4, 4), (2, 4, 8), (), (2,) * 7, (16, 2), (2, 256)])


@given(
    st.one_of(
        voxel_sets(1, 0),
        voxel_sets(3, 4),
        voxel_sets(2, 40),
        voxel_sets(4, 65535),
        voxel_sets(1, 9),
    ),
    all_strides,
)
def test_pyramid_of_few_voxels(voxels, strides):
    assert_pyramid_equal(*in_z_order(voxels), strides)


@pytest.mark.parametrize(("strides", "threads"), [((2, 2, 2, 2), 2), ((4, 4), 1), ((8,), 3)])
def test_pyramid_of_many_voxels(strides, threads):
    rng = np.random.default_rng(5)
    block = np.argwhere(np.ones((20, 17, 9)))  # dense: all 27 and 125 neighbours
    cloud = rng.integers(0, (300, 200, 40), (12_000, 3))
    sheet = np.column_stack([rng.integers(0, 4000, (40_000, 2)) // 20, rng.integers(7, 9, 40_000)])
    voxels = [np.insert(part, 0, b, 1) for b, part in enumerate([block, cloud, sheet])]
    coords, scan = in_z_order(np.unique(np.concatenate(voxels), axis=0))
    assert_pyramid_equal(coords, scan, strides, threads)


def test_many_scans_of_full_extent():
    rng = np.random.default_rng(6)  # scan, curve code and row together exceed 64 bits
    voxels = np.column_stack([np.arange(3000) // 6, rng.integers(0, 65536, (3000, 3))])
    assert_pyramid_equal(*in_z_order(np.unique(voxels, axis=0)), (2, 2), threads=2)


def test_only_asked_curves_are_built():
    code = np.arange(5000, dtype=np.uint64)
    geometry = Geometry()
    assert geometry.build(code, 1, (2, 2, 2), (0b0001, 0b0100, 0b1101, 0b0010)) == OK
    built = [
        [c for c in range(4) if geometry.array(Array.ORDER, s, c) is not None] for s in range(4)
    ]
    assert built == [[], [2], [2, 3], [1]]


def test_wrong_codes_and_shapes_are_refused():
    geometry = Geometry()
    code = np.arange(10, dtype=np.uint64)
    scan = np.uint64(1 << 48)
    assert geometry.build(code, 1) == OK
    for i in (1, 5, 9):
        twice = code.copy()
        twice[i] = twice[i - 1]
        assert geometry.build(twice, 1) == NOT_SORTED
        assert geometry.build(code[::-1].copy(), 1) == NOT_SORTED
        assert geometry.array(Array.CODE) is None
    two = np.concatenate([code, code | scan])
    assert geometry.build(two, 2) == OK
    for codes, scans in [
        (two, 1), (two, 3), (two, 0), (two, -1), (code | scan, 1), (code | scan, 2),
        (np.concatenate([code, code | scan << np.uint64(1)]), 2),
        (np.concatenate([code, code | scan << np.uint64(1)]), 3),
        (code, 2**31 - 1),
    ]:  # fmt: skip
        assert geometry.build(codes, scans) == BAD_ARGUMENT
    for rows in (0, -1, -(2**31)):
        assert geometry.build(code, 1, rows=rows) == BAD_ARGUMENT
    assert geometry.build(None, 1, rows=10) == BAD_ARGUMENT
    assert geometry.build(code, 1, threads=0) == BAD_ARGUMENT
    for strides in [(1,), (2**17,), (2**9, 2**8), (2,) * 8]:
        assert geometry.build(code, 1, strides, (1,) * 9) == BAD_ARGUMENT
    assert geometry.build(code, 1, (2**16,), (1, 1)) == OK


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535))
def test_cell_of_a_code(x, y, z):
    cell = np.zeros(3, np.int32)
    code = int(interleave(*np.array([[x], [y], [z]]))[0])
    LIBRARY.pd_geometry_cell(code | 5 << 48, pointer(cell))
    assert cell.tolist() == [x, y, z]


# --- a real scan ------------------------------------------------------------------------------


def real_scan():
    scan = LidarScan.read(SCAN)
    return scan.xyz.copy(), scan.intensity.copy()


def test_a_real_scan():
    xyz, intensity = real_scan()
    xyz[::1000] = np.nan
    geometry = assert_voxels_equal(xyz, intensity, 0.05, 1000.0)
    code = geometry.array(Array.VOXEL_CODE)
    assert len(code) > 40_000
    strides = (2,) * 4
    coords = np.empty((len(code), 3), np.int32)
    for row in range(len(code)):
        LIBRARY.pd_geometry_cell(int(code[row]), pointer(coords[row]))
    coords = torch.from_numpy(coords.astype(np.int64))
    geometry = assert_pyramid_equal(coords, torch.zeros(len(coords), dtype=torch.int64), strides)
    # the same bits for any number of threads
    other = Geometry()
    assert other.voxelise(xyz, intensity, 0.05, 1000.0, threads=2) == OK
    assert np.array_equal(other.array(Array.VOXEL_CODE), code)
    assert other.build(code, 1, strides, (ALL_CURVES,) * 5, threads=2) == OK
    for which in Array:
        for stage in range(5 if which >= Array.CODE else 1):
            for curve in range(4 if which == Array.ORDER else 1):
                if which > Array.VOXEL_POINT:
                    one = geometry.array(which, stage, curve)
                    assert np.array_equal(one, other.array(which, stage, curve))


def test_memory_does_not_grow_from_scan_to_scan():
    xyz, intensity = real_scan()
    geometry = Geometry()
    sizes = []
    for _ in range(4):
        geometry.reset()
        assert geometry.voxelise(xyz, intensity, 0.1, 1000.0) == OK
        code = geometry.array(Array.VOXEL_CODE)
        assert geometry.build(code, 1, (2,) * 4, (1, 1, 1, 2, 1)) == OK
        sizes.append(geometry.memory)
    assert sizes[1] == sizes[2] == sizes[3]
