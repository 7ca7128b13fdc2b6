# SPDX-License-Identifier: Apache-2.0
"""The moving picture of README.md: the camera sees what it should, the file is what it says."""

import numpy as np
import pytest
from PIL import Image

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.legend import class_entries
from pointdistill_ros.simulation.drive import PERIOD
from tests.docs.blocks import ROOT
from tools.docs.animation import drive
from tools.docs.animation.__main__ import PICTURE
from tools.docs.animation.camera import NOTHING, Camera, shade
from tools.docs.animation.encode import write_webp
from tools.docs.animation.picture import ACTS, PANEL, SIZE, Painter, act_at, write

KITTI = LabelSet.named("semantic-kitti")
ROAD, CAR = KITTI.index("road"), KITTI.index("car")


@pytest.fixture
def camera():
    """Ten metres behind the origin, looking along x."""
    return Camera(np.array([-10.0, 0, 0]), np.array([0.0, 0, 0]), 64, 48)


def test_left_is_left_and_up_is_up(camera):
    column, row, depth = camera.project(np.array([[0.0, 0, 0], [0, 2, 0], [0, 0, 2]])).T
    assert depth == pytest.approx([10, 10, 10])
    assert (column[0], row[0]) == pytest.approx((32, 24))
    assert column[1] < 32 and row[1] == pytest.approx(24)
    assert row[2] < 24 and column[2] == pytest.approx(32)


def test_the_nearest_hides_the_others(camera):
    points = np.array([[5.0, 0, 0], [-5, 0, 0], [-20, 0, 0], [0, 500, 0], [0, 0.9, 0]])
    for order in (np.arange(5), np.arange(5)[::-1]):
        view = camera.look(points[order])
        seen = {int(order[i]) for i in np.unique(view.point) if i != NOTHING}
        assert seen == {1, 4}, "behind the camera, beside the picture, hidden"
        assert order[view.point[24, 32]] == 1 and view.depth[24, 32] == pytest.approx(5)
    assert np.isinf(view.depth[view.point == NOTHING]).all()


def test_what_lies_behind_an_edge_is_darker():
    depth = np.full((9, 20), 10, np.float32)
    depth[:, 10:] = 30
    light = shade(depth)
    assert light[4, 5] == 1 and light[4, 15] == 1 and light[4, 9] == 1
    assert light[4, 10] < 0.5


class Half:
    """Everything is road; what is not, is wrong."""

    def __call__(self, scan):
        labels = np.full(len(scan), ROAD, np.uint8)
        labels[::5] = CAR
        p = np.ones(len(scan), np.float32)
        return Segmentation(labels, p, p, KITTI)


def test_frames_of_a_drive(monkeypatch, tmp_path):
    monkeypatch.setattr(drive, "TRAIL", 2)
    monkeypatch.setattr(drive, "LIDAR", "hdl32e")
    shown = list(drive.labelled_drive(Half(), KITTI, 2))
    assert len(shown) == 2
    for one in shown:
        assert (one.age[: one.points] == 0).all() and (one.age[one.points :] > 0).all()
        assert (one.labels[one.points :] == ROAD).all(), "what can move leaves no trail"
        assert len(one.xyz) > 1.2 * one.points
    painter = Painter(KITTI, 2)
    frames = [painter(i, one) for i, one in enumerate(shown)]
    now, known = shown[-1], shown[-1].truth[: shown[-1].points] != 255
    both = [s.labels[: s.points] == s.truth[: s.points] for s in shown]
    judged = sum(int((s.truth[: s.points] != 255).sum()) for s in shown)
    assert painter.wrong == pytest.approx(1 - sum(map(np.sum, both)) / judged)
    assert known.any() and now.points == len(known)
    assert painter.frequent() == [CAR, ROAD]
    image = np.asarray(frames[1])
    assert image.shape == (SIZE[1], SIZE[0], 3)
    assert (image[:, SIZE[0] - PANEL :] == image[0, -1]).all(), "room for the legend"
    magenta = (image[..., 0] > 80) & (image[..., 1] < 40) & (image[..., 2] > 80)
    assert magenta.mean() > 0.02, "frame 1 of 2 shows the classes"
    write(frames[1], 0.5, {"points": "1", "wrong": "2%"}, "title", class_entries(KITTI, [ROAD]))
    legend = np.asarray(frames[1])[:, SIZE[0] - PANEL :]
    assert (legend == KITTI.colours[ROAD]).all(axis=2).any()


def test_acts_follow_each_other():
    assert [act_at(m).mode for m in (0, 0.5, 0.9, 0.99)] == ["input", "classes", "errors", "input"]
    begins = [act.begins for act in ACTS]
    assert begins == sorted(begins) and begins[0] == 0 and ACTS[0].mode == ACTS[-1].mode


def test_a_file_keeps_the_limit_or_is_not_written(tmp_path):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)) for _ in range(6)]
    easy = write_webp(noise, tmp_path / "a.webp", 0.1, 1_000_000)
    limit = (tmp_path / "a.webp").stat().st_size * 3 // 4
    assert write_webp(noise, tmp_path / "b.webp", 0.1, limit) < easy
    assert (tmp_path / "b.webp").stat().st_size <= limit
    with pytest.raises(ConfigError, match=r"6 frames do not fit into 99 bytes"):
        write_webp(noise, tmp_path / "c.webp", 0.1, 99)
    assert not (tmp_path / "c.webp").exists()


def test_the_readme_shows_twenty_seconds_that_load_quickly():
    assert "](docs/images/drive.webp)" in (ROOT / "README.md").read_text()
    assert PICTURE.stat().st_size <= 4_000_000
    with Image.open(PICTURE) as picture:
        assert picture.size == SIZE
        assert picture.n_frames * PERIOD == pytest.approx(20)
        assert picture.info["loop"] == 0
