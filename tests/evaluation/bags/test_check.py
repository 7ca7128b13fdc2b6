# SPDX-License-Identifier: Apache-2.0
"""What fits a network and what does not: one thing is changed, that one thing is found."""

import importlib
import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from typer.testing import CliRunner

from pointdistill_ros import LidarScan
from pointdistill_ros.cli import app
from pointdistill_ros.evaluation.bags.check import check_bag
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.mounting import Mounting
from pointdistill_ros.evaluation.bags.reference import Reference
from pointdistill_ros.evaluation.bags.scan_facts import find_ground
from pointdistill_ros.evaluation.motion.trajectory import pose_of
from pointdistill_ros.io.bag import BagWriter
from pointdistill_ros.io.cloud_parts import encode_scan
from pointdistill_ros.io.pointcloud2 import DecodeOptions
from tests.evaluation.bags.mounts import turn, write_mount

KNOWN = Reference("student", 0.15, 0.0, 0.3, 0.55, False)
STAMP = 1_700_000_000_000_000_000


@lru_cache
def street(seed=0, points=40_000, height=1.73):
    """Ground out to 60 m and walls, as far as density and height go a real scan."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, points)
    distance = np.where(np.arange(points) % 3 == 0, rng.uniform(25, 60, points), 0)
    ground = rng.uniform(3, 45, points)
    xyz = np.column_stack(
        [
            np.cos(angle) * np.maximum(distance, ground * (distance == 0)),
            np.sin(angle) * np.maximum(distance, ground * (distance == 0)),
            np.where(distance > 0, rng.uniform(-1.5, 4, points), -height),
        ]
    )
    intensity = rng.normal(0.3, 0.1, points).clip(0, 0.95)
    return xyz.astype(np.float32), intensity.astype(np.float32)


def keep(i, xyz, intensity):
    """The street as it is."""


def write(path, change=keep, times=None, delay=20_000_000, frame="lidar", mount=None):
    """Two clouds; ``change`` may alter the arrays or return others. ``mount``: in base_link."""
    with BagWriter(path) as bag:
        if mount is not None:
            write_mount(bag, {frame: ("base_link", *mount)})
        for i, at in enumerate(times or (0, 100_000_000)):
            xyz, intensity = (array.copy() for array in street(i % 2))
            changed = change(i, xyz, intensity)
            xyz, intensity = (xyz, intensity) if changed is None else changed
            parts = encode_scan(LidarScan(xyz, intensity))
            header = {"stamp_ns": STAMP + at, "frame": frame}
            bag.write_cloud("/points", STAMP + at + delay, parts, **header)
    return path


def found(path, reference=KNOWN):
    with BagFrames(FrameIndex.of(path)) as frames:
        check = check_bag(frames, reference)
    levels = [finding.level for finding in check.findings]
    assert levels == sorted(levels, key=("bad", "doubtful", "fits").index)
    return {f.what: f for f in check.findings if f.level != "fits"}, check


def seen_in(path, rotation, translation):
    """Findings where the network sees the clouds in another frame."""
    mounting = Mounting("base_link", {"lidar": pose_of(np.array(translation), rotation)})
    with BagFrames(FrameIndex.of(path)) as frames:
        check = check_bag(frames, KNOWN, z_offset=-1.73, placement=mounting.placement)
    return {f.what: f for f in check.findings}


def test_a_tilted_sensor_is_judged_as_the_network_sees_it(tmp_path):
    path = write(tmp_path / "a.mcap", tilted)
    upright = seen_in(path, turn(0, 7, 0), (0.5, 0.0, 1.73))
    assert upright["height"].level == "fits"
    assert "in base_link, shifted by -1.73 m" in upright["height"].found
    assert upright["frame"].level == "fits"
    assert upright["view"] == seen_in(path, turn(0, 0, 0), (0, 0, 0))["view"], "that of the sensor"
    twice = seen_in(path, turn(0, -7, 0), (0.5, 0.0, 1.73))
    assert twice["height"].level == "bad" and "--target-frame" in twice["height"].advice
    far = seen_in(path, turn(0, 7, 0), (500.0, 0.0, 1.73))
    assert far["frame"].level == "doubtful" and "lies 500 m from lidar" in far["frame"].found
    assert far["frame"].advice == "take one that is fixed to the vehicle"


def scaled(factor):
    return lambda i, xyz, intensity: (xyz, (intensity * factor).astype(np.float32))


def turned(i, xyz, intensity):
    xyz[:, [0, 1, 2]] = xyz[:, [1, 2, 0]]  # z forward


def tilted(i, xyz, intensity):
    xyz[:, 2] += xyz[:, 0] * np.float32(np.tan(np.radians(7)))


def lowered(i, xyz, intensity):
    xyz[:, 2] += 1.2


def raised(i, xyz, intensity):
    xyz[:, 2] -= 0.42


def zeros(i, xyz, intensity):
    xyz[::20] = 0


def flapping(i, xyz, intensity):
    return xyz, intensity if i % 2 else intensity * np.float32(300)


def thinned(i, xyz, intensity):
    return xyz[::8], intensity[::8]


def millimetres(i, xyz, intensity):
    xyz *= np.float32(0.001)


@pytest.mark.parametrize(
    ("change", "what", "level", "says"),
    [
        (
            lowered,
            "height",
            "bad",
            "--z-offset -1.20 (segment, evaluate-bag), input.z_offset: -1.20",
        ),
        (raised, "height", "bad", "--z-offset 0.42 (segment, evaluate-bag), input.z_offset: 0.42"),
        (tilted, "height", "bad", "mounted at an angle"),
        (zeros, "missing returns", "doubtful", "zero_is_no_return"),
        (scaled(0.03), "intensity", "doubtful", "div_max"),
        (scaled(200), "intensity", "fits", ""),
        (scaled(2000), "intensity", "bad", "div_max"),
        (flapping, "intensity", "bad", "differently from cloud to cloud"),
        (lambda i, xyz, intensity: (xyz, None), "intensity", "doubtful", "intensity_field"),
        (thinned, "density", "doubtful", "sparser"),
        (millimetres, "view", "bad", "must be metres"),
    ],
)
def test_one_change_is_one_finding(tmp_path, change, what, level, says):
    problems, _ = found(write(tmp_path / "a.mcap", change))
    if level == "fits":
        assert what not in problems
        return
    assert problems[what].level == level
    assert says in problems[what].advice + problems[what].found
    if change not in (millimetres,):  # which leaves no ground and no density either
        assert list(problems) == [what]


def test_a_street_fits(tmp_path):
    problems, check = found(write(tmp_path / "a.mcap"))
    assert problems == {} and check.worst == "fits"
    assert check.to_dict()["ground_height"] == pytest.approx(-1.73, abs=0.02)


def test_axes_of_a_camera(tmp_path):
    path = write(tmp_path / "a.mcap", turned, frame="front_depth_optical_frame")
    problems, _ = found(path)
    assert "height" in problems and "z points forward" in problems["height"].advice


def test_intensity_outside_training_is_bad(tmp_path):
    strict = Reference("student", 0.15, 0.25, 0.3, 0.35, False)
    problems, _ = found(write(tmp_path / "a.mcap", scaled(0.03)), strict)
    assert problems["intensity"].level == "bad" and "set input.intensity_scale" in str(problems)
    needs = Reference("student", 0.15, 0.0, 0.3, 0.55, True)
    path = write(tmp_path / "b.mcap", lambda i, xyz, intensity: (xyz, None))
    assert found(path, needs)[0]["intensity"].level == "bad"


def test_gaps_and_clocks(tmp_path):
    tenth = 100_000_000
    times = [0, tenth, 2 * tenth, 5 * tenth, 6 * tenth, 7 * tenth]
    problems, _ = found(write(tmp_path / "a.mcap", times=times))
    assert "about 2 clouds missing" in problems["rate"].found
    problems, _ = found(write(tmp_path / "b.mcap", delay=3600 * 10**9))
    assert "3,600 s after" in problems["stamps"].found
    problems, _ = found(write(tmp_path / "c.mcap", delay=-50_000_000))
    assert "50 ms in the future" in problems["stamps"].found


@pytest.mark.parametrize("height", [-0.4, 1.0, 1.73, 2.4])
def test_the_ground_is_found(height):
    xyz, _ = street(height=height)
    ground = find_ground(xyz.astype(np.float64))
    assert ground.height == pytest.approx(-height, abs=0.05)
    assert ground.tilt < 1 and ground.share > 0.5


def test_there_is_not_always_a_ground():
    rng = np.random.default_rng(0)
    assert find_ground(np.empty((0, 3))) is None
    assert find_ground(rng.uniform(-1, 1, (5000, 3))) is None


@pytest.fixture
def info(monkeypatch):
    from types import SimpleNamespace

    checkpoint = importlib.import_module("pointdistill_ros.checkpoint")
    intensity = SimpleNamespace(low=0.0, median=0.3, high=0.55, missing=0.0, used=True)
    meta = SimpleNamespace(model_id="student", grid_size=0.15, intensity=intensity)
    monkeypatch.setattr(checkpoint, "load_checkpoint", lambda path: (None, meta))
    monkeypatch.setattr(checkpoint, "find_weights", lambda name: name)
    return lambda *arguments: CliRunner().invoke(app, ["info", *map(str, arguments)])


def test_command_says_what_fits(info, tmp_path):
    result = info("--check-bag", write(tmp_path / "a.mcap"))
    assert result.exit_code == 0 and "/points fits what student was trained on" in result.output


def test_command_says_what_to_check_first(info, tmp_path):
    path = write(tmp_path / "a.mcap", lowered)
    result = info("--check-bag", path)
    assert result.exit_code == 1 and "check first: height: set --z-offset -1.20" in result.output
    data = json.loads(info("--check-bag", path, "--json").output)
    assert data["model"] == "student" and data["findings"][0]["what"] == "height"
    assert data["clouds"] == 2 and data["first"]["intensity_field"] == "intensity"


def test_the_option_that_is_printed_makes_it_fit(info, tmp_path):
    path = write(tmp_path / "a.mcap", raised)
    data = json.loads(info("--check-bag", path, "--json").output)
    assert data["fitting_z_offset"] == 0.42
    result = info("--check-bag", path, "--z-offset", data["fitting_z_offset"])
    assert result.exit_code == 0 and "shifted by +0.42 m" in result.output
    result = info("--check-bag", path, "--z-offset", "-0.42")
    assert result.exit_code == 1 and "set --z-offset 0.42" in result.output


def test_the_frame_that_the_tilted_sensor_needs(info, tmp_path):
    path = write(tmp_path / "a.mcap", tilted, mount=(turn(0, 7, 0), (0.5, 0.0, 1.73)))
    tilt = info("--check-bag", path)
    assert tilt.exit_code == 1 and "mounted at an angle" in tilt.output
    placed = ("--target-frame", "base_link", "--z-offset", "-1.73", "--json")
    level = info("--check-bag", path, *placed)
    (height,) = (f for f in json.loads(level.output)["findings"] if f["what"] == "height")
    assert level.exit_code == 0 and "in base_link, shifted by -1.73 m" in height["found"]
    nowhere = info("--check-bag", path, "--target-frame", "base")
    assert nowhere.exit_code != 0 and "no transform lidar → base" in str(nowhere.exception)


def test_intensity_that_does_not_fit_has_an_alternative(info, tmp_path, monkeypatch):
    resources = importlib.import_module("pointdistill_ros.resources")
    monkeypatch.setattr(resources, "shipped_weights", lambda: ["student", "student-no-intensity"])
    dark = write(tmp_path / "a.mcap", scaled(2000))
    none = write(tmp_path / "b.mcap", lambda i, xyz, intensity: (xyz, None))
    for path in (dark, none):
        (finding, *_) = json.loads(info("--check-bag", path, "--json").output)["findings"]
        assert finding["what"] == "intensity"
        assert "take the weights student-no-intensity" in finding["advice"]
    monkeypatch.setattr(resources, "shipped_weights", lambda: ["student"])
    assert "student-no-intensity" not in info("--check-bag", dark, "--json").output


def test_a_chosen_scale_is_not_guessed(tmp_path):
    index = FrameIndex.of(write(tmp_path / "a.mcap", flapping))
    with BagFrames(index, DecodeOptions(intensity_scale="percentile")) as frames:
        findings = check_bag(frames, KNOWN).findings
    assert not any("guessed" in finding.found for finding in findings)


def test_real_scans_fit(real_data, tmp_path):
    """Two scans of the sensor that the network knows, one of another with little height."""
    from pointdistill_ros.io.open import read_scan

    scans = [read_scan(real_data / "kitti_raw_run" / f"{i:010d}.npz") for i in (60, 79)]
    with BagWriter(tmp_path / "kitti.mcap") as bag:
        for i, scan in enumerate(scans):
            bag.write_cloud("/points", STAMP + i, encode_scan(scan), stamp_ns=STAMP, frame="f")
    problems, _ = found(tmp_path / "kitti.mcap")
    assert problems == {}
    (file,) = (real_data / "pandaset").glob("003_*00.npz")
    with BagWriter(tmp_path / "panda.mcap") as bag:
        bag.write_cloud("/points", STAMP, encode_scan(read_scan(file)), stamp_ns=STAMP, frame="f")
    problems, _ = found(tmp_path / "panda.mcap")
    assert problems["height"].level == "bad" and "--z-offset -1." in problems["height"].advice


def test_a_network_that_does_not_look_at_intensity_takes_any(tmp_path):
    path = write(tmp_path / "a.mcap", scaled(2000))
    assert "intensity" in found(path)[0]
    problems, check = found(path, replace(KNOWN, uses_intensity=False))
    assert "intensity" not in problems
    assert [f.found for f in check.findings if f.what == "intensity"] == [
        "student does not look at it"
    ]
