# SPDX-License-Identifier: Apache-2.0
"""Geometry: height and attitude of the sensor, density and view of its clouds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pointdistill_ros.evaluation.bags.finding import Finding
from pointdistill_ros.evaluation.bags.reference import Reference
from pointdistill_ros.evaluation.bags.scan_facts import ScanFacts

HEIGHT_MARGIN = 0.35
"""Metres that the road may be off."""
MAX_TILT = 4.0
"""Degrees."""


def check_height(
    scans: Sequence[ScanFacts], reference: Reference, z_offset: float = 0.0, frame: str = ""
) -> Finding:
    """Whether the road is where the network expects it.

    ``z_offset``: added to z before; ``frame``: in which the network sees the clouds, if not theirs.
    """
    grounds = [scan.ground for scan in scans if scan.ground is not None]
    if 2 * len(grounds) < len(scans):
        return Finding(
            "doubtful",
            "height",
            "no ground around the sensor in most clouds",
            f"perhaps {_axes(frame or scans[0].frame_id)}; indoors and off the road the network "
            "is a stranger",
        )
    height = float(np.median([ground.height for ground in grounds]))
    tilt = float(np.median([ground.tilt for ground in grounds]))
    share = float(np.median([ground.share for ground in grounds]))
    found = f"ground at z = {height:.2f} m, tilted by {tilt:.1f}°, {share:.0%} of the cells around"
    if frame:
        found += f", in {frame}"
    if z_offset:
        found += f", shifted by {z_offset:+.2f} m for the network"
    if tilt > MAX_TILT or share < 0.25:
        return Finding(
            "bad",
            "height",
            found,
            f"{_axes(frame or scans[0].frame_id)}, or the sensor is mounted at an angle: let the "
            "network see the clouds upright, by --target-frame (evaluate-bag), input.target_frame "
            "(node)",
        )
    if abs(height + z_offset - reference.road_height) > HEIGHT_MARGIN:
        offset = f"{reference.road_height - height:.2f}"
        return Finding(
            "bad",
            "height",
            f"{found}; in training the road is at {reference.road_height} m",
            f"set --z-offset {offset} (segment, evaluate-bag), input.z_offset: {offset} (node)",
        )
    return Finding("fits", "height", found)


def check_frame(scans: Sequence[ScanFacts], frame: str, doubt: str) -> Finding:
    """Whether the frame in which the network sees the clouds is one of the vehicle."""
    own = ", ".join(sorted({scan.frame_id for scan in scans}))
    found = f"clouds of {own}" + (f", seen in {frame}" if frame else "")
    if doubt:
        where, _, advice = doubt.partition(": ")
        return Finding("doubtful", "frame", f"{found}; {where}", advice)
    return Finding("fits", "frame", found)


def _axes(frame_id: str) -> str:
    if frame_id.endswith("optical_frame"):
        return f"z points forward in {frame_id!r} (REP-103)"
    return "z does not point up (REP-103)"


def check_density(scans: Sequence[ScanFacts], reference: Reference) -> Finding:
    """Whether there are as many voxels as in the scans of training."""
    points, voxels, rings = (
        int(np.median([getattr(scan, name) for scan in scans]))
        for name in ("points", "voxels", "rings")
    )
    found = f"{points:,} points in {voxels:,} voxels of {reference.grid_size:g} m"
    found += f", {rings} beams" if rings else ""
    finer = (0.15 / reference.grid_size) ** 0.7
    few, many = (count * finer for count in reference.voxels)
    if voxels < few:
        return Finding(
            "doubtful",
            "density",
            f"{found}; in training {few:,.0f} to {many:,.0f}",
            "sparser than any scan of training: expect small things to be missed, look at the "
            "labels by distance",
        )
    if voxels > many:
        return Finding(
            "doubtful",
            "density",
            f"{found}; in training {few:,.0f} to {many:,.0f}",
            "denser than training: slower, and thinning to every second point may label better",
        )
    return Finding("fits", "density", found)


def check_view(scans: Sequence[ScanFacts]) -> Finding:
    """Whether it looks around, in metres."""
    low, high = np.median([scan.elevation for scan in scans], axis=0)
    turn, reach = (
        float(np.median([getattr(scan, name) for scan in scans])) for name in ("azimuth", "reach")
    )
    found = (
        f"{low:.0f}° to {high:.0f}° elevation, {turn:.0%} of the circle, 95 % within {reach:.0f} m"
    )
    if reach < 5:
        return Finding(
            "bad", "view", found, "a depth camera or metres mistaken: x y z must be metres"
        )
    return Finding("fits", "view", found)
