# SPDX-License-Identifier: Apache-2.0
import base64
from io import BytesIO

import numpy as np
from PIL import Image

from pointdistill_ros.evaluation.calibration import BINS
from pointdistill_ros.evaluation.distance import EDGES
from pointdistill_ros.evaluation.gallery import choose, data_uri, exhibit
from pointdistill_ros.evaluation.paint import WRONG
from pointdistill_ros.evaluation.tally import ScanTally
from pointdistill_ros.labels import LabelSet

KITTI = LabelSet.named("semantic-kitti")
ROAD, CAR = KITTI.index("road"), KITTI.index("car")


def scan(drive, right, wrong):
    bands = np.zeros((len(EDGES), 19, 20), np.int64)
    bands[0, 0, 0], bands[0, 0, 1] = right, wrong
    return ScanTally(drive, "x", bands, np.zeros((3, BINS)))


def test_worst_first_and_every_drive_before_any_twice():
    tallies = [scan("a", i, 10) for i in (1, 2, 3)] + [scan("b", 4, 10), scan("c", 9, 1)]
    assert list(choose(tallies, best=1, worst=2)) == [0, 3, 4]
    assert list(choose(tallies, best=0, worst=4)) == [0, 3, 4, 1]


def test_no_scan_twice_and_none_without_truth():
    tallies = [scan("a", 1, 0), scan("a", 0, 0), scan("a", 0, 1)]
    assert choose(tallies, best=5, worst=5) == {2: "worst", 0: "worst"}


def pixels(uri):
    head, text = uri.split(",")
    assert head == "data:image/png;base64"
    return np.array(Image.open(BytesIO(base64.b64decode(text))).convert("RGB"))


def test_pictures_show_truth_prediction_and_errors():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-30, 30, (4000, 3)).astype(np.float32)
    truth = np.where(xyz[:, 0] > 0, ROAD, 255).astype(np.uint8)
    labels = np.where(xyz[:, 1] > 0, ROAD, CAR).astype(np.uint8)
    one = exhibit(xyz, labels, truth, KITTI, scan("00", 3, 1), "best")
    (_, true), (_, predicted), (_, errors) = one.images

    def has(uri, colour):
        image = pixels(uri)
        return np.argwhere((np.abs(image.astype(int) - colour) < 4).all(-1))

    road = np.array(KITTI.colours[ROAD])
    assert has(true, road)[:, 1].min() >= 219  # x is to the right of the middle
    assert has(predicted, road)[:, 0].max() <= 220  # y is up
    red = has(errors, WRONG)
    assert len(red) and red[:, 0].min() >= 219 and red[:, 1].min() >= 219
    assert one.shares == (("road", "#ff00ff", 1.0),)
    assert one.accuracy == 0.75


def test_a_picture_is_small():
    image = np.zeros((440, 440, 3), np.uint8)
    image[np.random.default_rng(0).random((440, 440)) < 0.2] = (255, 0, 255)
    assert len(data_uri(image)) < 60_000
