# SPDX-License-Identifier: Apache-2.0
"""Does a bag fit a network? What fits, what does not, and what to check first.

Judged are fields, rate, intensity, height and density of a sample of clouds, against what the
network was trained on. Not here: how good the labels are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.finding import BagCheck
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.geometry_check import (
    check_density,
    check_frame,
    check_height,
    check_view,
)
from pointdistill_ros.evaluation.bags.intensity_check import (
    check_intensity,
    fitting_scales,
    guessed_scale,
)
from pointdistill_ros.evaluation.bags.recording_check import (
    check_fields,
    check_rate,
    check_returns,
    check_stamps,
)
from pointdistill_ros.evaluation.bags.reference import Reference
from pointdistill_ros.evaluation.bags.scan_facts import ScanFacts
from pointdistill_ros.evaluation.bags.truth import stamp_of
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.placement import Placement

SAMPLE = 20
"""Clouds that are looked at."""


def check_bag(
    frames: BagFrames,
    reference: Reference,
    keep_going: bool = False,
    z_offset: float = 0.0,
    placement: Placement | None = None,
) -> BagCheck:
    """Look at up to 20 clouds, evenly spread; ``z_offset`` as of the node's input.

    ``placement``: in which frame the network sees them, by default their own.

    Raises InputError where one cannot be read, with ``keep_going`` where none can.
    """
    index = frames.index
    chosen = np.unique(np.linspace(0, len(index) - 1, SAMPLE).round().astype(int)).tolist()
    scans: list[ScanFacts] = []
    scales: list[str] = []
    stamps: list[float] = []
    placement, doubts = placement or Placement(), ""
    fitting = Counter[str]()
    for i in chosen:
        frame = frames.one(i)
        try:
            scan = frame.scan()
            with frame.named():
                seen, doubts = placement(scan)
        except InputError:
            if not keep_going or (i == chosen[-1] and not scans):
                raise
            continue
        facts = ScanFacts.of(frame.cloud, scan, reference.grid_size, seen)
        scans.append(facts)
        stamps.append((frame.message.time_ns - stamp_of(frame.message.cdr)) * 1e-9)
        if facts.intensity_field and len(scan):
            raw = CloudBytes.of(frame.cloud).column(facts.intensity_field)
            if frame.options.intensity_scale == "auto":
                scales.append(guessed_scale(raw))
            fitting.update(fitting_scales(raw, reference))
    findings = [
        check_fields(scans),
        check_returns(scans),
        check_rate(index),
        check_stamps(stamps),
        check_intensity(scans, scales, fitting, reference),
        check_height(scans, reference, z_offset, placement.frame),
        check_frame(scans, placement.frame, doubts),
        check_density(scans, reference),
        check_view(scans),
    ]
    findings.sort(key=lambda finding: ("bad", "doubtful", "fits").index(finding.level))
    return BagCheck(tuple(findings), _summary(index, scans, reference))


def _summary(index: FrameIndex, scans: Sequence[ScanFacts], reference: Reference) -> dict[str, Any]:
    steps = np.diff(np.asarray(index.times_ns)) * 1e-9
    heights = [scan.ground.height for scan in scans if scan.ground is not None]
    ground = float(np.median(heights)) if heights else None
    return {
        "bag": str(index.path),
        "topic": index.topic,
        "clouds": len(index),
        "sampled": len(scans),
        "seconds": round(float(steps.sum()), 3) if len(steps) else 0.0,
        "period": round(float(np.median(steps)), 4) if len(steps) else None,
        "first": asdict(scans[0]),
        "ground_height": None if ground is None else round(ground, 3),
        "fitting_z_offset": None if ground is None else round(reference.road_height - ground, 2),
        "points": int(np.median([scan.points for scan in scans])),
        "voxels": int(np.median([scan.voxels for scan in scans])),
    }
