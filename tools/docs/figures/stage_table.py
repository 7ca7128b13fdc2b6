# SPDX-License-Identifier: Apache-2.0
"""The numbers of the pyramid's figure as a table in docs/concepts.md."""

from __future__ import annotations

import re
from pathlib import Path

from pointdistill_ros.checkpoint import CheckpointMeta
from pointdistill_ros.io.atomic import atomic_path
from tools.docs.figures.paper import thousands
from tools.docs.figures.pyramid import StageFacts, stages, student_on_street
from tools.docs.table import table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "concepts.md"
HEAD = ("stage", "voxel", "voxels", "patches", "on the way down", "on the way up", "curves")
_PLACE = re.compile(r"(<!-- stages:[^>]*-->\n)(.*?)(\n<!-- end -->)", re.S)


def stage_table() -> str:
    """A row for each stage of the shipped student on the scan of the figure."""
    _, _, pyramid, meta = student_on_street()
    rows = [_row(s, facts, meta) for s, facts in enumerate(stages(pyramid, meta))]
    return table(HEAD, rows)


def table_of(page: str) -> str:
    """The table that a page holds. Raises LookupError where it has no place for one."""
    found = _PLACE.search(page)
    if not found:
        raise LookupError("no place for the table of stages")
    return found[2]


def write_stage_table() -> None:
    """Put the table into the page."""
    text, now = PAGE.read_text(), stage_table()
    with atomic_path(PAGE) as temporary:
        temporary.write_text(text.replace(table_of(text), now))


def _row(s: int, facts: StageFacts, meta: CheckpointMeta) -> tuple[str, ...]:
    config = meta.config
    slots = max(facts.encoder[0], facts.decoder[0] if facts.decoder else 0)
    curves = [config.curves[config.permutation[s][slot]] for slot in range(slots)]
    return (
        str(s),
        f"{facts.cell:g} m",
        thousands(facts.voxels),
        f"{-(-facts.voxels // facts.patch)} of {facts.patch}",
        _way(facts.encoder),
        _way(facts.decoder),
        ", ".join(dict.fromkeys(curves)),
    )


def _way(way: tuple[int, int] | None) -> str:
    if way is None:
        return ""
    return f"{way[0]} {'block' if way[0] == 1 else 'blocks'}, {way[1]} channels"
