# SPDX-License-Identifier: Apache-2.0
"""The compiled geometry of a batch against model/pyramid.py: equal tensor for tensor."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ScanError
from pointdistill_ros.model import pyramid as plain
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import encode
from pointdistill_ros.model.voxels import voxelise

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

from training.compiled.geometry import build_pyramid
from training.compiled.voxels import voxelise as compiled_voxelise


def in_z_order(rows):
    """rows: (scan, x, y, z) → coords and scan as voxelise orders them."""
    rows = torch.tensor(sorted(set(rows)))
    code = encode(rows[:, 1:], 16, "z") | rows[:, 0] << 48
    rows = rows[code.argsort()]
    return rows[:, 1:].contiguous(), rows[:, 0].contiguous()


def by_output_row(table):
    """Pairs of every offset by ascending output row."""
    offset = torch.arange(table.size**3).repeat_interleave(torch.tensor(table.counts))
    order = np.lexsort((table.output_rows.numpy(), offset.numpy()))
    return table.output_rows[order], table.input_rows[order]


def assert_tables_equal(mine, twin):
    assert (mine.size, mine.counts) == (twin.size, twin.counts)
    output_rows, input_rows = by_output_row(twin)
    assert torch.equal(mine.output_rows, output_rows)
    assert torch.equal(mine.input_rows, input_rows)


def assert_equal(mine, twin):
    assert (mine.depth, mine.permutation) == (twin.depth, twin.permutation)
    assert_tables_equal(mine.stem, twin.stem)
    assert len(mine.stages) == len(twin.stages)
    for a, b in zip(mine.stages, twin.stages, strict=True):
        assert torch.equal(a.coords, b.coords) and a.coords.dtype == b.coords.dtype
        assert torch.equal(a.scan, b.scan)
        assert a.offsets == b.offsets
        assert_tables_equal(a.neighbours, b.neighbours)
        assert len(a.orders) == len(b.orders)
        for walk, other in zip(a.orders, b.orders, strict=True):
            assert torch.equal(walk.order, other.order)
            assert torch.equal(walk.inverse, other.inverse)
        assert (a.parent is None) == (b.parent is None)
        assert a.parent is None or torch.equal(a.parent, b.parent)


cells = st.one_of(st.integers(0, 6), st.integers(0, 300))
voxel_sets = st.lists(
    st.tuples(st.sampled_from([0, 1, 4]), cells, cells, cells), min_size=1, max_size=80
)
configs = st.sampled_from(
    [
        PTv3Config(),
        PTv3Config(encoder_depths=(4, 3, 2, 2, 6), strides=(4, 2, 2, 4)),
        PTv3Config(
            encoder_depths=(2, 1),
            encoder_channels=(16, 16),
            encoder_heads=(1, 1),
            decoder_depths=(3,),
            decoder_channels=(16,),
            decoder_heads=(1,),
            strides=(8,),
            patch_sizes=(64, 64),
            curves=("hilbert-trans", "z", "z-trans"),
        ),
    ]
)


@given(voxel_sets, configs, st.integers(0, 99), st.sampled_from([None, 10, 11, 12, 16]))
def test_any_voxels_any_permutation_any_depth(rows, config, seed, depth):
    coords, scan = in_z_order(rows)
    permutation = plain.draw_permutation(config, np.random.default_rng(seed))
    if depth is None or sum(s.bit_length() - 1 for s in config.strides) <= depth:
        assert_equal(
            build_pyramid(coords, scan, config, depth, permutation),
            plain.build_pyramid(coords, scan, config, depth, permutation),
        )


def street(seed):
    """Ground, walls and poles in rings, as a lidar sees them: float32 [n, 3] metres."""
    rng = np.random.default_rng(seed)
    angle, ring = rng.uniform(0, 2 * np.pi, 9000), rng.geometric(0.08, 9000) * 0.7
    ground = np.column_stack(
        [ring * np.cos(angle), ring * np.sin(angle), 0.05 * rng.normal(size=9000)]
    )
    wall = np.column_stack(
        [rng.uniform(-40, 40, 4000), np.full(4000, 9.0), rng.uniform(0, 6, 4000)]
    )
    pole = rng.uniform(-30, 30, (12, 1, 3)) * [1, 1, 0] + rng.uniform(0, 4, (12, 60, 1)) * [0, 0, 1]
    return np.concatenate([ground, wall, pole.reshape(-1, 3)]).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 3])
def test_streets(threads):
    config = PTv3Config()
    voxels = [voxelise(street(seed), 0.15).coords for seed in range(3)]
    coords = torch.from_numpy(np.concatenate(voxels))
    scan = torch.arange(3).repeat_interleave(torch.tensor([len(v) for v in voxels]))
    permutation = plain.draw_permutation(config, np.random.default_rng(5))
    twin = plain.build_pyramid(coords, scan, config, permutation=permutation)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_equal(build_pyramid(coords, scan, config, permutation=permutation), twin)
    finally:
        torch.set_num_threads(before)


def test_threads_build_at_the_same_time():
    config = PTv3Config()
    clouds = [torch.from_numpy(voxelise(street(seed), 0.3).coords) for seed in range(4)]
    twins = [plain.build_pyramid(c, torch.zeros(len(c), dtype=torch.int64), config) for c in clouds]
    found = {}

    def work(i):
        for _ in range(3):
            found[i] = build_pyramid(
                clouds[i], torch.zeros(len(clouds[i]), dtype=torch.int64), config
            )

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, twin in enumerate(twins):
        assert_equal(found[i], twin)


def assert_voxels_equal(xyz, grid_size, seed):
    made = [
        form(xyz, grid_size, None if seed is None else np.random.default_rng(seed))
        for form in (compiled_voxelise, voxelise)
    ]
    for name in ("coords", "inverse", "point", "order", "start"):
        mine, twin = (getattr(voxels, name) for voxels in made)
        assert np.array_equal(mine, twin) and mine.dtype == twin.dtype, name


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.one_of(
        st.floats(-3, 3, width=32), st.sampled_from([0.0, 0.25, -0.25, 0.5, 900.0, -900.0])
    )),
    st.sampled_from([0.05, 0.1, 0.25, 40.0]),
    st.sampled_from([None, 0, 1]),
)  # fmt: skip
def test_voxels_of_any_points(xyz, grid_size, seed):
    assert_voxels_equal(xyz, grid_size, seed)


@pytest.mark.parametrize("grid_size", [0.003, 0.1, 0.15])
def test_voxels_of_streets(grid_size):
    assert_voxels_equal(street(1), grid_size, 3)


def test_points_that_have_no_voxels():
    far = np.array([[0, 0, 0], [7000, 0, 0]], np.float32)
    with pytest.raises(ScanError, match="65535 cells"):
        compiled_voxelise(far, 0.1)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            compiled_voxelise(np.array([[0, value, 0], [0, 0, 0]], np.float32), 0.1)
    with pytest.raises(ValueError, match="grid_size"):
        compiled_voxelise(far, 0.0)
    with pytest.raises(ValueError, match="float32"):
        compiled_voxelise(far.astype(np.float64), 0.1)


ONE = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("coords", "scan", "depth", "message"),
    [
        (torch.empty(0, 3, dtype=torch.int64), ONE[:0], None, "without voxels"),
        (torch.tensor([[1 << 16, 0, 0]]), ONE, None, "17 bits"),
        (torch.tensor([[40, 0, 0]]), ONE, 5, "6 bits, depth is 5"),
        (torch.tensor([[0, 0, -1]]), ONE, None, "must be 0 to 65535"),
        (torch.tensor([[3, 2, 1], [3, 2, 1]]), ONE.repeat(2), None, "twice"),
        (torch.tensor([[3, 2, 1], [0, 0, 0]]), ONE.repeat(2), None, "z order"),
        (torch.tensor([[0, 0, 0], [3, 2, 1]]), torch.tensor([1, 0]), None, "z order"),
    ],
)
def test_what_no_pyramid_can_be_built_from(coords, scan, depth, message):
    with pytest.raises(ScanError, match=message):
        build_pyramid(coords, scan, PTv3Config(), depth)


def test_shapes_and_types_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        build_pyramid(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(2).long(), PTv3Config())
    with pytest.raises(ValueError, match="int64"):
        build_pyramid(torch.zeros(1, 3).int(), ONE, PTv3Config())
