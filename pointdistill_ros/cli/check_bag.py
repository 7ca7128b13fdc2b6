# SPDX-License-Identifier: Apache-2.0
"""pointdistill info --check-bag: whether a bag fits a network, and what to check first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointdistill_ros.checkpoint import CheckpointMeta
    from pointdistill_ros.evaluation.bags.reference import Reference

WITHOUT_INTENSITY = "student-no-intensity"
"""Shipped weights for sensors whose intensity is another than that of the training."""
_WIDTH = 132


def check(
    bag: Path,
    topic: str | None,
    weights: str,
    z_offset: float,
    target_frame: str,
    as_json: bool,
) -> bool:
    """Print what was found; False where something is bad. Raises InputError, CheckpointError.

    ``target_frame``: in which the network sees the clouds; empty leaves them in their own.
    """
    from rich.console import Console

    from pointdistill_ros.checkpoint import find_weights, load_checkpoint
    from pointdistill_ros.evaluation.bags.check import check_bag
    from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
    from pointdistill_ros.evaluation.bags.mounting import open_mounting
    from pointdistill_ros.evaluation.bags.tables import check_table

    index = FrameIndex.of(bag, topic)
    meta = load_checkpoint(find_weights(weights))[1]
    placement = open_mounting(index, target_frame).placement if target_frame else None
    with BagFrames(index) as frames:
        found = check_bag(frames, reference_of(meta), z_offset=z_offset, placement=placement)
    if as_json:
        print(json.dumps({"model": meta.model_id, **found.to_dict()}, indent=2, ensure_ascii=False))
        return found.worst != "bad"
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(check_table(found))
    first = found.findings[0]
    if first.level == "fits":
        console.print(f"[green]{index.topic} fits what {meta.model_id} was trained on[/]")
    else:
        console.print(f"check first: {first.what}: {first.advice}", highlight=False)
    return found.worst != "bad"


def reference_of(meta: CheckpointMeta) -> Reference:
    """What a bag is checked against."""
    from pointdistill_ros.evaluation.bags.reference import Reference
    from pointdistill_ros.resources import shipped_weights

    known = meta.intensity
    return Reference(
        meta.model_id,
        meta.grid_size,
        known.low,
        known.median,
        known.high,
        known.missing is None,
        known.used,
        WITHOUT_INTENSITY if WITHOUT_INTENSITY in shipped_weights() else "",
    )
