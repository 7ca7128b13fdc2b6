# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics
from pointdistill_ros.engine.cpu import CpuNetwork
from pointdistill_ros.engine.library import EngineMissingError
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.voxels import voxelise
from pointdistill_ros.protocols.fragments import fragments, sub_sample
from pointdistill_ros.protocols.labellers import ManyPasses, WithoutIntensity, labeller
from pointdistill_ros.protocols.softmax import NativeSoftmax, TorchSoftmax, voxel_softmax
from pointdistill_ros.protocols.views import (
    PLAIN,
    QUARTER_TURNS,
    SCALES_AND_FLIPS,
    View,
    views_for,
)
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter

COMMON = LabelSet.named("common7")
GRID = 0.5
CONFIG = PTv3Config(
    num_classes=7,
    strides=(2,),
    encoder_depths=(1, 1),
    encoder_channels=(16, 32),
    encoder_heads=(1, 2),
    decoder_depths=(1,),
    decoder_channels=(16,),
    decoder_heads=(1,),
    patch_sizes=(64, 64),
)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    meta = CheckpointMeta("tiny", CONFIG, COMMON, GRID, IntensityStatistics(0.0, 0.5, 1.0, 0.0))
    return Segmenter(PTv3(CONFIG), meta, engine="torch")


def cloud(n=400, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    return LidarScan(
        rng.normal(0, spread, (n, 3)).astype(np.float32), rng.random(n).astype(np.float32)
    )


@given(st.integers(1, 200), st.integers(0, 5))
def test_fragments_have_all_voxels_and_every_point(n, seed):
    voxels = voxelise(cloud(n, seed, 0.7).xyz, GRID)
    parts = list(fragments(voxels))
    assert len(parts) == np.bincount(voxels.inverse).max()
    for part in parts:
        np.testing.assert_array_equal(voxels.inverse[part], np.arange(len(voxels)))
    assert set(np.concatenate(parts)) == set(range(n))


def test_sub_sample_keeps_one_point_per_cell_and_the_way_back():
    scan = cloud(500, spread=1.0)
    point, inverse = sub_sample(scan.xyz, scan.intensity, 0.25)
    cells = np.floor(scan.xyz.astype(float) / 0.25)
    np.testing.assert_array_equal(cells[point][inverse], cells)
    assert len(np.unique(cells, axis=0)) == len(point)


def test_views_are_rigid_or_scaled():
    xyz = cloud().xyz
    np.testing.assert_array_equal(View(quarter_turns=1).apply(xyz)[:, :2], xyz[:, [1, 0]] * [-1, 1])
    np.testing.assert_array_equal(View(quarter_turns=4).apply(xyz), xyz)
    np.testing.assert_array_equal(View(flip=True).apply(xyz), xyz * np.float32([-1, -1, 1]))
    np.testing.assert_allclose(View(scale=1.1).apply(xyz), 1.1 * xyz, rtol=1e-6)
    assert len(set(QUARTER_TURNS)) == 4 and len(set(SCALES_AND_FLIPS)) == 10
    assert views_for("nuscenes") is SCALES_AND_FLIPS
    assert views_for("semantic-kitti") is QUARTER_TURNS is views_for("waymo")


def by_definition(segmenter, scan, views, cell):
    """Sum of softmaxes, pass by pass, point by point."""
    point, inverse = sub_sample(scan.xyz, scan.intensity, cell)
    xyz, intensity = scan.xyz[point], scan.intensity[point]
    total = np.zeros((len(point), 7))
    forward = TorchSoftmax(segmenter.network)
    for view in views:
        seen = view.apply(xyz)
        cells = [tuple(c) for c in np.floor(seen.astype(float) / GRID).astype(int)]
        members = {c: [i for i, other in enumerate(cells) if other == c] for c in set(cells)}
        for i in range(max(map(len, members.values()))):
            rows = [m[i % len(m)] for m in members.values()]
            coords = np.array(list(members)) - np.min(cells, axis=0)
            features = np.column_stack([seen[rows], intensity[rows]]).astype(np.float32)
            for row, p in zip(rows, forward.prepare(coords)(features), strict=True):
                total[row] += p
    return (total / total.sum(1, keepdims=True))[inverse]


@pytest.mark.parametrize("views", [PLAIN, QUARTER_TURNS, SCALES_AND_FLIPS])
def test_votes_equal_the_definition(segmenter, views):
    scan = cloud(120, spread=1.0)
    result = ManyPasses(segmenter, TorchSoftmax(segmenter.network), views)(scan)
    expected = by_definition(segmenter, scan, views, GRID / 2)
    np.testing.assert_allclose(result.probability, expected.max(1), atol=1e-5)
    clear = np.diff(np.sort(expected, 1)[:, -2:])[:, 0] > 1e-5
    np.testing.assert_array_equal(result.labels[clear], expected.argmax(1)[clear])
    entropy = -(expected * np.log(expected)).sum(1) / np.log(7)
    np.testing.assert_allclose(result.entropy, entropy, atol=1e-4)


def test_one_point_per_voxel_makes_p2_p1(segmenter):
    scan = cloud(300, spread=40.0)
    assert len(voxelise(scan.xyz, GRID)) == 300
    first, second = (labeller(p, segmenter, "semantic-kitti")(scan) for p in ("p1", "p2"))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-5)
    assert first.voxels == second.voxels == 300


