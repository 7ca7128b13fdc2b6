# SPDX-License-Identifier: Apache-2.0
"""The way of a cloud through the segmentation node: threads, steps, counters, topics."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from pointdistill_ros.nodes.outputs import CLASS_INFO, CLOUDS, STATS, TIMES
from pointdistill_ros.nodes.worker import Counters
from tools.docs.figures.paper import FAINT, INK, ORANGE, TEAL, new_figure, save_svg

STEPS = {
    "decode": "message → scan,\nas the network sees it",
    "geometry": "voxels, curves,\nneighbours, stages",
    "network": "logits → class,\nprobability, entropy",
    "publish": "only topics that\nsomeone listens to",
}
"""Of `outputs.TIMES` in the order of the work → what happens in each."""


def draw_node(path: Path) -> None:
    """Two lanes, one per thread, and the topics at both ends. Raises KeyError on unknown steps."""
    unknown = set(TIMES) - set(STEPS) - {"total", "age"}
    if unknown:
        raise KeyError(f"steps without a box: {sorted(unknown)}")
    figure = new_figure(12.0, 4.1)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 120)
    axes.set_ylim(4, 45)
    axes.axis("off")
    _lane(axes, 17, 29, 36, 15, "executor's thread: never waits for the network")
    _lane(axes, 17, 5, 75, 21, "worker's thread: one cloud at a time")
    _box(axes, 1, 33, 13, 7, "points", "PointCloud2", TEAL)
    _box(axes, 19, 33, 13, 7, "callback", "takes the stamp")
    _box(axes, 37, 33, 14, 7, "mailbox", "one cloud: the newest", ORANGE)
    _arrow(axes, (14, 36.5), (19, 36.5))
    _arrow(axes, (32, 36.5), (37, 36.5))
    left = 19.0
    for step, text in STEPS.items():
        _box(axes, left, 12, 15.5, 9, step, text)
        if left > 19:
            _arrow(axes, (left - 2.6, 16.5), (left, 16.5))
        left += 18.1
    axes.plot([44, 44, 26.7], [33, 27.4, 27.4], color=INK, linewidth=1.3)
    _arrow(axes, (26.7, 27.4), (26.7, 21))
    topics = [*CLOUDS, STATS, CLASS_INFO, "~/debug/…", "/diagnostics"]
    _box(axes, 95, 5, 24, 21, "", "")
    for i, topic in enumerate(topics):
        axes.text(97, 22.9 - 2.75 * i, topic, fontsize=10, color=TEAL, family="monospace")
    _arrow(axes, (88.8, 16.5), (95, 16.5))
    names = [field.name for field in fields(Counters)]
    dropped = ", ".join(names[2:])
    axes.text(56, 38.6, f"{names[0]} = {names[1]} + dropped + in flight", fontsize=11, color=INK)
    axes.text(56, 35.6, f"dropped: {dropped}", fontsize=10, color=FAINT)
    axes.text(
        56, 32.6, "a newer cloud overwrites the waiting one: age never builds up", fontsize=10
    )
    line = "total: from taking the cloud to having published its labels; age: now − stamp then"
    axes.text(19, 7.6, line, fontsize=10, color=FAINT)
    save_svg(figure, path)


def _lane(axes: Any, x: float, y: float, width: float, height: float, title: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, facecolor="#eef2f4", edgecolor="none"))
    axes.text(x + width - 0.8, y + height - 2.2, title, ha="right", fontsize=9.5, color=FAINT)


def _box(
    axes: Any,
    x: float,
    y: float,
    width: float,
    height: float,
    title: str,
    text: str,
    colour: str = INK,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch(
        (x + 0.4, y + 0.4),
        width - 0.8,
        height - 0.8,
        boxstyle="round,pad=0.4",
        facecolor="white",
        edgecolor=colour,
    )
    axes.add_patch(shape)
    centre = x + width / 2
    axes.text(centre, y + height - 2.7, title, ha="center", fontsize=11.5, color=colour)
    axes.text(centre, y + height - 3.9, text, ha="center", va="top", fontsize=8.5, color=INK)


def _arrow(axes: Any, begin: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, begin, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.3})
