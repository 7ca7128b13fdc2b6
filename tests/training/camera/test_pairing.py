# SPDX-License-Identifier: Apache-2.0
"""From points to cells of images, through augmentation, into the rows of a batch."""

import numpy as np
import pytest
import torch

from pointdistill_ros.datasets.camera_images import CameraImage
from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.voxels import voxelise
from pointdistill_ros.scan import LidarScan
from training.camera.atlas import CameraAtlas, as_batch
from training.camera.pairing import (
    AGREEMENT,
    CELL,
    CameraMix,
    ScanPairing,
    camera_columns,
    camera_pairs,
)
from training.camera.teacher import ImageAnswer
from training.transforms import LabelledPoints, concatenate, flip, paste_objects, rotate

STRIDE = 4
A, B = ("00", 0), ("00", 7)


class Mean:
    """Says of a cell what its pixels are on average: features in colour, logits in grey."""

    stride, feature_channels, num_classes = STRIDE, 3, 2

    def __call__(self, images):
        pooled = torch.nn.functional.avg_pool2d(images, STRIDE, ceil_mode=True)
        grey = pooled.mean(1, keepdim=True)
        return ImageAnswer(pooled, torch.cat([grey, -grey], 1))


def make_camera(width, height):
    axes = np.array([[0.0, -1, 0, 0.05], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]])
    k = [[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1]]
    return Camera.from_intrinsics(k, axes, width, height)


def make_image(width=50, height=22, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return CameraImage(pixels, make_camera(width, height))


IMAGES = {A: make_image(), B: make_image(41, 30, 1)}


@pytest.fixture(scope="module")
def atlas():
    return CameraAtlas.build(Mean(), IMAGES.items())


def cloud(seed=0, n=2000, label=0):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-20, -15, -4), (30, 15, 4), (n, 3)).astype(np.float32)
    return LabelledPoints(xyz, np.ones(n, np.float32), np.full(n, label, np.uint8))


def paired(seed=0, key=A, n=2000, label=0):
    atlas = CameraAtlas.build(Mean(), IMAGES.items())
    points = cloud(seed, n, label)
    columns = ScanPairing.of(IMAGES, atlas.index).columns(key, points.xyz)
    return LabelledPoints(points.xyz, points.intensity, points.labels, None, columns)


@pytest.mark.parametrize("key", [A, B])
def test_a_point_finds_what_the_teacher_says_where_it_lies(atlas, key):
    points, image = cloud(), IMAGES[key]
    columns = camera_columns(points.xyz, image.camera, atlas.index, key)
    sight = image.camera.see(points.xyz)
    assert len(sight.point) > 50
    np.testing.assert_array_equal(np.flatnonzero(columns[CELL]), sight.point)
    np.testing.assert_array_equal(columns[AGREEMENT][sight.point], sight.agreement)
    answer = Mean()(as_batch(image.pixels))
    i, j = sight.row // STRIDE, sight.column // STRIDE
    found = atlas.at(torch.from_numpy(columns[CELL][sight.point]))
    expected = answer.features[0, :, i, j].T
    torch.testing.assert_close(found.features, expected.half().float())
    torch.testing.assert_close(found.logits, answer.logits[0, :, i, j].T.half().float())
    assert columns[CELL].dtype == np.int64 and columns[AGREEMENT].dtype == np.float32


def test_every_cell_of_every_image_has_a_row_of_its_own(atlas):
    seen = []
    for key, image in IMAGES.items():
        row, column = np.mgrid[: image.camera.height : STRIDE, : image.camera.width : STRIDE]
        seen.append(atlas.index.rows(key, row.ravel(), column.ravel()))
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(1, len(atlas)))
    assert not atlas.logits[0].any() and not atlas.features[0].any()
    with pytest.raises(ConfigError, match="outside"):
        atlas.index.rows(A, np.array([22]), np.array([50 + 2 * STRIDE]))


def test_an_atlas_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one image"):
        CameraAtlas.build(Mean(), [])


