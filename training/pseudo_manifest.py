# SPDX-License-Identifier: Apache-2.0
"""What a folder of pseudo-labels says of itself, for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pointdistill_ros.io.atomic import atomic_path
from training.lineage import MANIFEST


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> None:
    """Both files, each whole or not at all; the keys are those that auto_label.py gives."""
    for file, text in (
        (MANIFEST, json.dumps(manifest, indent=1)),
        ("README.md", "\n".join(_readme(manifest))),
    ):
        with atomic_path(root / file) as temporary:
            temporary.write_text(f"{text}\n")


def _readme(manifest: Mapping[str, Any]) -> Iterator[str]:
    made, classes = manifest["settings"], manifest["classes"]
    named = zip(made["models"], made["weights"], strict=True)
    networks = ", ".join(f"{model} (sha256 {digest[:12]})" for model, digest in named)
    yield "# Labels of a network\n"
    yield f"`{manifest['command']}`\n"
    votes = _votes(made, manifest["motion"])
    yield (
        f"{len(manifest['scans'])} scans, labelled by {networks} over {made['views']} views{votes}"
        f"; package {manifest['version']}. "
        "Not measured against any truth. Train with `min_confidence: 0` (doubtful labels are 255 "
        "already), say so where the weights are described, and never measure on them. Licence: as "
        "the scans and as the data the labelling network was trained on.\n"
    )
    yield "| class | lowest kept confidence | points | kept |"
    yield "|---|---:|---:|---:|"
    for name, row in classes.items():
        share = f"{row['kept'] / row['points']:.0%}" if row["points"] else "–"
        yield f"| {name} | {row['min_confidence']} | {row['points']:,} | {share} |"
    if manifest["motion"]:
        yield "\n| drive | scans with a pose | poses |"
        yield "|---|---:|---|"
    for drive, found in manifest["motion"].items():
        notes = "; ".join([found["source"], *found["notes"]])
        yield f"| {drive} | {found['known']} of {found['scans']} | {notes} |"


def _votes(made: Mapping[str, Any], motion: Mapping[str, Any]) -> str:
    if not made.get("sweeps"):
        return ""
    voted = sum(found["known"] > 1 for found in motion.values())
    return (
        f", then by votes of up to {made['sweeps']} sweeps before and after where poses are known "
        f"({voted} of {len(motion)} drives)"
    )
