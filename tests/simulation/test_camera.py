# SPDX-License-Identifier: Apache-2.0
"""Rendered pictures: exact class and depth, light, and the same world as the lidar's."""

from dataclasses import replace

import numpy as np
import pytest

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.simulation import Drive
from pointdistill_ros.simulation.camera import FilmedDrive, Light, kitti_camera, render
from pointdistill_ros.simulation.camera.appearance import albedo
from pointdistill_ros.simulation.lidar import Target
from pointdistill_ros.simulation.materials import LABEL, material
from pointdistill_ros.simulation.mesh import box, merge, quads

LABELS = LabelSet.named("semantic-kitti")
CAR, ROAD, BUILDING = map(LABELS.index, ("car", "road", "building"))
SMALL = kitti_camera(124, 38)
NOON = Light(azimuth=0.0, elevation=1.5, clouds=0.0, haze=0.0, noise=0.0)
GROUND = quads(
    [[(-50, -50, -1.75), (90, -50, -1.75), (90, 50, -1.75), (-50, 50, -1.75)]], "asphalt"
)


def show(*meshes, camera=SMALL, light=NOON, seed=0, pose=None):
    targets = [Target(mesh) for mesh in meshes]
    pose = np.eye(4) if pose is None else pose
    return render(targets, camera, pose, light, np.random.default_rng(seed))


def test_every_pixel_has_the_class_and_depth_of_what_it_shows():
    wall = quads([[(20, -90, -9), (20, 90, -9), (20, 90, 1), (20, -90, 1)]], "plaster")
    picture = show(merge([GROUND, wall]))
    rays, centre = SMALL.rays(), SMALL.centre
    with np.errstate(divide="ignore"):
        ground = np.where(rays[..., 2] < 0, (-1.75 - centre[2]) / rays[..., 2], np.inf)
    front = (20 - centre[0]) / rays[..., 0]
    above = centre[2] + front * rays[..., 2] > 1
    front[above] = np.inf
    expected = np.minimum(ground, front)
    np.testing.assert_allclose(picture.depth, expected, rtol=1e-5)
    label = np.where(np.isinf(expected), 255, np.where(front < ground, BUILDING, ROAD))
    np.testing.assert_array_equal(picture.labels, label)
    assert {255, BUILDING, ROAD} == set(np.unique(label))


def test_the_nearest_of_all_targets_is_shown():
    near, far = box((8, -1, -1), (9, 1, 1), "car paint"), box((15, -9, -9), (16, 9, 9), "plaster")
    pictures = [show(near, far), show(far, near), show(merge([near, far]))]
    for picture in pictures:
        np.testing.assert_array_equal(picture.labels, pictures[0].labels)
        np.testing.assert_array_equal(picture.depth, pictures[0].depth)
    middle = pictures[0].depth[SMALL.height // 2, SMALL.width // 2]
    assert middle == pytest.approx(8 - 0.27, rel=1e-5)
    assert {CAR, BUILDING} <= set(np.unique(pictures[0].labels))


def test_the_camera_goes_where_the_lidar_goes():
    pose = np.eye(4)
    pose[:2, :2], pose[:3, 3] = [[0, -1], [1, 0]], (5, 2, 0.4)  # looks to the left
    thing = box((4, 12, -1), (6, 13, 1), "car paint")
    turned = thing.corners - pose[:3, 3]
    same = replace(thing, corners=turned @ pose[:3, :3])
    a, b = show(thing, pose=pose), show(same)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.depth, b.depth, rtol=1e-6)
    assert (a.labels == CAR).any()


def test_light_and_noise_change_the_picture_but_not_its_meaning():
    scene = merge([GROUND, box((9, -2, -1.75), (12, 2, 0), "car paint")])
    plain = show(scene)
    for light, seed in ((replace(NOON, gain=0.6), 0), (replace(NOON, noise=0.05), 1)):
        other = show(scene, light=light, seed=seed)
        assert np.abs(other.pixels.astype(int) - plain.pixels).mean() > 2
        np.testing.assert_array_equal(other.labels, plain.labels)
        np.testing.assert_array_equal(other.depth, plain.depth)
    hazy = show(scene, light=replace(NOON, haze=0.1))
    assert hazy.pixels[SMALL.height // 2 + 3].mean() > plain.pixels[SMALL.height // 2 + 3].mean()


def test_things_cast_shadows_where_the_sun_shines():
    roof = box((4, -30, 4), (9, 30, 4.2), "plaster")  # above the picture
    covered = (slice(-9, None), slice(None))
    for clouds, darker in ((0.0, True), (1.0, False)):
        light = replace(NOON, clouds=clouds)
        with_roof = show(merge([GROUND, roof]), light=light)
        without = show(GROUND, light=light)
        np.testing.assert_array_equal(with_roof.labels[covered], without.labels[covered])
        ratio = with_roof.pixels[covered].mean() / without.pixels[covered].mean()
        assert (ratio < 0.8) == darker


def test_colours_lie_in_range_and_paint_differs_by_object():
    kinds = np.arange(len(LABEL), dtype=np.uint8)
    place = np.random.default_rng(0).uniform(-50, 50, (len(kinds), 3))
    for tint in (0.5, 1.0, 1.7):
        colour = albedo(kinds, np.full(len(kinds), tint, np.float32), place)
        assert colour.min() >= 0 and colour.max() <= 1
        assert (colour.max(1) > 0.01).all()
    tints = np.linspace(0.7, 1.3, 60, dtype=np.float32)
    paint = albedo(np.full(60, material("car paint"), np.uint8), tints, np.zeros((60, 3)))
    assert len(np.unique(paint.round(3), axis=0)) >= 6
    again = albedo(kinds, np.ones(len(kinds), np.float32), place)
    np.testing.assert_array_equal(again, albedo(kinds, np.ones(len(kinds), np.float32), place))


@pytest.fixture(scope="module")
def drive():
    return FilmedDrive(3, frames=2, style="urban")


def test_camera_and_lidar_see_the_same_street(drive):
    frame, picture = drive[1], drive.picture(1)
    sight = picture.camera.see(frame.scan.xyz)
    labels = frame.labels[sight.point]
    known = labels != 255
    shown = picture.labels[sight.row, sight.column]
    assert known.sum() > 10_000
    assert (shown[known] == labels[known]).mean() > 0.95
    depth = picture.depth[sight.row, sight.column]
    assert (np.abs(depth - sight.depth) < 0.3).mean() > 0.85
    assert len(np.unique(picture.labels)) > 6


def test_pictures_repeat_and_leave_the_scans_alone(drive):
    first, again = drive.picture(0, SMALL), drive.picture(0, SMALL)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != drive.picture(1, SMALL).pixels).any()
    before = drive[1].scan.xyz
    drive.picture(1, SMALL)
    np.testing.assert_array_equal(drive[1].scan.xyz, before)
    assert FilmedDrive.__getitem__ is Drive.__getitem__
    with pytest.raises(IndexError):
        drive.picture(2)
