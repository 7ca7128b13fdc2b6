# SPDX-License-Identifier: Apache-2.0
"""The recording: fields, missing returns, rate and stamps of its clouds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pointdistill_ros.evaluation.bags.finding import Finding
from pointdistill_ros.evaluation.bags.frames import FrameIndex
from pointdistill_ros.evaluation.bags.scan_facts import ScanFacts


def check_fields(scans: Sequence[ScanFacts]) -> Finding:
    """One layout, or several on one topic."""
    layouts = Counter(scan.fields for scan in scans)
    fields = layouts.most_common(1)[0][0]
    first = scans[0]
    shape = f"{first.height} × {first.width}" if first.height > 1 else f"{first.points:,} points"
    found = (
        f"{', '.join(fields)}; {first.point_step} bytes a point, {shape}, frame {first.frame_id!r}"
    )
    if len(layouts) > 1:
        return Finding(
            "doubtful",
            "fields",
            f"{found}; {len(layouts)} layouts on one topic",
            "two publishers on one topic? Give each a topic of its own",
        )
    return Finding("fits", "fields", found)


def check_returns(scans: Sequence[ScanFacts]) -> Finding:
    """How missing returns are written."""
    points = sum(scan.points for scan in scans)
    if not points:
        return Finding("bad", "points", "all clouds are empty", "is the sensor's driver running?")
    zeros, lost = (sum(getattr(s, n) for s in scans) / points for n in ("zeros", "not_finite"))
    if zeros > 0.005:
        return Finding(
            "doubtful",
            "missing returns",
            f"{zeros:.1%} of the points lie at exactly (0, 0, 0)",
            "set input.zero_is_no_return: true, or they all become one false voxel",
        )
    return Finding("fits", "missing returns", f"{lost:.1%} not finite, none at (0, 0, 0)")


def check_rate(index: FrameIndex) -> Finding:
    """Whether every cloud is there."""
    if len(index) < 3:
        return Finding("fits", "rate", f"{len(index)} clouds, too few to tell a rate")
    steps = np.diff(np.asarray(index.times_ns)) * 1e-9
    period = float(np.median(steps))
    if period <= 0:
        return Finding(
            "doubtful",
            "rate",
            "most clouds have the same recording time",
            "record anew, or give the bag times: order and latency cannot be judged",
        )
    gaps = int((steps > 1.5 * period).sum())
    lost = int(np.round(steps[steps > 1.5 * period] / period - 1).sum())
    found = f"{1 / period:.1f} Hz, {len(index):,} clouds in {steps.sum():.1f} s"
    if gaps:
        return Finding(
            "doubtful",
            "rate",
            f"{found}, {gaps} gaps, about {lost} clouds missing",
            "the recorder lost clouds: record reliable, with a larger cache, or less beside it",
        )
    return Finding("fits", "rate", f"{found}, no gaps")


def check_stamps(delays: Sequence[float]) -> Finding:
    """Whose clock they follow. ``delays``: recording time − stamp, seconds."""
    delay = float(np.median(delays))
    if abs(delay) > 10:
        return Finding(
            "doubtful",
            "stamps",
            f"recorded {delay:,.0f} s after the clouds' stamps",
            "the sensor's clock is not the recorder's: set use_sim_time when replaying, and "
            "synchronise the sensor (PTP) on the vehicle",
        )
    if min(delays) < -0.001:
        return Finding(
            "doubtful",
            "stamps",
            f"up to {-min(delays) * 1e3:.0f} ms in the future",
            "the sensor's clock runs ahead of the recorder's: synchronise them",
        )
    return Finding("fits", "stamps", f"recorded {1e3 * delay:.0f} ms after the clouds' stamps")
