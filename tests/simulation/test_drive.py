# SPDX-License-Identifier: Apache-2.0
"""Drives: repeatable, correctly labelled, geometrically consistent."""

import hashlib

import numpy as np
import pytest

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.simulation import Drive
from pointdistill_ros.simulation.lidar import LidarConfig
from pointdistill_ros.simulation.street import Street
from pointdistill_ros.simulation.traffic import moving

LABELS = LabelSet.named("semantic-kitti")
ROAD, BUILDING, VEGETATION = (LABELS.index(n) for n in ("road", "building", "vegetation"))


@pytest.fixture(scope="module")
def drive():
    return Drive(3, frames=12, lidar="hdl32e", style="suburban")


def digest(frame):
    scan = frame.scan
    columns = (scan.xyz, scan.intensity, scan.ring, scan.time, frame.labels, frame.pose)
    return hashlib.sha256(b"".join(np.ascontiguousarray(c).tobytes() for c in columns)).hexdigest()


def test_same_seed_same_bits_whatever_was_rendered_before(drive):
    again = Drive(3, frames=12, lidar="hdl32e", style="suburban")
    forwards = [digest(drive[i]) for i in (0, 5, 11)]
    backwards = [digest(again[i]) for i in (11, 5, 0)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 3


def test_different_seeds_give_different_streets(drive):
    other = Drive(4, frames=12, lidar="hdl32e", style="suburban")
    a, b = drive[0], other[0]
    assert digest(a) != digest(b)
    shares = [np.bincount(f.labels, minlength=256) / len(f.labels) for f in (a, b)]
    assert np.abs(shares[0] - shares[1]).sum() > 0.05


def test_frames_are_labelled_scans(drive):
    scan, labels, pose = drive[2]
    assert len(drive) == 12 and len(scan) == len(labels) > 20_000
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {*range(19), 255}
    assert (labels == 255).mean() < 0.06
    assert scan.valid.all()
    assert scan.intensity.min() >= 0 and scan.intensity.max() <= 1
    assert np.abs(scan.time).max() <= 0.05 and scan.frame == "lidar"
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-8)
    assert drive[3].scan.stamp_ns - scan.stamp_ns == 100_000_000
    assert sum(1 for _ in drive) == 12
    with pytest.raises(IndexError):
        drive[12]


@pytest.mark.parametrize("style", ["suburban", "urban", "country", "highway"])
def test_ranges_and_heights_are_plausible(style):
    config = LidarConfig.named("hdl64e")
    drive = Drive(21, frames=2, style=style)
    drive.compensated = False
    distance = np.linalg.norm(drive[1].scan.xyz, axis=1)
    assert distance.min() >= config.min_range - 1e-3
    assert distance.max() <= config.max_range + 1e-3
    drive.compensated = True
    scan, labels, _ = drive[1]
    near = np.linalg.norm(scan.xyz[:, :2], axis=1) < 10
    road = scan.xyz[near & (labels == ROAD), 2]
    assert len(road) > 2000
    assert abs(np.median(road) + 1.73) < 0.2
    assert (np.abs(road - np.median(road)) < 0.7).mean() > 0.98
    houses = scan.xyz[labels == BUILDING, 2]
    if style == "urban":
        assert houses.max() > 1.0  # higher than a sensor on a car
    assert drive.style == style


def test_every_class_appears_in_some_street():
    seen = set()
    for seed in range(12):
        style = ("suburban", "urban", "country", "urban")[seed % 4]
        drive = Drive(seed, frames=40, lidar="os1_64", style=style)
        for i in (0, 20, 39):
            count = np.bincount(drive[i].labels, minlength=256)
            seen |= set(np.flatnonzero(count >= 5))
        if len(seen - {255}) == len(LABELS):
            break
    missing = [LABELS.names[c] for c in range(len(LABELS)) if c not in seen]
    assert not missing


def test_poses_put_static_things_in_one_place(drive):
    """Plants seen from two places 1.3 m apart lie on each other in the world, and only there."""
    first, second = (drive[i] for i in (0, 3))
    clouds = []
    for scan, labels, _ in (first, second):
        mine = (labels == VEGETATION) & (np.linalg.norm(scan.xyz, axis=1) < 20)
        clouds.append(scan.select(mine))
    assert len(clouds[0]) > 300

    def gap(pose):
        """Median distance from a point of the first cloud to the second, metres."""
        a = clouds[0].transformed(first.pose, "world").xyz[::3]
        b = clouds[1].transformed(pose, "world").xyz
        return np.median(np.linalg.norm(a[:, None] - b, axis=2).min(1))

    assert gap(second.pose) < 0.16
    assert gap(first.pose) > 2 * gap(second.pose)


def test_organised_keeps_every_ray():
    config = LidarConfig.named("os1_64")
    drive = Drive(8, 1, "os1_64", organised=True)
    scan, labels, _ = drive[0]
    drive.organised = False
    packed = drive[0]
    assert len(scan) == config.beams * config.columns
    assert (labels[~scan.valid] == 255).all()
    assert np.array_equal(scan.xyz[scan.valid], packed.scan.xyz)
    assert np.array_equal(labels[scan.valid], packed.labels)
    assert (np.diff(scan.ring.astype(int)) >= 0).all()


def test_uncompensated_points_lie_on_the_beams_cones():
    config = LidarConfig.named("vlp32c")
    scan = Drive(8, 1, "vlp32c", style="highway", compensated=False)[0].scan
    flat = np.linalg.norm(scan.xyz[:, :2].astype(float), axis=1)
    elevation = np.degrees(np.arctan2(scan.xyz[:, 2].astype(float), flat))
    assert np.allclose(elevation, np.asarray(config.elevations)[scan.ring], atol=1e-3)


def test_compensation_undoes_the_motion_of_the_sensor():
    """At 20 m/s the two forms differ by up to 1 m along the street, and not in the middle."""
    drive = Drive(8, 1, "vlp32c", style="highway")
    world = drive[0].scan
    drive.compensated = False
    rays = drive[0].scan
    shift = np.linalg.norm(world.xyz - rays.xyz, axis=1)
    expected = drive.speed * np.abs(rays.time)
    near = np.linalg.norm(rays.xyz, axis=1) < 20
    assert np.abs(shift - expected)[near].max() < 0.15


@pytest.mark.parametrize("style", ["suburban", "urban", "country", "highway"])
def test_nobody_drives_through_the_sensor(style):
    """During 20 s nobody's middle comes nearer than half a car's width and length."""
    for seed in range(5):
        rng = np.random.Generator(np.random.PCG64(seed))
        street = Street(rng, style, -60.0, 200.0)
        time = np.linspace(0, 20, 401)
        movers = list(moving(street, rng, 6.0))
        assert movers
        for mover in movers:
            along = np.abs(mover.s + mover.speed * time - 6.0 * time)
            if abs(mover.d - street.lane) < 0.9:
                assert along.min() > 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"lidar": "hdl99"}, "hdl99"),
        ({"style": "lunar"}, "lunar"),
        ({"frames": 0}, "frames"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ConfigError, match=named):
        Drive(**({"seed": 0, "frames": 1} | arguments))
