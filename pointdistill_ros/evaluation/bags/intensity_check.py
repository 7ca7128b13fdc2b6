# SPDX-License-Identifier: Apache-2.0
"""Intensity: whether it looks as in training, and which scale would bring it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pointdistill_ros.evaluation.bags.finding import Finding
from pointdistill_ros.evaluation.bags.reference import Reference
from pointdistill_ros.evaluation.bags.scan_facts import ScanFacts
from pointdistill_ros.io.columns import INTENSITY_SCALES, scale_intensity


def check_intensity(
    scans: Sequence[ScanFacts],
    scales: Sequence[str],
    fitting: Counter[str],
    reference: Reference,
) -> Finding:
    """``scales``: what ``auto`` guessed; ``fitting``: how often which scale would fit."""
    if not reference.uses_intensity:
        return Finding("fits", "intensity", f"{reference.model_id} does not look at it")
    instead = _instead(reference)
    known = [scan.intensity for scan in scans if scan.intensity is not None]
    raw = [scan.intensity_raw for scan in scans if scan.intensity_raw is not None]
    if not known or not raw:
        if reference.needs_intensity:
            return Finding(
                "bad",
                "intensity",
                "none",
                f"{reference.model_id} needs one: let the driver publish it{instead}",
            )
        return Finding(
            "doubtful",
            "intensity",
            "none",
            "the network is fed a constant and labels worse; name the field in "
            f"input.intensity_field if it has another name{instead}",
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
            f"set input.intensity_scale; {_suggestion(fitting)}{instead}",
        )
    if not reference.intensity_low <= middle <= reference.intensity_high:
        return Finding(
            "bad",
            "intensity",
            found,
            f"set input.intensity_scale: {_suggestion(fitting)}{instead}",
        )
    wide = reference.intensity_high - reference.intensity_low
    if abs(middle - reference.intensity_median) > 0.4 * wide or high - low < 0.1 * wide:
        return Finding(
            "doubtful",
            "intensity",
            found,
            f"inside what training saw, but at its edge: compare input.intensity_scale values; "
            f"{_suggestion(fitting)}{instead}",
        )
    return Finding("fits", "intensity", found)


def _instead(reference: Reference) -> str:
    name = reference.without_intensity
    return f"; or take the weights {name}, which look at none" if name else ""


def _suggestion(fitting: Counter[str]) -> str:
    if not fitting:
        return "no scale brings its median near that of training"
    return f"{fitting.most_common(1)[0][0]} brings its median nearest to that of training"


def fitting_scales(raw: Any, reference: Reference) -> list[str]:
    """The scale whose median is nearest to that of training, where it is inside its range."""
    medians = {
        scale: float(np.median(scale_intensity(raw, scale)))  # type: ignore[arg-type]
        for scale in INTENSITY_SCALES
        if scale not in ("auto", "none")
    }
    best = min(medians, key=lambda scale: abs(medians[scale] - reference.intensity_median))
    inside = reference.intensity_low <= medians[best] <= reference.intensity_high
    return [best] if inside else []


def guessed_scale(raw: Any) -> str:
    """What ``auto`` makes of a cloud."""
    guess = scale_intensity(raw, "auto")
    for scale in ("unit", "div255", "percentile"):
        if np.array_equal(guess, scale_intensity(raw, scale)):
            return str(scale)
    return "auto"