def test_p3_costs_its_views(segmenter):
    scan = cloud(300, spread=40.0)
    assert labeller("p3", segmenter, "semantic-kitti")(scan).voxels == 4 * 300
    assert labeller("p3", segmenter, "nuscenes")(scan).voxels == 10 * 300


def test_the_order_of_the_points_does_not_matter(segmenter):
    scan = cloud(400, spread=1.0)
    order = np.random.default_rng(1).permutation(400)
    many = labeller("p2", segmenter, "semantic-kitti")
    one, other = many(scan), many(scan.select(order))
    np.testing.assert_array_equal(one.labels[order], other.labels)
    np.testing.assert_array_equal(one.probability[order], other.probability)


def test_points_without_a_place_stay_unlabelled(segmenter):
    scan = cloud(50)
    xyz = scan.xyz.copy()
    xyz[3, 0], xyz[4] = np.nan, 1e9
    result = labeller("p3", segmenter, "nuscenes")(LidarScan(xyz, scan.intensity))
    assert np.flatnonzero(result.labels == 255).tolist() == [3, 4]
    assert result.probability[3] == result.entropy[4] == 0
    empty = labeller("p2", segmenter, "x")(LidarScan(np.zeros((0, 3), np.float32)))
    assert len(empty) == 0


def test_without_intensity_equals_scans_that_have_none(segmenter):
    scan = cloud()
    bare = WithoutIntensity(segmenter)
    assert bare.label_set == COMMON
    np.testing.assert_array_equal(bare(scan).labels, segmenter(LidarScan(scan.xyz)).labels)


def test_compiled_and_plain_probabilities_agree(segmenter):
    try:
        native = NativeSoftmax(CpuNetwork(segmenter.network, threads=1))
    except EngineMissingError as error:
        pytest.skip(str(error))
    scan = cloud(300)
    voxels = voxelise(scan.xyz, GRID)
    features = np.column_stack([scan.xyz, scan.intensity])[voxels.point]
    one, other = (
        form.prepare(voxels.coords)(features) for form in (native, TorchSoftmax(segmenter.network))
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(one.sum(1), 1, atol=1e-5)


def test_plain_segmenters_vote_in_torch(segmenter):
    assert isinstance(voxel_softmax(segmenter), TorchSoftmax)


@pytest.mark.parametrize("cell", [0.0, -0.1])
def test_cells_must_have_a_size(segmenter, cell):
    with pytest.raises(ConfigError, match="above 0"):
        labeller("p2", segmenter, "x", cell=cell)


def test_unknown_protocol_is_refused(segmenter):
    with pytest.raises(ConfigError, match="p1, p2, p3"):
        labeller("p4", segmenter, "x")
