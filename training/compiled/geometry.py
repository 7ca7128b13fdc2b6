# SPDX-License-Identifier: Apache-2.0
"""The geometry of a batch by compiled code: the twin of ``pointdistill_ros.model.pyramid``.

- the same VoxelPyramid, tensor for tensor, for any curve permutation and any depth up to 16 bits
- rows must come in z order within a scan, as voxelise gives them
- pairs of a kernel offset come by ascending output row; the plain form sorts them by x, y, z
Not here: convolutions' own tables (convolution.py), voxelisation.
"""

from __future__ import annotations

import ctypes
import threading
import weakref

import torch
from torch import Tensor

from pointdistill_ros.engine.library import load_library
from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.config import Permutation, PTv3Config
from pointdistill_ros.model.curves import CURVES, MAX_DEPTH
from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.pyramid import CurveOrder, Stage, VoxelPyramid, plan_pyramid

_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_TOO_FAR, _NOT_SORTED, _OUT_OF_MEMORY = 2, 3, 4


class _StageArrays(ctypes.Structure):
    """Twin of ``StageArrays`` in native/training/geometry.cpp."""

    _fields_ = (
        *((name, _P) for name in ("coords", "scan", "parent", "output_rows", "input_rows")),
        ("order", _P * len(CURVES)),
        ("inverse", _P * len(CURVES)),
    )


class _Builder:
    """A native builder; it keeps its memory from batch to batch."""

    def __init__(self) -> None:
        library = load_library()
        library.pd_training_geometry_create.restype = _P
        library.pd_training_geometry_destroy.argtypes = [_P]
        library.pd_training_geometry_build.argtypes = [
            _P, _P, _P, _I64, _I32, _I32, _P, _P, _I32, _P
        ]  # fmt: skip
        library.pd_training_geometry_stage.argtypes = [_P, _I32, _P]
        library.pd_training_geometry_stem.argtypes = [_P, _P, _P]
        self.library = library
        self.handle = library.pd_training_geometry_create()
        if not self.handle:
            raise MemoryError("no memory for the geometry of a batch")
        weakref.finalize(self, library.pd_training_geometry_destroy, self.handle)


class _PerThread(threading.local):
    """The builder of this thread: batches are made in the background, too."""

    builder: _Builder | None = None


_per_thread = _PerThread()


def build_pyramid(
    coords: Tensor,
    scan: Tensor,
    config: PTv3Config,
    depth: int | None = None,
    permutation: Permutation | None = None,
) -> VoxelPyramid:
    """All geometry of a batch; arguments and result as ``model.pyramid.build_pyramid``.

    coords: int64 [n ≥ 1, 3] on the CPU, in z order within a scan; scan: int64 [n] ascending.
    Raises ScanError when empty, when cells exceed ``depth`` or 16 bits, on duplicate voxels or rows
    in another order; EngineMissingError without the library.
    """
    depth, permutation, shifts, slots = plan_pyramid(coords, config, depth, permutation)
    walks = [
        [CURVES.index(config.curves[permutation[s][i]]) for i in range(count)]
        for s, count in enumerate(slots)
    ]
    builder = _per_thread.builder = _per_thread.builder or _Builder()
    counts = _build(builder, coords, scan, depth, shifts, walks)
    stages = tuple(_take_stage(builder, s, curves, counts) for s, curves in enumerate(walks))
    return VoxelPyramid(stages, _take_stem(builder, counts), depth, permutation)


def _build(
    builder: _Builder,
    coords: Tensor,
    scan: Tensor,
    depth: int,
    shifts: list[int],
    walks: list[list[int]],
) -> list[int]:
    """Build all stages; their rows and pairs per offset, then those of the stem."""
    n, levels = len(coords), len(walks)
    if coords.shape != (n, 3) or scan.shape != (n,):
        raise ValueError(f"coords {tuple(coords.shape)} and scan {tuple(scan.shape)} do not fit")
    masks = (ctypes.c_uint32 * levels)(*(sum(1 << c for c in set(curves)) for curves in walks))
    counts = (_I64 * (28 * levels + 125))()
    # kept here: their memory is read below
    coords, scan = _int64(coords), _int64(scan)
    status = builder.library.pd_training_geometry_build(
        builder.handle,
        coords.data_ptr(),
        scan.data_ptr(),
        n,
        depth,
        levels,
        (_I32 * max(1, len(shifts)))(*shifts),
        masks,
        torch.get_num_threads(),
        counts,
    )
    if status == _TOO_FAR:
        raise ScanError(f"voxel cells must be 0 to {(1 << MAX_DEPTH) - 1}")
    if status == _NOT_SORTED:
        raise ScanError("a voxel appears twice or rows are not in z order; voxelise before")
    if status == _OUT_OF_MEMORY:
        raise MemoryError("the geometry of a batch ran out of memory")
    if status:
        raise ValueError(f"pd_training_geometry_build refused its arguments (status {status})")
    return list(counts)


def _take_stage(builder: _Builder, s: int, curves: list[int], counts: list[int]) -> Stage:
    last = 28 * (s + 1) == len(counts) - 125
    rows, per_offset = counts[28 * s], tuple(counts[28 * s + 1 : 28 * (s + 1)])
    coords = torch.empty(rows, 3, dtype=torch.int64)
    names = torch.empty(rows, dtype=torch.int64)
    parent = None if last else torch.empty(rows, dtype=torch.int64)
    table = _empty_table(3, per_offset)
    walks = {
        c: CurveOrder(torch.empty(rows, dtype=torch.int64), torch.empty(rows, dtype=torch.int64))
        for c in set(curves)
    }
    arrays = _StageArrays(
        coords.data_ptr(),
        names.data_ptr(),
        None if parent is None else parent.data_ptr(),
        table.output_rows.data_ptr(),
        table.input_rows.data_ptr(),
    )
    for c, walk in walks.items():
        arrays.order[c] = walk.order.data_ptr()
        arrays.inverse[c] = walk.inverse.data_ptr()
    builder.library.pd_training_geometry_stage(builder.handle, s, ctypes.byref(arrays))
    offsets = (0, *torch.bincount(names).cumsum(0).tolist())
    return Stage(coords, names, offsets, tuple(walks[c] for c in curves), table, parent)


def _take_stem(builder: _Builder, counts: list[int]) -> NeighbourTable:
    table = _empty_table(5, tuple(counts[-125:]))
    builder.library.pd_training_geometry_stem(
        builder.handle, table.output_rows.data_ptr(), table.input_rows.data_ptr()
    )
    return table


def _empty_table(size: int, counts: tuple[int, ...]) -> NeighbourTable:
    pairs = sum(counts)
    return NeighbourTable(
        size,
        torch.empty(pairs, dtype=torch.int64),
        torch.empty(pairs, dtype=torch.int64),
        counts,
    )


def _int64(rows: Tensor) -> Tensor:
    if rows.device.type != "cpu" or rows.dtype != torch.int64:
        raise ValueError(f"int64 on the CPU is expected, got {rows.dtype} on {rows.device}")
    return rows.contiguous()
