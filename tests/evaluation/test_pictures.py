# SPDX-License-Identifier: Apache-2.0
"""Pictures: right colours at right places, NaN and emptiness survived, nothing half-written."""

import numpy as np
import pytest

from pointdistill_ros.errors import ScanError
from pointdistill_ros.evaluation import pictures
from pointdistill_ros.evaluation.paint import EMPTY, WRONG, class_colours, paint_from_above
from pointdistill_ros.labels import LabelSet

LABELS = LabelSet.named("semantic-kitti")
ROAD, CAR = LABELS.index("road"), LABELS.index("car")


def read(path):
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).round().astype(int)


def cloud():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-45, 45, (5000, 3)).astype(np.float32)
    xyz[:, 2] = rng.uniform(-2, 1, 5000)
    return xyz, rng.integers(0, 19, 5000).astype(np.uint8)


@pytest.mark.parametrize("name", ["birds_eye", "range_view"])
def test_pictures_are_written_whole(tmp_path, name):
    xyz, labels = cloud()
    xyz[::7] = np.nan
    xyz[3] = np.inf
    labels[::7] = 255
    out = tmp_path / "deep" / "picture.png"
    getattr(pictures, name)(xyz, labels, LABELS, out, title="A title")
    image = read(out)
    assert image.shape[0] > 400 and image.shape[1] > 1000
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
    assert [p.name for p in out.parent.iterdir()] == ["picture.png"]


def test_from_above_forward_is_right_and_left_is_up():
    xyz = np.array([[30, 0, 0], [0, 30, 0]], np.float32)
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    image = paint_from_above(xyz, colours, 50.0, 500)
    size = len(image)
    red = np.argwhere((image == (255, 0, 0)).all(-1)).mean(0)
    green = np.argwhere((image == (0, 255, 0)).all(-1)).mean(0)
    assert red == pytest.approx([size * 0.5, size * 0.8], abs=3)
    assert green == pytest.approx([size * 0.2, size * 0.5], abs=3)


def test_higher_points_cover_lower_ones():
    xyz = np.array([[10, 10, 2], [10, 10, -1]], np.float32)
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    image = paint_from_above(xyz, colours, 50.0, 500)
    assert (image == (255, 0, 0)).all(-1).any() and not (image == (0, 255, 0)).all(-1).any()


def test_sensor_view_front_in_the_middle_left_on_the_left_nearest_wins():
    xyz = np.array([[20, 0, 0], [10, 0, 0], [0, 20, -4], [0, -20, 4]], np.float32)
    colours = np.array([[9, 9, 9], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    image, (low, high) = pictures._panorama(xyz, colours)
    columns = image.shape[1]
    red = np.argwhere((image == (255, 0, 0)).all(-1))[0]
    green = np.argwhere((image == (0, 255, 0)).all(-1))[0]
    blue = np.argwhere((image == (0, 0, 255)).all(-1))[0]
    assert not (image == (9, 9, 9)).all(-1).any()
    assert abs(red[1] - columns / 2) <= 1
    assert abs(green[1] - columns / 4) <= 1 and abs(blue[1] - columns * 3 / 4) <= 1
    assert blue[0] < red[0] < green[0]
    assert low < 0 < high


def test_comparison_shows_wrong_points_in_red_only(tmp_path):
    xyz = np.zeros((400, 3), np.float32)
    xyz[:, 0] = np.linspace(-30, 30, 400)
    truth = np.full(400, ROAD, np.uint8)
    labels = truth.copy()
    pictures.comparison(xyz, labels, truth, LABELS, tmp_path / "right.png")
    labels[:200] = CAR
    truth[:20] = 255
    pictures.comparison(xyz, labels, truth, LABELS, tmp_path / "wrong.png")

    def red(name):
        image = read(tmp_path / name)
        third = image[:, 2 * image.shape[1] // 3 :]
        return int((np.abs(third - WRONG).max(-1) < 40).sum())

    assert red("right.png") == 0
    alone = red("wrong.png")
    assert alone > 50
    # mistakes under correct points stay visible
    above = xyz + np.array([0, 0, 2], np.float32)
    both, correct = np.concatenate([xyz, above]), np.full(400, ROAD, np.uint8)
    labels, truth = np.concatenate([labels, correct]), np.concatenate([truth, correct])
    pictures.comparison(both, labels, truth, LABELS, tmp_path / "under.png")
    assert red("under.png") == alone


def test_empty_scan_and_scan_without_valid_points(tmp_path):
    for points in (np.zeros((0, 3), np.float32), np.full((5, 3), np.nan, np.float32)):
        labels = np.full(len(points), 255, np.uint8)
        pictures.birds_eye(points, labels, LABELS, tmp_path / "b.png")
        pictures.range_view(points, labels, LABELS, tmp_path / "r.png")
        pictures.comparison(points, labels, labels, LABELS, tmp_path / "c.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_lengths_must_agree(tmp_path):
    xyz, labels = cloud()
    with pytest.raises(ScanError, match="4999"):
        pictures.birds_eye(xyz, labels[:-1], LABELS, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_unlabelled_and_dark_classes_stay_visible():
    every = np.arange(256, dtype=np.uint8)
    colours = class_colours(every, LABELS).astype(int)
    contrast = np.abs(colours - np.array(EMPTY)).max(1)
    assert contrast.min() > 60
    assert (colours[ROAD] == LABELS.colours[ROAD]).all()
