# SPDX-License-Identifier: Apache-2.0
"""The legend shows the colours that the points have, each beside its name."""

import io

import numpy as np
from PIL import Image

from pointdistill_ros import LabelSet
from pointdistill_ros.evaluation.legend import (
    DIFFERENCE,
    class_entries,
    legend_image,
    legend_png,
)
from pointdistill_ros.evaluation.paint import class_colours, error_colours

KITTI = LabelSet.named("semantic-kitti")


def test_every_class_has_the_colour_of_its_points():
    entries = class_entries(KITTI)
    ids = np.array([*range(len(KITTI)), 255], np.uint8)
    assert [name for name, _ in entries] == [*KITTI.names, "unlabelled"]
    assert [colour for _, colour in entries] == list(map(tuple, class_colours(ids, KITTI).tolist()))
    chosen = class_entries(KITTI, [KITTI.index("road"), KITTI.index("car")])
    assert [name for name, _ in chosen] == ["road", "car"]


def test_the_colours_of_differences_are_those_of_errors():
    colours, _ = error_colours(np.array([1, 2], np.uint8), np.array([1, 1], np.uint8))
    assert [colour for _, colour in DIFFERENCE] == list(map(tuple, colours.tolist()))


def test_swatches_stand_below_each_other_in_order():
    entries = class_entries(KITTI)
    image = legend_image({"": entries})
    swatches = image[:, 22 + 8]  # a column through them
    found = [next(i for i, row in enumerate(swatches) if tuple(row) == c) for _, c in entries]
    assert found == sorted(found) and len(set(found)) == len(entries)
    longer = legend_image({"classes": entries, "difference": list(DIFFERENCE)})
    assert longer.shape[0] > image.shape[0] and longer.shape[1] >= image.shape[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(legend_png({"": entries})))), image)