def test_scans_without_an_image_have_no_columns(atlas):
    pairing = ScanPairing.of(IMAGES, atlas.index)
    assert pairing.columns(None, cloud().xyz) == {}
    assert pairing.columns(("99", 0), cloud().xyz) == {}


def test_pairs_stay_with_their_points_through_augmentation():
    """Turning, mirroring, mixing and pasting move points, not what the camera saw of them."""
    points = paired()
    marked = LabelledPoints(
        points.xyz, np.arange(len(points), dtype=np.float32), points.labels, None, points.columns
    )
    known = dict(zip(marked.intensity.tolist(), points.columns[CELL].tolist(), strict=True))
    rng = np.random.default_rng(0)
    turned = flip(rotate(marked, 1.2), rng)
    assert not np.allclose(turned.xyz, marked.xyz)
    other = cloud(3, 500, label=1)  # no image shows it
    mixed = paste_objects(concatenate([turned, other]), marked, [0], rng, copies=1)
    own = np.r_[0 : len(marked), len(marked) + 500 : len(mixed)]
    for i in own:
        assert mixed.columns[CELL][i] == known[float(mixed.intensity[i])]
    foreign = slice(len(marked), len(marked) + 500)
    assert not mixed.columns[CELL][foreign].any()
    assert not mixed.columns[AGREEMENT][foreign].any()


def test_a_voxel_is_paired_as_the_point_that_represents_it_was_measured():
    """Voxel row → pixel, checked against the projection of the untouched point."""
    samples, expected, first = [], {}, 0
    for scan, key in enumerate((A, None, B)):
        points = cloud(scan) if key is None else paired(scan, key)
        turned = rotate(points, 0.7 + scan)
        voxels = voxelise(turned.xyz, 0.8, np.random.default_rng(scan))
        samples.append(turned.select(voxels.point))
        if key is not None:
            camera = IMAGES[key].camera
            sight = camera.see(points.xyz)
            place = {int(p): k for k, p in enumerate(sight.point)}
            for row, point in enumerate(voxels.point):
                if int(point) in place:
                    k = place[int(point)]
                    cell = (int(sight.row[k]) // STRIDE, int(sight.column[k]) // STRIDE)
                    expected[first + row] = key, cell, float(sight.agreement[k])
        first += len(voxels.point)
    pairs = camera_pairs(samples)
    assert pairs.voxels.tolist() == sorted(expected)
    assert len(pairs) > 100
    atlas = CameraAtlas.build(Mean(), IMAGES.items())
    for voxel, cell, weight in zip(pairs.voxels, pairs.cells, pairs.weights, strict=True):
        key, (i, j), agreement = expected[int(voxel)]
        start, _, across = atlas.index.places[key]
        assert int(cell) == start + i * across + j
        assert float(weight) == agreement


class Scans:
    """A data set, or half of one: some of its scans have an image."""

    label_set = LabelSet.named("semantic-kitti")
    sequences = ("00", "00")

    def __len__(self):
        return 2

    def __getitem__(self, i):
        points = cloud(i)
        xyz = points.xyz.copy()
        xyz[5] = np.nan
        return LidarScan(xyz, points.intensity), points.labels


def test_scans_come_with_their_columns(atlas, monkeypatch):
    monkeypatch.setattr("training.camera.pairing.frame_of", lambda scans, i: (B, None)[i])
    mix = CameraMix([(Scans(), 1.0)])
    assert mix._points(0, 0).columns == {}
    mix.pairing = ScanPairing.of(IMAGES, atlas.index)
    points = mix._points(0, 0)
    assert len(points) == 1999  # one was not finite
    expected = camera_columns(points.xyz, IMAGES[B].camera, atlas.index, B)
    for name, column in expected.items():
        np.testing.assert_array_equal(points.columns[name], column)
    assert points.columns[CELL].any()
    assert mix._points(0, 1).columns == {}
    drawn = mix.draw(np.random.default_rng(0))
    assert len(drawn) == 1999


def test_a_batch_without_images_has_no_pairs():
    pairs = camera_pairs([cloud(0, 10), cloud(1, 20)])
    assert len(pairs) == 0 and pairs.weights.dtype == torch.float32
