# SPDX-License-Identifier: Apache-2.0
"""Does a bag fit a network? What fits, what does not, and what to check first.

Judged are fields, rate, intensity, height and density of a sample of clouds, against what the
network was trained on. Not here: how good the labels are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.scan_facts import ScanFacts
from pointdistill_ros.evaluation.bags.truth import stamp_of
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.io.columns import INTENSITY_SCALES, scale_intensity

Level = Literal["bad", "doubtful", "fits"]
SAMPLE = 20
"""Clouds that are looked at."""
ROAD_HEIGHT, HEIGHT_MARGIN = -1.73, 0.35
"""z of the road that networks are trained with, metres (config/datasets/); how far off is fine."""
MAX_TILT = 4.0
"""Degrees."""
VOXELS = 20_000, 60_000
"""Of one scan at 0.15 m from 32 beams on, as in training."""


@dataclass(frozen=True)
class Reference:
    """What a network expects."""

    model_id: str
    grid_size: float
    intensity_low: float
    intensity_median: float
    intensity_high: float
    needs_intensity: bool
    uses_intensity: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    level: Level
    what: str
    found: str
    advice: str = ""
    """What to do; empty where it fits."""


@dataclass(frozen=True)
class BagCheck:
    """Everything that was found, worst first."""

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]
    """Medians of the sample, for programs."""

    @property
    def worst(self) -> Level:
        """The level of the first finding."""
        return self.findings[0].level

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"findings": [asdict(finding) for finding in self.findings], **self.facts}


def check_bag(frames: BagFrames, reference: Reference, keep_going: bool = False) -> BagCheck:
    """Look at up to 20 clouds, evenly spread.

    Raises InputError where one cannot be read, with ``keep_going`` where none can.
    """
    index = frames.index
    chosen = np.unique(np.linspace(0, len(index) - 1, SAMPLE).round().astype(int)).tolist()
    scans: list[ScanFacts] = []
    scales: list[str] = []
    stamps: list[float] = []
    fitting = Counter[str]()
    for i in chosen:
        frame = frames.one(i)
        try:
            scan = frame.scan()
        except InputError:
            if not keep_going or (i == chosen[-1] and not scans):
                raise
            continue
        facts = ScanFacts.of(frame.cloud, scan, reference.grid_size)
        scans.append(facts)
        stamps.append((frame.message.time_ns - stamp_of(frame.message.cdr)) * 1e-9)
        if facts.intensity_field and len(scan):
            raw = CloudBytes.of(frame.cloud).column(facts.intensity_field)
            scales.append(_auto(raw))
            fitting.update(_fitting_scales(raw, reference))
    findings = [
        _cloud(scans),
        *_returns(scans),
        _rate(index),
        *_stamps(stamps),
        _intensity(scans, scales, fitting, reference),
        *_height(scans),
        _density(scans, reference),
        *_view(scans),
    ]
    findings.sort(key=lambda finding: ("bad", "doubtful", "fits").index(finding.level))
    return BagCheck(tuple(findings), _summary(index, scans))


def _cloud(scans: Sequence[ScanFacts]) -> Finding:
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


def _returns(scans: Sequence[ScanFacts]) -> list[Finding]:
    points = sum(scan.points for scan in scans)
    if not points:
        return [Finding("bad", "points", "all clouds are empty", "is the sensor's driver running?")]
    zeros, lost = (sum(getattr(s, n) for s in scans) / points for n in ("zeros", "not_finite"))
    if zeros > 0.005:
        return [
            Finding(
                "doubtful",
                "missing returns",
                f"{zeros:.1%} of the points lie at exactly (0, 0, 0)",
                "set input.zero_is_no_return: true, or they all become one false voxel",
            )
        ]
    return [Finding("fits", "missing returns", f"{lost:.1%} not finite, none at (0, 0, 0)")]


def _rate(index: FrameIndex) -> Finding:
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


def _stamps(delays: Sequence[float]) -> list[Finding]:
    delay = float(np.median(delays))
    if abs(delay) > 10:
        return [
            Finding(
                "doubtful",
                "stamps",
                f"recorded {delay:,.0f} s after the clouds' stamps",
                "the sensor's clock is not the recorder's: set use_sim_time when replaying, and "
                "synchronise the sensor (PTP) on the vehicle",
            )
        ]
    if min(delays) < -0.001:
        return [
            Finding(
                "doubtful",
                "stamps",
                f"up to {-min(delays) * 1e3:.0f} ms in the future",
                "the sensor's clock runs ahead of the recorder's: synchronise them",
            )
        ]
    return [Finding("fits", "stamps", f"recorded {1e3 * delay:.0f} ms after the clouds' stamps")]


def _intensity(
    scans: Sequence[ScanFacts],
    scales: Sequence[str],
    fitting: Counter[str],
    reference: Reference,
) -> Finding:
    if not reference.uses_intensity:
        return Finding("fits", "intensity", f"{reference.model_id} does not look at it")
    known = [scan.intensity for scan in scans if scan.intensity is not None]
    raw = [scan.intensity_raw for scan in scans if scan.intensity_raw is not None]
    if not known or not raw:
        if reference.needs_intensity:
            return Finding(
                "bad",
                "intensity",
                "none",
                f"{reference.model_id} needs one: let the driver publish it, or take weights that "
                "do without",
            )
        return Finding(
            "doubtful",
            "intensity",
            "none",
            "the network is fed a constant and labels worse; name the field in "
            "input.intensity_field if it has another name",
        )
    low, middle, high = (float(v) for v in np.median(known, axis=0))
    smallest, largest = min(r[0] for r in raw), max(r[2] for r in raw)
    field = next(scan.intensity_field for scan in scans if scan.intensity_field)
    found = (
        f"{field}, {smallest:g} to {largest:g} as sent; scaled 5 % {low:.2f}, median "
        f"{middle:.2f}, 95 % {high:.2f}, in training {reference.intensity_low:.2f}, "
        f"{reference.intensity_median:.2f}, {reference.intensity_high:.2f}"
    )
    if len(set(scales)) > 1:
        return Finding(
            "bad",
            "intensity",
            f"{found}; its scale is guessed differently from cloud to cloud "
            f"({', '.join(sorted(set(scales)))})",
            f"set input.intensity_scale; {_suggestion(fitting)}",
        )
    if not reference.intensity_low <= middle <= reference.intensity_high:
        return Finding(
            "bad",
            "intensity",
            found,
            f"set input.intensity_scale: {_suggestion(fitting)}",
        )
    wide = reference.intensity_high - reference.intensity_low
    if abs(middle - reference.intensity_median) > 0.4 * wide or high - low < 0.1 * wide:
        return Finding(
            "doubtful",
            "intensity",
            found,
            f"inside what training saw, but at its edge: compare input.intensity_scale values; "
            f"{_suggestion(fitting)}",
        )
    return Finding("fits", "intensity", found)


def _suggestion(fitting: Counter[str]) -> str:
    if not fitting:
        return "no scale brings its median near that of training"
    return f"{fitting.most_common(1)[0][0]} brings its median nearest to that of training"


def _fitting_scales(raw: Any, reference: Reference) -> list[str]:
    """The scale whose median is nearest to that of training, where it is inside its range."""
    medians = {
        scale: float(np.median(scale_intensity(raw, scale)))  # type: ignore[arg-type]
        for scale in INTENSITY_SCALES
        if scale not in ("auto", "none")
    }
    best = min(medians, key=lambda scale: abs(medians[scale] - reference.intensity_median))
    inside = reference.intensity_low <= medians[best] <= reference.intensity_high
    return [best] if inside else []


def _auto(raw: Any) -> str:
    """What ``auto`` makes of a cloud."""
    guess = scale_intensity(raw, "auto")
    for scale in ("unit", "div255", "percentile"):
        if np.array_equal(guess, scale_intensity(raw, scale)):
            return str(scale)
    return "auto"


def _height(scans: Sequence[ScanFacts]) -> list[Finding]:
    grounds = [scan.ground for scan in scans if scan.ground is not None]
    if 2 * len(grounds) < len(scans):
        return [
            Finding(
                "doubtful",
                "height",
                "no ground around the sensor in most clouds",
                f"perhaps {_axes(scans[0].frame_id)}; indoors and off the road the network is a "
                "stranger",
            )
        ]
    height = float(np.median([ground.height for ground in grounds]))
    tilt = float(np.median([ground.tilt for ground in grounds]))
    share = float(np.median([ground.share for ground in grounds]))
    found = f"ground at z = {height:.2f} m, tilted by {tilt:.1f}°, {share:.0%} of the cells around"
    if tilt > MAX_TILT or share < 0.25:
        return [
            Finding(
                "bad",
                "height",
                found,
                f"{_axes(scans[0].frame_id)}, or the sensor is mounted at an angle: turn the "
                "clouds upright (target_frame) before the network",
            )
        ]
    if abs(height - ROAD_HEIGHT) > HEIGHT_MARGIN:
        return [
            Finding(
                "bad",
                "height",
                f"{found}; in training the road is at {ROAD_HEIGHT} m",
                f"shift z by {ROAD_HEIGHT - height:+.2f} m before the network (z_offset, or "
                "target_frame with a frame at that height)",
            )
        ]
    return [Finding("fits", "height", found)]


def _axes(frame_id: str) -> str:
    if frame_id.endswith("optical_frame"):
        return f"z points forward in {frame_id!r} (REP-103)"
    return "z does not point up (REP-103)"


def _density(scans: Sequence[ScanFacts], reference: Reference) -> Finding:
    points, voxels, rings = (
        int(np.median([getattr(scan, name) for scan in scans]))
        for name in ("points", "voxels", "rings")
    )
    found = f"{points:,} points in {voxels:,} voxels of {reference.grid_size:g} m"
    found += f", {rings} beams" if rings else ""
    finer = (0.15 / reference.grid_size) ** 0.7
    few, many = VOXELS[0] * finer, VOXELS[1] * finer
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


def _view(scans: Sequence[ScanFacts]) -> list[Finding]:
    low, high = np.median([scan.elevation for scan in scans], axis=0)
    turn, reach = (
        float(np.median([getattr(scan, name) for scan in scans])) for name in ("azimuth", "reach")
    )
    found = (
        f"{low:.0f}° to {high:.0f}° elevation, {turn:.0%} of the circle, 95 % within {reach:.0f} m"
    )
    if reach < 5:
        return [
            Finding("bad", "view", found, "a depth camera or metres mistaken: x y z must be metres")
        ]
    return [Finding("fits", "view", found)]


def _summary(index: FrameIndex, scans: Sequence[ScanFacts]) -> dict[str, Any]:
    steps = np.diff(np.asarray(index.times_ns)) * 1e-9
    ground = [scan.ground for scan in scans if scan.ground is not None]
    return {
        "bag": str(index.path),
        "topic": index.topic,
        "clouds": len(index),
        "sampled": len(scans),
        "seconds": round(float(steps.sum()), 3) if len(steps) else 0.0,
        "period": round(float(np.median(steps)), 4) if len(steps) else None,
        "first": asdict(scans[0]),
        "ground_height": round(float(np.median([g.height for g in ground])), 3) if ground else None,
        "points": int(np.median([scan.points for scan in scans])),
        "voxels": int(np.median([scan.voxels for scan in scans])),
    }
