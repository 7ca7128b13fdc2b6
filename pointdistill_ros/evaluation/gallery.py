# SPDX-License-Identifier: Apache-2.0
"""Best and worst scans for a report, from above: truth, prediction and errors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.confusion import iou_per_class, mean_over, true_points
from pointdistill_ros.evaluation.paint import class_colours, error_colours, paint_from_above
from pointdistill_ros.evaluation.tally import ScanTally
from pointdistill_ros.labels import UNLABELLED, LabelSet

REACH = 40.0
"""Metres around the sensor."""
_SIZE = 440


@dataclass(frozen=True)
class Exhibit:
    """One scan in three pictures."""

    title: str
    """Drive and scan."""
    verdict: str
    """``best`` or ``worst``."""
    accuracy: float
    miou: float
    images: tuple[tuple[str, str], ...]
    """Caption and PNG as data URI, of truth, prediction and errors."""
    shares: tuple[tuple[str, str, float], ...]
    """Class, CSS colour, share of the labelled points; most frequent first."""


def choose(tallies: Sequence[ScanTally], best: int = 2, worst: int = 3) -> dict[int, str]:
    """Indices of the scans to show and their verdict, worst first; of every drive before twice.

    Scans are ranked by the share of right points, those without labelled points never shown.
    """
    judged = [i for i, t in enumerate(tallies) if np.isfinite(t.accuracy)]
    rising = sorted(judged, key=lambda i: tallies[i].accuracy)
    chosen: dict[int, str] = {}
    for verdict, ranked, wanted in (("worst", rising, worst), ("best", rising[::-1], best)):
        free = [i for i in ranked if i not in chosen]
        first = {tallies[i].sequence: i for i in reversed(free)}  # a drive's foremost scan
        ordered = sorted(free, key=lambda i: first[tallies[i].sequence] != i)
        for i in ordered[:wanted]:
            chosen[i] = verdict
    return chosen


def exhibit(
    xyz: NDArray[np.float32],
    labels: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    label_set: LabelSet,
    tally: ScanTally,
    verdict: str,
) -> Exhibit:
    """Pictures of one scan: xyz [N, 3] metres, labels and truth [N] train ids of ``label_set``."""
    errors, wrong = error_colours(labels, truth)
    layers = (
        ("truth", class_colours(truth, label_set), None),
        ("prediction", class_colours(labels, label_set), None),
        ("errors in red", errors, wrong),
    )
    images = tuple(
        (name, data_uri(paint_from_above(xyz, colours, REACH, _SIZE, order)))
        for name, colours, order in layers
    )
    counts = tally.counts
    miou = float(mean_over(iou_per_class(counts), true_points(counts) > 0))
    title = " · ".join(part for part in (tally.sequence, tally.scan) if part)
    return Exhibit(title, verdict, tally.accuracy, miou, images, class_shares(truth, label_set))


def data_uri(image: NDArray[np.uint8]) -> str:
    """A PNG with a palette (uint8 [h, w, 3], few colours) as text for the page."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).quantize(64, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def class_shares(
    truth: NDArray[np.uint8], label_set: LabelSet
) -> tuple[tuple[str, str, float], ...]:
    """Class, CSS colour and share of the labelled points [N], most frequent first."""
    count = np.bincount(truth[truth != UNLABELLED], minlength=len(label_set))
    swatch = class_colours(np.arange(len(label_set), dtype=np.uint8), label_set)
    return tuple(
        (
            label_set.names[i],
            "#{:02x}{:02x}{:02x}".format(*swatch[i]),
            float(count[i] / count.sum()),
        )
        for i in np.argsort(-count, kind="stable")
        if count[i]
    )
